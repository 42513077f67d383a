/* __aenter__ and __aexit__, bound cheaply, and the coroutine that such a bound method becomes when it is called. */
#ifndef COROLLA_SPECIAL_H
#define COROLLA_SPECIAL_H

#include "scheduler.h"

/* What awaiting the coroutine of such a method does, with the result None, when it need not wait. 1; 0, and nothing is
 * done: the method's own coroutine is to do it; or -1 with what it raises. It does not look at an exception that
 * __aexit__() is told of. */
typedef int (*corolla_quick)(PyObject *self);

/* For a type's own __aenter__(), METH_NOARGS, and __aexit__(), METH_FASTCALL. 0 or -1. */
int corolla_quick_with(corolla_state *state, PyTypeObject *type, corolla_quick enter, corolla_quick leave);

/* ---- Inside the room: special.c and with_coroutine.c ----------------------------------------- */

typedef struct corolla_special {
    PyObject_HEAD
    corolla_state *state;      /* borrowed */
    PyObject *descriptor;      /* owned: the method descriptor of the type */
    PyMethodDef *def;          /* borrowed from it */
    vectorcallfunc vectorcall; /* of the unbound method */
    corolla_quick quick;       /* or NULL */
} corolla_special;

/* Of what has become a coroutine. */
typedef enum { COROLLA_WITH_FRESH, COROLLA_WITH_PASSED_ON, COROLLA_WITH_FINISHED } corolla_with_status;

/* A bound method, or the coroutine that it has become: two types with one layout. */
typedef struct corolla_bound {
    PyObject_HEAD
    corolla_special *special; /* owned */
    PyObject *self;           /* owned */
    vectorcallfunc vectorcall;
    PyObject *weakrefs; /* borrowed */
    PyObject *inner;    /* owned: the method's own coroutine, once it has PASSED_ON; or NULL */
    uint8_t status;     /* corolla_with_status */
} corolla_bound;

/* The bound method as CPython makes it. New reference or NULL. */
PyObject *corolla_bound_plain(corolla_bound *bound);
/* Calls that. */
PyObject *corolla_bound_call_plain(PyObject *bound, PyObject *const *args, size_t nargsf, PyObject *kwnames);
int corolla_bound_traverse(PyObject *self, visitproc visit, void *arg);
void corolla_bound_dealloc(PyObject *self);

/* Makes a coroutine of a bound method that only its caller has, and gives it: a new reference. */
PyObject *corolla_with_coroutine_become(corolla_bound *bound);
/* Makes a bound method of it again, to be dropped. It warns if it was never awaited. */
void corolla_with_coroutine_end(corolla_bound *bound);

extern PyMemberDef corolla_bound_members[];
extern PyType_Spec corolla_special_spec, corolla_bound_spec, corolla_with_coroutine_spec;

#endif
