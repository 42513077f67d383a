/* corolla.shield(): a future that can be cancelled without what it waits for. */
#include "link.h"

/* What is in the link that ties the two futures. Both hold it, as the argument of their callbacks, until one is done. */
enum { INNER, OUTER, INNER_TOLD, OUTER_TOLD };

/* ---- What a cancelled shield leaves behind --------------------------------------------------- */

/* {message, exception, future, source_traceback}: new reference or NULL. */
static PyObject *
describe(corolla_state *state, PyObject *future, PyObject *exc)
{
    PyObject *context = PyDict_New(), *traceback = NULL, *message = NULL;
    PyObject *name = PyType_GetName(Py_TYPE(exc));
    if (name != NULL) {
        message = PyUnicode_FromFormat("%U exception in shielded future", name);
        Py_DECREF(name);
    }
    int found = context == NULL || message == NULL
                    ? -1
                    : PyObject_GetOptionalAttr(future, state->s._source_traceback, &traceback);
    if (found < 0 || PyDict_SetItem(context, state->s.message, message) < 0 ||
        PyDict_SetItem(context, state->s.exception, exc) < 0 || PyDict_SetItem(context, state->s.future, future) < 0 ||
        (traceback != NULL && traceback != Py_None &&
         PyDict_SetItem(context, state->s.source_traceback, traceback) < 0)) {
        Py_CLEAR(context);
    }
    Py_XDECREF(traceback);
    Py_XDECREF(message);
    return context;
}

/* A callback of futures whose shield was cancelled: nobody else will hear of their exception. Bound to a type of ours
 * for the state; two such callbacks are equal, so that a future has one however many shields it had. */
static PyObject *
log_on_exception(PyObject *type, PyObject *future)
{
    corolla_state *state = corolla_state_of_type((PyTypeObject *)type);
    int cancelled = state == NULL ? -1 : corolla_any_cancelled(state, future);
    if (cancelled != 0) {
        return cancelled < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *exc = corolla_any_exception(state, future);
    if (exc == NULL || !PyExceptionInstance_Check(exc)) {
        return exc; /* None, most often */
    }
    PyObject *loop = corolla_any_loop(state, future);
    PyObject *context = loop == NULL ? NULL : describe(state, future, exc);
    int rc = context == NULL ? -1 : corolla_report_context(state, loop, context);
    Py_DECREF(exc);
    Py_XDECREF(loop);
    Py_XDECREF(context);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef log_on_exception_def = {"_log_on_exception", log_on_exception, METH_O, NULL};

/* Has the future report its exception, once. 0 or -1. */
static int
leave_log(corolla_state *state, PyObject *future)
{
    PyObject *removed = NULL, *added = NULL;
    PyObject *callback = PyCFunction_New(&log_on_exception_def, (PyObject *)state->future_type);
    if (callback != NULL) {
        removed = PyObject_CallMethodOneArg(future, state->s.remove_done_callback, callback);
    }
    if (removed != NULL) {
        added = PyObject_CallMethodOneArg(future, state->s.add_done_callback, callback);
    }
    Py_XDECREF(callback);
    Py_XDECREF(removed);
    Py_XDECREF(added);
    return added == NULL ? -1 : 0;
}

/* ---- One of them is done --------------------------------------------------------------------- */

/* outer becomes what inner has become. 0 or -1. */
static int
pass_on(corolla_state *state, PyObject *inner, PyObject *outer)
{
    int cancelled = corolla_any_cancelled(state, inner);
    if (cancelled != 0) {
        return cancelled < 0 || corolla_any_cancel(state, outer, NULL) < 0 ? -1 : 0;
    }
    PyObject *exc = corolla_any_exception(state, inner);
    if (exc == NULL) {
        return -1;
    }
    int rc;
    if (exc != Py_None) {
        rc = corolla_any_set_exception(state, outer, exc);
    }
    else {
        PyObject *result = corolla_any_result(state, inner);
        rc = result == NULL ? -1 : corolla_any_set_result(state, outer, result);
        Py_XDECREF(result);
    }
    Py_DECREF(exc);
    return rc;
}

static int
inner_done(PyObject *inner, PyObject *arg)
{
    corolla_link *link = (corolla_link *)arg;
    corolla_state *state = link->state;
    PyObject *outer = corolla_link_take(link, OUTER), *outer_told = corolla_link_take(link, OUTER_TOLD);
    corolla_link_clear(link);
    int rc = outer == NULL ? 1 : corolla_any_cancelled(state, outer);
    if (rc == 0) {
        /* It need not hear what it is told here. */
        rc = outer_told == NULL ? 0 : corolla_any_unwatch(state, outer, outer_told);
        rc = rc < 0 ? rc : pass_on(state, inner, outer);
    }
    Py_XDECREF(outer);
    Py_XDECREF(outer_told);
    return rc < 0 ? -1 : 0;
}

static int
outer_done(PyObject *outer, PyObject *arg)
{
    (void)outer;
    corolla_link *link = (corolla_link *)arg;
    corolla_state *state = link->state;
    PyObject *inner = Py_XNewRef(link->objects[INNER]);
    int rc = inner == NULL ? 1 : corolla_any_done(state, inner);
    if (rc == 0) {
        PyObject *inner_told = corolla_link_take(link, INNER_TOLD);
        corolla_link_clear(link);
        rc = inner_told == NULL ? 0 : corolla_any_unwatch(state, inner, inner_told);
        rc = rc < 0 ? rc : leave_log(state, inner);
        Py_XDECREF(inner_told);
    }
    Py_XDECREF(inner);
    return rc < 0 ? -1 : 0;
}

/* ---- The function ---------------------------------------------------------------------------- */

/* Has each told of the other. 0 or -1. */
static int
tie(corolla_state *state, PyObject *inner, PyObject *outer)
{
    corolla_link *link = corolla_link_new(state, inner, outer, NULL);
    if (link == NULL) {
        return -1;
    }
    link->objects[INNER_TOLD] = corolla_any_watch(state, inner, inner_done, Py_NewRef((PyObject *)link));
    if (link->objects[INNER_TOLD] != NULL) {
        link->objects[OUTER_TOLD] = corolla_any_watch(state, outer, outer_done, Py_NewRef((PyObject *)link));
    }
    int rc = link->objects[OUTER_TOLD] == NULL ? -1 : 0;
    Py_DECREF(link);
    return rc;
}

PyDoc_STRVAR(
    shield_doc,
    "shield($module, /, arg)\n--\n\n"
    "Return a future of what an awaitable comes to; cancelling it leaves the awaitable alone.\n\n"
    "arg: a future, or an awaitable to make a task of; keep a reference to it. What it raises after the shield was\n"
    "cancelled goes to the loop's exception handler. Specified by asyncio.shield() of CPython 3.14.");

static PyObject *
module_shield(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"arg", NULL};
    static const corolla_signature sig = {"shield", names, 1, 1, NULL};
    PyObject *arg;
    if (corolla_unpack(&sig, args, nargs, kwnames, &arg) < 0) {
        return NULL;
    }
    corolla_state *state = corolla_state_of_module(module);
    PyObject *loop = NULL, *outer = NULL;
    PyObject *inner = corolla_ensure_future(state, arg, NULL);
    if (inner == NULL) {
        return NULL;
    }
    int done = corolla_any_done(state, inner);
    if (done != 0) {
        if (done < 0) {
            Py_CLEAR(inner);
        }
        return inner;
    }
    loop = corolla_any_loop(state, inner);
    if (loop != NULL) {
        outer = corolla_loop_future(state, loop);
    }
    if (outer != NULL && tie(state, inner, outer) < 0) {
        Py_CLEAR(outer);
    }
    Py_XDECREF(loop);
    Py_DECREF(inner);
    return outer;
}

PyMethodDef corolla_shield_functions[] = {
    {"shield", (PyCFunction)(void (*)(void))module_shield, METH_FASTCALL | METH_KEYWORDS, shield_doc},
    {NULL, NULL, 0, NULL},
};
