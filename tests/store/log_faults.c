/* The log on a disk that fails, fills up or loses power: struct log_io of a test's own. */
#include "tests/store/log_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    SMALL = 100,
    KEPT = LOG_MIN_SEGMENT_SIZE / 4, /* in reserve, of segments that are so small */
    SECTOR = 512,
    POWER_STEPS = 400,
    POWER_SEEDS = 4,
    MAX_WRITES = 4096,
    HEAL_MS = 10000,
};

/* What was written and not synced since, and what was there before. */
struct write {
    ino_t file;
    uint64_t offset; /* of whole sectors, */
    size_t size;     /* likewise */
    uint8_t *before;
};

struct disk {
    struct log_io io;
    atomic_bool full;                /* no zeros can be written: no segment prepared */
    atomic_int writes_before_errors; /* then */
    atomic_int write_errors;         /* so many writes of groups fail, */
    atomic_int cause;                /* with this */
    atomic_int sync_errors;
    atomic_size_t most;    /* bytes that one write takes at most, 0: all */
    atomic_bool interrupt; /* every other call is interrupted */
    atomic_uint calls;
    atomic_size_t zeros; /* bytes of them that were written */
    atomic_bool dead;    /* nothing is written or synced any more */

    pthread_mutex_t lock;
    bool recording;
    struct write writes[MAX_WRITES];
    size_t count;
};

static void record(struct disk *disk, int file, size_t size, off_t offset)
{
    struct stat status;
    cr_assert_eq(fstat(file, &status), 0);
    uint64_t from = (uint64_t)offset / SECTOR * SECTOR;
    uint64_t to = ((uint64_t)offset + size + SECTOR - 1) / SECTOR * SECTOR;
    struct write write = {.file = status.st_ino, .offset = from, .size = to - from};
    write.before = calloc(1, write.size);
    cr_assert(pread(file, write.before, write.size, (off_t)from) >= 0);
    cr_assert(disk->count < MAX_WRITES);
    disk->writes[disk->count++] = write;
}

static ssize_t disk_write(struct disk *disk, int file, const void *bytes, size_t size, off_t offset)
{
    static const uint8_t zeros[8];
    bool prepares = size >= sizeof(zeros) && memcmp(bytes, zeros, sizeof(zeros)) == 0;
    if (disk->dead) {
        errno = EIO;
        return -1;
    }
    if (disk->interrupt && disk->calls++ % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    if (prepares && disk->full) {
        errno = ENOSPC;
        return -1;
    }
    if (!prepares && disk->writes_before_errors > 0) {
        disk->writes_before_errors--;
    } else if (!prepares && disk->write_errors > 0) {
        disk->write_errors--;
        errno = disk->cause;
        return -1;
    }
    if (disk->most > 0 && size > disk->most)
        size = disk->most;
    if (disk->recording)
        record(disk, file, size, offset);
    if (prepares)
        disk->zeros += size;
    return pwrite(file, bytes, size, offset);
}

static ssize_t io_pwrite(void *context, int file, const void *bytes, size_t size, off_t offset)
{
    struct disk *disk = context;
    pthread_mutex_lock(&disk->lock);
    ssize_t written = disk_write(disk, file, bytes, size, offset);
    pthread_mutex_unlock(&disk->lock);
    return written;
}

/* What is synced cannot be lost. */
static void forget_writes(struct disk *disk, ino_t file)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->count; i++) {
        if (disk->writes[i].file == file)
            free(disk->writes[i].before);
        else
            disk->writes[kept++] = disk->writes[i];
    }
    disk->count = kept;
}

static int io_fdatasync(void *context, int file)
{
    struct disk *disk = context;
    struct stat status;
    if (disk->dead || disk->sync_errors > 0) {
        disk->sync_errors -= disk->sync_errors > 0;
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&disk->lock);
    if (disk->recording && fstat(file, &status) == 0)
        forget_writes(disk, status.st_ino);
    pthread_mutex_unlock(&disk->lock);
    return 0;
}

static struct disk *disk_new(struct fixture *f)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    disk->io = (struct log_io){.pwrite = io_pwrite, .fdatasync = io_fdatasync, .context = disk};
    pthread_mutex_init(&disk->lock, NULL);
    f->options.io = &disk->io;
    return disk;
}

static void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < disk->count; i++)
        free(disk->writes[i].before);
    pthread_mutex_destroy(&disk->lock);
    free(disk);
}

Test(preparing, is_not_done_again_for_segments_that_are_let_go_of)
{
    enum { SEGMENTS = 12, GROUP = LOG_MIN_SEGMENT_SIZE / 2 };
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit_many(f, SEGMENTS, GROUP);
    log_trim(f->log, log_position(f->log), 0);
    size_t before = disk->zeros;
    cr_assert_geq(before, (size_t)SEGMENTS * LOG_MIN_SEGMENT_SIZE);
    commit_many(f, SEGMENTS - 2, GROUP);
    cr_expect_leq(disk->zeros - before, LOG_MIN_SEGMENT_SIZE, "one may have been on its way");
    fixture_free(f);
    disk_free(disk);
}

Test(preparing, writes_no_zeros_for_large_groups)
{
    enum { SEGMENTS = 6, SEGMENT = 4 << 20, GROUP = SEGMENT / 8 };
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    f->options.segment_size = SEGMENT;
    start_well(f);
    commit_many(f, (size_t)7 * SEGMENTS, GROUP);
    cr_expect_leq(disk->zeros, (size_t)2 * SEGMENT, "until the groups were known");
    size_t before = disk->zeros;
    commit_many(f, (size_t)2 * SEGMENT / 8000, 8000);
    cr_expect_geq(disk->zeros - before, SEGMENT, "for small ones again");
    restart(f);
    cr_expect(saw_all(f));
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_a_sync_are_final)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit_many(f, 3, SMALL);
    cr_assert_eq(log_sync_count(f->log), 3);
    disk->sync_errors = 1;
    cr_assert_eq(append(f, 4, SMALL), 0);
    cr_assert_eq(log_commit(f->log), STORE_IO);
    cr_assert_not_null(strstr(log_failure(f->log), "fdatasync of log-0000000001 failed"), "%s",
                       log_failure(f->log));
    cr_assert_eq(log_synced(f->log), 3);
    cr_assert_eq(append(f, 5, SMALL), 0);
    cr_assert_eq(log_commit(f->log), STORE_IO, "the next sync would work, but not be trusted");
    cr_assert_eq(log_sync(f->log), STORE_IO);
    log_trim(f->log, log_position(f->log), 0);
    cr_assert_eq(log_close(&f->log), STORE_IO);
    start_well(f);
    cr_assert(f->seen.count == 3 || f->seen.count == 4);
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_an_interval_sync_are_final)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    f->options.durability = LOG_INTERVAL;
    start_well(f);
    commit_many(f, 20, 10000);
    disk->sync_errors = 1;
    cr_assert_eq(log_sync(f->log), STORE_IO);
    cr_assert_eq(log_sync(f->log), STORE_IO);
    cr_assert_eq(log_synced(f->log), 0);
    cr_assert_eq(append(f, 21, SMALL), 0);
    cr_assert_eq(log_commit(f->log), STORE_IO);
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_a_write_are_final)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit_many(f, 3, SMALL);
    disk->cause = EIO;
    disk->write_errors = 1;
    cr_assert_eq(append(f, 4, SMALL), 0);
    cr_assert_eq(log_commit(f->log), STORE_IO);
    cr_assert_not_null(strstr(log_failure(f->log), "write of log-0000000001 failed"), "%s",
                       log_failure(f->log));
    cr_assert_eq(log_commit(f->log), STORE_IO);
    cr_assert_eq(log_position(f->log), 3);
    cr_assert_eq(log_close(&f->log), STORE_IO);
    start_well(f);
    cr_assert(saw(f, 0, 3));
    fixture_free(f);
    disk_free(disk);
}

Test(faults, that_interrupt_or_shorten_a_write_are_none)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    disk->interrupt = true;
    disk->most = 777;
    start_well(f);
    commit_many(f, 20, 10000);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
    disk_free(disk);
}

/* A file system that copies on write may lack space for prepared blocks as well. */
Test(faults, of_space_in_a_commit_leave_the_group_pending)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    disk->cause = ENOSPC;
    start_well(f);
    for (size_t i = 0; i < 30; i++) {
        cr_assert_eq(append(f, i + 1, 7000), 0);
        size_t pending = log_pending(f->log);
        disk->write_errors = (int)(i % 3);
        for (size_t error = 0; error < i % 3; error++) {
            cr_assert_eq(log_commit(f->log), STORE_FULL);
            cr_assert_eq(log_position(f->log), i);
            cr_assert_eq(log_pending(f->log), pending);
        }
        cr_assert_eq(log_commit(f->log), 0);
    }
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
    disk_free(disk);
}

/* Both in the segment that is being written, and where the group would open another. */
Test(faults, of_space_halfway_through_a_group_leave_no_trace_of_it)
{
    for (size_t groups = 1; groups <= 3; groups++) {
        struct fixture *f = fixture_new();
        struct disk *disk = disk_new(f);
        start_well(f);
        commit_many(f, groups, 20000);
        disk->most = 6000;
        disk->writes_before_errors = 2;
        disk->write_errors = 1;
        disk->cause = ENOSPC;
        cr_assert_eq(append(f, f->seq + 1, 20000), 0);
        cr_assert_eq(log_commit(f->log), STORE_FULL);
        cr_assert_eq(disk->writes_before_errors, 0);
        log_discard(f->log);
        entries_truncate(&f->expected, groups);
        if (groups % 2 == 0)
            commit(f, SMALL);
        restart(f);
        cr_assert(saw_all(f));
        commit_many(f, 10, 15000);
        restart(f);
        cr_assert(saw_all(f));
        fixture_free(f);
        disk_free(disk);
    }
}

/* Fills the log with groups of `size` until a reserve says no; each reserve is kept. */
static size_t fill_up(struct fixture *f, size_t size, bool reserved)
{
    size_t groups = 0;
    while (log_reserve(f->log, size, reserved) == 0) {
        commit(f, size);
        groups++;
        cr_assert(groups < 3000);
    }
    cr_assert_eq(log_reserve(f->log, size, reserved), STORE_FULL);
    return groups;
}

static void wait_for_space(struct fixture *f)
{
    struct timespec pause = {.tv_nsec = 1000000};
    int left_ms = HEAL_MS;
    while (log_reserve(f->log, SMALL, false) == STORE_FULL && left_ms-- > 0)
        nanosleep(&pause, NULL);
    cr_assert(left_ms > 0);
}

Test(faults, of_space_leave_a_reserve_and_heal_by_themselves)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit(f, SMALL);
    disk->full = true;
    fill_up(f, 1000, false);
    size_t groups = fill_up(f, 1000, true);
    cr_assert(groups >= KEPT / 1100 - 1 && groups <= KEPT / 1000 + 1, "%zu", groups);
    cr_assert_eq(append(f, f->seq + 1, 5000), 0);
    cr_assert_eq(log_commit(f->log), STORE_FULL, "nobody reserved it");
    log_discard(f->log);
    entries_truncate(&f->expected, f->expected.count - 1);
    disk->full = false;
    wait_for_space(f);
    commit_many(f, 20, 10000);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_space_end_when_segments_are_let_go_of)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit_many(f, 20, 10000);
    disk->full = true;
    fill_up(f, 1000, false);
    log_trim(f->log, log_position(f->log), 0);
    cr_assert_eq(log_reserve(f->log, 1000, false), 0);
    commit_many(f, 5, 1000);
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_space_refuse_a_large_group_and_take_a_small_one)
{
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    commit(f, SMALL);
    cr_assert_eq(log_reserve(f->log, 300000, false), 0);
    commit(f, 300000);
    commit(f, SMALL); /* so that groups are not large on average: this disk is full of zeros only */
    cr_assert_eq(log_reserve(f->log, LOG_MIN_SEGMENT_SIZE / 2, false), 0);
    disk->full = true;
    cr_assert_eq(log_reserve(f->log, 1000000, false), STORE_FULL);
    cr_assert_eq(log_reserve(f->log, SIZE_MAX - 8, false), STORE_FULL);
    cr_assert_eq(log_reserve(f->log, LOG_MAX_GROUP, true), STORE_FULL);
    cr_assert_eq(log_reserve(f->log, SMALL, false), 0);
    commit(f, SMALL);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
    disk_free(disk);
}

/* Whatever the disk does, what was reserved can be written. */
Test(faults, of_space_never_meet_a_commit_that_was_reserved)
{
    static const size_t sizes[] = {50, 500, 5000, 50000, 150000};
    uint64_t random = test_seed();
    fprintf(stderr, "CUBBY_SEED=%" PRIu64 "\n", random);
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    start_well(f);
    size_t refused = 0;
    for (size_t step = 0; step < 600; step++) {
        disk->full = draw(&random, 3) > 0;
        size_t records = 1 + draw(&random, 5);
        for (size_t i = 0; i < records; i++) {
            size_t size = draw(&random, sizes[draw(&random, 5)]);
            if (log_reserve(f->log, size, draw(&random, 2) == 0) != 0)
                refused++;
            else
                cr_assert_eq(append(f, ++f->seq, size), 0);
        }
        cr_assert_eq(log_commit(f->log), 0);
        if (draw(&random, 10) == 0) {
            log_trim(f->log, log_position(f->log), 0);
            f->options.applied = log_position(f->log);
        }
    }
    cr_assert(refused > 0);
    uint64_t position = log_position(f->log);
    disk->full = false;
    restart(f);
    cr_assert_eq(log_position(f->log), position);
    fixture_free(f);
    disk_free(disk);
}

/* A sector of a file that was written and not synced: what it may be after the power is back. */
struct sector {
    ino_t file;
    uint64_t offset;
    uint64_t versions;
    const uint8_t *chosen; /* NULL: as it is now */
};

static struct sector *find_sector(struct sector *sectors, size_t *count, ino_t file,
                                  uint64_t offset)
{
    for (size_t i = 0; i < *count; i++)
        if (sectors[i].file == file && sectors[i].offset == offset)
            return &sectors[i];
    sectors[*count] = (struct sector){.file = file, .offset = offset, .versions = 1};
    return &sectors[(*count)++];
}

static int open_by_inode(const struct fixture *f, ino_t file)
{
    int found = -1;
    DIR *directory = opendir(f->directory);
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_ino == file)
            found = openat(dirfd(directory), entry->d_name, O_WRONLY);
    closedir(directory);
    return found;
}

/* Of each sector that was not synced one of its versions is left, whichever. */
static void lose_power(const struct fixture *f, struct disk *disk, uint64_t *random)
{
    size_t count = 0;
    size_t most = 0;
    for (size_t i = 0; i < disk->count; i++)
        most += disk->writes[i].size / SECTOR;
    struct sector *sectors = calloc(most + 1, sizeof(*sectors));
    bool harsh = draw(random, 4) == 0;
    for (size_t i = 0; i < disk->count; i++) {
        const struct write *write = &disk->writes[i];
        for (size_t at = 0; at < write->size; at += SECTOR) {
            struct sector *sector = find_sector(sectors, &count, write->file, write->offset + at);
            sector->versions++;
            if (draw(random, sector->versions + (harsh ? 0 : 8)) == 0)
                sector->chosen = write->before + at;
        }
    }
    for (size_t i = 0; i < count; i++) {
        int file = sectors[i].chosen != NULL ? open_by_inode(f, sectors[i].file) : -1;
        if (file < 0)
            continue;
        cr_assert_eq(pwrite(file, sectors[i].chosen, SECTOR, (off_t)sectors[i].offset), SECTOR);
        close(file);
    }
    free(sectors);
    for (size_t i = 0; i < disk->count; i++)
        free(disk->writes[i].before);
    disk->count = 0;
}

/*
 * The power fails, between two commits or within one. What is there afterwards is what was
 * written, up to some point behind all that was durable.
 */
static void fail_power(struct fixture *f, struct disk *disk, uint64_t *random)
{
    bool always = f->options.durability == LOG_ALWAYS;
    uint64_t durable = always ? log_position(f->log) : log_synced(f->log);
    if (draw(random, 2) == 0) {
        disk->sync_errors = 1;
        cr_assert_eq(append(f, ++f->seq, draw(random, 3000)), 0);
        (void)log_commit(f->log);
    }
    disk->dead = true;
    cr_assert_neq(log_close(&f->log), STORE_CORRUPT);
    lose_power(f, disk, random);
    disk->dead = false;
    disk->sync_errors = 0;
    start_well(f);
    size_t from = 0;
    while (from < f->expected.count && f->expected.list[from].position <= f->options.applied)
        from++;
    size_t to = from + f->seen.count;
    cr_assert(to <= f->expected.count);
    cr_assert(saw(f, from, to));
    cr_assert(log_position(f->log) >= durable, "group %" PRIu64 " of %" PRIu64,
              log_position(f->log), durable);
    entries_truncate(&f->expected, to);
    f->seq = to > 0 ? f->expected.list[to - 1].seq : 0;
}

static void run_power(enum log_durability durability, uint64_t random)
{
    static const size_t sizes[] = {30, 300, 3000, 30000};
    struct fixture *f = fixture_new();
    struct disk *disk = disk_new(f);
    fprintf(stderr, "CUBBY_SEED=%" PRIu64 "\n", random);
    disk->recording = true;
    f->options.durability = durability;
    start_well(f);
    for (size_t step = 0; step < POWER_STEPS; step++) {
        uint64_t what = draw(&random, 100);
        if (what < 85) {
            commit(f, draw(&random, sizes[draw(&random, 4)]));
        } else if (what < 92) {
            cr_assert_eq(log_sync(f->log), 0);
        } else if (what < 94) {
            log_trim(f->log, log_position(f->log), 0);
            f->options.applied = log_position(f->log);
        } else {
            fail_power(f, disk, &random);
        }
    }
    fixture_free(f);
    disk_free(disk);
}

Test(faults, of_power_lose_nothing_that_was_acknowledged)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < POWER_SEEDS; i++)
        run_power(LOG_ALWAYS, seed + i);
}

Test(faults, of_power_leave_a_part_without_holes_of_what_was_not_synced)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < POWER_SEEDS; i++)
        run_power(LOG_INTERVAL, seed + i);
}
