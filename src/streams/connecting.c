/* What connect() gives: `await` it for a Stream, or `async with` it for one that is closed at the end. */
#include "stream.h"

typedef struct Connecting {
    PyObject_HEAD
    corolla_state *state; /* borrowed */
    PyObject *coro;       /* owned: the coroutine that connects */
    PyObject *stream;     /* owned: what `async with` got, or NULL */
} Connecting;

PyObject *
connecting_new(corolla_state *state, PyObject *coro)
{
    if (coro == NULL) {
        return NULL;
    }
    PyTypeObject *type = state->stream_connecting_type;
    Connecting *connecting = (Connecting *)type->tp_alloc(type, 0);
    if (connecting == NULL) {
        Py_DECREF(coro);
        return NULL;
    }
    corolla_state_hold(state);
    connecting->state = state;
    connecting->coro = coro;
    return (PyObject *)connecting;
}

static int
connecting_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Connecting *)self)->coro);
    Py_VISIT(((Connecting *)self)->stream);
    return 0;
}

static int
connecting_clear(PyObject *self)
{
    Py_CLEAR(((Connecting *)self)->coro);
    Py_CLEAR(((Connecting *)self)->stream);
    return 0;
}

static void
connecting_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = ((Connecting *)self)->state;
    PyObject_GC_UnTrack(self);
    (void)connecting_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
connecting_await(PyObject *self)
{
    PyObject *coro = ((Connecting *)self)->coro;
    if (coro == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "connect() has been cleared"); /* by the collector */
        return NULL;
    }
    return Py_TYPE(coro)->tp_as_async->am_await(coro);
}

/* ---- async with ------------------------------------------------------------------------------ */

typedef struct {
    Connecting *connecting; /* owned */
} EnterState;

static int
enter_traverse(void *data, visitproc visit, void *arg)
{
    Py_VISIT(((EnterState *)data)->connecting);
    return 0;
}

static void
enter_clear(void *data)
{
    Py_CLEAR(((EnterState *)data)->connecting);
}

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    Connecting *connecting = ((EnterState *)corolla_coro_state(co))->connecting;

    COROLLA_BEGIN(co);

    COROLLA_AWAIT(co, connecting->coro);
    if (value == NULL) {
        return COROLLA_RAISE;
    }
    Py_XSETREF(connecting->stream, Py_NewRef(value));
    return corolla_return(co, Py_NewRef(value));

    COROLLA_END(co);
}

static const corolla_coro_spec enter_spec = {
    .name = "__aenter__",
    .qualname = "connect.__aenter__",
    .size = sizeof(EnterState),
    .step = enter_step,
    .traverse = enter_traverse,
    .clear = enter_clear,
};

static PyObject *
connecting_aenter(PyObject *self, PyObject *unused)
{
    corolla_coro *co = corolla_coro_new(((Connecting *)self)->state, &enter_spec);
    if (co != NULL) {
        ((EnterState *)corolla_coro_state(co))->connecting = (Connecting *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

static PyObject *
connecting_aexit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Connecting *connecting = (Connecting *)self;
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "__aexit__() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    if (connecting->stream == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "connect() has not been entered");
        return NULL;
    }
    PyObject *stream = connecting->stream;
    connecting->stream = NULL;
    PyObject *closing = stream_closing(stream, args[0] != Py_None);
    Py_DECREF(stream);
    return closing;
}

static PyMethodDef connecting_methods[] = {
    {"__aenter__", connecting_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))connecting_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot connecting_slots[] = {
    {Py_tp_doc, (void *)"A connection being made: to be awaited, or entered with `async with`."},
    {Py_tp_dealloc, connecting_dealloc},
    {Py_tp_traverse, connecting_traverse},
    {Py_tp_clear, connecting_clear},
    {Py_am_await, connecting_await},
    {Py_tp_methods, connecting_methods},
    {0, NULL},
};

static PyType_Spec connecting_spec = {
    .name = "corolla._core.Connecting",
    .basicsize = sizeof(Connecting),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = connecting_slots,
};

int
connecting_init(PyObject *module, corolla_state *state)
{
    state->stream_connecting_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &connecting_spec, NULL);
    return state->stream_connecting_type == NULL ? -1 : 0;
}
