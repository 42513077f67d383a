/* Futures that wait, first come first served: a ring, until Python asks for it as `_waiters`. From then on that deque
 * holds them, and whoever has it may change it; once nobody else has it any more, the ring does again. */
#ifndef COROLLA_WAITLIST_H
#define COROLLA_WAITLIST_H

#include "../scheduler/waiters.h"

/* All zero bytes is an empty one. */
typedef struct corolla_waitlist {
    corolla_waiters ring; /* empty while shown is set */
    PyObject *shown;      /* owned: what was shown, or set, as _waiters; or NULL */
} corolla_waitlist;

int corolla_waitlist_push(corolla_state *state, corolla_waitlist *list, PyObject *future); /* 0 or -1 */
/* Takes one out; that it is not there is no error. Keeps an exception being raised, unless it fails. 0 or -1. */
int corolla_waitlist_remove(corolla_state *state, corolla_waitlist *list, PyObject *future);
Py_ssize_t corolla_waitlist_count(const corolla_waitlist *list); /* or -1 */
/* Whether somebody in it is not cancelled: 1, 0 or -1. */
int corolla_waitlist_is_live(corolla_state *state, const corolla_waitlist *list);
/* The first that is not done: 1 and a new reference, 0 when there is none, or -1. */
int corolla_waitlist_first(corolla_state *state, const corolla_waitlist *list, PyObject **future);
/* Sets the result of the first so many that are not done; their coroutines take them out. How many, or -1. */
Py_ssize_t corolla_waitlist_wake(corolla_state *state, corolla_waitlist *list, Py_ssize_t most, PyObject *result);
/* Sets the result (True) of the very first, unless it is done. 0 or -1. */
int corolla_waitlist_wake_head(corolla_state *state, corolla_waitlist *list);

/* The deque that holds them from now on. New reference or NULL. */
PyObject *corolla_waitlist_show(corolla_state *state, corolla_waitlist *list);
/* value (not stolen) takes the place of all that wait; None: nobody waits. */
void corolla_waitlist_replace(corolla_waitlist *list, PyObject *value);
int corolla_waitlist_traverse(corolla_waitlist *list, visitproc visit, void *arg);
void corolla_waitlist_clear(corolla_waitlist *list);

#endif
