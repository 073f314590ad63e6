/*
 * MessagePack in a readable notation, encoded by msgpack-c and so independently of wire/:
 *
 *     [a b c]  {key value}  'str'  b'bin'  5  -5  1.5  nil  true  false
 *     s(n) b(n)     a str, a bin of n letters
 *     nest(n)       n arrays inside each other, the innermost one empty
 *     <dd ff 00>    these bytes, counted as one element
 *     a*n           n times a
 *
 * so that [0 7 'put' ['k' s(5) {'ttl' 1000}]] is a request.
 */
#ifndef TESTS_WIRE_NOTATION_H
#define TESTS_WIRE_NOTATION_H

#include "wire/request.h"

/* The bytes in an allocation of exactly their size; ended with buffer_free. */
struct buffer message_of(const char *notation);

/* Good requests, at least one of each method and of each option. */
extern const char *const good_requests[];
extern const size_t good_request_count;

/* A request and what became of it; the slices of `request` are views of `payload`. */
struct decoded {
    struct buffer payload;
    struct wire_request request;
    struct wire_error error;
    enum wire_code code;
};

struct decoded decode(const char *notation);
void decoded_free(struct decoded *decoded);

/* Checks code, exact details and answer of one request; `line` is named where it differs. */
#define expect_refusal(notation, code, details)                                                    \
    check_refusal((notation), (code), (details), __FILE__, __LINE__)
#define expect_request(notation) check_request((notation), __FILE__, __LINE__)

/* `details` such as "limit=1024 index=3", in the order of enum wire_detail. */
void check_refusal(const char *notation, enum wire_code code, const char *details, const char *file,
                   int line);
void check_request(const char *notation, const char *file, int line);

#endif
