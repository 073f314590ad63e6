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

#include "wire/bytes.h"

/* The bytes in an allocation of exactly their size; ended with buffer_free. */
struct buffer message_of(const char *notation);

/* Good requests, at least one of each method and of each option. */
extern const char *const good_requests[];
extern const size_t good_request_count;

#endif
