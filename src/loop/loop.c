/* The EventLoop type: its making, its closing, and its memory. Its methods are in the other files. */
#include "loop.h"

#include <string.h>

/* ---- Which methods are somebody else's ---------------------------------------------------- */

/* For a loop whose time() is overridden: its clock decides what is due. */
static int
overridden_clock(void *ctx, int64_t *now)
{
    corolla_core_leave_task(loop_core(ctx));
    return corolla_core_now(loop_core(ctx), now);
}

static void
choose_clock(corolla_core *core)
{
    core->reactor.hooks.clock = core->overridden & COROLLA_OWN_TIME ? overridden_clock : NULL;
}

static const struct {
    size_t name; /* offset into corolla_state.s */
    unsigned bit;
} hooks[] = {
    {offsetof(corolla_state, s.call_soon), COROLLA_OWN_CALL_SOON},
    {offsetof(corolla_state, s.call_at), COROLLA_OWN_CALL_AT},
    {offsetof(corolla_state, s.call_later), COROLLA_OWN_CALL_LATER},
    {offsetof(corolla_state, s.create_task), COROLLA_OWN_CREATE_TASK},
    {offsetof(corolla_state, s.create_future), COROLLA_OWN_CREATE_FUTURE},
    {offsetof(corolla_state, s.time), COROLLA_OWN_TIME},
    {offsetof(corolla_state, s.call_exception_handler), COROLLA_OWN_EXCEPTION_HANDLER},
};

static PyObject *
hook_name(corolla_state *state, size_t i)
{
    return *(PyObject **)((char *)state + hooks[i].name);
}

/* What the class overrides: decided once for each loop. 0 or -1. */
static int
find_overrides(PyObject *self, corolla_core *core)
{
    corolla_state *state = core->state;
    core->overridden = 0;
    if (Py_TYPE(self) == state->loop_type) {
        return 0;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(hooks); i++) {
        PyObject *name = hook_name(state, i);
        PyObject *theirs = PyObject_GetAttr((PyObject *)Py_TYPE(self), name);
        PyObject *ours = PyObject_GetAttr((PyObject *)state->loop_base_type, name);
        bool known = theirs != NULL && ours != NULL;
        if (known && theirs != ours) {
            core->overridden |= hooks[i].bit;
        }
        Py_XDECREF(theirs);
        Py_XDECREF(ours);
        if (!known) {
            return -1;
        }
    }
    return 0;
}

/* A program may also set such an attribute on one loop, or take it away again. */
static int
loop_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (PyObject_GenericSetAttr(self, name, value) < 0) {
        return -1;
    }
    corolla_core *core = loop_core(self);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(hooks); i++) {
        int same = PyUnicode_Check(name) ? PyUnicode_Compare(name, hook_name(core->state, i)) : 1;
        if (same == 0 && !PyErr_Occurred()) {
            if (value != NULL) {
                core->overridden |= hooks[i].bit;
                choose_clock(core);
                break;
            }
            unsigned others = core->overridden & ~hooks[i].bit;
            if (find_overrides(self, core) < 0) {
                return -1;
            }
            core->overridden = others | (core->overridden & hooks[i].bit);
            choose_clock(core);
            break;
        }
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- The interpreter's lock around a poll ------------------------------------------------- */

static void
before_poll(void *ctx)
{
    LoopObject *self = ctx;
    corolla_core_leave_task(&self->head.core);
    corolla_core_forget_contexts(&self->head.core);
    self->unlocked = PyEval_SaveThread();
}

static int
after_poll(void *ctx, int rc)
{
    LoopObject *self = ctx;
    PyThreadState *thread = self->unlocked;
    self->unlocked = NULL;
    PyEval_RestoreThread(thread);
    if (rc < 0 && rc != -EINTR) {
        errno = -rc;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    /* Signal handlers written in Python run here when no Python code is running. */
    return PyErr_CheckSignals();
}

/* ---- Making ------------------------------------------------------------------------------ */

static PyObject *
loop_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *obj = type->tp_alloc(type, 0);
    if (obj == NULL) {
        return NULL;
    }
    LoopObject *self = (LoopObject *)obj;
    self->head.core.state = state;
    self->head.core.loop = obj;
    self->wake_read = self->wake_write = -1;
    self->doubts_fd = -1;
    corolla_state_hold(state);
    return obj;
}

/* asyncio.coroutines._is_debug_mode(), looked up each time: people replace it. */
static PyObject *
ask_debug_mode(void)
{
    PyObject *ask = PyImport_ImportModuleAttrString("asyncio.coroutines", "_is_debug_mode");
    PyObject *answer = ask == NULL ? NULL : PyObject_CallNoArgs(ask);
    Py_XDECREF(ask);
    return answer;
}

static int
loop_tp_init(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    LoopObject *self = (LoopObject *)obj;
    corolla_core *core = loop_core(obj);
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0)) {
        PyErr_SetString(PyExc_TypeError, "EventLoop() takes no arguments");
        return -1;
    }
    if (core->ready) {
        PyErr_SetString(PyExc_RuntimeError, "EventLoop object is already initialized");
        return -1;
    }
    PyObject *debug = ask_debug_mode();
    int is_debug = debug == NULL ? -1 : PyObject_IsTrue(debug);
    Py_XDECREF(debug);
    unsigned instance = core->overridden; /* attributes set before this __init__ was called */
    if (is_debug < 0 || find_overrides(obj, core) < 0) {
        return -1;
    }
    core->overridden |= instance;
    int err = corolla_reactor_init(&core->reactor);
    if (err < 0) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    core->reactor.hooks = (corolla_hooks){
        .before_poll = before_poll,
        .after_poll = after_poll,
        .ctx = self,
    };
    choose_clock(core);
    corolla_core_set_debug(core, is_debug);
    core->slow_callback = 0.1;
    core->forks = corolla_fork_count();
    core->ready = true;
    return 0;
}

int
loop_check(PyObject *self)
{
    corolla_core *core = loop_core(self);
    if (!core->ready) {
        PyErr_SetString(PyExc_RuntimeError, "EventLoop object is not initialized.");
        return -1;
    }
    return corolla_core_check_closed(core);
}

/* ---- Closing ----------------------------------------------------------------------------- */

static void
drop_job(corolla_job_fn fn, void *arg, void *ctx)
{
    (void)ctx;
    if (corolla_transports_own_job(fn)) {
        Py_DECREF((PyObject *)arg);
    }
    else {
        corolla_job_drop(fn, arg);
    }
}

/* Gives up what the loop holds and watches, and the reactor. Keeps an exception that is being raised. */
static void
loop_release(LoopObject *self)
{
    corolla_core *core = &self->head.core;
    if (!core->ready || core->closed) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    bool forked = corolla_core_is_inherited(core);
    core->closed = true;
    if (forked) {
        /* First of all: what is stopped below must not leave the kernel's set, which is the parent's, too. */
        corolla_reactor_drain(&core->reactor, drop_job, NULL);
        corolla_reactor_abandon(&core->reactor);
    }
    if (loop_signals_close(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    loop_names_close(self);
    loop_readers_close(self);
    corolla_transports_close(core);
    if (!forked) {
        corolla_reactor_drain(&core->reactor, drop_job, NULL);
    }
    loop_executor_close(self, forked);
    if (!forked) {
        corolla_reactor_close(&core->reactor);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n--\n\n"
    "Close the loop: drop what is queued, restore signal handlers, shut the default executor down without waiting.\n\n"
    "Raises RuntimeError if it is running. Harmless twice. Specified by asyncio.loop.close().");

static PyObject *
loop_close(PyObject *obj, PyObject *unused)
{
    (void)unused;
    LoopObject *self = (LoopObject *)obj;
    if (corolla_core_is_running(loop_core(obj))) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot close a running event loop");
        return NULL;
    }
    if (self->head.core.debug && !self->head.core.closed) {
        PyObject *done = PyObject_CallMethod(self->head.core.state->logger, "debug", "sO", "Close %r", obj);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    loop_release(self);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_closed_doc, "is_closed($self, /)\n--\n\nReturn True if the loop was closed.");

static PyObject *
loop_is_closed(PyObject *obj, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(loop_core(obj)->closed);
}

/* ---- Memory ------------------------------------------------------------------------------ */

typedef struct {
    visitproc visit;
    void *arg;
    int rc;
} Visitor;

static void
visit_job(corolla_job_fn fn, void *arg, void *ctx)
{
    Visitor *v = ctx;
    PyObject *object = corolla_transports_own_job(fn) ? arg : corolla_job_object(fn, arg);
    if (v->rc == 0 && object != NULL) {
        v->rc = v->visit(object, v->arg);
    }
}

static int
loop_tp_traverse(PyObject *obj, visitproc visit, void *arg)
{
    LoopObject *self = (LoopObject *)obj;
    corolla_core *core = loop_core(obj);
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->exception_handler);
    Py_VISIT(self->task_factory);
    Py_VISIT(self->default_executor);
    Py_VISIT(self->asyncgens);
    Py_VISIT(self->old_firstiter);
    Py_VISIT(self->old_finalizer);
    Py_VISIT(self->signal_handlers);
    Py_VISIT(self->signal_receiver);
    Py_VISIT(core->entered);
    Py_VISIT(core->shown);
    if (!core->ready || core->closed) {
        return 0;
    }
    Visitor v = {visit, arg, 0};
    corolla_reactor_visit(&core->reactor, visit_job, &v);
    if (v.rc != 0) {
        return v.rc;
    }
    int rc = loop_readers_traverse(self, visit, arg);
    if (rc == 0) {
        rc = loop_names_traverse(self, visit, arg);
    }
    if (rc == 0) {
        rc = corolla_transports_traverse(core, visit, arg);
    }
    return rc;
}

static int
loop_tp_clear(PyObject *obj)
{
    LoopObject *self = (LoopObject *)obj;
    if (!corolla_core_is_running(loop_core(obj))) {
        loop_release(self);
    }
    corolla_core_forget_contexts(loop_core(obj));
    Py_CLEAR(self->exception_handler);
    Py_CLEAR(self->task_factory);
    Py_CLEAR(self->default_executor);
    Py_CLEAR(self->asyncgens);
    Py_CLEAR(self->old_firstiter);
    Py_CLEAR(self->old_finalizer);
    Py_CLEAR(self->signal_handlers);
    Py_CLEAR(self->signal_receiver);
    return 0;
}

static void
loop_tp_finalize(PyObject *obj)
{
    corolla_core *core = loop_core(obj);
    if (!core->ready || core->closed || corolla_core_is_running(core)) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (!corolla_core_is_inherited(core) && PyErr_ResourceWarning(obj, 1, "unclosed event loop %R", obj) < 0) {
        PyErr_WriteUnraisable(obj);
    }
    /* As asyncio: through close(), which a subclass may have extended. */
    PyObject *done = PyObject_CallMethodNoArgs(obj, core->state->s.close);
    if (done == NULL) {
        PyErr_WriteUnraisable(obj);
    }
    Py_XDECREF(done);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static void
loop_tp_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    corolla_state *state = loop_core(obj)->state;
    PyObject_GC_UnTrack(obj);
    loop_tp_clear(obj);
    type->tp_free(obj);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
loop_tp_repr(PyObject *obj)
{
    corolla_core *core = loop_core(obj);
    const char *name = strrchr(Py_TYPE(obj)->tp_name, '.');
    name = name != NULL ? name + 1 : Py_TYPE(obj)->tp_name;
    return PyUnicode_FromFormat("<%s running=%s closed=%s debug=%s>", name,
                                corolla_core_is_running(core) ? "True" : "False", core->closed ? "True" : "False",
                                core->debug ? "True" : "False");
}

/* ---- The type ---------------------------------------------------------------------------- */

static PyMethodDef loop_methods[] = {
    {"close", loop_close, METH_NOARGS, close_doc},
    {"is_closed", loop_is_closed, METH_NOARGS, is_closed_doc},
    {NULL, NULL, 0, NULL},
};

extern PyGetSetDef corolla_loop_getset[];

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, (void *)"The compiled part of EventLoop."},
    {Py_tp_new, loop_tp_new},
    {Py_tp_init, loop_tp_init},
    {Py_tp_dealloc, loop_tp_dealloc},
    {Py_tp_finalize, loop_tp_finalize},
    {Py_tp_traverse, loop_tp_traverse},
    {Py_tp_clear, loop_tp_clear},
    {Py_tp_repr, loop_tp_repr},
    {Py_tp_setattro, loop_setattro},
    {Py_tp_methods, loop_methods},
    {Py_tp_getset, corolla_loop_getset},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "corolla._core._EventLoop",
    .basicsize = sizeof(LoopObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = loop_slots,
};

static const char loop_doc[] = "EventLoop()\n--\n\n"
                               "An event loop in C: what asyncio.SelectorEventLoop does, several times faster.\n\n"
                               "Specified by asyncio.AbstractEventLoop and PEP 3156.";

/* class EventLoop(_EventLoop, asyncio.AbstractEventLoop): the isinstance that libraries ask for, and a dict and
 * weak references of its own. New reference or NULL. */
static PyObject *
make_public_type(corolla_state *state)
{
    return PyObject_CallFunction((PyObject *)&PyType_Type, "s(OO){s:s,s:s}", "EventLoop", state->loop_base_type,
                                 state->AbstractEventLoop, "__module__", "corolla", "__doc__", loop_doc);
}

int
corolla_loop_init(PyObject *module, corolla_state *state)
{
    static PyMethodDef *const parts[] = {
        corolla_loop_run_methods,       corolla_loop_call_methods,         corolla_loop_error_methods,
        corolla_loop_executor_methods,  corolla_loop_reader_methods,       corolla_loop_signal_methods,
        corolla_loop_name_methods,      corolla_loop_sock_methods,         corolla_loop_connect_methods,
        corolla_loop_serve_methods,     corolla_loop_pipe_methods,         corolla_loop_sendfile_methods,
        corolla_loop_asyncgen_methods,  corolla_loop_unix_connect_methods, corolla_loop_unix_serve_methods,
        corolla_loop_accepted_methods,  corolla_loop_datagram_methods,     corolla_loop_subprocess_methods,
        corolla_loop_start_tls_methods,
    };
    PyObject *base = sock_init(state) < 0 || loop_sendfile_init(module, state) < 0
                         ? NULL
                         : PyType_FromModuleAndSpec(module, &loop_spec, NULL);
    if (base == NULL) {
        return -1;
    }
    state->loop_base_type = (PyTypeObject *)base;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
        if (corolla_add_methods(state->loop_base_type, parts[i]) < 0) {
            return -1;
        }
    }
    state->loop_type = (PyTypeObject *)make_public_type(state);
    if (state->loop_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->loop_type);
}
