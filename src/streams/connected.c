/* connection_made(): a reader and a writer for whoever asked for the connection. */
#include "stream.h"

/* connected_cb's task is done: what it raised is reported, and the transport (arg) closed with it. */
static int
callback_done(PyObject *task, PyObject *arg)
{
    PyObject *transport = PyTuple_GET_ITEM(arg, 0), *loop = PyTuple_GET_ITEM(arg, 1);
    corolla_state *state = corolla_state_of_type(Py_TYPE(PyTuple_GET_ITEM(arg, 2)));
    if (state == NULL) {
        return -1;
    }
    int cancelled = corolla_any_cancelled(state, task);
    PyObject *exc = cancelled == 0 ? corolla_any_exception(state, task) : NULL;
    if (cancelled < 0 || (cancelled == 0 && exc == NULL)) {
        return -1;
    }
    if (exc == Py_None) {
        Py_DECREF(exc);
        return 0;
    }
    int rc = 0;
    if (exc != NULL) {
        PyObject *context = Py_BuildValue("{s:s,s:O,s:O}", "message", "Unhandled exception in client_connected_cb",
                                          "exception", exc, "transport", transport);
        PyObject *done =
            context == NULL ? NULL : PyObject_CallMethodOneArg(loop, state->s.call_exception_handler, context);
        rc = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_XDECREF(context);
        Py_DECREF(exc);
    }
    if (rc == 0) {
        PyObject *closed = PyObject_CallMethodNoArgs(transport, state->s.close);
        rc = closed == NULL ? -1 : 0;
        Py_XDECREF(closed);
    }
    return rc;
}

PyObject *
stream_task(corolla_state *state, PyObject *loop, PyObject *coro)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core == NULL || core->factory || (core->overridden & COROLLA_OWN_CREATE_TASK)) {
        return PyObject_CallMethodOneArg(loop, state->s.create_task, coro);
    }
    return corolla_core_check_closed(core) < 0 ? NULL : corolla_task_new(core, coro, NULL, NULL, false);
}

static int
is_coroutine(corolla_state *state, PyObject *obj)
{
    if (PyCoro_CheckExact(obj) || Py_IS_TYPE(obj, state->coroutine_type)) {
        return 1;
    }
    PyObject *answer = PyObject_CallOneArg(state->iscoroutine, obj);
    int yes = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return yes;
}

/* connected_cb(reader, writer), and a task of what it gives if that is a coroutine. 0 or -1. */
static int
call_connected(StreamProtocol *protocol, PyObject *reader, PyObject *transport)
{
    corolla_state *state = protocol->flow.state;
    PyObject *answer = NULL, *task = NULL, *arg = NULL, *watch = NULL;
    int rc = -1;
    PyObject *callback = Py_NewRef(protocol->connected_cb);
    PyObject *writer = writer_new(state, transport, (PyObject *)protocol, reader, protocol->flow.loop);
    if (writer == NULL) {
        goto fail;
    }
    PyObject *stack[3] = {NULL, reader != NULL ? reader : Py_None, writer};
    answer = PyObject_Vectorcall(callback, stack + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    int coroutine = answer == NULL ? -1 : is_coroutine(state, answer);
    if (coroutine < 0 || flow_check(&protocol->flow) < 0) {
        goto fail;
    }
    if (coroutine) {
        task = stream_task(state, protocol->flow.loop, answer);
        arg = task == NULL ? NULL : PyTuple_Pack(3, transport, protocol->flow.loop, (PyObject *)protocol);
        watch = arg == NULL ? NULL : corolla_any_watch(state, task, callback_done, Py_NewRef(arg));
        if (watch == NULL) {
            goto fail;
        }
        Py_XSETREF(protocol->task, Py_NewRef(task));
    }
    rc = 0;
fail:
    Py_XDECREF(watch);
    Py_XDECREF(arg);
    Py_XDECREF(task);
    Py_XDECREF(answer);
    Py_XDECREF(writer);
    Py_DECREF(callback);
    return rc;
}

int
protocol_learn_tls(StreamProtocol *protocol, PyObject *transport)
{
    corolla_state *state = protocol->flow.state;
    if (corolla_tcp_check(state, transport)) {
        protocol->over_tls = false;
        return 0;
    }
    if (corolla_tls_check(state, transport)) {
        protocol->over_tls = true;
        return 0;
    }
    PyObject *context = PyObject_CallMethodOneArg(transport, state->s.get_extra_info, state->s.sslcontext);
    if (context == NULL) {
        return -1;
    }
    protocol->over_tls = context != Py_None;
    Py_DECREF(context);
    return 0;
}

/* Its reader is gone before there was a connection. 0 or -1. */
static int
reject(StreamProtocol *protocol, PyObject *transport)
{
    PyObject *context =
        Py_BuildValue("{s:s}", "message",
                      "An open stream was garbage collected prior to establishing network connection; call "
                      "\"stream.close()\" explicitly.");
    if (context == NULL ||
        (protocol->source_traceback != NULL && protocol->source_traceback != Py_None &&
         PyDict_SetItem(context, protocol->flow.state->s.source_traceback, protocol->source_traceback) < 0)) {
        Py_XDECREF(context);
        return -1;
    }
    PyObject *done =
        PyObject_CallMethodOneArg(protocol->flow.loop, protocol->flow.state->s.call_exception_handler, context);
    Py_DECREF(context);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    done = PyObject_CallMethodNoArgs(transport, protocol->flow.state->s.abort);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
protocol_connection_made(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *transport = corolla_unpack_one("connection_made", "transport", args, nargs, kwnames);
    if (transport == NULL) {
        return NULL;
    }
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    if (protocol->reject) {
        return reject(protocol, transport) < 0 ? NULL : Py_NewRef(Py_None);
    }
    Py_XSETREF(protocol->transport, Py_NewRef(transport));
    PyObject *reader = protocol_reader(protocol);
    int rc = 0;
    if (reader != NULL) {
        PyObject *set = PyObject_CallMethodOneArg(reader, protocol->flow.state->s.set_transport, transport);
        rc = set == NULL ? -1 : 0;
        Py_XDECREF(set);
    }
    if (rc == 0) {
        rc = protocol_learn_tls(protocol, transport);
    }
    if (rc == 0 && protocol->acceptor != NULL && reader != NULL) {
        PyObject *acceptor = Py_NewRef(protocol->acceptor);
        rc = acceptor_connected(acceptor, protocol, reader, transport);
        Py_DECREF(acceptor);
    }
    else if (rc == 0 && protocol->connected_cb != NULL) {
        rc = call_connected(protocol, reader, transport);
    }
    if (rc == 0) {
        Py_CLEAR(protocol->strong_reader);
    }
    Py_XDECREF(reader);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}
