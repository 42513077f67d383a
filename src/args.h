/* Arguments of METH_FASTCALL | METH_KEYWORDS functions, unpacked by name. */
#ifndef COROLLA_ARGS_H
#define COROLLA_ARGS_H

#include "compat.h"

typedef struct corolla_signature {
    const char *function;      /* for messages: "create_server" */
    const char *const *names;  /* positional ones first, NULL-terminated */
    int required;              /* so many of the first must be there */
    int positional;            /* so many of the first may be given by position */
    const char *const *needed; /* keyword-only ones that must be there, or NULL */
} corolla_signature;

/* Fills out (one entry a name; a borrowed reference, or NULL where nothing was given). 0, or -1 with
 * the TypeError a Python function of that signature would raise. */
int corolla_unpack(const corolla_signature *sig, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                   PyObject **out);

/* The one argument of a function that takes it by position or by name: borrowed, or NULL with a TypeError. */
PyObject *corolla_unpack_one(const char *function, const char *name, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);

/* As corolla_unpack() for tp_init and tp_new, from a tuple and a dict. */
int corolla_unpack_tuple(const corolla_signature *sig, PyObject *args, PyObject *kwargs, PyObject **out);

#endif
