#include "store/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/checkpoint.h"
#include "store/log.h"
#include "store/on_disk.h"

/*
 * The file `state`: these lines in this order, and a CRC-32C over the ones before it, in hex.
 *
 *     cubby data directory, format 1
 *     engine memory
 *     epoch 9f86d081884c7d65
 *     durability always
 *     stopped cleanly | not-yet
 *     forgotten 0
 *     log empty | begun
 *     check 1a2b3c4d
 *
 * To change it, raise DIRECTORY_FORMAT and read both.
 */
enum { MAX_STATE = 512 };

#define STATE_FORMAT                                                                               \
    "cubby data directory, format %d\nengine %15s\nepoch %16s\ndurability %15s\nstopped %15s\n"    \
    "forgotten %" SCNu64 "\nlog %15s\n"

static const char *const durability_names[] = {
    [STORE_ALWAYS] = "always", [STORE_INTERVAL] = "interval", [STORE_NONE] = "none"};

struct directory {
    char *path;
    int fd;
    int lock_fd;
};

/* A directory that was made is there after a power failure once the one above it was synced. */
static int sync_above(const char *path)
{
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash != NULL ? (size_t)(slash - path) : 0;
    if (size >= sizeof above)
        return -1;
    snprintf(above, sizeof above, "%.*s", (int)size, path);
    int fd = open(slash == NULL ? "."
                  : size == 0   ? "/"
                                : above,
                  O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static int make_one(const char *path, mode_t mode)
{
    if (mkdir(path, mode) == 0)
        return sync_above(path);
    return errno == EEXIST ? 0 : -1;
}

/* Makes the directory and those above it. */
static int make_path(char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        path[--size] = '\0';
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int rc = make_one(path, 0755);
        *slash = '/';
        if (rc != 0)
            return -1;
    }
    return make_one(path, 0700);
}

/* Who has the lock, as a text. A reader has it without writing its number there. */
static int fail_locked(const struct directory *directory, struct store_error *error)
{
    char holder[32] = "";
    ssize_t got = pread(directory->lock_fd, holder, sizeof holder - 1, 0);
    holder[got > 0 ? strcspn(holder, "\n") : 0] = '\0';
    long number = strtol(holder, NULL, 10);
    bool alive = number > 0 && (kill((pid_t)number, 0) == 0 || errno != ESRCH);
    return store_fail(error, STORE_LOCKED,
                      "the data directory %s is in use by %s%s; stop that one, or give another "
                      "directory",
                      directory->path, alive ? "process " : "another process", alive ? holder : "");
}

static int lock(struct directory *directory, struct store_error *error)
{
    char holder[32] = "";
    directory->lock_fd = openat(directory->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (directory->lock_fd < 0)
        return store_fail(error, STORE_IO, "cannot write to the data directory %s: %s",
                          directory->path, strerror(errno));
    if (flock(directory->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        int length = snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
        if (ftruncate(directory->lock_fd, 0) != 0 ||
            pwrite(directory->lock_fd, holder, (size_t)length, 0) != length)
            return store_fail(error, STORE_IO, "cannot write to %s/lock: %s", directory->path,
                              strerror(errno));
        return 0;
    }
    return fail_locked(directory, error);
}

/* Without the file nobody has it. On a medium that cannot be written to, reading it must do. */
static int lock_to_read(struct directory *directory, struct store_error *error)
{
    directory->lock_fd = openat(directory->fd, "lock", O_RDONLY | O_CLOEXEC);
    if (directory->lock_fd < 0 && errno == ENOENT)
        return 0;
    if (directory->lock_fd < 0)
        return store_fail(error, STORE_IO, "cannot read %s/lock: %s", directory->path,
                          strerror(errno));
    if (flock(directory->lock_fd, LOCK_SH | LOCK_NB) == 0)
        return 0;
    return fail_locked(directory, error);
}

/* What a start that was interrupted leaves, or a file system, is not anybody's data. */
static bool is_data(const char *name)
{
    static const char *const others[] = {".", "..", "lock", "state.tmp", "lost+found"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(name, others[i]) == 0)
            return false;
    return true;
}

bool directory_has(const struct directory *directory, const char *prefix)
{
    int copy = openat(directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    bool found = false;
    if (list == NULL)
        return true;
    for (struct dirent *entry; !found && (entry = readdir(list)) != NULL;)
        found = is_data(entry->d_name) && strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(list);
    return found;
}

int directory_each(const struct directory *directory,
                   int (*each)(void *context, const char *name, struct store_error *error),
                   void *context, struct store_error *error)
{
    int copy = openat(directory->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    int rc = 0;
    if (list == NULL) {
        rc = store_fail(error, STORE_IO, "cannot list %s: %s", directory->path, strerror(errno));
        if (copy >= 0)
            close(copy);
        return rc;
    }
    for (struct dirent *entry; rc == 0 && (entry = readdir(list)) != NULL;)
        rc = each(context, entry->d_name, error);
    closedir(list);
    return rc;
}

static int find_durability(const char *name)
{
    for (int i = 0; i < (int)(sizeof durability_names / sizeof durability_names[0]); i++)
        if (strcmp(name, durability_names[i]) == 0)
            return i;
    return -1;
}

/* Returns its size. */
static size_t write_state(char text[MAX_STATE], const struct directory_state *state)
{
    int size = snprintf(text, MAX_STATE,
                        "cubby data directory, format %d\nengine %s\nepoch %s\ndurability %s\n"
                        "stopped %s\nforgotten %" PRIu64 "\nlog %s\n",
                        DIRECTORY_FORMAT, state->engine, state->epoch,
                        durability_names[state->durability], state->clean ? "cleanly" : "not-yet",
                        state->forgotten, state->begun ? "begun" : "empty");
    size += snprintf(text + size, MAX_STATE - (size_t)size, "check %08x\n",
                     crc32c(0, text, (size_t)size));
    return (size_t)size;
}

/* What was read must be, to the byte, what would be written. */
static int parse_state(const char *text, struct directory_state *state)
{
    char durability[DIRECTORY_MAX_NAME];
    char stopped[DIRECTORY_MAX_NAME];
    char log[DIRECTORY_MAX_NAME];
    char again[MAX_STATE];
    struct directory_state read = {0};
    int format;
    // NOLINTNEXTLINE(cert-err34-c): what does not fit makes another text
    int fields = sscanf(text, STATE_FORMAT, &format, read.engine, read.epoch, durability, stopped,
                        &read.forgotten, log);
    int number = fields == 7 ? find_durability(durability) : -1;
    if (number < 0)
        return STORE_CORRUPT;
    read.durability = (enum store_durability)number;
    read.clean = strcmp(stopped, "cleanly") == 0;
    read.begun = strcmp(log, "begun") == 0;
    write_state(again, &read);
    if (strcmp(again, text) != 0)
        return STORE_CORRUPT;
    *state = read;
    return 0;
}

static int check_format(const char *path, const char *text, struct store_error *error)
{
    int format;
    // NOLINTNEXTLINE(cert-err34-c): whatever is no number is no match
    if (sscanf(text, "cubby data directory, format %d", &format) != 1)
        return store_fail(error, STORE_INVALID,
                          "%s/state is not cubby's: give an empty directory with --data", path);
    if (format != DIRECTORY_FORMAT)
        return store_fail(error, STORE_INVALID,
                          "%s has data format %d, this cubbyd reads format %d: run the version "
                          "that wrote it",
                          path, format, DIRECTORY_FORMAT);
    return 0;
}

/* The text of `state`, with a zero behind it. STORE_NOT_FOUND where there is none. */
static int read_text(const struct directory *directory, char text[MAX_STATE + 1],
                     struct store_error *error)
{
    int fd = openat(directory->fd, "state", O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return STORE_NOT_FOUND;
    ssize_t size = fd >= 0 ? read(fd, text, MAX_STATE) : -1;
    int reason = errno;
    if (fd >= 0)
        close(fd);
    if (size < 0)
        return store_fail(error, STORE_IO, "cannot read %s/state: %s", directory->path,
                          strerror(reason));
    text[size] = '\0';
    if ((size_t)size != strlen(text))
        text[0] = '\0';
    return 0;
}

static int read_state(struct directory *directory, struct directory_state *state,
                      struct store_error *error)
{
    char text[MAX_STATE + 1];
    int rc = read_text(directory, text, error);
    if (rc == STORE_NOT_FOUND && !directory_has(directory, ""))
        return 0;
    if (rc == STORE_NOT_FOUND)
        return store_fail(error, STORE_INVALID,
                          "%s holds files but no cubby data: give an empty directory with --data",
                          directory->path);
    if (rc == 0)
        rc = check_format(directory->path, text, error);
    if (rc == 0 && parse_state(text, state) != 0)
        rc = store_fail(error, STORE_CORRUPT, "%s/state is damaged at offset 0", directory->path);
    return rc;
}

/* The directory, or the one above it that is there already; -1 where that cannot be told. */
static int open_nearest(const char *path, bool *is_path)
{
    char at[PATH_MAX];
    if (snprintf(at, sizeof at, "%s%s", path[0] == '/' ? "" : "./", path) >= (int)sizeof at)
        return -1;
    *is_path = true;
    for (;;) {
        int fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
        char *slash = strrchr(at, '/');
        if (fd >= 0 || errno != ENOENT || slash == NULL)
            return fd;
        *is_path &= slash[1] == '\0'; /* a slash at its end */
        slash[slash == at] = '\0';
    }
}

static bool is_data_directory(int directory)
{
    char text[sizeof "cubby data directory," - 1];
    int fd = openat(directory, "state", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    bool ours = fd >= 0 && read(fd, text, sizeof text) == (ssize_t)sizeof text &&
                memcmp(text, "cubby data directory,", sizeof text) == 0;
    if (fd >= 0)
        close(fd);
    return ours;
}

/* Goes to the directory above it; false at the root, and where that cannot be looked at. */
static bool go_up(int *directory)
{
    struct stat below;
    struct stat above;
    int up = openat(*directory, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (up < 0)
        return false;
    bool moved = fstat(*directory, &below) == 0 && fstat(up, &above) == 0 &&
                 (below.st_ino != above.st_ino || below.st_dev != above.st_dev);
    close(*directory);
    *directory = up;
    return moved;
}

static int fail_nested(const char *path, int directory, struct store_error *error)
{
    char link[32];
    char outer[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t size = readlink(link, outer, sizeof outer);
    return store_fail(error, STORE_INVALID,
                      "%.200s lies within the data directory %.*s: give a directory outside of it, "
                      "since what moves or removes that one would take this along",
                      path, size > 0 && size < 200 ? (int)size : 0, outer);
}

/* A data directory is not made within another one; one that is there already is let alone. */
static int refuse_nested(const char *path, struct store_error *error)
{
    bool is_path;
    int rc = 0;
    int at = open_nearest(path, &is_path);
    if (at < 0)
        return 0;
    bool found = is_data_directory(at);
    bool known = found && is_path;
    while (!found && go_up(&at))
        found = is_data_directory(at);
    if (found && !known)
        rc = fail_nested(path, at, error);
    close(at);
    return rc;
}

/* What is not ours to be locked is not to be written to either. */
static int refuse_foreign(struct directory *directory, struct store_error *error)
{
    struct directory_state state = {0};
    if (faccessat(directory->fd, "lock", F_OK, 0) == 0)
        return 0;
    int rc = read_state(directory, &state, error);
    return rc == STORE_INVALID ? rc : 0;
}

static int lock_and_read(struct directory *directory, struct directory_state *state,
                         struct store_error *error)
{
    int rc = refuse_foreign(directory, error);
    if (rc == 0)
        rc = lock(directory, error);
    if (rc == 0)
        rc = read_state(directory, state, error);
    /* Of an earlier first start that was killed, or made by an operator, who may forbid this. */
    if (rc == 0 && state->epoch[0] == '\0' && sync_above(directory->path) != 0 && errno != EACCES)
        rc = store_fail(error, STORE_IO, "cannot sync the directory above %s: %s", directory->path,
                        strerror(errno));
    return rc;
}

int directory_open(struct directory **result, const char *path, struct directory_state *state,
                   struct store_error *error)
{
    struct directory *directory = calloc(1, sizeof *directory);
    int rc = STORE_NO_MEMORY;
    *state = (struct directory_state){0};
    if (directory == NULL || (directory->path = strdup(path)) == NULL) {
        store_fail(error, rc, "out of memory");
        goto err_after_alloc;
    }
    directory->lock_fd = -1;
    rc = refuse_nested(path, error);
    if (rc != 0)
        goto err_after_alloc;
    if (path[0] == '\0' || make_path(directory->path) != 0 ||
        (directory->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        rc = store_fail(error, STORE_IO, "cannot open the data directory '%s': %s", path,
                        path[0] == '\0' ? "its name is empty" : strerror(errno));
        goto err_after_alloc;
    }
    rc = lock_and_read(directory, state, error);
    if (rc != 0)
        goto err_after_open;
    *result = directory;
    return 0;

err_after_open:
    if (directory->lock_fd >= 0)
        close(directory->lock_fd);
    close(directory->fd);
err_after_alloc:
    if (directory != NULL)
        free(directory->path);
    free(directory);
    return rc;
}

/* Whether there is anything that a data directory keeps besides its state. */
static bool has_content(const struct directory *directory)
{
    static const char *const kinds[] = {LOG_FILE_PREFIX, CHECKPOINT_FILE_PREFIX, "lmdb", "rocksdb"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (directory_has(directory, kinds[i]))
            return true;
    return false;
}

/* The state, if it is good; what keeps a start from it is damage to who wants the rest. */
static int inspect_state(struct directory *directory, struct directory_state *state,
                         struct store_error *damage, struct store_error *error)
{
    char text[MAX_STATE + 1];
    int rc = read_text(directory, text, error);
    if (rc == 0 && parse_state(text, state) == 0)
        return 0;
    if (rc != 0 && rc != STORE_NOT_FOUND)
        return rc;
    if (!has_content(directory))
        return store_fail(error, STORE_INVALID, "%s holds no cubby data", directory->path);
    const char *what = rc == 0 ? "is damaged at offset 0" : "is missing";
    (void)store_fail(damage, STORE_CORRUPT, "%s/state %s", directory->path, what);
    return 0;
}

int directory_open_to_read(struct directory **result, const char *path,
                           struct directory_state *state, struct store_error *damage,
                           struct store_error *error)
{
    struct directory *directory = calloc(1, sizeof *directory);
    int rc = 0;
    *state = (struct directory_state){0};
    *damage = (struct store_error){0};
    if (directory == NULL || (directory->path = strdup(path)) == NULL) {
        free(directory);
        return store_fail(error, STORE_NO_MEMORY, "out of memory");
    }
    directory->lock_fd = -1;
    directory->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory->fd < 0)
        rc = store_fail(error, STORE_IO, "cannot open %s: %s", path, strerror(errno));
    if (rc == 0)
        rc = lock_to_read(directory, error);
    if (rc == 0)
        rc = inspect_state(directory, state, damage, error);
    if (rc != 0)
        directory_close(&directory);
    else
        *result = directory;
    return rc;
}

int directory_file(const struct directory *directory)
{
    return directory->fd;
}

bool directory_may_have_lost(const struct directory_state *state)
{
    return state->epoch[0] != '\0' && !state->clean && state->durability != STORE_ALWAYS;
}

int directory_check_log(const struct directory *directory, const struct directory_state *state,
                        struct store_error *error)
{
    if (!state->begun || directory_has(directory, LOG_FILE_PREFIX))
        return 0;
    return store_fail(error, STORE_CORRUPT, "%s has no log: its files are missing",
                      directory->path);
}

static int replace_state(int directory_fd, const char *text, size_t size)
{
    int fd = openat(directory_fd, "state.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    bool written = write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
    int reason = errno;
    close(fd);
    errno = reason;
    if (!written || renameat(directory_fd, "state.tmp", directory_fd, "state") != 0)
        return -1;
    return fsync(directory_fd);
}

int directory_save(struct directory *directory, const struct directory_state *state,
                   struct store_error *error)
{
    char text[MAX_STATE];
    size_t size = write_state(text, state);
    if (replace_state(directory->fd, text, size) == 0)
        return 0;
    return store_fail(error, errno == ENOSPC || errno == EDQUOT ? STORE_FULL : STORE_IO,
                      "cannot write %s/state: %s", directory->path, strerror(errno));
}

void directory_close(struct directory **directory)
{
    if (*directory == NULL)
        return;
    if ((*directory)->lock_fd >= 0)
        close((*directory)->lock_fd);
    if ((*directory)->fd >= 0)
        close((*directory)->fd);
    free((*directory)->path);
    free(*directory);
    *directory = NULL;
}

int directory_new_epoch(char epoch[DIRECTORY_MAX_EPOCH], struct store_error *error)
{
    uint8_t random[DIRECTORY_EPOCH_BYTES];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return store_fail(error, STORE_IO, "the system gives no random bytes: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(epoch + 2 * i, 3, "%02x", random[i]);
    return 0;
}
