/* Which endpoints are refused; why, cubby_endpoint_fault says (cubby.h). */
#ifndef BINDINGS_C_ENDPOINT_H
#define BINDINGS_C_ENDPOINT_H

/* EINVAL or EPROTONOSUPPORT where cubby_endpoint_fault finds a fault, else 0. */
int endpoint_error(const char *endpoint);

#endif
