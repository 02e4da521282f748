# One interface target carries every flag; nothing else in the build sets one.
option(LAB_WERROR "Treat warnings as errors" OFF)
option(LAB_BENCH "Build the bare loops of bench/" ON)
set(LAB_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize= (address,undefined or thread)")

add_library(lab_flags INTERFACE)
target_compile_features(lab_flags INTERFACE c_std_17)
target_compile_definitions(lab_flags INTERFACE _GNU_SOURCE)
target_include_directories(lab_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
# A worker must not load what it does not use.
target_link_options(lab_flags INTERFACE -Wl,--as-needed)
target_compile_options(lab_flags INTERFACE
  -fno-omit-frame-pointer -fno-math-errno -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough
  -Wnull-dereference -Wdouble-promotion)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(lab_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wduplicated-branches -Wjump-misses-init)
endif()
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  # It looks into the macros of protobuf-c, which cast their empty string; everything else gcc sees as well.
  target_compile_options(lab_flags INTERFACE -Wno-cast-qual)
endif()
if(LAB_WERROR)
  target_compile_options(lab_flags INTERFACE -Werror)
endif()
if(LAB_SANITIZE)
  target_compile_options(lab_flags INTERFACE -fsanitize=${LAB_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(lab_flags INTERFACE -fsanitize=${LAB_SANITIZE})
  if(LAB_SANITIZE MATCHES thread)
    # ThreadSanitizer does not model stand-alone fences; the one in the futex wait is paired with atomics it does model.
    target_compile_options(lab_flags INTERFACE $<$<C_COMPILER_ID:GNU>:-Wno-tsan>)
  endif()
endif()
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET default)
