/* corolla.wait(): until some or all of many futures are done. */
#include "primitives.h"

#include <string.h>

typedef enum { ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION } Until;

typedef struct {
    corolla_state *state;  /* borrowed */
    PyObject *given;       /* owned: the iterable */
    PyObject *timeout;     /* owned: seconds or None */
    PyObject *return_when; /* owned */
    PyObject *futures;     /* owned: a tuple of those that differ */
    PyObject **told;       /* owned table, one for each future: its callback (owned), or NULL */
    PyObject *waiter;      /* owned */
    Py_ssize_t pending;    /* how many have still to tell */
    Until until;
    corolla_alarm alarm;
} WaitState;

static int
wait_traverse(void *data, visitproc visit, void *arg)
{
    WaitState *st = data;
    Py_VISIT(st->given);
    Py_VISIT(st->timeout);
    Py_VISIT(st->return_when);
    Py_VISIT(st->waiter);
    for (Py_ssize_t i = 0; st->told != NULL && i < PyTuple_GET_SIZE(st->futures); i++) {
        Py_VISIT(st->told[i]);
    }
    Py_VISIT(st->futures);
    return corolla_alarm_traverse(&st->alarm, visit, arg);
}

/* Takes the callbacks out of what is not done. Keeps an exception being raised. 0, or -1 with the first error. */
static int
stop_watching(WaitState *st)
{
    PyObject **told = st->told;
    PyObject *futures = st->futures;
    st->told = NULL;
    st->futures = NULL;
    if (told == NULL) {
        Py_XDECREF(futures);
        return 0;
    }
    PyObject *failure = NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(futures); i++) {
        PyObject *future = PyTuple_GET_ITEM(futures, i);
        bool gone = told[i] == NULL || (corolla_is_plain_future(st->state, future) && corolla_future_done(future));
        if (!gone && corolla_any_unwatch(st->state, future, told[i]) < 0) {
            PyObject *exc = PyErr_GetRaisedException();
            if (failure == NULL) {
                failure = exc;
            }
            else {
                Py_DECREF(exc);
            }
        }
        Py_XDECREF(told[i]);
    }
    PyMem_Free(told);
    st->futures = futures; /* for the answer */
    if (failure != NULL) {
        PyErr_SetRaisedException(failure);
        return -1;
    }
    return 0;
}

static void
wait_clear(void *data)
{
    WaitState *st = data;
    Py_CLEAR(st->waiter);
    corolla_alarm_clear(&st->alarm, st->state);
    if (st->told != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        if (stop_watching(st) < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
    Py_CLEAR(st->futures);
    Py_CLEAR(st->given);
    Py_CLEAR(st->timeout);
    Py_CLEAR(st->return_when);
}

/* ---- What was asked for ---------------------------------------------------------------------- */

/* 0 or -1 with ValueError. */
static int
read_return_when(PyObject *value, Until *until)
{
    static const char *const names[] = {"ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"};
    for (size_t i = 0; PyUnicode_Check(value) && i < Py_ARRAY_LENGTH(names); i++) {
        if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *until = (Until)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "Invalid return_when value: %S", value);
    return -1;
}

/* Reads the arguments into st->futures and st->until. 0 or -1. */
static int
read_arguments(WaitState *st, corolla_state *state)
{
    PyObject *fs = st->given;
    int wrong =
        PyList_CheckExact(fs) || PySet_CheckExact(fs) || PyTuple_CheckExact(fs) ? 0 : corolla_any_isfuture(state, fs);
    if (wrong == 0 && !PyList_CheckExact(fs)) {
        wrong = corolla_any_iscoroutine(state, fs);
    }
    if (wrong != 0) {
        if (wrong > 0) {
            corolla_refuse_type("expect a list of futures", fs);
        }
        return -1;
    }
    int some = PyObject_IsTrue(fs);
    if (some < 0) {
        return -1;
    }
    PyObject *set = NULL;
    if (some) {
        if (read_return_when(st->return_when, &st->until) < 0 || (set = PySet_New(fs)) == NULL) {
            return -1;
        }
        st->futures = PySequence_Tuple(set);
        Py_DECREF(set);
        if (st->futures == NULL) {
            return -1;
        }
    }
    if (!some || PyTuple_GET_SIZE(st->futures) == 0) {
        PyErr_SetString(PyExc_ValueError, "Set of Tasks/Futures is empty.");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->futures); i++) {
        int coroutine = corolla_any_iscoroutine(state, PyTuple_GET_ITEM(st->futures, i));
        if (coroutine != 0) {
            if (coroutine > 0) {
                PyErr_SetString(PyExc_TypeError, "Passing coroutines is forbidden, use tasks explicitly.");
            }
            return -1;
        }
    }
    return 0;
}

/* ---- Waiting --------------------------------------------------------------------------------- */

/* Whether a future that is done ends the wait, however many are left: 1, 0 or -1. */
static int
ends_wait(corolla_state *state, Until until, PyObject *future)
{
    if (until != FIRST_EXCEPTION) {
        return until == FIRST_COMPLETED;
    }
    int cancelled = corolla_any_cancelled(state, future);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = corolla_any_exception(state, future);
    if (exc == NULL) {
        return -1;
    }
    Py_DECREF(exc);
    return exc != Py_None;
}

static int
one_done(PyObject *future, PyObject *arg)
{
    corolla_coro *co = (corolla_coro *)arg;
    corolla_state *state = co->state;
    WaitState *st = corolla_coro_state(co);
    if (st->waiter == NULL) {
        return 0;
    }
    st->pending--;
    int over = st->pending <= 0 ? 1 : ends_wait(state, st->until, future);
    if (over <= 0) {
        return over;
    }
    if (corolla_alarm_stop(&st->alarm, state) < 0 || st->waiter == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *waiter = Py_NewRef(st->waiter);
    int rc = corolla_any_done(state, waiter);
    if (rc == 0) {
        rc = corolla_any_set_result(state, waiter, Py_None);
    }
    Py_DECREF(waiter);
    return rc < 0 ? -1 : 0;
}

/* 1 when there is no need to wait, 0 or -1. */
static int
look_first(WaitState *st, corolla_state *state)
{
    bool over = false, all = true;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->futures); i++) {
        PyObject *future = PyTuple_GET_ITEM(st->futures, i);
        int done = corolla_any_done(state, future);
        int ends = done > 0 ? ends_wait(state, st->until, future) : 0;
        if (done < 0 || ends < 0) {
            return -1;
        }
        all = all && done;
        over = over || ends;
    }
    return over || all;
}

/* Makes the waiter, has the futures that are not done tell it, and sets the time. 0 or -1. */
static int
begin_to_wait(corolla_coro *co, WaitState *st)
{
    corolla_state *state = co->state;
    Py_ssize_t count = PyTuple_GET_SIZE(st->futures);
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return -1;
    }
    int rc = -1;
    st->waiter = corolla_loop_future(state, loop);
    st->told = PyMem_Calloc((size_t)count, sizeof *st->told);
    if (st->told == NULL || st->waiter == NULL) {
        if (st->told == NULL) {
            PyErr_NoMemory();
        }
        goto done;
    }
    if (st->timeout != Py_None) {
        double delay = PyFloat_AsDouble(st->timeout);
        if ((delay == -1.0 && PyErr_Occurred()) || corolla_alarm_wake(&st->alarm, state, loop, delay, st->waiter) < 0) {
            goto done;
        }
    }
    bool over = false;
    st->pending = count; /* a foreign one tells us even if it is done */
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *future = PyTuple_GET_ITEM(st->futures, i);
        if (corolla_is_plain_future(state, future) && corolla_future_done(future)) {
            /* Perhaps only since we looked: timeouts and foreign futures run code of others. */
            int ends = ends_wait(state, st->until, future);
            if (ends < 0) {
                goto done;
            }
            over = over || ends;
            st->pending--;
            continue;
        }
        st->told[i] = corolla_any_watch(state, future, one_done, Py_NewRef((PyObject *)co));
        if (st->told[i] == NULL) {
            goto done;
        }
    }
    rc = 0;
    if (over || st->pending == 0) {
        rc = corolla_any_done(state, st->waiter);
        rc = rc == 0 ? corolla_any_set_result(state, st->waiter, Py_None) : rc < 0 ? -1 : 0;
    }
done:
    Py_DECREF(loop);
    return rc;
}

/* (done, pending): new reference or NULL. */
static PyObject *
sort_out(WaitState *st, corolla_state *state)
{
    PyObject *pair = NULL;
    PyObject *sets[2] = {PySet_New(NULL), PySet_New(NULL)};
    if (sets[0] == NULL || sets[1] == NULL) {
        goto fail;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->futures); i++) {
        PyObject *future = PyTuple_GET_ITEM(st->futures, i);
        int done = corolla_any_done(state, future);
        if (done < 0 || PySet_Add(sets[done ? 0 : 1], future) < 0) {
            goto fail;
        }
    }
    pair = PyTuple_Pack(2, sets[0], sets[1]);
fail:
    Py_XDECREF(sets[0]);
    Py_XDECREF(sets[1]);
    return pair;
}

static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    WaitState *st = corolla_coro_state(co);
    corolla_state *state = co->state;
    int over;

    COROLLA_BEGIN(co);

    if (read_arguments(st, state) < 0 || (over = look_first(st, state)) < 0) {
        return COROLLA_RAISE;
    }
    if (over) {
        return corolla_return(co, sort_out(st, state));
    }
    if (begin_to_wait(co, st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    Py_CLEAR(st->waiter);
    if (value == NULL) {
        return COROLLA_RAISE; /* the rest is taken back as the state is cleared */
    }
    if (corolla_alarm_stop(&st->alarm, state) < 0 || stop_watching(st) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, sort_out(st, state));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_spec = {
    .name = "wait",
    .qualname = "wait",
    .size = sizeof(WaitState),
    .step = wait_step,
    .traverse = wait_traverse,
    .clear = wait_clear,
};

PyDoc_STRVAR(
    wait_doc,
    "wait($module, /, fs, *, timeout=None, return_when='ALL_COMPLETED')\n--\n\n"
    "Coroutine: wait until futures or tasks are done. Return two sets of them, (done, pending).\n\n"
    "timeout: seconds after which it returns at any rate, or None. return_when: ALL_COMPLETED, FIRST_COMPLETED, or\n"
    "FIRST_EXCEPTION for the first that raises, if any. Nothing is cancelled. Raises ValueError for no futures\n"
    "and TypeError for coroutines. Specified by asyncio.wait().");

static PyObject *
module_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fs", "timeout", "return_when", NULL};
    static const corolla_signature sig = {"wait", names, 1, 1, NULL};
    PyObject *given[3];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *return_when = given[2] != NULL ? Py_NewRef(given[2]) : PyUnicode_InternFromString("ALL_COMPLETED");
    corolla_coro *co = return_when == NULL ? NULL : corolla_coro_new(corolla_state_of_module(module), &wait_spec);
    if (co == NULL) {
        Py_XDECREF(return_when);
        return NULL;
    }
    WaitState *st = corolla_coro_state(co);
    st->state = co->state;
    st->given = Py_NewRef(given[0]);
    st->timeout = Py_NewRef(given[1] != NULL ? given[1] : Py_None);
    st->return_when = return_when;
    return (PyObject *)co;
}

PyMethodDef corolla_wait_functions[] = {
    {"wait", (PyCFunction)(void (*)(void))module_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {NULL, NULL, 0, NULL},
};
