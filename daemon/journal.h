/*
 * What the daemon says to its operator: lines on standard error, which systemd's journal takes as
 * they are. Where it is the journal that reads them, each begins with its priority (`<3>`), else
 * with the program's name.
 */
#ifndef DAEMON_JOURNAL_H
#define DAEMON_JOURNAL_H

#include <stdbool.h>

enum journal_priority {
    JOURNAL_ERROR = 3,
    JOURNAL_WARNING = 4,
    JOURNAL_NOTICE = 5,
    JOURNAL_INFO = 6, /* only with --verbose */
};

struct journal {
    bool verbose;
    bool for_systemd;
};

/* Looks whether standard error goes to the journal. */
void journal_init(struct journal *journal);

/* One line, printf style, without a newline at its end. */
void journal_say(const struct journal *journal, enum journal_priority priority, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

#endif
