/* corolla.to_thread() */
#include "primitives.h"

typedef struct {
    PyObject *args;   /* owned: the function and its positional arguments */
    PyObject *kwargs; /* owned: its keyword arguments, or NULL */
    PyObject *future; /* owned */
} ToThreadState;

static int
to_thread_traverse(void *data, visitproc visit, void *arg)
{
    ToThreadState *st = data;
    Py_VISIT(st->args);
    Py_VISIT(st->kwargs);
    Py_VISIT(st->future);
    return 0;
}

static void
to_thread_clear(void *data)
{
    ToThreadState *st = data;
    Py_CLEAR(st->args);
    Py_CLEAR(st->kwargs);
    Py_CLEAR(st->future);
}

/* functools.partial(copy_context().run, func, *args, **kwargs): new reference or NULL. */
static PyObject *
bind_to_context(corolla_state *state, PyObject *args, PyObject *kwargs)
{
    PyObject *context = PyContext_CopyCurrent();
    PyObject *run = context == NULL ? NULL : PyObject_GetAttr(context, state->s.run);
    PyObject *first = run == NULL ? NULL : PyTuple_Pack(1, run);
    PyObject *all = first == NULL ? NULL : PySequence_Concat(first, args);
    PyObject *call = all == NULL ? NULL : PyObject_Call(state->partial, all, kwargs);
    Py_XDECREF(context);
    Py_XDECREF(run);
    Py_XDECREF(first);
    Py_XDECREF(all);
    return call;
}

/* Hands the call to the default executor. 0 or -1. */
static int
send_to_thread(ToThreadState *st, corolla_state *state)
{
    PyObject *loop = corolla_running_loop(state);
    PyObject *call = loop == NULL ? NULL : bind_to_context(state, st->args, st->kwargs);
    if (call != NULL) {
        PyObject *stack[3] = {loop, Py_None, call};
        st->future = PyObject_VectorcallMethod(state->s.run_in_executor, stack, 3, NULL);
    }
    Py_XDECREF(loop);
    Py_XDECREF(call);
    return st->future == NULL ? -1 : 0;
}

static corolla_step
to_thread_step(corolla_coro *co, PyObject *value)
{
    ToThreadState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (send_to_thread(st, co->state) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));
    COROLLA_END(co);
}

static const corolla_coro_spec to_thread_spec = {
    .name = "to_thread",
    .qualname = "to_thread",
    .size = sizeof(ToThreadState),
    .step = to_thread_step,
    .traverse = to_thread_traverse,
    .clear = to_thread_clear,
};

PyDoc_STRVAR(to_thread_doc,
             "to_thread($module, func, /, *args, **kwargs)\n--\n\n"
             "Coroutine: call func(*args, **kwargs) on another thread and return what it gives.\n\n"
             "It runs in a copy of the current context, on a thread of the loop's default executor. Specified by\n"
             "asyncio.to_thread().");

static PyObject *
module_to_thread(PyObject *module, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) == 0) {
        PyErr_SetString(PyExc_TypeError, "to_thread() missing 1 required positional argument: 'func'");
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(corolla_state_of_module(module), &to_thread_spec);
    if (co != NULL) {
        ToThreadState *st = corolla_coro_state(co);
        st->args = Py_NewRef(args);
        st->kwargs = Py_XNewRef(kwargs);
    }
    return (PyObject *)co;
}

PyMethodDef corolla_to_thread_functions[] = {
    {"to_thread", (PyCFunction)(void (*)(void))module_to_thread, METH_VARARGS | METH_KEYWORDS, to_thread_doc},
    {NULL, NULL, 0, NULL},
};
