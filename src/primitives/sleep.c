/* corolla.sleep() */
#include "primitives.h"

#include <math.h>

typedef struct {
    PyObject *result; /* owned */
    PyObject *loop;   /* owned */
    PyObject *future; /* owned */
    PyObject *handle; /* owned */
    double delay;     /* seconds */
} SleepState;

static int
sleep_traverse(void *data, visitproc visit, void *arg)
{
    SleepState *st = data;
    Py_VISIT(st->result);
    Py_VISIT(st->loop);
    Py_VISIT(st->future);
    Py_VISIT(st->handle);
    return 0;
}

static void
sleep_clear(void *data)
{
    SleepState *st = data;
    Py_CLEAR(st->result);
    Py_CLEAR(st->loop);
    Py_CLEAR(st->future);
    Py_CLEAR(st->handle);
}

/* The timer's callback: set_result unless cancelled meanwhile, as asyncio's. */
static PyObject *
wake_sleeper(PyObject *future, PyObject *unused)
{
    (void)unused;
    if (corolla_future_done(future)) {
        Py_RETURN_NONE;
    }
    if (corolla_future_set_result(future, Py_None) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef wake_sleeper_def = {"set_result_unless_cancelled", wake_sleeper, METH_NOARGS, NULL};

/* Makes st->future and a timer that sets it, on a loop of ours. */
static int
sleep_native(SleepState *st, corolla_core *core)
{
    int64_t now;
    st->future = corolla_future_new(core);
    if (st->future == NULL || corolla_core_now(core, &now) < 0) {
        return -1;
    }
    PyObject *wake = PyCFunction_New(&wake_sleeper_def, st->future);
    if (wake == NULL) {
        return -1;
    }
    st->handle = corolla_call_at(core, (double)now / 1e9 + st->delay, wake, NULL, 0, NULL);
    Py_DECREF(wake);
    return st->handle == NULL ? -1 : 0;
}

/* The same through the public methods of any loop. */
static int
sleep_foreign(SleepState *st, corolla_state *state)
{
    st->future = PyObject_CallMethodNoArgs(st->loop, state->s.create_future);
    if (st->future == NULL) {
        return -1;
    }
    PyObject *delay = PyFloat_FromDouble(st->delay);
    if (delay == NULL) {
        return -1;
    }
    PyObject *args[5] = {st->loop, delay, state->set_result_unless_cancelled, st->future, Py_None};
    st->handle = PyObject_VectorcallMethod(state->s.call_later, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(delay);
    return st->handle == NULL ? -1 : 0;
}

static int
cancel_timer(SleepState *st, corolla_state *state)
{
    if (Py_IS_TYPE(st->handle, state->timer_handle_type)) {
        corolla_handle_cancel((corolla_handle *)st->handle);
        return 0;
    }
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethodNoArgs(st->handle, state->s.cancel);
    if (done == NULL) {
        Py_XDECREF(raised);
        return -1;
    }
    Py_DECREF(done);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return 0;
}

static corolla_step
sleep_step(corolla_coro *co, PyObject *value)
{
    SleepState *st = corolla_coro_state(co);
    corolla_state *state = co->state;

    COROLLA_BEGIN(co);

    if (st->delay <= 0) {
        COROLLA_PAUSE(co);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
        return corolla_return(co, Py_NewRef(st->result));
    }
    if (isnan(st->delay)) {
        PyErr_SetString(PyExc_ValueError, "Invalid delay: NaN (not a number)");
        return COROLLA_RAISE;
    }
    st->loop = PyObject_CallNoArgs(state->get_running_loop);
    if (st->loop == NULL) {
        return COROLLA_RAISE;
    }
    corolla_core *core = corolla_core_of(state, st->loop);
    bool native = core != NULL &&
                  !(core->overridden & (COROLLA_OWN_CALL_AT | COROLLA_OWN_CALL_LATER | COROLLA_OWN_CREATE_FUTURE));
    if ((native ? sleep_native(st, core) : sleep_foreign(st, state)) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    if (cancel_timer(st, state) < 0 || value == NULL) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(st->result));

    COROLLA_END(co);
}

static const corolla_coro_spec sleep_spec = {
    .name = "sleep",
    .qualname = "sleep",
    .size = sizeof(SleepState),
    .step = sleep_step,
    .traverse = sleep_traverse,
    .clear = sleep_clear,
};

PyDoc_STRVAR(
    sleep_doc,
    "sleep($module, /, delay, result=None)\n--\n\n"
    "Coroutine: wait for delay seconds, then return result.\n\n"
    "delay: a number of seconds; 0 or less gives the other tasks one turn. Raises ValueError for NaN. Specified by\n"
    "asyncio.sleep().");

static PyObject *
module_sleep(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"delay", "result", NULL};
    static const corolla_signature sig = {"sleep", names, 1, 2, NULL};
    PyObject *given[2] = {NULL, NULL};
    if (kwnames == NULL && nargs == 1) {
        given[0] = args[0];
    }
    else if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    /* PyFloat_AsDouble() of an int makes a float object on the way. */
    double delay = PyLong_CheckExact(given[0]) ? PyLong_AsDouble(given[0]) : PyFloat_AsDouble(given[0]);
    if (delay == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(corolla_state_of_module(module), &sleep_spec);
    if (co == NULL) {
        return NULL;
    }
    SleepState *st = corolla_coro_state(co);
    st->delay = delay;
    st->result = Py_NewRef(given[1] != NULL ? given[1] : Py_None);
    return (PyObject *)co;
}

PyMethodDef corolla_sleep_functions[] = {
    {"sleep", (PyCFunction)(void (*)(void))module_sleep, METH_FASTCALL | METH_KEYWORDS, sleep_doc},
    {NULL, NULL, 0, NULL},
};
