/* corolla.run_coroutine_threadsafe(): a coroutine for a loop that runs on another thread. */
#include "chain.h"
#include "link.h"

/* What is in the link that the loop's thread is handed. */
enum { CORO, LOOP, WORK };

/* The exception being raised, unless it is to end the loop, is also what the concurrent future raises. It stays
 * raised, for the loop to report. */
static void
fail_work(corolla_state *state, PyObject *work)
{
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *wanted = PyObject_CallMethod(work, "set_running_or_notify_cancel", NULL);
    int is_wanted = wanted == NULL ? -1 : PyObject_IsTrue(wanted);
    PyObject *set = is_wanted > 0 ? PyObject_CallMethodOneArg(work, state->s.set_exception, exc) : NULL;
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(work);
    }
    Py_XDECREF(wanted);
    Py_XDECREF(set);
    PyErr_SetRaisedException(exc);
}

/* On the loop's thread. */
static PyObject *
begin(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_link *link = (corolla_link *)self;
    corolla_state *state = link->state;
    PyObject *coro = corolla_link_take(link, CORO), *loop = corolla_link_take(link, LOOP);
    PyObject *work = corolla_link_take(link, WORK);
    int rc = 0;
    if (coro != NULL && loop != NULL && work != NULL) {
        PyObject *future = corolla_ensure_future(state, coro, loop);
        rc = future == NULL ? -1 : corolla_chain_to_work(state, future, work);
        Py_XDECREF(future);
        if (rc < 0) {
            fail_work(state, work);
        }
    }
    Py_XDECREF(coro);
    Py_XDECREF(loop);
    Py_XDECREF(work);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef begin_def = {"run_coroutine_threadsafe", begin, METH_NOARGS, NULL};

PyDoc_STRVAR(run_coroutine_threadsafe_doc,
             "run_coroutine_threadsafe($module, /, coro, loop)\n--\n\n"
             "Have an event loop that runs on another thread run a coroutine. Return a concurrent.futures.Future.\n\n"
             "Cancelling that cancels the task. Raises TypeError if coro is no coroutine. Specified by\n"
             "asyncio.run_coroutine_threadsafe().");

static PyObject *
module_run_coroutine_threadsafe(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"coro", "loop", NULL};
    static const corolla_signature sig = {"run_coroutine_threadsafe", names, 2, 2, NULL};
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_state *state = corolla_state_of_module(module);
    int coroutine = corolla_any_iscoroutine(state, given[0]);
    if (coroutine <= 0) {
        if (coroutine == 0) {
            PyErr_SetString(PyExc_TypeError, "A coroutine object is required");
        }
        return NULL;
    }
    PyObject *work = PyObject_CallNoArgs(state->concurrent_Future), *callback = NULL, *handle = NULL;
    corolla_link *link = work == NULL ? NULL : corolla_link_new(state, given[0], given[1], work);
    if (link != NULL) {
        callback = PyCFunction_New(&begin_def, (PyObject *)link);
    }
    if (callback != NULL) {
        handle = PyObject_CallMethodOneArg(given[1], state->s.call_soon_threadsafe, callback);
    }
    if (handle == NULL) {
        Py_CLEAR(work);
    }
    Py_XDECREF(link);
    Py_XDECREF(callback);
    Py_XDECREF(handle);
    return work;
}

PyMethodDef corolla_threadsafe_functions[] = {
    {"run_coroutine_threadsafe", (PyCFunction)(void (*)(void))module_run_coroutine_threadsafe,
     METH_FASTCALL | METH_KEYWORDS, run_coroutine_threadsafe_doc},
    {NULL, NULL, 0, NULL},
};
