/*
 * Configuration: what the command line, the configuration file and the environment ask for.
 * The options are the rows of options.def; both sources set them by the same names and the same
 * functions, and the command line wins. Nothing wrong is replaced by a default: it is an error.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include "store/store.h"

enum {
    CONFIG_MAX_ENDPOINTS = 16, /* of each socket */
    CONFIG_MAX_ERROR = 512,
};

#define CONFIG_DEFAULT_LISTEN                "tcp://127.0.0.1:7420"
#define CONFIG_DEFAULT_PUBLISH               "tcp://127.0.0.1:7421"
#define CONFIG_DEFAULT_PUBLISH_QUEUE         (UINT64_C(1) << 30)
#define CONFIG_LEAST_PUBLISH_QUEUE           (UINT64_C(16) << 20)
#define CONFIG_DEFAULT_LOG_RETAIN            (UINT64_C(64) << 20)
#define CONFIG_DEFAULT_CHECKPOINT_SIZE       (UINT64_C(256) << 20)
#define CONFIG_DEFAULT_CHECKPOINT_INTERVAL_S 3600

struct endpoints {
    char *names[CONFIG_MAX_ENDPOINTS];
    int count;
};

struct config {
    struct endpoints listen;
    struct endpoints publish;
    uint64_t publish_queue; /* bytes that wait for subscribers; UINT64_MAX: no limit */
    char *data;             /* NULL: none */
    bool data_given;
    char *engine; /* NULL: what the directory has */
    enum store_durability durability;
    bool durability_given;
    uint64_t sync_interval_ms;
    bool sync_interval_given;
    uint64_t log_retain;
    uint64_t checkpoint_size;       /* bytes; 0: never */
    uint64_t checkpoint_interval_s; /* 0: never */
    bool checkpoint_given;          /* one of these two */
    uint64_t memory_limit;          /* 0: none */
    bool evicts;                    /* keys, at the limit */
    bool verbose;
    char *restore;                /* a backup to make the data directory of; NULL: serve */
    char *check;                  /* a data directory to check instead, */
    char *salvage;                /* or one to save into `data` what is whole of it */
    char error[CONFIG_MAX_ERROR]; /* one line, where the usage was wrong */
};

enum config_result {
    CONFIG_RUN,
    CONFIG_HELP,    /* --help was asked for */
    CONFIG_VERSION, /* --version was */
    CONFIG_WRONG,   /* wrong usage; config.error says what */
};

/*
 * Fills `config` from the arguments and, where they name one, the configuration file. config_free
 * in every case.
 */
enum config_result config_read(struct config *config, int argc, char **argv);

void config_free(struct config *config);

/* The text of --help, to standard output. */
void config_print_help(void);

/* "always", "interval" or "none". */
const char *config_durability_name(enum store_durability durability);

#endif
