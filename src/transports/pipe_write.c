/* WritePipeTransport: writes to a pipe, a socket or a character device. */
#include "pipe.h"

#include <limits.h>

enum { WARN_AFTER = 5 };

/* ---- The stream ---------------------------------------------------------------------------- */

static int
write_failed(corolla_stream *s, int err)
{
    PipeTransport *t = pipe_of(s);
    Py_INCREF(t);
    t->lost_writes++;
    int rc = pipe_fatal_errno(t, err, "Fatal write error on pipe transport");
    Py_DECREF(t);
    return rc;
}

static int
write_pressure(corolla_stream *s, bool on)
{
    PipeTransport *t = pipe_of(s);
    if (t->closing || t->protocol_paused == on) {
        return 0;
    }
    int rc = 0;
    Py_INCREF(t);
    t->protocol_paused = on;
    PyObject *result = pipe_call(t, on ? t->state->s.pause_writing : t->state->s.resume_writing, NULL);
    if (result == NULL) {
        rc = pipe_report(t, on ? "protocol.pause_writing() failed" : "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
    Py_DECREF(t);
    return rc;
}

static int
write_flushed(corolla_stream *s)
{
    PipeTransport *t = pipe_of(s);
    int rc = 0;
    Py_INCREF(t);
    if (t->closing) {
        rc = pipe_force_close(t, NULL);
    }
    else {
        pipe_update_hold(t);
    }
    Py_DECREF(t);
    return rc;
}

/* The last reader has gone. */
static int
write_left(corolla_stream *s)
{
    PipeTransport *t = pipe_of(s);
    PyObject *exc = NULL;
    int rc = -1;
    Py_INCREF(t);
    corolla_core_leave_task(t->core);
    transport_log(t->core, (PyObject *)t, "info", "%r was closed by peer");
    if (s->queued == 0 || (exc = PyObject_CallNoArgs(PyExc_BrokenPipeError)) != NULL) {
        rc = pipe_force_close(t, exc);
    }
    Py_XDECREF(exc);
    Py_DECREF(t);
    return rc;
}

static const corolla_stream_ops write_ops = {
    .failed = write_failed,
    .pressure = write_pressure,
    .flushed = write_flushed,
    .left = write_left,
};

/* ---- Its kind ------------------------------------------------------------------------------- */

static int
write_start(PipeTransport *t)
{
    return t->minded != 0 ? corolla_stream_mind(&t->stream, t->minded) : 0;
}

static bool
write_is_quiet(PipeTransport *t, PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, PyExc_OSError);
}

static const PipeKind write_kind = {
    .refusal = "Pipe transport is only for pipes, sockets and character devices",
    .start = write_start,
    .is_quiet = write_is_quiet,
    .start_failed = "Fatal error on pipe transport",
};

PyObject *
corolla_write_pipe_new(corolla_core *core, const corolla_pipe_options *options)
{
    return pipe_new(core, core->state->write_pipe_type, &write_kind, &write_ops, options);
}

/* ---- write() and writelines() ------------------------------------------------------------------ */

/* A write on a pipe that is closing, or gone. 0 or -1. */
static int
count_lost_write(PipeTransport *t)
{
    if (t->lost_writes >= WARN_AFTER) {
        PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "s",
                                             "pipe closed by peer or os.write(pipe, data) raised exception.");
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    if (t->lost_writes < UINT_MAX) {
        t->lost_writes++;
    }
    return 0;
}

static int
send_chunk(PipeTransport *t, corolla_chunk chunk)
{
    if (chunk.len == 0) {
        return 0;
    }
    if (t->closing) {
        return count_lost_write(t);
    }
    if (t->stream.closed) {
        return 0; /* with the loop */
    }
    t->in_method++;
    int err = corolla_stream_write(&t->stream, &chunk, 1);
    t->in_method--;
    if (PyErr_Occurred()) {
        return -1; /* KeyboardInterrupt or SystemExit out of pause_writing() */
    }
    if (err < 0 && !t->lost) {
        t->lost_writes++;
        return pipe_fatal_errno(t, err, "Fatal write error on pipe transport");
    }
    if (t->stream.queued > 0 && t->stream.flush.next == NULL) { /* refused, not held for the end of the turn */
        pipe_grow(t);
    }
    pipe_update_hold(t);
    return 0;
}

/* Any bytes-like object. 0 or -1. */
static int
send_object(PipeTransport *t, PyObject *data)
{
    if (PyBytes_CheckExact(data)) {
        return send_chunk(t, transport_bytes_chunk(data));
    }
    if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                     Py_TYPE(data)->tp_name);
        return -1;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    int rc = send_chunk(t, transport_view_chunk(&view));
    PyBuffer_Release(&view);
    return rc;
}

static PyObject *
write_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", NULL};
    static const corolla_signature sig = {"write", names, 1, 1, NULL};
    PyObject *data;
    if (corolla_unpack(&sig, args, nargs, kwnames, &data) < 0 || send_object((PipeTransport *)self, data) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* As one write: what fits one system call is not seen in parts. */
static PyObject *
write_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"list_of_data", NULL};
    static const corolla_signature sig = {"writelines", names, 1, 1, NULL};
    PyObject *list;
    if (corolla_unpack(&sig, args, nargs, kwnames, &list) < 0) {
        return NULL;
    }
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *data =
        empty == NULL ? NULL : PyObject_CallMethodOneArg(empty, ((PipeTransport *)self)->state->s.join, list);
    Py_XDECREF(empty);
    int rc = data == NULL ? -1 : send_object((PipeTransport *)self, data);
    Py_XDECREF(data);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- The end -------------------------------------------------------------------------------------- */

/* A pipe has nothing to half-close: its end of file is its end. 0 or -1. */
static int
end_writing(PipeTransport *t)
{
    if (t->closing) {
        return 0;
    }
    if (pipe_check_thread(t) < 0) {
        return -1;
    }
    if (t->stream.queued == 0 || t->stream.closed) {
        return pipe_force_close(t, NULL);
    }
    t->closing = true;
    return 0;
}

static PyObject *
write_close(PyObject *self, PyObject *unused)
{
    return end_writing((PipeTransport *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
write_abort(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    if (t->lost) {
        Py_RETURN_NONE;
    }
    return pipe_check_thread(t) < 0 || pipe_force_close(t, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
write_can_write_eof(PyObject *self, PyObject *unused)
{
    Py_RETURN_TRUE;
}

/* ---- Limits ------------------------------------------------------------------------------------ */

static PyObject *
write_set_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low", NULL};
    static const corolla_signature signature = {"set_write_buffer_limits", names, 0, 2, NULL};
    PipeTransport *t = (PipeTransport *)self;
    PyObject *given[2];
    Py_ssize_t high = 0, low = 0;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0 ||
        transport_parse_limits(given[0], given[1], &high, &low) < 0) {
        return NULL;
    }
    t->in_method++;
    corolla_stream_limits(&t->stream, (size_t)high, (size_t)low);
    t->in_method--;
    if (PyErr_Occurred()) {
        return NULL; /* out of pause_writing() */
    }
    Py_RETURN_NONE;
}

static PyObject *
write_get_limits(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    return Py_BuildValue("nn", (Py_ssize_t)t->stream.low, (Py_ssize_t)t->stream.high);
}

static PyObject *
write_get_size(PyObject *self, PyObject *unused)
{
    return PyLong_FromSize_t(((PipeTransport *)self)->stream.queued);
}

PyDoc_STRVAR(write_doc,
             "write($self, data)\n--\n\n"
             "Write bytes; what the kernel does not take at once is queued.\n\n"
             "data: a bytes-like object. On a pipe that is closing it is dropped. TypeError for anything else.");
PyDoc_STRVAR(writelines_doc, "writelines($self, list_of_data)\n--\n\nWrite the given bytes-like objects, in order.");
PyDoc_STRVAR(write_eof_doc, "write_eof($self, /)\n--\n\nThe same as close().");
PyDoc_STRVAR(can_write_eof_doc, "can_write_eof($self, /)\n--\n\nTrue: write_eof() is supported.");
PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nClose the pipe once what was written has been taken.");
PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\nClose the pipe at once; what is queued is lost.");
PyDoc_STRVAR(set_limits_doc, "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
                             "Set the high and low watermarks of the write queue, in bytes.\n\n"
                             "Raises ValueError unless high >= low >= 0.");
PyDoc_STRVAR(get_limits_doc, "get_write_buffer_limits($self, /)\n--\n\n"
                             "The low and the high watermark of the write queue, in bytes.");
PyDoc_STRVAR(get_size_doc, "get_write_buffer_size($self, /)\n--\n\n"
                           "Bytes written that the kernel has not taken yet.");

static PyMethodDef write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))write_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))write_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"write_eof", write_close, METH_NOARGS, write_eof_doc},
    {"can_write_eof", write_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"close", write_close, METH_NOARGS, close_doc},
    {"abort", write_abort, METH_NOARGS, abort_doc},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))write_set_limits, METH_FASTCALL | METH_KEYWORDS,
     set_limits_doc},
    {"get_write_buffer_limits", write_get_limits, METH_NOARGS, get_limits_doc},
    {"get_write_buffer_size", write_get_size, METH_NOARGS, get_size_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
write_repr(PyObject *self)
{
    PipeTransport *t = (PipeTransport *)self;
    char polling[64];
    bool watching = (t->stream.watch.interest & COROLLA_WRITABLE) != 0;
    PyOS_snprintf(polling, sizeof polling, " %s bufsize=%zu", watching ? "polling" : "idle", t->stream.queued);
    return pipe_repr(t, "WritePipeTransport", polling);
}

PyDoc_STRVAR(write_type_doc, "The writing end of a pipe. Made by EventLoop.connect_write_pipe().");

static PyType_Slot write_slots[] = {
    {Py_tp_doc, (void *)write_type_doc}, {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},           {Py_tp_finalize, pipe_finalize},
    {Py_tp_dealloc, pipe_dealloc},       {Py_tp_repr, write_repr},
    {Py_tp_methods, write_methods},      {Py_tp_getset, pipe_getset},
    {Py_tp_members, pipe_members},       {0, NULL},
};

static PyType_Spec write_spec = {
    .name = "corolla.WritePipeTransport",
    .basicsize = sizeof(PipeTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = write_slots,
};

int
pipe_write_init(PyObject *module, corolla_state *state)
{
    state->write_pipe_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &write_spec, state->asyncio_WriteTransport);
    if (state->write_pipe_type == NULL || corolla_add_methods(state->write_pipe_type, pipe_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->write_pipe_type);
}
