/* Work on other threads: run_in_executor() and the default executor. */
#include "../primitives/chain.h"
#include "loop.h"

/* ---- Arguments ----------------------------------------------------------------------------- */

int
loop_unpack_call(const corolla_signature *sig, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                 PyObject *out[2], PyObject *const **rest, Py_ssize_t *count)
{
    if (nargs >= 2 && (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)) {
        out[0] = args[0];
        out[1] = args[1];
        *rest = args + 2;
        *count = nargs - 2;
        return 0;
    }
    *rest = args;
    *count = 0;
    return corolla_unpack(sig, args, nargs, kwnames, out);
}

int
loop_is_coroutine(corolla_state *state, PyObject *obj)
{
    PyObject *const tests[2] = {state->iscoroutine, state->iscoroutinefunction};
    for (int i = 0; i < 2; i++) {
        PyObject *answer = PyObject_CallOneArg(tests[i], obj);
        int yes = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (yes != 0) {
            return yes;
        }
    }
    return 0;
}

/* Debug mode's check of what is to be called. 0 or -1. */
static int
check_callback(corolla_core *core, PyObject *callback, const char *method)
{
    int coroutine = loop_is_coroutine(core->state, callback);
    if (coroutine > 0) {
        PyErr_Format(PyExc_TypeError, "coroutines cannot be used with %s()", method);
    }
    else if (coroutine == 0 && !PyCallable_Check(callback)) {
        PyErr_Format(PyExc_TypeError, "a callable object was expected by %s(), got %R", method, callback);
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- The default executor --------------------------------------------------------------------- */

/* Borrowed, or NULL with an exception. */
static PyObject *
get_default_executor(LoopObject *self)
{
    if (self->executor_shutdown) {
        PyErr_SetString(PyExc_RuntimeError, "Executor shutdown has been called");
        return NULL;
    }
    if (self->default_executor != NULL) {
        return self->default_executor;
    }
    PyObject *type = PyImport_ImportModuleAttrString("concurrent.futures", "ThreadPoolExecutor");
    PyObject *kwargs = type == NULL ? NULL : Py_BuildValue("{ss}", "thread_name_prefix", "asyncio");
    PyObject *executor = kwargs == NULL ? NULL : PyObject_VectorcallDict(type, NULL, 0, kwargs);
    Py_XDECREF(type);
    Py_XDECREF(kwargs);
    if (executor == NULL) {
        return NULL;
    }
    if (self->default_executor != NULL) {
        Py_DECREF(executor); /* the import let another thread in, and it was quicker */
    }
    else {
        self->default_executor = executor;
    }
    return self->default_executor;
}

static const char *const run_names[] = {"executor", "func", NULL};
static const corolla_signature run_sig = {"run_in_executor", run_names, 2, 2, NULL};

PyDoc_STRVAR(run_in_executor_doc,
             "run_in_executor($self, executor, func, *args)\n--\n\n"
             "Have an executor call func(*args); returns a future of what it gives.\n\n"
             "executor: a concurrent.futures.Executor, or None for the loop's default one, a thread pool.");

static PyObject *
loop_run_in_executor(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_core *core = loop_core(loop);
    PyObject *out[2], *const *rest;
    Py_ssize_t count;
    if (loop_unpack_call(&run_sig, args, nargs, kwnames, out, &rest, &count) < 0 || loop_check(loop) < 0 ||
        (core->debug && check_callback(core, out[1], "run_in_executor") < 0)) {
        return NULL;
    }
    PyObject *executor = out[0];
    if (executor == Py_None) {
        executor = get_default_executor(self);
        if (executor == NULL) {
            return NULL;
        }
    }
    PyObject **stack = PyMem_New(PyObject *, count + 3);
    if (stack == NULL) {
        return PyErr_NoMemory();
    }
    stack[0] = NULL;
    stack[1] = Py_NewRef(executor);
    stack[2] = out[1];
    for (Py_ssize_t i = 0; i < count; i++) {
        stack[i + 3] = rest[i];
    }
    PyObject *work = PyObject_VectorcallMethod(core->state->s.submit, stack + 1,
                                               (size_t)(count + 2) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(stack[1]);
    PyMem_Free(stack);
    if (work == NULL) {
        return NULL;
    }
    PyObject *future = corolla_wrap_future(core->state, work, core->loop);
    Py_DECREF(work);
    return future;
}

static const char *const set_names[] = {"executor", NULL};
static const corolla_signature set_sig = {"set_default_executor", set_names, 1, 1, NULL};

PyDoc_STRVAR(set_default_executor_doc, "set_default_executor($self, executor)\n--\n\n"
                                       "Make a ThreadPoolExecutor the one that run_in_executor(None, ...) uses.");

static PyObject *
loop_set_default_executor(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    PyObject *executor;
    if (corolla_unpack(&set_sig, args, nargs, kwnames, &executor) < 0) {
        return NULL;
    }
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    PyObject *type = PyImport_ImportModuleAttrString("concurrent.futures", "ThreadPoolExecutor");
    int fits = type == NULL ? -1 : PyObject_IsInstance(executor, type);
    Py_XDECREF(type);
    if (fits <= 0) {
        if (fits == 0) {
            PyErr_SetString(PyExc_TypeError, "executor must be ThreadPoolExecutor instance");
        }
        return NULL;
    }
    Py_XSETREF(self->default_executor, Py_NewRef(executor));
    Py_RETURN_NONE;
}

/* executor.shutdown(wait=wait). 0 or -1. */
static int
shut_executor_down(corolla_state *state, PyObject *executor, bool wait)
{
    PyObject *stack[3] = {NULL, executor, wait ? Py_True : Py_False};
    PyObject *names = PyTuple_Pack(1, state->s.wait);
    PyObject *done = names == NULL ? NULL
                                   : PyObject_VectorcallMethod(state->s.shutdown, stack + 1,
                                                               1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_XDECREF(names);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

void
loop_executor_close(LoopObject *self, bool inherited)
{
    PyObject *executor = self->default_executor;
    self->executor_shutdown = true;
    self->default_executor = NULL;
    if (executor == NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    /* Not in a child: of the parent's threads one may have held the executor's lock. */
    if (!inherited && shut_executor_down(self->head.core.state, executor, false) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_DECREF(executor);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* ---- shutdown_default_executor() ---------------------------------------------------------------- */

typedef struct ShutdownState {
    PyObject *loop;     /* owned */
    PyObject *timeout;  /* owned: seconds or None */
    PyObject *future;   /* owned: True once the threads have ended, False when the time is up */
    PyObject *executor; /* owned */
    PyObject *thread;   /* owned: a Thread that waits for them */
    PyObject *timer;    /* owned: a TimerHandle, or NULL */
} ShutdownState;

static int
shutdown_traverse(void *state, visitproc visit, void *arg)
{
    ShutdownState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->timeout);
    Py_VISIT(st->future);
    Py_VISIT(st->executor);
    Py_VISIT(st->thread);
    Py_VISIT(st->timer);
    return 0;
}

static void
shutdown_stop_timer(ShutdownState *st)
{
    PyObject *timer = st->timer;
    st->timer = NULL;
    if (timer != NULL) {
        corolla_handle_cancel((corolla_handle *)timer);
        Py_DECREF(timer);
    }
}

static void
shutdown_clear(void *state)
{
    ShutdownState *st = state;
    shutdown_stop_timer(st);
    Py_CLEAR(st->timeout);
    Py_CLEAR(st->future);
    Py_CLEAR(st->executor);
    Py_CLEAR(st->thread);
    Py_CLEAR(st->loop);
}

/* On the loop's thread: an exception, or what the future is to give. */
static PyObject *
shutdown_settled(PyObject *future, PyObject *outcome)
{
    if (corolla_future_done(future)) {
        Py_RETURN_NONE;
    }
    corolla_state *state = ((corolla_future *)future)->state;
    int rc = PyExceptionInstance_Check(outcome) ? corolla_chain_fail(state, future, Py_NewRef(outcome))
                                                : corolla_future_set_result(future, outcome);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef shutdown_settled_def = {"shutdown_settled", shutdown_settled, METH_O, NULL};

/* The body of the waiting thread. */
static PyObject *
shutdown_wait(PyObject *future, PyObject *executor)
{
    PyObject *outcome = Py_True;
    PyObject *exc = NULL;
    if (shut_executor_down(((corolla_future *)future)->state, executor, true) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL;
        }
        outcome = exc = PyErr_GetRaisedException();
    }
    corolla_future *fut = (corolla_future *)future;
    int rc = fut->loop == NULL ? 0 : corolla_chain_post(fut->state, fut->loop, &shutdown_settled_def, future, outcome);
    Py_XDECREF(exc);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef shutdown_wait_def = {"shutdown_wait", shutdown_wait, METH_O, NULL};

/* Starts the thread. 0 or -1. */
static int
shutdown_start_thread(corolla_core *core, ShutdownState *st)
{
    corolla_state *state = core->state;
    PyObject *names = NULL, *args = NULL, *started = NULL;
    PyObject *target = PyCFunction_New(&shutdown_wait_def, st->future);
    if (target == NULL) {
        return -1;
    }
    args = PyTuple_Pack(1, st->executor);
    names = PyTuple_Pack(2, state->s.target, state->s.args);
    if (args != NULL && names != NULL) {
        PyObject *stack[2] = {target, args};
        st->thread = PyObject_Vectorcall(state->Thread, stack, 0, names);
    }
    if (st->thread != NULL) {
        started = PyObject_CallMethodNoArgs(st->thread, state->s.start);
    }
    Py_DECREF(target);
    Py_XDECREF(args);
    Py_XDECREF(names);
    Py_XDECREF(started);
    return started == NULL ? -1 : 0;
}

/* Sees that the future is told when the time is up. 0 or -1. */
static int
shutdown_start_timer(corolla_core *core, ShutdownState *st)
{
    if (st->timeout == Py_None) {
        return 0;
    }
    int64_t now;
    double timeout = PyFloat_AsDouble(st->timeout);
    if ((timeout == -1.0 && PyErr_Occurred()) || corolla_core_now(core, &now) < 0) {
        return -1;
    }
    PyObject *callback = PyCFunction_New(&shutdown_settled_def, st->future);
    if (callback == NULL) {
        return -1;
    }
    PyObject *time_up = Py_False;
    st->timer = corolla_call_at(core, (double)now / 1e9 + timeout, callback, &time_up, 1, NULL);
    Py_DECREF(callback);
    return st->timer == NULL ? -1 : 0;
}

/* The time is up: warns, and leaves the threads to themselves. */
static corolla_step
shutdown_give_up(corolla_coro *co, ShutdownState *st)
{
    /* The frame above a coroutine in C is the one that awaits it. */
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "The executor did not finishing joining its threads within %S seconds.", st->timeout) < 0 ||
        shut_executor_down(co->state, st->executor, false) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));
}

static corolla_step
shutdown_step(corolla_coro *co, PyObject *value)
{
    ShutdownState *st = corolla_coro_state(co);
    LoopObject *self = (LoopObject *)st->loop;
    PyObject *joined;
    COROLLA_BEGIN(co);
    self->executor_shutdown = true;
    if (self->default_executor == NULL) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    if (loop_check(st->loop) < 0) {
        return COROLLA_RAISE;
    }
    st->executor = Py_NewRef(self->default_executor);
    st->future = corolla_future_new(loop_core(st->loop));
    if (st->future == NULL || shutdown_start_thread(loop_core(st->loop), st) < 0 ||
        shutdown_start_timer(loop_core(st->loop), st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_TimeoutError)) {
            return COROLLA_RAISE;
        }
        PyErr_Clear(); /* the executor's own: asyncio does not tell it from ours */
        value = Py_False;
    }
    if (value == Py_False) {
        return shutdown_give_up(co, st);
    }
    joined = PyObject_CallMethodNoArgs(st->thread, co->state->s.join);
    if (joined == NULL) {
        return COROLLA_RAISE;
    }
    Py_DECREF(joined);
    return corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

static const corolla_coro_spec shutdown_spec = {
    .name = "shutdown_default_executor",
    .qualname = "EventLoop.shutdown_default_executor",
    .size = sizeof(ShutdownState),
    .step = shutdown_step,
    .traverse = shutdown_traverse,
    .clear = shutdown_clear,
};

static const char *const shutdown_names[] = {"timeout", NULL};
static const corolla_signature shutdown_sig = {"shutdown_default_executor", shutdown_names, 0, 1, NULL};

PyDoc_STRVAR(shutdown_default_executor_doc,
             "shutdown_default_executor($self, timeout=None)\n--\n\n"
             "Wait until the default executor's threads have ended; it takes no more work.\n\n"
             "timeout: seconds, after which a RuntimeWarning is given and the threads are left to themselves.");

static PyObject *
loop_shutdown_default_executor(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *timeout;
    if (corolla_unpack(&shutdown_sig, args, nargs, kwnames, &timeout) < 0) {
        return NULL;
    }
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, &shutdown_spec);
    if (co != NULL) {
        ShutdownState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
        st->timeout = Py_NewRef(timeout == NULL ? Py_None : timeout);
    }
    return (PyObject *)co;
}

PyMethodDef corolla_loop_executor_methods[] = {
    {"run_in_executor", (PyCFunction)(void (*)(void))loop_run_in_executor, METH_FASTCALL | METH_KEYWORDS,
     run_in_executor_doc},
    {"set_default_executor", (PyCFunction)(void (*)(void))loop_set_default_executor, METH_FASTCALL | METH_KEYWORDS,
     set_default_executor_doc},
    {"shutdown_default_executor", (PyCFunction)(void (*)(void))loop_shutdown_default_executor,
     METH_FASTCALL | METH_KEYWORDS, shutdown_default_executor_doc},
    {NULL, NULL, 0, NULL},
};
