/* The life of a future: pending, then done, then everyone who waits is told. The Python type is in
 * future_type.c. */
#include <string.h>

#include "callback.h"
#include "freelist.h"

/* ---- Making ------------------------------------------------------------------------------ */

void
corolla_future_blank(corolla_future *fut, corolla_state *state)
{
    memset((char *)fut + sizeof(PyObject), 0, sizeof *fut - sizeof(PyObject));
    fut->state = state;
}

PyObject *
corolla_future_new(corolla_core *core)
{
    corolla_state *state = core->state;
    PyObject *self = freelist_new(state, &state->freelists->futures, state->future_type);
    if (self == NULL) {
        return NULL;
    }
    corolla_future *fut = (corolla_future *)self;
    corolla_future_blank(fut, state);
    fut->loop = Py_NewRef(core->loop);
    fut->core = core;
    PyObject_GC_Track(self);
    if (core->debug && corolla_future_trace(fut) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

int
corolla_future_trace(corolla_future *fut)
{
    PyObject *stack = PyObject_CallNoArgs(fut->state->extract_stack);
    if (stack == NULL) {
        return -1;
    }
    Py_XSETREF(fut->source_traceback, stack);
    return 0;
}

int
corolla_future_init(corolla_future *fut, PyObject *loop)
{
    if (fut->loop != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s object is already initialized", fut->is_task ? "Task" : "Future");
        return -1;
    }
    if (loop == NULL || loop == Py_None) {
        loop = PyObject_CallNoArgs(fut->state->get_event_loop);
        if (loop == NULL) {
            return -1;
        }
    }
    else {
        Py_INCREF(loop);
    }
    corolla_core *core = corolla_core_of(fut->state, loop);
    int debug;
    if (core != NULL) {
        debug = core->debug;
    }
    else {
        PyObject *answer = PyObject_CallMethodNoArgs(loop, fut->state->s.get_debug);
        debug = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
    }
    if (debug < 0) {
        Py_DECREF(loop);
        return -1;
    }
    fut->loop = loop;
    fut->core = core;
    return debug ? corolla_future_trace(fut) : 0;
}

int
corolla_future_check(corolla_future *fut)
{
    if (fut->loop == NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s object is not initialized.", fut->is_task ? "Task" : "Future");
        return -1;
    }
    return 0;
}

/* ---- Waiters ----------------------------------------------------------------------------- */

int
corolla_future_add_waiter(corolla_future *fut, PyObject *waiter)
{
    if (fut->waiter == NULL && fut->more_count == 0) {
        fut->waiter = Py_NewRef(waiter);
        return 0;
    }
    if (fut->more_count == fut->more_capacity) {
        uint32_t capacity = fut->more_capacity == 0 ? 4 : fut->more_capacity * 2;
        PyObject **more = PyMem_Realloc(fut->more, capacity * sizeof *more);
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        fut->more = more;
        fut->more_capacity = capacity;
    }
    fut->more[fut->more_count++] = Py_NewRef(waiter);
    return 0;
}

/* Takes one waiter out by identity. The structure is whole before the reference goes. */
bool
corolla_future_drop_waiter(corolla_future *fut, PyObject *waiter)
{
    PyObject *gone = NULL;
    if (fut->waiter == waiter) {
        gone = fut->waiter;
        fut->waiter = NULL;
        if (fut->more_count > 0) {
            fut->waiter = fut->more[0];
            fut->more_count--;
            memmove(fut->more, fut->more + 1, fut->more_count * sizeof *fut->more);
        }
    }
    for (uint32_t i = 0; gone == NULL && i < fut->more_count; i++) {
        if (fut->more[i] == waiter) {
            gone = waiter;
            fut->more_count--;
            memmove(fut->more + i, fut->more + i + 1, (fut->more_count - i) * sizeof *fut->more);
        }
    }
    Py_XDECREF(gone);
    return gone != NULL;
}

/* Queues one waiter of a future that is done. Steals waiter. 0 or -1. */
static int
tell(corolla_future *fut, PyObject *waiter)
{
    corolla_state *state = fut->state;
    bool is_callback = Py_IS_TYPE(waiter, state->callback_type);
    if (fut->core != NULL && corolla_core_takes_jobs(fut->core)) {
        if (is_callback) {
            ((corolla_callback *)waiter)->future = Py_NewRef((PyObject *)fut);
            return corolla_core_post(fut->core, corolla_callback_job, waiter);
        }
        return corolla_core_post(fut->core, corolla_task_wakeup_job, waiter);
    }
    /* Somebody else's loop: through its call_soon(callback, future, context=context). */
    PyObject *callable, *context;
    if (is_callback) {
        corolla_callback *cb = (corolla_callback *)waiter;
        if (cb->fn != NULL) {
            cb->future = Py_NewRef((PyObject *)fut);
            callable = corolla_callback_callable(waiter);
            context = NULL;
        }
        else {
            context = corolla_own_context(&cb->queued);
            callable = context == NULL ? NULL : Py_NewRef(cb->callable);
        }
    }
    else {
        callable = corolla_task_wakeup_callable(waiter);
        context = ((corolla_task *)waiter)->queued.context;
    }
    PyObject *handle = NULL;
    if (callable != NULL) {
        handle = corolla_foreign_call_soon(state, fut->loop, callable, (PyObject *)fut, context);
    }
    Py_XDECREF(callable);
    Py_DECREF(waiter);
    if (handle == NULL) {
        return -1;
    }
    Py_DECREF(handle);
    return 0;
}

/* The list is taken out of the future before anyone is told. Every waiter is told or dropped: the first
 * error is the one raised. */
static int
tell_all(corolla_future *fut)
{
    PyObject *first = fut->waiter;
    PyObject **more = fut->more;
    uint32_t count = fut->more_count;
    fut->waiter = NULL;
    fut->more = NULL;
    fut->more_count = fut->more_capacity = 0;
    int rc = 0;
    PyObject *failure = NULL;
    if (first != NULL) {
        rc = tell(fut, first);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (rc < 0 && failure == NULL) {
            failure = PyErr_GetRaisedException();
        }
        else if (rc < 0) {
            PyErr_Clear();
        }
        rc = tell(fut, more[i]);
    }
    PyMem_Free(more);
    if (failure != NULL) {
        PyErr_SetRaisedException(failure);
        rc = -1;
    }
    return rc;
}

int
corolla_future_on_done(PyObject *future, corolla_done_fn fn, PyObject *arg)
{
    corolla_future *fut = (corolla_future *)future;
    PyObject *cb = corolla_callback_new_c(fut->state, fn, arg);
    if (cb == NULL) {
        return -1;
    }
    if (fut->status != COROLLA_PENDING) {
        return tell(fut, cb);
    }
    int rc = corolla_future_add_waiter(fut, cb);
    Py_DECREF(cb);
    return rc;
}

int
corolla_future_tell_now(corolla_future *fut, PyObject *waiter)
{
    return tell(fut, Py_NewRef(waiter));
}

/* ---- Becoming done ----------------------------------------------------------------------- */

static int
invalid_state(corolla_future *fut)
{
    static const char *const names[] = {"PENDING", "CANCELLED", "FINISHED"};
    PyErr_Format(fut->state->InvalidStateError, "%s: %R", names[fut->status], fut);
    return -1;
}

int
corolla_future_set_result(PyObject *future, PyObject *result)
{
    corolla_future *fut = (corolla_future *)future;
    if (corolla_future_check(fut) < 0) {
        return -1;
    }
    if (fut->status != COROLLA_PENDING) {
        return invalid_state(fut);
    }
    fut->result = Py_NewRef(result);
    fut->status = COROLLA_FINISHED;
    return tell_all(fut);
}

int
corolla_future_set_exception_raw(corolla_future *fut, PyObject *exc)
{
    PyObject *old = fut->exception_tb;
    fut->exception = exc;
    fut->exception_tb = PyException_GetTraceback(exc);
    fut->status = COROLLA_FINISHED;
    Py_XDECREF(old);
    int rc = tell_all(fut);
    fut->log_traceback = rc == 0; /* as asyncio: an error here says enough */
    return rc;
}

int
corolla_future_set_exception(PyObject *future, PyObject *given)
{
    corolla_future *fut = (corolla_future *)future;
    if (corolla_future_check(fut) < 0) {
        return -1;
    }
    if (fut->status != COROLLA_PENDING) {
        return invalid_state(fut);
    }
    PyObject *exc;
    if (PyExceptionClass_Check(given)) {
        exc = PyObject_CallNoArgs(given);
        if (exc == NULL) {
            return -1;
        }
        if (fut->status != COROLLA_PENDING) {
            Py_DECREF(exc);
            return invalid_state(fut);
        }
    }
    else {
        exc = Py_NewRef(given);
    }
    if (!PyExceptionInstance_Check(exc)) {
        Py_DECREF(exc);
        PyErr_SetString(PyExc_TypeError, "invalid exception object");
        return -1;
    }
    if (PyErr_GivenExceptionMatches(exc, PyExc_StopIteration)) {
        PyObject *message = PyUnicode_FromString("StopIteration interacts badly with generators and cannot be "
                                                 "raised into a Future");
        PyObject *outer = message == NULL ? NULL : PyObject_CallOneArg(PyExc_RuntimeError, message);
        Py_XDECREF(message);
        if (outer == NULL) {
            Py_DECREF(exc);
            return -1;
        }
        PyException_SetCause(outer, Py_NewRef(exc));
        PyException_SetContext(outer, exc);
        exc = outer;
    }
    return corolla_future_set_exception_raw(fut, exc);
}

int
corolla_future_set_raised(PyObject *future)
{
    PyObject *exc = PyErr_GetRaisedException();
    int rc = corolla_future_set_exception(future, exc);
    Py_DECREF(exc);
    return rc;
}

int
corolla_future_cancel_base(corolla_future *fut, PyObject *msg)
{
    fut->log_traceback = false;
    if (fut->status != COROLLA_PENDING) {
        return 0;
    }
    fut->status = COROLLA_CANCELLED;
    Py_XSETREF(fut->cancel_message, Py_XNewRef(msg));
    return tell_all(fut) < 0 ? -1 : 1;
}

int
corolla_future_cancel(PyObject *future, PyObject *msg)
{
    corolla_future *fut = (corolla_future *)future;
    if (corolla_future_check(fut) < 0) {
        return -1;
    }
    if (fut->is_task) {
        return corolla_task_cancel((corolla_task *)fut, msg);
    }
    return corolla_future_cancel_base(fut, msg);
}

int
corolla_future_complete(PyObject *future, PyObject *value)
{
    if (((corolla_future *)future)->status != COROLLA_PENDING) {
        PyErr_Clear();
        return 0;
    }
    return value != NULL ? corolla_future_set_result(future, value) : corolla_future_set_raised(future);
}

/* ---- What came of it --------------------------------------------------------------------- */

PyObject *
corolla_future_cancelled_error(corolla_future *fut)
{
    if (fut->cancelled_exc != NULL) {
        PyObject *exc = fut->cancelled_exc;
        fut->cancelled_exc = NULL;
        return exc;
    }
    if (fut->cancel_message == NULL || fut->cancel_message == Py_None) {
        return PyObject_CallNoArgs(fut->state->CancelledError);
    }
    return PyObject_CallOneArg(fut->state->CancelledError, fut->cancel_message);
}

void
corolla_raise(PyObject *exc)
{
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_DECREF(exc);
}

int
corolla_future_take_exception(corolla_future *fut, PyObject **exc)
{
    *exc = NULL;
    if (fut->status == COROLLA_CANCELLED) {
        *exc = corolla_future_cancelled_error(fut);
        return *exc == NULL ? -1 : 0;
    }
    if (fut->status != COROLLA_FINISHED) {
        PyErr_SetString(fut->state->InvalidStateError, "Result is not ready.");
        return -1;
    }
    fut->log_traceback = false;
    if (fut->exception == NULL) {
        return 0;
    }
    if (PyException_SetTraceback(fut->exception, fut->exception_tb != NULL ? fut->exception_tb : Py_None) < 0) {
        return -1;
    }
    *exc = Py_NewRef(fut->exception);
    return 0;
}

PyObject *
corolla_future_result(PyObject *future)
{
    corolla_future *fut = (corolla_future *)future;
    PyObject *exc;
    if (corolla_future_take_exception(fut, &exc) < 0) {
        return NULL;
    }
    if (exc != NULL) {
        corolla_raise(exc);
        return NULL;
    }
    return Py_NewRef(fut->result);
}

void
corolla_future_report_unretrieved(corolla_future *fut)
{
    corolla_state *state = fut->state;
    PyObject *exc = Py_XNewRef(fut->exception);
    fut->log_traceback = false;
    const char *name = strrchr(Py_TYPE(fut)->tp_name, '.');
    name = name != NULL ? name + 1 : Py_TYPE(fut)->tp_name;
    PyObject *message = PyUnicode_FromFormat("%s exception was never retrieved", name);
    PyObject *context = PyDict_New();
    if (exc == NULL || context == NULL || message == NULL || PyDict_SetItem(context, state->s.message, message) < 0 ||
        PyDict_SetItem(context, state->s.exception, exc) < 0 ||
        PyDict_SetItem(context, state->s.future, (PyObject *)fut) < 0 ||
        (fut->source_traceback != NULL &&
         PyDict_SetItem(context, state->s.source_traceback, fut->source_traceback) < 0)) {
        PyErr_WriteUnraisable((PyObject *)fut);
    }
    else if (corolla_report_context(state, fut->loop, context) < 0) {
        PyErr_WriteUnraisable((PyObject *)fut);
    }
    Py_XDECREF(exc);
    Py_XDECREF(message);
    Py_XDECREF(context);
}

/* ---- Memory ------------------------------------------------------------------------------ */

int
corolla_future_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_future *fut = (corolla_future *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(fut->dict);
    Py_VISIT(fut->loop);
    Py_VISIT(fut->waiter);
    for (uint32_t i = 0; i < fut->more_count; i++) {
        Py_VISIT(fut->more[i]);
    }
    Py_VISIT(fut->result);
    Py_VISIT(fut->exception);
    Py_VISIT(fut->exception_tb);
    Py_VISIT(fut->cancel_message);
    Py_VISIT(fut->cancelled_exc);
    Py_VISIT(fut->source_traceback);
    return 0;
}

int
corolla_future_clear(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    PyObject **more = fut->more;
    uint32_t count = fut->more_count;
    fut->more = NULL;
    fut->more_count = fut->more_capacity = 0;
    /* core is borrowed from loop: they go together. */
    fut->core = NULL;
    Py_CLEAR(fut->loop);
    Py_CLEAR(fut->dict);
    Py_CLEAR(fut->waiter);
    Py_CLEAR(fut->result);
    Py_CLEAR(fut->exception);
    Py_CLEAR(fut->exception_tb);
    Py_CLEAR(fut->cancel_message);
    Py_CLEAR(fut->cancelled_exc);
    Py_CLEAR(fut->source_traceback);
    for (uint32_t i = 0; i < count; i++) {
        Py_DECREF(more[i]);
    }
    PyMem_Free(more);
    return 0;
}

static void
clear_either(corolla_future *fut)
{
    if (fut->is_task) {
        corolla_task_clear((PyObject *)fut);
    }
    else {
        corolla_future_clear((PyObject *)fut);
    }
}

static void
drop_either(corolla_future *fut)
{
    corolla_state *state = fut->state;
    if (fut->is_task) {
        freelist_drop(state, &state->freelists->tasks, state->task_type, (PyObject *)fut, fut->finalized);
    }
    else {
        freelist_drop(state, &state->freelists->futures, state->future_type, (PyObject *)fut, fut->finalized);
    }
}

void
corolla_future_bury(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    nest *dying = &fut->state->freelists->dying_futures;
    if (dying->depth == NEST_DEEPEST) {
        fut->weakrefs = dying->late;
        dying->late = self;
        return;
    }
    dying->depth++;
    clear_either(fut);
    while (dying->depth == 1 && dying->late != NULL) {
        corolla_future *late = (corolla_future *)dying->late;
        dying->late = late->weakrefs;
        late->weakrefs = NULL;
        clear_either(late);
        drop_either(late);
    }
    dying->depth--;
    drop_either(fut); /* last of all: the state may go with it */
}
