# lab_protobuf(NAME file.proto...): protoc-c at build time; the generated C stays in the build tree.
find_program(PROTOC_C protoc-c REQUIRED)
function(lab_protobuf name)
  set(sources "")
  foreach(proto IN LISTS ARGN)
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    add_custom_command(
      OUTPUT ${PROJECT_BINARY_DIR}/generated/${stem}.pb-c.c ${PROJECT_BINARY_DIR}/generated/${stem}.pb-c.h
      COMMAND ${PROTOC_C} --proto_path=${PROJECT_SOURCE_DIR} --c_out=${PROJECT_BINARY_DIR}/generated ${PROJECT_SOURCE_DIR}/${proto}
      DEPENDS ${PROJECT_SOURCE_DIR}/${proto}
      COMMENT "protoc-c ${proto}")
    list(APPEND sources ${PROJECT_BINARY_DIR}/generated/${stem}.pb-c.c ${PROJECT_BINARY_DIR}/generated/${stem}.pb-c.h)
  endforeach()
  add_library(lab_${name} STATIC ${sources})
  target_include_directories(lab_${name} SYSTEM PUBLIC ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(lab_${name} PUBLIC PkgConfig::PROTOBUF_C)
endfunction()
