#include "launcher/facts.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 512 };

static void read_note(struct lab_facts *facts, bool usable, const char *rest)
{
    struct lab_facts_note note = {.usable = usable};
    int at = 0;
    if (facts->note_count == LAB_FACTS_NOTES_MAX || sscanf(rest, "%31s %n", note.transport, &at) != 1)
        return;
    int after = 0;
    if (usable && sscanf(rest + at, "%" SCNu64 " %n", &note.longest, &after) != 1)
        return;
    snprintf(note.text, sizeof note.text, "%.*s", LAB_FACTS_NOTE - 1, rest + at + after);
    facts->notes[facts->note_count++] = note;
}

static bool read_line(struct lab_facts *facts, const char *line)
{
    char word[32];
    int at = 0;
    if (sscanf(line, "%31s %n", word, &at) != 1)
        return false;
    const char *rest = line + at;
    sscanf(line, "version %127s %" SCNu32, facts->version, &facts->protocol);
    sscanf(line, "host %127s", facts->host);
    sscanf(line, "clock %" SCNu64, &facts->clock_ns);
    sscanf(line, "cpus %" SCNu32 " %" SCNu32, &facts->cpus_online, &facts->cpus);
    sscanf(line, "shm %" SCNu64 " %" SCNu64, &facts->shm_free, &facts->shm_bytes);
    sscanf(line, "files %" SCNu64, &facts->files_max);
    sscanf(line, "ports %" SCNu32 " %" SCNu32, &facts->port_first, &facts->port_last);
    sscanf(line, "governor %127s", facts->governor);
    sscanf(line, "ucx %127s", facts->ucx);
    sscanf(line, "reach %d", &facts->reach);
    if (strcmp(word, "unusable") == 0 || strcmp(word, "longest") == 0)
        read_note(facts, word[0] == 'l', rest);
    return strcmp(word, "end") == 0;
}

int lab_facts_parse(const char *text, struct lab_facts *ret_facts)
{
    struct lab_facts facts = {.reach = -1, .governor = "-", .ucx = "-"};
    bool whole = false;
    while (*text && !whole) {
        char line[LINE];
        size_t length = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(length < LINE ? length : LINE - 1), text);
        whole = read_line(&facts, line);
        text += length + (text[length] == '\n');
    }
    *ret_facts = facts;
    return whole ? 0 : lab_refuse(EPROTO, "what it says of itself is not whole");
}
