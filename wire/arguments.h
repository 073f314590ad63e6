/*
 * The tables of methods and options, and the reading of what a request's params hold: for the
 * files of this folder. request.c reads what is around the params.
 */
#ifndef WIRE_ARGUMENTS_H
#define WIRE_ARGUMENTS_H

#include "wire/request.h"

/* Finds the method of that name; WIRE_UNKNOWN_METHOD. */
enum wire_code wire_find_method(struct slice name, enum wire_method *method,
                                struct wire_error *error);

/* Reads the params of the method, with every check of its own, and moves the cursor behind. */
enum wire_code wire_read_args(struct wire_cursor *cursor, enum wire_method method,
                              struct wire_args *args, struct wire_error *error);

/* Reads the header of an array of two, whose elements are next. */
bool wire_starts_pair(struct wire_cursor *cursor);

/* The params of an operation of a batch, an array and a map of options around values. */
enum { WIRE_PARAMS_DEPTH = WIRE_MAX_DEPTH + 2, WIRE_OPERATION_DEPTH = WIRE_PARAMS_DEPTH + 1 };

#endif
