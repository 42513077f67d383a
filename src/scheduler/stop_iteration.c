/* How iterators end: StopIteration(value).
 *
 * From 3.12 on, `await` of an iterator that is not a generator asks tp_iternext, so every value that one of ours returns
 * travels as an exception that the interpreter takes apart at once. Making StopIteration as Python does costs more than
 * the rest of such an await. Ours is a subclass that comes from a free list and makes `args` only when somebody looks. */
#include <string.h>

#include "callback.h"
#include "freelist.h"

typedef struct {
    PyStopIterationObject exception; /* args: the empty tuple until it is looked at */
    corolla_state *state;            /* borrowed */
} Stop;

void
corolla_set_stop_iteration(PyObject *value)
{
    if (value == Py_None) {
        Py_DECREF(value);
        PyErr_SetNone(PyExc_StopIteration);
        return;
    }
    if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_SetObject(PyExc_StopIteration, value);
    }
    else {
        /* PyErr_SetObject() would take these for the arguments, or for the exception itself. */
        PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);
        if (exc != NULL) {
            PyErr_SetObject(PyExc_StopIteration, exc);
            Py_DECREF(exc);
        }
    }
    Py_DECREF(value);
}

void
corolla_end_iteration(corolla_state *state, PyObject *value)
{
    if (value == Py_None) {
        Py_DECREF(value);
        return; /* NULL and no exception is StopIteration() */
    }
    PyObject *self = freelist_new(state, &state->freelists->stops, state->stop_type);
    if (self == NULL) {
        Py_DECREF(value);
        return;
    }
    memset((char *)self + sizeof(PyObject), 0, sizeof(Stop) - sizeof(PyObject));
    Stop *stop = (Stop *)self;
    stop->state = state;
    stop->exception.value = value;
    stop->exception.args = PyTuple_New(0);
    PyObject_GC_Track(self);
    if (stop->exception.args == NULL) {
        Py_DECREF(self);
        return;
    }
    PyErr_SetRaisedException(self);
}

PyObject *
corolla_fetch_stop_iteration(void)
{
    if (!PyErr_Occurred()) {
        return Py_NewRef(Py_None);
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return NULL;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *value = ((PyStopIterationObject *)exc)->value;
    value = Py_NewRef(value != NULL ? value : Py_None);
    Py_DECREF(exc);
    return value;
}

/* ---- As Python sees it ------------------------------------------------------------------- */

static PyTypeObject *
base_type(void)
{
    return (PyTypeObject *)PyExc_StopIteration;
}

/* StopIteration(value).args. 0 or -1. */
static int
fill_args(Stop *stop)
{
    PyStopIterationObject *exc = &stop->exception;
    if (exc->value != NULL && exc->args != NULL && PyTuple_GET_SIZE(exc->args) == 0) {
        PyObject *args = PyTuple_Pack(1, exc->value);
        if (args == NULL) {
            return -1;
        }
        Py_SETREF(exc->args, args);
    }
    return 0;
}

static PyObject *
stop_repr(PyObject *self)
{
    return fill_args((Stop *)self) < 0 ? NULL : base_type()->tp_repr(self);
}

static PyObject *
stop_str(PyObject *self)
{
    return fill_args((Stop *)self) < 0 ? NULL : base_type()->tp_str(self);
}

static PyObject *
stop_get_args(PyObject *self, void *unused)
{
    (void)unused;
    Stop *stop = (Stop *)self;
    if (fill_args(stop) < 0) {
        return NULL;
    }
    return Py_NewRef(stop->exception.args != NULL ? stop->exception.args : Py_None);
}

static int
stop_set_args(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "args may not be deleted");
        return -1;
    }
    PyObject *args = PySequence_Tuple(value);
    if (args == NULL) {
        return -1;
    }
    Py_XSETREF(((Stop *)self)->exception.args, args);
    return 0;
}

/* As the class that it stands for: StopIteration, (value,). */
static PyObject *
stop_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *args = stop_get_args(self, NULL);
    PyObject *pair = args == NULL ? NULL : PyTuple_Pack(2, PyExc_StopIteration, args);
    Py_XDECREF(args);
    return pair;
}

static int
stop_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return base_type()->tp_traverse(self, visit, arg);
}

/* Not inherited by a type that has a tp_traverse of its own. */
static int
stop_clear(PyObject *self)
{
    return base_type()->tp_clear(self);
}

static void
stop_dealloc(PyObject *self)
{
    corolla_state *state = ((Stop *)self)->state;
    PyObject_GC_UnTrack(self);
    (void)stop_clear(self);
    freelist_drop(state, &state->freelists->stops, state->stop_type, self, false);
}

static PyMethodDef stop_methods[] = {
    {"__reduce__", stop_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stop_getset[] = {
    {"args", stop_get_args, stop_set_args, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stop_slots[] = {
    {Py_tp_doc, (void *)"How an iterator of corolla ends: StopIteration."},
    {Py_tp_dealloc, stop_dealloc},
    {Py_tp_traverse, stop_traverse},
    {Py_tp_clear, stop_clear},
    {Py_tp_repr, stop_repr},
    {Py_tp_str, stop_str},
    {Py_tp_methods, stop_methods},
    {Py_tp_getset, stop_getset},
    {0, NULL},
};

/* The name is what a traceback shows. */
PyType_Spec corolla_stop_spec = {
    .name = "builtins.StopIteration",
    .basicsize = sizeof(Stop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stop_slots,
};
