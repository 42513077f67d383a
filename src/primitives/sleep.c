/* corolla.sleep() */
#include "primitives.h"

#include <math.h>

typedef struct {
    corolla_state *state; /* borrowed */
    PyObject *result;     /* owned */
    PyObject *loop;       /* owned */
    PyObject *future;     /* owned */
    double delay;         /* seconds */
    corolla_alarm alarm;
} SleepState;

static int
sleep_traverse(void *data, visitproc visit, void *arg)
{
    SleepState *st = data;
    Py_VISIT(st->result);
    Py_VISIT(st->loop);
    Py_VISIT(st->future);
    return corolla_alarm_traverse(&st->alarm, visit, arg);
}

static void
sleep_clear(void *data)
{
    SleepState *st = data;
    corolla_alarm_clear(&st->alarm, st->state);
    Py_CLEAR(st->result);
    Py_CLEAR(st->future);
    Py_CLEAR(st->loop);
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
    st->loop = corolla_running_loop(state);
    if (st->loop == NULL) {
        return COROLLA_RAISE;
    }
    st->future = corolla_loop_future(state, st->loop);
    if (st->future == NULL || corolla_alarm_wake(&st->alarm, state, st->loop, st->delay, st->future) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    if (corolla_alarm_stop(&st->alarm, state) < 0 || value == NULL) {
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
    st->state = co->state;
    st->delay = delay;
    st->result = Py_NewRef(given[1] != NULL ? given[1] : Py_None);
    return (PyObject *)co;
}

PyMethodDef corolla_sleep_functions[] = {
    {"sleep", (PyCFunction)(void (*)(void))module_sleep, METH_FASTCALL | METH_KEYWORDS, sleep_doc},
    {NULL, NULL, 0, NULL},
};
