/* Running and stopping. */
#include "loop.h"

/* A loop that was running when its process forked does not run in the child. */
bool
corolla_core_is_running(corolla_core *core)
{
    return core->running && !corolla_core_is_inherited(core);
}

/* ---- What surrounds a run ---------------------------------------------------------------- */

static int
set_origin_depth(corolla_state *state, int depth)
{
    PyObject *done = PyObject_CallFunction(state->set_origin_depth, "i", depth);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* asyncio.constants.DEBUG_STACK_DEPTH, which programs raise to see more. -1 on error. */
static int
debug_stack_depth(void)
{
    PyObject *number = PyImport_ImportModuleAttrString("asyncio.constants", "DEBUG_STACK_DEPTH");
    long depth = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    if (depth < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "asyncio.constants.DEBUG_STACK_DEPTH must be >= 0");
    }
    return depth < 0 ? -1 : depth < INT_MAX ? (int)depth : INT_MAX;
}

static int
begin_origin_tracking(LoopObject *self)
{
    corolla_state *state = self->head.core.state;
    self->old_origin_depth = -1;
    if (!self->head.core.debug) {
        return 0;
    }
    PyObject *depth = PyObject_CallNoArgs(state->get_origin_depth);
    if (depth == NULL) {
        return -1;
    }
    long old = PyLong_AsLong(depth);
    Py_DECREF(depth);
    if (old == -1 && PyErr_Occurred()) {
        return -1;
    }
    int wanted = debug_stack_depth();
    if (wanted < 0 || set_origin_depth(state, wanted) < 0) {
        return -1;
    }
    self->old_origin_depth = (int)old;
    return 0;
}

static int
end_origin_tracking(LoopObject *self)
{
    int old = self->old_origin_depth;
    self->old_origin_depth = -1;
    return old < 0 ? 0 : set_origin_depth(self->head.core.state, old);
}

static int
set_asyncgen_hooks(corolla_state *state, PyObject *firstiter, PyObject *finalizer)
{
    PyObject *done = PyObject_CallFunctionObjArgs(state->set_asyncgen_hooks, firstiter, finalizer, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyMethodDef firstiter_def = {"_asyncgen_firstiter_hook", loop_asyncgen_firstiter, METH_O, NULL};
static PyMethodDef finalizer_def = {"_asyncgen_finalizer_hook", loop_asyncgen_finalizer, METH_O, NULL};

static int
begin_asyncgen_hooks(LoopObject *self)
{
    corolla_state *state = self->head.core.state;
    PyObject *first = NULL, *last = NULL;
    int rc = -1;
    PyObject *old = PyObject_CallNoArgs(state->get_asyncgen_hooks);
    if (old == NULL) {
        return -1;
    }
    first = PyCFunction_New(&firstiter_def, (PyObject *)self);
    last = PyCFunction_New(&finalizer_def, (PyObject *)self);
    if (first != NULL && last != NULL && set_asyncgen_hooks(state, first, last) == 0) {
        Py_XSETREF(self->old_firstiter, Py_NewRef(PyTuple_GET_ITEM(old, 0)));
        Py_XSETREF(self->old_finalizer, Py_NewRef(PyTuple_GET_ITEM(old, 1)));
        rc = 0;
    }
    Py_XDECREF(first);
    Py_XDECREF(last);
    Py_DECREF(old);
    return rc;
}

static int
end_asyncgen_hooks(LoopObject *self)
{
    PyObject *first = self->old_firstiter, *last = self->old_finalizer;
    self->old_firstiter = self->old_finalizer = NULL;
    int rc = first == NULL ? 0 : set_asyncgen_hooks(self->head.core.state, first, last);
    Py_XDECREF(first);
    Py_XDECREF(last);
    return rc;
}

static int
set_running_loop(corolla_state *state, PyObject *loop)
{
    PyObject *done = PyObject_CallOneArg(state->_set_running_loop, loop);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
check_may_run(PyObject *self)
{
    if (loop_check(self) < 0) {
        return -1;
    }
    corolla_core *core = loop_core(self);
    if (corolla_core_is_running(core)) {
        PyErr_SetString(PyExc_RuntimeError, "This event loop is already running");
        return -1;
    }
    PyObject *other = PyObject_CallNoArgs(core->state->_get_running_loop);
    if (other == NULL) {
        return -1;
    }
    bool none = other == Py_None;
    Py_DECREF(other);
    if (!none) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot run the event loop while another loop is running");
        return -1;
    }
    return 0;
}

/* Keeps the first of two errors. */
static int
also(int rc, int (*undo)(LoopObject *), LoopObject *self)
{
    PyObject *raised = PyErr_GetRaisedException();
    int failed = undo(self);
    if (raised != NULL) {
        if (failed < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        PyErr_SetRaisedException(raised);
    }
    return rc < 0 || failed < 0 ? -1 : 0;
}

static int
leave_running_loop(LoopObject *self)
{
    return set_running_loop(self->head.core.state, Py_None);
}

static int
leave_signals(LoopObject *self)
{
    loop_signals_leave(self);
    return 0;
}

/* Turns until stop(), or until something leaves the loop. */
static int
run_turns(LoopObject *self)
{
    corolla_core *core = &self->head.core;
    for (;;) {
        if (corolla_ring_count(&core->reactor.ring) == 0) {
            /* This turn may sleep. Leaving drops references, and what that queues is to be seen before. */
            corolla_core_leave_task(core);
            corolla_core_forget_contexts(core);
        }
        int rc = corolla_reactor_turn(&core->reactor);
        if (rc < 0) {
            if (!PyErr_Occurred()) {
                if (rc == -ECHILD) {
                    PyErr_SetString(PyExc_RuntimeError,
                                    "The process was forked while this event loop was running in it");
                }
                else if (rc == -ENOMEM) {
                    PyErr_NoMemory();
                }
                else {
                    errno = -rc;
                    PyErr_SetFromErrno(PyExc_OSError);
                }
            }
            return -1;
        }
        if (core->reactor.stopping) {
            return 0;
        }
    }
}

static int
run_forever(PyObject *obj)
{
    LoopObject *self = (LoopObject *)obj;
    corolla_core *core = loop_core(obj);
    if (check_may_run(obj) < 0) {
        return -1;
    }
    Py_INCREF(obj);
    corolla_core *outer = loop_forks_enter(core);
    core->thread = PyThread_get_thread_ident();
    core->running = true;
    int rc = core->debug ? loop_forks_refuse() : 0;
    if (rc == 0) {
        rc = begin_origin_tracking(self);
    }
    if (rc == 0) {
        rc = begin_asyncgen_hooks(self);
    }
    if (rc == 0) {
        rc = set_running_loop(core->state, obj);
    }
    if (rc == 0) {
        corolla_core_entered(core);
        rc = loop_signals_enter(self);
        if (rc == 0) {
            rc = run_turns(self);
            corolla_core_leave_task(core);
        }
        rc = also(rc, leave_signals, self);
        corolla_core_left(core);
        rc = also(rc, leave_running_loop, self);
    }
    core->reactor.stopping = false;
    core->running = false;
    core->thread = 0;
    corolla_reactor_visit(&core->reactor, corolla_track_job, NULL);
    corolla_core_forget_contexts(core);
    rc = also(rc, end_asyncgen_hooks, self);
    rc = also(rc, end_origin_tracking, self);
    loop_forks_leave(outer);
    Py_DECREF(obj);
    return rc;
}

/* ---- Methods ----------------------------------------------------------------------------- */

PyDoc_STRVAR(
    run_forever_doc,
    "run_forever($self, /)\n--\n\n"
    "Run until stop() is called.\n\n"
    "Raises RuntimeError if the loop is closed, or if it or another loop is running in this thread. KeyboardInterrupt\n"
    "and SystemExit from a callback leave it at once; what was queued stays queued. Specified by\n"
    "asyncio.loop.run_forever().");

static PyObject *
loop_run_forever(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (run_forever(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether a future ended with KeyboardInterrupt or SystemExit, which leave the loop by themselves. 1, 0, -1. */
static int
ended_by_exit(corolla_state *state, PyObject *future)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, state->s.cancelled);
    int cancelled = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = PyObject_CallMethodNoArgs(future, state->s.exception);
    if (exc == NULL) {
        return -1;
    }
    int exits = exc != Py_None && (PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt) ||
                                   PyErr_GivenExceptionMatches(exc, PyExc_SystemExit));
    Py_DECREF(exc);
    return exits;
}

static PyObject *
run_until_complete_cb(PyObject *self, PyObject *future)
{
    corolla_core *core = loop_core(self);
    int exits = ended_by_exit(core->state, future);
    if (exits < 0) {
        return NULL;
    }
    if (!exits) {
        PyObject *done = PyObject_CallMethod(self, "stop", NULL);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    Py_RETURN_NONE;
}

static PyMethodDef run_until_complete_cb_def = {"_run_until_complete_cb", run_until_complete_cb, METH_O, NULL};

/* After an error of the run: an exception of a task that we made is not reported a second time as never
 * retrieved. Keeps the error. */
static void
retrieve(corolla_state *state, PyObject *future)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethodNoArgs(future, state->s.done);
    PyObject *cancelled = done == NULL ? NULL : PyObject_CallMethodNoArgs(future, state->s.cancelled);
    if (cancelled != NULL && PyObject_IsTrue(done) > 0 && PyObject_IsTrue(cancelled) == 0) {
        PyObject *exc = PyObject_CallMethodNoArgs(future, state->s.exception);
        Py_XDECREF(exc);
    }
    Py_XDECREF(cancelled);
    Py_XDECREF(done);
    PyErr_Clear();
    PyErr_SetRaisedException(raised);
}

/* Whether what is being raised is the exception of that future, of ours: whoever catches it has it told. */
static bool
is_raising(corolla_state *state, PyObject *future)
{
    PyObject *raised = PyErr_GetRaisedException();
    bool is = corolla_is_future(state, future) && ((corolla_future *)future)->exception == raised;
    PyErr_SetRaisedException(raised);
    return is;
}

/* True, False or NULL of future.done(). */
static int
is_done(corolla_state *state, PyObject *future)
{
    PyObject *answer = PyObject_CallMethodNoArgs(future, state->s.done);
    int done = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return done;
}

PyDoc_STRVAR(run_until_complete_doc,
             "run_until_complete($self, /, future)\n--\n\n"
             "Run until a future, coroutine or other awaitable is done. Return its result or raise its exception.\n\n"
             "Raises RuntimeError if the loop was stopped before. Specified by asyncio.loop.run_until_complete().");

static PyObject *
loop_run_until_complete(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"future", NULL};
    static const corolla_signature sig = {"run_until_complete", names, 1, 1, NULL};
    PyObject *awaitable;
    if (corolla_unpack(&sig, args, nargs, kwnames, &awaitable) < 0) {
        return NULL;
    }
    corolla_state *state = loop_core(self)->state;
    PyObject *callback = NULL, *result = NULL, *done = NULL;
    if (check_may_run(self) < 0) {
        return NULL;
    }
    PyObject *answer = PyObject_CallOneArg(state->isfuture, awaitable);
    int given = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (given < 0) {
        return NULL;
    }
    PyObject *stack[2] = {awaitable, self};
    PyObject *keyword = PyTuple_Pack(1, state->s.loop);
    if (keyword == NULL) {
        return NULL;
    }
    PyObject *future = PyObject_Vectorcall(state->ensure_future, stack, 1, keyword);
    Py_DECREF(keyword);
    if (future == NULL) {
        return NULL;
    }
    /* An interrupted run says enough: no report that the task was destroyed. */
    if (!given && PyObject_SetAttrString(future, "_log_destroy_pending", Py_False) < 0) {
        goto done;
    }
    callback = PyCFunction_New(&run_until_complete_cb_def, self);
    if (callback == NULL) {
        goto done;
    }
    done = PyObject_CallMethodOneArg(future, state->s.add_done_callback, callback);
    if (done == NULL) {
        goto done;
    }
    Py_DECREF(done);
    /* Through the method: loops of graphical toolkits extend it. */
    done = PyObject_CallMethod(self, "run_forever", NULL);
    int rc = done == NULL ? -1 : 0;
    Py_XDECREF(done);
    if (rc < 0 && (!given || is_raising(state, future))) {
        retrieve(state, future);
    }
    PyObject *raised = PyErr_GetRaisedException();
    done = PyObject_CallMethodOneArg(future, state->s.remove_done_callback, callback);
    if (raised != NULL) {
        if (done == NULL) {
            PyErr_WriteUnraisable(future);
        }
        PyErr_SetRaisedException(raised);
    }
    Py_XDECREF(done);
    if (rc < 0 || PyErr_Occurred()) {
        goto done;
    }
    int is = is_done(state, future);
    if (is == 0) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop stopped before Future completed.");
    }
    if (is > 0) {
        result = PyObject_CallMethodNoArgs(future, state->s.result);
    }
done:
    Py_XDECREF(callback);
    Py_DECREF(future);
    return result;
}

PyDoc_STRVAR(stop_doc,
             "stop($self, /)\n--\n\n"
             "Make run_forever() return after the callbacks that are ready now. Specified by asyncio.loop.stop().");

static PyObject *
loop_stop(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_core *core = loop_core(self);
    if (core->ready && !core->closed) {
        corolla_reactor_stop(&core->reactor);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_running_doc, "is_running($self, /)\n--\n\nReturn True if the loop is running.");

static PyObject *
loop_is_running(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(corolla_core_is_running(loop_core(self)));
}

PyDoc_STRVAR(get_debug_doc, "get_debug($self, /)\n--\n\nReturn True in debug mode.");

static PyObject *
loop_get_debug(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(loop_core(self)->debug);
}

PyDoc_STRVAR(set_debug_doc,
             "set_debug($self, /, enabled)\n--\n\n"
             "Switch debug mode. Specified by asyncio.loop.set_debug() and the page \"Developing with asyncio\".");

static PyObject *
loop_set_debug(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"enabled", NULL};
    static const corolla_signature sig = {"set_debug", names, 1, 1, NULL};
    PyObject *enabled;
    if (corolla_unpack(&sig, args, nargs, kwnames, &enabled) < 0) {
        return NULL;
    }
    int truth = PyObject_IsTrue(enabled);
    if (truth < 0) {
        return NULL;
    }
    LoopObject *loop = (LoopObject *)self;
    corolla_core *core = loop_core(self);
    corolla_core_set_debug(core, truth);
    if (truth && corolla_core_is_running(core) && loop_forks_refuse() < 0) {
        return NULL;
    }
    if (corolla_core_is_running(core) && core->thread == PyThread_get_thread_ident()) {
        int rc = 0;
        if (truth && loop->old_origin_depth < 0) {
            rc = begin_origin_tracking(loop);
        }
        else if (!truth) {
            rc = end_origin_tracking(loop);
        }
        if (rc < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

PyMethodDef corolla_loop_run_methods[] = {
    {"run_forever", loop_run_forever, METH_NOARGS, run_forever_doc},
    {"run_until_complete", (PyCFunction)(void (*)(void))loop_run_until_complete, METH_FASTCALL | METH_KEYWORDS,
     run_until_complete_doc},
    {"stop", loop_stop, METH_NOARGS, stop_doc},
    {"is_running", loop_is_running, METH_NOARGS, is_running_doc},
    {"get_debug", loop_get_debug, METH_NOARGS, get_debug_doc},
    {"set_debug", (PyCFunction)(void (*)(void))loop_set_debug, METH_FASTCALL | METH_KEYWORDS, set_debug_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Attributes -------------------------------------------------------------------------- */

static PyObject *
get_slow_callback_duration(PyObject *self, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(loop_core(self)->slow_callback);
}

static int
set_slow_callback_duration(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    loop_core(self)->slow_callback = seconds;
    return 0;
}

static PyObject *
get_current_handle(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *handle = loop_core(self)->current_handle;
    return Py_NewRef(handle != NULL ? handle : Py_None);
}

PyGetSetDef corolla_loop_getset[] = {
    {"slow_callback_duration", get_slow_callback_duration, set_slow_callback_duration,
     "Seconds: in debug mode, callbacks that take this long are reported.", NULL},
    {"_current_handle", get_current_handle, NULL, "In debug mode, the Handle that runs, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
