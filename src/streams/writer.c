/* StreamWriter: what is written, and drain(). */
#include "streams.h"

/* ---- Life -------------------------------------------------------------------------------- */

static PyObject *
writer_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((StreamWriter *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

static void
setup(StreamWriter *writer, PyObject *transport, PyObject *protocol, PyObject *reader, PyObject *loop)
{
    Py_XSETREF(writer->transport, Py_NewRef(transport));
    Py_XSETREF(writer->protocol, Py_NewRef(protocol));
    Py_XSETREF(writer->reader, reader == Py_None ? NULL : Py_XNewRef(reader));
    Py_XSETREF(writer->loop, Py_NewRef(loop));
}

static int
writer_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"transport", "protocol", "reader", "loop", NULL};
    static const corolla_signature sig = {"StreamWriter", names, 4, 4, NULL};
    StreamWriter *writer = (StreamWriter *)self;
    PyObject *given[4];
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0) {
        return -1;
    }
    setup(writer, given[0], given[1], given[2], given[3]);
    return 0;
}

PyObject *
writer_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *reader, PyObject *loop)
{
    PyObject *self = writer_tp_new(state->stream_writer_type, NULL, NULL);
    if (self != NULL) {
        setup((StreamWriter *)self, transport, protocol, reader, loop);
    }
    return self;
}

int
writer_check(StreamWriter *writer)
{
    if (writer->transport == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "StreamWriter object is not initialized.");
        return -1;
    }
    return 0;
}

static int
writer_traverse(PyObject *self, visitproc visit, void *arg)
{
    StreamWriter *writer = (StreamWriter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(writer->dict);
    Py_VISIT(writer->transport);
    Py_VISIT(writer->protocol);
    Py_VISIT(writer->reader);
    Py_VISIT(writer->loop);
    return 0;
}

static int
writer_clear(PyObject *self)
{
    StreamWriter *writer = (StreamWriter *)self;
    Py_CLEAR(writer->dict);
    Py_CLEAR(writer->transport);
    Py_CLEAR(writer->protocol);
    Py_CLEAR(writer->reader);
    Py_CLEAR(writer->loop);
    return 0;
}

/* transport.is_closing(), of whatever kind: 1, 0 or -1. */
static int
is_closing(StreamWriter *writer)
{
    if (Py_IS_TYPE(writer->transport, writer->state->tcp_transport_type)) {
        return corolla_tcp_is_closing(writer->transport);
    }
    PyObject *transport = Py_NewRef(writer->transport);
    PyObject *answer = PyObject_CallMethodNoArgs(transport, writer->state->s.is_closing);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    Py_DECREF(transport);
    return closing;
}

/* Dropped open: closed, with a warning. 0 or -1. */
static int
close_dropped(StreamWriter *writer)
{
    int closing = is_closing(writer);
    if (closing != 0) {
        return closing < 0 ? -1 : 0;
    }
    PyObject *answer = PyObject_CallMethodNoArgs(writer->loop, writer->state->s.is_closed);
    int loop_closed = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (loop_closed != 0) {
        return loop_closed < 0 ? -1 : PyErr_WarnFormat(PyExc_ResourceWarning, 1, "loop is closed");
    }
    PyObject *done = PyObject_CallMethodNoArgs(writer->transport, writer->state->s.close);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    return PyErr_WarnFormat(PyExc_ResourceWarning, 1, "unclosed %R", writer);
}

static void
writer_finalize(PyObject *self)
{
    StreamWriter *writer = (StreamWriter *)self;
    if (writer->transport == NULL || writer->loop == NULL) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (close_dropped(writer) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static void
writer_dealloc(PyObject *self)
{
    StreamWriter *writer = (StreamWriter *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = writer->state;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyObject_GC_UnTrack(self);
    if (writer->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)writer_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
writer_repr(PyObject *self)
{
    StreamWriter *writer = (StreamWriter *)self;
    PyObject *shown = NULL;
    PyObject *name = PyObject_GetAttr((PyObject *)Py_TYPE(self), writer->state->s.__name__);
    PyObject *transport = Py_NewRef(writer->transport != NULL ? writer->transport : Py_None);
    PyObject *reader = Py_XNewRef(writer->reader);
    if (name != NULL) {
        shown = reader == NULL ? PyUnicode_FromFormat("<%S transport=%R>", name, transport)
                               : PyUnicode_FromFormat("<%S transport=%R reader=%R>", name, transport, reader);
    }
    Py_XDECREF(name);
    Py_XDECREF(reader);
    Py_DECREF(transport);
    return shown;
}

/* ---- Methods ------------------------------------------------------------------------------- */

/* transport.name(arg), arg NULL for none: new reference or NULL. */
static PyObject *
pass_on(PyObject *self, PyObject *name, PyObject *arg)
{
    StreamWriter *writer = (StreamWriter *)self;
    if (writer_check(writer) < 0) {
        return NULL;
    }
    PyObject *transport = Py_NewRef(writer->transport);
    PyObject *answer =
        arg == NULL ? PyObject_CallMethodNoArgs(transport, name) : PyObject_CallMethodOneArg(transport, name, arg);
    Py_DECREF(transport);
    return answer;
}

/* The same, and nothing is returned. */
static PyObject *
tell(PyObject *self, PyObject *name, PyObject *arg)
{
    PyObject *answer = pass_on(self, name, arg);
    if (answer == NULL) {
        return NULL;
    }
    Py_DECREF(answer);
    Py_RETURN_NONE;
}

static PyObject *
writer_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", NULL};
    static const corolla_signature sig = {"write", names, 1, 1, NULL};
    StreamWriter *writer = (StreamWriter *)self;
    PyObject *data;
    if (corolla_unpack(&sig, args, nargs, kwnames, &data) < 0 || writer_check(writer) < 0) {
        return NULL;
    }
    if (Py_IS_TYPE(writer->transport, writer->state->tcp_transport_type)) {
        PyObject *transport = Py_NewRef(writer->transport);
        int rc = corolla_tcp_write(transport, data);
        Py_DECREF(transport);
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    }
    return tell(self, writer->state->s.write, data);
}

static PyObject *
writer_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", NULL};
    static const corolla_signature sig = {"writelines", names, 1, 1, NULL};
    PyObject *data;
    if (corolla_unpack(&sig, args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    return tell(self, ((StreamWriter *)self)->state->s.writelines, data);
}

static PyObject *
writer_write_eof(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.write_eof, NULL);
}

static PyObject *
writer_can_write_eof(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.can_write_eof, NULL);
}

static PyObject *
writer_close(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.close, NULL);
}

static PyObject *
writer_is_closing(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.is_closing, NULL);
}

static PyObject *
writer_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature sig = {"get_extra_info", names, 1, 2, NULL};
    StreamWriter *writer = (StreamWriter *)self;
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0 || writer_check(writer) < 0) {
        return NULL;
    }
    PyObject *transport = Py_NewRef(writer->transport);
    PyObject *stack[3] = {transport, given[0], given[1] != NULL ? given[1] : Py_None};
    PyObject *answer =
        PyObject_VectorcallMethod(writer->state->s.get_extra_info, stack, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(transport);
    return answer;
}

/* ---- drain() ------------------------------------------------------------------------------- */

typedef struct {
    StreamWriter *writer; /* owned */
    PyObject *waiter;     /* owned, or NULL */
} WriterState;

static int
state_traverse(void *data, visitproc visit, void *arg)
{
    WriterState *st = data;
    Py_VISIT(st->writer);
    Py_VISIT(st->waiter);
    return 0;
}

static void
state_clear(void *data)
{
    WriterState *st = data;
    Py_CLEAR(st->writer);
    Py_CLEAR(st->waiter);
}

static PyObject *
new_coroutine(PyObject *self, const corolla_coro_spec *spec)
{
    corolla_coro *co = corolla_coro_new(((StreamWriter *)self)->state, spec);
    if (co != NULL) {
        ((WriterState *)corolla_coro_state(co))->writer = (StreamWriter *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

/* Raises the reader's exception, if it has one. 0 or -1. */
static int
check_reader(StreamWriter *writer)
{
    if (writer->reader == NULL) {
        return 0;
    }
    PyObject *exc;
    if (reader_is_plain(writer->state, writer->reader)) {
        exc = Py_XNewRef(((StreamReader *)writer->reader)->exception);
    }
    else {
        PyObject *reader = Py_NewRef(writer->reader);
        exc = PyObject_CallMethodNoArgs(reader, writer->state->s.exception);
        Py_DECREF(reader);
        if (exc == NULL) {
            return -1;
        }
        if (exc == Py_None) {
            Py_CLEAR(exc);
        }
    }
    if (exc == NULL) {
        return 0;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_DECREF(exc);
    return -1;
}

/* What drain() waits for: as protocol_drain(), of whatever protocol; *waiter is an awaitable. */
static int
begin_drain(StreamWriter *writer, PyObject **waiter)
{
    if (protocol_is_plain(writer->state, writer->protocol)) {
        return protocol_drain((StreamProtocol *)writer->protocol, waiter);
    }
    PyObject *protocol = Py_NewRef(writer->protocol);
    *waiter = PyObject_CallMethodNoArgs(protocol, writer->state->s._drain_helper);
    Py_DECREF(protocol);
    return *waiter == NULL ? -1 : 1;
}

static corolla_step
drain_step(corolla_coro *co, PyObject *value)
{
    WriterState *st = corolla_coro_state(co);
    StreamWriter *writer = st->writer;

    COROLLA_BEGIN(co);

    if (writer_check(writer) < 0 || check_reader(writer) < 0) {
        return COROLLA_RAISE;
    }
    int closing = is_closing(writer);
    if (closing < 0) {
        return COROLLA_RAISE;
    }
    if (closing) {
        /* Lets connection_lost() be called: a loop of write() and drain() is to find out. */
        COROLLA_PAUSE(co);
        if (value == NULL || writer_check(writer) < 0) {
            return COROLLA_RAISE;
        }
    }
    int wait = begin_drain(writer, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    COROLLA_AWAIT(co, st->waiter);
    if (writer->protocol != NULL && protocol_is_plain(co->state, writer->protocol)) {
        protocol_drained((StreamProtocol *)writer->protocol, st->waiter);
    }
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec drain_spec = {
    .name = "drain",
    .qualname = "StreamWriter.drain",
    .size = sizeof(WriterState),
    .step = drain_step,
    .traverse = state_traverse,
    .clear = state_clear,
};

static PyObject *
writer_drain(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &drain_spec);
}

/* ---- wait_closed() --------------------------------------------------------------------------- */

static corolla_step
wait_closed_step(corolla_coro *co, PyObject *value)
{
    WriterState *st = corolla_coro_state(co);
    StreamWriter *writer = st->writer;

    COROLLA_BEGIN(co);

    if (writer_check(writer) < 0) {
        return COROLLA_RAISE;
    }
    PyObject *protocol = Py_NewRef(writer->protocol);
    st->waiter = protocol_is_plain(writer->state, protocol)
                     ? protocol_close_waiter((StreamProtocol *)protocol)
                     : PyObject_CallMethodOneArg(protocol, writer->state->s._get_close_waiter, (PyObject *)writer);
    Py_DECREF(protocol);
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_closed_spec = {
    .name = "wait_closed",
    .qualname = "StreamWriter.wait_closed",
    .size = sizeof(WriterState),
    .step = wait_closed_step,
    .traverse = state_traverse,
    .clear = state_clear,
};

static PyObject *
writer_wait_closed(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &wait_closed_spec);
}

/* ---- start_tls() ------------------------------------------------------------------------------- */

typedef struct {
    StreamWriter *writer; /* owned */
    PyObject *waiter;     /* owned: what is awaited */
    PyObject *options[4]; /* owned, or NULL: sslcontext and the keyword arguments */
} TlsState;

static int
tls_traverse(void *data, visitproc visit, void *arg)
{
    TlsState *st = data;
    Py_VISIT(st->writer);
    Py_VISIT(st->waiter);
    for (int i = 0; i < 4; i++) {
        Py_VISIT(st->options[i]);
    }
    return 0;
}

static void
tls_clear(void *data)
{
    TlsState *st = data;
    Py_CLEAR(st->writer);
    Py_CLEAR(st->waiter);
    for (int i = 0; i < 4; i++) {
        Py_CLEAR(st->options[i]);
    }
}

static const char *const tls_names[] = {"sslcontext", "server_hostname", "ssl_handshake_timeout",
                                        "ssl_shutdown_timeout", NULL};

/* Whether this end accepted the connection: 1, 0 or -1. */
static int
is_server_side(StreamWriter *writer)
{
    if (protocol_is_plain(writer->state, writer->protocol)) {
        return ((StreamProtocol *)writer->protocol)->connected_cb != NULL;
    }
    PyObject *callback = PyObject_GetAttr(writer->protocol, writer->state->s._client_connected_cb);
    int server_side = callback == NULL ? -1 : callback != Py_None;
    Py_XDECREF(callback);
    return server_side;
}

/* loop.start_tls(transport, protocol, sslcontext, ...): the coroutine, new reference or NULL. */
static PyObject *
call_start_tls(TlsState *st)
{
    StreamWriter *writer = st->writer;
    int server_side = is_server_side(writer);
    PyObject *method = NULL, *args = NULL, *kwargs = NULL, *coro = NULL;
    if (server_side < 0) {
        return NULL;
    }
    method = PyObject_GetAttr(writer->loop, writer->state->s.start_tls);
    args = PyTuple_Pack(3, writer->transport, writer->protocol, st->options[0]);
    kwargs = Py_BuildValue("{s:O}", "server_side", server_side ? Py_True : Py_False);
    if (method == NULL || args == NULL || kwargs == NULL) {
        goto fail;
    }
    for (int i = 1; i < 4; i++) {
        PyObject *option = st->options[i] != NULL ? st->options[i] : Py_None;
        if (PyDict_SetItemString(kwargs, tls_names[i], option) < 0) {
            goto fail;
        }
    }
    coro = PyObject_Call(method, args, kwargs);
fail:
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return coro;
}

/* The connection goes on over that transport. 0 or -1. */
static int
replace_transport(StreamWriter *writer, PyObject *transport)
{
    Py_XSETREF(writer->transport, Py_NewRef(transport));
    PyObject *protocol = Py_NewRef(writer->protocol);
    PyObject *done = PyObject_CallMethodOneArg(protocol, writer->state->s._replace_transport, transport);
    Py_DECREF(protocol);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static corolla_step
start_tls_step(corolla_coro *co, PyObject *value)
{
    TlsState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (writer_check(st->writer) < 0) {
        return COROLLA_RAISE;
    }
    st->waiter = PyObject_CallMethodNoArgs((PyObject *)st->writer, co->state->s.drain);
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL || writer_check(st->writer) < 0) {
        return COROLLA_RAISE;
    }
    Py_XSETREF(st->waiter, call_start_tls(st));
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL || writer_check(st->writer) < 0 || replace_transport(st->writer, value) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec start_tls_spec = {
    .name = "start_tls",
    .qualname = "StreamWriter.start_tls",
    .size = sizeof(TlsState),
    .step = start_tls_step,
    .traverse = tls_traverse,
    .clear = tls_clear,
};

static PyObject *
writer_start_tls(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const corolla_signature sig = {"start_tls", tls_names, 1, 1, NULL};
    PyObject *given[4];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(((StreamWriter *)self)->state, &start_tls_spec);
    if (co != NULL) {
        TlsState *st = corolla_coro_state(co);
        st->writer = (StreamWriter *)Py_NewRef(self);
        for (int i = 0; i < 4; i++) {
            st->options[i] = Py_XNewRef(given[i]);
        }
    }
    return (PyObject *)co;
}

/* ---- The type -------------------------------------------------------------------------------- */

PyDoc_STRVAR(write_doc, "write($self, /, data)\n--\n\n"
                        "Send bytes; what the kernel does not take at once is queued. Follow it by `await drain()`.\n\n"
                        "data: a bytes-like object. Specified by asyncio.StreamWriter.write().");
PyDoc_STRVAR(writelines_doc, "writelines($self, /, data)\n--\n\n"
                             "Send each of an iterable of bytes-like objects, in order.\n\n"
                             "Specified by asyncio.StreamWriter.writelines().");
PyDoc_STRVAR(write_eof_doc, "write_eof($self, /)\n--\n\n"
                            "Close the writing side once what was written has been sent.");
PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\nReturn whether the transport supports write_eof().");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Close the connection once what was written has been sent. See wait_closed().");
PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\nReturn True once the connection is closing or closed.");
PyDoc_STRVAR(extra_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "What the transport knows under that name. Specified by asyncio.BaseTransport.get_extra_info().");
PyDoc_STRVAR(drain_doc,
             "drain($self, /)\n--\n\n"
             "Coroutine: wait until it makes sense to write on.\n\n"
             "Returns at once unless the transport's queue has passed its high-water mark. Raises what the reader was\n"
             "given as exception, and ConnectionResetError once the connection is lost. Any number of coroutines may\n"
             "wait. Specified by asyncio.StreamWriter.drain().");
PyDoc_STRVAR(wait_closed_doc, "wait_closed($self, /)\n--\n\n"
                              "Coroutine: wait until the connection is closed. Raises what it was lost with.\n\n"
                              "Specified by asyncio.StreamWriter.wait_closed().");
PyDoc_STRVAR(start_tls_doc, "start_tls($self, /, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None,\n"
                            "          ssl_shutdown_timeout=None)\n--\n\n"
                            "Coroutine: go on over TLS, with an ssl.SSLContext. The timeouts are seconds.\n\n"
                            "Specified by asyncio.StreamWriter.start_tls().");

static PyMethodDef writer_methods[] = {
    {"write", (PyCFunction)(void (*)(void))writer_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))writer_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"write_eof", writer_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", writer_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"close", writer_close, METH_NOARGS, close_doc},
    {"is_closing", writer_is_closing, METH_NOARGS, is_closing_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))writer_get_extra_info, METH_FASTCALL | METH_KEYWORDS, extra_doc},
    {"drain", writer_drain, METH_NOARGS, drain_doc},
    {"wait_closed", writer_wait_closed, METH_NOARGS, wait_closed_doc},
    {"start_tls", (PyCFunction)(void (*)(void))writer_start_tls, METH_FASTCALL | METH_KEYWORDS, start_tls_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef writer_members[] = {
    {"transport", T_OBJECT, offsetof(StreamWriter, transport), READONLY, "The transport."},
    {"_transport", T_OBJECT, offsetof(StreamWriter, transport), READONLY, NULL},
    {"_protocol", T_OBJECT, offsetof(StreamWriter, protocol), READONLY, NULL},
    {"_reader", T_OBJECT, offsetof(StreamWriter, reader), READONLY, NULL},
    {"_loop", T_OBJECT, offsetof(StreamWriter, loop), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamWriter, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamWriter, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(writer_doc, "StreamWriter(transport, protocol, reader, loop)\n--\n\n"
                         "Writes to a transport. Made by open_connection() and start_server().\n\n"
                         "Specified by asyncio.StreamWriter.");

static PyType_Slot writer_slots[] = {
    {Py_tp_doc, (void *)writer_doc},
    {Py_tp_new, writer_tp_new},
    {Py_tp_init, writer_tp_init},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_finalize, writer_finalize},
    {Py_tp_traverse, writer_traverse},
    {Py_tp_clear, writer_clear},
    {Py_tp_repr, writer_repr},
    {Py_tp_methods, writer_methods},
    {Py_tp_members, writer_members},
    {0, NULL},
};

static PyType_Spec writer_spec = {
    .name = "corolla.StreamWriter",
    .basicsize = sizeof(StreamWriter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = writer_slots,
};

int
writer_init(PyObject *module, corolla_state *state)
{
    state->stream_writer_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &writer_spec, NULL);
    return state->stream_writer_type == NULL ? -1 : PyModule_AddType(module, state->stream_writer_type);
}
