/* corolla.timeout(), timeout_at() and Timeout: a limit of time for what a task awaits. */
#include "timeout.h"

#include <math.h>

typedef enum { CREATED, ENTERED, EXPIRING, EXPIRED, EXITED } Stage;

static const char *const stage_names[] = {"created", "active", "expiring", "expired", "finished"};

typedef struct {
    PyObject_HEAD
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *when;       /* owned: the deadline as it was given, or None; NULL: it is `deadline` */
    double deadline;      /* seconds of the loop's clock */
    PyObject *loop;       /* owned, while entered */
    PyObject *task;       /* owned, while entered */
    int64_t cancelling;   /* the task's count when it entered */
    Stage stage;
    bool whole; /* __init__ has run */
    corolla_alarm alarm;
} TimeoutObject;

/* ---- The alarm ----------------------------------------------------------------------------- */

/* The time is up: cancels the task. */
static PyObject *
time_is_up(PyObject *timeout, PyObject *unused)
{
    (void)unused;
    TimeoutObject *self = (TimeoutObject *)timeout;
    if (self->stage != ENTERED || self->task == NULL) {
        Py_RETURN_NONE;
    }
    corolla_core *core = corolla_core_of(self->state, self->loop);
    if (core != NULL) {
        corolla_core_leave_task(core);
    }
    PyObject *task = Py_NewRef(self->task);
    /* The expiry is noted first: cancel() of somebody's own future may end the block from inside. */
    self->stage = EXPIRING;
    int cancelled = corolla_any_cancel(self->state, task, NULL);
    Py_DECREF(task);
    if (cancelled < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef time_is_up_def = {"_on_timeout", time_is_up, METH_NOARGS, NULL};

/* Seconds on the loop's clock. 0 or -1. */
static int
loop_time(corolla_state *state, PyObject *loop, double *seconds)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core != NULL) {
        int64_t now;
        if (corolla_core_now(core, &now) < 0) {
            return -1;
        }
        *seconds = (double)now / 1e9;
        return 0;
    }
    PyObject *time = PyObject_CallMethodNoArgs(loop, state->s.time);
    *seconds = time == NULL ? -1 : PyFloat_AsDouble(time);
    Py_XDECREF(time);
    return *seconds == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Sets the alarm for the deadline, if there is one. 0 or -1. */
static int
set_alarm(TimeoutObject *self)
{
    double now;
    if (self->when == Py_None) {
        return 0;
    }
    PyObject *loop = Py_NewRef(self->loop);
    int rc = loop_time(self->state, loop, &now);
    /* Somebody's own time() may have left the block, or have set another deadline and its alarm. */
    if (rc == 0 && self->stage == ENTERED && !corolla_alarm_is_set(&self->alarm) && self->when != Py_None) {
        rc = self->deadline <= now
                 ? corolla_alarm_soon(&self->alarm, self->state, loop, &time_is_up_def, (PyObject *)self)
                 : corolla_alarm_at(&self->alarm, self->state, loop, self->deadline, &time_is_up_def, (PyObject *)self);
    }
    Py_DECREF(loop);
    return rc;
}

/* Takes a deadline that a user gave. 0 or -1. */
static int
set_deadline(TimeoutObject *self, PyObject *when)
{
    double deadline = 0;
    if (when != Py_None) {
        deadline = PyFloat_AsDouble(when);
        if (deadline == -1.0 && PyErr_Occurred()) {
            return -1;
        }
    }
    self->deadline = deadline;
    Py_XSETREF(self->when, PyFloat_CheckExact(when) ? NULL : Py_NewRef(when));
    return 0;
}

/* ---- Entering and leaving ------------------------------------------------------------------ */

int
corolla_timeout_enter(PyObject *timeout)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    corolla_state *state = self->state;
    if (!self->whole) {
        PyErr_SetString(PyExc_RuntimeError, "Timeout object is not initialized.");
        return -1;
    }
    if (self->stage != CREATED) {
        PyErr_SetString(PyExc_RuntimeError, "Timeout has already been entered");
        return -1;
    }
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return -1;
    }
    PyObject *task = corolla_current_task(state, loop);
    if (task == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "Timeout should be used inside a task");
        }
        Py_DECREF(loop);
        return -1;
    }
    int64_t cancelling;
    int rc = corolla_any_cancelling(state, task, &cancelling);
    if (rc < 0 || self->stage != CREATED) {
        /* Somebody's own cancelling() may have entered it. */
        if (rc == 0) {
            PyErr_SetString(PyExc_RuntimeError, "Timeout has already been entered");
        }
        Py_DECREF(task);
        Py_DECREF(loop);
        return -1;
    }
    self->stage = ENTERED;
    self->cancelling = cancelling;
    self->task = task;
    self->loop = loop;
    return set_alarm(self);
}

/* Where exc comes from a CancelledError, puts a TimeoutError between the two. 0 or -1. */
static int
insert_timeout_error(corolla_state *state, PyObject *given)
{
    PyObject *exc = Py_NewRef(given);
    for (;;) {
        PyObject *context = PyException_GetContext(exc);
        if (context == NULL) {
            break;
        }
        if (PyErr_GivenExceptionMatches(context, state->CancelledError)) {
            PyObject *error = PyObject_CallNoArgs(PyExc_TimeoutError);
            if (error != NULL) {
                PyException_SetCause(error, Py_NewRef(context));
                PyException_SetContext(error, Py_NewRef(context));
                PyException_SetContext(exc, error); /* stolen */
            }
            Py_DECREF(context);
            Py_DECREF(exc);
            return error == NULL ? -1 : 0;
        }
        Py_SETREF(exc, context);
    }
    Py_DECREF(exc);
    return 0;
}

/* The same for an exception that left the block, and for what it is a group of. 0 or -1. */
static int
explain_cause(corolla_state *state, PyObject *exc)
{
    if (insert_timeout_error(state, exc) < 0) {
        return -1;
    }
    int group = PyObject_IsInstance(exc, state->ExceptionGroup);
    if (group <= 0) {
        return group;
    }
    PyObject *parts = PyObject_GetAttr(exc, state->s.exceptions);
    PyObject *tuple = parts == NULL ? NULL : PySequence_Tuple(parts);
    int rc = tuple == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *part = PyTuple_GET_ITEM(tuple, i);
        rc = PyExceptionInstance_Check(part) ? insert_timeout_error(state, part) : 0;
    }
    Py_XDECREF(parts);
    Py_XDECREF(tuple);
    return rc;
}

int
corolla_timeout_raise(PyObject *exc)
{
    PyObject *error = PyObject_CallNoArgs(PyExc_TimeoutError);
    if (error != NULL) {
        PyException_SetCause(error, Py_NewRef(exc));
        PyException_SetContext(error, Py_NewRef(exc));
        PyErr_SetRaisedException(error);
    }
    return -1;
}

int
corolla_timeout_exit(PyObject *timeout, PyObject *exc)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    corolla_state *state = self->state;
    if (self->stage != ENTERED && self->stage != EXPIRING) {
        PyErr_SetString(PyExc_RuntimeError,
                        self->stage == CREATED ? "Timeout has not been entered" : "Timeout has already been left");
        return -1;
    }
    bool expired = self->stage == EXPIRING;
    PyObject *task = self->task, *loop = self->loop;
    self->stage = expired ? EXPIRED : EXITED;
    self->task = NULL;
    int rc = corolla_alarm_stop(&self->alarm, state);
    self->loop = NULL;
    if (rc == 0 && expired) {
        int64_t left;
        rc = corolla_any_uncancel(state, task, &left);
        /* Nobody else has asked the task to end: it is this timeout that did. */
        if (rc == 0 && left <= self->cancelling && exc != NULL) {
            rc = PyErr_GivenExceptionMatches(exc, state->CancelledError) ? corolla_timeout_raise(exc)
                                                                         : explain_cause(state, exc);
        }
    }
    Py_XDECREF(task);
    Py_XDECREF(loop);
    return rc;
}

/* ---- As coroutines ------------------------------------------------------------------------- */

typedef struct {
    PyObject *timeout; /* owned */
    PyObject *exc;     /* owned: what leaves the block, or NULL */
} SwitchState;

static int
switch_traverse(void *data, visitproc visit, void *arg)
{
    SwitchState *st = data;
    Py_VISIT(st->timeout);
    Py_VISIT(st->exc);
    return 0;
}

static void
switch_clear(void *data)
{
    SwitchState *st = data;
    Py_CLEAR(st->timeout);
    Py_CLEAR(st->exc);
}

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    SwitchState *st = corolla_coro_state(co);
    if (corolla_timeout_enter(st->timeout) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(st->timeout));
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    SwitchState *st = corolla_coro_state(co);
    if (corolla_timeout_exit(st->timeout, st->exc) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec enter_spec = {
    .name = "__aenter__",
    .qualname = "Timeout.__aenter__",
    .size = sizeof(SwitchState),
    .step = enter_step,
    .traverse = switch_traverse,
    .clear = switch_clear,
};

static const corolla_coro_spec exit_spec = {
    .name = "__aexit__",
    .qualname = "Timeout.__aexit__",
    .size = sizeof(SwitchState),
    .step = exit_step,
    .traverse = switch_traverse,
    .clear = switch_clear,
};

static PyObject *
make_switch(PyObject *timeout, const corolla_coro_spec *spec, PyObject *exc)
{
    corolla_coro *co = corolla_coro_new(((TimeoutObject *)timeout)->state, spec);
    if (co != NULL) {
        SwitchState *st = corolla_coro_state(co);
        st->timeout = Py_NewRef(timeout);
        st->exc = exc;
    }
    else {
        Py_XDECREF(exc);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(aenter_doc, "__aenter__($self, /)\n--\n\n"
                         "Coroutine: let the time run. RuntimeError outside a task, and the second time.");

static PyObject *
timeout_aenter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return make_switch(self, &enter_spec, NULL);
}

PyDoc_STRVAR(
    aexit_doc,
    "__aexit__($self, exc_type, exc_val, exc_tb, /)\n--\n\n"
    "Coroutine: stop the time. Raises TimeoutError if it was up and that is why CancelledError left the block.");

static PyObject *
timeout_aexit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "__aexit__() takes exactly 3 arguments (%zd given)", nargs);
        return NULL;
    }
    PyObject *exc = NULL;
    if (PyExceptionInstance_Check(args[1])) {
        exc = Py_NewRef(args[1]);
    }
    else if (PyExceptionClass_Check(args[0])) {
        exc = PyObject_CallNoArgs(args[0]); /* by hand, with the type alone */
        if (exc == NULL) {
            return NULL;
        }
        if (!PyExceptionInstance_Check(exc)) {
            Py_CLEAR(exc);
        }
    }
    return make_switch(self, &exit_spec, exc);
}

/* ---- Methods ------------------------------------------------------------------------------- */

static int
check_whole(TimeoutObject *self)
{
    if (!self->whole) {
        PyErr_SetString(PyExc_RuntimeError, "Timeout object is not initialized.");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(when_doc, "when($self, /)\n--\n\n"
                       "Return the deadline, in seconds of the loop's clock, or None.");

static PyObject *
timeout_when(PyObject *timeout, PyObject *unused)
{
    (void)unused;
    TimeoutObject *self = (TimeoutObject *)timeout;
    if (check_whole(self) < 0) {
        return NULL;
    }
    return self->when != NULL ? Py_NewRef(self->when) : PyFloat_FromDouble(self->deadline);
}

PyDoc_STRVAR(reschedule_doc,
             "reschedule($self, /, when)\n--\n\n"
             "Change the deadline: seconds of the loop's clock, or None for none.\n\n"
             "One that has passed expires on the loop's next turn. Raises RuntimeError unless the block is being run.");

static PyObject *
timeout_reschedule(PyObject *timeout, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"when", NULL};
    static const corolla_signature sig = {"reschedule", names, 1, 1, NULL};
    TimeoutObject *self = (TimeoutObject *)timeout;
    PyObject *when;
    if (corolla_unpack(&sig, args, nargs, kwnames, &when) < 0 || check_whole(self) < 0) {
        return NULL;
    }
    if (self->stage != ENTERED) {
        if (self->stage == CREATED) {
            PyErr_SetString(PyExc_RuntimeError, "Timeout has not been entered");
        }
        else {
            PyErr_Format(PyExc_RuntimeError, "Cannot change state of %s Timeout", stage_names[self->stage]);
        }
        return NULL;
    }
    /* Not from another thread, nor for another loop than it was entered on. */
    PyObject *running = corolla_running_loop(self->state);
    bool same = running == self->loop;
    Py_XDECREF(running);
    if (running == NULL || !same) {
        if (running != NULL) {
            PyErr_SetString(PyExc_RuntimeError, "Timeout was entered on a different event loop");
        }
        return NULL;
    }
    if (set_deadline(self, when) < 0 || corolla_alarm_stop(&self->alarm, self->state) < 0) {
        return NULL;
    }
    if (self->stage == ENTERED && set_alarm(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(expired_doc, "expired($self, /)\n--\n\nReturn whether the time was up before the block was left.");

static PyObject *
timeout_expired(PyObject *timeout, PyObject *unused)
{
    (void)unused;
    Stage stage = ((TimeoutObject *)timeout)->stage;
    return PyBool_FromLong(stage == EXPIRING || stage == EXPIRED);
}

static PyObject *
timeout_repr(PyObject *timeout)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    if (!self->whole) {
        return PyUnicode_FromString("<Timeout not initialized>");
    }
    if (self->stage != ENTERED) {
        return PyUnicode_FromFormat("<Timeout [%s]>", stage_names[self->stage]);
    }
    if (self->when == Py_None) {
        return PyUnicode_FromString("<Timeout [active] when=None>");
    }
    PyObject *when = timeout_when(timeout, NULL);
    PyObject *rounded = when == NULL ? NULL : PyObject_CallMethod(when, "__round__", "i", 3);
    PyObject *text = rounded == NULL ? NULL : PyUnicode_FromFormat("<Timeout [active] when=%S>", rounded);
    Py_XDECREF(when);
    Py_XDECREF(rounded);
    return text;
}

/* ---- Life ---------------------------------------------------------------------------------- */

static PyObject *
timeout_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    TimeoutObject *self = (TimeoutObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->state = state;
        corolla_state_hold(state);
    }
    return (PyObject *)self;
}

static int
timeout_tp_init(PyObject *timeout, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"when", NULL};
    static const corolla_signature sig = {"Timeout", names, 1, 1, NULL};
    TimeoutObject *self = (TimeoutObject *)timeout;
    PyObject *when;
    if (corolla_unpack_tuple(&sig, args, kwargs, &when) < 0) {
        return -1;
    }
    if (self->stage != CREATED) {
        PyErr_SetString(PyExc_RuntimeError, "Timeout has already been entered");
        return -1;
    }
    if (set_deadline(self, when) < 0) {
        return -1;
    }
    self->whole = true;
    return 0;
}

static int
timeout_traverse(PyObject *timeout, visitproc visit, void *arg)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    Py_VISIT(Py_TYPE(timeout));
    Py_VISIT(self->when);
    Py_VISIT(self->loop);
    Py_VISIT(self->task);
    return corolla_alarm_traverse(&self->alarm, visit, arg);
}

static int
timeout_clear(PyObject *timeout)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    corolla_alarm_clear(&self->alarm, self->state);
    Py_CLEAR(self->when);
    Py_CLEAR(self->task);
    Py_CLEAR(self->loop);
    return 0;
}

static void
timeout_dealloc(PyObject *timeout)
{
    TimeoutObject *self = (TimeoutObject *)timeout;
    PyTypeObject *type = Py_TYPE(timeout);
    corolla_state *state = self->state;
    PyObject_GC_UnTrack(timeout);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(timeout);
    }
    timeout_clear(timeout);
    type->tp_free(timeout);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
make_timeout(corolla_state *state)
{
    TimeoutObject *self = (TimeoutObject *)timeout_tp_new(state->timeout_type, NULL, NULL);
    if (self != NULL) {
        self->whole = true;
    }
    return (PyObject *)self;
}

static PyMethodDef timeout_methods[] = {
    {"when", timeout_when, METH_NOARGS, when_doc},
    {"reschedule", (PyCFunction)(void (*)(void))timeout_reschedule, METH_FASTCALL | METH_KEYWORDS, reschedule_doc},
    {"expired", timeout_expired, METH_NOARGS, expired_doc},
    {"__aenter__", timeout_aenter, METH_NOARGS, aenter_doc},
    {"__aexit__", (PyCFunction)(void (*)(void))timeout_aexit, METH_FASTCALL, aexit_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef timeout_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TimeoutObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(timeout_type_doc,
             "Timeout(when)\n--\n\n"
             "An asynchronous context manager that cancels what is awaited in its block once the time is up.\n\n"
             "Made by timeout() and timeout_at(). when: seconds of the loop's clock, or None.");

static PyType_Slot timeout_slots[] = {
    {Py_tp_doc, (void *)timeout_type_doc},
    {Py_tp_new, timeout_tp_new},
    {Py_tp_init, timeout_tp_init},
    {Py_tp_dealloc, timeout_dealloc},
    {Py_tp_traverse, timeout_traverse},
    {Py_tp_clear, timeout_clear},
    {Py_tp_repr, timeout_repr},
    {Py_tp_methods, timeout_methods},
    {Py_tp_members, timeout_members},
    {0, NULL},
};

static PyType_Spec timeout_spec = {
    .name = "corolla.Timeout",
    .basicsize = sizeof(TimeoutObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = timeout_slots,
};

int
corolla_timeout_init(PyObject *module, corolla_state *state)
{
    state->timeout_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &timeout_spec, NULL);
    return state->timeout_type == NULL ? -1 : PyModule_AddType(module, state->timeout_type);
}

/* ---- Functions ----------------------------------------------------------------------------- */

PyObject *
corolla_timeout_after(corolla_state *state, PyObject *loop, PyObject *delay)
{
    PyObject *timeout = make_timeout(state);
    if (timeout == NULL) {
        return NULL;
    }
    TimeoutObject *self = (TimeoutObject *)timeout;
    double now;
    if (delay == Py_None) {
        self->when = Py_NewRef(Py_None);
        return timeout;
    }
    if (loop_time(state, loop, &now) < 0) {
        goto fail;
    }
    if (PyFloat_CheckExact(delay) || PyLong_CheckExact(delay)) {
        double seconds = PyLong_CheckExact(delay) ? PyLong_AsDouble(delay) : PyFloat_AS_DOUBLE(delay);
        if (seconds == -1.0 && PyErr_Occurred()) {
            goto fail;
        }
        self->deadline = now + seconds;
        return timeout;
    }
    /* Whatever can be added to a number. */
    PyObject *time = PyFloat_FromDouble(now);
    PyObject *when = time == NULL ? NULL : PyNumber_Add(time, delay);
    int rc = when == NULL ? -1 : set_deadline(self, when);
    Py_XDECREF(time);
    Py_XDECREF(when);
    if (rc < 0) {
        goto fail;
    }
    return timeout;
fail:
    Py_DECREF(timeout);
    return NULL;
}

PyDoc_STRVAR(
    timeout_doc,
    "timeout($module, /, delay)\n--\n\n"
    "Return an asynchronous context manager that gives its block so many seconds.\n\n"
    "When they are over, what the task awaits is cancelled and TimeoutError leaves the block. delay: seconds, or\n"
    "None for no limit; see Timeout.reschedule(). Raises RuntimeError when no event loop runs. Specified by\n"
    "asyncio.timeout().");

static PyObject *
module_timeout(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"delay", NULL};
    static const corolla_signature sig = {"timeout", names, 1, 1, NULL};
    PyObject *delay;
    if (corolla_unpack(&sig, args, nargs, kwnames, &delay) < 0) {
        return NULL;
    }
    corolla_state *state = corolla_state_of_module(module);
    PyObject *loop = corolla_running_loop(state);
    PyObject *timeout = loop == NULL ? NULL : corolla_timeout_after(state, loop, delay);
    Py_XDECREF(loop);
    return timeout;
}

PyDoc_STRVAR(timeout_at_doc,
             "timeout_at($module, /, when)\n--\n\n"
             "Return an asynchronous context manager that gives its block time until `when`.\n\n"
             "As timeout(). when: seconds of the loop's clock, as loop.time() gives them, or None. Specified by\n"
             "asyncio.timeout_at().");

static PyObject *
module_timeout_at(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"when", NULL};
    static const corolla_signature sig = {"timeout_at", names, 1, 1, NULL};
    PyObject *when;
    if (corolla_unpack(&sig, args, nargs, kwnames, &when) < 0) {
        return NULL;
    }
    PyObject *timeout = make_timeout(corolla_state_of_module(module));
    if (timeout != NULL && set_deadline((TimeoutObject *)timeout, when) < 0) {
        Py_CLEAR(timeout);
    }
    return timeout;
}

PyMethodDef corolla_timeout_functions[] = {
    {"timeout", (PyCFunction)(void (*)(void))module_timeout, METH_FASTCALL | METH_KEYWORDS, timeout_doc},
    {"timeout_at", (PyCFunction)(void (*)(void))module_timeout_at, METH_FASTCALL | METH_KEYWORDS, timeout_at_doc},
    {NULL, NULL, 0, NULL},
};
