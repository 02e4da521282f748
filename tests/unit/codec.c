/* The guarded codec against what protobuf-c alone would believe, and its frames over a real socket. */
#include "base/clock.h"
#include "proto/codec.h"
#include "proto/control.pb-c.h"
#include "proto/data.pb-c.h"

#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- a message with a bit of everything: nested, repeated, packed, text, bytes ---- */

static unsigned char blob[] = {0, 1, 2, 0xff};

struct sample {
    Lab__Frame frame;
    Lab__Done done;
    Lab__Outcome outcome, *outcomes[1];
    Lab__EdgeOutcome edge[3], *edges[3];
    Lab__Usage usage;
};

static Lab__Frame *sample_init(struct sample *s)
{
    *s = (struct sample){.frame = LAB__FRAME__INIT, .done = LAB__DONE__INIT, .outcome = LAB__OUTCOME__INIT, .usage = LAB__USAGE__INIT};
    s->frame.protocol = 7;
    s->frame.launch = 300;
    s->frame.body_case = LAB__FRAME__BODY_DONE;
    s->frame.done = &s->done;
    s->outcomes[0] = &s->outcome;
    s->done.outcomes = s->outcomes;
    s->done.n_outcomes = 1;
    s->outcome.edges = s->edges;
    s->outcome.n_edges = 3;
    s->outcome.usage = &s->usage;
    s->outcome.cpu_begin = -1;
    s->usage.wall_ns = UINT64_MAX;
    for (uint32_t i = 0; i < 3; i++) {
        s->edge[i] = (Lab__EdgeOutcome)LAB__EDGE_OUTCOME__INIT;
        s->edge[i].edge = i;
        s->edge[i].latency.data = blob;
        s->edge[i].latency.len = sizeof blob;
        s->edge[i].handoff_ns = 55.5;
        s->edges[i] = &s->edge[i];
    }
    return &s->frame;
}

static Lab__Frame *hello_init(Lab__Frame *frame, Lab__Hello *hello, Lab__Host *host, char *name)
{
    *frame = (Lab__Frame)LAB__FRAME__INIT;
    *hello = (Lab__Hello)LAB__HELLO__INIT;
    *host = (Lab__Host)LAB__HOST__INIT;
    frame->body_case = LAB__FRAME__BODY_HELLO;
    frame->hello = hello;
    hello->host = host;
    host->name = name;
    return frame;
}

static void a_message_comes_back_as_it_was(void **state)
{
    (void)state;
    struct sample s;
    void *bytes, *again;
    size_t size, again_size;
    Lab__Frame *frame;
    lab_assert_ok(lab_codec_pack(sample_init(&s), &bytes, &size));
    lab_assert_ok(lab_codec_unpack(&lab__frame__descriptor, bytes, size, &frame));
    assert_int_equal(frame->launch, 300);
    assert_int_equal(frame->body_case, LAB__FRAME__BODY_DONE);
    const Lab__Outcome *outcome = frame->done->outcomes[0];
    assert_int_equal(outcome->cpu_begin, -1);
    assert_true(outcome->usage->wall_ns == UINT64_MAX);
    assert_int_equal(outcome->n_edges, 3);
    assert_int_equal(outcome->edges[2]->edge, 2);
    assert_memory_equal(outcome->edges[2]->latency.data, blob, sizeof blob);
    assert_true(outcome->edges[0]->handoff_ns == 55.5);
    lab_assert_ok(lab_codec_pack(frame, &again, &again_size));
    assert_int_equal(again_size, size);
    assert_memory_equal(again, bytes, size);
    free(bytes);
    free(again);
    lab_codec_free(frame);
    lab_codec_free(NULL);
}

static void an_empty_message_is_a_message(void **state)
{
    (void)state;
    Lab__Frame empty = LAB__FRAME__INIT, *frame;
    void *bytes;
    size_t size = 1;
    lab_assert_ok(lab_codec_pack(&empty, &bytes, &size));
    assert_int_equal(size, 0);
    lab_assert_ok(lab_codec_unpack(&lab__frame__descriptor, bytes, size, &frame));
    assert_int_equal(frame->body_case, LAB__FRAME__BODY__NOT_SET);
    lab_codec_free(frame);
    free(bytes);
}

/* ---- what must not get in ---- */

#define assert_refused(type, code, ...)                                                     \
    do {                                                                                    \
        static const unsigned char wire_[] = {__VA_ARGS__};                                 \
        void *message = blob;                                                               \
        lab_assert_fails(lab_codec_unpack(&type, wire_, sizeof wire_, &message), code);     \
        assert_ptr_equal(message, blob);                                                    \
    } while (0)

static void damaged_wire_is_refused_and_the_output_left_alone(void **state)
{
    (void)state;
    assert_refused(lab__frame__descriptor, EBADMSG, 0x08);                                  /* a tag without its value */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x80);                                  /* half a tag */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x00, 0x01);                            /* field 0 */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x1a, 0x05, 0x0a);                      /* longer than the message */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x1a, 0x02, 0x0a, 0x05, 0, 0, 0, 0, 0); /* longer than its parent */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x0d, 1, 2, 3);                         /* three bytes of a fixed32 */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x09, 1, 2, 3, 4, 5, 6, 7);             /* seven of a fixed64 */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x13, 0x14);                            /* a group */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x0e, 0x00);                            /* kinds 6 and 7 do not exist */
    assert_refused(lab__frame__descriptor, EBADMSG, 0x0f, 0x00);
}

static void a_number_of_more_than_64_bits_is_refused(void **state)
{
    (void)state;
    assert_refused(lab__frame__descriptor, EBADMSG, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02);
    assert_refused(lab__frame__descriptor, EBADMSG, 0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00);
    assert_refused(lab__frame__descriptor, EBADMSG, 0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01); /* a length of 2^64-1 */
    static const unsigned char most[] = {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    Lab__Usage *usage;
    lab_assert_ok(lab_codec_unpack(&lab__usage__descriptor, most, sizeof most, &usage));
    assert_true(usage->wall_ns == UINT64_MAX);
    lab_codec_free(usage);
}

static void a_message_beyond_the_cap_is_refused_unread(void **state)
{
    (void)state;
    Lab__Frame *frame = NULL;
    lab_assert_fails(lab_codec_unpack(&lab__frame__descriptor, NULL, (size_t)LAB_CODEC_BYTES_MAX + 1, &frame), EMSGSIZE);
    assert_null(frame);
}

/* A type that holds itself, as no schema of ours does: the only way to nest without end. */
struct nest {
    ProtobufCMessage base;
    struct nest *inner;
};
extern const ProtobufCMessageDescriptor nest_descriptor;
static void nest_init(void *message)
{
    *(struct nest *)message = (struct nest){.base = PROTOBUF_C_MESSAGE_INIT(&nest_descriptor)};
}
static const ProtobufCFieldDescriptor nest_fields[] = {{
    .name = "inner", .id = 1, .label = PROTOBUF_C_LABEL_NONE, .type = PROTOBUF_C_TYPE_MESSAGE,
    .offset = offsetof(struct nest, inner), .descriptor = &nest_descriptor,
}};
static const unsigned nest_by_name[] = {0};
static const ProtobufCIntRange nest_ranges[] = {{1, 0}, {0, 1}};
const ProtobufCMessageDescriptor nest_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC, .name = "Nest", .short_name = "Nest", .c_name = "Nest", .package_name = "",
    .sizeof_message = sizeof(struct nest), .n_fields = 1, .fields = nest_fields, .fields_sorted_by_name = nest_by_name,
    .n_field_ranges = 1, .field_ranges = nest_ranges, .message_init = (ProtobufCMessageInit)nest_init,
};

/* `levels` messages, each inside the one before, written from the innermost outwards; returns where they begin. */
static const unsigned char *nested(unsigned levels, unsigned char *room, size_t room_size, size_t *ret_size)
{
    size_t at = room_size;
    for (unsigned i = 1; i < levels; i++) {
        uint64_t inner = room_size - at;
        unsigned char length[10];
        unsigned n = 0;
        do
            length[n++] = (unsigned char)((inner & 0x7f) | (inner > 0x7f ? 0x80 : 0));
        while (inner >>= 7);
        at -= n;
        memcpy(room + at, length, n);
        room[--at] = 0x0a;
    }
    *ret_size = room_size - at;
    return room + at;
}

static void messages_nested_deeper_than_the_limit_are_refused(void **state)
{
    (void)state;
    size_t room_size = 1 << 20, size;
    unsigned char *room = malloc(room_size);
    struct nest *nest = NULL;
    const unsigned char *wire = nested(LAB_CODEC_DEPTH, room, room_size, &size);
    lab_assert_ok(lab_codec_unpack(&nest_descriptor, wire, size, &nest));
    unsigned depth = 0;
    for (const struct nest *n = nest; n; n = n->inner)
        depth++;
    assert_int_equal(depth, LAB_CODEC_DEPTH);
    lab_codec_free(nest);
    wire = nested(LAB_CODEC_DEPTH + 1, room, room_size, &size);
    lab_assert_fails(lab_codec_unpack(&nest_descriptor, wire, size, &nest), EBADMSG);
    /* protobuf-c alone would use up the stack on this one. */
    wire = nested(200000, room, room_size, &size);
    lab_assert_fails(lab_codec_unpack(&nest_descriptor, wire, size, &nest), EBADMSG);
    assert_non_null(strstr(lab_error_last()->text, "nested too deeply"));
    free(room);
}

static void a_small_message_cannot_ask_for_much_memory(void **state)
{
    (void)state;
    /* A Hello whose host occurs over and over, with one cpu each: every one is merged with all before it, by copying. */
    enum { TIMES = 200000 };
    static const unsigned char again[] = {0x1a, 0x03, 0x42, 0x01, 0x00};
    unsigned char *wire = malloc(TIMES * sizeof again);
    for (size_t i = 0; i < TIMES; i++)
        memcpy(wire + i * sizeof again, again, sizeof again);
    Lab__Hello *hello = NULL;
    lab_assert_fails(lab_codec_unpack(&lab__hello__descriptor, wire, TIMES * sizeof again, &hello), EBADMSG);
    assert_non_null(strstr(lab_error_last()->text, "memory"));
    free(wire);
}

static void more_fields_than_the_limit_are_refused(void **state)
{
    (void)state;
    size_t size = 2 * ((size_t)LAB_CODEC_FIELDS + 1);
    unsigned char *wire = malloc(size);
    for (size_t i = 0; i < size; i += 2) {
        wire[i] = 0x08;
        wire[i + 1] = 0x01;
    }
    Lab__Frame *frame = NULL;
    lab_assert_fails(lab_codec_unpack(&lab__frame__descriptor, wire, size, &frame), EBADMSG);
    assert_non_null(strstr(lab_error_last()->text, "too many fields"));
    lab_assert_ok(lab_codec_unpack(&lab__frame__descriptor, wire, size - 2, &frame));
    lab_codec_free(frame);
    free(wire);
}

static void fields_of_a_later_version_are_carried_along(void **state)
{
    (void)state;
    static const unsigned char wire[] = {0x08, 0x07, 0xfa, 0x3f, 0x02, 'h', 'i', 0x10, 0x09};
    Lab__Frame *frame;
    void *bytes;
    size_t size;
    lab_assert_ok(lab_codec_unpack(&lab__frame__descriptor, wire, sizeof wire, &frame));
    assert_int_equal(frame->protocol, 7);
    assert_int_equal(frame->launch, 9);
    lab_assert_ok(lab_codec_pack(frame, &bytes, &size));
    assert_int_equal(size, sizeof wire);
    free(bytes);
    lab_codec_free(frame);
}

/* ---- what a plan may need must get in ---- */

static void the_largest_plan_fits_the_budget(void **state)
{
    (void)state;
    enum { PARTIES = 20000 };
    Lab__Assign assign = LAB__ASSIGN__INIT, *back;
    Lab__Place place = LAB__PLACE__INIT, **places = calloc(PARTIES, sizeof *places); /* all zero: two bytes each on the wire */
    Lab__Edge edge = LAB__EDGE__INIT, **edges = calloc(PARTIES, sizeof *edges);
    for (size_t i = 0; i < PARTIES; i++) {
        places[i] = &place;
        edges[i] = &edge;
    }
    assign.places = places;
    assign.edges = edges;
    assign.n_places = assign.n_edges = PARTIES;
    void *bytes;
    size_t size;
    lab_assert_ok(lab_codec_pack(&assign, &bytes, &size));
    lab_assert_ok(lab_codec_unpack(&lab__assign__descriptor, bytes, size, &back));
    assert_int_equal(back->n_places, PARTIES);
    lab_codec_free(back);
    free(bytes);
    free(places);
    free(edges);
}

static void packed_numbers_of_one_byte_fit_the_budget(void **state)
{
    (void)state;
    enum { CPUS = 1 << 20 };
    Lab__Host host = LAB__HOST__INIT, *back;
    host.cpus = calloc(CPUS, sizeof *host.cpus);
    host.n_cpus = CPUS;
    void *bytes;
    size_t size;
    lab_assert_ok(lab_codec_pack(&host, &bytes, &size));
    lab_assert_ok(lab_codec_unpack(&lab__host__descriptor, bytes, size, &back));
    assert_int_equal(back->n_cpus, CPUS);
    lab_codec_free(back);
    free(bytes);
    free(host.cpus);
}

static void a_message_of_the_largest_size_passes_and_one_byte_more_does_not(void **state)
{
    (void)state;
    Lab__EdgeOutcome edge = LAB__EDGE_OUTCOME__INIT, *back;
    edge.latency.len = LAB_CODEC_BYTES_MAX - 5; /* after its tag and a length of four bytes */
    edge.latency.data = calloc(1, edge.latency.len + 1);
    void *bytes;
    size_t size;
    lab_assert_ok(lab_codec_pack(&edge, &bytes, &size));
    assert_int_equal(size, LAB_CODEC_BYTES_MAX);
    lab_assert_ok(lab_codec_unpack(&lab__edge_outcome__descriptor, bytes, size, &back));
    assert_int_equal(back->latency.len, edge.latency.len);
    lab_codec_free(back);
    free(bytes);
    edge.latency.len++;
    lab_assert_fails(lab_codec_pack(&edge, &bytes, &size), EMSGSIZE);
    free(edge.latency.data);
}

/* ---- text ---- */

static const char *const good_text[] = {"", "plain", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
static const char *const bad_text[] = {
    "\x80", "\xc0\xaf", "\xc1\xbf", "\xc2", "\xc2\x20", "\xe0\x9f\xbf", "\xe2\x82", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
};

static void only_utf8_leaves(void **state)
{
    (void)state;
    Lab__Frame frame;
    Lab__Hello hello;
    Lab__Host host;
    void *bytes;
    size_t size;
    for (size_t i = 0; i < sizeof good_text / sizeof *good_text; i++) {
        lab_assert_ok(lab_codec_pack(hello_init(&frame, &hello, &host, (char *)(uintptr_t)good_text[i]), &bytes, &size));
        free(bytes);
    }
    for (size_t i = 0; i < sizeof bad_text / sizeof *bad_text; i++) {
        bytes = blob;
        lab_assert_fails(lab_codec_pack(hello_init(&frame, &hello, &host, (char *)(uintptr_t)bad_text[i]), &bytes, &size), EINVAL);
        assert_ptr_equal(bytes, blob);
        assert_non_null(strstr(lab_error_last()->text, "lab.Host.name"));
    }
}

static void only_utf8_without_nul_comes_in(void **state)
{
    (void)state;
    unsigned char wire[2 + 8] = {0x0a};
    Lab__Host *host;
    for (size_t i = 0; i < sizeof good_text / sizeof *good_text; i++) {
        wire[1] = (unsigned char)strlen(good_text[i]);
        memcpy(wire + 2, good_text[i], wire[1]);
        lab_assert_ok(lab_codec_unpack(&lab__host__descriptor, wire, 2u + wire[1], &host));
        assert_string_equal(host->name, good_text[i]);
        lab_codec_free(host);
    }
    for (size_t i = 0; i < sizeof bad_text / sizeof *bad_text; i++) {
        wire[1] = (unsigned char)strlen(bad_text[i]);
        memcpy(wire + 2, bad_text[i], wire[1]);
        lab_assert_fails(lab_codec_unpack(&lab__host__descriptor, wire, 2u + wire[1], &host), EBADMSG);
    }
    assert_refused(lab__host__descriptor, EBADMSG, 0x0a, 0x03, 'a', 0, 'b');
}

static void a_message_with_a_hole_does_not_leave(void **state)
{
    (void)state;
    struct sample s;
    void *bytes;
    size_t size;
    sample_init(&s);
    s.edges[1] = NULL;
    lab_assert_fails(lab_codec_pack(&s.frame, &bytes, &size), EINVAL);
    sample_init(&s);
    s.edge[1].latency.data = NULL;
    lab_assert_fails(lab_codec_pack(&s.frame, &bytes, &size), EINVAL);
    sample_init(&s);
    s.outcome.edges = NULL;
    lab_assert_fails(lab_codec_pack(&s.frame, &bytes, &size), EINVAL);
    s.frame = (Lab__Frame){.base.descriptor = NULL};
    lab_assert_fails(lab_codec_pack(&s.frame, &bytes, &size), EINVAL);
}

/* ---- whatever arrives ---- */

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

/* What is unpacked can be packed again; nothing else is promised of bytes from nowhere, and the sanitizers watch. */
static void no_damage_to_a_message_is_believed_beyond_its_bounds(void **state)
{
    (void)state;
    struct sample s;
    void *bytes, *again;
    size_t size, again_size;
    uint64_t seed = 88172645463325252u;
    unsigned accepted = 0, refused = 0;
    lab_assert_ok(lab_codec_pack(sample_init(&s), &bytes, &size));
    unsigned char *damaged = malloc(size);
    for (unsigned round = 0; round < 20000; round++) {
        memcpy(damaged, bytes, size);
        size_t length = round % 4 ? size : random_next(&seed) % size;
        for (unsigned flips = 1 + round % 5; length && flips; flips--)
            damaged[random_next(&seed) % length] = (unsigned char)random_next(&seed);
        Lab__Frame *frame = NULL;
        int err = lab_codec_unpack(&lab__frame__descriptor, damaged, length, &frame);
        if (err) {
            assert_int_equal(err, -EBADMSG);
            refused++;
            continue;
        }
        accepted++;
        lab_assert_ok(lab_codec_pack(frame, &again, &again_size));
        free(again);
        lab_codec_free(frame);
    }
    assert_true(accepted > 0 && refused > 0);
    free(damaged);
    free(bytes);
}

/* ---- on a socket ---- */

static uint64_t soon(void)
{
    return lab_now_ns() + 10 * LAB_NS_PER_S;
}

static void a_pair(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
}

static void frames_keep_their_bounds_on_a_stream(void **state)
{
    (void)state;
    int fd[2];
    struct sample s;
    Lab__Frame *frame, empty = LAB__FRAME__INIT;
    a_pair(fd);
    lab_assert_ok(lab_codec_send(fd[0], sample_init(&s), soon()));
    lab_assert_ok(lab_codec_send(fd[0], &empty, soon()));
    lab_assert_ok(lab_codec_send(fd[0], &s.frame, soon()));
    close(fd[0]);
    static const Lab__Frame__BodyCase expected[] = {LAB__FRAME__BODY_DONE, LAB__FRAME__BODY__NOT_SET, LAB__FRAME__BODY_DONE};
    for (size_t i = 0; i < 3; i++) {
        lab_assert_ok(lab_codec_receive(fd[1], &lab__frame__descriptor, soon(), &frame));
        assert_int_equal(frame->body_case, expected[i]);
        lab_codec_free(frame);
    }
    lab_assert_fails(lab_codec_receive(fd[1], &lab__frame__descriptor, soon(), &frame), EPIPE);
    close(fd[1]);
}

static void silence_ends_at_the_deadline(void **state)
{
    (void)state;
    int fd[2];
    Lab__Frame *frame;
    a_pair(fd);
    lab_assert_fails(lab_codec_receive(fd[1], &lab__frame__descriptor, 0, &frame), ETIMEDOUT);
    lab_assert_fails(lab_codec_receive(fd[1], &lab__frame__descriptor, lab_now_ns() + LAB_NS_PER_MS, &frame), ETIMEDOUT);
    close(fd[0]);
    close(fd[1]);
}

static void an_end_within_a_message_is_told_from_one_between_messages(void **state)
{
    (void)state;
    static const unsigned char begun[] = {5, 0, 0, 0, 0x08};
    for (size_t sent = 1; sent <= sizeof begun; sent++) {
        int fd[2];
        Lab__Frame *frame;
        a_pair(fd);
        assert_int_equal(write(fd[0], begun, sent), sent);
        close(fd[0]);
        lab_assert_fails(lab_codec_receive(fd[1], &lab__frame__descriptor, soon(), &frame), EBADMSG);
        close(fd[1]);
    }
}

static void a_length_beyond_the_cap_is_refused_before_it_is_believed(void **state)
{
    (void)state;
    int fd[2];
    Lab__Frame *frame;
    a_pair(fd);
    assert_int_equal(write(fd[0], "\xff\xff\xff\xff", 4), 4);
    lab_assert_fails(lab_codec_receive(fd[1], &lab__frame__descriptor, soon(), &frame), EMSGSIZE);
    close(fd[0]);
    close(fd[1]);
}

static void sending_to_nobody_fails_without_a_signal(void **state)
{
    (void)state;
    int fd[2];
    struct sample s;
    a_pair(fd);
    close(fd[1]);
    lab_assert_fails(lab_codec_send(fd[0], sample_init(&s), soon()), EPIPE);
    close(fd[0]);
}

static void *receive_one(void *argument)
{
    Lab__EdgeOutcome *edge = NULL;
    return lab_codec_receive(*(int *)argument, &lab__edge_outcome__descriptor, soon(), &edge) ? NULL : edge;
}

static void a_message_larger_than_the_socket_arrives_in_pieces(void **state)
{
    (void)state;
    int fd[2];
    pthread_t receiver;
    void *received;
    Lab__EdgeOutcome edge = LAB__EDGE_OUTCOME__INIT;
    edge.latency.len = 8 << 20;
    edge.latency.data = malloc(edge.latency.len);
    for (size_t i = 0; i < edge.latency.len; i++)
        edge.latency.data[i] = (unsigned char)(i * 31);
    a_pair(fd);
    assert_int_equal(pthread_create(&receiver, NULL, receive_one, &fd[1]), 0);
    lab_assert_ok(lab_codec_send(fd[0], &edge, soon()));
    pthread_join(receiver, &received);
    assert_non_null(received);
    const Lab__EdgeOutcome *got = received;
    assert_int_equal(got->latency.len, edge.latency.len);
    assert_memory_equal(got->latency.data, edge.latency.data, edge.latency.len);
    lab_codec_free(received);
    /* Nobody reads: the deadline ends it. */
    lab_assert_fails(lab_codec_send(fd[0], &edge, lab_now_ns() + 5 * LAB_NS_PER_MS), ETIMEDOUT);
    free(edge.latency.data);
    close(fd[0]);
    close(fd[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_back_as_it_was),
        cmocka_unit_test(an_empty_message_is_a_message),
        cmocka_unit_test(damaged_wire_is_refused_and_the_output_left_alone),
        cmocka_unit_test(a_number_of_more_than_64_bits_is_refused),
        cmocka_unit_test(a_message_beyond_the_cap_is_refused_unread),
        cmocka_unit_test(messages_nested_deeper_than_the_limit_are_refused),
        cmocka_unit_test(a_small_message_cannot_ask_for_much_memory),
        cmocka_unit_test(more_fields_than_the_limit_are_refused),
        cmocka_unit_test(fields_of_a_later_version_are_carried_along),
        cmocka_unit_test(the_largest_plan_fits_the_budget),
        cmocka_unit_test(packed_numbers_of_one_byte_fit_the_budget),
        cmocka_unit_test(a_message_of_the_largest_size_passes_and_one_byte_more_does_not),
        cmocka_unit_test(only_utf8_leaves),
        cmocka_unit_test(only_utf8_without_nul_comes_in),
        cmocka_unit_test(a_message_with_a_hole_does_not_leave),
        cmocka_unit_test(no_damage_to_a_message_is_believed_beyond_its_bounds),
        cmocka_unit_test(frames_keep_their_bounds_on_a_stream),
        cmocka_unit_test(silence_ends_at_the_deadline),
        cmocka_unit_test(an_end_within_a_message_is_told_from_one_between_messages),
        cmocka_unit_test(a_length_beyond_the_cap_is_refused_before_it_is_believed),
        cmocka_unit_test(sending_to_nobody_fails_without_a_signal),
        cmocka_unit_test(a_message_larger_than_the_socket_arrives_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
