/* Exception handlers: what becomes of an exception that nobody awaits. */
#include "loop.h"

static bool
leaves_the_loop(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit);
}

/* logger.error(message, exc_info=<the exception being raised>). 0, or -1 with what leaves the loop. */
static int
log_raised(corolla_core *core, const char *message)
{
    if (leaves_the_loop()) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *handled = PyErr_GetHandledException();
    PyObject *error = PyObject_GetAttrString(core->state->logger, "error");
    PyObject *args = Py_BuildValue("(s)", message);
    PyObject *kwargs = Py_BuildValue("{s:O}", "exc_info", Py_True);
    PyObject *done = NULL;
    if (error != NULL && args != NULL && kwargs != NULL) {
        PyErr_SetHandledException(exc); /* as in an except clause, also for filters and handlers that look */
        done = PyObject_Call(error, args, kwargs);
        PyErr_SetHandledException(handled);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable(core->loop);
    }
    Py_XDECREF(done);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(error);
    Py_XDECREF(handled);
    Py_DECREF(exc);
    return 0;
}

PyDoc_STRVAR(default_exception_handler_doc,
             "default_exception_handler($self, /, context)\n--\n\n"
             "Log an error as asyncio does: the message, what else the dict says, and the traceback.\n\n"
             "Specified by asyncio.loop.default_exception_handler().");

static PyObject *
loop_default_exception_handler(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"context", NULL};
    static const corolla_signature sig = {"default_exception_handler", names, 1, 1, NULL};
    PyObject *context;
    if (corolla_unpack(&sig, args, nargs, kwnames, &context) < 0) {
        return NULL;
    }
    /* The text is the standard library's, made by its own function. */
    return PyObject_CallMethod(loop_core(self)->state->BaseEventLoop, "default_exception_handler", "OO", self, context);
}

/* self.default_exception_handler(context), which a subclass may have overridden. 0, or -1 with what leaves. */
static int
call_default(PyObject *self, PyObject *context, const char *complaint)
{
    corolla_core *core = loop_core(self);
    PyObject *done = PyObject_CallMethodOneArg(self, core->state->s.default_exception_handler, context);
    if (done == NULL) {
        return log_raised(core, complaint);
    }
    Py_DECREF(done);
    return 0;
}

/* The context (PEP 567) of the task, future or handle that an error is about: new reference, NULL without an
 * exception if there is none. */
static PyObject *
context_of(corolla_state *state, PyObject *context)
{
    PyObject *keys[] = {state->s.task, state->s.future, state->s.handle};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(keys); i++) {
        PyObject *thing;
        if (PyDict_GetItemRef(context, keys[i], &thing) < 0) {
            PyErr_Clear();
        }
        if (thing == NULL || thing == Py_None) {
            Py_XDECREF(thing);
            continue;
        }
        PyObject *ctx = PyObject_CallMethod(thing, "get_context", NULL);
        Py_DECREF(thing);
        if (ctx != NULL && PyContext_CheckExact(ctx)) {
            return ctx;
        }
        Py_XDECREF(ctx);
        PyErr_Clear();
        return NULL;
    }
    return NULL;
}

/* The user's handler, in the context of what failed where that can be entered. Result or NULL. */
static PyObject *
call_user_handler(LoopObject *self, PyObject *context)
{
    PyObject *handler = Py_NewRef(self->exception_handler);
    PyObject *ctx = PyDict_Check(context) ? context_of(self->head.core.state, context) : NULL;
    if (ctx != NULL && PyContext_Enter(ctx) < 0) {
        PyErr_Clear(); /* it is running: then we are inside of it */
        Py_CLEAR(ctx);
    }
    PyObject *result = PyObject_CallFunctionObjArgs(handler, (PyObject *)self, context, NULL);
    if (ctx != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        if (PyContext_Exit(ctx) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        if (raised != NULL) {
            PyErr_SetRaisedException(raised);
        }
        Py_DECREF(ctx);
    }
    Py_DECREF(handler);
    return result;
}

/* The user's handler raised: the default one is told of both. 0, or -1 with what leaves the loop. */
static int
report_handler_error(PyObject *self, PyObject *context)
{
    if (leaves_the_loop()) {
        return -1;
    }
    corolla_state *state = loop_core(self)->state;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *report = Py_BuildValue("{s:s,O:O,O:O}", "message", "Unhandled error in exception handler",
                                     state->s.exception, exc, state->s.context, context);
    Py_DECREF(exc);
    if (report == NULL) {
        return -1;
    }
    int rc = call_default(self, report,
                          "Exception in default exception handler while handling an unexpected error in custom "
                          "exception handler");
    Py_DECREF(report);
    return rc;
}

PyDoc_STRVAR(
    call_exception_handler_doc,
    "call_exception_handler($self, /, context)\n--\n\n"
    "Report an error through the loop's exception handler.\n\n"
    "context: a dict with 'message' and, where they apply, 'exception', 'future', 'task', 'handle', 'protocol',\n"
    "'transport', 'socket', 'asyncgen', 'source_traceback'. Specified by asyncio.loop.call_exception_handler().");

static PyObject *
loop_call_exception_handler(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"context", NULL};
    static const corolla_signature sig = {"call_exception_handler", names, 1, 1, NULL};
    PyObject *context;
    if (corolla_unpack(&sig, args, nargs, kwnames, &context) < 0) {
        return NULL;
    }
    LoopObject *loop = (LoopObject *)self;
    int rc;
    if (loop->exception_handler == NULL) {
        rc = call_default(self, context, "Exception in default exception handler");
    }
    else {
        PyObject *done = call_user_handler(loop, context);
        rc = done == NULL ? report_handler_error(self, context) : 0;
        Py_XDECREF(done);
    }
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(set_exception_handler_doc,
             "set_exception_handler($self, /, handler)\n--\n\n"
             "Make call_exception_handler() call handler(loop, context), or the default one again if None.\n\n"
             "Raises TypeError if it cannot be called. Specified by asyncio.loop.set_exception_handler().");

static PyObject *
loop_set_exception_handler(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"handler", NULL};
    static const corolla_signature sig = {"set_exception_handler", names, 1, 1, NULL};
    PyObject *handler;
    if (corolla_unpack(&sig, args, nargs, kwnames, &handler) < 0) {
        return NULL;
    }
    if (handler != Py_None && !PyCallable_Check(handler)) {
        PyErr_Format(PyExc_TypeError, "A callable object or None is expected, got %R", handler);
        return NULL;
    }
    Py_XSETREF(((LoopObject *)self)->exception_handler, handler == Py_None ? NULL : Py_NewRef(handler));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_exception_handler_doc, "get_exception_handler($self, /)\n--\n\n"
                                        "Return the exception handler that was set, or None.");

static PyObject *
loop_get_exception_handler(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *handler = ((LoopObject *)self)->exception_handler;
    return Py_NewRef(handler != NULL ? handler : Py_None);
}

PyMethodDef corolla_loop_error_methods[] = {
    {"default_exception_handler", (PyCFunction)(void (*)(void))loop_default_exception_handler,
     METH_FASTCALL | METH_KEYWORDS, default_exception_handler_doc},
    {"call_exception_handler", (PyCFunction)(void (*)(void))loop_call_exception_handler, METH_FASTCALL | METH_KEYWORDS,
     call_exception_handler_doc},
    {"set_exception_handler", (PyCFunction)(void (*)(void))loop_set_exception_handler, METH_FASTCALL | METH_KEYWORDS,
     set_exception_handler_doc},
    {"get_exception_handler", loop_get_exception_handler, METH_NOARGS, get_exception_handler_doc},
    {NULL, NULL, 0, NULL},
};
