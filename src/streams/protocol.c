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
    ((StreamFlow *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

/* reader and connected_cb: NULL or None for none. 0 or -1. */
static int
setup(StreamProtocol *protocol, PyObject *loop, PyObject *reader, PyObject *connected_cb)
{
    Py_XSETREF(protocol->flow.loop, Py_NewRef(loop));
    if (reader != NULL && reader != Py_None) {
        PyObject *ref = PyWeakref_NewRef(reader, NULL);
        if (ref == NULL) {
            return -1;
        }
        Py_XSETREF(protocol->reader_ref, ref);
        PyObject *stack = NULL;
        if (reader_is_plain(protocol->flow.state, reader)) {
            stack = Py_XNewRef(((StreamReader *)reader)->source_traceback);
        }
        else {
            stack = PyObject_GetAttr(reader, protocol->flow.state->s._source_traceback);
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
    PyObject *loop = given[2] == NULL || given[2] == Py_None ? PyObject_CallNoArgs(protocol->flow.state->get_event_loop)
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
    Py_VISIT(protocol->reader_ref);
    Py_VISIT(protocol->strong_reader);
    Py_VISIT(protocol->connected_cb);
    Py_VISIT(protocol->transport);
    Py_VISIT(protocol->task);
    Py_VISIT(protocol->source_traceback);
    Py_VISIT(protocol->acceptor);
    return flow_traverse(&protocol->flow, visit, arg);
}

static int
protocol_clear(PyObject *self)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    Py_CLEAR(protocol->acceptor);
    Py_CLEAR(protocol->reader_ref);
    Py_CLEAR(protocol->strong_reader);
    Py_CLEAR(protocol->connected_cb);
    Py_CLEAR(protocol->transport);
    Py_CLEAR(protocol->task);
    Py_CLEAR(protocol->source_traceback);
    flow_clear(&protocol->flow);
    return 0;
}

static void
protocol_finalize(PyObject *self)
{
    flow_hush((StreamFlow *)self);
}

static void
protocol_dealloc(PyObject *self)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = protocol->flow.state;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyObject_GC_UnTrack(self);
    if (protocol->flow.weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)protocol_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
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
    PyObject *fed = PyObject_CallMethodOneArg(reader, protocol->flow.state->s.feed_data, data);
    Py_DECREF(reader);
    return fed;
}

/* ---- The end ---------------------------------------------------------------------------------- */

/* The reader's end, with exc if not NULL. 0 or -1. */
static int
end_reader(StreamProtocol *protocol, PyObject *exc)
{
    corolla_state *state = protocol->flow.state;
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

static PyObject *
protocol_connection_lost(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = corolla_unpack_one("connection_lost", "exc", args, nargs, kwnames);
    if (exc == NULL) {
        return NULL;
    }
    StreamProtocol *protocol = (StreamProtocol *)self;
    if (flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    PyObject *reason = exc == Py_None ? NULL : exc;
    flow_set_lost(&protocol->flow, reason);
    /* A reader of somebody's own that raises leaves nobody waiting for ever. */
    PyObject *raised = end_reader(protocol, reason) < 0 ? PyErr_GetRaisedException() : NULL;
    int rc = flow_wake_lost(&protocol->flow);
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
    return flow_close_waiter((StreamFlow *)self);
}

static PyObject *
protocol_replace_transport(PyObject *self, PyObject *transport)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    Py_XSETREF(protocol->transport, Py_NewRef(transport));
    return protocol_learn_tls(protocol, transport) < 0 ? NULL : Py_NewRef(Py_None);
}

/* What asyncio's StreamWriter calls up to 3.12. */
static PyObject *
protocol_replace_writer(PyObject *self, PyObject *writer)
{
    PyObject *transport = PyObject_GetAttrString(writer, "transport");
    PyObject *done = transport == NULL ? NULL : protocol_replace_transport(self, transport);
    Py_XDECREF(transport);
    return done;
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
    return flow_close_waiter((StreamFlow *)self);
}

PyDoc_STRVAR(made_doc, "connection_made($self, /, transport)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(lost_doc, "connection_lost($self, /, exc)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(data_doc, "data_received($self, /, data)\n--\n\nSpecified by asyncio.Protocol.");
PyDoc_STRVAR(eof_doc, "eof_received($self, /)\n--\n\nSpecified by asyncio.Protocol.");

static PyMethodDef protocol_methods[] = {
    {"connection_made", (PyCFunction)(void (*)(void))protocol_connection_made, METH_FASTCALL | METH_KEYWORDS, made_doc},
    {"connection_lost", (PyCFunction)(void (*)(void))protocol_connection_lost, METH_FASTCALL | METH_KEYWORDS, lost_doc},
    {"data_received", (PyCFunction)(void (*)(void))protocol_data_received, METH_FASTCALL | METH_KEYWORDS, data_doc},
    {"eof_received", protocol_eof_received, METH_NOARGS, eof_doc},
    {"_get_close_waiter", protocol_get_close_waiter, METH_O, NULL},
    {"_replace_transport", protocol_replace_transport, METH_O, NULL},
    {"_replace_writer", protocol_replace_writer, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef protocol_getset[] = {
    {"_stream_reader", get_stream_reader, NULL, NULL, NULL},
    {"_closed", get_closed, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef protocol_members[] = {
    {"_loop", T_OBJECT, offsetof(StreamFlow, loop), READONLY, NULL},
    {"_transport", T_OBJECT, offsetof(StreamProtocol, transport), READONLY, NULL},
    {"_task", T_OBJECT, offsetof(StreamProtocol, task), READONLY, NULL},
    {"_strong_reader", T_OBJECT, offsetof(StreamProtocol, strong_reader), READONLY, NULL},
    {"_client_connected_cb", T_OBJECT, offsetof(StreamProtocol, connected_cb), READONLY, NULL},
    {"_source_traceback", T_OBJECT, offsetof(StreamProtocol, source_traceback), READONLY, NULL},
    {"_stream_reader_wr", T_OBJECT, offsetof(StreamProtocol, reader_ref), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(StreamFlow, paused), READONLY, NULL},
    {"_connection_lost", T_BOOL, offsetof(StreamFlow, lost), READONLY, NULL},
    {"_over_ssl", T_BOOL, offsetof(StreamProtocol, over_tls), 0, NULL},
    {"_reject_connection", T_BOOL, offsetof(StreamProtocol, reject), 0, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamFlow, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamFlow, weakrefs), READONLY, NULL},
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
    if (state->stream_protocol_type == NULL || corolla_add_methods(state->stream_protocol_type, flow_methods) < 0) {
        return -1;
    }
    state->stream_protocol_ops = &stream_native_ops;
    state->stream_reader_ops = &reader_native_ops;
    return PyModule_AddType(module, state->stream_protocol_type);
}
