/* Future as Python sees it. What it does is in future.c. */
#include <string.h>

#include "../args.h"
#include "callback.h"
#include "freelist.h"

/* ---- Life -------------------------------------------------------------------------------- */

static PyObject *
future_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((corolla_future *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

static int
future_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", NULL};
    PyObject *loop = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:Future", names, &loop)) {
        return -1;
    }
    return corolla_future_init((corolla_future *)self, loop);
}

static void
future_tp_finalize(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    fut->finalized = true;
    if (fut->log_traceback && fut->loop != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        corolla_future_report_unretrieved(fut);
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
}

static void
future_tp_dealloc(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    corolla_state *state = fut->state;
    if (fut->log_traceback || Py_TYPE(self) != state->future_type) {
        if (PyObject_CallFinalizerFromDealloc(self) < 0) {
            return; /* resurrected */
        }
    }
    PyObject_GC_UnTrack(self);
    if (fut->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    corolla_future_bury(self);
}

static PyObject *
future_tp_repr(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    if (fut->loop == NULL) {
        return PyUnicode_FromFormat("<%s not initialized>", fut->is_task ? "Task" : "Future");
    }
    return PyObject_CallOneArg(fut->state->future_repr, self);
}

/* ---- Methods ----------------------------------------------------------------------------- */

PyDoc_STRVAR(
    result_doc,
    "result($self, /)\n--\n\n"
    "Return the result.\n\n"
    "Raises the exception that was set, CancelledError if it was cancelled, InvalidStateError if it is not done.\n"
    "Specified by asyncio.Future.result().");

static PyObject *
future_result(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (((corolla_future *)self)->loop == NULL) {
        PyErr_SetString(((corolla_future *)self)->state->InvalidStateError, "Result is not ready.");
        return NULL;
    }
    return corolla_future_result(self);
}

PyDoc_STRVAR(exception_doc,
             "exception($self, /)\n--\n\n"
             "Return the exception that was set, or None.\n\n"
             "Raises CancelledError if it was cancelled, InvalidStateError if it is not done. Specified by\n"
             "asyncio.Future.exception().");

static PyObject *
future_exception(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    if (fut->loop != NULL && fut->status == COROLLA_CANCELLED) {
        PyObject *exc = corolla_future_cancelled_error(fut);
        if (exc != NULL) {
            corolla_raise(exc);
        }
        return NULL;
    }
    if (fut->loop == NULL || fut->status != COROLLA_FINISHED) {
        PyErr_SetString(fut->state->InvalidStateError, "Exception is not set.");
        return NULL;
    }
    fut->log_traceback = false;
    return Py_NewRef(fut->exception != NULL ? fut->exception : Py_None);
}

PyDoc_STRVAR(set_result_doc,
             "set_result($self, result, /)\n--\n\n"
             "Mark it done with a result and queue its callbacks.\n\n"
             "Raises InvalidStateError if it is done already. Specified by asyncio.Future.set_result().");

static PyObject *
future_set_result(PyObject *self, PyObject *result)
{
    if (corolla_future_set_result(self, result) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

bool
corolla_is_plain_set_result(corolla_state *state, PyObject *callable)
{
    return PyCFunction_CheckExact(callable) && PyCFunction_GET_FUNCTION(callable) == future_set_result &&
           Py_IS_TYPE(PyCFunction_GET_SELF(callable), state->future_type);
}

PyDoc_STRVAR(
    set_exception_doc,
    "set_exception($self, exception, /)\n--\n\n"
    "Mark it done with an exception (an instance or a class) and queue its callbacks.\n\n"
    "Raises InvalidStateError if it is done already. StopIteration is wrapped in RuntimeError, since it cannot be\n"
    "raised into a coroutine. Specified by asyncio.Future.set_exception().");

static PyObject *
future_set_exception(PyObject *self, PyObject *exc)
{
    if (corolla_future_set_exception(self, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_done_callback_doc,
             "add_done_callback($self, fn, /, *, context=None)\n--\n\n"
             "Queue fn(future) on the loop when this is done, or at once if it is.\n\n"
             "context: the contextvars.Context to call it in, a copy of the current one if None. Specified by\n"
             "asyncio.Future.add_done_callback().");

static PyObject *
future_add_done_callback(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fn", "context", NULL};
    static const corolla_signature sig = {"add_done_callback", names, 1, 1, NULL};
    PyObject *given[2];
    corolla_future *fut = (corolla_future *)self;
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0 || corolla_future_check(fut) < 0) {
        return NULL;
    }
    PyObject *context = given[1];
    corolla_queued queued = {0};
    if (context == NULL || context == Py_None) {
        if (corolla_queue_context(fut->core, &queued) < 0) {
            return NULL;
        }
    }
    else if (!PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError, "a contextvars.Context is required, got %R", context);
        return NULL;
    }
    else {
        queued.context = Py_NewRef(context);
    }
    PyObject *cb = corolla_callback_new(fut->state, given[0], queued);
    if (cb == NULL) {
        return NULL;
    }
    int rc = fut->status != COROLLA_PENDING ? corolla_future_tell_now(fut, cb) : corolla_future_add_waiter(fut, cb);
    Py_DECREF(cb);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Does a waiter stand for this callable? 1, 0 or -1. */
static int
waiter_is(corolla_state *state, PyObject *waiter, PyObject *fn)
{
    PyObject *callable;
    if (Py_IS_TYPE(waiter, state->callback_type)) {
        corolla_callback *cb = (corolla_callback *)waiter;
        if (cb->callable == NULL) {
            return 0;
        }
        callable = Py_NewRef(cb->callable);
    }
    else {
        callable = corolla_task_wakeup_callable(waiter);
        if (callable == NULL) {
            return -1;
        }
    }
    int same = PyObject_RichCompareBool(callable, fn, Py_EQ);
    Py_DECREF(callable);
    return same;
}

/* All waiters, in order, as a new list. Making it may run the collector, and so code of others, which may add some;
 * filling it does not. */
static PyObject *
waiter_list(corolla_future *fut)
{
    PyObject *list = PyList_New(0);
    if (list != NULL && fut->waiter != NULL && PyList_Append(list, fut->waiter) < 0) {
        Py_CLEAR(list);
    }
    for (uint32_t k = 0; list != NULL && k < fut->more_count; k++) {
        if (PyList_Append(list, fut->more[k]) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

PyDoc_STRVAR(remove_done_callback_doc, "remove_done_callback($self, fn, /)\n--\n\n"
                                       "Remove every registration of fn. Return how many there were.\n\n"
                                       "Specified by asyncio.Future.remove_done_callback().");

static PyObject *
future_remove_done_callback(PyObject *self, PyObject *fn)
{
    corolla_future *fut = (corolla_future *)self;
    if (corolla_future_check(fut) < 0) {
        return NULL;
    }
    /* The comparison is user code, which may add, remove or complete: it runs over a copy, and only what is
     * still there is removed. */
    PyObject *waiters = waiter_list(fut);
    if (waiters == NULL) {
        return NULL;
    }
    Py_ssize_t removed = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters); i++) {
        PyObject *waiter = PyList_GET_ITEM(waiters, i);
        int same = waiter_is(fut->state, waiter, fn);
        if (same < 0) {
            Py_DECREF(waiters);
            return NULL;
        }
        if (same && corolla_future_drop_waiter(fut, waiter)) {
            removed++;
        }
    }
    Py_DECREF(waiters);
    return PyLong_FromSsize_t(removed);
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /, msg=None)\n--\n\n"
                         "Cancel it and queue its callbacks. Return False if it is done already.\n\n"
                         "msg: what the CancelledError carries. Specified by asyncio.Future.cancel().");

static PyObject *
future_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msg", NULL};
    static const corolla_signature sig = {"cancel", names, 0, 1, NULL};
    PyObject *msg;
    if (corolla_unpack(&sig, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    int rc = corolla_future_cancel(self, msg);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

PyDoc_STRVAR(cancelled_doc, "cancelled($self, /)\n--\n\nReturn True if it was cancelled.");

static PyObject *
future_cancelled(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_future *)self)->status == COROLLA_CANCELLED);
}

PyDoc_STRVAR(done_doc, "done($self, /)\n--\n\n"
                       "Return True if it is done: it has a result or an exception, or was cancelled.");

static PyObject *
future_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_future *)self)->status != COROLLA_PENDING);
}

PyDoc_STRVAR(get_loop_doc, "get_loop($self, /)\n--\n\nReturn the event loop it is bound to.");

static PyObject *
future_get_loop(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    if (corolla_future_check(fut) < 0) {
        return NULL;
    }
    return Py_NewRef(fut->loop);
}

PyDoc_STRVAR(make_cancelled_error_doc,
             "_make_cancelled_error($self, /)\n--\n\n"
             "Return the CancelledError to raise for it. To be called once for each cancellation.");

static PyObject *
future_make_cancelled_error(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_future_cancelled_error((corolla_future *)self);
}

static PyObject *
future_await(PyObject *self)
{
    if (corolla_future_check((corolla_future *)self) < 0) {
        return NULL;
    }
    return corolla_future_iter_new(self);
}

/* ---- Attributes -------------------------------------------------------------------------- */

#define GETTER(name, expr)                                 \
    static PyObject *name(PyObject *self, void *unused)    \
    {                                                      \
        (void)unused;                                      \
        corolla_future *fut = (corolla_future *)self;      \
        PyObject *value = (expr);                          \
        return Py_NewRef(value != NULL ? value : Py_None); \
    }

GETTER(get_loop_attr, fut->loop)
GETTER(get_exception_attr, fut->exception)
GETTER(get_source_traceback, fut->source_traceback)
GETTER(get_cancel_message, fut->cancel_message)
GETTER(get_log_traceback, fut->log_traceback ? Py_True : Py_False)

static PyObject *
get_result_attr(PyObject *self, void *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    return Py_NewRef(fut->result != NULL ? fut->result : Py_None);
}

static PyObject *
get_state(PyObject *self, void *unused)
{
    (void)unused;
    static const char *const names[] = {"PENDING", "CANCELLED", "FINISHED"};
    corolla_future *fut = (corolla_future *)self;
    return PyUnicode_InternFromString(names[fut->status]);
}

static PyObject *
get_blocking(PyObject *self, void *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    return PyBool_FromLong(fut->loop != NULL && fut->blocking);
}

static int
set_blocking(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    if (corolla_future_check(fut) < 0) {
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    fut->blocking = truth;
    return 0;
}

static int
set_log_traceback(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    if (truth) {
        PyErr_SetString(PyExc_ValueError, "_log_traceback can only be set to False");
        return -1;
    }
    ((corolla_future *)self)->log_traceback = false;
    return 0;
}

static int
set_cancel_message(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    Py_XSETREF(((corolla_future *)self)->cancel_message, Py_NewRef(value));
    return 0;
}

/* None, or a list of (callback, context), as asyncio's own Future shows it. */
static PyObject *
get_callbacks(PyObject *self, void *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    if (fut->waiter == NULL && fut->more_count == 0) {
        Py_RETURN_NONE;
    }
    PyObject *list = waiter_list(fut);
    if (list == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *waiter = PyList_GET_ITEM(list, i);
        PyObject *callable, *context;
        if (Py_IS_TYPE(waiter, fut->state->callback_type)) {
            corolla_callback *cb = (corolla_callback *)waiter;
            context = corolla_own_context(&cb->queued);
            if (context == NULL && PyErr_Occurred()) {
                Py_DECREF(list);
                return NULL;
            }
            callable = Py_NewRef(cb->callable != NULL ? cb->callable : waiter);
        }
        else {
            callable = corolla_task_wakeup_callable(waiter);
            context = ((corolla_task *)waiter)->queued.context; /* its own: it has begun */
        }
        PyObject *pair = callable == NULL ? NULL : PyTuple_Pack(2, callable, context != NULL ? context : Py_None);
        Py_XDECREF(callable);
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, i, pair);
    }
    return list;
}

/* The tasks that wait for it: what asyncio.capture_call_graph() walks. */
static PyObject *
get_awaited_by(PyObject *self, void *unused)
{
    (void)unused;
    corolla_future *fut = (corolla_future *)self;
    PyObject *waiters = waiter_list(fut);
    if (waiters == NULL) {
        return NULL;
    }
    PyObject *tasks = PySet_New(NULL);
    for (Py_ssize_t i = 0; tasks != NULL && i < PyList_GET_SIZE(waiters); i++) {
        PyObject *waiter = PyList_GET_ITEM(waiters, i);
        if (!Py_IS_TYPE(waiter, fut->state->callback_type) && PySet_Add(tasks, waiter) < 0) {
            Py_CLEAR(tasks);
        }
    }
    Py_DECREF(waiters);
    if (tasks != NULL && PySet_GET_SIZE(tasks) == 0) {
        Py_SETREF(tasks, Py_NewRef(Py_None));
    }
    return tasks;
}

/* isinstance(f, asyncio.Future) holds: see docs/architecture.md, "Being an asyncio object". */
static PyObject *
get_class(PyObject *self, void *unused)
{
    (void)unused;
    corolla_state *state = ((corolla_future *)self)->state;
    if (Py_TYPE(self) == state->future_type) {
        return Py_NewRef(state->asyncio_Future);
    }
    if (Py_TYPE(self) == state->task_type) {
        return Py_NewRef(state->asyncio_Task);
    }
    return Py_NewRef((PyObject *)Py_TYPE(self));
}

static PyMethodDef future_methods[] = {
    {"result", future_result, METH_NOARGS, result_doc},
    {"exception", future_exception, METH_NOARGS, exception_doc},
    {"set_result", future_set_result, METH_O, set_result_doc},
    {"set_exception", future_set_exception, METH_O, set_exception_doc},
    {"add_done_callback", (PyCFunction)(void (*)(void))future_add_done_callback, METH_FASTCALL | METH_KEYWORDS,
     add_done_callback_doc},
    {"remove_done_callback", future_remove_done_callback, METH_O, remove_done_callback_doc},
    {"cancel", (PyCFunction)(void (*)(void))future_cancel, METH_FASTCALL | METH_KEYWORDS, cancel_doc},
    {"cancelled", future_cancelled, METH_NOARGS, cancelled_doc},
    {"done", future_done, METH_NOARGS, done_doc},
    {"get_loop", future_get_loop, METH_NOARGS, get_loop_doc},
    {"_make_cancelled_error", future_make_cancelled_error, METH_NOARGS, make_cancelled_error_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "See PEP 585."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef future_getset[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_state", get_state, NULL, "PENDING, CANCELLED or FINISHED.", NULL},
    {"_asyncio_future_blocking", get_blocking, set_blocking, "PEP 3156's mark of a future being awaited.", NULL},
    {"_asyncio_awaited_by", get_awaited_by, NULL, "The tasks that await it, or None.", NULL},
    {"_loop", get_loop_attr, NULL, NULL, NULL},
    {"_callbacks", get_callbacks, NULL, NULL, NULL},
    {"_result", get_result_attr, NULL, NULL, NULL},
    {"_exception", get_exception_attr, NULL, NULL, NULL},
    {"_log_traceback", get_log_traceback, set_log_traceback, NULL, NULL},
    {"_source_traceback", get_source_traceback, NULL, "Where it was made, in debug mode.", NULL},
    {"_cancel_message", get_cancel_message, set_cancel_message, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef future_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_future, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(corolla_future, dict), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    future_doc,
    "Future(*, loop=None)\n--\n\n"
    "A result that is not there yet.\n\n"
    "loop: the event loop it is bound to, the current one if None. Not tied to a thread, and not safe to use from\n"
    "several. Specified by asyncio.Future and PEP 3156.");

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},      {Py_tp_new, future_tp_new},
    {Py_tp_init, future_tp_init},         {Py_tp_dealloc, future_tp_dealloc},
    {Py_tp_finalize, future_tp_finalize}, {Py_tp_traverse, corolla_future_traverse},
    {Py_tp_clear, corolla_future_clear},  {Py_tp_repr, future_tp_repr},
    {Py_tp_iter, future_await},           {Py_am_await, future_await},
    {Py_tp_methods, future_methods},      {Py_tp_getset, future_getset},
    {Py_tp_members, future_members},      {0, NULL},
};

PyType_Spec corolla_future_spec = {
    .name = "corolla.Future",
    .basicsize = sizeof(corolla_future),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = future_slots,
};
