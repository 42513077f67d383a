/* Asynchronous generators: the hooks that a run sets (PEP 525), and shutdown_asyncgens(). */
#include "loop.h"

/* ---- Hooks ------------------------------------------------------------------------------------------ */

PyObject *
loop_asyncgen_firstiter(PyObject *loop, PyObject *agen)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_state *state = loop_core(loop)->state;
    if (self->asyncgens_shutdown &&
        PyErr_ResourceWarning(loop, 1, "asynchronous generator %R was scheduled after loop.shutdown_asyncgens() call",
                              agen) < 0) {
        return NULL;
    }
    if (self->asyncgens == NULL) {
        self->asyncgens = PyObject_CallNoArgs(state->WeakSet);
        if (self->asyncgens == NULL) {
            return NULL;
        }
    }
    PyObject *set = Py_NewRef(self->asyncgens);
    PyObject *added = PyObject_CallMethodOneArg(set, state->s.add, agen);
    Py_DECREF(set);
    return added;
}

PyObject *
loop_asyncgen_finalizer(PyObject *loop, PyObject *agen)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_core *core = loop_core(loop);
    corolla_state *state = core->state;
    if (self->asyncgens != NULL) {
        PyObject *set = Py_NewRef(self->asyncgens);
        PyObject *done = PyObject_CallMethodOneArg(set, state->s.discard, agen);
        Py_DECREF(set);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    if (core->closed || corolla_core_is_inherited(core)) {
        Py_RETURN_NONE; /* the generator of a forked child is but a copy: its parent's will be closed */
    }
    /* The collector runs on any thread. */
    PyObject *handle = NULL, *closing = NULL;
    PyObject *create_task = PyObject_GetAttr(loop, state->s.create_task);
    if (create_task != NULL) {
        closing = PyObject_CallMethodNoArgs(agen, state->s.aclose);
    }
    if (closing != NULL) {
        PyObject *stack[4] = {NULL, loop, create_task, closing};
        handle = PyObject_VectorcallMethod(state->s.call_soon_threadsafe, stack + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           NULL);
    }
    Py_XDECREF(create_task);
    Py_XDECREF(closing);
    if (handle == NULL) {
        return NULL;
    }
    Py_DECREF(handle);
    Py_RETURN_NONE;
}

/* ---- shutdown_asyncgens() --------------------------------------------------------------------------- */

typedef struct AsyncgensState {
    PyObject *loop;    /* owned */
    PyObject *closing; /* owned: list of generators */
    PyObject *all;     /* owned: what gathers their aclose() */
} AsyncgensState;

static int
asyncgens_traverse(void *state, visitproc visit, void *arg)
{
    AsyncgensState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->closing);
    Py_VISIT(st->all);
    return 0;
}

static void
asyncgens_clear(void *state)
{
    AsyncgensState *st = state;
    Py_CLEAR(st->closing);
    Py_CLEAR(st->all);
    Py_CLEAR(st->loop);
}

/* gather(*[agen.aclose() for agen in closing], return_exceptions=True). New reference or NULL. */
static PyObject *
gather_closing(corolla_state *state, PyObject *closing)
{
    PyObject *all = NULL, *kwargs = NULL;
    Py_ssize_t count = PyList_GET_SIZE(closing);
    PyObject *awaitables = PyTuple_New(count);
    if (awaitables == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *awaitable = PyObject_CallMethodNoArgs(PyList_GET_ITEM(closing, i), state->s.aclose);
        if (awaitable == NULL) {
            goto done;
        }
        PyTuple_SET_ITEM(awaitables, i, awaitable);
    }
    kwargs = Py_BuildValue("{sO}", "return_exceptions", Py_True);
    if (kwargs != NULL) {
        all = PyObject_Call(state->gather, awaitables, kwargs);
    }
done:
    Py_DECREF(awaitables);
    Py_XDECREF(kwargs);
    return all;
}

/* Tells the exception handler of a generator that did not close well. 0 or -1. */
static int
report_closing(corolla_state *state, PyObject *loop, PyObject *agen, PyObject *exc)
{
    PyObject *message = PyUnicode_FromFormat("an error occurred during closing of asynchronous generator %R", agen);
    PyObject *context = message == NULL ? NULL : PyDict_New();
    PyObject *done = NULL;
    if (context != NULL && PyDict_SetItem(context, state->s.message, message) == 0 &&
        PyDict_SetItem(context, state->s.exception, exc) == 0 &&
        PyDict_SetItem(context, state->s.asyncgen, agen) == 0) {
        done = PyObject_CallMethodOneArg(loop, state->s.call_exception_handler, context);
    }
    Py_XDECREF(message);
    Py_XDECREF(context);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
report_all_closing(corolla_state *state, AsyncgensState *st, PyObject *results)
{
    PyObject *list = PySequence_List(results);
    int rc = list == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(list) && i < PyList_GET_SIZE(st->closing); i++) {
        PyObject *result = PyList_GET_ITEM(list, i);
        if (PyObject_TypeCheck(result, (PyTypeObject *)PyExc_Exception)) {
            rc = report_closing(state, st->loop, PyList_GET_ITEM(st->closing, i), result);
        }
    }
    Py_XDECREF(list);
    return rc;
}

static corolla_step
asyncgens_step(corolla_coro *co, PyObject *value)
{
    AsyncgensState *st = corolla_coro_state(co);
    LoopObject *self = (LoopObject *)st->loop;
    PyObject *cleared;
    COROLLA_BEGIN(co);
    self->asyncgens_shutdown = true;
    if (self->asyncgens == NULL) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    st->closing = PySequence_List(self->asyncgens);
    if (st->closing == NULL) {
        return COROLLA_RAISE;
    }
    if (PyList_GET_SIZE(st->closing) == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    cleared = PyObject_CallMethodNoArgs(self->asyncgens, co->state->s.clear);
    if (cleared == NULL) {
        return COROLLA_RAISE;
    }
    Py_DECREF(cleared);
    st->all = gather_closing(co->state, st->closing);
    if (st->all == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->all);
    if (value == NULL || report_all_closing(co->state, st, value) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

static const corolla_coro_spec asyncgens_spec = {
    .name = "shutdown_asyncgens",
    .qualname = "EventLoop.shutdown_asyncgens",
    .size = sizeof(AsyncgensState),
    .step = asyncgens_step,
    .traverse = asyncgens_traverse,
    .clear = asyncgens_clear,
};

PyDoc_STRVAR(shutdown_asyncgens_doc, "shutdown_asyncgens($self)\n--\n\n"
                                     "Close the asynchronous generators that have been begun and not finished.");

static PyObject *
loop_shutdown_asyncgens(PyObject *loop, PyObject *unused)
{
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, &asyncgens_spec);
    if (co != NULL) {
        AsyncgensState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
    }
    return (PyObject *)co;
}

PyMethodDef corolla_loop_asyncgen_methods[] = {
    {"shutdown_asyncgens", loop_shutdown_asyncgens, METH_NOARGS, shutdown_asyncgens_doc},
    {NULL, NULL, 0, NULL},
};
