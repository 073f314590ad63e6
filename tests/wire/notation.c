#include "notation.h"

#include <msgpack.h>
#include <stdio.h>

const char *const good_requests[] = {
    "[0 1 'ping' []]",
    "[0 1 'ping' [{}]]",
    "[0 1 'hello' []]",
    "[0 1 'hello' [{'client' 'test'}]]",
    "[0 1 'get' ['k']]",
    "[0 1 'get' [b'k']]",
    "[0 1 'put' ['key' 'value']]",
    "[0 1 'put' ['key' {'a' [1 2.5 nil]}]]",
    "[0 300 'put' [b'key' s(40) {'ttl' 1000 'if_version' 70000 'if_exists' true 'previous' true}]]",
    "[0 1 'put' ['key' <d6 05 01 02 03 04> {'keep_ttl' true}]]",
    "[0 1 'delete' ['key']]",
    "[0 1 'delete' ['key' {'if_version' 5 'if_exists' true 'previous' false}]]",
    "[0 1 'increment' ['key']]",
    "[0 1 'increment' ['key' -5]]",
    "[0 1 'increment' ['key' {'initial' 10}]]",
    "[0 1 'increment' ['key' 5 {'initial' -10 'ttl' 0 'if_version' 0 'if_exists' false}]]",
    "[0 1 'touch' ['key' 60000]]",
    "[0 1 'touch' ['key' nil {}]]",
    "[0 1 'scan' []]",
    "[0 1 'scan' [{'prefix' 'p:' 'after' 'p:5' 'limit' 10 'reverse' true 'keys_only' true}]]",
    "[0 1 'scan' [{'start' 'a' 'end' b'b'}]]",
    "[0 1 'count' [{'prefix' ''}]]",
    "[0 1 'count' [{'start' 'a' 'end' 'b'}]]",
    "[0 1 'delete_range' [{'prefix' 'p:' 'limit' 10000}]]",
    "[0 1 'delete_range' [{'start' 'a'}]]",
    "[0 1 'batch' [[['put' ['a' 1]] ['get' ['a']] ['increment' ['n' {'ttl' 5}]]]]]",
    "[0 1 'batch' [[['delete' ['a']]] {'if' [['a' 5] [b'b' 0]]}]]",
    "[0 1 'batch' [[]]]",
    "[0 1 'stats' []]",
    "[0 1 'checkpoint' []]",
    "[0 1 'backup' []]",
    "[0 1 'backup.read' [5]]",
    "[0 1 'backup.end' [5]]",
    "[0 1 'changes' []]",
    "[0 1 'changes' [{'since' 5 'prefix' 'p:' 'limit' 10 'epoch' 'e1'}]]",
    "[0 1 'queue.push' ['q' {'a' 1}]]",
    "[0 300 'queue.push' [b'q' 1 {'delay' 5 'priority' 4294967295 'id' 'order 5' 'ttl' nil}]]",
    "[0 1 'queue.push' ['q' nil {'id' -70000 'ttl' 300}]]",
    "[0 1 'queue.reserve' ['q']]",
    "[0 1 'queue.reserve' [['q' b'r'] {'wait' nil 'count' 1000 'lease' 1}]]",
    "[0 1 'queue.pop' ['q' {'wait' 1000 'count' 1}]]",
    "[0 1 'queue.cancel' [7]]",
    "[0 1 'queue.ack' [7 5000000000]]",
    "[0 1 'queue.nack' [7 5]]",
    "[0 1 'queue.nack' [7 5 {'delay' 0 'error' 'it broke'}]]",
    "[0 1 'queue.extend' [7 5 60000]]",
    "[0 1 'queue.bury' [7 5 {'error' ''}]]",
    "[0 1 'queue.kick' ['q' {'count' 10000}]]",
    "[0 1 'queue.kick' ['q' {'id' 7}]]",
    "[0 1 'queue.delete' [7]]",
    "[0 1 'queue.job' [7]]",
    "[0 1 'queue.peek' ['q' {'state' 'leased' 'after' b'0123456789abcdef' 'limit' 1000}]]",
    "[0 1 'queue.stats' ['q']]",
    "[0 1 'queue.list' [{'prefix' 'p' 'after' 'pa' 'limit' 10000}]]",
    "[0 1 'queue.configure' ['q']]",
    ("[0 1 'queue.configure' ['q' {'lease' 1 'max_deliveries' 0 'max_length' 5 'retry_delay' 0 "
     "'ttl' nil 'dedup_window' 0}]]"),
    "[0 1 'queue.pause' ['q' nil]]",
    "[0 1 'queue.pause' ['q' 5]]",
    "[0 1 'queue.resume' ['q']]",
    "[0 1 'queue.purge' ['q' {'state' 'dead'}]]",
    "[0 1 'queue.drop' ['q']]",
    "[0 1 'watch' []]",
    "[0 1 'watch' [{'since' 5 'prefix' 'p:' 'credit' 10 'epoch' 'e1'}]]",
    "[0 1 'watch.credit' [5 64]]",
    "[0 1 'watch.cancel' [5]]",
};
const size_t good_request_count = sizeof(good_requests) / sizeof(good_requests[0]);

static void put_value(const char **text, msgpack_sbuffer *out);

/* A mistake in a test: there is nothing to recover. */
static void require(bool holds, const char *what, const char *text)
{
    if (holds)
        return;
    fprintf(stderr, "notation: %s: %s\n", what, text);
    abort();
}

static void skip_space(const char **text)
{
    while (**text == ' ' || **text == '\n')
        (*text)++;
}

static bool take(const char **text, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(*text, word, size) != 0)
        return false;
    *text += size;
    return true;
}

static size_t take_number(const char **text)
{
    char *end;
    size_t number = strtoul(*text, &end, 10);
    *text = end;
    return number;
}

/* Elements up to `close`, each perhaps repeated; returns how many. */
static size_t put_elements(const char **text, char close, msgpack_sbuffer *out)
{
    size_t count = 0;
    for (skip_space(text); **text != close; skip_space(text)) {
        require(**text != '\0', "no closing bracket", *text);
        size_t from = out->size;
        put_value(text, out);
        size_t size = out->size - from;
        size_t times = take(text, "*") ? take_number(text) : 1;
        char *one = malloc(size + 1);
        require(one != NULL, "no memory", *text);
        memcpy(one, out->data + from, size);
        out->size = from;
        for (size_t i = 0; i < times; i++)
            msgpack_sbuffer_write(out, one, size);
        free(one);
        count += times;
    }
    (*text)++;
    return count;
}

static void put_container(const char **text, char close, msgpack_sbuffer *out)
{
    msgpack_sbuffer elements;
    msgpack_packer packer;
    msgpack_sbuffer_init(&elements);
    msgpack_packer_init(&packer, out, msgpack_sbuffer_write);
    size_t count = put_elements(text, close, &elements);
    if (close == ']')
        msgpack_pack_array(&packer, count);
    else
        msgpack_pack_map(&packer, count / 2);
    if (elements.size > 0)
        msgpack_sbuffer_write(out, elements.data, elements.size);
    msgpack_sbuffer_destroy(&elements);
}

static void put_hex(const char **text, msgpack_sbuffer *out)
{
    for (skip_space(text); **text != '>'; skip_space(text)) {
        const char digits[3] = {(*text)[0], (*text)[1], '\0'};
        char *end;
        char byte = (char)strtoul(digits, &end, 16);
        require(end == digits + 2, "not hex", *text);
        msgpack_sbuffer_write(out, &byte, 1);
        *text += 2;
    }
    (*text)++;
}

static void put_quoted(const char **text, bool bin, msgpack_packer *packer)
{
    const char *end = strchr(*text, '\'');
    require(end != NULL, "no closing quote", *text);
    size_t size = (size_t)(end - *text);
    if (bin)
        msgpack_pack_bin_with_body(packer, *text, size);
    else
        msgpack_pack_str_with_body(packer, *text, size);
    *text = end + 1;
}

static void put_letters(const char **text, bool bin, msgpack_packer *packer)
{
    size_t size = take_number(text);
    char *letters = malloc(size + 1);
    require(letters != NULL && take(text, ")"), "no size", *text);
    memset(letters, 'x', size);
    if (bin)
        msgpack_pack_bin_with_body(packer, letters, size);
    else
        msgpack_pack_str_with_body(packer, letters, size);
    free(letters);
}

static void put_nest(const char **text, msgpack_packer *packer)
{
    size_t depth = take_number(text);
    require(depth > 0 && take(text, ")"), "no depth", *text);
    for (size_t i = 1; i < depth; i++)
        msgpack_pack_array(packer, 1);
    msgpack_pack_array(packer, 0);
}

static void put_number(const char **text, msgpack_packer *packer)
{
    size_t size = strspn(*text, "-.0123456789");
    require(size > 0, "what is", *text);
    if (memchr(*text, '.', size) != NULL)
        msgpack_pack_double(packer, strtod(*text, NULL));
    else if (**text == '-')
        msgpack_pack_int64(packer, strtoll(*text, NULL, 10));
    else
        msgpack_pack_uint64(packer, strtoull(*text, NULL, 10));
    *text += size;
}

static void put_value(const char **text, msgpack_sbuffer *out)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, out, msgpack_sbuffer_write);
    if (take(text, "["))
        put_container(text, ']', out);
    else if (take(text, "{"))
        put_container(text, '}', out);
    else if (take(text, "<"))
        put_hex(text, out);
    else if (take(text, "'"))
        put_quoted(text, false, &packer);
    else if (take(text, "b'"))
        put_quoted(text, true, &packer);
    else if (take(text, "s("))
        put_letters(text, false, &packer);
    else if (take(text, "b("))
        put_letters(text, true, &packer);
    else if (take(text, "nest("))
        put_nest(text, &packer);
    else if (take(text, "nil"))
        msgpack_pack_nil(&packer);
    else if (take(text, "true"))
        msgpack_pack_true(&packer);
    else if (take(text, "false"))
        msgpack_pack_false(&packer);
    else
        put_number(text, &packer);
}

struct buffer message_of(const char *notation)
{
    msgpack_sbuffer bytes;
    msgpack_sbuffer_init(&bytes);
    for (skip_space(&notation); *notation != '\0'; skip_space(&notation))
        put_value(&notation, &bytes);
    /* Exactly as large as its content, so that the address sanitizer sees one byte too far. */
    struct buffer message = {.data = malloc(bytes.size > 0 ? bytes.size : 1), .size = bytes.size};
    require(message.data != NULL, "no memory", notation);
    if (bytes.size > 0)
        memcpy(message.data, bytes.data, bytes.size);
    message.capacity = bytes.size;
    msgpack_sbuffer_destroy(&bytes);
    return message;
}
