/* Any future: a plain one of ours directly, every other (a subclass, another library's) through its public methods. */
#include "callback.h"

/* Calls a method that answers yes or no: 1, 0 or -1. */
static int
ask(PyObject *future, PyObject *method)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, method);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

static int
ask_function(PyObject *function, PyObject *obj)
{
    PyObject *answer = PyObject_CallOneArg(function, obj);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int
corolla_any_isfuture(corolla_state *state, PyObject *obj)
{
    if (corolla_is_native_coroutine(state, obj)) {
        return 0;
    }
    return corolla_is_plain_future(state, obj) ? 1 : ask_function(state->isfuture, obj);
}

int
corolla_any_iscoroutine(corolla_state *state, PyObject *obj)
{
    if (corolla_is_native_coroutine(state, obj)) {
        return 1;
    }
    return corolla_is_plain_future(state, obj) ? 0 : ask_function(state->iscoroutine, obj);
}

int
corolla_any_done(corolla_state *state, PyObject *future)
{
    return corolla_is_plain_future(state, future) ? corolla_future_done(future) : ask(future, state->s.done);
}

int
corolla_any_cancelled(corolla_state *state, PyObject *future)
{
    if (corolla_is_plain_future(state, future)) {
        return ((corolla_future *)future)->status == COROLLA_CANCELLED;
    }
    return ask(future, state->s.cancelled);
}

PyObject *
corolla_any_exception(corolla_state *state, PyObject *future)
{
    if (!corolla_is_plain_future(state, future)) {
        return PyObject_CallMethodNoArgs(future, state->s.exception);
    }
    corolla_future *fut = (corolla_future *)future;
    fut->log_traceback = false;
    return Py_NewRef(fut->exception != NULL ? fut->exception : Py_None);
}

PyObject *
corolla_any_result(corolla_state *state, PyObject *future)
{
    return corolla_is_plain_future(state, future) ? corolla_future_result(future)
                                                  : PyObject_CallMethodNoArgs(future, state->s.result);
}

static int
foreign_cancel(corolla_state *state, PyObject *future, PyObject *msg)
{
    PyObject *names = PyTuple_Pack(1, state->s.msg);
    if (names == NULL) {
        return -1;
    }
    PyObject *stack[2] = {future, msg != NULL ? msg : Py_None};
    PyObject *answer = PyObject_VectorcallMethod(state->s.cancel, stack, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_DECREF(names);
    if (answer == NULL) {
        return -1;
    }
    int cancelled = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return cancelled;
}

int
corolla_any_cancel(corolla_state *state, PyObject *future, PyObject *msg)
{
    return corolla_is_plain_future(state, future) ? corolla_future_cancel(future, msg)
                                                  : foreign_cancel(state, future, msg);
}

/* A number that a method gave. Steals answer (NULL: an exception is set). 0 or -1. */
static int
count(PyObject *answer, int64_t *number)
{
    *number = answer == NULL ? -1 : PyLong_AsLongLong(answer);
    Py_XDECREF(answer);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

/* future.method(arg). 0 or -1. */
static int
tell(PyObject *future, PyObject *method, PyObject *arg)
{
    PyObject *done = PyObject_CallMethodOneArg(future, method, arg);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
corolla_any_cancelling(corolla_state *state, PyObject *task, int64_t *requests)
{
    if (Py_IS_TYPE(task, state->task_type)) {
        *requests = ((corolla_task *)task)->cancel_requests;
        return 0;
    }
    return count(PyObject_CallMethodNoArgs(task, state->s.cancelling), requests);
}

int
corolla_any_uncancel(corolla_state *state, PyObject *task, int64_t *requests)
{
    if (Py_IS_TYPE(task, state->task_type)) {
        *requests = corolla_task_uncancel((corolla_task *)task);
        return 0;
    }
    return count(PyObject_CallMethodNoArgs(task, state->s.uncancel), requests);
}

int
corolla_any_set_result(corolla_state *state, PyObject *future, PyObject *result)
{
    return corolla_is_plain_future(state, future) ? corolla_future_set_result(future, result)
                                                  : tell(future, state->s.set_result, result);
}

int
corolla_any_set_exception(corolla_state *state, PyObject *future, PyObject *exc)
{
    return corolla_is_plain_future(state, future) ? corolla_future_set_exception(future, exc)
                                                  : tell(future, state->s.set_exception, exc);
}

/* get_loop(), or _loop of older kinds. */
PyObject *
corolla_any_loop(corolla_state *state, PyObject *future)
{
    if (corolla_is_plain_future(state, future) && ((corolla_future *)future)->loop != NULL) {
        return Py_NewRef(((corolla_future *)future)->loop);
    }
    PyObject *method;
    int found = PyObject_GetOptionalAttr(future, state->s.get_loop, &method);
    if (found < 0) {
        return NULL;
    }
    if (found == 0) {
        return PyObject_GetAttr(future, state->s._loop);
    }
    PyObject *loop = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return loop;
}

PyObject *
corolla_any_watch(corolla_state *state, PyObject *future, corolla_done_fn fn, PyObject *arg)
{
    PyObject *callback = corolla_callback_new_c(state, fn, arg);
    if (callback == NULL) {
        return NULL;
    }
    int rc;
    if (corolla_is_plain_future(state, future)) {
        corolla_future *fut = (corolla_future *)future;
        rc = corolla_future_check(fut);
        if (rc == 0) {
            rc = fut->status != COROLLA_PENDING ? corolla_future_tell_now(fut, callback)
                                                : corolla_future_add_waiter(fut, callback);
        }
    }
    else {
        rc = tell(future, state->s.add_done_callback, callback);
    }
    if (rc < 0) {
        Py_CLEAR(callback);
    }
    return callback;
}

int
corolla_any_unwatch(corolla_state *state, PyObject *future, PyObject *callback)
{
    if (corolla_is_plain_future(state, future)) {
        PyObject *raised = PyErr_GetRaisedException(); /* what the callback held may run a finaliser */
        (void)corolla_future_drop_waiter((corolla_future *)future, callback);
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    int rc = tell(future, state->s.remove_done_callback, callback);
    if (rc < 0) {
        Py_XDECREF(raised);
    }
    else if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return rc;
}
