/* Inside the room: a Lock and a Condition, for those who use them without asking Python. */
#ifndef COROLLA_LOCK_H
#define COROLLA_LOCK_H

#include "sync.h"

typedef struct corolla_lock {
    corolla_sync sync;
    bool locked;
} corolla_lock;

/* Each wants a Lock, plain or not. */
int corolla_lock_try(PyObject *lock);           /* 1: it is ours now; 0: somebody else's turn; or -1 */
PyObject *corolla_lock_acquire(PyObject *lock); /* the coroutine acquire(): new reference or NULL */
int corolla_lock_release(PyObject *lock);       /* 0 or -1 */

/* Each wants a Condition. */
PyObject *corolla_condition_new(corolla_state *state);    /* new reference or NULL */
int corolla_condition_try(PyObject *condition);           /* its lock is ours now; 0: await acquire(); or -1 */
PyObject *corolla_condition_acquire(PyObject *condition); /* what acquire() gives, or NULL */
int corolla_condition_release(PyObject *condition);       /* 0 or -1 */
PyObject *corolla_condition_wait(PyObject *condition);    /* the coroutine wait(): new reference or NULL */
int corolla_condition_notify(PyObject *condition, Py_ssize_t most); /* 0 or -1 */

extern PyType_Spec corolla_lock_spec;

#endif
