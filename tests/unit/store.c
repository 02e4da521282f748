/* Runs kept in SQLite: whole, in time, and by several launchers at once. */
#include "report/store.h"

#include "report/statistics.h"
#include "tests/check.h"
#include "tests/synthetic.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/ipclab-store-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/runs.db", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char file[128];
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(file, sizeof file, "%s%s", path, suffixes[i]);
        unlink(file);
    }
    return rmdir(folder);
}

static struct lab_run *small_run(const char *id)
{
    struct lab_run *run = lab_synthetic_run();
    run->id = id;
    *lab_run_add_warning(run) = (struct lab_warning){"thp", "huge pages are off", "echo madvise > ..."};
    lab_synthetic_launches(lab_synthetic_cell(run, "shm-ring", "spin", "pingpong", 64), 3, 60, 0.01, 1, 56);
    lab_synthetic_launches(lab_synthetic_cell(run, "pipe", "block", "stream", 64), 2, 26000, 0.01, 0.3, (double)NAN);
    struct lab_cell *skipped = lab_synthetic_cell(run, "pipe", "spin", "stream", 64);
    skipped->verdict = LAB_SKIPPED;
    skipped->reason = "pipe cannot wait by spin";
    run->cells[0].baseline = true;
    run->cells[1].remote = true;
    run->cells[0].launches[1].verdict = LAB_TRANSIENT;
    run->cells[0].launches[1].reason = "it never settled: \"'%s\xc3\xa9";
    run->cells[0].launches[2].integrity = (struct lab_integrity){1, 2, 3, 4, 5, UINT64_MAX};
    run->cells[0].launches[2].overhead_ns = 123;
    run->cells[0].launches[2].ready_ns = 124;
    run->cells[0].launches[2].private_bytes = 125;
    run->cells[0].launches[2].encode_ns = 31.5;
    run->cells[0].launches[2].one_way_ns = 1234.5;
    run->cells[0].launches[2].fiber_switches = 126;
    return run;
}

static struct lab_store *open_store(enum lab_store_mode mode)
{
    struct lab_store *store = NULL;
    lab_assert_ok(lab_store_open(path, mode, &store));
    return store;
}

static void assert_text(const char *a, const char *b)
{
    if (a && b)
        assert_string_equal(a, b);
    else
        assert_ptr_equal(a, b);
}

static void assert_real(double a, double b)
{
    assert_memory_equal(&a, &b, isnan(a) && isnan(b) ? 0 : sizeof a);
}

static void assert_same_launch(const struct lab_launch *a, const struct lab_launch *b)
{
    assert_int_equal(a->round, b->round);
    assert_int_equal(a->verdict, b->verdict);
    assert_text(a->reason, b->reason);
    assert_int_equal(!a->latency, !b->latency);
    if (a->latency)
        assert_memory_equal(a->latency, b->latency, sizeof *a->latency);
    assert_int_equal(a->batched, b->batched);
    assert_real(a->messages_per_s, b->messages_per_s);
    assert_real(a->bytes_per_s, b->bytes_per_s);
    assert_int_equal(a->messages, b->messages);
    assert_int_equal(a->elapsed_ns, b->elapsed_ns);
    assert_real(a->handoff_ns, b->handoff_ns);
    assert_int_equal(a->windows, b->windows);
    assert_int_equal(a->set_aside, b->set_aside);
    assert_memory_equal(&a->integrity, &b->integrity, sizeof a->integrity);
    assert_int_equal(a->cpu_ns, b->cpu_ns);
    assert_int_equal(a->wall_ns, b->wall_ns);
    assert_int_equal(a->run_delay_ns, b->run_delay_ns);
    assert_int_equal(a->switches, b->switches);
    assert_int_equal(a->faults, b->faults);
    assert_int_equal(a->setup_ns, b->setup_ns);
    assert_int_equal(a->overhead_ns, b->overhead_ns);
    assert_int_equal(a->ready_ns, b->ready_ns);
    assert_int_equal(a->private_bytes, b->private_bytes);
    assert_real(a->encode_ns, b->encode_ns);
    assert_real(a->enqueue_ns, b->enqueue_ns);
    assert_real(a->decode_ns, b->decode_ns);
    assert_real(a->one_way_ns, b->one_way_ns);
    assert_int_equal(a->fiber_switches, b->fiber_switches);
    assert_text(a->proof, b->proof);
    assert_int_equal(a->interface_bytes, b->interface_bytes);
    assert_int_equal(a->payload_bytes, b->payload_bytes);
    assert_int_equal(a->buffer_requested_bytes, b->buffer_requested_bytes);
    assert_int_equal(a->buffer_actual_bytes, b->buffer_actual_bytes);
}

static void assert_same_cell(const struct lab_cell *a, const struct lab_cell *b)
{
    assert_int_equal(a->id, b->id);
    assert_text(a->transport, b->transport);
    assert_text(a->wait, b->wait);
    assert_text(a->pattern, b->pattern);
    assert_text(a->topology, b->topology);
    assert_text(a->workload, b->workload);
    assert_text(a->placement, b->placement);
    assert_text(a->unit, b->unit);
    assert_text(a->options, b->options);
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->nodes, b->nodes);
    assert_int_equal(a->workers, b->workers);
    assert_int_equal(a->remote, b->remote);
    assert_int_equal(a->baseline, b->baseline);
    assert_text(a->latency_kind, b->latency_kind);
    assert_int_equal(a->verdict, b->verdict);
    assert_text(a->reason, b->reason);
    assert_int_equal(a->launch_count, b->launch_count);
    for (uint32_t i = 0; i < a->launch_count; i++)
        assert_same_launch(&a->launches[i], &b->launches[i]);
}

static void a_run_comes_back_as_it_was_stored(void **state)
{
    (void)state;
    struct lab_run *run = small_run("20261123-150102-3f9a"), *back;
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    lab_assert_ok(lab_store_begin(store, run));
    lab_assert_ok(lab_run_settle(run));
    run->failure = "the budget was too small";
    lab_assert_ok(lab_store_finish(store, run));
    lab_store_close(store);

    store = open_store(LAB_STORE_READ);
    lab_assert_ok(lab_store_load(store, run->id, &back));
    lab_store_close(store);
    assert_text(back->id, run->id);
    assert_text(back->started_utc, run->started_utc);
    assert_text(back->experiment, run->experiment);
    assert_text(back->question, run->question);
    assert_text(back->config_hash, run->config_hash);
    assert_text(back->config, run->config);
    assert_text(back->version, run->version);
    assert_text(back->ended_by, run->ended_by);
    assert_text(back->failure, run->failure);
    assert_int_equal(back->verdict, run->verdict);
    assert_true(back->seed == run->seed);
    assert_int_equal(back->wall_ns, run->wall_ns);
    assert_int_equal(back->host_count, 1);
    assert_text(back->hosts[0].name, run->hosts[0].name);
    assert_text(back->hosts[0].cpu, run->hosts[0].cpu);
    assert_text(back->hosts[0].kernel, run->hosts[0].kernel);
    assert_text(back->hosts[0].hypervisor, run->hosts[0].hypervisor);
    assert_int_equal(back->hosts[0].cores, run->hosts[0].cores);
    assert_int_equal(back->hosts[0].memory_bytes, run->hosts[0].memory_bytes);
    assert_int_equal(back->library_count, 1);
    assert_text(back->libraries[0].name, run->libraries[0].name);
    assert_text(back->libraries[0].version, run->libraries[0].version);
    assert_int_equal(back->noise_count, run->noise_count);
    for (uint32_t i = 0; i < run->noise_count; i++) {
        assert_int_equal(back->noises[i].cpu, run->noises[i].cpu);
        assert_text(back->noises[i].grade, run->noises[i].grade);
        assert_real(back->noises[i].lost_fraction, run->noises[i].lost_fraction);
        assert_int_equal(back->noises[i].max_ns, run->noises[i].max_ns);
    }
    assert_int_equal(back->warning_count, 1);
    assert_text(back->warnings[0].advice, run->warnings[0].advice);
    assert_int_equal(back->limit_count, run->limit_count);
    for (uint32_t i = 0; i < run->limit_count; i++) {
        assert_text(back->limits[i].name, run->limits[i].name);
        assert_real(back->limits[i].value, run->limits[i].value);
        assert_text(back->limits[i].unit, run->limits[i].unit);
    }
    assert_int_equal(back->cell_count, run->cell_count);
    for (uint32_t i = 0; i < run->cell_count; i++)
        assert_same_cell(&run->cells[i], &back->cells[i]);
    lab_run_free(back);
    lab_run_free(run);
}

static void what_was_stored_survives_the_kill_of_the_launcher(void **state)
{
    (void)state;
    struct lab_run *run = small_run("killed");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lab_run *own = small_run("killed");
        for (uint32_t i = 0; i < own->cell_count; i++)
            own->cells[i].launch_count = 0;
        own->ended_by = NULL;
        struct lab_store *store;
        if (lab_store_open(path, LAB_STORE_WRITE, &store) || lab_store_begin(store, own))
            _exit(1);
        for (uint32_t j = 0; j < 3; j++)
            if (lab_store_launch(store, own, &own->cells[0], &own->cells[0].launches[j]))
                _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));

    struct lab_store *store = open_store(LAB_STORE_READ);
    struct lab_run *back;
    lab_assert_ok(lab_store_load(store, "killed", &back));
    assert_null(back->ended_by);
    assert_int_equal(back->cells[0].launch_count, 3);
    for (uint32_t j = 0; j < 3; j++)
        assert_same_launch(&run->cells[0].launches[j], &back->cells[0].launches[j]);
    assert_int_equal(back->cells[1].launch_count, 0);
    assert_int_equal(back->cells[2].verdict, LAB_SKIPPED);
    lab_run_free(back);
    lab_store_close(store);
    lab_run_free(run);
}

static void a_run_is_found_by_the_start_of_its_id_or_as_the_latest(void **state)
{
    (void)state;
    static const char *const ids[] = {"2026-a1", "2026-a2", "2026-b", "2026-a"};
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    for (size_t i = 0; i < 4; i++) {
        struct lab_run *run = small_run(ids[i]);
        lab_assert_ok(lab_store_begin(store, run));
        lab_run_free(run);
    }
    static const struct { const char *asked, *found; } cases[] = {
        {NULL, "2026-a"}, {"latest", "2026-a"}, {"2026-b", "2026-b"}, {"2026-a1", "2026-a1"}, {"2026-a", "2026-a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lab_run *run;
        lab_assert_ok(lab_store_load(store, cases[i].asked, &run));
        assert_string_equal(run->id, cases[i].found);
        lab_run_free(run);
    }
    struct lab_run *none = NULL;
    lab_assert_fails(lab_store_load(store, "2026", &none), EINVAL);
    lab_assert_fails(lab_store_load(store, "1999", &none), ENOENT);
    lab_assert_fails(lab_store_load(store, "%", &none), ENOENT);
    assert_null(none);
    lab_store_close(store);
}

static void an_id_is_used_once_and_a_launch_needs_a_run_that_was_begun(void **state)
{
    (void)state;
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    struct lab_run *run = small_run("once"), *other = small_run("never begun"), *back;
    lab_assert_ok(lab_store_begin(store, run));
    lab_assert_fails(lab_store_begin(store, run), EEXIST);
    lab_assert_fails(lab_store_launch(store, other, &other->cells[0], &other->cells[0].launches[0]), ENOENT);
    lab_assert_fails(lab_store_finish(store, other), ENOENT);
    /* What failed left nothing behind, and the store goes on. */
    lab_assert_ok(lab_store_launch(store, run, &run->cells[1], &run->cells[1].launches[0]));
    lab_assert_ok(lab_store_load(store, "once", &back));
    assert_int_equal(back->cells[0].launch_count, 3);
    assert_int_equal(back->cells[1].launch_count, 3);
    lab_run_free(back);
    lab_run_free(run);
    lab_run_free(other);
    lab_store_close(store);
}

static void change_database(const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void a_store_of_an_older_version_gets_the_members_that_it_lacks(void **state)
{
    (void)state;
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    lab_store_close(store);
    change_database("ALTER TABLE launches DROP COLUMN ready_ns; PRAGMA user_version = 1");
    lab_assert_fails(lab_store_open(path, LAB_STORE_READ, &store), EPROTONOSUPPORT);
    store = open_store(LAB_STORE_WRITE);
    lab_store_close(store);
    change_database("SELECT ready_ns FROM launches");
    store = open_store(LAB_STORE_READ);
    lab_store_close(store);
}

static void a_newer_schema_and_a_foreign_file_are_refused_untouched(void **state)
{
    (void)state;
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    lab_store_close(store);
    store = NULL;
    change_database("PRAGMA user_version = 99");
    lab_assert_fails(lab_store_open(path, LAB_STORE_WRITE, &store), EPROTONOSUPPORT);
    assert_non_null(strstr(lab_error_last()->text, "99"));
    lab_assert_fails(lab_store_open(path, LAB_STORE_READ, &store), EPROTONOSUPPORT);

    assert_int_equal(unlink(path), 0);
    change_database("CREATE TABLE bills (amount INTEGER)");
    lab_assert_fails(lab_store_open(path, LAB_STORE_WRITE, &store), EBADMSG);
    unsigned char head[20];
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, head, sizeof head), sizeof head);
    close(fd);
    assert_int_equal(head[18], 1); /* still a rollback journal: byte 18 of the file format */

    fd = open(path, O_WRONLY | O_TRUNC);
    static const char text[] = "this is a letter, and surely not a database of any kind, however long it goes on about itself";
    assert_int_equal(write(fd, text, sizeof text), sizeof text);
    close(fd);
    lab_assert_fails(lab_store_open(path, LAB_STORE_WRITE, &store), EBADMSG);
    lab_assert_fails(lab_store_open(path, LAB_STORE_READ, &store), EBADMSG);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, sizeof text);
    assert_null(store);
}

static void a_place_that_cannot_be_written_is_refused_at_once(void **state)
{
    (void)state;
    struct lab_store *store = NULL;
    char below[160];
    lab_assert_fails(lab_store_open(path, LAB_STORE_READ, &store), ENOENT);
    snprintf(below, sizeof below, "%s/no/such/folder.db", folder);
    lab_assert_fails(lab_store_open(below, LAB_STORE_WRITE, &store), ENOENT);
    lab_assert_fails(lab_store_open("/dev/null/runs.db", LAB_STORE_WRITE, &store), ENOTDIR);
    assert_true(lab_store_open(folder, LAB_STORE_WRITE, &store) < 0);
    assert_null(store);
}

static void what_is_no_file_is_refused_by_name(void **state)
{
    (void)state;
    struct lab_store *store = NULL;
    lab_assert_fails(lab_store_open(folder, LAB_STORE_READ, &store), EINVAL);
    assert_non_null(strstr(lab_error_last()->text, "is a directory"));
    lab_assert_fails(lab_store_open("/dev/null", LAB_STORE_WRITE, &store), EINVAL);
    assert_non_null(strstr(lab_error_last()->text, "is a device or pipe"));
    assert_int_equal(mkfifo(path, 0600), 0);
    lab_assert_fails(lab_store_open(path, LAB_STORE_READ, &store), EINVAL);
    assert_null(store);
}

/* Root may write anywhere: the reader becomes nobody. */
static void a_store_that_may_only_be_read_is_read_and_nothing_is_left_beside_it(void **state)
{
    (void)state;
    struct lab_run *run = small_run("lent");
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    lab_assert_ok(lab_store_begin(store, run));
    lab_store_close(store);
    lab_run_free(run);
    char odd[160];
    snprintf(odd, sizeof odd, "%s/a%%41?b#c", folder);
    assert_int_equal(rename(path, odd), 0);
    assert_int_equal(chmod(odd, 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lab_run *back;
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(1);
        if (lab_store_open(odd, LAB_STORE_READ, &store) || lab_store_load(store, "lent", &back))
            _exit(2);
        lab_run_free(back);
        lab_store_close(store);
        _exit(lab_store_open(odd, LAB_STORE_WRITE, &store) == -EROFS ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(rename(odd, path), 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    char beside[176];
    snprintf(beside, sizeof beside, "%s-wal", odd);
    assert_int_equal(access(beside, F_OK), -1);
}

static void a_full_disk_is_an_error_and_what_was_stored_before_stays(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lab_run *run = small_run("full");
        struct lab_store *store;
        if (lab_store_open(path, LAB_STORE_WRITE, &store) || lab_store_begin(store, run))
            _exit(1);
        signal(SIGXFSZ, SIG_IGN);
        struct stat status;
        char log[128];
        snprintf(log, sizeof log, "%s-wal", path);
        if (stat(log, &status))
            _exit(2);
        struct rlimit limit = {(rlim_t)status.st_size + 1, (rlim_t)status.st_size + 1};
        setrlimit(RLIMIT_FSIZE, &limit);
        int err = lab_store_launch(store, run, &run->cells[0], &run->cells[0].launches[0]);
        _exit(err < 0 && lab_error_last()->code == -err && lab_error_last()->text[0] ? 0 : 3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct lab_store *store = open_store(LAB_STORE_READ);
    struct lab_run *back;
    lab_assert_ok(lab_store_load(store, "full", &back));
    assert_int_equal(back->cells[0].launch_count, 3);
    lab_run_free(back);
    lab_store_close(store);
}

static void launchers_write_to_one_store_at_the_same_time(void **state)
{
    (void)state;
    enum { LAUNCHERS = 6, LAUNCHES = 40 };
    pid_t children[LAUNCHERS];
    for (int i = 0; i < LAUNCHERS; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i])
            continue;
        char id[32];
        snprintf(id, sizeof id, "launcher-%d", i);
        struct lab_run *run = small_run(id);
        struct lab_store *store;
        int err = lab_store_open(path, LAB_STORE_WRITE, &store);
        if (!err)
            err = lab_store_begin(store, run);
        for (int j = 0; j < LAUNCHES && !err; j++)
            err = lab_store_launch(store, run, &run->cells[1], &run->cells[1].launches[j % 2]);
        if (!err)
            err = lab_store_finish(store, run);
        if (err) {
            fprintf(stderr, "%s: %s\n", id, lab_error_last()->text);
            _exit(1);
        }
        lab_store_close(store);
        _exit(0);
    }
    for (int i = 0; i < LAUNCHERS; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct lab_store *store = open_store(LAB_STORE_READ);
    for (int i = 0; i < LAUNCHERS; i++) {
        char id[32];
        snprintf(id, sizeof id, "launcher-%d", i);
        struct lab_run *back;
        lab_assert_ok(lab_store_load(store, id, &back));
        assert_int_equal(back->cells[1].launch_count, 2 + LAUNCHES);
        lab_run_free(back);
    }
    lab_store_close(store);
}

static void a_store_in_memory_leaves_no_file(void **state)
{
    (void)state;
    struct lab_store *store;
    struct lab_run *run = small_run("in memory"), *back;
    lab_assert_ok(lab_store_open(":memory:", LAB_STORE_WRITE, &store));
    lab_assert_ok(lab_store_begin(store, run));
    lab_assert_ok(lab_store_load(store, NULL, &back));
    assert_same_cell(&run->cells[0], &back->cells[0]);
    lab_run_free(back);
    lab_run_free(run);
    lab_store_close(store);
    assert_int_equal(access(":memory:", F_OK), -1);
}

static void the_default_path_follows_the_environment(void **state)
{
    (void)state;
    char found[256];
    setenv("XDG_DATA_HOME", "/somewhere/data", 1);
    setenv("HOME", "/home/someone", 1);
    lab_assert_ok(lab_store_default_path(found, sizeof found));
    assert_string_equal(found, "/somewhere/data/ipclab/runs.db");
    setenv("XDG_DATA_HOME", "relative/is/ignored", 1);
    lab_assert_ok(lab_store_default_path(found, sizeof found));
    assert_string_equal(found, "/home/someone/.local/share/ipclab/runs.db");
    lab_assert_fails(lab_store_default_path(found, 10), ENAMETOOLONG);
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    lab_assert_fails(lab_store_default_path(found, sizeof found), ENOENT);
}

static void the_history_counts_cells_by_verdict_newest_first(void **state)
{
    (void)state;
    struct lab_store *store = open_store(LAB_STORE_WRITE);
    struct lab_run *done = small_run("done"), *cut = small_run("cut");
    memset(&done->cells[0].launches[2].integrity, 0, sizeof(struct lab_integrity));
    lab_assert_ok(lab_store_begin(store, done));
    lab_assert_ok(lab_run_settle(done));
    lab_assert_ok(lab_store_finish(store, done));
    cut->ended_by = NULL;
    lab_assert_ok(lab_store_begin(store, cut));
    struct lab_listing *history;
    lab_assert_ok(lab_store_history(store, 10, &history));
    assert_int_equal(lab_listing_rows(history), 2);

    char *text;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    struct lab_render_style style = {.width = 0};
    lab_assert_ok(lab_listing_print(history, LAB_LISTING_JSON, to, &style));
    fclose(to);
    const char *newest = strstr(text, "\"cut\""), *older = strstr(text, "\"done\"");
    assert_true(newest && older && newest < older);
    assert_non_null(strstr(newest, "\"unfinished\""));
    assert_non_null(strstr(newest, "\"wall_ns\": null"));
    assert_non_null(strstr(older, "\"cells\": 3"));
    assert_non_null(strstr(older, "\"ok\": 2"));
    assert_non_null(strstr(older, "\"skipped\": 1"));
    assert_non_null(strstr(older, "\"wall_ns\": 61200000000"));
    free(text);
    lab_listing_free(history);
    lab_assert_ok(lab_store_history(store, 1, &history));
    assert_int_equal(lab_listing_rows(history), 1);
    lab_listing_free(history);
    lab_store_close(store);
    lab_run_free(done);
    lab_run_free(cut);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_run_comes_back_as_it_was_stored),
        IN_FOLDER(what_was_stored_survives_the_kill_of_the_launcher),
        IN_FOLDER(a_run_is_found_by_the_start_of_its_id_or_as_the_latest),
        IN_FOLDER(an_id_is_used_once_and_a_launch_needs_a_run_that_was_begun),
        IN_FOLDER(a_store_of_an_older_version_gets_the_members_that_it_lacks),
        IN_FOLDER(a_newer_schema_and_a_foreign_file_are_refused_untouched),
        IN_FOLDER(a_place_that_cannot_be_written_is_refused_at_once),
        IN_FOLDER(what_is_no_file_is_refused_by_name),
        IN_FOLDER(a_store_that_may_only_be_read_is_read_and_nothing_is_left_beside_it),
        IN_FOLDER(a_full_disk_is_an_error_and_what_was_stored_before_stays),
        IN_FOLDER(launchers_write_to_one_store_at_the_same_time),
        IN_FOLDER(a_store_in_memory_leaves_no_file),
        IN_FOLDER(the_history_counts_cells_by_verdict_newest_first),
        cmocka_unit_test(the_default_path_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
