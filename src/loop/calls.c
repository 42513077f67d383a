/* Queueing callbacks; futures, tasks and their factories; the clock. */
#include <math.h>

#include "loop.h"
#include "../scheduler/eager.h"

/* ---- Callbacks --------------------------------------------------------------------------- */

/* The arguments of f(*first, callback, *args, context=None), of which all but *args may come by name. */
typedef struct {
    PyObject *const *args; /* the named ones first; borrowed */
    Py_ssize_t nargs;
    PyObject *context;  /* borrowed; NULL for None */
    PyObject *named[2]; /* where they are put together when some came by name */
} Call;

/* One keyword argument. 0 or -1. */
static int
place_named(const char *function, const char *const *names, int count, Call *call, PyObject *key, PyObject *value)
{
    if (PyUnicode_CompareWithASCIIString(key, "context") == 0) {
        call->context = value == Py_None ? NULL : value;
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(key, names[i]) == 0) {
            if (i < call->nargs) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", function, key);
                return -1;
            }
            call->named[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, key);
    return -1;
}

/* names: of the count arguments before *args. 0 or -1. */
static int
unpack_call(const char *function, const char *const *names, int count, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames, Call *call)
{
    *call = (Call){.args = args, .nargs = nargs};
    if (kwnames != NULL) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
            if (place_named(function, names, count, call, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0) {
                return -1;
            }
        }
        if (call->context != NULL && !PyContext_CheckExact(call->context)) {
            PyErr_Format(PyExc_TypeError, "a contextvars.Context is required, got %R", call->context);
            return -1;
        }
    }
    if (nargs >= count) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (i < nargs) {
            call->named[i] = args[i];
        }
        if (call->named[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required positional argument: '%s'", function, names[i]);
            return -1;
        }
    }
    call->args = call->named;
    call->nargs = count;
    return 0;
}

static const char *const soon_names[] = {"callback"};
static const char *const later_names[] = {"delay", "callback"};
static const char *const at_names[] = {"when", "callback"};

/* asyncio's _check_callback: in debug mode only. 0 or -1. */
static int
check_callback(corolla_core *core, PyObject *callback, const char *function)
{
    int is = loop_is_coroutine(core->state, callback);
    if (is != 0) {
        if (is > 0) {
            PyErr_Format(PyExc_TypeError, "coroutines cannot be used with %s()", function);
        }
        return -1;
    }
    if (!PyCallable_Check(callback)) {
        PyErr_Format(PyExc_TypeError, "a callable object was expected by %s(), got %R", function, callback);
        return -1;
    }
    return 0;
}

/* asyncio's own frame is not there to be cut off: nothing is removed from the source traceback. */

PyDoc_STRVAR(
    call_soon_doc,
    "call_soon($self, /, callback, *args, context=None)\n--\n\n"
    "Queue callback(*args) for the next turn. Return a Handle.\n\n"
    "context: the contextvars.Context to call it in, a copy of the current one if None. Raises RuntimeError if the\n"
    "loop is closed. Specified by asyncio.loop.call_soon().");

static PyObject *
loop_call_soon(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_core *core = loop_core(self);
    Call call;
    if (loop_check(self) < 0 || unpack_call("call_soon", soon_names, 1, args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (core->debug && (corolla_core_check_thread(core) < 0 || check_callback(core, call.args[0], "call_soon") < 0)) {
        return NULL;
    }
    return corolla_call_soon(core, call.args[0], call.args + 1, call.nargs - 1, call.context);
}

PyDoc_STRVAR(call_soon_threadsafe_doc,
             "call_soon_threadsafe($self, /, callback, *args, context=None)\n--\n\n"
             "The same as call_soon(), from any thread or from a signal handler; wakes the loop.\n\n"
             "Specified by asyncio.loop.call_soon_threadsafe().");

static PyObject *
loop_call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_core *core = loop_core(self);
    Call call;
    if (loop_check(self) < 0 || unpack_call("call_soon_threadsafe", soon_names, 1, args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (core->debug && check_callback(core, call.args[0], "call_soon_threadsafe") < 0) {
        return NULL;
    }
    corolla_handle *handle =
        corolla_handle_new_untracked(core, call.args[0], call.args + 1, call.nargs - 1, call.context);
    /* Making it may have let other threads run, and one of them close the loop. */
    if (handle == NULL || corolla_core_check_closed(core) < 0) {
        Py_XDECREF(handle);
        return NULL;
    }
    handle->threadsafe = true;
    /* A loop that does not run, or runs here, is not in a poll: its queue is ours while we hold the lock. Making the
     * handle may have run other code, or another thread, that closed it. */
    int rc;
    if (core->closed) {
        rc = -ESHUTDOWN;
    }
    else if (!core->running || core->thread == PyThread_get_thread_ident()) {
        rc = corolla_reactor_post(&core->reactor, corolla_handle_job, Py_NewRef((PyObject *)handle));
    }
    else {
        rc = corolla_inbox_post(core->reactor.inbox, corolla_handle_job, Py_NewRef((PyObject *)handle));
    }
    if (rc < 0) {
        Py_DECREF(handle);
        Py_DECREF(handle);
        corolla_raise_post(rc);
        return NULL;
    }
    corolla_handle_queued(core, handle);
    return (PyObject *)handle;
}

/* Seconds of loop.time(), overridden or not. 0 or -1. */
static int
loop_seconds(corolla_core *core, double *now)
{
    if (!(core->overridden & COROLLA_OWN_TIME)) {
        *now = (double)corolla_clock() / 1e9;
        return 0;
    }
    PyObject *time = PyObject_CallMethodNoArgs(core->loop, core->state->s.time);
    if (time == NULL) {
        return -1;
    }
    *now = PyFloat_AsDouble(time);
    Py_DECREF(time);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* call_at(when, callback, *args, context=context) through the method, where somebody replaced it. */
static PyObject *
call_at_method(corolla_core *core, double when, const Call *call)
{
    corolla_state *state = core->state;
    PyObject *method = PyObject_GetAttr(core->loop, state->s.call_at);
    PyObject *time = PyFloat_FromDouble(when);
    PyObject *names = call->context == NULL ? NULL : PyTuple_Pack(1, state->s.context);
    PyObject **stack = PyMem_New(PyObject *, (size_t)call->nargs + 1);
    PyObject *handle = NULL;
    if (stack == NULL) {
        PyErr_NoMemory();
    }
    else if (method != NULL && time != NULL && (call->context == NULL || names != NULL)) {
        stack[0] = time;
        for (Py_ssize_t i = 1; i < call->nargs; i++) {
            stack[i] = call->args[i];
        }
        stack[call->nargs] = call->context;
        handle = PyObject_Vectorcall(method, stack, (size_t)call->nargs, names);
    }
    PyMem_Free(stack);
    Py_XDECREF(names);
    Py_XDECREF(time);
    Py_XDECREF(method);
    return handle;
}

PyDoc_STRVAR(call_later_doc,
             "call_later($self, /, delay, callback, *args, context=None)\n--\n\n"
             "Queue callback(*args) for delay seconds from now. Return a TimerHandle.\n\n"
             "Raises TypeError if delay is None, ValueError if it is NaN. Specified by asyncio.loop.call_later().");

static PyObject *
loop_call_later(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_core *core = loop_core(self);
    Call call;
    if (loop_check(self) < 0 || unpack_call("call_later", later_names, 2, args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (call.args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    double now, delay = PyFloat_AsDouble(call.args[0]);
    if ((delay == -1.0 && PyErr_Occurred()) || loop_seconds(core, &now) < 0) {
        return NULL;
    }
    if (core->overridden & COROLLA_OWN_CALL_AT) {
        return call_at_method(core, now + delay, &call);
    }
    if (core->debug && (corolla_core_check_thread(core) < 0 || check_callback(core, call.args[1], "call_later") < 0)) {
        return NULL;
    }
    return corolla_call_at(core, now + delay, call.args[1], call.args + 2, call.nargs - 2, call.context);
}

PyDoc_STRVAR(
    call_at_doc,
    "call_at($self, /, when, callback, *args, context=None)\n--\n\n"
    "Queue callback(*args) for the time when, in seconds of time(). Return a TimerHandle.\n\n"
    "Callbacks due at the same time run in the order they were queued. Raises TypeError if when is None, ValueError if\n"
    "it is NaN. Specified by asyncio.loop.call_at().");

static PyObject *
loop_call_at(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_core *core = loop_core(self);
    Call call;
    if (loop_check(self) < 0 || unpack_call("call_at", at_names, 2, args, nargs, kwnames, &call) < 0) {
        return NULL;
    }
    if (call.args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    double when = PyFloat_AsDouble(call.args[0]);
    if (when == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (core->debug && (corolla_core_check_thread(core) < 0 || check_callback(core, call.args[1], "call_at") < 0)) {
        return NULL;
    }
    return corolla_call_at(core, when, call.args[1], call.args + 2, call.nargs - 2, call.context);
}

PyDoc_STRVAR(time_doc, "time($self, /)\n--\n\n"
                       "Return the loop's clock in seconds: time.monotonic(). Specified by asyncio.loop.time().");

static PyObject *
loop_time(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyFloat_FromDouble((double)corolla_clock() / 1e9);
}

/* ---- Futures and tasks ------------------------------------------------------------------- */

PyDoc_STRVAR(create_future_doc, "create_future($self, /)\n--\n\n"
                                "Return a new Future of this loop. Specified by asyncio.loop.create_future().");

static PyObject *
loop_create_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_core *core = loop_core(self);
    if (!core->ready) {
        loop_check(self);
        return NULL;
    }
    return corolla_future_new(core);
}

/* What create_task() was given besides the coroutine. Borrowed. */
typedef struct {
    PyObject *name, *context;
    int eager;        /* -1: not given */
    PyObject *others; /* owned: a dict of what only a task factory can use, or NULL */
} TaskOptions;

static int
take_task_options(corolla_state *state, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, TaskOptions *o)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *o = (TaskOptions){.eager = -1};
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];
        if (PyUnicode_CompareWithASCIIString(key, "name") == 0) {
            o->name = value == Py_None ? NULL : value;
        }
        else if (PyUnicode_CompareWithASCIIString(key, "context") == 0) {
            o->context = value == Py_None ? NULL : value;
        }
        else {
            if (PyUnicode_CompareWithASCIIString(key, "eager_start") == 0) {
                o->eager = PyObject_IsTrue(value);
                if (o->eager < 0) {
                    return -1;
                }
            }
            if (o->others == NULL && (o->others = PyDict_New()) == NULL) {
                return -1;
            }
            if (PyDict_SetItem(o->others, key, value) < 0) {
                return -1;
            }
        }
    }
    (void)state;
    return 0;
}

/* factory(loop, coro, context=..., ...), then set_name(): factories written for older Pythons take no name. */
static PyObject *
call_factory(LoopObject *self, PyObject *coro, TaskOptions *o)
{
    corolla_state *state = self->head.core.state;
    PyObject *factory = Py_NewRef(self->task_factory);
    PyObject *task = NULL;
    /* Ours takes it: the first step, which it runs, is to see the task under its name. */
    PyObject *name = Py_IS_TYPE(factory, state->eager_factory_type) ? o->name : NULL;
    PyObject *args = PyTuple_Pack(2, (PyObject *)self, coro);
    PyObject *kwargs = o->others != NULL ? Py_NewRef(o->others) : PyDict_New();
    if (args == NULL || kwargs == NULL ||
        (o->context != NULL && PyDict_SetItem(kwargs, state->s.context, o->context) < 0) ||
        (name != NULL && PyDict_SetItem(kwargs, state->s.name, name) < 0)) {
        goto done;
    }
    task = PyObject_Call(factory, args, kwargs);
    if (task != NULL && o->name != NULL && name == NULL) {
        PyObject *done = PyObject_CallMethodOneArg(task, state->s.set_name, o->name);
        if (done == NULL) {
            Py_CLEAR(task);
        }
        Py_XDECREF(done);
    }
done:
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_DECREF(factory);
    return task;
}

static int
check_no_others(TaskOptions *o)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (o->others != NULL && PyDict_Next(o->others, &at, &key, &value)) {
        if (PyUnicode_CompareWithASCIIString(key, "eager_start") != 0) {
            PyErr_Format(PyExc_TypeError, "create_task() got an unexpected keyword argument '%U'", key);
            return -1;
        }
    }
    return 0;
}

PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, /, coro, *, name=None, context=None, eager_start=False, **kwargs)\n--\n\n"
    "Run a coroutine on this loop. Return its Task, or what the task factory makes.\n\n"
    "name: the task's name. context: the contextvars.Context it runs in, a copy of the current one if None.\n"
    "eager_start: run the first step at once. Other keywords go to the task factory; without one they are a TypeError.\n"
    "Raises RuntimeError if the loop is closed. Specified by asyncio.loop.create_task() of CPython 3.14.");

static PyObject *
loop_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"coro", NULL};
    LoopObject *loop = (LoopObject *)self;
    corolla_core *core = loop_core(self);
    if (loop_check(self) < 0) {
        return NULL;
    }
    if (nargs != 1) {
        if (nargs == 0 && kwnames != NULL && PyTuple_GET_SIZE(kwnames) == 1) {
            static const corolla_signature sig = {"create_task", names, 1, 1, NULL};
            PyObject *coro;
            if (corolla_unpack(&sig, args, nargs, kwnames, &coro) < 0) {
                return NULL;
            }
            return loop_create_task(self, &coro, 1, NULL);
        }
        PyErr_Format(PyExc_TypeError, "create_task() takes exactly one positional argument (%zd given)", nargs);
        return NULL;
    }
    /* Our own eager factory is not called, but done as it would. */
    bool eager = loop->task_factory != NULL && corolla_is_eager_factory(core->state, loop->task_factory);
    if (kwnames == NULL && (loop->task_factory == NULL || eager)) {
        return corolla_task_new(core, args[0], NULL, NULL, eager);
    }
    TaskOptions o;
    PyObject *task = NULL;
    if (take_task_options(core->state, args, nargs, kwnames, &o) == 0) {
        if (loop->task_factory != NULL && !eager) {
            task = call_factory(loop, args[0], &o);
        }
        else if (check_no_others(&o) == 0) {
            task = corolla_task_new(core, args[0], o.name, o.context, o.eager >= 0 ? o.eager : eager);
        }
    }
    Py_XDECREF(o.others);
    return task;
}

PyDoc_STRVAR(set_task_factory_doc,
             "set_task_factory($self, /, factory)\n--\n\n"
             "Make create_task() call factory(loop, coro, **kwargs), or make Tasks again if None.\n\n"
             "Raises TypeError if it cannot be called. Specified by asyncio.loop.set_task_factory().");

static PyObject *
loop_set_task_factory(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"factory", NULL};
    static const corolla_signature sig = {"set_task_factory", names, 1, 1, NULL};
    PyObject *factory;
    if (corolla_unpack(&sig, args, nargs, kwnames, &factory) < 0) {
        return NULL;
    }
    if (factory != Py_None && !PyCallable_Check(factory)) {
        PyErr_SetString(PyExc_TypeError, "task factory must be a callable or None");
        return NULL;
    }
    ((LoopObject *)self)->head.core.factory = factory != Py_None;
    Py_XSETREF(((LoopObject *)self)->task_factory, factory == Py_None ? NULL : Py_NewRef(factory));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_task_factory_doc, "get_task_factory($self, /)\n--\n\nReturn the task factory, or None.");

static PyObject *
loop_get_task_factory(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *factory = ((LoopObject *)self)->task_factory;
    return Py_NewRef(factory != NULL ? factory : Py_None);
}

#define FAST(name, function, doc)                                                       \
    {                                                                                   \
        name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, doc \
    }

PyMethodDef corolla_loop_call_methods[] = {
    FAST("call_soon", loop_call_soon, call_soon_doc),
    FAST("call_soon_threadsafe", loop_call_soon_threadsafe, call_soon_threadsafe_doc),
    FAST("call_later", loop_call_later, call_later_doc),
    FAST("call_at", loop_call_at, call_at_doc),
    {"time", loop_time, METH_NOARGS, time_doc},
    {"create_future", loop_create_future, METH_NOARGS, create_future_doc},
    FAST("create_task", loop_create_task, create_task_doc),
    {"set_task_factory", (PyCFunction)(void (*)(void))loop_set_task_factory, METH_FASTCALL | METH_KEYWORDS,
     set_task_factory_doc},
    {"get_task_factory", loop_get_task_factory, METH_NOARGS, get_task_factory_doc},
    {NULL, NULL, 0, NULL},
};
