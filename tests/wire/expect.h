/* Requests in the notation of notation.h, and what has to become of them. */
#ifndef TESTS_WIRE_EXPECT_H
#define TESTS_WIRE_EXPECT_H

#include "notation.h"
#include "wire/request.h"

/* A request and what became of it; the slices of `request` are views of `payload`. */
struct decoded {
    struct buffer payload;
    struct wire_request request;
    struct wire_error error;
    enum wire_code code;
};

struct decoded decode(const char *notation);
void decoded_free(struct decoded *decoded);

/* Checks the code and the exact details of one request, and names the line where they differ. */
#define expect_refusal(notation, code, details)                                                    \
    check_refusal((notation), (code), (details), __FILE__, __LINE__)
#define expect_request(notation) check_request((notation), __FILE__, __LINE__)

/* `details` such as "limit=1024 index=3", in the order of enum wire_detail. */
void check_refusal(const char *notation, enum wire_code code, const char *details, const char *file,
                   int line);
void check_request(const char *notation, const char *file, int line);

#endif
