/* Inside the room: a Lock, for those who take it without asking Python. */
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

extern PyType_Spec corolla_lock_spec;

#endif
