#include "daemon/progress.h"

#include <inttypes.h>
#include <systemd/sd-daemon.h>
#include <time.h>

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_begin(struct progress *progress, const struct journal *journal)
{
    uint64_t now_ms = monotonic_ms();
    *progress =
        (struct progress){.journal = journal, .begin_ms = now_ms, .next_ms = now_ms + PROGRESS_MS};
}

uint64_t progress_took_ms(const struct progress *progress)
{
    return monotonic_ms() - progress->begin_ms;
}

void progress_show(void *context, const char *what, uint64_t done, uint64_t total)
{
    struct progress *progress = context;
    uint64_t now_ms = monotonic_ms();
    if (now_ms < progress->next_ms)
        return;
    progress->next_ms = now_ms + PROGRESS_MS;
    journal_say(progress->journal, JOURNAL_NOTICE, "reading the %s: %" PRIu64 " of %" PRIu64 " MiB",
                what, done >> 20, total >> 20);
    sd_notifyf(0,
               "STATUS=reading the %s: %" PRIu64 " of %" PRIu64 " MiB\n"
               "EXTEND_TIMEOUT_USEC=30000000",
               what, done >> 20, total >> 20);
}

void progress_warn(void *context, const char *line)
{
    journal_say(((struct progress *)context)->journal, JOURNAL_WARNING, "%s", line);
}
