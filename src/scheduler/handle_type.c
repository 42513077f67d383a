/* Handle and TimerHandle as Python sees them. What they do is in handle.c. */
#include <string.h>

#include "callback.h"

/* ---- Handle as Python sees it ------------------------------------------------------------ */

static PyObject *
handle_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    corolla_handle *h = (corolla_handle *)self;
    h->state = state;
    corolla_state_hold(state);
    if (PyType_IsSubtype(type, state->timer_handle_type)) {
        h->timer = true;
        corolla_timer_init(&((corolla_timer_handle *)h)->timer, corolla_handle_job, self);
    }
    return self;
}

/* The part of __init__ that both kinds share: callback, args (a sequence), loop, context. */
static int
handle_init_common(corolla_handle *h, PyObject *callback, PyObject *args, PyObject *loop, PyObject *context)
{
    if (h->loop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Handle object is already initialized");
        return -1;
    }
    PyObject *more = PySequence_Tuple(args);
    if (more == NULL) {
        return -1;
    }
    PyObject *ctx;
    if (context == NULL || context == Py_None) {
        ctx = PyContext_CopyCurrent();
    }
    else if (PyContext_CheckExact(context)) {
        ctx = Py_NewRef(context);
    }
    else {
        PyErr_Format(PyExc_TypeError, "a contextvars.Context is required, got %R", context);
        ctx = NULL;
    }
    if (ctx == NULL) {
        Py_DECREF(more);
        return -1;
    }
    PyObject *debug = PyObject_CallMethodNoArgs(loop, h->state->s.get_debug);
    int is_debug = debug == NULL ? -1 : PyObject_IsTrue(debug);
    Py_XDECREF(debug);
    PyObject *stack = NULL;
    if (is_debug > 0) {
        stack = PyObject_CallNoArgs(h->state->extract_stack);
    }
    if (is_debug < 0 || (is_debug > 0 && stack == NULL)) {
        Py_DECREF(more);
        Py_DECREF(ctx);
        return -1;
    }
    h->callback = Py_NewRef(callback);
    h->more = more;
    h->queued.context = ctx;
    h->source_traceback = stack;
    h->loop = Py_NewRef(loop);
    return 0;
}

static int
handle_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"callback", "args", "loop", "context", NULL};
    PyObject *callback, *call_args, *loop, *context = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:Handle", names, &callback, &call_args, &loop, &context)) {
        return -1;
    }
    return handle_init_common((corolla_handle *)self, callback, call_args, loop, context);
}

static int
timer_handle_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"when", "callback", "args", "loop", "context", NULL};
    PyObject *callback, *call_args, *loop, *context = NULL;
    PyObject *when;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O:TimerHandle", names, &when, &callback, &call_args, &loop,
                                     &context)) {
        return -1;
    }
    corolla_timer_handle *th = (corolla_timer_handle *)self;
    double seconds = PyFloat_AsDouble(when);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    th->when = seconds;
    Py_XSETREF(th->given, PyLong_CheckExact(when) ? Py_NewRef(when) : NULL);
    return handle_init_common((corolla_handle *)self, callback, call_args, loop, context);
}

static int
check_whole(corolla_handle *h)
{
    if (h->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Handle object is not initialized.");
        return -1;
    }
    return 0;
}

static PyObject *timer_handle_when(PyObject *self, PyObject *unused);
static PyObject *handle_get_ctx(PyObject *self, void *unused);

static PyObject *
handle_repr(PyObject *self)
{
    corolla_handle *h = (corolla_handle *)self;
    if (h->shown != NULL) {
        return Py_NewRef(h->shown);
    }
    const char *name = strrchr(Py_TYPE(self)->tp_name, '.');
    name = name != NULL ? name + 1 : Py_TYPE(self)->tp_name;
    if (h->loop == NULL) {
        return PyUnicode_FromFormat("<%s not initialized>", name);
    }
    PyObject *text = PyUnicode_FromFormat(h->cancelled ? "<%s cancelled" : "<%s", name);
    if (text != NULL && h->timer) {
        PyObject *when = timer_handle_when(self, NULL);
        PyObject *more = when == NULL ? NULL : PyUnicode_FromFormat("%U when=%R", text, when);
        Py_XDECREF(when);
        Py_SETREF(text, more);
    }
    if (text != NULL && h->callback != NULL) {
        int depth = Py_ReprEnter(self);
        if (depth == 0) {
            PyObject *call = corolla_handle_format(h);
            Py_ReprLeave(self);
            PyObject *more = call == NULL ? NULL : PyUnicode_FromFormat("%U %U", text, call);
            Py_XDECREF(call);
            Py_SETREF(text, more);
        }
        else if (depth < 0) {
            Py_CLEAR(text);
        }
    }
    if (text != NULL && h->source_traceback != NULL && PyObject_IsTrue(h->source_traceback) > 0) {
        PyObject *frame = PySequence_GetItem(h->source_traceback, -1);
        PyObject *file = frame == NULL ? NULL : PySequence_GetItem(frame, 0);
        PyObject *line = frame == NULL ? NULL : PySequence_GetItem(frame, 1);
        PyObject *more = NULL;
        if (file != NULL && line != NULL) {
            more = PyUnicode_FromFormat("%U created at %S:%S", text, file, line);
        }
        Py_XDECREF(frame);
        Py_XDECREF(file);
        Py_XDECREF(line);
        Py_SETREF(text, more);
    }
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("%U>", text));
    }
    return text;
}

PyDoc_STRVAR(handle_cancel_doc,
             "cancel($self, /)\n--\n\n"
             "Cancel the callback: it will not run. No effect if it ran already or was cancelled.\n\n"
             "What it would have called is dropped at once. Specified by asyncio.Handle.cancel().");

static PyObject *
handle_cancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    if (check_whole(h) < 0 || (h->threadsafe && corolla_handle_wait(h) < 0)) {
        return NULL;
    }
    if (!h->cancelled) {
        /* A loop of ours knows by itself: corolla_handle_cancel() sees to it. */
        bool ours = corolla_core_of(h->state, h->loop) != NULL;
        PyObject *debug = ours ? Py_NewRef(Py_False) : PyObject_CallMethodNoArgs(h->loop, h->state->s.get_debug);
        int is_debug = debug == NULL ? -1 : PyObject_IsTrue(debug);
        Py_XDECREF(debug);
        if (is_debug < 0) {
            return NULL;
        }
        if (is_debug && !h->cancelled) {
            /* Kept for reports such as "Executing <Handle ...> took 2.5 seconds". */
            h->cancelled = true;
            PyObject *shown = handle_repr(self);
            h->cancelled = false;
            if (shown == NULL) {
                return NULL;
            }
            Py_XSETREF(h->shown, shown);
        }
        corolla_handle_cancel(h);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(handle_cancelled_doc, "cancelled($self, /)\n--\n\nReturn True if the callback was cancelled.");

static PyObject *
handle_cancelled(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_handle *)self)->cancelled);
}

PyDoc_STRVAR(handle_get_context_doc,
             "get_context($self, /)\n--\n\nReturn the contextvars.Context the callback runs in (PEP 567).");

static PyObject *
handle_get_context(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    if (check_whole(h) < 0) {
        return NULL;
    }
    return handle_get_ctx(self, NULL);
}

PyDoc_STRVAR(
    handle_run_doc,
    "_run($self, /)\n--\n\n"
    "Call the callback in its context; an exception goes to the loop's exception handler. For other event loops.");

static PyObject *
handle_run(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    if (check_whole(h) < 0) {
        return NULL;
    }
    /* Not corolla_handle_run(): a task may be running, and goes on being the current one. */
    if (corolla_handle_run_timed(h, corolla_core_of(h->state, h->loop)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
handle_get_callback(PyObject *self, void *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    return Py_NewRef(h->callback == NULL ? Py_None : h->callback);
}

static PyObject *
handle_get_args(PyObject *self, void *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    if (h->callback == NULL) {
        Py_RETURN_NONE;
    }
    return corolla_handle_args(h);
}

static PyObject *
handle_get_loop(PyObject *self, void *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    return Py_NewRef(h->loop == NULL ? Py_None : h->loop);
}

static PyObject *
handle_get_source_traceback(PyObject *self, void *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    return Py_NewRef(h->source_traceback == NULL ? Py_None : h->source_traceback);
}

static PyObject *
handle_get_cancelled(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_handle *)self)->cancelled);
}

static PyObject *
handle_get_ctx(PyObject *self, void *unused)
{
    (void)unused;
    corolla_handle *h = (corolla_handle *)self;
    if (h->queued.context == NULL) {
        Py_RETURN_NONE; /* the collector has cleared it */
    }
    return Py_XNewRef(corolla_own_context(&h->queued));
}

/* isinstance(h, asyncio.Handle) holds: see docs/architecture.md, "Being an asyncio object". */
static PyObject *
handle_get_class(PyObject *self, void *unused)
{
    (void)unused;
    corolla_state *state = ((corolla_handle *)self)->state;
    if (Py_TYPE(self) == state->handle_type) {
        return Py_NewRef(state->asyncio_Handle);
    }
    if (Py_TYPE(self) == state->timer_handle_type) {
        return Py_NewRef(state->asyncio_TimerHandle);
    }
    return Py_NewRef((PyObject *)Py_TYPE(self));
}

static PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, handle_cancel_doc},
    {"cancelled", handle_cancelled, METH_NOARGS, handle_cancelled_doc},
    {"get_context", handle_get_context, METH_NOARGS, handle_get_context_doc},
    {"_run", handle_run, METH_NOARGS, handle_run_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"__class__", handle_get_class, NULL, NULL, NULL},
    {"_callback", handle_get_callback, NULL, "The callable, or None once cancelled.", NULL},
    {"_args", handle_get_args, NULL, "Its arguments as a tuple, or None once cancelled.", NULL},
    {"_cancelled", handle_get_cancelled, NULL, NULL, NULL},
    {"_context", handle_get_ctx, NULL, NULL, NULL},
    {"_loop", handle_get_loop, NULL, NULL, NULL},
    {"_source_traceback", handle_get_source_traceback, NULL, "Where it was made, in debug mode.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_handle, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(handle_doc,
             "Handle(callback, args, loop, context=None)\n--\n\n"
             "A callback queued with call_soon(), call_soon_threadsafe() or add_reader(), which may be cancelled.\n\n"
             "callback: a callable. args: a sequence of its positional arguments. loop: the event loop. context: the\n"
             "contextvars.Context to call it in, a copy of the current one if None. Specified by asyncio.Handle.");

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, (void *)handle_doc},
    {Py_tp_new, handle_new},
    {Py_tp_init, handle_init},
    {Py_tp_dealloc, corolla_handle_dealloc},
    {Py_tp_traverse, corolla_handle_traverse},
    {Py_tp_clear, corolla_handle_clear},
    {Py_tp_repr, handle_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

PyType_Spec corolla_handle_spec = {
    .name = "corolla.Handle",
    .basicsize = sizeof(corolla_handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = handle_slots,
};

/* ---- TimerHandle ------------------------------------------------------------------------- */

static Py_hash_t
timer_handle_hash(PyObject *self)
{
    PyObject *when = timer_handle_when(self, NULL);
    if (when == NULL) {
        return -1;
    }
    Py_hash_t hash = PyObject_Hash(when);
    Py_DECREF(when);
    return hash;
}

/* 1, 0 or -1. */
static int
same_call(corolla_handle *a, corolla_handle *b)
{
    if (a->cancelled != b->cancelled || (a->callback == NULL) != (b->callback == NULL)) {
        return 0;
    }
    if (a->callback == NULL) {
        return 1;
    }
    PyObject *one = Py_NewRef(a->callback), *other = Py_NewRef(b->callback);
    PyObject *left = corolla_handle_args(a), *right = corolla_handle_args(b);
    int same = left == NULL || right == NULL ? -1 : PyObject_RichCompareBool(one, other, Py_EQ);
    if (same > 0) {
        same = PyObject_RichCompareBool(left, right, Py_EQ);
    }
    Py_DECREF(one);
    Py_DECREF(other);
    Py_XDECREF(left);
    Py_XDECREF(right);
    return same;
}

static PyObject *
timer_handle_compare(PyObject *self, PyObject *other, int op)
{
    corolla_state *state = ((corolla_handle *)self)->state;
    if (!PyObject_TypeCheck(other, state->timer_handle_type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    double a = ((corolla_timer_handle *)self)->when, b = ((corolla_timer_handle *)other)->when;
    int same = 0;
    if (a == b && op != Py_LT && op != Py_GT) {
        same = same_call((corolla_handle *)self, (corolla_handle *)other);
        if (same < 0) {
            return NULL;
        }
    }
    switch (op) {
    case Py_LT:
        return PyBool_FromLong(a < b);
    case Py_GT:
        return PyBool_FromLong(a > b);
    case Py_LE:
        return PyBool_FromLong(a < b || same);
    case Py_GE:
        return PyBool_FromLong(a > b || same);
    case Py_EQ:
        return PyBool_FromLong(same);
    default:
        return PyBool_FromLong(!same);
    }
}

PyDoc_STRVAR(timer_handle_when_doc, "when($self, /)\n--\n\n"
                                    "Return the time the callback is due, in seconds of loop.time().");

static PyObject *
timer_handle_when(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_timer_handle *th = (corolla_timer_handle *)self;
    return th->given != NULL ? Py_NewRef(th->given) : PyFloat_FromDouble(th->when);
}

static PyObject *
timer_handle_get_when(PyObject *self, void *unused)
{
    (void)unused;
    return timer_handle_when(self, NULL);
}

static PyObject *
timer_handle_get_scheduled(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_timer_handle *)self)->scheduled);
}

/* For other event loops; one of ours knows by itself. */
static int
timer_handle_set_scheduled(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    corolla_timer_handle *th = (corolla_timer_handle *)self;
    if (value == NULL || th->handle.loop == NULL || corolla_core_of(th->handle.state, th->handle.loop) != NULL) {
        PyErr_SetString(PyExc_AttributeError, "attribute '_scheduled' is not writable here");
        return -1;
    }
    int scheduled = PyObject_IsTrue(value);
    if (scheduled < 0) {
        return -1;
    }
    th->scheduled = scheduled;
    return 0;
}

static PyMethodDef timer_handle_methods[] = {
    {"when", timer_handle_when, METH_NOARGS, timer_handle_when_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef timer_handle_getset[] = {
    {"_when", timer_handle_get_when, NULL, NULL, NULL},
    {"_scheduled", timer_handle_get_scheduled, timer_handle_set_scheduled, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    timer_handle_doc,
    "TimerHandle(when, callback, args, loop, context=None)\n--\n\n"
    "A callback queued with call_later() or call_at().\n\n"
    "when: the time it is due, in seconds of loop.time(). The rest as for Handle. Specified by asyncio.TimerHandle.");

static PyType_Slot timer_handle_slots[] = {
    {Py_tp_doc, (void *)timer_handle_doc},
    {Py_tp_new, handle_new},
    {Py_tp_init, timer_handle_init},
    {Py_tp_dealloc, corolla_handle_dealloc},
    {Py_tp_traverse, corolla_handle_traverse},
    {Py_tp_clear, corolla_handle_clear},
    {Py_tp_hash, timer_handle_hash},
    {Py_tp_richcompare, timer_handle_compare},
    {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, timer_handle_getset},
    {0, NULL},
};

PyType_Spec corolla_timer_handle_spec = {
    .name = "corolla.TimerHandle",
    .basicsize = sizeof(corolla_timer_handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = timer_handle_slots,
};
