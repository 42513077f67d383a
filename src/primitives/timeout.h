/* A Timeout for C code: what timeout(), timeout_at() and wait_for() share. */
#ifndef COROLLA_TIMEOUT_H
#define COROLLA_TIMEOUT_H

#include "primitives.h"

/* A new Timeout of so many seconds from now on that loop; delay is any number, or None for no limit. New reference or
 * NULL. */
PyObject *corolla_timeout_after(corolla_state *state, PyObject *loop, PyObject *delay);
/* What __aenter__() does. 0 or -1. */
int corolla_timeout_enter(PyObject *timeout);
/* What __aexit__() does with exc (borrowed and not being raised, or NULL). 0; or -1 with the exception to raise in its
 * place: TimeoutError if the time was up and that is why. */
int corolla_timeout_exit(PyObject *timeout, PyObject *exc);
/* raise TimeoutError from exc (borrowed). -1. */
int corolla_timeout_raise(PyObject *exc);

#endif
