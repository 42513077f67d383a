/* What locks, queues and streams share. */
#include "waiters.h"

#include <string.h>

/* ---- The loop that something is bound to ---------------------------------------------------- */

int
corolla_binding_bind(corolla_state *state, corolla_binding *binding, PyObject *self)
{
    corolla_core *core = binding->core;
    if (core != NULL && core->running && core->thread == PyThread_get_thread_ident()) {
        return 0; /* a thread runs one loop at a time: it is this one */
    }
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return -1;
    }
    if (binding->loop == NULL) {
        binding->loop = loop;
        binding->core = corolla_core_of(state, loop);
        return 0;
    }
    bool same = loop == binding->loop;
    Py_DECREF(loop);
    if (!same) {
        PyErr_Format(PyExc_RuntimeError, "%R is bound to a different event loop", self);
        return -1;
    }
    return 0;
}

PyObject *
corolla_binding_future(corolla_state *state, corolla_binding *binding)
{
    corolla_core *core = binding->core;
    if (core != NULL && !(core->overridden & COROLLA_OWN_CREATE_FUTURE)) {
        return corolla_future_new(core);
    }
    return PyObject_CallMethodNoArgs(binding->loop, state->s.create_future);
}

/* ---- Futures that wait ---------------------------------------------------------------------- */

static int
waiters_grow(corolla_waiters *waiters)
{
    if (waiters->capacity > UINT32_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    uint32_t capacity = waiters->capacity == 0 ? 4 : waiters->capacity * 2;
    PyObject **items = PyMem_New(PyObject *, capacity);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < waiters->count; i++) {
        items[i] = corolla_waiters_at(waiters, i);
    }
    PyMem_Free(waiters->items);
    waiters->items = items;
    waiters->capacity = capacity;
    waiters->head = 0;
    return 0;
}

int
corolla_waiters_push(corolla_waiters *waiters, PyObject *future)
{
    if (waiters->count == waiters->capacity && waiters_grow(waiters) < 0) {
        return -1;
    }
    waiters->items[(waiters->head + waiters->count) & (waiters->capacity - 1)] = Py_NewRef(future);
    waiters->count++;
    return 0;
}

PyObject *
corolla_waiters_pop(corolla_waiters *waiters)
{
    if (waiters->count == 0) {
        return NULL;
    }
    PyObject *first = waiters->items[waiters->head];
    waiters->head = (waiters->head + 1) & (waiters->capacity - 1);
    waiters->count--;
    return first;
}

bool
corolla_waiters_remove(corolla_waiters *waiters, PyObject *future)
{
    uint32_t mask = waiters->capacity - 1;
    for (uint32_t i = 0; i < waiters->count; i++) {
        if (corolla_waiters_at(waiters, i) != future) {
            continue;
        }
        if (i == 0) {
            waiters->head = (waiters->head + 1) & mask; /* the one that was woken: most often the first */
        }
        for (uint32_t k = i; i > 0 && k + 1 < waiters->count; k++) {
            waiters->items[(waiters->head + k) & mask] = corolla_waiters_at(waiters, k + 1);
        }
        waiters->count--;
        Py_DECREF(future);
        return true;
    }
    return false;
}

PyObject *
corolla_waiters_deque(corolla_state *state, const corolla_waiters *waiters)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < waiters->count; i++) {
        if (PyList_Append(list, corolla_waiters_at(waiters, i)) < 0) {
            Py_CLEAR(list);
        }
    }
    if (list == NULL) {
        return NULL;
    }
    PyObject *deque = PyObject_CallOneArg(state->deque, list);
    Py_DECREF(list);
    return deque;
}

int
corolla_waiters_traverse(corolla_waiters *waiters, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < waiters->count; i++) {
        Py_VISIT(corolla_waiters_at(waiters, i));
    }
    return 0;
}

void
corolla_waiters_clear(corolla_waiters *waiters)
{
    corolla_waiters old = *waiters;
    memset(waiters, 0, sizeof *waiters);
    for (uint32_t i = 0; i < old.count; i++) {
        Py_DECREF(corolla_waiters_at(&old, i));
    }
    PyMem_Free(old.items);
}
