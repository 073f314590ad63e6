/* cubbyd: reads the configuration, opens the store, serves, and stops cleanly. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/journal.h"
#include "daemon/progress.h"
#include "daemon/rescue.h"
#include "daemon/restore.h"
#include "daemon/server.h"

enum {
    EXIT_STOPPED = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    MAX_TEXT = 2 * 4096 + 64,
    MIN_OPEN_FILES = 64,
};

static uint64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* How long a start took: always where somebody may have waited for it. */
static void say_replayed(const struct journal *journal, const struct store *store, uint64_t took_ms)
{
    struct store_stats stats;
    store_stats(store, &stats);
    journal_say(journal, took_ms >= PROGRESS_MS ? JOURNAL_NOTICE : JOURNAL_INFO,
                "read %" PRIu64 " records of the log in %" PRIu64 " ms", stats.replayed, took_ms);
}

static int open_store(struct store **store, const struct config *config,
                      const struct journal *journal)
{
    struct store_error error = {.message = "unknown"};
    struct progress progress;
    struct store_options options = {
        .directory = config->data,
        .engine = config->engine,
        .durability = config->durability,
        .log_retain = config->log_retain,
        .checkpoint_size = config->checkpoint_size,
        .memory_limit = config->memory_limit,
        .evicts = config->evicts,
        .wall_ms = wall_ms(),
        .progress = progress_show,
        .warn = progress_warn,
        .context = &progress,
    };
    progress_begin(&progress, journal);
    if (store_open(store, &options, &error) != 0) {
        journal_say(journal, JOURNAL_ERROR, "%s", error.message);
        return -1;
    }
    say_replayed(journal, *store, progress_took_ms(&progress));
    return 0;
}

/*
 * LMDB's files are mapped: where the disk cannot give a page of them, or somebody has cut a file
 * short, reading memory fails. Nothing can be done about it but to say so; the signal then ends the
 * process as it would have. Only what is allowed in a signal handler.
 */
static void say_bus_error(int number)
{
    static const char line[] =
        "cubbyd: a mapped file cannot be read (SIGBUS): the disk failed, or the file was cut "
        "short; "
        "look at the kernel's log, and at the data with 'cubbyd --check DIR'\n";
    (void)number;
    (void)!write(STDERR_FILENO, line, sizeof line - 1);
}

/* It is reset by then: what failed fails again, and ends the process. */
static void take_bus_errors(void)
{
    const struct sigaction action = {.sa_handler = say_bus_error, .sa_flags = SA_RESETHAND};
    (void)sigaction(SIGBUS, &action, NULL);
}

/*
 * As many connections as the system allows. libzmq aborts where it finds no descriptor for its own
 * threads, so with less than a few it is not begun. 0, or -1 and the reason was said.
 */
static int raise_file_limit(const struct journal *journal)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max >= MIN_OPEN_FILES)
        return 0;
    journal_say(journal, JOURNAL_ERROR,
                "only %lu files may be open at once, and at least %d are needed: raise the limit "
                "(ulimit -n)",
                (unsigned long)limit.rlim_max, MIN_OPEN_FILES);
    return -1;
}

/* A signal that is blocked is read even where nohup had it ignored. */
static bool is_ignored(int number)
{
    struct sigaction current;
    return sigaction(number, NULL, &current) == 0 && current.sa_handler == SIG_IGN;
}

/*
 * SIGTERM, SIGINT, SIGUSR1 and SIGHUP, which a terminal sends when it goes, become readable; before
 * there is any other thread.
 */
static int open_signals(void)
{
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGTERM);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGUSR1);
    if (!is_ignored(SIGHUP))
        sigaddset(&taken, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write, not our end */
    if (pthread_sigmask(SIG_BLOCK, &taken, NULL) != 0)
        return -1;
    return signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void say_ready(const struct server *server, const struct journal *journal,
                      const struct config *config, const struct store *store)
{
    char endpoints[MAX_TEXT];
    server_describe(server, endpoints, sizeof endpoints);
    journal_say(journal, JOURNAL_NOTICE, "ready, %s; data in %s, engine %s, durability %s",
                endpoints, config->data != NULL ? config->data : "memory only", store_engine(store),
                config_durability_name(config->durability));
    sd_notifyf(0, "READY=1\nSTATUS=serving, %s\nMAINPID=%ld", endpoints, (long)getpid());
}

static int serve(const struct config *config, struct store *store, const struct journal *journal,
                 int signal_fd)
{
    char error[SERVER_MAX_ERROR] = "";
    struct server *server = server_new(config, store, journal, signal_fd, error);
    if (server == NULL) {
        journal_say(journal, JOURNAL_ERROR, "%s", error);
        return -1;
    }
    say_ready(server, journal, config, store);
    int rc = server_run(server);
    sd_notify(0, "STOPPING=1\nSTATUS=stopping");
    journal_say(journal, JOURNAL_INFO, "stopping");
    server_free(&server);
    return rc;
}

static int run_server(const struct config *config, const struct journal *journal)
{
    struct store *store;
    int signal_fd = open_signals();
    if (signal_fd < 0) {
        journal_say(journal, JOURNAL_ERROR, "cannot take signals: %s", strerror(errno));
        return EXIT_FAILED;
    }
    int status = EXIT_FAILED;
    if (raise_file_limit(journal) == 0 && open_store(&store, config, journal) == 0) {
        if (serve(config, store, journal, signal_fd) == 0)
            status = EXIT_STOPPED;
        if (store_close(&store) != 0 && status == EXIT_STOPPED) {
            journal_say(journal, JOURNAL_ERROR, "the last sync failed; check the disk");
            status = EXIT_FAILED;
        }
    }
    close(signal_fd);
    return status;
}

static int run_restore(const struct config *config, const struct journal *journal)
{
    struct store_error error = {.message = "unknown"};
    struct restored restored;
    struct store_options options = {.directory = config->data, .engine = config->engine};
    if (restore(config->restore, &options, &restored, &error) != 0) {
        journal_say(journal, JOURNAL_ERROR, "%s", error.message);
        return EXIT_FAILED;
    }
    journal_say(journal, JOURNAL_NOTICE,
                "restored %s into %s: %" PRIu64 " keys as of seq %" PRIu64 ", under a new epoch",
                config->restore, config->data, restored.keys, restored.seq);
    return EXIT_STOPPED;
}

/* Serves, or does what was asked for instead. */
static int run(const struct config *config, const struct journal *journal)
{
    if (config->check != NULL)
        return rescue_check(config->check, journal);
    if (config->salvage != NULL)
        return rescue_salvage(config->salvage, config->data, config->engine, journal);
    return config->restore != NULL ? run_restore(config, journal) : run_server(config, journal);
}

/*
 * Where one of the three standard files is closed, what is opened next would get its number, and
 * what is printed would go there. Reading standard input, and writing to the others, fails instead.
 */
static void keep_standard_files(void)
{
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++)
        if (fcntl(file, F_GETFD) < 0)
            (void)!open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static int end_output(const struct journal *journal)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return EXIT_STOPPED;
    journal_say(journal, JOURNAL_ERROR, "cannot write to standard output: %s", strerror(errno));
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct config config;
    struct journal journal;
    int status = EXIT_STOPPED;
    keep_standard_files();
    take_bus_errors();
    journal_init(&journal);
    switch (config_read(&config, argc, argv)) {
    case CONFIG_HELP:
        config_print_help();
        status = end_output(&journal);
        break;
    case CONFIG_VERSION:
        puts("cubbyd " CUBBY_VERSION);
        status = end_output(&journal);
        break;
    case CONFIG_WRONG:
        journal_say(&journal, JOURNAL_ERROR, "%s", config.error);
        status = EXIT_USAGE;
        break;
    case CONFIG_RUN:
        journal.verbose = config.verbose;
        status = run(&config, &journal);
        break;
    }
    config_free(&config);
    return status;
}
