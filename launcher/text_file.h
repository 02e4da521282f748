/* A small text file, read whole or refused: what a user names is not always a file, nor small. */
#ifndef LAB_LAUNCHER_TEXT_FILE_H
#define LAB_LAUNCHER_TEXT_FILE_H

#include <stddef.h>

/* Reads a regular file of at most `most` bytes (a larger one is refused by its size, unread); symlinks are followed. `what` it
 * is for messages: "the experiment". The text ends with a NUL that is not counted; free() it. -errno with the sentence. */
int lab_text_file_read(const char *path, const char *what, size_t most, char **ret_text, size_t *ret_size);

#endif
