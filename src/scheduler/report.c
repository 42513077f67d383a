/* What goes to the loop's exception handler, and what leaves the loop instead. */
#include "scheduler.h"

static bool
leaves_the_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit);
}

static int
call_handler(PyObject *loop, corolla_state *state, PyObject *context)
{
    PyObject *done = PyObject_CallMethodOneArg(loop, state->s.call_exception_handler, context);
    if (done == NULL) {
        /* The loop's own handler swallows what it can: what comes out here leaves the loop, or has
         * nowhere left to go. */
        if (leaves_the_loop()) {
            return -1;
        }
        PyErr_WriteUnraisable(loop);
        return 0;
    }
    Py_DECREF(done);
    return 0;
}

int
corolla_report_context(corolla_state *state, PyObject *loop, PyObject *context)
{
    if (PyErr_Occurred()) {
        if (leaves_the_loop()) {
            return -1;
        }
        PyObject *exc = PyErr_GetRaisedException();
        int rc = PyDict_SetItem(context, state->s.exception, exc);
        Py_DECREF(exc);
        if (rc < 0) {
            PyErr_WriteUnraisable(loop);
        }
    }
    return call_handler(loop, state, context);
}

int
corolla_report_raised(corolla_state *state, PyObject *loop, const char *message, PyObject *key, PyObject *value)
{
    if (leaves_the_loop()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = NULL;
    int rc = 0;
    PyObject *context = PyDict_New();
    if (context == NULL) {
        goto fail;
    }
    text = PyUnicode_FromString(message);
    if (text == NULL || PyDict_SetItem(context, state->s.message, text) < 0 ||
        PyDict_SetItem(context, state->s.exception, exc) < 0 ||
        (key != NULL && value != NULL && PyDict_SetItem(context, key, value) < 0)) {
        goto fail;
    }
    rc = call_handler(loop, state, context);
    goto done;
fail:
    PyErr_WriteUnraisable(loop);
done:
    Py_XDECREF(context);
    Py_XDECREF(text);
    Py_XDECREF(exc);
    return rc;
}
