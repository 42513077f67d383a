/* Futures of concurrent.futures (here: work) and of asyncio, chained; corolla.wrap_future(). */
#include "chain.h"

#include <errno.h>

#include "link.h"

/* What is in the link of two chained futures. */
enum { FUTURE, WORK };

/* ---- From any thread to a loop ------------------------------------------------------------- */

/* Calls a method that answers yes or no: 1, 0 or -1. */
static int
ask(PyObject *obj, PyObject *method)
{
    PyObject *answer = PyObject_CallMethodNoArgs(obj, method);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* loop.call_soon_threadsafe(callback, arg), unless it is closed. 0 or -1. */
static int
post_foreign(corolla_state *state, PyObject *loop, PyObject *callback, PyObject *arg)
{
    int closed = ask(loop, state->s.is_closed);
    if (closed != 0) {
        return closed < 0 ? -1 : 0;
    }
    PyObject *stack[3] = {loop, callback, arg};
    PyObject *handle = PyObject_VectorcallMethod(state->s.call_soon_threadsafe, stack, 3, NULL);
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static int
post_native(corolla_core *core, PyObject *callback, PyObject *arg)
{
    if (core->closed) {
        return 0;
    }
    PyObject *handle = corolla_handle_new(core, callback, &arg, 1, NULL);
    if (handle == NULL) {
        return -1;
    }
    /* Making it may have let other threads run: closed in between, the loop has no inbox. */
    int rc = core->closed ? -ESHUTDOWN : corolla_inbox_post(core->reactor.inbox, corolla_handle_job, handle);
    if (rc < 0) {
        Py_DECREF(handle);
    }
    if (rc < 0 && rc != -ESHUTDOWN && rc != -ECHILD) {
        corolla_raise_post(rc);
        return -1;
    }
    return 0;
}

int
corolla_chain_post(corolla_state *state, PyObject *loop, PyMethodDef *call, PyObject *self, PyObject *arg)
{
    PyObject *callback = PyCFunction_New(call, self);
    if (callback == NULL) {
        return -1;
    }
    corolla_core *core = corolla_core_of(state, loop);
    int rc = core != NULL ? post_native(core, callback, arg) : post_foreign(state, loop, callback, arg);
    Py_DECREF(callback);
    return rc;
}

/* ---- Outcomes ------------------------------------------------------------------------------ */

/* What asyncio puts in place of exceptions that concurrent.futures has of its own. Steals exc; new reference. */
static PyObject *
convert_exception(corolla_state *state, PyObject *exc)
{
    PyObject *type = (PyObject *)Py_TYPE(exc), *other;
    if (type == state->concurrent_CancelledError) {
        other = state->CancelledError;
    }
    else if (type == state->concurrent_InvalidStateError) {
        other = state->InvalidStateError;
    }
    else {
        return exc;
    }
    PyObject *args = PyObject_GetAttr(exc, state->s.args);
    PyObject *converted = args == NULL ? NULL : PyObject_CallObject(other, args);
    Py_XDECREF(args);
    if (converted != NULL) {
        PyObject *tb = PyException_GetTraceback(exc);
        if (tb != NULL) {
            (void)PyException_SetTraceback(converted, tb);
            Py_DECREF(tb);
        }
    }
    Py_DECREF(exc);
    return converted;
}

int
corolla_chain_fail(corolla_state *state, PyObject *future, PyObject *exc)
{
    int rc = -1;
    if (exc != NULL) {
        exc = convert_exception(state, exc);
    }
    if (exc != NULL) {
        rc = corolla_any_set_exception(state, future, exc);
        Py_DECREF(exc);
    }
    if (rc < 0) {
        exc = PyErr_GetRaisedException();
        rc = corolla_any_set_exception(state, future, exc);
        Py_DECREF(exc);
    }
    return rc;
}

/* future, pending, becomes what work did. 0 or -1. */
static int
copy_from_work(corolla_state *state, PyObject *future, PyObject *work)
{
    int cancelled = ask(work, state->s.cancelled);
    if (cancelled < 0) {
        return corolla_chain_fail(state, future, NULL);
    }
    if (cancelled) {
        return corolla_any_cancel(state, future, NULL) < 0 ? -1 : 0;
    }
    PyObject *exc = PyObject_CallMethodNoArgs(work, state->s.exception);
    if (exc == NULL || exc != Py_None) {
        return corolla_chain_fail(state, future, exc);
    }
    Py_DECREF(exc);
    PyObject *result = PyObject_CallMethodNoArgs(work, state->s.result);
    if (result == NULL) {
        return corolla_chain_fail(state, future, NULL);
    }
    int rc = corolla_any_set_result(state, future, result);
    Py_DECREF(result);
    return rc;
}

/* work becomes what future did. 0 or -1. */
static int
copy_to_work(corolla_state *state, PyObject *future, PyObject *work)
{
    int cancelled = corolla_any_cancelled(state, future);
    if (cancelled < 0 || (cancelled && ask(work, state->s.cancel) < 0)) {
        return -1;
    }
    PyObject *wanted = PyObject_CallMethod(work, "set_running_or_notify_cancel", NULL);
    int is_wanted = wanted == NULL ? -1 : PyObject_IsTrue(wanted);
    Py_XDECREF(wanted);
    if (is_wanted <= 0) {
        return is_wanted;
    }
    PyObject *outcome = corolla_any_exception(state, future), *set = NULL;
    if (outcome == Py_None) {
        Py_SETREF(outcome, corolla_any_result(state, future));
        set = outcome == NULL ? NULL : PyObject_CallMethodOneArg(work, state->s.set_result, outcome);
    }
    else if (outcome != NULL && (outcome = convert_exception(state, outcome)) != NULL) {
        set = PyObject_CallMethodOneArg(work, state->s.set_exception, outcome);
    }
    Py_XDECREF(outcome);
    Py_XDECREF(set);
    return set == NULL ? -1 : 0;
}

/* work.add_done_callback(call bound to link). 0 or -1. */
static int
watch_work(corolla_state *state, PyObject *work, PyMethodDef *call, corolla_link *link)
{
    PyObject *callback = PyCFunction_New(call, (PyObject *)link);
    PyObject *added = callback == NULL ? NULL : PyObject_CallMethodOneArg(work, state->s.add_done_callback, callback);
    Py_XDECREF(callback);
    Py_XDECREF(added);
    return added == NULL ? -1 : 0;
}

/* ---- Work for a future --------------------------------------------------------------------- */

/* On the loop's thread. */
static PyObject *
work_settled(PyObject *self, PyObject *work)
{
    corolla_link *link = (corolla_link *)self;
    PyObject *future = link->objects[FUTURE];
    if (future == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(future);
    int done = corolla_any_done(link->state, future);
    int rc = done == 0 ? copy_from_work(link->state, future, work) : done;
    Py_DECREF(future);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef work_settled_def = {"work_settled", work_settled, METH_O, NULL};

/* On whatever thread completed or cancelled the work. */
static PyObject *
work_done(PyObject *self, PyObject *work)
{
    corolla_link *link = (corolla_link *)self;
    PyObject *future = link->objects[FUTURE];
    PyObject *loop = future == NULL ? Py_NewRef(Py_None) : corolla_any_loop(link->state, future);
    int rc = loop == NULL      ? -1
             : loop == Py_None ? 0
                               : corolla_chain_post(link->state, loop, &work_settled_def, self, work);
    Py_XDECREF(loop);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef work_done_def = {"work_done", work_done, METH_O, NULL};

/* The loop's side is done: was it cancelled, so is the work. */
static int
future_done(PyObject *future, PyObject *arg)
{
    corolla_link *link = (corolla_link *)arg;
    corolla_state *state = link->state;
    PyObject *work = corolla_link_take(link, WORK);
    int rc = corolla_any_cancelled(state, future);
    if (rc > 0 && work != NULL) {
        rc = ask(work, state->s.cancel);
    }
    Py_XDECREF(work);
    return rc < 0 ? -1 : 0;
}

PyObject *
corolla_wrap_future(corolla_state *state, PyObject *work, PyObject *loop)
{
    int known = PyObject_IsInstance(work, state->concurrent_Future);
    int future = known == 0 ? corolla_any_isfuture(state, work) : known;
    if (known < 0 || future < 0) {
        return NULL;
    }
    if (!known) {
        if (future) {
            return Py_NewRef(work);
        }
        PyErr_Format(PyExc_AssertionError, "concurrent.futures.Future is expected, got %R", work);
        return NULL;
    }
    loop = loop != NULL ? Py_NewRef(loop) : corolla_default_loop(state);
    PyObject *wrapped = loop == NULL ? NULL : corolla_loop_future(state, loop);
    Py_XDECREF(loop);
    corolla_link *link = wrapped == NULL ? NULL : corolla_link_new(state, wrapped, work, NULL);
    PyObject *told = link == NULL ? NULL : corolla_any_watch(state, wrapped, future_done, Py_NewRef((PyObject *)link));
    if (told == NULL || watch_work(state, work, &work_done_def, link) < 0) {
        Py_CLEAR(wrapped);
    }
    Py_XDECREF(link);
    Py_XDECREF(told);
    return wrapped;
}

/* ---- A future for work --------------------------------------------------------------------- */

/* On the loop's thread. */
static PyObject *
cancel_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_link *link = (corolla_link *)self;
    PyObject *future = Py_XNewRef(link->objects[FUTURE]);
    int rc = future == NULL ? 0 : corolla_any_cancel(link->state, future, NULL);
    Py_XDECREF(future);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef cancel_future_def = {"cancel", cancel_future, METH_O, NULL};

/* On whatever thread completed or cancelled the work: was it cancelled, so is the future. At once where its loop runs,
 * which may be about to close. */
static PyObject *
work_cancelled(PyObject *self, PyObject *work)
{
    corolla_link *link = (corolla_link *)self;
    corolla_state *state = link->state;
    PyObject *future = Py_XNewRef(link->objects[FUTURE]), *loop = NULL, *running = NULL;
    int rc = ask(work, state->s.cancelled);
    if (rc > 0 && future != NULL) {
        loop = corolla_any_loop(state, future);
        running = loop == NULL ? NULL : PyObject_CallNoArgs(state->_get_running_loop);
        rc = running == NULL   ? -1
             : running == loop ? corolla_any_cancel(state, future, NULL)
                               : corolla_chain_post(state, loop, &cancel_future_def, self, Py_None);
    }
    Py_XDECREF(running);
    Py_XDECREF(loop);
    Py_XDECREF(future);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef work_cancelled_def = {"work_cancelled", work_cancelled, METH_O, NULL};

static int
future_settled(PyObject *future, PyObject *arg)
{
    corolla_link *link = (corolla_link *)arg;
    PyObject *work = corolla_link_take(link, WORK);
    Py_XDECREF(corolla_link_take(link, FUTURE)); /* work may live on, and has no use for it */
    int rc = work == NULL ? 0 : copy_to_work(link->state, future, work);
    Py_XDECREF(work);
    return rc;
}

int
corolla_chain_to_work(corolla_state *state, PyObject *future, PyObject *work)
{
    corolla_link *link = corolla_link_new(state, future, work, NULL);
    if (link == NULL) {
        return -1;
    }
    int rc = watch_work(state, work, &work_cancelled_def, link);
    if (rc == 0) {
        PyObject *told = corolla_any_watch(state, future, future_settled, Py_NewRef((PyObject *)link));
        rc = told == NULL ? -1 : 0;
        Py_XDECREF(told);
    }
    Py_DECREF(link);
    return rc;
}

/* ---- wrap_future() ------------------------------------------------------------------------- */

PyDoc_STRVAR(wrap_future_doc,
             "wrap_future($module, /, future, *, loop=None)\n--\n\n"
             "Return a future of an event loop for a concurrent.futures.Future; one of asyncio's as it is.\n\n"
             "Each completes the other, and cancelling it cancels the other. loop: the event loop, the running one if\n"
             "None. Raises AssertionError for anything else. Specified by asyncio.wrap_future().");

static PyObject *
module_wrap_future(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"future", "loop", NULL};
    static const corolla_signature sig = {"wrap_future", names, 1, 1, NULL};
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    return corolla_wrap_future(corolla_state_of_module(module), given[0], given[1] == Py_None ? NULL : given[1]);
}

PyMethodDef corolla_chain_functions[] = {
    {"wrap_future", (PyCFunction)(void (*)(void))module_wrap_future, METH_FASTCALL | METH_KEYWORDS, wrap_future_doc},
    {NULL, NULL, 0, NULL},
};
