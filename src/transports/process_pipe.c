/* What stands between a pipe's transport and the protocol of the process: asyncio's WriteSubprocessPipeProto and
 * ReadSubprocessPipeProto in one. */
#include "process.h"

/* Takes the exception that a method of the process's protocol has raised: it is reported, and the pipe goes on. None, or
 * NULL with KeyboardInterrupt or SystemExit. */
static PyObject *
report(ProcessPipe *p, ProcessTransport *t, const char *message)
{
    if (t->loop == NULL) {
        PyErr_WriteUnraisable((PyObject *)p);
        Py_RETURN_NONE;
    }
    return transport_report(p->state, t->loop, (PyObject *)t, t->protocol, message) < 0 ? NULL : Py_NewRef(Py_None);
}

/* protocol.name(number, arg), or protocol.name() without arg. None, or NULL with KeyboardInterrupt or SystemExit. */
static PyObject *
tell(ProcessPipe *p, PyObject *name, PyObject *arg, const char *message)
{
    if (p->process == NULL || p->process->protocol == NULL) {
        Py_RETURN_NONE;
    }
    ProcessTransport *t = (ProcessTransport *)Py_NewRef(p->process);
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *number = arg == NULL ? NULL : PyLong_FromLong(p->number);
    PyObject *args[4] = {NULL, protocol, number, arg};
    int64_t began = t->core != NULL && t->core->debug ? corolla_clock() : 0;
    PyObject *result =
        PyObject_VectorcallMethod(name, args + 1, (arg == NULL ? 1 : 3) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (began != 0 && t->core != NULL) {
        transport_report_slow(t->core, protocol, name, (PyObject *)t, corolla_clock() - began);
    }
    Py_XDECREF(number);
    Py_DECREF(protocol);
    if (result == NULL) {
        result = report(p, t, message);
    }
    else if (result != Py_None) {
        Py_SETREF(result, Py_NewRef(Py_None));
    }
    Py_DECREF(t);
    return result;
}

const corolla_native_protocol *
corolla_native_of_pipe(const corolla_state *state, PyObject *protocol, PyObject **taker)
{
    ProcessTransport *t = ((ProcessPipe *)protocol)->process;
    if (t == NULL || t->protocol == NULL || !Py_IS_TYPE(t->protocol, state->subprocess_protocol_type)) {
        return NULL;
    }
    *taker = state->subprocess_reader(t->protocol, ((ProcessPipe *)protocol)->number);
    return *taker == NULL ? NULL : state->stream_reader_ops;
}

static PyObject *
pipe_connection_made(PyObject *self, PyObject *transport)
{
    Py_RETURN_NONE; /* it was there before */
}

static PyObject *
pipe_data_received(PyObject *self, PyObject *data)
{
    ProcessPipe *p = (ProcessPipe *)self;
    return tell(p, p->state->s.pipe_data_received, data, "Exception in callback protocol.pipe_data_received()");
}

static PyObject *
pipe_eof_received(PyObject *self, PyObject *unused)
{
    Py_RETURN_NONE;
}

static PyObject *
pipe_connection_lost(PyObject *self, PyObject *exc)
{
    ProcessPipe *p = (ProcessPipe *)self;
    if (p->disconnected || p->process == NULL) {
        Py_RETURN_NONE;
    }
    p->disconnected = true;
    PyObject *result =
        tell(p, p->state->s.pipe_connection_lost, exc, "Exception in callback protocol.pipe_connection_lost()");
    PyObject *leaving = PyErr_GetRaisedException();
    ProcessTransport *t = p->process;
    p->process = NULL;
    if (t != NULL && process_try_finish(t) < 0) {
        Py_CLEAR(result);
    }
    Py_XDECREF(t);
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
    }
    return result;
}

static PyObject *
pipe_pause_writing(PyObject *self, PyObject *unused)
{
    ProcessPipe *p = (ProcessPipe *)self;
    return tell(p, p->state->s.pause_writing, NULL, "protocol.pause_writing() failed");
}

static PyObject *
pipe_resume_writing(PyObject *self, PyObject *unused)
{
    ProcessPipe *p = (ProcessPipe *)self;
    return tell(p, p->state->s.resume_writing, NULL, "protocol.resume_writing() failed");
}

static PyMethodDef pipe_proto_methods[] = {
    {"connection_made", pipe_connection_made, METH_O, "connection_made($self, transport, /)\n--\n\nThe pipe is open."},
    {"data_received", pipe_data_received, METH_O,
     "data_received($self, data, /)\n--\n\nThe child has written: protocol.pipe_data_received(fd, data)."},
    {"eof_received", pipe_eof_received, METH_NOARGS,
     "eof_received($self, /)\n--\n\nThe child writes no more; connection_lost() follows."},
    {"connection_lost", pipe_connection_lost, METH_O,
     "connection_lost($self, exc, /)\n--\n\nThe pipe is closed: protocol.pipe_connection_lost(fd, exc)."},
    {"pause_writing", pipe_pause_writing, METH_NOARGS,
     "pause_writing($self, /)\n--\n\nThe child reads slowly: protocol.pause_writing()."},
    {"resume_writing", pipe_resume_writing, METH_NOARGS,
     "resume_writing($self, /)\n--\n\nThe child has caught up: protocol.resume_writing()."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pipe_proto_members[] = {
    {"proc", T_OBJECT, offsetof(ProcessPipe, process), READONLY, "The transport of the process; None once closed."},
    {"pipe", T_OBJECT, offsetof(ProcessPipe, transport), READONLY, "The transport of the pipe."},
    {"fd", T_INT, offsetof(ProcessPipe, number), READONLY, "The descriptor in the child: 0, 1 or 2."},
    {"disconnected", T_BOOL, offsetof(ProcessPipe, disconnected), READONLY, "Whether the pipe has been closed."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ProcessPipe, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
pipe_proto_traverse(PyObject *self, visitproc visit, void *arg)
{
    ProcessPipe *p = (ProcessPipe *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(p->process);
    Py_VISIT(p->transport);
    return 0;
}

static int
pipe_proto_clear(PyObject *self)
{
    ProcessPipe *p = (ProcessPipe *)self;
    Py_CLEAR(p->process);
    Py_CLEAR(p->transport);
    return 0;
}

static void
pipe_proto_dealloc(PyObject *self)
{
    ProcessPipe *p = (ProcessPipe *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = p->state;
    PyObject_GC_UnTrack(self);
    if (p->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)pipe_proto_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
pipe_proto_repr(PyObject *self)
{
    ProcessPipe *p = (ProcessPipe *)self;
    return PyUnicode_FromFormat("<%s fd=%d pipe=%R>", p->number == 0 ? "WriteSubprocessPipe" : "ReadSubprocessPipe",
                                p->number, p->transport == NULL ? Py_None : p->transport);
}

PyDoc_STRVAR(pipe_proto_doc, "What listens to one of a child's pipes. Made by EventLoop.subprocess_exec().");

static PyType_Slot pipe_proto_slots[] = {
    {Py_tp_doc, (void *)pipe_proto_doc}, {Py_tp_traverse, pipe_proto_traverse},
    {Py_tp_clear, pipe_proto_clear},     {Py_tp_dealloc, pipe_proto_dealloc},
    {Py_tp_repr, pipe_proto_repr},       {Py_tp_methods, pipe_proto_methods},
    {Py_tp_members, pipe_proto_members}, {0, NULL},
};

static PyType_Spec pipe_proto_spec = {
    .name = "corolla._core.SubprocessPipeProtocol",
    .basicsize = sizeof(ProcessPipe),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pipe_proto_slots,
};

ProcessPipe *
process_pipe_new(ProcessTransport *t, int number)
{
    PyTypeObject *type = t->state->process_pipe_type;
    ProcessPipe *p = (ProcessPipe *)type->tp_alloc(type, 0);
    if (p != NULL) {
        p->state = t->state;
        corolla_state_hold(p->state);
        p->process = (ProcessTransport *)Py_NewRef(t);
        p->number = number;
    }
    return p;
}

int
process_pipe_init(PyObject *module, corolla_state *state)
{
    state->process_pipe_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &pipe_proto_spec, state->asyncio_Protocol);
    return state->process_pipe_type == NULL ? -1 : 0;
}
