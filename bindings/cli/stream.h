/*
 * The files of backup and export: MessagePack objects one behind the other. A header (a map), one
 * array for each entry, and an end: a map with how many `entries` there were and the `sha1` of
 * every byte before it. While it is written the file is called FILE.part; it gets its name when it
 * is whole and on the disk.
 */
#ifndef BINDINGS_CLI_STREAM_H
#define BINDINGS_CLI_STREAM_H

#include "bindings/cli/session.h"

enum { STREAM_VERSION = 1, STREAM_MAX_PATH = 4096 };

struct stream_writer {
    char path[STREAM_MAX_PATH]; /* of the whole file */
    char part[STREAM_MAX_PATH + 8];
    FILE *file;
    void *digest; /* zdigest_t */
    struct buffer out;
    uint64_t entries;
    uint64_t bytes;
    uint64_t expected; /* entries, for the progress; 0: not known */
    uint64_t begin_ms;
    uint64_t shown_ms;
    bool quiet;  /* no progress line */
    bool passes; /* to standard output: nothing of it can be had again, nor be removed */
};

/*
 * Begins a file. STATUS_USAGE where there is one of that name already and `force` is false. Errors
 * are said on standard error, here and below.
 */
enum status stream_create(struct stream_writer *writer, const char *path, bool force);

/*
 * Goes on with what an interrupted run left in FILE.part, behind its last whole entry, which is
 * handed out as a view of `content` (data NULL: there is none); or begins one where nothing was
 * left: writer->bytes is 0 where the header is to be written. STATUS_USAGE where the whole file is
 * there already and `force` is false, and where what was left does not begin with `header`; it is
 * not touched then.
 */
struct stream_resumption {
    const char *path;
    struct slice header;
    bool force;
};
enum status stream_resume(struct stream_writer *writer, const struct stream_resumption *resumption,
                          struct buffer *content, struct slice *last);

/* Writes what was appended to writer->out, `entries` of them entries. */
enum status stream_write(struct stream_writer *writer, uint64_t entries);

/* Writes the end, syncs, renames. */
enum status stream_finish(struct stream_writer *writer);

/* Closes it; what is not finished stays as FILE.part where `keep`, else it is removed. */
void stream_close(struct stream_writer *writer, bool keep);

/* A progress line on standard error, where that is a terminal: at most a few times a second. */
void stream_show(struct stream_writer *writer, bool last);

/* Appends [key, value, version, expires_at]: an entry of an export. */
void stream_pack_entry(struct buffer *out, const struct cubby_entry *entry);

/* A file that is read. Ended with stream_reader_free, also after a failure. */
struct stream_reader {
    struct buffer content;
    struct cubby_bytes header;  /* NULL data: it does not begin with a map */
    struct wire_cursor entries; /* behind the header, or behind the last entry that was read */
};
enum status stream_open(struct stream_reader *reader, const char *path);

/*
 * What of the file is damaged, for a person, and at which offset; NULL: nothing. Up to the offset
 * there are whole entries; without damage it is that of the end.
 */
const char *stream_damage(const struct stream_reader *reader, size_t *offset);

/* The next entry of an export, a view; false where there is none. */
bool stream_next_entry(struct stream_reader *reader, struct cubby_entry *entry);
void stream_reader_free(struct stream_reader *reader);

/* What to call a file that is read in a sentence. */
const char *stream_input_name(const char *path);

/* Reads a whole file into `content`. */
enum status stream_read(const char *path, struct buffer *content);

/* Whether SIGINT or SIGTERM came since stream_take_signals. */
void stream_take_signals(void);
bool stream_is_stopped(void);

#endif
