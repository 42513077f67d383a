/* Inside the room: what the two files of TaskGroup share. */
#ifndef COROLLA_TASKGROUP_H
#define COROLLA_TASKGROUP_H

#include "primitives.h"

/* Methods that a Python subclass has replaced: decided once for each group, from its type. */
enum { GROUP_OWN_ABORT = 1, GROUP_OWN_TASK_DONE = 2, GROUP_OWN_BASE_ERROR = 4 };

typedef struct corolla_group {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weakrefs;
    corolla_state *state;   /* borrowed */
    PyObject *loop;         /* owned; NULL until entered */
    corolla_core *core;     /* borrowed from loop; NULL when it is not one of ours */
    PyObject *parent;       /* owned: the task whose async with it is; NULL before and after */
    PyObject *tasks;        /* owned: a set of those that are not known to be done */
    PyObject *errors;       /* owned: a list of what they raised; NULL once that has been raised */
    PyObject *base_error;   /* owned: the first KeyboardInterrupt or SystemExit */
    PyObject *on_completed; /* owned: what __aexit__() waits on */
    unsigned own;           /* GROUP_OWN_ bits */
    bool entered, exiting, aborting;
    bool parent_cancel_requested; /* by us, to be taken back */
    bool cancel_on_enter;
} corolla_group;

Py_ssize_t corolla_group_count(const corolla_group *group); /* of the tasks */
Py_ssize_t corolla_group_error_count(const corolla_group *group);
/* _is_base_error(), whoever's it is: 1, 0 or -1. */
int corolla_group_is_base_error(corolla_group *group, PyObject *exc);
/* _abort(), whoever's it is: 0 or -1. */
int corolla_group_abort(corolla_group *group);
/* Remembers an exception (not stolen) as the base error if it is the first. 0 or -1. */
int corolla_group_note_base_error(corolla_group *group, PyObject *exc);
PyObject *corolla_group_cancel(PyObject *self, PyObject *unused); /* the method cancel() */

extern PyMethodDef corolla_group_methods[];

extern const corolla_coro_spec corolla_group_enter_spec, corolla_group_exit_spec;

typedef struct group_enter_state {
    corolla_group *group; /* owned */
} group_enter_state;

typedef struct group_exit_state {
    corolla_group *group; /* owned */
    PyObject *type, *exc; /* owned: what the body raised; NULL for nothing */
    PyObject *propagate;  /* owned: the cancellation to raise at the end, or NULL */
    PyObject *pending;    /* owned: the last one that broke off the wait, or NULL */
    bool cancelled;       /* the body raised CancelledError */
} group_exit_state;

#endif
