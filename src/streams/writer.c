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

int
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

int
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

int
writer_closing(StreamWriter *writer)
{
    if (corolla_tcp_check(writer->state, writer->transport)) {
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
    int closing = writer_closing(writer);
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

void
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

void
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

int
writer_send(StreamWriter *writer, PyObject *data)
{
    PyObject *transport = Py_NewRef(writer->transport);
    int rc;
    if (corolla_tcp_check(writer->state, transport)) {
        rc = corolla_tcp_write(transport, data);
    }
    else {
        PyObject *done = PyObject_CallMethodOneArg(transport, writer->state->s.write, data);
        rc = done == NULL ? -1 : 0;
        Py_XDECREF(done);
    }
    Py_DECREF(transport);
    return rc;
}

static PyObject *
writer_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("write", "data", args, nargs, kwnames);
    if (data == NULL || writer_check((StreamWriter *)self) < 0) {
        return NULL;
    }
    return writer_send((StreamWriter *)self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
writer_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("writelines", "data", args, nargs, kwnames);
    return data == NULL ? NULL : tell(self, ((StreamWriter *)self)->state->s.writelines, data);
}

static PyObject *
writer_write_eof(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.write_eof, NULL);
}

PyObject *
writer_can_write_eof(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.can_write_eof, NULL);
}

static PyObject *
writer_close(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.close, NULL);
}

PyObject *
writer_is_closing(PyObject *self, PyObject *unused)
{
    return pass_on(self, ((StreamWriter *)self)->state->s.is_closing, NULL);
}

PyObject *
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

static PyMethodDef writer_methods[] = {
    {"write", (PyCFunction)(void (*)(void))writer_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))writer_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"write_eof", writer_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", writer_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"close", writer_close, METH_NOARGS, close_doc},
    {"is_closing", writer_is_closing, METH_NOARGS, is_closing_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))writer_get_extra_info, METH_FASTCALL | METH_KEYWORDS, extra_doc},
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
    if (state->stream_writer_type == NULL || corolla_add_methods(state->stream_writer_type, writer_async_methods) < 0 ||
        corolla_add_methods(state->stream_writer_type, writer_tls_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->stream_writer_type);
}
