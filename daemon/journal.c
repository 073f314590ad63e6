#include "daemon/journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINE = 1024 };

/* systemd names the device and inode of the stream that it reads in JOURNAL_STREAM. */
void journal_init(struct journal *journal)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device;
    unsigned long long inode;
    struct stat status;
    *journal = (struct journal){0};
    // NOLINTNEXTLINE(cert-err34-c): numbers that do not fit match no file
    if (stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
        fstat(STDERR_FILENO, &status) == 0)
        journal->for_systemd = status.st_dev == device && status.st_ino == inode;
}

void journal_say(const struct journal *journal, enum journal_priority priority, const char *format,
                 ...)
{
    char line[MAX_LINE];
    va_list arguments;
    if (priority == JOURNAL_INFO && !journal->verbose)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (journal->for_systemd)
        fprintf(stderr, "<%d>%s\n", (int)priority, line);
    else
        fprintf(stderr, "cubbyd: %s\n", line);
}
