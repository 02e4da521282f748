#include "report/progress.h"

#include "base/clock.h"
#include "base/text.h"
#include "report/layout.h"

#include <math.h>
#include <string.h>

enum { REDRAW_MS = 100, BAR_COLUMNS = 24, NARROWEST = 20 };

void lab_progress_init(struct lab_progress *progress, FILE *to, bool quiet)
{
    struct lab_render_style style = lab_render_style_of(to);
    *progress = (struct lab_progress){
        .to = to, .quiet = quiet, .visible = style.interactive && !quiet && (!style.width || style.width >= NARROWEST),
        .colour = style.colour, .utf8 = style.utf8, .width = style.width ? style.width : LAB_RENDER_WIDTH,
        .fraction = (double)NAN, .began_ns = lab_now_ns(),
    };
}

static void erase(struct lab_progress *progress)
{
    if (progress->drawn) {
        fputs("\r\033[K", progress->to);
        progress->drawn = false;
    }
}

/* "1:05", the time that a run of this pace still takes. */
static void left_text(const struct lab_progress *progress, uint64_t now_ns, char to[LAB_TEXT_NUMBER])
{
    double elapsed_s = (double)(now_ns - progress->began_ns) / 1e9, fraction = progress->fraction;
    /* A pace taken from less than a hundredth of the way, or half a second, is a guess. */
    if (!(fraction >= 0.01) || elapsed_s < 0.5) {
        to[0] = '\0';
        return;
    }
    double left_s = fmin(ceil(elapsed_s * (1 - fraction) / fraction), 359999);
    unsigned seconds = (unsigned)left_s;
    if (seconds >= 3600)
        snprintf(to, LAB_TEXT_NUMBER, "%u:%02u:%02u left", seconds / 3600, seconds / 60 % 60, seconds % 60);
    else
        snprintf(to, LAB_TEXT_NUMBER, "%u:%02u left", seconds / 60, seconds % 60);
}

/* A terminal may be made wider or narrower at any time. */
static void measure(struct lab_progress *progress)
{
    uint32_t width = lab_render_width_of(progress->to);
    if (width)
        progress->width = width;
}

static void draw(struct lab_progress *progress, uint64_t now_ns)
{
    measure(progress);
    const char *full = progress->utf8 ? "━" : "#", *empty = progress->utf8 ? "─" : ".";
    double fraction = isnan(progress->fraction) ? 0 : fmin(fmax(progress->fraction, 0), 1);
    size_t done = (size_t)(fraction * BAR_COLUMNS), used = 0;
    struct lab_render_style style = {.colour = progress->colour};
    char left[LAB_TEXT_NUMBER], what[sizeof progress->what];
    left_text(progress, now_ns, left);

    fputc('\r', progress->to);
    if (progress->width >= 2 * BAR_COLUMNS) {
        lab_layout_ink(progress->to, &style, LAB_INK_GOOD);
        lab_layout_repeat(progress->to, full, done);
        lab_layout_ink(progress->to, &style, LAB_INK_DIM);
        lab_layout_repeat(progress->to, empty, BAR_COLUMNS - done);
        lab_layout_ink(progress->to, &style, LAB_INK_PLAIN);
        used = BAR_COLUMNS;
    }
    if (!isnan(progress->fraction))
        used += (size_t)fprintf(progress->to, " %3.0f%%", floor(fraction * 100));
    if (left[0])
        used += (size_t)fprintf(progress->to, "  %s", left);
    /* One column stays free: a full line would scroll. What is being done is cut to what is left, never a code point. */
    if (used + 4 < progress->width) {
        size_t room = progress->width - used - 3, bytes = 0;
        snprintf(what, sizeof what, "%s", progress->what);
        for (size_t columns = 0; what[bytes]; bytes++)
            if (((unsigned char)what[bytes] & 0xc0) != 0x80 && ++columns > room)
                break;
        fprintf(progress->to, "  %.*s", (int)bytes, what);
    }
    fputs("\033[K", progress->to);
    fflush(progress->to);
    progress->drawn = true;
    progress->drawn_ns = now_ns;
}

void lab_progress_update(struct lab_progress *progress, double fraction, const char *what)
{
    if (!progress->visible)
        return;
    uint64_t now_ns = lab_now_ns();
    progress->fraction = fraction;
    snprintf(progress->what, sizeof progress->what, "%s", what ? what : "");
    if (!progress->drawn || now_ns - progress->drawn_ns >= REDRAW_MS * LAB_NS_PER_MS)
        draw(progress, now_ns);
}

void lab_progress_note(struct lab_progress *progress, const char *format, ...)
{
    if (progress->quiet)
        return;
    bool redraw = progress->drawn;
    erase(progress);
    va_list args;
    va_start(args, format);
    vfprintf(progress->to, format, args);
    va_end(args);
    fputc('\n', progress->to);
    fflush(progress->to);
    if (redraw)
        draw(progress, lab_now_ns());
}

void lab_progress_fini(struct lab_progress *progress)
{
    erase(progress);
    fflush(progress->to);
    progress->visible = false;
}
