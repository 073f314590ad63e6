#include "bindings/cli/base64.h"

enum { GROUP = 3, CODED_GROUP = 4, BITS = 6, MASK = 63 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buffer *out, struct slice bytes)
{
    for (size_t at = 0; at < bytes.size; at += GROUP) {
        size_t count = bytes.size - at < GROUP ? bytes.size - at : GROUP;
        uint32_t group = 0;
        char coded[CODED_GROUP];
        for (size_t i = 0; i < GROUP; i++)
            group = group << 8 | (i < count ? bytes.data[at + i] : 0u);
        for (size_t i = 0; i < CODED_GROUP; i++)
            coded[i] = alphabet[group >> (BITS * (CODED_GROUP - 1 - i)) & MASK];
        memset(coded + count + 1, '=', GROUP - count);
        buffer_append(out, coded, CODED_GROUP);
    }
}

static int digit_of(uint8_t character)
{
    const char *place = character != 0 ? strchr(alphabet, character) : NULL;
    return place != NULL ? (int)(place - alphabet) : -1;
}

/* How many characters of the last group are padding: 0 to 2. */
static size_t padding_of(struct slice text)
{
    size_t padding = 0;
    while (padding < 2 && padding < text.size && text.data[text.size - 1 - padding] == '=')
        padding++;
    return padding;
}

int base64_decode(struct buffer *out, struct slice text)
{
    size_t padding = padding_of(text);
    if (text.size % CODED_GROUP != 0)
        return -1;
    uint32_t group = 0;
    for (size_t i = 0; i < text.size; i++) {
        int digit = i < text.size - padding ? digit_of(text.data[i]) : 0;
        if (digit < 0)
            return -1;
        group = group << BITS | (uint32_t)digit;
        if (i % CODED_GROUP != CODED_GROUP - 1)
            continue;
        const uint8_t bytes[GROUP] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8),
                                      (uint8_t)group};
        size_t count = i + 1 == text.size ? GROUP - padding : GROUP;
        for (size_t rest = count; rest < GROUP; rest++) {
            if (bytes[rest] != 0)
                return -1;
        }
        buffer_append(out, bytes, count);
        group = 0;
    }
    return 0;
}
