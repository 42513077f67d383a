/* corolla.wait_for(): as `async with timeout(t): return await fut`, in one coroutine. */
#include "timeout.h"

typedef struct {
    PyObject *awaitable; /* owned */
    PyObject *limit;     /* owned: seconds, or None */
    PyObject *timer;     /* owned: a Timeout, while there is time */
    PyObject *waiter;    /* owned: with no time, told when the cancelled future is done */
    PyObject *callback;  /* owned: how it is told */
    bool cancelled;      /* here, for want of time */
} WaitForState;

static int
wait_for_traverse(void *data, visitproc visit, void *arg)
{
    WaitForState *st = data;
    Py_VISIT(st->awaitable);
    Py_VISIT(st->limit);
    Py_VISIT(st->timer);
    Py_VISIT(st->waiter);
    Py_VISIT(st->callback);
    return 0;
}

static void
wait_for_clear(void *data)
{
    WaitForState *st = data;
    Py_CLEAR(st->awaitable);
    Py_CLEAR(st->limit);
    Py_CLEAR(st->timer);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->callback);
}

/* ---- No time at all ------------------------------------------------------------------------ */

/* The cancelled future is done: goes on. */
static int
awaitable_done(PyObject *future, PyObject *arg)
{
    (void)future;
    corolla_coro *co = (corolla_coro *)arg;
    PyObject *waiter = ((WaitForState *)corolla_coro_state(co))->waiter;
    if (waiter == NULL) {
        return 0; /* it has been let go meanwhile */
    }
    Py_INCREF(waiter);
    int rc = corolla_any_done(co->state, waiter);
    if (rc == 0) {
        rc = corolla_any_set_result(co->state, waiter, Py_None);
    }
    Py_DECREF(waiter);
    return rc < 0 ? -1 : 0;
}

/* Cancels st->awaitable, made a future. 1 when it is done, 0 when st->waiter will be told of it, or -1. Nobody waits
 * on the future itself: cancelling the one who waits here would cancel that again. */
static int
cancel_at_once(corolla_coro *co, WaitForState *st)
{
    corolla_state *state = co->state;
    PyObject *future = corolla_ensure_future(state, st->awaitable, NULL);
    if (future == NULL) {
        return -1;
    }
    Py_SETREF(st->awaitable, future);
    int done = corolla_any_done(state, future);
    if (done != 0) {
        return done;
    }
    st->cancelled = true;
    if (corolla_any_cancel(state, future, NULL) < 0) {
        return -1;
    }
    done = corolla_any_done(state, future);
    if (done != 0) {
        return done;
    }
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return -1;
    }
    st->waiter = corolla_loop_future(state, loop);
    Py_DECREF(loop);
    if (st->waiter == NULL) {
        return -1;
    }
    st->callback = corolla_any_watch(state, future, awaitable_done, Py_NewRef((PyObject *)co));
    return st->callback == NULL ? -1 : 0;
}

/* What the future came to, once there is no time left. */
static corolla_step
late_result(corolla_coro *co, WaitForState *st)
{
    PyObject *result = corolla_any_result(co->state, st->awaitable);
    if (result == NULL && st->cancelled && PyErr_ExceptionMatches(co->state->CancelledError)) {
        PyObject *exc = PyErr_GetRaisedException();
        corolla_timeout_raise(exc);
        Py_DECREF(exc);
    }
    return corolla_return(co, result);
}

/* ---- The coroutine ------------------------------------------------------------------------- */

/* Lets the time run. 0 or -1. */
static int
start_timer(WaitForState *st, corolla_state *state)
{
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return -1;
    }
    st->timer = corolla_timeout_after(state, loop, st->limit);
    Py_DECREF(loop);
    return st->timer == NULL ? -1 : corolla_timeout_enter(st->timer);
}

/* The awaitable has raised, or somebody throws in. -1. */
static corolla_step
leave_raising(WaitForState *st)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (corolla_timeout_exit(st->timer, exc) == 0) {
        PyErr_SetRaisedException(exc);
    }
    else {
        Py_DECREF(exc);
    }
    return COROLLA_RAISE;
}

/* 1 if no time is given, 0 if some is (or None), -1 with an exception. */
static int
is_over(PyObject *limit)
{
    if (limit == Py_None) {
        return 0;
    }
    if (PyFloat_CheckExact(limit)) {
        return PyFloat_AS_DOUBLE(limit) <= 0;
    }
    PyObject *zero = PyLong_FromLong(0);
    int over = zero == NULL ? -1 : PyObject_RichCompareBool(limit, zero, Py_LE);
    Py_XDECREF(zero);
    return over;
}

static corolla_step
wait_for_step(corolla_coro *co, PyObject *value)
{
    WaitForState *st = corolla_coro_state(co);
    corolla_state *state = co->state;
    int over;

    COROLLA_BEGIN(co);

    over = is_over(st->limit);
    if (over < 0) {
        return COROLLA_RAISE;
    }
    if (corolla_is_plain_future(state, st->awaitable) && corolla_future_done(st->awaitable)) {
        return corolla_return(co, corolla_future_result(st->awaitable));
    }
    if (over) {
        over = cancel_at_once(co, st);
        if (over < 0) {
            return COROLLA_RAISE;
        }
        if (over == 0) {
            COROLLA_AWAIT(co, st->waiter);
            if (corolla_any_unwatch(state, st->awaitable, st->callback) < 0 || value == NULL) {
                return COROLLA_RAISE;
            }
        }
        return late_result(co, st);
    }
    if (st->limit != Py_None && start_timer(st, state) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->awaitable);
    if (st->timer == NULL) {
        return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));
    }
    if (value == NULL) {
        return leave_raising(st);
    }
    if (corolla_timeout_exit(st->timer, NULL) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(value));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_for_spec = {
    .name = "wait_for",
    .qualname = "wait_for",
    .size = sizeof(WaitForState),
    .step = wait_for_step,
    .traverse = wait_for_traverse,
    .clear = wait_for_clear,
};

PyDoc_STRVAR(
    wait_for_doc,
    "wait_for($module, /, fut, timeout)\n--\n\n"
    "Coroutine: await fut and return its result, or cancel it when the time is up.\n\n"
    "timeout: seconds, or None for no limit; at 0 or less only a future that is done gives its result. Raises\n"
    "TimeoutError once what was cancelled has ended; what it returns instead of ending is returned. Specified by\n"
    "asyncio.wait_for().");

static PyObject *
module_wait_for(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fut", "timeout", NULL};
    static const corolla_signature sig = {"wait_for", names, 2, 2, NULL};
    PyObject *given[2];
    if (kwnames == NULL && nargs == 2) {
        given[0] = args[0];
        given[1] = args[1];
    }
    else if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(corolla_state_of_module(module), &wait_for_spec);
    if (co != NULL) {
        WaitForState *st = corolla_coro_state(co);
        st->awaitable = Py_NewRef(given[0]);
        st->limit = Py_NewRef(given[1]);
    }
    return (PyObject *)co;
}

PyMethodDef corolla_wait_for_functions[] = {
    {"wait_for", (PyCFunction)(void (*)(void))module_wait_for, METH_FASTCALL | METH_KEYWORDS, wait_for_doc},
    {NULL, NULL, 0, NULL},
};
