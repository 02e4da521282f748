/* A plan for people to read: what runs, grouped as the report will be, and what does not, with each reason once. */
#include "launcher/plan.h"

#include "base/error.h"
#include "base/text.h"
#include "report/render.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct printing {
    const struct lab_plan *plan;
    FILE *to;
    size_t width;
    int label_width, wait_width;
    bool *done; /* of each cell */
};

enum { LABEL_TEXT = 64 };

/* "shm-ring", or "shm-ring via zmq-tcp" when a link joins the nodes. */
static const char *label_of(const struct lab_plan_cell *cell, char to[LABEL_TEXT])
{
    bool process = cell->unit == LAB_UNIT_PROCESS;
    snprintf(to, LABEL_TEXT, "%s%s%s%s%s", cell->transport->name, cell->link ? " via " : "", cell->link ? cell->link->name : "",
             process ? "" : " unit ", process ? "" : lab_unit_name(cell->unit));
    return to;
}

static bool same_group(const struct lab_plan_cell *a, const struct lab_plan_cell *b)
{
    return !a->skip == !b->skip && a->pattern == b->pattern && a->topology == b->topology && a->nodes == b->nodes &&
           a->workers == b->workers && a->crosses_hosts == b->crosses_hosts && strcmp(a->placement, b->placement) == 0;
}

/* A window that was not asked for follows from the size, and so tells no lines apart. */
static bool same_line(const struct lab_plan_cell *a, const struct lab_plan_cell *b)
{
    bool asked = a->asked[LAB_AXIS_WINDOW] && b->asked[LAB_AXIS_WINDOW];
    return same_group(a, b) && a->transport == b->transport && a->link == b->link && a->wait == b->wait && a->spin_ns == b->spin_ns &&
           a->unit == b->unit && a->backing == b->backing && a->batch == b->batch && a->verify_all == b->verify_all && !a->delivery == !b->delivery && a->reliable == b->reliable &&
           a->encryption == b->encryption && a->mpi_path == b->mpi_path && a->mpi_rndv == b->mpi_rndv &&
           a->baseline == b->baseline &&
           !a->asked[LAB_AXIS_WINDOW] == !b->asked[LAB_AXIS_WINDOW] && (!asked || a->window == b->window);
}

/* Words of a line, broken before the width; further lines begin at `indent`. */
static void put_word(const struct printing *printing, const char *word, size_t indent, size_t *column)
{
    if (*column > indent && *column + strlen(word) > printing->width) {
        fprintf(printing->to, "\n%*s", (int)indent, "");
        *column = indent;
    }
    *column += (size_t)fprintf(printing->to, "%s", word);
}

static void put_text(const struct printing *printing, const char *text, size_t indent, size_t column)
{
    while (*text) {
        char word[128];
        size_t length = strcspn(text, " ");
        length += strspn(text + length, " ");
        if (length >= sizeof word)
            length = sizeof word - 1;
        memcpy(word, text, length);
        word[length] = '\0';
        put_word(printing, word, indent, &column);
        text += length;
    }
    putc('\n', printing->to);
}

static void put_line(struct printing *printing, size_t from)
{
    const struct lab_plan_cell *first = &printing->plan->cells[from];
    char label[LABEL_TEXT], size[LAB_TEXT_NUMBER], text[4096] = "";
    size_t used = 0;
    for (size_t i = from; i < printing->plan->cell_count; i++) {
        const struct lab_plan_cell *cell = &printing->plan->cells[i];
        if (printing->done[i] || !same_line(first, cell))
            continue;
        printing->done[i] = true;
        if (used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "",
                                     lab_format_size(cell->size_bytes, size));
    }
    if (first->asked[LAB_AXIS_WINDOW] && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  window %u", first->window);
    if (first->batch > 1 && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  batch %u", first->batch);
    if (first->backing != LAB_BACKING_MEMFD && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  backing %s", lab_backing_name(first->backing));
    if (first->mpi_path && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  mpi_path %s", first->mpi_path);
    if (first->mpi_rndv && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  mpi_rndv %s", first->asked[LAB_AXIS_MPI_RNDV]);
    if (first->spin_ns && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  spin_limit %s", first->asked[LAB_AXIS_SPIN_LIMIT]);
    if (!first->verify_all && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  verify sample");
    if (first->delivery && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  delivery %s", first->delivery);
    if (first->encryption && used < sizeof text)
        used += (size_t)snprintf(text + used, sizeof text - used, "  encryption %s", first->encryption);
    if (first->baseline && used < sizeof text)
        snprintf(text + used, sizeof text - used, "  (baseline)");
    size_t column = (size_t)fprintf(printing->to, "  %-*s  %-*s  ", printing->label_width, label_of(first, label),
                                    printing->wait_width, lab_wait_name(first->wait));
    put_text(printing, text, column, column);
}

static void put_lines(struct printing *printing, size_t from)
{
    for (size_t i = from; i < printing->plan->cell_count; i++)
        if (!printing->done[i] && same_group(&printing->plan->cells[from], &printing->plan->cells[i]))
            put_line(printing, i);
}

static void put_group(struct printing *printing, size_t from)
{
    const struct lab_plan_cell *first = &printing->plan->cells[from];
    if (first->transport->caps & LAB_CAP_SELF) {
        fprintf(printing->to, "\n%s, 1 worker that sends to itself%s\n", first->pattern->name,
                strcmp(first->placement, "any") == 0 ? ", on any cpu" : "");
        put_lines(printing, from);
        return;
    }
    fprintf(printing->to, "\n%s, %s, %u node%s%s", first->pattern->name, first->topology->name, first->nodes,
            first->nodes == 1 ? "" : "s", first->crosses_hosts ? " on different hosts" : "");
    if (first->workers)
        fprintf(printing->to, " x %u worker%s", first->workers, first->workers == 1 ? "" : "s");
    else
        fputs(" that talk themselves", printing->to);
    fprintf(printing->to, ", %s\n", first->placement);
    put_lines(printing, from);
}

/* Every sentence once, with the number of cells that it is about. */
static void put_sentences(struct printing *printing, const char *title, bool skipped)
{
    const struct lab_plan *plan = printing->plan;
    memset(printing->done, 0, plan->cell_count);
    bool titled = false;
    for (size_t i = 0; i < plan->cell_count; i++) {
        const char *sentence = skipped ? plan->cells[i].skip : plan->cells[i].skip ? NULL : plan->cells[i].note;
        if (!sentence || printing->done[i])
            continue;
        size_t count = 0;
        for (size_t j = i; j < plan->cell_count; j++) {
            const char *other = skipped ? plan->cells[j].skip : plan->cells[j].skip ? NULL : plan->cells[j].note;
            if (other && strcmp(other, sentence) == 0) {
                printing->done[j] = true;
                count++;
            }
        }
        if (!titled)
            fprintf(printing->to, "\n%s\n", title);
        titled = true;
        size_t column = (size_t)fprintf(printing->to, "  %4zu cell%s  ", count, count == 1 ? " " : "s");
        put_text(printing, sentence, column, column);
    }
}

static void measure_columns(struct printing *printing)
{
    for (size_t i = 0; i < printing->plan->cell_count; i++) {
        const struct lab_plan_cell *cell = &printing->plan->cells[i];
        if (cell->skip)
            continue;
        char label[LABEL_TEXT];
        int label_width = (int)strlen(label_of(cell, label)), wait_width = (int)strlen(lab_wait_name(cell->wait));
        if (label_width > printing->label_width)
            printing->label_width = label_width;
        if (wait_width > printing->wait_width)
            printing->wait_width = wait_width;
    }
}

static void put_head(const struct printing *printing)
{
    const struct lab_plan *plan = printing->plan;
    const struct lab_experiment *experiment = plan->experiment;
    char budget[LAB_TEXT_NUMBER];
    size_t running = plan->cell_count - plan->skip_count;
    fprintf(printing->to, "%s", experiment->name);
    if (experiment->question)
        fprintf(printing->to, ": %s", experiment->question);
    fprintf(printing->to, "\n%zu cell%s to run, %zu skipped", running, running == 1 ? "" : "s", plan->skip_count);
    if (plan->excluded)
        fprintf(printing->to, ", %zu excluded", plan->excluded);
    if (plan->merged)
        fprintf(printing->to, ", %zu the same as others", plan->merged);
    fprintf(printing->to, "; %u launches of each, or more, within %s of measuring; seed %llu\n", experiment->launches,
            lab_format_time((double)experiment->budget_ns, budget), (unsigned long long)experiment->seed);
}

int lab_plan_print(const struct lab_plan *plan, FILE *to)
{
    struct printing printing = {.plan = plan, .to = to, .width = lab_render_style_of(to).width};
    if (!printing.width)
        printing.width = LAB_RENDER_WIDTH;
    printing.done = calloc(plan->cell_count + 1, sizeof *printing.done);
    if (!printing.done)
        return lab_fail(ENOMEM, "cannot print a plan");
    measure_columns(&printing);
    put_head(&printing);
    for (size_t i = 0; i < plan->cell_count; i++)
        if (!printing.done[i] && !plan->cells[i].skip)
            put_group(&printing, i);
    put_sentences(&printing, "notes", false);
    put_sentences(&printing, "skipped", true);
    bool baseline = false;
    for (size_t i = 0; i < plan->cell_count; i++)
        baseline |= plan->cells[i].baseline;
    if (plan->experiment->has_baseline && !baseline)
        fputs("\nNo cell that runs is the baseline: nothing will be compared with it.\n", to);
    free(printing.done);
    return 0;
}
