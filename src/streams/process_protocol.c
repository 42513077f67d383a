/* SubprocessStreamProtocol: what stands between a subprocess's transport and its three streams. */
#include "process.h"

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
    ((SubprocessProtocol *)self)->limit = STREAM_LIMIT;
    corolla_state_hold(state);
    return self;
}

static int
protocol_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"limit", "loop", NULL};
    static const corolla_signature sig = {"SubprocessStreamProtocol", names, 2, 2, NULL};
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    PyObject *given[2];
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0 || reader_parse_limit(given[0], &protocol->limit) < 0) {
        return -1;
    }
    Py_XSETREF(protocol->flow.loop, Py_NewRef(given[1]));
    return 0;
}

PyObject *
subprocess_protocol_new(corolla_state *state, PyObject *loop, size_t limit)
{
    PyObject *self = protocol_tp_new(state->subprocess_protocol_type, NULL, NULL);
    if (self != NULL) {
        ((StreamFlow *)self)->loop = Py_NewRef(loop);
        ((SubprocessProtocol *)self)->limit = limit;
    }
    return self;
}

static int
protocol_traverse(PyObject *self, visitproc visit, void *arg)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    Py_VISIT(protocol->transport);
    for (int fd = 0; fd < 3; fd++) {
        Py_VISIT(protocol->streams[fd]);
    }
    int rc = corolla_waiters_traverse(&protocol->watchers, visit, arg);
    return rc != 0 ? rc : flow_traverse(&protocol->flow, visit, arg);
}

static int
protocol_clear(PyObject *self)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    Py_CLEAR(protocol->transport);
    for (int fd = 0; fd < 3; fd++) {
        Py_CLEAR(protocol->streams[fd]);
    }
    corolla_waiters_clear(&protocol->watchers);
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
    StreamFlow *flow = (StreamFlow *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = flow->state;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyObject_GC_UnTrack(self);
    if (flow->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)protocol_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
protocol_repr(PyObject *self)
{
    static const char *const formats[3] = {"%U stdin=%R", "%U stdout=%R", "%U stderr=%R"};
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    PyObject *shown = PyObject_GetAttr((PyObject *)Py_TYPE(self), protocol->flow.state->s.__name__);
    for (int fd = 0; shown != NULL && fd < 3; fd++) {
        PyObject *stream = Py_XNewRef(protocol->streams[fd]);
        if (stream != NULL && stream != Py_None) {
            Py_XSETREF(shown, PyUnicode_FromFormat(formats[fd], shown, stream));
        }
        Py_XDECREF(stream);
    }
    PyObject *whole = shown == NULL ? NULL : PyUnicode_FromFormat("<%U>", shown);
    Py_XDECREF(shown);
    return whole;
}

/* ---- The beginning --------------------------------------------------------------------------- */

/* transport.get_pipe_transport(fd): new reference, None for none, or NULL. */
static PyObject *
pipe_of(SubprocessProtocol *protocol, PyObject *transport, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    PyObject *pipe = number == NULL
                         ? NULL
                         : PyObject_CallMethodOneArg(transport, protocol->flow.state->s.get_pipe_transport, number);
    Py_XDECREF(number);
    return pipe;
}

/* The reader of stdout or stderr, or the writer of stdin, if that is a pipe. 0 or -1. */
static int
make_stream(SubprocessProtocol *protocol, PyObject *transport, int fd)
{
    corolla_state *state = protocol->flow.state;
    PyObject *pipe = pipe_of(protocol, transport, fd);
    if (pipe == NULL || pipe == Py_None) {
        Py_XDECREF(pipe);
        return pipe == NULL ? -1 : 0;
    }
    PyObject *stream = fd == 0 ? writer_new(state, pipe, (PyObject *)protocol, NULL, protocol->flow.loop)
                               : reader_new(state, protocol->flow.loop, protocol->limit);
    if (stream != NULL && fd != 0) {
        ((StreamReader *)stream)->transport = Py_NewRef(pipe);
        protocol->reading[fd] = true;
    }
    Py_DECREF(pipe);
    if (stream == NULL) {
        return -1;
    }
    Py_XSETREF(protocol->streams[fd], stream);
    return 0;
}

static PyObject *
subprocess_connection_made(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *transport = corolla_unpack_one("connection_made", "transport", args, nargs, kwnames);
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    if (transport == NULL || flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    Py_XSETREF(protocol->transport, Py_NewRef(transport));
    if (make_stream(protocol, transport, 1) < 0 || make_stream(protocol, transport, 2) < 0 ||
        make_stream(protocol, transport, 0) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- Output ------------------------------------------------------------------------------------ */

/* What a callback of a pipe is given: its number (-1 for one that is not a stream of ours) and another object, borrowed.
 * 0 or -1. */
static int
unpack_pipe(const corolla_signature *sig, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int *fd,
            PyObject **other)
{
    PyObject *given[2];
    if (corolla_unpack(sig, args, nargs, kwnames, given) < 0) {
        return -1;
    }
    int overflow;
    long number = PyLong_AsLongAndOverflow(given[0], &overflow);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    *fd = number < 0 || number > 2 ? -1 : (int)number;
    *other = given[1];
    return 0;
}

/* The reader of stdout or stderr: new reference, or NULL with no exception. */
static PyObject *
reader_of(SubprocessProtocol *protocol, int fd)
{
    PyObject *reader = fd == 1 || fd == 2 ? protocol->streams[fd] : NULL;
    return reader == Py_None ? NULL : Py_XNewRef(reader);
}

/* For transports of ours: the reader that may be fed without a method's being called, borrowed; or NULL. */
static PyObject *
plain_reader(PyObject *self, int fd)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    PyObject *reader = protocol->streams[fd];
    bool plain = reader != NULL && reader_is_plain(protocol->flow.state, reader) &&
                 !stream_has_own(protocol->flow.dict) && !((StreamReader *)reader)->eof;
    return plain ? reader : NULL;
}

static PyObject *
protocol_pipe_data_received(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fd", "data", NULL};
    static const corolla_signature sig = {"pipe_data_received", names, 2, 2, NULL};
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    int fd;
    PyObject *data;
    if (unpack_pipe(&sig, args, nargs, kwnames, &fd, &data) < 0) {
        return NULL;
    }
    PyObject *reader = reader_of(protocol, fd);
    if (reader == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *fed = PyObject_CallMethodOneArg(reader, protocol->flow.state->s.feed_data, data);
    Py_DECREF(reader);
    return fed;
}

/* ---- The end ---------------------------------------------------------------------------------- */

/* Once the process and its output have ended, nothing more can come of it. 0 or -1. */
static int
close_if_over(SubprocessProtocol *protocol)
{
    if (!protocol->exited || protocol->reading[1] || protocol->reading[2] || protocol->transport == NULL) {
        return 0;
    }
    PyObject *transport = protocol->transport;
    protocol->transport = NULL;
    PyObject *done = PyObject_CallMethodNoArgs(transport, protocol->flow.state->s.close);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* exc may be NULL. 0 or -1. */
static int
end_stdin(SubprocessProtocol *protocol, PyObject *exc)
{
    flow_set_lost(&protocol->flow, exc);
    PyObject *writer = protocol->streams[0] == Py_None ? NULL : Py_XNewRef(protocol->streams[0]);
    PyObject *raised = NULL;
    if (writer != NULL) {
        PyObject *done = PyObject_CallMethodNoArgs(writer, protocol->flow.state->s.close);
        if (done == NULL) {
            raised = PyErr_GetRaisedException(); /* and yet nobody waits for ever */
        }
        Py_XDECREF(done);
        Py_DECREF(writer);
    }
    int rc = flow_wake_lost(&protocol->flow);
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
        return -1;
    }
    return rc;
}

/* exc may be NULL. 0 or -1. */
static int
end_output(SubprocessProtocol *protocol, int fd, PyObject *exc)
{
    corolla_state *state = protocol->flow.state;
    PyObject *reader = reader_of(protocol, fd);
    int rc = 0;
    if (reader != NULL && reader_is_plain(state, reader)) {
        rc = exc == NULL ? reader_feed_eof((StreamReader *)reader) : reader_set_exception((StreamReader *)reader, exc);
    }
    else if (reader != NULL) {
        PyObject *told = exc == NULL ? PyObject_CallMethodNoArgs(reader, state->s.feed_eof)
                                     : PyObject_CallMethodOneArg(reader, state->s.set_exception, exc);
        rc = told == NULL ? -1 : 0;
        Py_XDECREF(told);
    }
    Py_XDECREF(reader);
    if (fd == 1 || fd == 2) {
        protocol->reading[fd] = false;
    }
    return rc < 0 ? -1 : close_if_over(protocol);
}

static PyObject *
protocol_pipe_connection_lost(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fd", "exc", NULL};
    static const corolla_signature sig = {"pipe_connection_lost", names, 2, 2, NULL};
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    int fd;
    PyObject *exc;
    if (unpack_pipe(&sig, args, nargs, kwnames, &fd, &exc) < 0 || flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    PyObject *reason = exc == Py_None ? NULL : exc;
    int rc = fd == 0 ? end_stdin(protocol, reason) : end_output(protocol, fd, reason);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
protocol_process_exited(PyObject *self, PyObject *unused)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    if (flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    protocol->exited = true;
    if (stream_wake_all(protocol->flow.state, &protocol->watchers, NULL) < 0 || close_if_over(protocol) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
protocol_connection_lost(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = corolla_unpack_one("connection_lost", "exc", args, nargs, kwnames);
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    if (exc == NULL || flow_check(&protocol->flow) < 0) {
        return NULL;
    }
    flow_set_lost(&protocol->flow, exc == Py_None ? NULL : exc);
    if (flow_wake_lost(&protocol->flow) < 0 || stream_wake_all(protocol->flow.state, &protocol->watchers, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- What the standard library's streams and its tests use -------------------------------------- */

static PyObject *
protocol_get_close_waiter(PyObject *self, PyObject *stream)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    return stream == protocol->streams[0] ? flow_close_waiter(&protocol->flow) : Py_NewRef(Py_None);
}

static PyObject *
get_stdin_closed(PyObject *self, void *unused)
{
    return flow_close_waiter((StreamFlow *)self);
}

static PyObject *
get_limit(PyObject *self, void *unused)
{
    return PyLong_FromSize_t(((SubprocessProtocol *)self)->limit);
}

static PyObject *
get_pipe_fds(PyObject *self, void *unused)
{
    SubprocessProtocol *protocol = (SubprocessProtocol *)self;
    return protocol->reading[1]   ? Py_BuildValue(protocol->reading[2] ? "[ii]" : "[i]", 1, 2)
           : protocol->reading[2] ? Py_BuildValue("[i]", 2)
                                  : PyList_New(0);
}

PyDoc_STRVAR(made_doc, "connection_made($self, /, transport)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(lost_doc, "connection_lost($self, /, exc)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(data_doc, "pipe_data_received($self, /, fd, data)\n--\n\nSpecified by asyncio.SubprocessProtocol.");
PyDoc_STRVAR(pipe_lost_doc, "pipe_connection_lost($self, /, fd, exc)\n--\n\nSpecified by asyncio.SubprocessProtocol.");
PyDoc_STRVAR(exited_doc, "process_exited($self, /)\n--\n\nSpecified by asyncio.SubprocessProtocol.");

static PyMethodDef protocol_methods[] = {
    {"connection_made", (PyCFunction)(void (*)(void))subprocess_connection_made, METH_FASTCALL | METH_KEYWORDS,
     made_doc},
    {"connection_lost", (PyCFunction)(void (*)(void))protocol_connection_lost, METH_FASTCALL | METH_KEYWORDS, lost_doc},
    {"pipe_data_received", (PyCFunction)(void (*)(void))protocol_pipe_data_received, METH_FASTCALL | METH_KEYWORDS,
     data_doc},
    {"pipe_connection_lost", (PyCFunction)(void (*)(void))protocol_pipe_connection_lost, METH_FASTCALL | METH_KEYWORDS,
     pipe_lost_doc},
    {"process_exited", protocol_process_exited, METH_NOARGS, exited_doc},
    {"_get_close_waiter", protocol_get_close_waiter, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef protocol_getset[] = {
    {"_stdin_closed", get_stdin_closed, NULL, NULL, NULL},
    {"_limit", get_limit, NULL, NULL, NULL},
    {"_pipe_fds", get_pipe_fds, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef protocol_members[] = {
    {"stdin", T_OBJECT, offsetof(SubprocessProtocol, streams[0]), 0, "A StreamWriter, or None."},
    {"stdout", T_OBJECT, offsetof(SubprocessProtocol, streams[1]), 0, "A StreamReader, or None."},
    {"stderr", T_OBJECT, offsetof(SubprocessProtocol, streams[2]), 0, "A StreamReader, or None."},
    {"_loop", T_OBJECT, offsetof(StreamFlow, loop), READONLY, NULL},
    {"_transport", T_OBJECT, offsetof(SubprocessProtocol, transport), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(StreamFlow, paused), READONLY, NULL},
    {"_connection_lost", T_BOOL, offsetof(StreamFlow, lost), READONLY, NULL},
    {"_process_exited", T_BOOL, offsetof(SubprocessProtocol, exited), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamFlow, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamFlow, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(protocol_doc,
             "SubprocessStreamProtocol(limit, loop)\n--\n\n"
             "The protocol of a subprocess whose pipes are streams: stdin, stdout and stderr.\n\n"
             "limit: bytes, of each reader. loop: the event loop. Raises ValueError for a limit <= 0. Specified by\n"
             "asyncio.subprocess.SubprocessStreamProtocol.");

static PyType_Slot protocol_slots[] = {
    {Py_tp_doc, (void *)protocol_doc}, {Py_tp_new, protocol_tp_new},        {Py_tp_init, protocol_tp_init},
    {Py_tp_dealloc, protocol_dealloc}, {Py_tp_finalize, protocol_finalize}, {Py_tp_traverse, protocol_traverse},
    {Py_tp_clear, protocol_clear},     {Py_tp_repr, protocol_repr},         {Py_tp_methods, protocol_methods},
    {Py_tp_getset, protocol_getset},   {Py_tp_members, protocol_members},   {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "corolla.SubprocessStreamProtocol",
    .basicsize = sizeof(SubprocessProtocol),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = protocol_slots,
};

int
subprocess_protocol_init(PyObject *module, corolla_state *state)
{
    state->subprocess_protocol_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &protocol_spec, state->asyncio_SubprocessProtocol);
    if (state->subprocess_protocol_type == NULL ||
        corolla_add_methods(state->subprocess_protocol_type, flow_methods) < 0) {
        return -1;
    }
    state->subprocess_reader = plain_reader;
    return PyModule_AddType(module, state->subprocess_protocol_type);
}
