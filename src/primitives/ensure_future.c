/* corolla.ensure_future(): a future for whatever can be awaited. */
#include "primitives.h"

/* ---- Any awaitable as a coroutine ---------------------------------------------------------- */

static int
wrapper_traverse(void *data, visitproc visit, void *arg)
{
    Py_VISIT(*(PyObject **)data);
    return 0;
}

static void
wrapper_clear(void *data)
{
    Py_CLEAR(*(PyObject **)data);
}

static corolla_step
wrapper_step(corolla_coro *co, PyObject *value)
{
    PyObject **awaitable = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    COROLLA_AWAIT(co, *awaitable);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));
    COROLLA_END(co);
}

static const corolla_coro_spec wrapper_spec = {
    .name = "_wrap_awaitable",
    .qualname = "ensure_future.<locals>._wrap_awaitable",
    .size = sizeof(PyObject *),
    .step = wrapper_step,
    .traverse = wrapper_traverse,
    .clear = wrapper_clear,
};

/* A coroutine that awaits arg: new reference; NULL with TypeError if it is no awaitable. */
static PyObject *
wrap_awaitable(corolla_state *state, PyObject *arg)
{
    PyObject *answer = PyObject_CallOneArg(state->isawaitable, arg);
    int awaitable = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (awaitable <= 0) {
        if (awaitable == 0) {
            PyErr_SetString(PyExc_TypeError, "An asyncio.Future, a coroutine or an awaitable is required");
        }
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(state, &wrapper_spec);
    if (co != NULL) {
        *(PyObject **)corolla_coro_state(co) = Py_NewRef(arg);
    }
    return (PyObject *)co;
}

/* ---- ensure_future() ----------------------------------------------------------------------- */

/* loop.create_task(coro): new reference or NULL. */
static PyObject *
create_task(corolla_state *state, PyObject *loop, PyObject *coro)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core == NULL || core->factory || (core->overridden & COROLLA_OWN_CREATE_TASK)) {
        return PyObject_CallMethodOneArg(loop, state->s.create_task, coro);
    }
    return corolla_core_check_closed(core) < 0 ? NULL : corolla_task_new(core, coro, NULL, NULL, false);
}

/* Closes a coroutine that found no task, so that nobody is told it was never awaited. Keeps the exception. */
static void
close_unused(corolla_state *state, PyObject *coro)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethodNoArgs(coro, state->s.close);
    if (done == NULL) {
        PyErr_WriteUnraisable(coro);
    }
    Py_XDECREF(done);
    PyErr_SetRaisedException(raised);
}

/* A task for a coroutine; steals coro. New reference or NULL. */
static PyObject *
task_for(corolla_state *state, PyObject *coro, PyObject *given)
{
    PyObject *loop = given != NULL ? Py_NewRef(given) : corolla_default_loop(state);
    PyObject *task = loop == NULL ? NULL : create_task(state, loop, coro);
    if (task == NULL && loop != NULL && PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        close_unused(state, coro);
    }
    Py_XDECREF(loop);
    Py_DECREF(coro);
    return task;
}

static int
check_same_loop(PyObject *loop, PyObject *wanted)
{
    if (loop == wanted) {
        return 0;
    }
    PyErr_SetString(PyExc_ValueError,
                    "The future belongs to a different loop than the one specified as the loop argument");
    return -1;
}

PyObject *
corolla_ensure_future(corolla_state *state, PyObject *arg, PyObject *loop)
{
    if (corolla_is_plain_future(state, arg) && ((corolla_future *)arg)->loop != NULL) {
        return loop == NULL || check_same_loop(((corolla_future *)arg)->loop, loop) == 0 ? Py_NewRef(arg) : NULL;
    }
    if (corolla_is_native_coroutine(state, arg)) {
        return task_for(state, Py_NewRef(arg), loop);
    }
    int future = corolla_any_isfuture(state, arg);
    if (future < 0) {
        return NULL;
    }
    if (future) {
        PyObject *its = loop == NULL ? NULL : corolla_any_loop(state, arg);
        int rc = loop == NULL ? 0 : its == NULL ? -1 : check_same_loop(its, loop);
        Py_XDECREF(its);
        return rc == 0 ? Py_NewRef(arg) : NULL;
    }
    int coroutine = corolla_any_iscoroutine(state, arg);
    if (coroutine < 0) {
        return NULL;
    }
    PyObject *coro = coroutine ? Py_NewRef(arg) : wrap_awaitable(state, arg);
    return coro == NULL ? NULL : task_for(state, coro, loop);
}

void
corolla_refuse_type(const char *wanted, PyObject *obj)
{
    PyObject *name = PyType_GetName(Py_TYPE(obj));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "%s, not %U", wanted, name);
        Py_DECREF(name);
    }
}

PyDoc_STRVAR(
    ensure_future_doc,
    "ensure_future($module, /, coro_or_future, *, loop=None)\n--\n\n"
    "Return a future as it is, and a new task for a coroutine or any other awaitable.\n\n"
    "loop: the event loop of the task, the running one if None. Raises TypeError for what cannot be awaited, and\n"
    "ValueError for a future of another loop. Specified by asyncio.ensure_future().");

static PyObject *
module_ensure_future(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"coro_or_future", "loop", NULL};
    static const corolla_signature sig = {"ensure_future", names, 1, 1, NULL};
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    return corolla_ensure_future(corolla_state_of_module(module), given[0], given[1] == Py_None ? NULL : given[1]);
}

PyMethodDef corolla_ensure_future_functions[] = {
    {"ensure_future", (PyCFunction)(void (*)(void))module_ensure_future, METH_FASTCALL | METH_KEYWORDS,
     ensure_future_doc},
    {NULL, NULL, 0, NULL},
};
