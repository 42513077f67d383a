/* The coroutine that a bound __aenter__ or __aexit__ becomes.
 *
 * `async with` binds the two methods, calls them and awaits what they return, and drops all four at once. Where the work is
 * as little as taking a free lock, that is what it costs. So a bound method that only its caller has becomes the coroutine
 * itself when it is called, and does the work in one call if it can be done at once. If not, or if anybody asks it for more
 * than to be awaited, it makes the method's own coroutine and passes everything on. */
#include "callback.h"
#include "special.h"

static corolla_state *
state_of(const corolla_bound *bound)
{
    return bound->special->state;
}

static void
change_type(corolla_bound *bound, PyTypeObject *type)
{
    PyTypeObject *old = Py_TYPE((PyObject *)bound);
    Py_SET_TYPE((PyObject *)bound, (PyTypeObject *)Py_NewRef((PyObject *)type));
    Py_DECREF(old);
}

/* Nobody sees the change but the caller, who lets go of it after the call. One who does not, a functools.partial() for
 * one, can call it again all the same. */
PyObject *
corolla_with_coroutine_become(corolla_bound *bound)
{
    change_type(bound, state_of(bound)->with_coroutine_type);
    bound->vectorcall = corolla_bound_call_plain;
    return Py_NewRef((PyObject *)bound);
}

/* ---- The method's own coroutine ------------------------------------------------------------ */

typedef PyObject *(*fast_function)(PyObject *self, PyObject *const *args, Py_ssize_t nargs);

/* New reference or NULL. */
static PyObject *
make_coroutine(corolla_bound *bound)
{
    PyMethodDef *def = bound->special->def;
    if (def->ml_flags == METH_NOARGS) {
        return def->ml_meth(bound->self, NULL);
    }
    PyObject *args[3] = {Py_None, Py_None, Py_None}; /* a quick one does not look at them */
    return ((fast_function)(void (*)(void))def->ml_meth)(bound->self, args, 3);
}

/* From here on that one does everything. New reference, or NULL with an exception. */
static PyObject *
pass_on(corolla_bound *bound)
{
    if (bound->inner == NULL) {
        PyObject *inner = make_coroutine(bound);
        if (inner != NULL && bound->status == COROLLA_WITH_FINISHED) {
            PyObject *done = PyObject_CallMethodNoArgs(inner, state_of(bound)->s.close); /* it looks finished, too */
            Py_XDECREF(done);
            if (done == NULL) {
                Py_CLEAR(inner);
            }
        }
        if (inner == NULL) {
            return NULL;
        }
        bound->inner = inner;
        bound->status = COROLLA_WITH_PASSED_ON;
    }
    return Py_NewRef(bound->inner);
}

/* ---- The coroutine ------------------------------------------------------------------------- */

static PySendResult
with_am_send(PyObject *self, PyObject *value, PyObject **result)
{
    corolla_bound *bound = (corolla_bound *)self;
    *result = NULL;
    if (bound->status == COROLLA_WITH_FRESH && value == Py_None) {
        bound->status = COROLLA_WITH_FINISHED; /* before it calls anybody */
        int done = bound->special->quick(bound->self);
        if (done != 0) {
            *result = done > 0 ? Py_NewRef(Py_None) : NULL;
            return done > 0 ? PYGEN_RETURN : PYGEN_ERROR;
        }
        bound->status = COROLLA_WITH_FRESH;
    }
    PyObject *inner = pass_on(bound);
    PySendResult sent = inner == NULL ? PYGEN_ERROR : PyIter_Send(inner, value, result);
    Py_XDECREF(inner);
    return sent;
}

static PyObject *
with_iternext(PyObject *self)
{
    PyObject *result;
    PySendResult sent = with_am_send(self, Py_None, &result);
    if (sent == PYGEN_RETURN) {
        corolla_end_iteration(state_of((corolla_bound *)self), result);
        return NULL;
    }
    return result;
}

static PyObject *
with_await(PyObject *self)
{
    corolla_bound *bound = (corolla_bound *)self;
    if (bound->status == COROLLA_WITH_PASSED_ON) {
        PyObject *iter = Py_TYPE(bound->inner)->tp_as_async->am_await(bound->inner); /* which may say no */
        if (iter == NULL) {
            return NULL;
        }
        Py_DECREF(iter);
    }
    return Py_NewRef(self);
}

static PyObject *
with_getattro(PyObject *self, PyObject *name)
{
    PyObject *inner = pass_on((corolla_bound *)self);
    PyObject *value = inner == NULL ? NULL : PyObject_GetAttr(inner, name);
    Py_XDECREF(inner);
    return value;
}

static PyObject *
with_repr(PyObject *self)
{
    PyObject *inner = pass_on((corolla_bound *)self);
    PyObject *text = inner == NULL ? NULL : PyObject_Repr(inner);
    Py_XDECREF(inner);
    return text;
}

static int
with_clear(PyObject *self)
{
    corolla_bound *bound = (corolla_bound *)self;
    if (bound->inner != NULL) {
        bound->status = COROLLA_WITH_FINISHED;
        Py_CLEAR(bound->inner);
    }
    return 0;
}

void
corolla_with_coroutine_end(corolla_bound *bound)
{
    if (bound->status == COROLLA_WITH_FRESH) {
        /* Never awaited: no more is then the method's own coroutine, which says so when it is dropped. */
        PyObject *raised = PyErr_GetRaisedException();
        PyObject *inner = pass_on(bound);
        if (inner == NULL) {
            PyErr_WriteUnraisable(NULL);
        }
        Py_XDECREF(inner);
        Py_CLEAR(bound->inner);
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
    }
    Py_CLEAR(bound->inner);
    change_type(bound, state_of(bound)->bound_type);
}

static PyType_Slot with_coroutine_slots[] = {
    {Py_tp_dealloc, corolla_bound_dealloc},
    {Py_tp_traverse, corolla_bound_traverse},
    {Py_tp_clear, with_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, with_getattro},
    {Py_tp_repr, with_repr},
    {Py_tp_iternext, with_iternext},
    {Py_am_send, with_am_send},
    {Py_am_await, with_await},
    {Py_tp_members, corolla_bound_members},
    {0, NULL},
};

PyType_Spec corolla_with_coroutine_spec = {
    .name = "corolla._core.with_coroutine",
    .basicsize = sizeof(corolla_bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = with_coroutine_slots,
};
