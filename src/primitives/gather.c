/* corolla.gather(): one future for the results of many. */
#include "primitives.h"

#include <assert.h>
#include <string.h>

/* What gather() returns: a Future whose cancel() cancels the children. */
typedef struct {
    corolla_future future;
    PyObject *children;  /* owned: a list of futures, one for each argument */
    Py_ssize_t total;    /* how many different children there are */
    Py_ssize_t finished; /* how many of them have told us */
    bool return_exceptions;
    bool cancel_requested; /* cancel() reached a child: CancelledError whatever the children make of it */
    bool abandoned;        /* gather() failed half way: nobody will ever see this */
} GatherObject;

/* ---- Any child ----------------------------------------------------------------------------- */

/* A place in the list of results: new reference or NULL. */
static PyObject *
child_outcome(corolla_state *state, PyObject *child)
{
    int cancelled = corolla_any_cancelled(state, child);
    if (cancelled < 0) {
        return NULL;
    }
    if (cancelled) {
        /* Not the error of the child itself, which is handed out only once. */
        PyObject *msg = PyObject_GetAttr(child, state->s._cancel_message);
        if (msg == NULL) {
            return NULL;
        }
        if (msg == Py_None) {
            Py_SETREF(msg, PyUnicode_FromString(""));
            if (msg == NULL) {
                return NULL;
            }
        }
        PyObject *exc = PyObject_CallOneArg(state->CancelledError, msg);
        Py_DECREF(msg);
        return exc;
    }
    PyObject *exc = corolla_any_exception(state, child);
    if (exc != Py_None) {
        return exc; /* NULL, too */
    }
    Py_DECREF(exc);
    return corolla_any_result(state, child);
}

/* ---- A child is done ----------------------------------------------------------------------- */

/* Steals exc, which may be NULL with an error raised. */
static int
fail_with(PyObject *outer, PyObject *exc)
{
    if (exc == NULL) {
        return -1;
    }
    int rc = corolla_future_set_exception(outer, exc);
    Py_DECREF(exc);
    return rc;
}

/* All children are done. 0 or -1. */
static int
finish(GatherObject *outer)
{
    corolla_state *state = outer->future.state;
    Py_ssize_t count = PyList_GET_SIZE(outer->children);
    int rc = -1;
    PyObject *results = PyList_New(count);
    if (results == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *value = child_outcome(state, PyList_GET_ITEM(outer->children, i));
        if (value == NULL) {
            goto fail;
        }
        PyList_SET_ITEM(results, i, value);
    }
    if (outer->cancel_requested) {
        /* The last in order, not in time: so does asyncio, whose loop over the children reuses the name. */
        PyObject *last = PyList_GET_ITEM(outer->children, count - 1);
        rc = fail_with((PyObject *)outer, PyObject_CallMethodNoArgs(last, state->s._make_cancelled_error));
    }
    else {
        rc = corolla_future_set_result((PyObject *)outer, results);
    }
fail:
    Py_DECREF(results);
    return rc;
}

static int
child_done(PyObject *child, PyObject *arg)
{
    GatherObject *outer = (GatherObject *)arg;
    corolla_state *state = outer->future.state;
    outer->finished++;
    /* No children: the collector has been here. */
    bool late = outer->abandoned || outer->future.status != COROLLA_PENDING || outer->children == NULL;
    if (late || !outer->return_exceptions) {
        int cancelled = corolla_any_cancelled(state, child);
        if (cancelled < 0) {
            return -1;
        }
        if (cancelled) {
            return late ? 0 : fail_with(arg, PyObject_CallMethodNoArgs(child, state->s._make_cancelled_error));
        }
        PyObject *exc = corolla_any_exception(state, child);
        if (exc == NULL) {
            return -1;
        }
        if (!late && exc != Py_None) {
            return fail_with(arg, exc);
        }
        Py_DECREF(exc);
        if (late) {
            return 0;
        }
    }
    return outer->finished == outer->total ? finish(outer) : 0;
}

/* ---- The type ------------------------------------------------------------------------------ */

PyDoc_STRVAR(cancel_doc, "cancel($self, /, msg=None)\n--\n\n"
                         "Cancel the children that are not done. Return whether there was one.\n\n"
                         "It is done only when they are, and then raises CancelledError.");

static PyObject *
gather_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msg", NULL};
    static const corolla_signature sig = {"cancel", names, 0, 1, NULL};
    PyObject *msg;
    if (corolla_unpack(&sig, args, nargs, kwnames, &msg) < 0) {
        return NULL;
    }
    GatherObject *outer = (GatherObject *)self;
    corolla_state *state = outer->future.state;
    if (outer->future.status != COROLLA_PENDING || outer->children == NULL) {
        Py_RETURN_FALSE;
    }
    bool any = false;
    PyObject *children = Py_NewRef(outer->children);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(children); i++) {
        PyObject *child = PyList_GET_ITEM(children, i);
        int cancelled = corolla_any_cancel(state, child, msg);
        if (cancelled < 0) {
            Py_DECREF(children);
            return NULL;
        }
        any = any || cancelled;
    }
    Py_DECREF(children);
    if (any) {
        outer->cancel_requested = true;
    }
    return PyBool_FromLong(any);
}

static int
gather_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((GatherObject *)self)->children);
    return ((corolla_future *)self)->state->future_type->tp_traverse(self, visit, arg);
}

static int
gather_clear(PyObject *self)
{
    Py_CLEAR(((GatherObject *)self)->children);
    return ((corolla_future *)self)->state->future_type->tp_clear(self);
}

static void
gather_dealloc(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyObject_GC_UnTrack(self);
    if (fut->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    /* Gathers of gathers do not recurse without end here: deallocating a list does not. */
    Py_CLEAR(((GatherObject *)self)->children);
    fut->state->future_type->tp_dealloc(self);
}

/* As for the other futures: isinstance() and repr() find asyncio's type. */
static PyObject *
get_class(PyObject *self, void *unused)
{
    (void)unused;
    return Py_NewRef(((corolla_future *)self)->state->GatheringFuture);
}

static PyMethodDef gather_methods[] = {
    {"cancel", (PyCFunction)(void (*)(void))gather_cancel, METH_FASTCALL | METH_KEYWORDS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef gather_getset[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot gather_slots[] = {
    {Py_tp_dealloc, gather_dealloc}, {Py_tp_traverse, gather_traverse}, {Py_tp_clear, gather_clear},
    {Py_tp_methods, gather_methods}, {Py_tp_getset, gather_getset},     {0, NULL},
};

static PyType_Spec gather_spec = {
    .name = "corolla._GatheringFuture",
    .basicsize = sizeof(GatherObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = gather_slots,
};

int
corolla_gather_init(PyObject *module, corolla_state *state)
{
    state->gather_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &gather_spec, (PyObject *)state->future_type);
    return state->gather_type == NULL ? -1 : 0;
}

static PyObject *
gather_new(corolla_state *state, PyObject *loop, corolla_core *core, bool return_exceptions)
{
    PyObject *self = state->future_type->tp_new(state->gather_type, NULL, NULL);
    if (self == NULL) {
        return NULL;
    }
    GatherObject *outer = (GatherObject *)self;
    outer->return_exceptions = return_exceptions;
    outer->children = PyList_New(0);
    if (outer->children == NULL) {
        goto fail;
    }
    if (core != NULL && !core->debug) {
        outer->future.loop = Py_NewRef(loop);
        outer->future.core = core;
        return self;
    }
    PyObject *none = PyTuple_New(0), *named = PyDict_New();
    int rc = none == NULL || named == NULL || PyDict_SetItem(named, state->s.loop, loop) < 0
                 ? -1
                 : state->future_type->tp_init(self, none, named);
    Py_XDECREF(none);
    Py_XDECREF(named);
    if (rc < 0) {
        goto fail;
    }
    return self;
fail:
    Py_DECREF(self);
    return NULL;
}

/* ---- Which arguments were there already ---------------------------------------------------- */

/* A hash table of the arguments that are compared by identity, as coroutines and futures are. */
typedef struct {
    uint32_t *slots; /* owned unless it is few: index of an argument plus one, or 0 */
    size_t mask;
    uint32_t few[32];
} Seen;

static int
seen_init(Seen *seen, Py_ssize_t count)
{
    size_t size = 32;
    while (size < (size_t)count * 2) {
        size *= 2;
    }
    seen->mask = size - 1;
    if (size == 32) {
        seen->slots = seen->few;
        memset(seen->few, 0, sizeof seen->few);
        return 0;
    }
    seen->slots = PyMem_Calloc(size, sizeof *seen->slots);
    if (seen->slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void
seen_free(Seen *seen)
{
    if (seen->slots != seen->few) {
        PyMem_Free(seen->slots);
    }
}

/* Where args[index] stood first: index itself when it is new. */
static Py_ssize_t
seen_first(Seen *seen, PyObject *const *args, Py_ssize_t index)
{
    uint64_t hash = ((uint64_t)(uintptr_t)args[index] >> 4) * 0x9E3779B97F4A7C15u;
    for (size_t i = (size_t)(hash >> 32) & seen->mask;; i = (i + 1) & seen->mask) {
        if (seen->slots[i] == 0) {
            seen->slots[i] = (uint32_t)index + 1;
            return index;
        }
        if (args[seen->slots[i] - 1] == args[index]) {
            return (Py_ssize_t)seen->slots[i] - 1;
        }
    }
}

/* ---- gather() ------------------------------------------------------------------------------ */

/* One call's work. Everything owned is dropped by gathering_clear(). */
typedef struct {
    corolla_state *state; /* borrowed */
    PyObject *loop;       /* owned; NULL until the first child tells */
    corolla_core *core;   /* borrowed from loop, or NULL */
    GatherObject *outer;  /* owned; NULL until the loop is known */
    PyObject *others;     /* owned: dict of awaitables that have an equality of their own, to their futures */
    PyObject *done;       /* owned: list of children that were done already, or NULL */
    bool return_exceptions;
    Seen seen;
} Gathering;

static void
gathering_clear(Gathering *g)
{
    Py_CLEAR(g->loop);
    Py_CLEAR(g->outer);
    Py_CLEAR(g->others);
    Py_CLEAR(g->done);
    seen_free(&g->seen);
}

/* Steals loop. */
static void
set_loop(Gathering *g, PyObject *loop)
{
    g->loop = loop;
    g->core = corolla_core_of(g->state, loop);
}

/* The child of an argument not seen before: a future, made if need be. New reference or NULL. */
static PyObject *
make_child(Gathering *g, PyObject *arg)
{
    corolla_state *state = g->state;
    PyObject *child = corolla_ensure_future(state, arg, g->loop);
    if (child == NULL) {
        return NULL;
    }
    if (g->loop == NULL) {
        PyObject *loop = corolla_any_loop(state, child);
        if (loop == NULL) {
            goto fail;
        }
        set_loop(g, loop);
    }
    /* Nobody but us can hold a task made here, so nobody is to blame when it goes with the loop. */
    if (child != arg) {
        if (Py_IS_TYPE(child, state->task_type)) {
            ((corolla_task *)child)->log_destroy_pending = false;
        }
        else if (PyObject_SetAttr(child, state->s._log_destroy_pending, Py_False) < 0) {
            goto fail;
        }
    }
    return child;
fail:
    Py_DECREF(child);
    return NULL;
}

/* Has the outer future told when the child is done. 0 or -1. */
static int
watch_child(Gathering *g, PyObject *child)
{
    PyObject *outer = (PyObject *)g->outer;
    int done = corolla_any_done(g->state, child);
    if (done < 0) {
        return -1;
    }
    g->outer->total++;
    if (done) {
        /* Told last, when the list of children is whole: all of them done, gather() returns a future that is. */
        if (g->done == NULL && (g->done = PyList_New(0)) == NULL) {
            return -1;
        }
        return PyList_Append(g->done, child);
    }
    if (corolla_is_plain_future(g->state, child)) {
        return corolla_future_on_done(child, child_done, Py_NewRef(outer));
    }
    PyObject *callback = corolla_any_watch(g->state, child, child_done, Py_NewRef(outer));
    Py_XDECREF(callback);
    return callback == NULL ? -1 : 0;
}

/* The child that an argument given before has: new reference in *child, or NULL. 0 or -1. */
static int
find_child(Gathering *g, PyObject *const *args, Py_ssize_t index, PyObject **child)
{
    PyObject *arg = args[index];
    *child = NULL;
    if (corolla_is_plain_future(g->state, arg) || corolla_is_native_coroutine(g->state, arg)) {
        Py_ssize_t first = seen_first(&g->seen, args, index);
        if (first != index) {
            assert(g->outer != NULL); /* made with the first child */
            *child = Py_NewRef(PyList_GET_ITEM(g->outer->children, first));
        }
        return 0;
    }
    if (g->others == NULL && (g->others = PyDict_New()) == NULL) {
        return -1;
    }
    return PyDict_GetItemRef(g->others, arg, child) < 0 ? -1 : 0;
}

static int
add_argument(Gathering *g, PyObject *const *args, Py_ssize_t index)
{
    PyObject *child;
    if (find_child(g, args, index, &child) < 0) {
        return -1;
    }
    bool known = child != NULL;
    if (!known) {
        child = make_child(g, args[index]);
        if (child == NULL) {
            return -1;
        }
        if (g->outer == NULL) {
            g->outer = (GatherObject *)gather_new(g->state, g->loop, g->core, g->return_exceptions);
            if (g->outer == NULL) {
                goto fail;
            }
        }
        bool by_identity =
            corolla_is_plain_future(g->state, args[index]) || corolla_is_native_coroutine(g->state, args[index]);
        if ((!by_identity && PyDict_SetItem(g->others, args[index], child) < 0) || watch_child(g, child) < 0) {
            goto fail;
        }
    }
    assert(g->outer != NULL);
    int rc = PyList_Append(g->outer->children, child);
    Py_DECREF(child);
    return rc;
fail:
    Py_DECREF(child);
    return -1;
}

static PyObject *
gather_nothing(corolla_state *state)
{
    PyObject *loop = PyObject_CallNoArgs(state->get_event_loop);
    PyObject *future = loop == NULL ? NULL : PyObject_CallMethodNoArgs(loop, state->s.create_future);
    PyObject *results = future == NULL ? NULL : PyList_New(0);
    PyObject *set = results == NULL ? NULL : PyObject_CallMethodOneArg(future, state->s.set_result, results);
    Py_XDECREF(loop);
    Py_XDECREF(results);
    if (set == NULL) {
        Py_XDECREF(future);
        return NULL;
    }
    Py_DECREF(set);
    return future;
}

static PyObject *
gather_all(corolla_state *state, PyObject *const *args, Py_ssize_t nargs, bool return_exceptions)
{
    Gathering g = {.state = state, .return_exceptions = return_exceptions};
    if (seen_init(&g.seen, nargs) < 0) {
        return NULL;
    }
    PyObject *outer = NULL;
    for (Py_ssize_t i = 0; i < nargs; i++) {
        if (add_argument(&g, args, i) < 0) {
            goto fail;
        }
    }
    for (Py_ssize_t i = 0; g.done != NULL && i < PyList_GET_SIZE(g.done); i++) {
        if (child_done(PyList_GET_ITEM(g.done, i), (PyObject *)g.outer) < 0) {
            goto fail;
        }
    }
    assert(g.outer != NULL); /* nargs > 0 */
    outer = Py_NewRef((PyObject *)g.outer);
fail:
    if (outer == NULL && g.outer != NULL) {
        /* The children run on; what they raise is retrieved, and that is all. */
        g.outer->abandoned = true;
    }
    gathering_clear(&g);
    return outer;
}

PyDoc_STRVAR(
    gather_doc,
    "gather($module, /, *coros_or_futures, return_exceptions=False)\n--\n\n"
    "Run awaitables side by side. Return a future of the list of their results, in the order given.\n\n"
    "return_exceptions: put what they raise in the list, instead of raising the first exception; the others run on\n"
    "either way. Cancelling the future cancels all of them. Raises ValueError for futures of different loops.\n"
    "Specified by asyncio.gather().");

static PyObject *
module_gather(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int return_exceptions = 0;
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(name, "return_exceptions") != 0) {
            PyErr_Format(PyExc_TypeError, "gather() got an unexpected keyword argument '%U'", name);
            return NULL;
        }
        return_exceptions = PyObject_IsTrue(args[nargs + i]);
        if (return_exceptions < 0) {
            return NULL;
        }
    }
    corolla_state *state = corolla_state_of_module(module);
    return nargs == 0 ? gather_nothing(state) : gather_all(state, args, nargs, return_exceptions);
}

PyMethodDef corolla_gather_functions[] = {
    {"gather", (PyCFunction)(void (*)(void))module_gather, METH_FASTCALL | METH_KEYWORDS, gather_doc},
    {NULL, NULL, 0, NULL},
};
