/* What makes the streams of a StreamServer: the protocol factory of its listening sockets, and the tasks of its
 * handler. The server itself, which lives once, is in python/corolla/_streams.py. */
#include "stream.h"

typedef struct Acceptor {
    PyObject_HEAD
    corolla_state *state; /* borrowed */
    PyObject *handler;    /* owned; NULL until __init__ has run */
    PyObject *loop;       /* owned, likewise */
    PyObject *tasks;      /* owned, likewise: the set of the handler's tasks that are not done */
    size_t limit;         /* bytes */
    bool closed;          /* no handler begins any more: a connection that was on its way is aborted */
} Acceptor;

static PyObject *
acceptor_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    corolla_state *state = corolla_state_of_type(type);
    PyObject *self = state == NULL ? NULL : type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((Acceptor *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

static int
acceptor_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"handler", "loop", "limit", NULL};
    static const corolla_signature sig = {"StreamAcceptor", names, 3, 3, NULL};
    Acceptor *acceptor = (Acceptor *)self;
    PyObject *given[3];
    size_t limit;
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0 || reader_parse_limit(given[2], &limit) < 0) {
        return -1;
    }
    PyObject *tasks = PySet_New(NULL);
    if (tasks == NULL) {
        return -1;
    }
    acceptor->limit = limit;
    Py_XSETREF(acceptor->handler, Py_NewRef(given[0]));
    Py_XSETREF(acceptor->loop, Py_NewRef(given[1]));
    Py_XSETREF(acceptor->tasks, tasks);
    return 0;
}

static int
acceptor_traverse(PyObject *self, visitproc visit, void *arg)
{
    Acceptor *acceptor = (Acceptor *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(acceptor->handler);
    Py_VISIT(acceptor->loop);
    Py_VISIT(acceptor->tasks);
    return 0;
}

static int
acceptor_clear(PyObject *self)
{
    Acceptor *acceptor = (Acceptor *)self;
    Py_CLEAR(acceptor->handler);
    Py_CLEAR(acceptor->loop);
    Py_CLEAR(acceptor->tasks);
    return 0;
}

static void
acceptor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = ((Acceptor *)self)->state;
    PyObject_GC_UnTrack(self);
    (void)acceptor_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static int
acceptor_check(Acceptor *acceptor)
{
    if (acceptor->tasks == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "StreamAcceptor object is not initialized.");
        return -1;
    }
    return 0;
}

/* The protocol of the next connection. */
static PyObject *
acceptor_tp_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Acceptor *acceptor = (Acceptor *)self;
    static const char *const names[] = {NULL};
    static const corolla_signature sig = {"StreamAcceptor.__call__", names, 0, 0, NULL};
    if (acceptor_check(acceptor) < 0 || corolla_unpack_tuple(&sig, args, kwargs, NULL) < 0) {
        return NULL;
    }
    PyObject *reader = reader_new(acceptor->state, acceptor->loop, acceptor->limit);
    PyObject *protocol = reader == NULL ? NULL : protocol_new(acceptor->state, acceptor->loop, reader, NULL);
    if (protocol != NULL) {
        ((StreamProtocol *)protocol)->acceptor = Py_NewRef(self);
        ((StreamProtocol *)protocol)->strong_reader = Py_NewRef(reader);
    }
    Py_XDECREF(reader);
    return protocol;
}

/* ---- A handler has ended --------------------------------------------------------------------- */

/* Its exception goes to the loop's exception handler. 0 or -1. */
static int
report_failure(Acceptor *acceptor, PyObject *stream, PyObject *exc)
{
    PyObject *context = Py_BuildValue("{s:s,s:O,s:O}", "message", "Unhandled exception in a stream handler",
                                      "exception", exc, "transport", ((StreamWriter *)stream)->transport);
    PyObject *done =
        context == NULL ? NULL
                        : PyObject_CallMethodOneArg(acceptor->loop, acceptor->state->s.call_exception_handler, context);
    Py_XDECREF(context);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The stream is closed with its handler: what is queued is still sent, unless that failed. arg: (acceptor, stream). */
static int
handler_done(PyObject *task, PyObject *arg)
{
    Acceptor *acceptor = (Acceptor *)PyTuple_GET_ITEM(arg, 0);
    PyObject *stream = PyTuple_GET_ITEM(arg, 1);
    corolla_state *state = acceptor->state;
    if (acceptor->tasks == NULL || ((StreamWriter *)stream)->transport == NULL) {
        return 0; /* the collector has been here */
    }
    if (PySet_Discard(acceptor->tasks, task) < 0) {
        return -1;
    }
    int cancelled = corolla_any_cancelled(state, task);
    PyObject *exc = cancelled == 0 ? corolla_any_exception(state, task) : NULL;
    if (cancelled < 0 || (cancelled == 0 && exc == NULL)) {
        return -1;
    }
    bool failed = cancelled || exc != Py_None;
    int rc = exc != NULL && exc != Py_None ? report_failure(acceptor, stream, exc) : 0;
    Py_XDECREF(exc);
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    PyObject *transport = Py_NewRef(((StreamWriter *)stream)->transport);
    PyObject *closed = PyObject_CallMethodNoArgs(transport, failed ? state->s.abort : state->s.close);
    Py_DECREF(transport);
    Py_XDECREF(closed);
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
    }
    return rc < 0 || closed == NULL ? -1 : 0;
}

/* ---- A connection is there --------------------------------------------------------------------- */

/* transport.abort(): 0 or -1. */
static int
abort_transport(Acceptor *acceptor, PyObject *transport)
{
    PyObject *done = PyObject_CallMethodNoArgs(transport, acceptor->state->s.abort);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* No handler, no connection; and nobody would hear of a task (or NULL) that was made. Keeps the exception being raised. */
static void
give_up(Acceptor *acceptor, PyObject *transport, PyObject *task)
{
    PyObject *raised = PyErr_GetRaisedException();
    if (task != NULL && acceptor->tasks != NULL && PySet_Discard(acceptor->tasks, task) < 0) {
        PyErr_Clear(); /* it cannot be in a set */
    }
    if (task != NULL && corolla_any_cancel(acceptor->state, task, NULL) < 0) {
        PyErr_WriteUnraisable(task);
    }
    if (abort_transport(acceptor, transport) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    PyErr_SetRaisedException(raised);
}

int
acceptor_connected(PyObject *self, StreamProtocol *protocol, PyObject *reader, PyObject *transport)
{
    Acceptor *acceptor = (Acceptor *)self;
    PyObject *arg = NULL, *coro = NULL, *task = NULL, *watch = NULL;
    int rc = -1;
    if (acceptor_check(acceptor) < 0) {
        return -1;
    }
    if (acceptor->closed) {
        return abort_transport(acceptor, transport);
    }
    PyObject *stream = stream_new(acceptor->state, transport, (PyObject *)protocol, reader, acceptor->loop,
                                  STREAM_READ | STREAM_WRITE, true);
    arg = stream == NULL ? NULL : PyTuple_Pack(2, self, stream);
    if (arg == NULL) {
        goto fail;
    }
    PyObject *handler = Py_NewRef(acceptor->handler);
    coro = PyObject_CallOneArg(handler, stream);
    Py_DECREF(handler);
    task = coro == NULL ? NULL : stream_task(acceptor->state, acceptor->loop, coro);
    if (task == NULL || PySet_Add(acceptor->tasks, task) < 0) {
        goto fail;
    }
    watch = corolla_any_watch(acceptor->state, task, handler_done, Py_NewRef(arg));
    rc = watch == NULL ? -1 : 0;
fail:
    if (rc < 0) {
        give_up(acceptor, transport, task);
    }
    Py_XDECREF(watch);
    Py_XDECREF(arg);
    Py_XDECREF(task);
    Py_XDECREF(coro);
    Py_XDECREF(stream);
    return rc;
}

/* ---- The type -------------------------------------------------------------------------------- */

static PyMemberDef acceptor_members[] = {
    {"tasks", T_OBJECT, offsetof(Acceptor, tasks), READONLY, "The set of the handler's tasks that are not done."},
    {"closed", T_BOOL, offsetof(Acceptor, closed), 0, "Set once no handler is to begin any more."},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(acceptor_doc, "StreamAcceptor(handler, loop, limit)\n--\n\n"
                           "A protocol factory: each connection becomes a Stream and a task of handler(stream).");

static PyType_Slot acceptor_slots[] = {
    {Py_tp_doc, (void *)acceptor_doc}, {Py_tp_new, acceptor_tp_new},        {Py_tp_init, acceptor_tp_init},
    {Py_tp_dealloc, acceptor_dealloc}, {Py_tp_traverse, acceptor_traverse}, {Py_tp_clear, acceptor_clear},
    {Py_tp_call, acceptor_tp_call},    {Py_tp_members, acceptor_members},   {0, NULL},
};

static PyType_Spec acceptor_spec = {
    .name = "corolla._core.StreamAcceptor",
    .basicsize = sizeof(Acceptor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = acceptor_slots,
};

int
acceptor_init(PyObject *module, corolla_state *state)
{
    state->stream_acceptor_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &acceptor_spec, NULL);
    return state->stream_acceptor_type == NULL ? -1 : PyModule_AddType(module, state->stream_acceptor_type);
}
