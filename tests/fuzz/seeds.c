/* Writes the good requests of the unit tests to files, for the fuzzer to begin with. */
#include <stdio.h>

#include "tests/wire/notation.h"

static int write_seed(const char *folder, size_t number)
{
    char path[4096];
    struct buffer message = message_of(good_requests[number]);
    snprintf(path, sizeof(path), "%s/%zu", folder, number);
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        goto err_after_message;
    size_t written = fwrite(message.data, 1, message.size, file);
    if (fclose(file) != 0 || written != message.size)
        goto err_after_message;
    buffer_free(&message);
    return 0;

err_after_message:
    buffer_free(&message);
    return -1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: fuzz_seeds FOLDER\n", stderr);
        return 2;
    }
    for (size_t i = 0; i < good_request_count; i++) {
        if (write_seed(argv[1], i) != 0) {
            perror(argv[1]);
            return 1;
        }
    }
    return 0;
}
