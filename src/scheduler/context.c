/* Running things in a context (PEP 567).
 *
 * What is queued without a context runs in a copy of the one that is current then. A copy is an object that the
 * collector walks, and hardly any callback sets a variable; so what a running loop queues shares one copy, the
 * snapshot, for as long as the current context maps the same. A snapshot is never entered. Whoever runs is lent a copy
 * of it, the scratch, which is kept for the next one if it comes back as it was: if a variable was set in it, or
 * somebody has got hold of it, it stays the borrower's own. So no callback ever sees what another has set.
 *
 * A task borrows a copy likewise, for its first step, and gives it back after its last. Its context is still entered
 * then (corolla_core_leave_task()): it is spare, and the next task may go on in it.
 *
 * All are dropped before each poll and when the run ends: no value outlives what was queued with it by more than a
 * turn. The loop runs while it has them, so the collector need not know of them. */
#include "callback.h"

static int
visit_part(PyObject *part, void *arg)
{
    if (!PyContext_CheckExact(part)) {
        *(void **)arg = part;
    }
    return 0;
}

/* The mapping that a context holds: an immutable object, another one after every change. Borrowed. Its traverse
 * function is the public way to it. */
static void *
mapping_of(PyObject *context)
{
    void *mapping = NULL;
    Py_TYPE(context)->tp_traverse(context, visit_part, &mapping);
    return mapping;
}

void
corolla_core_forget_contexts_slow(corolla_core *core)
{
    PyObject *snapshot = core->snapshot, *scratch = core->scratch;
    core->snapshot = core->scratch = NULL;
    core->snapshot_mapping = NULL;
    core->spare = false;
    Py_XDECREF(scratch);
    Py_XDECREF(snapshot);
}

/* Steals snapshot, which maps that. */
static void
adopt(corolla_core *core, PyObject *snapshot, void *mapping)
{
    PyObject *old = core->snapshot, *scratch = core->scratch;
    core->snapshot = snapshot;
    core->snapshot_mapping = mapping;
    core->scratch = NULL;
    core->spare = false;
    Py_XDECREF(scratch);
    Py_XDECREF(old);
}

int
corolla_queue_context(corolla_core *core, corolla_queued *queued)
{
    PyObject *current = core != NULL && core->running ? corolla_current_context() : NULL;
    void *mapping = current == NULL ? NULL : mapping_of(current);
    queued->shared = mapping != NULL;
    if (mapping != NULL && mapping == core->snapshot_mapping) {
        queued->context = Py_NewRef(core->snapshot);
        return 0;
    }
    queued->context = PyContext_CopyCurrent();
    if (queued->context == NULL) {
        return -1;
    }
    if (queued->shared) {
        adopt(core, Py_NewRef(queued->context), mapping);
    }
    return 0;
}

PyObject *
corolla_own_context(corolla_queued *queued)
{
    if (queued->shared) {
        /* Copying may run the collector, and so code of others, which may ask for this very context. */
        PyObject *snapshot = Py_NewRef(queued->context), *own = PyContext_Copy(snapshot);
        if (own != NULL && queued->shared) {
            queued->shared = false;
            Py_SETREF(queued->context, own);
        }
        else {
            Py_XDECREF(own);
        }
        Py_DECREF(snapshot);
        if (own == NULL) {
            return NULL;
        }
    }
    return queued->context;
}

/* A copy of snapshot that nobody else has: new reference or NULL. */
static PyObject *
lend(corolla_core *core, PyObject *snapshot)
{
    if (core == NULL) {
        return PyContext_Copy(snapshot);
    }
    if (core->snapshot != snapshot) {
        adopt(core, Py_NewRef(snapshot), mapping_of(snapshot));
    }
    if (core->snapshot == snapshot) { /* what adopting dropped may have queued something in another context */
        if (core->spare) {
            core->spare = false;
            return Py_NewRef(core->entered);
        }
        if (core->scratch != NULL) {
            PyObject *own = core->scratch;
            core->scratch = NULL;
            return own;
        }
    }
    return PyContext_Copy(snapshot);
}

/* Steals snapshot. */
static void
take_back(corolla_core *core, corolla_queued *queued, PyObject *snapshot)
{
    PyObject *own = queued->context;
    if (own != NULL && core != NULL && core->snapshot == snapshot && core->scratch == NULL && Py_REFCNT(own) == 1 &&
        mapping_of(own) == core->snapshot_mapping) {
        core->scratch = own;
        queued->context = snapshot;
        queued->shared = true;
    }
    else {
        Py_DECREF(snapshot);
    }
}

PyObject *
corolla_call_queued(corolla_core *core, corolla_queued *queued, PyObject *callback, PyObject *const *args, size_t nargs)
{
    PyObject *snapshot = NULL, *own = NULL;
    if (queued->shared) {
        snapshot = Py_NewRef(queued->context);
        own = lend(core, snapshot);
        if (own == NULL) {
            Py_DECREF(snapshot);
            return NULL;
        }
    }
    if (!queued->shared) { /* from the first, or since code of others, run by lending, has asked for its context */
        Py_XDECREF(own);
        Py_XDECREF(snapshot);
        PyObject *context = Py_NewRef(queued->context);
        PyObject *result = corolla_call_in(context, callback, args, nargs);
        Py_DECREF(context);
        return result;
    }
    queued->shared = false;
    Py_SETREF(queued->context, own);
    PyObject *result = corolla_call_in(queued->context, callback, args, nargs);
    if (result == NULL) {
        Py_DECREF(snapshot); /* the exception handler runs in this context */
    }
    else {
        take_back(core, queued, snapshot);
    }
    return result;
}

int
corolla_borrow_context(corolla_core *core, corolla_queued *queued)
{
    if (core != NULL && core->snapshot != queued->context) {
        corolla_core_leave_task(core); /* what is dropped for it dies with no task current */
    }
    PyObject *snapshot = Py_NewRef(queued->context), *own = lend(core, snapshot);
    if (own != NULL && queued->shared) {
        queued->shared = false;
        Py_SETREF(queued->context, own);
    }
    else {
        Py_XDECREF(own); /* code of others, run by lending, has asked for it: it is the task's own already */
    }
    Py_DECREF(snapshot);
    return own == NULL ? -1 : 0;
}

void
corolla_give_back_entered(corolla_core *core, corolla_queued *queued)
{
    PyObject *own = core->entered;
    /* Three references: the thread's, whose current context it is, the core's and the task's. */
    if (own != NULL && queued->context == own && core->snapshot != NULL && Py_REFCNT(own) == 3 &&
        mapping_of(own) == core->snapshot_mapping) {
        queued->context = Py_NewRef(core->snapshot);
        queued->shared = true;
        core->spare = true;
        Py_DECREF(own);
    }
}

int
corolla_core_exit_context(corolla_core *core)
{
    PyObject *context = core->entered;
    bool spare = core->spare;
    core->entered = NULL;
    core->spare = false;
    int rc = PyContext_Exit(context);
    if (spare && rc == 0 && core->scratch == NULL) {
        core->scratch = context;
    }
    else {
        Py_DECREF(context);
    }
    return rc;
}

PyObject *
corolla_call_in(PyObject *context, PyObject *callback, PyObject *const *args, size_t nargs)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(callback, args, nargs, NULL);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}
