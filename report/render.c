#include "report/render.h"

#include "base/error.h"
#include "base/text.h"
#include "report/json.h"
#include "report/renderers.h"
#include "report/statistics.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char *const formats[LAB_FORMATS] = {"table", "json", "jsonl", "csv", "md"};

const char *lab_format_name(enum lab_format format)
{
    return (unsigned)format < LAB_FORMATS ? formats[format] : NULL;
}

int lab_format_named(const char *name, enum lab_format *ret_format)
{
    for (enum lab_format format = 0; format < LAB_FORMATS; format++) {
        if (strcmp(name, formats[format]) == 0) {
            *ret_format = format;
            return 0;
        }
    }
    const char *near = lab_nearest_of(name, formats, LAB_FORMATS);
    return lab_refuse(EINVAL, "unknown format '%s': it is one of table, json, jsonl, csv, md%s%s%s", name,
                      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The environment's locale, whether or not the program has made it its own. */
static bool locale_is_utf8(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (locale == (locale_t)0)
        return false;
    bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

uint32_t lab_render_width_of(FILE *to)
{
    struct winsize size;
    int fd = fileno(to);
    return fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

struct lab_render_style lab_render_style_of(FILE *to)
{
    struct lab_render_style style = {.utf8 = locale_is_utf8()};
    int fd = fileno(to);
    if (fd < 0 || !isatty(fd))
        return style;
    const char *no_colour = getenv("NO_COLOR"), *terminal = getenv("TERM");
    bool dumb = !terminal || strcmp(terminal, "dumb") == 0;
    style.interactive = true;
    style.colour = !dumb && !(no_colour && *no_colour);
    style.width = lab_render_width_of(to);
    return style;
}

int lab_render_flush(FILE *to)
{
    if (fflush(to) == 0 && !ferror(to))
        return 0;
    return lab_fail(errno ? errno : EIO, "cannot write the output");
}

int lab_render(const struct lab_run *run, enum lab_format format, FILE *to, const struct lab_render_style *style)
{
    struct lab_summary *summaries = lab_run_summaries(run);
    if (!summaries)
        return -ENOMEM;
    errno = 0;
    int err = 0;
    switch (format) {
    case LAB_FORMAT_TABLE: err = lab_table_print(run, summaries, to, style); break;
    case LAB_FORMAT_JSON: err = lab_json_print(run, summaries, false, to); break;
    case LAB_FORMAT_JSONL: err = lab_json_print(run, summaries, true, to); break;
    case LAB_FORMAT_CSV: err = lab_csv_print(run, summaries, to); break;
    case LAB_FORMAT_MD: err = lab_md_print(run, summaries, to, style); break;
    case LAB_FORMATS: err = lab_refuse(EINVAL, "%d is no format", (int)format); break;
    }
    free(summaries);
    return err ? err : lab_render_flush(to);
}
