/* The addresses create_connection() tries, and what is said when none of them answers. */
#ifndef COROLLA_LOOP_CONNECT_H
#define COROLLA_LOOP_CONNECT_H

#include "endpoint.h"

typedef struct connect_local connect_local;

typedef struct connect_attempts {
    PyObject *infos;         /* owned: list of address infos */
    PyObject *local_infos;   /* owned: list of those to bind to, or NULL */
    corolla_target *targets; /* owned table, one for each info */
    size_t count;
    connect_local *locals;  /* owned table behind local */
    struct addrinfo *local; /* borrowed from locals, or NULL */
    int *bind_errors;       /* owned table, a row of the local addresses for each target; NULL without them */
} connect_attempts;

/* Checks what a look-up gave and sets *infos to a list of it. 0 or -1. */
int attempts_set_infos(PyObject **infos, PyObject *found);
/* Puts infos in the order they will be tried in (first_family: so many of the first family before the
 * families alternate; 0: as they came) and makes targets and local. 0 or -1. */
int attempts_prepare(connect_attempts *attempts, Py_ssize_t first_family);
/* Raises what create_connection() raises when every target failed. */
void attempts_raise(connect_attempts *attempts, bool all_errors);
/* No connector may still be using it. Harmless twice. */
void attempts_clear(connect_attempts *attempts);

#endif
