/* Options: what is taken, what is refused, and where they come from. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/config.h"

enum { MAX_ARGUMENTS = 16 };

static struct config config;

/* Reads a command line given as words with one space between. */
static enum config_result read_words(const char *words)
{
    static char copy[1024];
    static char program[] = "cubbyd";
    char *argv[MAX_ARGUMENTS + 1] = {program};
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, " "); word != NULL && argc < MAX_ARGUMENTS;
         word = strtok(NULL, " "))
        argv[argc++] = word;
    return config_read(&config, argc, argv);
}

static void free_config(void)
{
    config_free(&config);
}

TestSuite(config, .fini = free_config);

#define REFUSES(words, part)                                                                       \
    do {                                                                                           \
        cr_assert_eq(read_words(words), CONFIG_WRONG, "%s", words);                                \
        cr_assert(strstr(config.error, part) != NULL, "%s: %s", words, config.error);              \
        config_free(&config);                                                                      \
    } while (0)

Test(config, without_arguments_everything_has_its_default)
{
    setenv("CUBBY_DATA", "/tmp/somewhere", 1);
    cr_assert_eq(read_words(""), CONFIG_RUN, "%s", config.error);
    cr_assert_str_eq(config.listen.names[0], "tcp://127.0.0.1:7420");
    cr_assert_str_eq(config.publish.names[0], "tcp://127.0.0.1:7421");
    cr_assert_str_eq(config.data, "/tmp/somewhere");
    cr_assert_eq(config.durability, STORE_ALWAYS);
    cr_assert_eq(config.log_retain, 64 << 20);
    cr_assert_eq(config.publish_queue, 1 << 30);
}

Test(config, the_data_directory_follows_the_environment)
{
    unsetenv("CUBBY_DATA");
    setenv("XDG_STATE_HOME", "/tmp/state", 1);
    cr_assert_eq(read_words(""), CONFIG_RUN);
    cr_assert_str_eq(config.data, "/tmp/state/cubby");
    config_free(&config);
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", "/tmp/home", 1);
    cr_assert_eq(read_words(""), CONFIG_RUN);
    cr_assert_str_eq(config.data, "/tmp/home/.local/state/cubby");
    config_free(&config);
    unsetenv("HOME");
    cr_assert_eq(read_words(""), CONFIG_WRONG);
}

Test(config, what_is_given_is_taken)
{
    cr_assert_eq(read_words("--listen ipc:///tmp/a --listen=tcp://127.0.0.1:1 --publish "
                            "ipc:///tmp/b --data none --log-retain 2K --publish-queue 0 --verbose"),
                 CONFIG_RUN, "%s", config.error);
    cr_assert_eq(config.listen.count, 2);
    cr_assert_str_eq(config.listen.names[1], "tcp://127.0.0.1:1");
    cr_assert_null(config.data);
    cr_assert_eq(config.log_retain, 2048);
    cr_assert_eq(config.publish_queue, UINT64_MAX);
    cr_assert_null(config.engine);
    cr_assert(config.verbose);
}

Test(config, checkpoints_are_taken_in_bytes_and_seconds)
{
    cr_assert_eq(read_words("--data /tmp/x --checkpoint-size 3M --checkpoint-interval 90"),
                 CONFIG_RUN, "%s", config.error);
    cr_assert_eq(config.checkpoint_size, 3 << 20);
    cr_assert_eq(config.checkpoint_interval_s, 90);
}

Test(config, what_is_wrong_is_refused_by_name)
{
    setenv("CUBBY_DATA", "/tmp/somewhere", 1);
    REFUSES("--listn tcp://127.0.0.1:1", "--listn");
    REFUSES("--listen", "needs a value");
    REFUSES("--listen udp://127.0.0.1:1", "udp://");
    REFUSES("--listen tcp://127.0.0.1:65536", "65536");
    REFUSES("--listen tcp://127.0.0.1", "port");
    REFUSES("--listen tcp://:7420", "no address");
    REFUSES("--listen ipc://", "no path");
    REFUSES("--listen ipc://@", "no path");
    REFUSES("--listen ws://127.0.0.1:1", "give tcp://ADDRESS:PORT or ipc://PATH");
    REFUSES("--publish tcp://127.0.0.1:12x", "12x");
    REFUSES("--publish-queue 1", "at least 16M");
    REFUSES("--publish-queue much", "much");
    REFUSES("--engine sqlite", "sqlite");
    REFUSES("--durability sometimes", "always, interval or none");
    REFUSES("--log-retain 5X", "5X");
    REFUSES("--log-retain -1", "-1");
    REFUSES("--memory-limit 99999999999999G", "99999999999999G");
    REFUSES("--eviction lru", "none or sieve");
    REFUSES("--sync-interval 0 --durability interval", "from 1 to");
    REFUSES("--checkpoint-size 1T", "1T");
    REFUSES("--checkpoint-interval 5m", "5m");
    REFUSES("--checkpoint-interval 99999999999", "from 0 to");
    REFUSES("--verbose=yes", "takes no value");
    REFUSES("--durability none --durability none", "twice");
    REFUSES("serve", "serve");
}

Test(config, an_option_is_not_taken_for_the_value_of_another)
{
    REFUSES("--data --listen tcp://127.0.0.1:1", "--data needs a value: DIR, and '--listen'");
    REFUSES("--check --verbose", "--check needs a value");
    REFUSES("--config --verbose", "--config needs a value: FILE");
    REFUSES("--data -h", "--data=-h");
    cr_assert_eq(read_words("--data=--listen"), CONFIG_RUN, "%s", config.error);
    cr_assert_str_eq(config.data, "--listen");
    config_free(&config);
    cr_assert_eq(read_words("--data ./--listen --listen ipc://@abstract"), CONFIG_RUN, "%s",
                 config.error);
    cr_assert_str_eq(config.data, "./--listen");
}

Test(config, what_contradicts_itself_is_refused)
{
    REFUSES("--data none --durability always", "--data none");
    REFUSES("--data none --durability interval", "--data none");
    REFUSES("--data /tmp/x --sync-interval 5", "--durability interval");
    REFUSES("--data none --checkpoint-size 1M", "--data none");
    REFUSES("--data none --checkpoint-interval 60", "--data none");
    REFUSES("--data none --eviction sieve", "--memory-limit");
    REFUSES("--data /tmp/x --engine lmdb --memory-limit 1G --eviction sieve", "--engine memory");
}

Test(config, eviction_goes_with_a_limit)
{
    cr_assert_eq(read_words("--data none --memory-limit 1M"), CONFIG_RUN, "%s", config.error);
    cr_assert_not(config.evicts);
    config_free(&config);
    cr_assert_eq(read_words("--data none --memory-limit 1M --eviction sieve"), CONFIG_RUN, "%s",
                 config.error);
    cr_assert(config.evicts);
    cr_assert_eq(config.memory_limit, 1 << 20);
}

Test(config, help_and_version_are_found)
{
    cr_assert_eq(read_words("--help"), CONFIG_HELP);
    cr_assert_eq(read_words("--version"), CONFIG_VERSION);
}

static void write_file(char *path, const char *text)
{
    strcpy(path, "/tmp/cubby-config-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static enum config_result read_with_file(const char *text, const char *more)
{
    char path[32];
    char words[128];
    write_file(path, text);
    snprintf(words, sizeof words, "--config %s %s", path, more);
    enum config_result result = read_words(words);
    unlink(path);
    return result;
}

Test(config, the_file_has_the_same_names_and_the_command_line_wins)
{
    cr_assert_eq(read_with_file("# comment\nlisten = \"ipc:///tmp/a\"\ndata = none # here\n"
                                "durability = none\nlog-retain = 1M\n\nverbose = true\n",
                                "--listen ipc:///tmp/b"),
                 CONFIG_RUN, "%s", config.error);
    cr_assert_eq(config.listen.count, 1);
    cr_assert_str_eq(config.listen.names[0], "ipc:///tmp/b");
    cr_assert_null(config.data);
    cr_assert_eq(config.log_retain, 1 << 20);
}

Test(config, a_broken_file_is_refused_by_line_and_reason)
{
    static const struct {
        const char *text;
        const char *line;
        const char *reason;
    } cases[] = {
        {"data = none\n\nlistn = ipc:///a\n", ":3: ", "listn"},
        {"data = none\nlisten ipc\n", ":2: ", "ZPL"},
        {"data = \"none\n", ":1: ", "ZPL"},
        {"data = none\n    engine = memory\n", ":2: ", "indented"},
        {"data = none\nlog-retain = much\n", ":2: ", "much"},
        {"verbose = maybe\n", ":1: ", "maybe"},
        {"data = none\ndata = none\n", ":2: ", "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(read_with_file(cases[i].text, ""), CONFIG_WRONG, "case %zu", i);
        cr_assert(strstr(config.error, cases[i].line) != NULL, "case %zu: %s", i, config.error);
        cr_assert(strstr(config.error, cases[i].reason) != NULL, "case %zu: %s", i, config.error);
        config_free(&config);
    }
    REFUSES("--config /tmp/cubby-there-is-no-such-file", "No such file");
}
