/* What a future tells besides tasks: a callback with its context, or a C function. Not visible from Python.
 * Once the future is done, the object is its own job. */
#include "callback.h"

#include "freelist.h"

static corolla_callback *
callback_new(corolla_state *state)
{
    PyObject *self = freelist_new(state, &state->freelists->callbacks, state->callback_type);
    if (self == NULL) {
        return NULL;
    }
    corolla_callback *cb = (corolla_callback *)self;
    cb->state = state;
    cb->callable = cb->future = cb->arg = NULL;
    cb->queued = (corolla_queued){0};
    cb->fn = NULL;
    return cb;
}

PyObject *
corolla_callback_new(corolla_state *state, PyObject *callable, corolla_queued queued)
{
    corolla_callback *cb = callback_new(state);
    if (cb == NULL) {
        Py_DECREF(queued.context);
        return NULL;
    }
    cb->callable = Py_NewRef(callable);
    cb->queued = queued;
    PyObject_GC_Track(cb);
    return (PyObject *)cb;
}

PyObject *
corolla_callback_new_c(corolla_state *state, corolla_done_fn fn, PyObject *arg)
{
    corolla_callback *cb = callback_new(state);
    if (cb == NULL) {
        Py_XDECREF(arg);
        return NULL;
    }
    cb->fn = fn;
    cb->arg = arg;
    PyObject_GC_Track(cb);
    return (PyObject *)cb;
}

/* As a Handle would report it. */
static int
callback_report(corolla_callback *cb, corolla_core *core)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    if (cb->callable == NULL || core == NULL) {
        return corolla_report_raised(cb->state, ((corolla_future *)cb->future)->loop, "Exception in callback",
                                     cb->state->s.future, cb->future);
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *context = corolla_own_context(&cb->queued);
    PyObject *handle = context == NULL ? NULL : corolla_handle_new(core, cb->callable, &cb->future, 1, context);
    if (handle == NULL) {
        PyErr_WriteUnraisable(cb->future);
        Py_DECREF(exc);
        return 0;
    }
    PyErr_SetRaisedException(exc);
    int rc = corolla_handle_report((corolla_handle *)handle);
    Py_DECREF(handle);
    return rc;
}

static int
callback_call(corolla_callback *cb)
{
    if (cb->fn != NULL) {
        return cb->fn(cb->future, cb->arg);
    }
    PyObject *stack[2] = {NULL, cb->future};
    corolla_core *core = ((corolla_future *)cb->future)->core;
    PyObject *result =
        corolla_call_queued(core, &cb->queued, cb->callable, stack + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    return 0;
}

int
corolla_callback_job(void *arg)
{
    corolla_callback *cb = arg;
    corolla_core *core = ((corolla_future *)cb->future)->core;
    int rc;
    if (core != NULL) {
        corolla_core_leave_task(core);
    }
    if (core != NULL && core->debug) {
        int64_t begin = corolla_clock();
        rc = callback_call(cb);
        int64_t took = corolla_clock() - begin;
        corolla_core_leave_task(core); /* a task's step may be what was called */
        if (rc == 0 && corolla_core_report_slow(core, cb->callable != NULL ? cb->callable : cb->future, took) < 0) {
            PyErr_WriteUnraisable(cb->future);
        }
    }
    else {
        rc = callback_call(cb);
    }
    if (rc < 0) {
        rc = callback_report(cb, core);
    }
    Py_DECREF(cb);
    return rc;
}

/* By a loop that is not ours, or by a future that is not and passes itself. */
static PyObject *
callback_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    corolla_callback *cb = (corolla_callback *)self;
    PyObject *future = cb->future;
    if (future == NULL && PyTuple_GET_SIZE(args) == 1) {
        future = PyTuple_GET_ITEM(args, 0);
    }
    if (future == NULL || cb->fn == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the future is not done");
        return NULL;
    }
    Py_INCREF(future);
    int rc = cb->fn(future, cb->arg);
    Py_DECREF(future);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
corolla_callback_callable(PyObject *callback)
{
    return Py_NewRef(callback);
}

PyObject *
corolla_foreign_call_soon(corolla_state *state, PyObject *loop, PyObject *callable, PyObject *arg, PyObject *context)
{
    PyObject *stack[4] = {loop, callable, arg, NULL};
    size_t nargs = arg == NULL ? 2 : 3;
    if (context == NULL) {
        return PyObject_VectorcallMethod(state->s.call_soon, stack, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    PyObject *names = PyTuple_Pack(1, state->s.context);
    if (names == NULL) {
        return NULL;
    }
    stack[nargs] = context;
    PyObject *handle =
        PyObject_VectorcallMethod(state->s.call_soon, stack, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_DECREF(names);
    return handle;
}

static int
callback_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_callback *cb = (corolla_callback *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cb->callable);
    Py_VISIT(cb->queued.context);
    Py_VISIT(cb->future);
    Py_VISIT(cb->arg);
    return 0;
}

static int
callback_clear(PyObject *self)
{
    corolla_callback *cb = (corolla_callback *)self;
    Py_CLEAR(cb->callable);
    Py_CLEAR(cb->queued.context);
    Py_CLEAR(cb->future);
    Py_CLEAR(cb->arg);
    return 0;
}

static void
callback_dealloc(PyObject *self)
{
    corolla_callback *cb = (corolla_callback *)self;
    corolla_state *state = cb->state;
    PyObject_GC_UnTrack(self);
    callback_clear(self);
    freelist_drop(state, &state->freelists->callbacks, state->callback_type, self, false);
}

static PyType_Slot callback_slots[] = {
    {Py_tp_dealloc, callback_dealloc},
    {Py_tp_call, callback_tp_call},
    {Py_tp_traverse, callback_traverse},
    {Py_tp_clear, callback_clear},
    {0, NULL},
};

PyType_Spec corolla_callback_spec = {
    .name = "corolla._core.Callback",
    .basicsize = sizeof(corolla_callback),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = callback_slots,
};
