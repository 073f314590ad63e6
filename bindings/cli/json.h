/*
 * Values as JSON, both ways, so that each form stands for one value and comes back as it was.
 * What JSON cannot say is an object with a single member whose name begins with a dollar sign:
 *
 *     {"$bin": "AAEC"}           bin, in base64
 *     {"$str": "/w=="}           a str that is not UTF-8, in base64
 *     {"$ext": [5, "AAEC"]}      an ext of that type
 *     {"$float": "nan"}          "nan", "inf", "-inf"
 *     {"$map": [[1, "one"], …]}  a map whose keys are not all different UTF-8 strs without a zero
 *                                character, or that would be mistaken for one of these five
 *
 * Floats have a fraction or an exponent (5.0), integers have not (5). What cannot be kept is the
 * width of an encoding: integers and lengths come back in their shortest form, floats as 64 bits,
 * and a NaN without its payload.
 */
#ifndef BINDINGS_CLI_JSON_H
#define BINDINGS_CLI_JSON_H

#include "wire/pack.h"

/* Appends the object as one line of JSON; -1 where it is not one well-formed object. */
int json_print(struct buffer *out, struct slice object);

/* Appends bytes as a JSON string, or as {"$bin": …} where they are not UTF-8: a key. */
void json_print_key(struct buffer *out, struct slice key);

/*
 * Appends the value of a JSON text. -1 and what is wrong in `reason`, a static string, where it
 * is not JSON, nested too deep, or holds what would be changed: a number out of the range of 64
 * bits, half of a surrogate pair, a name with a zero character. Of a name given twice, the last
 * value counts.
 */
int json_parse(struct buffer *out, struct slice text, const char **reason);

#endif
