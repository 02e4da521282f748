/* Every input of a folder, and of each: cut off anywhere, and with every bit flipped, one at a time. What fails is named, and can be run
 * alone: fuzz.<subject> FILE. */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

enum { INPUT_MAX = 1 << 16, VARIED_MAX = 512 };

static unsigned char input[INPUT_MAX];
static unsigned long tried;

/* In memory of its own, so that a sanitizer sees a read beyond it. */
static void try(const unsigned char *bytes, size_t size)
{
    unsigned char *exact = malloc(size ? size : 1);
    MUST(exact);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    tried++;
}

static void replay(const char *path)
{
    FILE *from = fopen(path, "r");
    MUST(from);
    size_t size = fread(input, 1, sizeof input, from);
    fclose(from);
    fprintf(stderr, "%s\n", path);
    try(input, size);
    for (size_t cut = 0; cut < size && cut < VARIED_MAX; cut++)
        try(input, cut);
    for (size_t bit = 0; bit < 8 * size && bit < 8 * VARIED_MAX; bit++) {
        input[bit / 8] ^= (unsigned char)(1 << bit % 8);
        try(input, size);
        input[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

int main(int argc, char **argv)
{
    unsigned files = 0;
    struct stat kind;
    MUST(argc == 2 && stat(argv[1], &kind) == 0);
    if (!S_ISDIR(kind.st_mode)) {
        replay(argv[1]);
        return 0;
    }
    DIR *folder = opendir(argv[1]);
    MUST(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[4096];
        if (entry->d_name[0] == '.')
            continue;
        MUST(snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name) < (int)sizeof path);
        replay(path);
        files++;
    }
    closedir(folder);
    printf("%u inputs, %lu with what was made of them\n", files, tried);
    return files ? 0 : 1;
}
