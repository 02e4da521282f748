/* Figures that the kernel keeps as text, one in a file: the limits of its mechanisms. */
#ifndef LAB_NODE_TRANSPORTS_FIGURE_H
#define LAB_NODE_TRANSPORTS_FIGURE_H

#include <stdint.h>
#include <stdio.h>

/* 0 where there is no such file: a kernel without the mechanism. */
static inline uint64_t lab_figure_read(const char *path)
{
    unsigned long long figure = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &figure) != 1)
        figure = 0;
    fclose(file);
    return figure;
}

#endif
