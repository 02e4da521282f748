/* Both machines of proto/reliable.h, told anything at any time, by frames that pass every check of damage: what they keep stays within the
 * window, they send only what was pushed and is not acknowledged, and positions go forward.
 *
 * An input is a list of steps: a byte that says what happens, and for what is heard a frame, of which each number is one of few that
 * matter, or eight bytes. */
#include "proto/reliable.h"

#include "tests/fuzz/fuzz.h"

#include <string.h>

struct script {
    const uint8_t *at, *end;
};

static uint8_t byte(struct script *script)
{
    return script->at < script->end ? *script->at++ : 0;
}

/* Near something that the machine knows, or anything. */
static uint64_t number(struct script *script, uint64_t near)
{
    uint8_t what = byte(script);
    if (what < 128)
        return near + what - 64;
    uint64_t any = 0;
    for (int i = 0; i < 8; i++)
        any = any << 8 | byte(script);
    return any;
}

static void check_tx(const struct lab_reliable_tx *tx, uint64_t acked)
{
    MUST(tx->acked >= acked);
    MUST(tx->next <= tx->acked || tx->next - tx->acked <= tx->config.window);
    MUST(tx->acked <= (tx->next > tx->config.until ? tx->next : tx->config.until));
    MUST(tx->cursor >= tx->acked || !tx->open);
}

static void step_tx(struct lab_reliable_tx *tx, struct script *script, uint64_t now_ns)
{
    struct lab_reliable_frame frame = {0};
    uint64_t acked = tx->acked;
    switch (byte(script) % 4) {
    case 0:
        if (lab_reliable_tx_room(tx))
            lab_reliable_tx_push(tx);
        break;
    case 1:
        for (int i = 0; i < 4 && lab_reliable_tx_due(tx, now_ns, &frame); i++) {
            MUST(frame.kind == LAB_RELIABLE_ASK || (tx->open && frame.position >= tx->acked && frame.position < tx->next));
            lab_reliable_tx_sent(tx, now_ns, &frame);
        }
        break;
    default:
        frame.kind = LAB_RELIABLE_ASK + byte(script) % 4;
        frame.tx_epoch = number(script, tx->config.epoch + 64);
        frame.rx_epoch = number(script, tx->rx_epoch + 64);
        frame.stream = number(script, tx->stream + 64);
        frame.position = number(script, tx->acked + 64);
        lab_reliable_tx_heard(tx, now_ns, &frame);
    }
    lab_reliable_tx_wake_ns(tx);
    check_tx(tx, acked);
}

static void step_rx(struct lab_reliable_rx *rx, struct script *script, uint64_t now_ns)
{
    struct lab_reliable_frame frame = {0};
    uint64_t next = rx->next, stream = rx->stream, life = rx->tx_epoch;
    switch (byte(script) % 4) {
    case 0: lab_reliable_rx_taken(rx, now_ns); break;
    case 1:
        for (int i = 0; i < 4 && lab_reliable_rx_due(rx, now_ns, &frame); i++) {
            MUST(frame.position == (frame.kind == LAB_RELIABLE_HERE ? rx->next : rx->taken));
            lab_reliable_rx_sent(rx, &frame);
        }
        MUST(!lab_reliable_rx_due(rx, now_ns, &frame)); /* it does not talk for ever */
        break;
    default:
        frame.kind = LAB_RELIABLE_ASK + byte(script) % 4;
        frame.tx_epoch = number(script, rx->tx_epoch + 64);
        frame.rx_epoch = number(script, rx->config.epoch + 64);
        frame.stream = number(script, rx->stream + 64);
        frame.position = number(script, rx->next + 64);
        if (lab_reliable_rx_heard(rx, &frame) == LAB_RELIABLE_DELIVER)
            MUST(frame.kind == LAB_RELIABLE_DATA && frame.position == next && frame.tx_epoch == life && frame.rx_epoch == rx->config.epoch);
        MUST(rx->stream >= stream && rx->tx_epoch >= life && (rx->stream > stream || rx->next >= next));
    }
    lab_reliable_rx_wake_ns(rx);
    MUST(rx->told <= rx->taken && rx->taken <= rx->next);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct script script = {bytes, bytes + size};
    struct lab_reliable_tx tx;
    struct lab_reliable_rx rx;
    bool resumes = byte(&script) & 1;
    lab_reliable_tx_init(&tx, &(struct lab_reliable_tx_config){
        .epoch = 100, .window = 1 + byte(&script) % 16, .resend_ns = 10, .resend_most_ns = 100, .resumes = resumes, .stream = 90, .from = 5, .until = 9});
    lab_reliable_rx_init(&rx, &(struct lab_reliable_rx_config){
        .epoch = 100, .ack_every = 1 + byte(&script) % 16, .ack_delay_ns = 5, .resumes = resumes, .stream = 90, .tx_epoch = 90, .from = 5});
    for (uint64_t now_ns = 1; script.at < script.end; now_ns += byte(&script) % 64) {
        if (byte(&script) & 1)
            step_tx(&tx, &script, now_ns);
        else
            step_rx(&rx, &script, now_ns);
    }
    return 0;
}
