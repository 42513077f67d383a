/* Stream: one object to read from and write to. What it does is its reader's and, as a StreamWriter's, its own. */
#include "stream.h"

PyObject *
stream_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *reader, PyObject *loop,
           unsigned mode, bool server_side)
{
    PyTypeObject *type = state->stream_type;
    Stream *stream = (Stream *)type->tp_alloc(type, 0);
    if (stream == NULL) {
        return NULL;
    }
    corolla_state_hold(state);
    stream->writer.state = state;
    stream->writer.transport = Py_NewRef(transport);
    stream->writer.protocol = Py_NewRef(protocol);
    stream->writer.reader = Py_NewRef(reader);
    stream->writer.loop = Py_NewRef(loop);
    stream->mode = mode;
    stream->server_side = server_side;
    return (PyObject *)stream;
}

int
stream_check(Stream *stream, unsigned mode)
{
    if (writer_check(&stream->writer) < 0) {
        return -1;
    }
    if (mode & ~stream->mode) {
        PyErr_Format(PyExc_RuntimeError, "The stream is %s-only", stream->mode == STREAM_READ ? "read" : "write");
        return -1;
    }
    return 0;
}

/* ---- Methods ------------------------------------------------------------------------------- */

static PyObject *
stream_abort(PyObject *self, PyObject *unused)
{
    Stream *stream = (Stream *)self;
    if (writer_check(&stream->writer) < 0) {
        return NULL;
    }
    PyObject *transport = Py_NewRef(stream->writer.transport);
    PyObject *name = stream->mode & STREAM_WRITE ? stream->writer.state->s.abort : stream->writer.state->s.close;
    PyObject *done = PyObject_CallMethodNoArgs(transport, name); /* a pipe that is read from cannot be aborted */
    Py_DECREF(transport);
    return done;
}

static PyObject *
stream_at_eof(PyObject *self, PyObject *unused)
{
    Stream *stream = (Stream *)self;
    if (stream_check(stream, STREAM_READ) < 0) {
        return NULL;
    }
    StreamReader *reader = stream_reader(stream);
    return PyBool_FromLong(reader->eof && buffer_len(&reader->buffer) == 0);
}

static PyObject *
stream_is_server_side(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((Stream *)self)->server_side);
}

/* ---- async with ----------------------------------------------------------------------------- */

typedef struct {
    PyObject *stream; /* owned */
} EnterState;

static int
enter_traverse(void *data, visitproc visit, void *arg)
{
    Py_VISIT(((EnterState *)data)->stream);
    return 0;
}

static void
enter_clear(void *data)
{
    Py_CLEAR(((EnterState *)data)->stream);
}

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    EnterState *st = corolla_coro_state(co);
    return corolla_return(co, Py_NewRef(st->stream));
}

static const corolla_coro_spec enter_spec = {
    .name = "__aenter__",
    .qualname = "Stream.__aenter__",
    .size = sizeof(EnterState),
    .step = enter_step,
    .traverse = enter_traverse,
    .clear = enter_clear,
};

static PyObject *
stream_aenter(PyObject *self, PyObject *unused)
{
    if (writer_check((StreamWriter *)self) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(((StreamWriter *)self)->state, &enter_spec);
    if (co != NULL) {
        ((EnterState *)corolla_coro_state(co))->stream = Py_NewRef(self);
    }
    return (PyObject *)co;
}

static PyObject *
stream_aexit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "__aexit__() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    return stream_closing(self, args[0] != Py_None);
}

/* ---- The type -------------------------------------------------------------------------------- */

static PyObject *
get_mode(PyObject *self, void *unused)
{
    Stream *stream = (Stream *)self;
    PyObject *type = PyImport_ImportModuleAttrString("corolla._streams", "StreamMode");
    PyObject *mode = type == NULL ? NULL : PyObject_CallFunction(type, "I", stream->mode);
    Py_XDECREF(type);
    return mode;
}

static PyObject *
get_limit(PyObject *self, void *unused)
{
    Stream *stream = (Stream *)self;
    return writer_check(&stream->writer) < 0 ? NULL : PyLong_FromSize_t(stream_reader(stream)->limit);
}

static PyObject *
stream_repr(PyObject *self)
{
    StreamWriter *writer = (StreamWriter *)self;
    if (writer->transport == NULL) {
        return PyUnicode_FromString("<Stream not initialized>");
    }
    StreamReader *reader = (StreamReader *)writer->reader;
    PyObject *transport = Py_NewRef(writer->transport);
    PyObject *shown = PyUnicode_FromFormat("<Stream %s%zu bytes unread transport=%R>", reader->eof ? "eof " : "",
                                           buffer_len(&reader->buffer), transport);
    Py_DECREF(transport);
    return shown;
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\nClose the connection at once; what was not sent is lost.");
PyDoc_STRVAR(at_eof_doc, "at_eof($self, /)\n--\n\nReturn True once everything has been read.");
PyDoc_STRVAR(server_side_doc,
             "is_server_side($self, /)\n--\n\nReturn True if the connection was accepted by a server.");
PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\nReturn True once the connection is closing or closed.");
PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\nReturn whether the transport supports write_eof().");
PyDoc_STRVAR(extra_doc,
             "get_extra_info($self, /, name, default=None)\n--\n\n"
             "What the transport knows under that name. Specified by asyncio.BaseTransport.get_extra_info().");

static PyMethodDef stream_methods[] = {
    {"abort", stream_abort, METH_NOARGS, abort_doc},
    {"at_eof", stream_at_eof, METH_NOARGS, at_eof_doc},
    {"is_closing", writer_is_closing, METH_NOARGS, is_closing_doc},
    {"is_server_side", stream_is_server_side, METH_NOARGS, server_side_doc},
    {"can_write_eof", writer_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))writer_get_extra_info, METH_FASTCALL | METH_KEYWORDS, extra_doc},
    {"__aenter__", stream_aenter, METH_NOARGS, NULL},
    {"__aexit__", (PyCFunction)(void (*)(void))stream_aexit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"mode", get_mode, NULL, "Its directions, a StreamMode.", NULL},
    {"limit", get_limit, NULL, "The longest line that it takes, bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
    {"transport", T_OBJECT, offsetof(StreamWriter, transport), READONLY, "The transport."},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamWriter, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamWriter, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyObject *
stream_aiter(PyObject *self)
{
    return stream_check((Stream *)self, STREAM_READ) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *
stream_anext(PyObject *self)
{
    if (stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    return reader_call_of(reader_anext(((StreamWriter *)self)->reader), self);
}

PyDoc_STRVAR(stream_doc,
             "A connection: bytes to read and a way to write, in one object. Made by connect(), connect_unix(),\n"
             "connect_read_pipe(), connect_write_pipe() and StreamServer. An asynchronous context manager that\n"
             "closes it, and an asynchronous iterator over lines. See docs/streams.md.");

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)stream_doc},   {Py_tp_dealloc, writer_dealloc}, {Py_tp_finalize, writer_finalize},
    {Py_tp_traverse, writer_traverse}, {Py_tp_clear, writer_clear},     {Py_tp_repr, stream_repr},
    {Py_am_aiter, stream_aiter},       {Py_am_anext, stream_anext},     {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},     {Py_tp_members, stream_members}, {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "corolla.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};

int
stream_init(PyObject *module, corolla_state *state)
{
    state->stream_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_spec, NULL);
    if (state->stream_type == NULL || corolla_add_methods(state->stream_type, stream_read_methods) < 0 ||
        corolla_add_methods(state->stream_type, stream_write_methods) < 0 ||
        corolla_add_methods(state->stream_type, stream_tls_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->stream_type);
}
