/* The bar on a terminal, and its silence elsewhere. */
#include "report/progress.h"
#include "tests/check.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pty.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void elsewhere_only_notes_are_written(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_progress progress;
    lab_progress_init(&progress, to, false);
    lab_progress_update(&progress, 0.5, "shm-ring spin 64 B");
    lab_progress_note(&progress, "warning: cpu %d is noisy", 1);
    lab_progress_fini(&progress);
    lab_progress_fini(&progress);
    fclose(to);
    assert_string_equal(text, "warning: cpu 1 is noisy\n");
    free(text);
}

static void quiet_is_silent(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_progress progress;
    lab_progress_init(&progress, to, true);
    lab_progress_update(&progress, 0.5, "shm-ring spin 64 B");
    lab_progress_note(&progress, "warning");
    lab_progress_fini(&progress);
    fclose(to);
    assert_string_equal(text, "");
    free(text);
}

/* What a terminal of that width is sent, which has another width once a note was written. */
static void on_a_terminal_resized(unsigned short columns, unsigned short later, char *to, size_t room)
{
    int terminal, program;
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    if (openpty(&terminal, &program, NULL, NULL, &size))
        lab_test_skip("there is no pseudo-terminal");
    FILE *stream = fdopen(program, "w");
    assert_non_null(stream);
    struct lab_progress progress;
    lab_progress_init(&progress, stream, false);
    lab_progress_update(&progress, 0.42, "shm-ring spin 64 B");
    lab_progress_update(&progress, 0.43, "never drawn: too soon");
    size.ws_col = later;
    assert_int_equal(ioctl(terminal, TIOCSWINSZ, &size), 0);
    lab_progress_note(&progress, "a note");
    lab_progress_fini(&progress);
    size_t used = 0;
    struct pollfd readable = {.fd = terminal, .events = POLLIN};
    while (used + 1 < room && poll(&readable, 1, 100) > 0) {
        ssize_t got = read(terminal, to + used, room - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    to[used] = '\0';
    fclose(stream);
    close(terminal);
}

static void on_a_terminal(unsigned short columns, char *to, size_t room)
{
    on_a_terminal_resized(columns, columns, to, room);
}

static void a_terminal_gets_a_bar_that_is_taken_off_again(void **state)
{
    (void)state;
    char text[4096];
    setenv("NO_COLOR", "1", 1);
    setenv("TERM", "xterm", 1);
    on_a_terminal(100, text, sizeof text);
    assert_non_null(strstr(text, " 42%  shm-ring spin 64 B"));
    assert_non_null(strstr(text, "\r\033[Ka note"));
    const char *last = strrchr(text, '\r');
    assert_string_equal(last, "\r\033[K");
    assert_null(strstr(text, "\033[32m"));
    unsetenv("NO_COLOR");
    on_a_terminal(100, text, sizeof text);
    assert_non_null(strstr(text, "\033[32m"));
}

static void a_narrow_terminal_gets_no_line_that_would_scroll(void **state)
{
    (void)state;
    char text[4096];
    setenv("NO_COLOR", "1", 1);
    on_a_terminal(22, text, sizeof text);
    char *bar = strstr(text, " 42%");
    assert_non_null(bar);
    assert_true(strcspn(bar, "\033") < 22);
}

static void a_terminal_that_is_made_narrower_is_written_to_as_it_is_now(void **state)
{
    (void)state;
    char text[4096];
    setenv("NO_COLOR", "1", 1);
    on_a_terminal_resized(100, 22, text, sizeof text);
    assert_non_null(strstr(text, " 42%  shm-ring spin 64 B"));
    char *after = strstr(text, "a note"), *bar = strstr(after, " 43%");
    assert_non_null(bar);
    assert_true(strcspn(bar, "\033") < 22);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elsewhere_only_notes_are_written),
        cmocka_unit_test(quiet_is_silent),
        cmocka_unit_test(a_terminal_gets_a_bar_that_is_taken_off_again),
        cmocka_unit_test(a_narrow_terminal_gets_no_line_that_would_scroll),
        cmocka_unit_test(a_terminal_that_is_made_narrower_is_written_to_as_it_is_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
