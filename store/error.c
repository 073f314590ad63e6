#include "store/error.h"

#include <stdarg.h>
#include <stdio.h>

enum store_code store_fail(struct store_error *error, enum store_code code, const char *format, ...)
{
    if (error == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof(error->message), format, arguments);
    va_end(arguments);
    error->code = code;
    return code;
}
