#include "bindings/c/endpoint.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bindings/c/cubby.h"

/*
 * libzmq lets more through than anybody can be reached by: a port over 65,535, of which it takes
 * the lower bits, port 0, no host at all; and transports that cubbyd does not serve, ws:// and
 * others as it was built, to which nothing answers.
 */

static const char *const schemes[] = {"tcp://", "ipc://", "inproc://"};

/* What is behind the scheme of this number; NULL: it has another one. */
static const char *behind(const char *endpoint, size_t scheme)
{
    size_t size = strlen(schemes[scheme]);
    return strncmp(endpoint, schemes[scheme], size) == 0 ? endpoint + size : NULL;
}

/* "[::1]:7420" and "host:7420"; libzmq takes a source address before a semicolon as well. */
static bool is_bare_ipv6(const char *address, const char *port)
{
    const char *source = strrchr(address, ';');
    const char *host = source != NULL ? source + 1 : address;
    return host[0] != '[' && memchr(host, ':', (size_t)(port - host)) != NULL;
}

static const char *fault_of_tcp(const char *address)
{
    const char *port = strrchr(address, ':');
    char *end = NULL;
    errno = 0;
    unsigned long number =
        port != NULL && isdigit((unsigned char)port[1]) ? strtoul(port + 1, &end, 10) : 0;
    if (number < 1 || number > UINT16_MAX || errno != 0 || *end != '\0')
        return "there is no port from 1 to 65535 at its end";
    if (is_bare_ipv6(address, port))
        return "an IPv6 address stands in brackets: tcp://[ADDRESS]:PORT";
    return port == address ? "there is no host before its port" : NULL;
}

const char *cubby_endpoint_fault(const char *endpoint)
{
    if (endpoint == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        const char *address = behind(endpoint, i);
        if (address != NULL && i == 0)
            return fault_of_tcp(address);
        if (address != NULL)
            return address[strspn(address, "@")] == '\0' ? "there is no name in it" : NULL;
    }
    return "not an endpoint of cubbyd: give tcp://HOST:PORT or ipc://PATH";
}

int endpoint_error(const char *endpoint)
{
    if (cubby_endpoint_fault(endpoint) == NULL)
        return 0;
    bool known = false;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
        known |= behind(endpoint, i) != NULL;
    return known || strstr(endpoint, "://") == NULL ? EINVAL : EPROTONOSUPPORT;
}
