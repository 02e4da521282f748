#include "proto/codec.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "proto/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- the walk over the wire format, before protobuf-c sees it ---- */

/* Well-formed UTF-8, and no NUL: a C string could not hold it whole. */
static bool is_utf8(const unsigned char *text, size_t size)
{
    for (size_t i = 0, length; i < size; i += length) {
        length = text[i] ? lab_utf8_length(text + i, size - i) : 0;
        if (!length)
            return false;
    }
    return true;
}

struct level {
    const ProtobufCMessageDescriptor *type;
    const unsigned char *end;
};

static int bad(const ProtobufCMessageDescriptor *type, const unsigned char *start, const unsigned char *at, const char *why)
{
    return lab_refuse(EBADMSG, "what arrived is not a %s: %s at byte %td", type->name, why, at - start);
}

/* Every nested message is entered, with the levels on a stack of its own; the rest is stepped over. */
static int scan(const ProtobufCMessageDescriptor *type, const unsigned char *start, size_t size, size_t *ret_fields)
{
    struct level stack[LAB_CODEC_DEPTH] = {{.type = type, .end = start + size}};
    int depth = 0;
    size_t fields = 0;
    const unsigned char *at = start;
    for (;;) {
        while (depth >= 0 && at == stack[depth].end)
            depth--;
        if (depth < 0)
            break;
        uint32_t number;
        unsigned kind;
        uint64_t length;
        const char *why;
        const unsigned char *field_start = at;
        if (++fields > LAB_CODEC_FIELDS)
            return bad(type, start, at, "too many fields");
        if (lab_wire_field(&at, stack[depth].end, &number, &kind, &length, &why))
            return bad(type, start, field_start, why);
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(stack[depth].type, number);
        if (kind == LAB_WIRE_BYTES && field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
            if (depth + 1 == LAB_CODEC_DEPTH)
                return bad(type, start, field_start, "messages nested too deeply");
            stack[++depth] = (struct level){.type = field->descriptor, .end = at + length};
            continue;
        }
        if (kind == LAB_WIRE_BYTES && field && field->type == PROTOBUF_C_TYPE_STRING && !is_utf8(at, length))
            return bad(type, start, field_start, "text that is not UTF-8");
        at += length;
    }
    *ret_fields = fields;
    return 0;
}

/* ---- unpacking within a budget ---- */

struct budget {
    size_t left;
    int refused; /* why memory was refused: ENOMEM, or EBADMSG: beyond the budget; 0: it was not */
};

/* What a message may ask for grows with what it carries: ten bytes for each of its own (a copy, and packed numbers of one byte
 * that become eight), and for each field the larger of our structs with its place in an array and in protobuf-c's own notes.
 * What protobuf-c frees on the way is not given back: that bounds its time too, for a sub-message that occurs again is merged
 * with the one before by copying all of that. */
enum { BUDGET_BASE = 64 << 10, BUDGET_PER_BYTE = 10, BUDGET_PER_FIELD = 256 };

static size_t budget_of(size_t size, size_t fields)
{
    size_t budget = BUDGET_BASE + size * BUDGET_PER_BYTE + fields * BUDGET_PER_FIELD;
    return budget < LAB_CODEC_MEMORY_MAX ? budget : LAB_CODEC_MEMORY_MAX;
}

static void *budget_alloc(void *data, size_t size)
{
    struct budget *budget = data;
    void *memory = size > budget->left ? NULL : malloc(size);
    if (memory)
        budget->left -= size;
    else
        budget->refused = size > budget->left ? EBADMSG : ENOMEM;
    return memory;
}

static void budget_free(void *data, void *memory)
{
    (void)data;
    free(memory);
}

int lab_codec_unpack(const ProtobufCMessageDescriptor *type, const void *bytes, size_t size, void *ret_message)
{
    size_t fields = 0;
    if (size > LAB_CODEC_BYTES_MAX)
        return lab_refuse(EMSGSIZE, "a %s of %zu bytes; at most %d are read", type->name, size, LAB_CODEC_BYTES_MAX);
    int err = scan(type, bytes, size, &fields);
    if (err)
        return err;
    struct budget budget = {.left = budget_of(size, fields)};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, size, bytes);
    if (!message && budget.refused == ENOMEM)
        return lab_fail(ENOMEM, "no memory for a %s of %zu bytes", type->name, size);
    if (!message)
        return lab_refuse(EBADMSG, "%zu bytes %s a %s", size, budget.refused ? "ask for more memory than becomes" : "are not", type->name);
    memcpy(ret_message, &message, sizeof message);
    return 0;
}

void lab_codec_free(void *message)
{
    /* budget_free and the default allocator free in the same way. */
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- packing ---- */

static int check(const ProtobufCMessage *message);

static int check_value(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field, const void *value, bool repeated)
{
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *bytes = value;
        return bytes->len && !bytes->data ? lab_refuse(EINVAL, "%s.%s has a length and no bytes", type->name, field->name) : 0;
    }
    const void *part;
    memcpy(&part, value, sizeof part);
    if (!part)
        return repeated ? lab_refuse(EINVAL, "%s.%s has an element missing", type->name, field->name) : 0;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check(part); /* the schema has no recursion: its depth bounds this one */
    return is_utf8(part, strlen(part)) ? 0 : lab_refuse(EINVAL, "%s.%s is not UTF-8", type->name, field->name);
}

/* What protobuf-c would follow when it packs. Its own protobuf_c_message_check() follows a missing element itself. */
static int check(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (!type || type->magic != PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC)
        return lab_refuse(EINVAL, "a message that was not initialised cannot be sent");
    for (unsigned f = 0; f < type->n_fields; f++) {
        const ProtobufCFieldDescriptor *field = &type->fields[f];
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED, is_bytes = field->type == PROTOBUF_C_TYPE_BYTES;
        const unsigned char *member = (const unsigned char *)message + field->offset, *value = member;
        size_t count = 1, stride = is_bytes ? sizeof(ProtobufCBinaryData) : sizeof(void *);
        if (repeated) {
            memcpy(&count, (const unsigned char *)message + field->quantifier_offset, sizeof count);
            memcpy(&value, member, sizeof value);
            if (count && !value)
                return lab_refuse(EINVAL, "%s.%s has a count and no elements", type->name, field->name);
        } else if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            uint32_t chosen;
            memcpy(&chosen, (const unsigned char *)message + field->quantifier_offset, sizeof chosen);
            count = chosen == field->id;
        }
        if (!is_bytes && field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        for (size_t i = 0; i < count; i++) {
            int err = check_value(type, field, value + i * stride, repeated);
            if (err)
                return err;
        }
    }
    return 0;
}

/* Packs behind `headroom` bytes that the caller fills in; `ret_size` is that of the message alone. */
static int pack_behind(size_t headroom, const void *message, unsigned char **ret_bytes, size_t *ret_size)
{
    const ProtobufCMessage *base = message;
    int err = check(base);
    if (err)
        return err;
    size_t size = protobuf_c_message_get_packed_size(base);
    if (size > LAB_CODEC_BYTES_MAX)
        return lab_refuse(EMSGSIZE, "a %s of %zu bytes; at most %d are sent", base->descriptor->name, size, LAB_CODEC_BYTES_MAX);
    unsigned char *bytes = malloc(headroom + size + 1); /* never malloc(0) */
    if (!bytes)
        return lab_fail(ENOMEM, "no memory for a %s of %zu bytes", base->descriptor->name, size);
    protobuf_c_message_pack(base, bytes + headroom);
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int lab_codec_pack(const void *message, void **ret_bytes, size_t *ret_size)
{
    unsigned char *bytes = NULL;
    int err = pack_behind(0, message, &bytes, ret_size);
    if (!err)
        *ret_bytes = bytes;
    return err;
}

/* ---- frames on a stream socket ---- */

enum { PREFIX = 4 };

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int n = poll(&ready, 1, lab_ms_until(deadline_ns));
    if (n < 0 && errno != EINTR)
        return lab_fail(errno, "cannot wait for a control socket");
    return n == 0 && lab_ns_until(deadline_ns) == 0 ? -EAGAIN : 0;
}

static int send_all(int fd, const unsigned char *bytes, size_t size, uint64_t deadline_ns)
{
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
            return lab_refuse(EPIPE, "the other side of a control socket is closed");
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return lab_fail(errno, "cannot send on a control socket");
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
            continue;
        }
        int err = wait_for(fd, POLLOUT, deadline_ns);
        if (err)
            return err == -EAGAIN ? lab_refuse(ETIMEDOUT, "a control socket took no more before the deadline") : err;
    }
    return 0;
}

/* Prefix and message leave in one call: two would wake the other side twice. */
int lab_codec_send(int fd, const void *message, uint64_t deadline_ns)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    int err = pack_behind(PREFIX, message, &bytes, &size);
    if (err)
        return err;
    for (unsigned i = 0; i < PREFIX; i++)
        bytes[i] = (unsigned char)(size >> 8 * i);
    err = send_all(fd, bytes, PREFIX + size, deadline_ns);
    free(bytes);
    return err;
}

static int receive_all(int fd, unsigned char *to, size_t size, bool started, uint64_t deadline_ns)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = recv(fd, to + got, size - got, MSG_DONTWAIT);
        if (n > 0) {
            got += (size_t)n;
            continue;
        }
        if (n == 0 || errno == ECONNRESET)
            return started || got ? lab_refuse(EBADMSG, "a control message ended after %zu of %zu bytes", got, size)
                                  : lab_refuse(EPIPE, "the other side of a control socket is closed");
        if (errno != EAGAIN && errno != EINTR)
            return lab_fail(errno, "cannot receive from a control socket");
        int err = wait_for(fd, POLLIN, deadline_ns);
        if (err)
            return err == -EAGAIN ? lab_refuse(ETIMEDOUT, "no control message came before the deadline") : err;
    }
    return 0;
}

int lab_codec_receive(int fd, const ProtobufCMessageDescriptor *type, uint64_t deadline_ns, void *ret_message)
{
    unsigned char prefix[PREFIX];
    int err = receive_all(fd, prefix, sizeof prefix, false, deadline_ns);
    if (err)
        return err;
    size_t size = (size_t)prefix[0] | (size_t)prefix[1] << 8 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 24;
    if (size > LAB_CODEC_BYTES_MAX)
        return lab_refuse(EMSGSIZE, "a control message of %zu bytes; at most %d are read", size, LAB_CODEC_BYTES_MAX);
    unsigned char *bytes = malloc(size ? size : 1);
    if (!bytes)
        return lab_fail(ENOMEM, "no memory for a control message of %zu bytes", size);
    err = receive_all(fd, bytes, size, true, deadline_ns);
    if (!err)
        err = lab_codec_unpack(type, bytes, size, ret_message);
    free(bytes);
    return err;
}

const char *lab_codec_library(void)
{
    return protobuf_c_version();
}
