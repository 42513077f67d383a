/* Futures that wait, as _waiters shows them. */
#include "waitlist.h"

/* The one at that place: new reference, or NULL at the end or with an exception. */
static PyObject *
future_at(const corolla_waitlist *list, Py_ssize_t index)
{
    if (list->shown == NULL) {
        return index < (Py_ssize_t)list->ring.count ? Py_NewRef(corolla_waiters_at(&list->ring, (uint32_t)index))
                                                    : NULL;
    }
    PyObject *shown = Py_NewRef(list->shown);
    Py_ssize_t count = PyObject_Size(shown);
    PyObject *future = index < count ? PySequence_GetItem(shown, index) : NULL;
    Py_DECREF(shown);
    return future;
}

/* Nobody else has the deque: back into the ring. 0 or -1. */
static int
hide(corolla_waitlist *list)
{
    Py_ssize_t count = PyObject_Size(list->shown);
    if (count < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *future = PySequence_GetItem(list->shown, i);
        int rc = future == NULL ? -1 : corolla_waiters_push(&list->ring, future);
        Py_XDECREF(future);
        if (rc < 0) {
            corolla_waiters_clear(&list->ring);
            return -1;
        }
    }
    Py_CLEAR(list->shown);
    return 0;
}

int
corolla_waitlist_push(corolla_state *state, corolla_waitlist *list, PyObject *future)
{
    if (list->shown != NULL && Py_REFCNT(list->shown) == 1 && Py_IS_TYPE(list->shown, (PyTypeObject *)state->deque) &&
        hide(list) < 0) {
        return -1;
    }
    if (list->shown == NULL) {
        return corolla_waiters_push(&list->ring, future);
    }
    PyObject *shown = Py_NewRef(list->shown);
    PyObject *done = PyObject_CallMethodOneArg(shown, state->s.append, future);
    Py_DECREF(shown);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
remove_shown(corolla_state *state, PyObject *shown, PyObject *future)
{
    PyObject *done = PyObject_CallMethodOneArg(shown, state->s.remove, future);
    Py_XDECREF(done);
    if (done != NULL) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

int
corolla_waitlist_remove(corolla_state *state, corolla_waitlist *list, PyObject *future)
{
    if (list->shown == NULL) {
        (void)corolla_waiters_remove(&list->ring, future); /* its coroutine holds it: nothing dies here */
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *shown = Py_NewRef(list->shown);
    int rc = remove_shown(state, shown, future);
    Py_DECREF(shown);
    if (rc < 0) {
        Py_XDECREF(raised);
    }
    else if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return rc;
}

Py_ssize_t
corolla_waitlist_count(const corolla_waitlist *list)
{
    if (list->shown == NULL) {
        return (Py_ssize_t)list->ring.count;
    }
    PyObject *shown = Py_NewRef(list->shown);
    Py_ssize_t count = PyObject_Size(shown);
    Py_DECREF(shown);
    return count;
}

int
corolla_waitlist_is_live(corolla_state *state, const corolla_waitlist *list)
{
    PyObject *future;
    for (Py_ssize_t i = 0; (future = future_at(list, i)) != NULL; i++) {
        int cancelled = corolla_any_cancelled(state, future);
        Py_DECREF(future);
        if (cancelled <= 0) {
            return cancelled < 0 ? -1 : 1;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

int
corolla_waitlist_first(corolla_state *state, const corolla_waitlist *list, PyObject **future)
{
    for (Py_ssize_t i = 0; (*future = future_at(list, i)) != NULL; i++) {
        int done = corolla_any_done(state, *future);
        if (done == 0) {
            return 1;
        }
        Py_CLEAR(*future);
        if (done < 0) {
            return -1;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

Py_ssize_t
corolla_waitlist_wake(corolla_state *state, corolla_waitlist *list, Py_ssize_t most, PyObject *result)
{
    Py_ssize_t woken = 0, i = 0;
    PyObject *future;
    while (woken < most && (future = future_at(list, i)) != NULL) {
        int done = corolla_any_done(state, future);
        int rc = done == 0 ? corolla_any_set_result(state, future, result) : 0;
        i++;
        if (done == 0) {
            woken++;
            /* A loop that calls back at once lets coroutines take themselves out: then from the first one on again, for
             * whoever was woken is done. */
            if (list->shown == NULL &&
                (i > (Py_ssize_t)list->ring.count || corolla_waiters_at(&list->ring, (uint32_t)i - 1) != future)) {
                i = 0;
            }
        }
        Py_DECREF(future);
        if (done < 0 || rc < 0) {
            return -1;
        }
    }
    return woken < most && PyErr_Occurred() ? -1 : woken;
}

int
corolla_waitlist_wake_head(corolla_state *state, corolla_waitlist *list)
{
    if (list->shown == NULL && list->ring.count == 0) {
        return 0;
    }
    PyObject *future = future_at(list, 0);
    if (future == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    int done = corolla_any_done(state, future);
    int rc = done == 0 ? corolla_any_set_result(state, future, Py_True) : 0;
    Py_DECREF(future);
    return done < 0 || rc < 0 ? -1 : 0;
}

PyObject *
corolla_waitlist_show(corolla_state *state, corolla_waitlist *list)
{
    if (list->shown == NULL) {
        PyObject *deque = corolla_waiters_deque(state, &list->ring); /* may run the collector, and so code of others */
        if (deque == NULL) {
            return NULL;
        }
        if (list->shown != NULL) {
            Py_DECREF(deque);
            return Py_NewRef(list->shown);
        }
        list->shown = deque;
        corolla_waiters_clear(&list->ring); /* the deque holds them all */
    }
    return Py_NewRef(list->shown);
}

void
corolla_waitlist_replace(corolla_waitlist *list, PyObject *value)
{
    PyObject *old = list->shown;
    list->shown = value == Py_None ? NULL : Py_NewRef(value);
    corolla_waiters_clear(&list->ring);
    Py_XDECREF(old);
}

int
corolla_waitlist_traverse(corolla_waitlist *list, visitproc visit, void *arg)
{
    Py_VISIT(list->shown);
    return corolla_waiters_traverse(&list->ring, visit, arg);
}

void
corolla_waitlist_clear(corolla_waitlist *list)
{
    corolla_waiters_clear(&list->ring);
    Py_CLEAR(list->shown);
}
