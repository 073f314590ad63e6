#include "bindings/cli/stream.h"

#include <czmq.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SHOW_MS = 200, BAR = 24, READ_STEP = 1 << 20, ENTRY_COUNT = 4 };

static enum status fail(const char *what, const char *path)
{
    fprintf(stderr, "cubby: cannot %s %s: %s\n", what, path, strerror(errno));
    return STATUS_FAILED;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_standard(const char *path)
{
    return strcmp(path, "-") == 0;
}

/* Nobody wants to see it: it is not text. */
static enum status start_output(struct stream_writer *writer)
{
    if (isatty(STDOUT_FILENO)) {
        fputs("cubby: standard output is a terminal: send it to a program or a file\n", stderr);
        return STATUS_USAGE;
    }
    writer->file = stdout;
    writer->passes = true;
    snprintf(writer->part, sizeof(writer->part), "standard output");
    return STATUS_OK;
}

static enum status start_file(struct stream_writer *writer, const char *path, const char *mode)
{
    if (strlen(path) >= STREAM_MAX_PATH) {
        fputs("cubby: the file's name is too long\n", stderr);
        return STATUS_USAGE;
    }
    snprintf(writer->path, sizeof(writer->path), "%s", path);
    snprintf(writer->part, sizeof(writer->part), "%s.part", path);
    writer->file = fopen(writer->part, mode);
    return writer->file != NULL ? STATUS_OK : fail("write", writer->part);
}

static enum status start(struct stream_writer *writer, const char *path, const char *mode)
{
    *writer = (struct stream_writer){.begin_ms = now_ms()};
    enum status status = is_standard(path) ? start_output(writer) : start_file(writer, path, mode);
    if (status != STATUS_OK)
        return status;
    writer->digest = zdigest_new();
    if (writer->digest != NULL)
        return STATUS_OK;
    stream_close(writer, true);
    fputs("cubby: out of memory\n", stderr);
    return STATUS_FAILED;
}

static enum status refuse_present(const char *path, bool force)
{
    struct stat status;
    if (path[0] == '\0') {
        fputs("cubby: FILE is an empty name\n", stderr);
        return STATUS_USAGE;
    }
    if (is_standard(path) || stat(path, &status) != 0)
        return STATUS_OK;
    if (S_ISDIR(status.st_mode)) {
        fprintf(stderr, "cubby: %s is a directory: give a file\n", path);
        return STATUS_USAGE;
    }
    if (force)
        return STATUS_OK;
    fprintf(stderr, "cubby: %s is there already: give --force to replace it\n", path);
    return STATUS_USAGE;
}

enum status stream_create(struct stream_writer *writer, const char *path, bool force)
{
    enum status status = refuse_present(path, force);
    return status == STATUS_OK ? start(writer, path, "we") : status;
}

const char *stream_input_name(const char *path)
{
    return is_standard(path) ? "standard input" : path;
}

enum status stream_read(const char *path, struct buffer *content)
{
    FILE *file = is_standard(path) ? stdin : fopen(path, "re");
    size_t size;
    if (file == NULL)
        return fail("read", path);
    do {
        size = 0;
        if (buffer_reserve(content, READ_STEP))
            size = fread(content->data + content->size, 1, READ_STEP, file);
        content->size += size;
    } while (size > 0);
    bool good = !content->failed && ferror(file) == 0;
    int error = content->failed ? ENOMEM : errno;
    if (file != stdin)
        fclose(file);
    errno = error;
    return good ? STATUS_OK : fail("read", stream_input_name(path));
}

void stream_pack_entry(struct buffer *out, const struct cubby_entry *entry)
{
    wire_pack_array(out, ENTRY_COUNT);
    wire_pack_key(out, session_slice(entry->key));
    wire_pack_object(out, session_slice(entry->value));
    wire_pack_uint(out, entry->version);
    wire_pack_expires_at(out, entry->expires_at_ms);
}

/* ---- Reading -------------------------------------------------------------------------------- */

enum status stream_open(struct stream_reader *reader, const char *path)
{
    struct slice header;
    *reader = (struct stream_reader){.header = {0}};
    enum status status = stream_read(path, &reader->content);
    if (status != STATUS_OK || reader->content.size == 0)
        return status;
    reader->entries = wire_cursor_of(buffer_slice(&reader->content, 0));
    if (wire_peek(&reader->entries) == WIRE_MAP &&
        wire_read_object(&reader->entries, WIRE_MAX_DEPTH, &header, NULL) == 0)
        reader->header = cubby_data(header.data, header.size);
    return STATUS_OK;
}

static bool has_digest(const struct stream_reader *reader, size_t size, struct cubby_bytes hex)
{
    zdigest_t *digest = zdigest_new();
    if (digest == NULL)
        return false;
    zdigest_update(digest, reader->content.data, size);
    bool same = slice_equal(session_slice(hex), slice_of_text(zdigest_string(digest)));
    zdigest_destroy(&digest);
    return same;
}

static const char *damage_of_end(const struct stream_reader *reader, struct wire_cursor cursor,
                                 uint64_t entries)
{
    size_t size = (size_t)(cursor.at - reader->content.data);
    uint64_t announced;
    struct slice object;
    struct cubby_bytes end, value, hex;
    if (wire_at_end(&cursor))
        return "the end of the file is missing";
    if (wire_read_object(&cursor, 1, &object, NULL) != 0)
        return "the end of the file is not whole";
    end = cubby_data(object.data, object.size);
    if (!cubby_map_find(end, "entries", &value) || !cubby_as_uint(value, &announced) ||
        !cubby_map_find(end, "sha1", &value) || !cubby_as_bytes(value, &hex))
        return "neither an entry nor the end of the file";
    if (!wire_at_end(&cursor))
        return "something follows the end of the file";
    if (announced != entries || !has_digest(reader, size, hex))
        return "the checksum there is not that of the file";
    return NULL;
}

const char *stream_damage(const struct stream_reader *reader, size_t *offset)
{
    struct wire_cursor cursor = reader->entries;
    struct slice object;
    uint64_t entries = 0;
    for (; wire_peek(&cursor) == WIRE_ARRAY; entries++) {
        *offset = (size_t)(cursor.at - reader->content.data);
        if (wire_read_object(&cursor, WIRE_MAX_DEPTH + 1, &object, NULL) != 0)
            return "an entry is not whole";
    }
    *offset = (size_t)(cursor.at - reader->content.data);
    return damage_of_end(reader, cursor, entries);
}

bool stream_next_entry(struct stream_reader *reader, struct cubby_entry *entry)
{
    struct wire_cursor *cursor = &reader->entries;
    struct slice key, value;
    uint32_t count;
    *entry = (struct cubby_entry){.version = 0};
    if (wire_peek(cursor) != WIRE_ARRAY || wire_read_array(cursor, &count) != 0 ||
        count != ENTRY_COUNT || wire_read_bytes(cursor, &key) != 0 ||
        wire_read_object(cursor, WIRE_MAX_DEPTH, &value, NULL) != 0 ||
        wire_read_uint(cursor, &entry->version) != 0 ||
        (wire_read_nil(cursor) != 0 && wire_read_uint(cursor, &entry->expires_at_ms) != 0))
        return false;
    entry->key = cubby_data(key.data, key.size);
    entry->value = cubby_data(value.data, value.size);
    return true;
}

void stream_reader_free(struct stream_reader *reader)
{
    buffer_free(&reader->content);
}

/* ---- Going on ------------------------------------------------------------------------------- */

/* How much of what was left is a header and whole entries, and how many. */
static size_t whole_part(struct slice content, uint64_t *entries, struct slice *last)
{
    struct wire_cursor cursor = wire_cursor_of(content);
    struct slice object;
    size_t size = 0;
    *entries = 0;
    if (wire_peek(&cursor) != WIRE_MAP ||
        wire_read_object(&cursor, WIRE_MAX_DEPTH, &object, NULL) != 0)
        return 0;
    size = (size_t)(cursor.at - content.data);
    while (wire_peek(&cursor) == WIRE_ARRAY &&
           wire_read_object(&cursor, WIRE_MAX_DEPTH + 1, &object, NULL) == 0) {
        size = (size_t)(cursor.at - content.data);
        *last = object;
        (*entries)++;
    }
    return size;
}

/* Whether it begins as ours does, or breaks off before it could differ. */
static bool begins_with(struct slice content, struct slice header)
{
    size_t size = content.size < header.size ? content.size : header.size;
    return size == 0 || memcmp(content.data, header.data, size) == 0;
}

enum status stream_resume(struct stream_writer *writer, const struct stream_resumption *resumption,
                          struct buffer *content, struct slice *last)
{
    *last = (struct slice){0};
    if (is_standard(resumption->path)) {
        fputs("cubby: --resume needs a FILE: what went to standard output is not there any more\n",
              stderr);
        return STATUS_USAGE;
    }
    enum status status = refuse_present(resumption->path, resumption->force);
    if (status == STATUS_OK)
        status = start(writer, resumption->path, "ae");
    if (status == STATUS_OK)
        status = stream_read(writer->part, content);
    if (status != STATUS_OK)
        return status;
    if (!begins_with(buffer_slice(content, 0), resumption->header)) {
        fprintf(stderr,
                "cubby: %s was not begun with these options: give the same as then, or no "
                "--resume to begin anew\n",
                writer->part);
        return STATUS_USAGE;
    }
    writer->bytes = whole_part(slice_of(content->data, content->size), &writer->entries, last);
    if (ftruncate(fileno(writer->file), (off_t)writer->bytes) != 0)
        return fail("cut", writer->part);
    if (writer->bytes > 0)
        zdigest_update(writer->digest, content->data, writer->bytes);
    return STATUS_OK;
}

static enum status write_out(struct stream_writer *writer)
{
    struct buffer *out = &writer->out;
    if (out->failed) {
        fputs("cubby: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    if (fwrite(out->data, 1, out->size, writer->file) != out->size)
        return fail("write", writer->part);
    writer->bytes += out->size;
    buffer_clear(out);
    return STATUS_OK;
}

enum status stream_write(struct stream_writer *writer, uint64_t entries)
{
    if (!writer->out.failed && writer->out.size > 0)
        zdigest_update(writer->digest, writer->out.data, writer->out.size);
    writer->entries += entries;
    stream_show(writer, false);
    return write_out(writer);
}

/* So that the name is there after a power failure, too. */
static enum status sync_directory(const char *path)
{
    char copy[STREAM_MAX_PATH];
    snprintf(copy, sizeof(copy), "%s", path);
    int directory = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = directory >= 0 && fsync(directory) == 0;
    enum status status = good ? STATUS_OK : fail("sync the directory of", path);
    if (directory >= 0)
        close(directory);
    return status;
}

enum status stream_finish(struct stream_writer *writer)
{
    wire_pack_map(&writer->out, 2);
    wire_pack_text(&writer->out, "entries");
    wire_pack_uint(&writer->out, writer->entries);
    wire_pack_text(&writer->out, "sha1");
    wire_pack_text(&writer->out, zdigest_string(writer->digest));
    enum status status = write_out(writer);
    if (status != STATUS_OK)
        return status;
    if (fflush(writer->file) != 0 || (!writer->passes && fsync(fileno(writer->file)) != 0))
        return fail("write", writer->part);
    if (writer->passes) {
        stream_show(writer, true);
        return STATUS_OK;
    }
    if (rename(writer->part, writer->path) != 0)
        return fail("rename", writer->part);
    stream_show(writer, true);
    writer->part[0] = '\0';
    return sync_directory(writer->path);
}

void stream_close(struct stream_writer *writer, bool keep)
{
    if (writer->file != NULL && !writer->passes)
        fclose(writer->file);
    if (!keep && !writer->passes && writer->part[0] != '\0')
        unlink(writer->part);
    zdigest_destroy((zdigest_t **)&writer->digest);
    buffer_free(&writer->out);
    writer->file = NULL;
}

static void show_bar(const struct stream_writer *writer, double rate)
{
    double share = (double)writer->entries / (double)writer->expected;
    int full = share < 1 ? (int)(share * BAR) : BAR;
    double left = rate > 0 ? ((double)writer->expected - (double)writer->entries) / rate : 0;
    fprintf(stderr, " [%.*s%*s] %.0f s left", full, "########################", BAR - full, "",
            left > 0 ? left : 0);
}

void stream_show(struct stream_writer *writer, bool last)
{
    uint64_t now = now_ms();
    if (writer->quiet || !isatty(STDERR_FILENO) || (!last && now < writer->shown_ms + SHOW_MS))
        return;
    writer->shown_ms = now;
    double rate = (double)writer->entries * 1000 / (double)(now - writer->begin_ms + 1);
    fprintf(stderr, "\r%llu entries, %llu MiB, %.0f/s", (unsigned long long)writer->entries,
            (unsigned long long)(writer->bytes >> 20), rate);
    if (writer->expected > 0)
        show_bar(writer, rate);
    fputs(last ? "\033[K\n" : "\033[K", stderr);
}

/* The one thing that a signal handler can set is not in anybody's hands. */
static atomic_bool stopped;

static void stop(int number)
{
    (void)number;
    atomic_store(&stopped, true);
}

void stream_take_signals(void)
{
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool stream_is_stopped(void)
{
    return atomic_load(&stopped);
}
