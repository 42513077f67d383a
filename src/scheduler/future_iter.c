/* What `await future` iterates: yields the future once if it is pending, then returns its result. */
#include "callback.h"
#include "freelist.h"

typedef struct FutureIter {
    PyObject_HEAD
    corolla_state *state; /* borrowed */
    PyObject *future;     /* owned; NULL once exhausted */
} FutureIter;

PyObject *
corolla_future_iter_new(PyObject *future)
{
    corolla_state *state = ((corolla_future *)future)->state;
    PyObject *self = freelist_new(state, &state->freelists->iters, state->future_iter_type);
    if (self == NULL) {
        return NULL;
    }
    ((FutureIter *)self)->state = state;
    ((FutureIter *)self)->future = Py_NewRef(future);
    PyObject_GC_Track(self);
    return self;
}

static PySendResult
future_iter_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    (void)value;
    FutureIter *it = (FutureIter *)self;
    corolla_future *fut = (corolla_future *)it->future;
    *result = NULL;
    if (fut == NULL) {
        *result = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (fut->status == COROLLA_PENDING) {
        if (!fut->blocking) {
            fut->blocking = true;
            *result = Py_NewRef((PyObject *)fut);
            return PYGEN_NEXT;
        }
        PyErr_SetString(PyExc_RuntimeError, "await wasn't used with future");
        return PYGEN_ERROR;
    }
    it->future = NULL;
    *result = corolla_future_result((PyObject *)fut);
    Py_DECREF(fut);
    return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PyObject *
future_iter_next(PyObject *self)
{
    PyObject *result;
    switch (future_iter_am_send(self, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        corolla_end_iteration(((FutureIter *)self)->state, result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *
future_iter_send(PyObject *self, PyObject *value)
{
    (void)value;
    PyObject *result;
    switch (future_iter_am_send(self, Py_None, &result)) {
    case PYGEN_NEXT:
        return result;
    case PYGEN_RETURN:
        corolla_set_stop_iteration(result);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *
future_iter_throw(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "throw() takes from 1 to 3 arguments (%zd given)", nargs);
        return NULL;
    }
    if (corolla_warn_throw(nargs) < 0) {
        return NULL;
    }
    if (corolla_set_thrown(args[0], nargs > 1 ? args[1] : NULL, nargs > 2 ? args[2] : NULL) == 0) {
        Py_CLEAR(((FutureIter *)self)->future);
    }
    return NULL;
}

static PyObject *
future_iter_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_CLEAR(((FutureIter *)self)->future);
    Py_RETURN_NONE;
}

static int
future_iter_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((FutureIter *)self)->future);
    return 0;
}

static int
future_iter_clear(PyObject *self)
{
    Py_CLEAR(((FutureIter *)self)->future);
    return 0;
}

static void
future_iter_dealloc(PyObject *self)
{
    corolla_state *state = ((FutureIter *)self)->state;
    PyObject_GC_UnTrack(self);
    future_iter_clear(self);
    freelist_drop(state, &state->freelists->iters, state->future_iter_type, self, false);
}

static PyMethodDef future_iter_methods[] = {
    {"send", future_iter_send, METH_O, "send($self, value, /)\n--\n\nGo on; the value is not looked at."},
    {"throw", (PyCFunction)(void (*)(void))future_iter_throw, METH_FASTCALL,
     "throw($self, typ, val=None, tb=None, /)\n--\n\nEnd the wait with an exception."},
    {"close", future_iter_close, METH_NOARGS, "close($self, /)\n--\n\nEnd the wait."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot future_iter_slots[] = {
    {Py_tp_dealloc, future_iter_dealloc}, {Py_tp_traverse, future_iter_traverse},
    {Py_tp_clear, future_iter_clear},     {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, future_iter_next},   {Py_am_send, future_iter_am_send},
    {Py_tp_methods, future_iter_methods}, {0, NULL},
};

PyType_Spec corolla_future_iter_spec = {
    .name = "corolla._core.FutureIter",
    .basicsize = sizeof(FutureIter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = future_iter_slots,
};
