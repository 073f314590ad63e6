#include "daemon/config.h"

#include <czmq.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum {
    MAX_LINE = 1024, /* of the configuration file: zconfig cuts longer ones */
    MAX_SYNC_INTERVAL_MS = 3600 * 1000,
    MAX_CHECKPOINT_INTERVAL_S = 365 * 24 * 3600,
    DEFAULT_SYNC_INTERVAL_MS = 1000,
};

/* Where the option that is being set comes from. */
struct source {
    struct config *config;
    char place[MAX_LINE]; /* "" for the command line, "FILE:LINE: " for the file */
    unsigned seen;        /* options that this source has set: bits of enum option_number */
    unsigned locked;      /* options that the command line has set: the file may not */
};

enum option_number {
#define OPTION(name, text, argument, help) OPTION_##name,
#include "daemon/options.def"
#undef OPTION
    OPTIONS
};

static const char *const durability_names[] = {
    [STORE_ALWAYS] = "always", [STORE_INTERVAL] = "interval", [STORE_NONE] = "none"};

const char *config_durability_name(enum store_durability durability)
{
    return durability_names[durability];
}

__attribute__((format(printf, 2, 3))) static int wrong(struct source *source, const char *format,
                                                       ...)
{
    va_list arguments;
    int size = snprintf(source->config->error, CONFIG_MAX_ERROR, "%s", source->place);
    va_start(arguments, format);
    if (size >= 0 && size < CONFIG_MAX_ERROR)
        vsnprintf(source->config->error + size, (size_t)(CONFIG_MAX_ERROR - size), format,
                  arguments);
    va_end(arguments);
    return -1;
}

static int copy(struct source *source, char **field, const char *value)
{
    free(*field);
    *field = strdup(value);
    return *field != NULL ? 0 : wrong(source, "out of memory");
}

/* A number of bytes, with K, M or G behind it for powers of 1,024. */
static int parse_size(const char *text, uint64_t *size)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return -1;
    errno = 0;
    *size = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (shift != 0)
        end++;
    if (errno != 0 || *end != '\0' || *size > UINT64_MAX >> shift >> 1)
        return -1;
    *size <<= shift;
    return 0;
}

static int set_size(struct source *source, const char *name, const char *value, uint64_t *size)
{
    if (parse_size(value, size) == 0)
        return 0;
    return wrong(source, "%s: '%s' is not a size: give a number of bytes, or one with K, M or G",
                 name, value);
}

/* libzmq takes any number and uses its last 16 bits. */
static bool has_port(const char *tcp_endpoint)
{
    const char *port = strrchr(tcp_endpoint, ':') + 1;
    size_t digits = strspn(port, "0123456789");
    if (strcmp(port, "*") == 0)
        return true;
    return digits > 0 && digits <= 5 && port[digits] == '\0' && strtoul(port, NULL, 10) <= 65535;
}

static int add_endpoint(struct source *source, const char *name, struct endpoints *endpoints,
                        const char *value)
{
    if (strncmp(value, "tcp://", 6) != 0 && strncmp(value, "ipc://", 6) != 0)
        return wrong(source, "%s: '%s' is not an endpoint: give tcp://ADDRESS:PORT or ipc://PATH",
                     name, value);
    if (value[0] == 't' && !has_port(value))
        return wrong(source, "%s: '%s' has no port from 0 to 65535, nor *", name, value);
    if (strchr(":@", value[6]) != NULL && (value[0] == 't' || value[6] == '\0' || value[7] == '\0'))
        return wrong(source, "%s: '%s' has no %s", name, value,
                     value[0] == 't' ? "address before its port" : "path");
    if (endpoints->count == CONFIG_MAX_ENDPOINTS)
        return wrong(source, "%s: more than %d endpoints", name, CONFIG_MAX_ENDPOINTS);
    return copy(source, &endpoints->names[endpoints->count++], value);
}

/* One function for each row of options.def. */

static int set_listen(struct source *source, const char *value)
{
    return add_endpoint(source, "listen", &source->config->listen, value);
}

static int set_publish(struct source *source, const char *value)
{
    return add_endpoint(source, "publish", &source->config->publish, value);
}

static int set_publish_queue(struct source *source, const char *value)
{
    uint64_t *size = &source->config->publish_queue;
    if (set_size(source, "publish-queue", value, size) != 0)
        return -1;
    if (*size == 0)
        *size = UINT64_MAX;
    if (*size >= CONFIG_LEAST_PUBLISH_QUEUE)
        return 0;
    return wrong(source, "publish-queue: '%s' is too little: give at least 16M, or 0 for no limit",
                 value);
}

static int set_data(struct source *source, const char *value)
{
    struct config *config = source->config;
    config->data_given = true;
    if (strcmp(value, "none") == 0) {
        free(config->data);
        config->data = NULL;
        return 0;
    }
    if (value[0] == '\0')
        return wrong(source, "data: give a directory, or none");
    return copy(source, &config->data, value);
}

static int set_engine(struct source *source, const char *value)
{
    if (!store_has_engine(value))
        return wrong(source, "engine: there is no '%s'; this version has %s", value,
                     store_engines());
    return copy(source, &source->config->engine, value);
}

static int set_durability(struct source *source, const char *value)
{
    for (size_t i = 0; i < sizeof durability_names / sizeof durability_names[0]; i++) {
        if (strcmp(value, durability_names[i]) != 0)
            continue;
        source->config->durability = (enum store_durability)i;
        source->config->durability_given = true;
        return 0;
    }
    return wrong(source, "durability: there is no '%s'; give always, interval or none", value);
}

/* A decimal number from `least` to `most`; `unit` is for the error. */
static int set_number(struct source *source, const char *name, const char *value, uint64_t least,
                      uint64_t most, const char *unit, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(value, &end, 10);
    if (value[0] >= '0' && value[0] <= '9' && errno == 0 && *end == '\0' && *number >= least &&
        *number <= most)
        return 0;
    return wrong(source, "%s: '%s' is not a number of %s from %" PRIu64 " to %" PRIu64, name, value,
                 unit, least, most);
}

static int set_sync_interval(struct source *source, const char *value)
{
    source->config->sync_interval_given = true;
    return set_number(source, "sync-interval", value, 1, MAX_SYNC_INTERVAL_MS, "ms",
                      &source->config->sync_interval_ms);
}

static int set_log_retain(struct source *source, const char *value)
{
    return set_size(source, "log-retain", value, &source->config->log_retain);
}

static int set_checkpoint_size(struct source *source, const char *value)
{
    source->config->checkpoint_given = true;
    return set_size(source, "checkpoint-size", value, &source->config->checkpoint_size);
}

static int set_checkpoint_interval(struct source *source, const char *value)
{
    source->config->checkpoint_given = true;
    return set_number(source, "checkpoint-interval", value, 0, MAX_CHECKPOINT_INTERVAL_S, "seconds",
                      &source->config->checkpoint_interval_s);
}

static int set_memory_limit(struct source *source, const char *value)
{
    return set_size(source, "memory-limit", value, &source->config->memory_limit);
}

static int set_eviction(struct source *source, const char *value)
{
    source->config->evicts = strcmp(value, "sieve") == 0;
    if (source->config->evicts || strcmp(value, "none") == 0)
        return 0;
    return wrong(source, "eviction: there is no '%s'; give none or sieve", value);
}

/* What is done once and not at every start does not belong into a file. */
static int set_once(struct source *source, const char *name, char **field, const char *value)
{
    if (source->place[0] != '\0')
        return wrong(source, "%s goes on the command line only", name);
    if (value[0] == '\0')
        return wrong(source, "%s: the name is empty", name);
    return copy(source, field, value);
}

static int set_restore(struct source *source, const char *value)
{
    return set_once(source, "restore", &source->config->restore, value);
}

static int set_check(struct source *source, const char *value)
{
    return set_once(source, "check", &source->config->check, value);
}

static int set_salvage(struct source *source, const char *value)
{
    return set_once(source, "salvage", &source->config->salvage, value);
}

static int set_verbose(struct source *source, const char *value)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return wrong(source, "verbose: '%s' is neither true nor false", value);
    source->config->verbose = strcmp(value, "true") == 0;
    return 0;
}

static const struct option {
    const char *name;
    const char *argument;
    const char *help;
    int (*set)(struct source *source, const char *value);
} options[OPTIONS] = {
#define OPTION(name, text, argument, help) {text, argument, help, set_##name},
#include "daemon/options.def"
#undef OPTION
};

static int find_option(const char *name, size_t size)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0)
            return i;
    return -1;
}

static int set_option(struct source *source, int number, const char *value)
{
    unsigned bit = 1U << number;
    bool repeatable = number == OPTION_listen || number == OPTION_publish;
    if ((source->locked & bit) != 0)
        return 0;
    if ((source->seen & bit) != 0 && !repeatable)
        return wrong(source, "%s is given twice", options[number].name);
    source->seen |= bit;
    return options[number].set(source, value);
}

/* The configuration file. */

/* zconfig writes what is wrong to standard output, with its own idea of the line: not so here. */
static zconfig_t *parse_quietly(const char *line)
{
    fflush(stdout);
    int output = dup(STDOUT_FILENO);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (output >= 0 && nowhere >= 0)
        dup2(nowhere, STDOUT_FILENO);
    zconfig_t *root = zconfig_str_load(line);
    fflush(stdout);
    if (output >= 0)
        dup2(output, STDOUT_FILENO);
    close(output);
    close(nowhere);
    return root;
}

static int set_from_line(struct source *source, const char *line)
{
    zconfig_t *root = parse_quietly(line);
    if (root == NULL)
        return wrong(source, "cannot be read as ZPL: write NAME = VALUE");
    int rc = 0;
    zconfig_t *item = zconfig_child(root);
    if (item != NULL) {
        const char *name = zconfig_name(item);
        int option = find_option(name, strlen(name));
        if (option < 0)
            rc = wrong(source, "there is no option '%s'; see cubbyd --help", name);
        else
            rc = set_option(source, option, zconfig_value(item));
    }
    zconfig_destroy(&root);
    return rc;
}

static int check_line(struct source *source, const char *line, ssize_t size)
{
    if (size >= MAX_LINE)
        return wrong(source, "is longer than %d bytes", MAX_LINE - 1);
    if (strlen(line) != (size_t)size)
        return wrong(source, "has a zero byte");
    if ((line[0] == ' ' || line[0] == '\t') && line[strspn(line, " \t\r\n")] != '\0' &&
        line[strspn(line, " \t")] != '#')
        return wrong(source, "is indented: all options are at the top level");
    return 0;
}

/* As getline, but no more than may be in one: what has no end is no configuration. */
static ssize_t read_line(FILE *file, char line[MAX_LINE + 1])
{
    ssize_t size = 0;
    int read = 0;
    while (size < MAX_LINE && read != '\n' && (read = getc(file)) != EOF)
        line[size++] = (char)read;
    line[size] = '\0';
    return size;
}

static int read_file(struct source *source, const char *path)
{
    FILE *file = fopen(path, "re");
    char line[MAX_LINE + 1];
    ssize_t size;
    int rc = 0;
    if (file == NULL)
        return wrong(source, "cannot read the configuration file %s: %s", path, strerror(errno));
    for (unsigned number = 1; rc == 0 && (size = read_line(file, line)) > 0; number++) {
        snprintf(source->place, sizeof source->place, "%s:%u: ", path, number);
        rc = check_line(source, line, size);
        if (rc == 0)
            rc = set_from_line(source, line);
    }
    source->place[0] = '\0';
    if (rc == 0 && ferror(file) != 0)
        rc = wrong(source, "cannot read the configuration file %s: %s", path, strerror(errno));
    fclose(file);
    return rc;
}

/* The command line. */

struct arguments {
    char **at;
    const char *config_path;
    enum config_result result;
};

/* The value of an option: what is behind its '=', or the next argument. */
static const char *take_value(struct arguments *arguments, const char *text, size_t name_size)
{
    if (text[name_size] == '=')
        return text + name_size + 1;
    if (arguments->at[0] == NULL)
        return NULL;
    return *arguments->at++;
}

/* What stands where a value was forgotten, rather than the name of a file. */
static bool looks_like_option(const char *value)
{
    return strncmp(value, "--", 2) == 0 || strcmp(value, "-h") == 0;
}

static int read_valued(struct source *source, struct arguments *arguments, const char *text,
                       size_t size)
{
    int number = find_option(text, size);
    bool is_config = size == strlen("config") && memcmp(text, "config", size) == 0;
    if (number < 0 && !is_config)
        return wrong(source, "there is no option --%s; see cubbyd --help", text);
    if (number >= 0 && options[number].argument == NULL)
        return text[size] == '=' ? wrong(source, "--%.*s takes no value", (int)size, text)
                                 : set_option(source, number, "true");
    const char *value = take_value(arguments, text, size);
    if (value == NULL)
        return wrong(source, "--%s needs a value: %s", text,
                     is_config ? "FILE" : options[number].argument);
    if (text[size] != '=' && looks_like_option(value))
        return wrong(source,
                     "--%s needs a value: %s, and '%s' looks like an option; if it is meant, write "
                     "--%s=%s",
                     text, is_config ? "FILE" : options[number].argument, value, text, value);
    if (!is_config)
        return set_option(source, number, value);
    if (arguments->config_path != NULL)
        return wrong(source, "config is given twice");
    arguments->config_path = value;
    return 0;
}

static int read_argument(struct source *source, struct arguments *arguments, const char *text)
{
    if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0) {
        arguments->result = CONFIG_HELP;
        return 0;
    }
    if (strcmp(text, "--version") == 0) {
        arguments->result = CONFIG_VERSION;
        return 0;
    }
    if (strncmp(text, "--", 2) != 0 || text[2] == '\0')
        return wrong(source, "'%s' is not an option; see cubbyd --help", text);
    return read_valued(source, arguments, text + 2, strcspn(text + 2, "="));
}

/* Defaults, and what does not go together. */

static int default_endpoint(struct source *source, struct endpoints *endpoints, const char *name)
{
    return endpoints->count > 0 ? 0 : copy(source, &endpoints->names[endpoints->count++], name);
}

static int default_data(struct source *source)
{
    char path[MAX_LINE];
    const char *cubby_data = getenv("CUBBY_DATA");
    const char *state_home = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (source->config->data_given)
        return 0;
    if (cubby_data != NULL && cubby_data[0] != '\0')
        return set_data(source, cubby_data);
    if (state_home != NULL && state_home[0] == '/')
        snprintf(path, sizeof path, "%s/cubby", state_home);
    else if (home != NULL && home[0] == '/')
        snprintf(path, sizeof path, "%s/.local/state/cubby", home);
    else
        return wrong(source, "there is no home for the data: give --data DIR, or --data none");
    return copy(source, &source->config->data, path);
}

static unsigned bit(enum option_number number)
{
    return 1u << number;
}

/* What is done instead of serving takes few other options. */
static int complete_rescue(struct source *source)
{
    const struct config *config = source->config;
    unsigned others = source->seen & ~(bit(OPTION_check) | bit(OPTION_verbose));
    if (config->check != NULL && others != 0)
        return wrong(source, "--check DIR goes with no other option than --verbose");
    others = source->seen &
             ~(bit(OPTION_salvage) | bit(OPTION_data) | bit(OPTION_engine) | bit(OPTION_verbose));
    if (config->salvage != NULL && others != 0)
        return wrong(source, "--salvage DIR goes with --data NEWDIR, --engine and --verbose only");
    if (config->salvage != NULL && (!config->data_given || config->data == NULL))
        return wrong(source, "--salvage DIR needs --data NEWDIR, a directory to make");
    return 0;
}

static int check_eviction(struct source *source)
{
    const struct config *config = source->config;
    if (!config->evicts)
        return 0;
    if (config->memory_limit == 0)
        return wrong(source, "--eviction sieve needs --memory-limit SIZE: where keys are evicted");
    if (config->engine != NULL && strcmp(config->engine, "memory") != 0)
        return wrong(source, "--eviction sieve goes with --engine memory only, not with %s",
                     config->engine);
    return 0;
}

static int complete(struct source *source)
{
    struct config *config = source->config;
    if (config->check != NULL || config->salvage != NULL)
        return complete_rescue(source);
    if (default_endpoint(source, &config->listen, CONFIG_DEFAULT_LISTEN) != 0 ||
        default_endpoint(source, &config->publish, CONFIG_DEFAULT_PUBLISH) != 0 ||
        default_data(source) != 0)
        return -1;
    if (config->restore != NULL && (!config->data_given || config->data == NULL))
        return wrong(source, "--restore FILE needs --data DIR, a directory to make");
    if (config->data == NULL && config->engine != NULL && strcmp(config->engine, "memory") != 0)
        return wrong(source, "--data none goes with --engine memory only, not with %s",
                     config->engine);
    if (config->data == NULL && config->durability_given && config->durability != STORE_NONE)
        return wrong(source,
                     "--data none keeps nothing on disk, so it does not go with "
                     "--durability %s",
                     config_durability_name(config->durability));
    if (config->data == NULL && config->checkpoint_given)
        return wrong(source, "--data none keeps nothing on disk, so it does not go with "
                             "--checkpoint-size and --checkpoint-interval");
    if (config->sync_interval_given && config->durability != STORE_INTERVAL)
        return wrong(source, "--sync-interval goes with --durability interval only");
    if (config->data == NULL)
        config->durability = STORE_NONE;
    return check_eviction(source);
}

enum config_result config_read(struct config *config, int argc, char **argv)
{
    struct arguments arguments = {.at = argv + (argc > 0), .result = CONFIG_RUN};
    struct source command_line = {.config = config};
    struct source file = {.config = config};
    *config = (struct config){.sync_interval_ms = DEFAULT_SYNC_INTERVAL_MS,
                              .publish_queue = CONFIG_DEFAULT_PUBLISH_QUEUE,
                              .log_retain = CONFIG_DEFAULT_LOG_RETAIN,
                              .checkpoint_size = CONFIG_DEFAULT_CHECKPOINT_SIZE,
                              .checkpoint_interval_s = CONFIG_DEFAULT_CHECKPOINT_INTERVAL_S};
    while (*arguments.at != NULL) {
        const char *text = *arguments.at++;
        if (read_argument(&command_line, &arguments, text) != 0)
            return CONFIG_WRONG;
    }
    if (arguments.result != CONFIG_RUN)
        return arguments.result;
    file.locked = command_line.seen;
    if (arguments.config_path != NULL && read_file(&file, arguments.config_path) != 0)
        return CONFIG_WRONG;
    return complete(&command_line) == 0 ? CONFIG_RUN : CONFIG_WRONG;
}

static void free_endpoints(struct endpoints *endpoints)
{
    for (int i = 0; i < endpoints->count; i++)
        free(endpoints->names[i]);
}

void config_free(struct config *config)
{
    free_endpoints(&config->listen);
    free_endpoints(&config->publish);
    free(config->data);
    free(config->engine);
    free(config->restore);
    free(config->check);
    free(config->salvage);
    *config = (struct config){0};
}

/* One row, with a column for the name and its argument that the longest of them fits into. */
static void print_option(const char *name, const char *argument, const char *help)
{
    enum { COLUMN = 31 }; /* --checkpoint-interval SECONDS */
    int size =
        printf("  --%s%s%s", name, argument != NULL ? " " : "", argument != NULL ? argument : "");
    printf("%*s  %s\n", size < COLUMN ? COLUMN - size : 0, "", help);
}

void config_print_help(void)
{
    puts("usage: cubbyd [OPTION]...\n"
         "Serves keys and values over ZeroMQ and keeps them.\n");
    for (int i = 0; i < OPTIONS; i++)
        print_option(options[i].name, options[i].argument, options[i].help);
    print_option(
        "config", "FILE",
        "read options from a ZPL file: NAME = VALUE, the same names; the command line wins");
    print_option("version", NULL, "print the version and exit");
    print_option("help", NULL, "print this and exit");
    puts("\nSIZE is a number of bytes; K, M and G behind it mean powers of 1,024.\n"
         "SIGTERM, SIGINT and SIGHUP stop it cleanly. Exit: 0 stopped, 1 failed (one line says "
         "why), 2 wrong usage.");
}
