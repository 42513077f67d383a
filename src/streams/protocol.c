/* StreamReaderProtocol: what stands between a transport and its reader and writer. On our transports, bytes go to the
 * reader's buffer without a call into Python. */
#include "streams.h"

/* ---- Life -------------------------------------------------------------------------------- */

static PyObject *
protocol_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((StreamProtocol *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

/* reader and connected_cb: NULL or None for none. 0 or -1. */
static int
setup(StreamProtocol *protocol, PyObject *loop, PyObject *reader, PyObject *connected_cb)
{
    Py_XSETREF(protocol->loop, Py_NewRef(loop));
    if (reader != NULL && reader != Py_None) {
        PyObject *ref = PyWeakref_NewRef(reader, NULL);
        if (ref == NULL) {
            return -1;
        }
        Py_XSETREF(protocol->reader_ref, ref);
        PyObject *stack = NULL;
        if (reader_is_plain(protocol->state, reader)) {
            stack = Py_XNewRef(((StreamReader *)reader)->source_traceback);
        }
        else {
            stack = PyObject_GetAttr(reader, protocol->state->s._source_traceback);
            if (stack == NULL) {
                return -1;
            }
        }
        Py_XSETREF(protocol->source_traceback, stack);
    }
    if (connected_cb != NULL && connected_cb != Py_None) {
        Py_XSETREF(protocol->connected_cb, Py_NewRef(connected_cb));
        /* Nobody else holds it before the callback gets it. */
        Py_XSETREF(protocol->strong_reader, reader == Py_None ? NULL : Py_XNewRef(reader));
    }
    return 0;
}

static int
protocol_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"stream_reader", "client_connected_cb", "loop", NULL};
    static const corolla_signature sig = {"StreamReaderProtocol", names, 1, 3, NULL};
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyObject *given[3];
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0) {
        return -1;
    }
    PyObject *loop = given[2] == NULL || given[2] == Py_None ? PyObject_CallNoArgs(protocol->state->get_event_loop)
                                                             : Py_NewRef(given[2]);
    if (loop == NULL) {
        return -1;
    }
    int rc = setup(protocol, loop, given[0], given[1]);
    Py_DECREF(loop);
    return rc;
}

PyObject *
protocol_new(corolla_state *state, PyObject *loop, PyObject *reader, PyObject *connected_cb)
{
    PyObject *self = protocol_tp_new(state->stream_protocol_type, NULL, NULL);
    if (self != NULL && setup((StreamProtocol *)self, loop, reader, connected_cb) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static int
protocol_traverse(PyObject *self, visitproc visit, void *arg)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(protocol->dict);
    Py_VISIT(protocol->loop);
    Py_VISIT(protocol->reader_ref);
    Py_VISIT(protocol->strong_reader);
    Py_VISIT(protocol->connected_cb);
    Py_VISIT(protocol->transport);
    Py_VISIT(protocol->task);
    Py_VISIT(protocol->closed);
    Py_VISIT(protocol->lost_with);
    Py_VISIT(protocol->source_traceback);
    Py_VISIT(protocol->acceptor);
    int rc = corolla_waiters_traverse(&protocol->drainers, visit, arg);
    return rc != 0 ? rc : corolla_waiters_traverse(&protocol->closers, visit, arg);
}

static int
protocol_clear(PyObject *self)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    corolla_waiters_clear(&protocol->drainers);
    corolla_waiters_clear(&protocol->closers);
    Py_CLEAR(protocol->acceptor);
    Py_CLEAR(protocol->dict);
    Py_CLEAR(protocol->loop);
    Py_CLEAR(protocol->reader_ref);
    Py_CLEAR(protocol->strong_reader);
    Py_CLEAR(protocol->connected_cb);
    Py_CLEAR(protocol->transport);
    Py_CLEAR(protocol->task);
    Py_CLEAR(protocol->closed);
    Py_CLEAR(protocol->lost_with);
    Py_CLEAR(protocol->source_traceback);
    return 0;
}

/* Nobody need have waited for the end: an exception there is not reported. */
static void
hush(StreamProtocol *protocol)
{
    PyObject *closed = protocol->closed;
    if (closed == NULL || protocol->lost_with == NULL) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    int cancelled = corolla_any_cancelled(protocol->state, closed);
    PyObject *exc = cancelled == 0 ? corolla_any_exception(protocol->state, closed) : NULL;
    if (exc == NULL && PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)protocol);
    }
    Py_XDECREF(exc);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static void
protocol_finalize(PyObject *self)
{
    hush((StreamProtocol *)self);
}

static void
protocol_dealloc(PyObject *self)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = protocol->state;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyObject_GC_UnTrack(self);
    if (protocol->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)protocol_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

int
protocol_check(StreamProtocol *protocol)
{
    if (protocol->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "StreamReaderProtocol object is not initialized.");
        return -1;
    }
    return 0;
}

PyObject *
protocol_reader(StreamProtocol *protocol)
{
    PyObject *reader = NULL;
    if (protocol->reader_ref != NULL) {
        (void)PyWeakref_GetRef(protocol->reader_ref, &reader); /* it is a weak reference: that does not fail */
    }
    return reader;
}

/* ---- Futures of any kind ------------------------------------------------------------------- */

PyObject *
stream_future(corolla_state *state, PyObject *loop)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core != NULL && !(core->overridden & COROLLA_OWN_CREATE_FUTURE)) {
        return corolla_future_new(core);
    }
    return PyObject_CallMethodNoArgs(loop, state->s.create_future);
}

/* Result None or, with exc not NULL, that exception, unless it is done. 0 or -1. */
static int
settle_future(corolla_state *state, PyObject *future, PyObject *exc)
{
    int done = corolla_any_done(state, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    return exc == NULL ? corolla_any_set_result(state, future, Py_None) : corolla_any_set_exception(state, future, exc);
}

PyObject *
protocol_close_waiter(StreamProtocol *protocol)
{
    if (protocol_check(protocol) < 0) {
        return NULL;
    }
    if (protocol->closed == NULL) {
        PyObject *closed = stream_future(protocol->state, protocol->loop);
        if (closed == NULL || (protocol->lost && settle_future(protocol->state, closed, protocol->lost_with) < 0)) {
            Py_XDECREF(closed);
            return NULL;
        }
        Py_XSETREF(protocol->closed, closed);
    }
    return Py_NewRef(protocol->closed);
}

/* ---- Flow control -------------------------------------------------------------------------- */

/* A new future at the end of the queue: 1 with a new reference in *waiter, or -1. */
static int
wait_among(StreamProtocol *protocol, corolla_waiters *waiters, PyObject **waiter)
{
    PyObject *future = stream_future(protocol->state, protocol->loop);
    if (future == NULL || corolla_waiters_push(waiters, future) < 0) {
        Py_XDECREF(future);
        return -1;
    }
    *waiter = future;
    return 1;
}

int
protocol_drain(StreamProtocol *protocol, PyObject **waiter)
{
    *waiter = NULL;
    if (protocol_check(protocol) < 0) {
        return -1;
    }
    if (protocol->lost) {
        PyErr_SetString(PyExc_ConnectionResetError, "Connection lost");
        return -1;
    }
    if (!protocol->paused) {
        return 0;
    }
    return wait_among(protocol, &protocol->drainers, waiter);
}

int
protocol_ended(StreamProtocol *protocol, PyObject **waiter)
{
    *waiter = NULL;
    if (protocol_check(protocol) < 0) {
        return -1;
    }
    if (!protocol->lost) {
        return wait_among(protocol, &protocol->closers, waiter);
    }
    if (protocol->lost_with == NULL) {
        return 0;
    }
    stream_raise(protocol->lost_with);
    return -1;
}

void
protocol_waited(StreamProtocol *protocol, PyObject *waiter)
{
    if (!corolla_waiters_remove(&protocol->drainers, waiter)) {
        (void)corolla_waiters_remove(&protocol->closers, waiter);
    }
}

/* Tells everyone who waits there. exc may be NULL. 0 or -1. */
static int
wake_all(StreamProtocol *protocol, corolla_waiters *waiters, PyObject *exc)
{
    for (uint32_t i = 0; i < waiters->count; i++) {
        PyObject *waiter = Py_NewRef(corolla_waiters_at(waiters, i)); /* what it runs may change the queue */
        int rc = settle_future(protocol->state, waiter, exc);
        Py_DECREF(waiter);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* In debug mode: logger.debug(format, self). 0 or -1. */
static int
log_debug(StreamProtocol *protocol, const char *format)
{
    corolla_core *core = corolla_core_of(protocol->state, protocol->loop);
    int debug;
    if (core != NULL) {
        debug = core->debug;
    }
    else {
        PyObject *answer = PyObject_CallMethodNoArgs(protocol->loop, protocol->state->s.get_debug);
        debug = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
    }
    if (debug <= 0) {
        return debug;
    }
    PyObject *done = PyObject_CallMethod(protocol->state->logger, "debug", "sO", format, protocol);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
protocol_pause_writing(PyObject *self, PyObject *unused)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (protocol_check(protocol) < 0) {
        return NULL;
    }
    if (protocol->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    protocol->paused = true;
    return log_debug(protocol, "%r pauses writing") < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
protocol_resume_writing(PyObject *self, PyObject *unused)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (protocol_check(protocol) < 0) {
        return NULL;
    }
    if (!protocol->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    protocol->paused = false;
    if (log_debug(protocol, "%r resumes writing") < 0 || wake_all(protocol, &protocol->drainers, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- Bytes ------------------------------------------------------------------------------------ */

static PyObject *
protocol_data_received(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("data_received", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyObject *reader = protocol_reader(protocol);
    if (reader == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *fed = PyObject_CallMethodOneArg(reader, protocol->state->s.feed_data, data);
    Py_DECREF(reader);
    return fed;
}

/* ---- The end ---------------------------------------------------------------------------------- */

/* The reader's end, with exc if not NULL. 0 or -1. */
static int
end_reader(StreamProtocol *protocol, PyObject *exc)
{
    corolla_state *state = protocol->state;
    PyObject *reader = protocol_reader(protocol);
    if (reader == NULL) {
        return 0;
    }
    int rc;
    if (reader_is_plain(state, reader)) {
        rc = exc == NULL ? reader_feed_eof((StreamReader *)reader) : reader_set_exception((StreamReader *)reader, exc);
    }
    else {
        PyObject *told = exc == NULL ? PyObject_CallMethodNoArgs(reader, state->s.feed_eof)
                                     : PyObject_CallMethodOneArg(reader, state->s.set_exception, exc);
        rc = told == NULL ? -1 : 0;
        Py_XDECREF(told);
    }
    Py_DECREF(reader);
    return rc;
}

static PyObject *
protocol_eof_received(PyObject *self, PyObject *unused)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (end_reader(protocol, NULL) < 0) {
        return NULL;
    }
    /* TLS has no half-closed connections: true would be a warning there. */
    return PyBool_FromLong(!protocol->over_tls);
}

/* Tells everyone who waits for the end or in drain(). exc may be NULL. 0 or -1. */
static int
wake_after_end(StreamProtocol *protocol, PyObject *exc)
{
    if (protocol->closed != NULL) {
        PyObject *closed = Py_NewRef(protocol->closed);
        int rc = settle_future(protocol->state, closed, exc);
        Py_DECREF(closed);
        if (rc < 0) {
            return -1;
        }
    }
    if (wake_all(protocol, &protocol->closers, exc) < 0) {
        return -1;
    }
    return protocol->paused ? wake_all(protocol, &protocol->drainers, exc) : 0;
}

static PyObject *
protocol_connection_lost(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = corolla_unpack_one("connection_lost", "exc", args, nargs, kwnames);
    if (exc == NULL) {
        return NULL;
    }
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (protocol_check(protocol) < 0) {
        return NULL;
    }
    PyObject *reason = exc == Py_None ? NULL : exc;
    protocol->lost = true;
    Py_XSETREF(protocol->lost_with, Py_XNewRef(reason));
    /* A reader of somebody's own that raises leaves nobody waiting for ever. */
    PyObject *raised = end_reader(protocol, reason) < 0 ? PyErr_GetRaisedException() : NULL;
    int rc = wake_after_end(protocol, reason);
    Py_CLEAR(protocol->reader_ref);
    Py_CLEAR(protocol->task);
    Py_CLEAR(protocol->transport);
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
        return NULL;
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- What the standard library's streams and its tests use -------------------------------------- */

static PyObject *
protocol_get_close_waiter(PyObject *self, PyObject *stream)
{
    return protocol_close_waiter((StreamProtocol *)self);
}

static PyObject *
protocol_replace_transport(PyObject *self, PyObject *transport)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    Py_XSETREF(protocol->transport, Py_NewRef(transport));
    return protocol_learn_tls(protocol, transport) < 0 ? NULL : Py_NewRef(Py_None);
}

typedef struct {
    StreamProtocol *protocol; /* owned */
    PyObject *waiter;         /* owned */
} DrainState;

static int
drain_traverse(void *data, visitproc visit, void *arg)
{
    DrainState *st = data;
    Py_VISIT(st->protocol);
    Py_VISIT(st->waiter);
    return 0;
}

static void
drain_clear(void *data)
{
    DrainState *st = data;
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->waiter);
}

static corolla_step
drain_step(corolla_coro *co, PyObject *value)
{
    DrainState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    int wait = protocol_drain(st->protocol, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    COROLLA_AWAIT(co, st->waiter);
    protocol_waited(st->protocol, st->waiter);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec drain_spec = {
    .name = "_drain_helper",
    .qualname = "StreamReaderProtocol._drain_helper",
    .size = sizeof(DrainState),
    .step = drain_step,
    .traverse = drain_traverse,
    .clear = drain_clear,
};

static PyObject *
protocol_drain_helper(PyObject *self, PyObject *unused)
{
    corolla_coro *co = corolla_coro_new(((StreamProtocol *)self)->state, &drain_spec);
    if (co != NULL) {
        ((DrainState *)corolla_coro_state(co))->protocol = (StreamProtocol *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

static PyObject *
get_stream_reader(PyObject *self, void *unused)
{
    PyObject *reader = protocol_reader((StreamProtocol *)self);
    return reader != NULL ? reader : Py_NewRef(Py_None);
}

static PyObject *
get_closed(PyObject *self, void *unused)
{
    return protocol_close_waiter((StreamProtocol *)self);
}

PyDoc_STRVAR(made_doc, "connection_made($self, /, transport)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(lost_doc, "connection_lost($self, /, exc)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(data_doc, "data_received($self, /, data)\n--\n\nSpecified by asyncio.Protocol.");
PyDoc_STRVAR(eof_doc, "eof_received($self, /)\n--\n\nSpecified by asyncio.Protocol.");
PyDoc_STRVAR(pause_doc, "pause_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(resume_doc, "resume_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");

static PyMethodDef protocol_methods[] = {
    {"connection_made", (PyCFunction)(void (*)(void))protocol_connection_made, METH_FASTCALL | METH_KEYWORDS, made_doc},
    {"connection_lost", (PyCFunction)(void (*)(void))protocol_connection_lost, METH_FASTCALL | METH_KEYWORDS, lost_doc},
    {"data_received", (PyCFunction)(void (*)(void))protocol_data_received, METH_FASTCALL | METH_KEYWORDS, data_doc},
    {"eof_received", protocol_eof_received, METH_NOARGS, eof_doc},
    {"pause_writing", protocol_pause_writing, METH_NOARGS, pause_doc},
    {"resume_writing", protocol_resume_writing, METH_NOARGS, resume_doc},
    {"_drain_helper", protocol_drain_helper, METH_NOARGS, NULL},
    {"_get_close_waiter", protocol_get_close_waiter, METH_O, NULL},
    {"_replace_transport", protocol_replace_transport, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef protocol_getset[] = {
    {"_stream_reader", get_stream_reader, NULL, NULL, NULL},
    {"_closed", get_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef protocol_members[] = {
    {"_loop", T_OBJECT, offsetof(StreamProtocol, loop), READONLY, NULL},
    {"_transport", T_OBJECT, offsetof(StreamProtocol, transport), READONLY, NULL},
    {"_task", T_OBJECT, offsetof(StreamProtocol, task), READONLY, NULL},
    {"_strong_reader", T_OBJECT, offsetof(StreamProtocol, strong_reader), READONLY, NULL},
    {"_client_connected_cb", T_OBJECT, offsetof(StreamProtocol, connected_cb), READONLY, NULL},
    {"_source_traceback", T_OBJECT, offsetof(StreamProtocol, source_traceback), READONLY, NULL},
    {"_stream_reader_wr", T_OBJECT, offsetof(StreamProtocol, reader_ref), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(StreamProtocol, paused), READONLY, NULL},
    {"_connection_lost", T_BOOL, offsetof(StreamProtocol, lost), READONLY, NULL},
    {"_over_ssl", T_BOOL, offsetof(StreamProtocol, over_tls), 0, NULL},
    {"_reject_connection", T_BOOL, offsetof(StreamProtocol, reject), 0, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamProtocol, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamProtocol, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(protocol_doc,
             "StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)\n--\n\n"
             "Feeds a StreamReader from a transport.\n\n"
             "client_connected_cb: called with a reader and a StreamWriter once the connection is there; a coroutine\n"
             "that it gives becomes a task. Specified by asyncio.StreamReaderProtocol.");

static PyType_Slot protocol_slots[] = {
    {Py_tp_doc, (void *)protocol_doc},
    {Py_tp_new, protocol_tp_new},
    {Py_tp_init, protocol_tp_init},
    {Py_tp_dealloc, protocol_dealloc},
    {Py_tp_finalize, protocol_finalize},
    {Py_tp_traverse, protocol_traverse},
    {Py_tp_clear, protocol_clear},
    {Py_tp_methods, protocol_methods},
    {Py_tp_getset, protocol_getset},
    {Py_tp_members, protocol_members},
    {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "corolla.StreamReaderProtocol",
    .basicsize = sizeof(StreamProtocol),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = protocol_slots,
};

int
protocol_init(PyObject *module, corolla_state *state)
{
    state->stream_protocol_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &protocol_spec, state->asyncio_Protocol);
    if (state->stream_protocol_type == NULL) {
        return -1;
    }
    state->stream_protocol_ops = &stream_native_ops;
    return PyModule_AddType(module, state->stream_protocol_type);
}
