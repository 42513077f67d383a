/* ReadPipeTransport: reads a pipe, a socket or a character device. */
#include "pipe.h"

#include <errno.h>

/* ---- The stream ---------------------------------------------------------------------------- */

/* What takes the bytes without a method's being called, borrowed, in *taker; NULL when there is nothing of the kind. */
static const corolla_native_protocol *
native_of(PipeTransport *t, PyObject **taker)
{
    *taker = t->protocol;
    if (t->protocol == NULL) {
        return NULL;
    }
    return Py_IS_TYPE(t->protocol, t->state->process_pipe_type) ? corolla_native_of_pipe(t->state, t->protocol, taker)
                                                                : corolla_native_of_type(t->state, t->protocol);
}

static int
read_where(corolla_stream *s, size_t hint, void **buf, size_t *len)
{
    PipeTransport *t = pipe_of(s);
    PyObject *taker;
    const corolla_native_protocol *native = native_of(t, &taker);
    if (native != NULL) {
        int rc = native->where(taker, hint, buf, len);
        if (rc < 0) {
            return pipe_fatal(t, "Fatal read error on pipe transport");
        }
        t->by_method = rc > 0;
        if (*buf != NULL) {
            Py_CLEAR(t->landing);
            return 0;
        }
    }
    if (transport_land(t->core, &t->landing, hint, buf, len) < 0) {
        return pipe_fatal(t, "Fatal read error on pipe transport");
    }
    return 0;
}

int
pipe_eof_job(void *arg)
{
    PipeTransport *t = arg;
    int rc = 0;
    if (t->core != NULL) {
        PyObject *result = pipe_call(t, t->state->s.eof_received, NULL);
        if (result == NULL) {
            rc = pipe_report(t, "Exception in callback protocol.eof_received()");
        }
        Py_XDECREF(result); /* nothing can be kept open: there is no other direction */
    }
    Py_DECREF(t);
    return rc;
}

static int
deliver_eof(PipeTransport *t)
{
    transport_log(t->core, (PyObject *)t, "info", "%r was closed by peer");
    t->closing = true;
    if (corolla_core_post(t->core, pipe_eof_job, Py_NewRef(t)) < 0) {
        return -1;
    }
    return pipe_force_close(t, NULL);
}

static int
deliver_data(PipeTransport *t, const void *buf, ssize_t n)
{
    PyObject *taker;
    const corolla_native_protocol *native = t->landing == NULL ? native_of(t, &taker) : NULL;
    if (native != NULL && !t->by_method) {
        Py_INCREF(taker);
        int rc = native->came(taker, buf, (size_t)n);
        Py_DECREF(taker);
        return rc < 0 ? pipe_fatal(t, "Fatal error: protocol.data_received() call failed.") : 0;
    }
    PyObject *data = transport_take(&t->landing, buf, n);
    if (data == NULL) {
        return pipe_fatal(t, "Fatal read error on pipe transport");
    }
    PyObject *result = pipe_call(t, t->state->s.data_received, data);
    Py_DECREF(data);
    if (result == NULL) {
        return pipe_fatal(t, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static int
read_came(corolla_stream *s, void *buf, ssize_t n)
{
    PipeTransport *t = pipe_of(s);
    int rc;
    Py_INCREF(t);
    if (n > 0) {
        if (n >= PIPE_HOLDS) {
            pipe_grow(t);
        }
        rc = deliver_data(t, buf, n);
    }
    else {
        Py_CLEAR(t->landing);
        rc = n == 0 ? deliver_eof(t) : pipe_fatal_errno(t, n, "Fatal read error on pipe transport");
    }
    Py_DECREF(t);
    return rc;
}

static const corolla_stream_ops read_ops = {.where = read_where, .came = read_came};

/* ---- Its kind ------------------------------------------------------------------------------- */

static int
read_start(PipeTransport *t)
{
    return t->paused ? 0 : corolla_stream_read(&t->stream, true);
}

/* A terminal whose other side has closed says so with EIO. */
static bool
read_is_quiet(PipeTransport *t, PyObject *exc)
{
    if (!PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        return false;
    }
    PyObject *number = ((PyOSErrorObject *)exc)->myerrno; /* borrowed */
    return number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == EIO;
}

static const PipeKind read_kind = {
    .refusal = "Pipe transport is for pipes/sockets only.",
    .start = read_start,
    .is_quiet = read_is_quiet,
    .start_failed = "Fatal read error on pipe transport",
};

PyObject *
corolla_read_pipe_new(corolla_core *core, const corolla_pipe_options *options)
{
    return pipe_new(core, core->state->read_pipe_type, &read_kind, &read_ops, options);
}

/* ---- Methods --------------------------------------------------------------------------------- */

static PyObject *
read_close(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    if (t->closing) {
        Py_RETURN_NONE;
    }
    if (pipe_check_thread(t) < 0 || pipe_force_close(t, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
read_pause_reading(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    if (t->closing || t->paused) {
        Py_RETURN_NONE;
    }
    t->paused = true;
    if (!t->stream.closed) {
        (void)corolla_stream_read(&t->stream, false);
        pipe_update_hold(t);
    }
    transport_log(t->core, self, "debug", "%r pauses reading");
    Py_RETURN_NONE;
}

static PyObject *
read_resume_reading(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    if (t->closing || !t->paused) {
        Py_RETURN_NONE;
    }
    if (corolla_core_check_closed(t->core) < 0) {
        return NULL;
    }
    t->paused = false;
    int err = t->made ? corolla_stream_read(&t->stream, true) : 0; /* else it starts behind connection_made() */
    if (err < 0) {
        t->paused = true;
        transport_set_errno(err);
        return NULL;
    }
    pipe_update_hold(t);
    transport_log(t->core, self, "debug", "%r resumes reading");
    Py_RETURN_NONE;
}

static PyObject *
read_is_reading(PyObject *self, PyObject *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    return PyBool_FromLong(!t->closing && !t->paused);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\nClose the pipe: connection_lost(None) is called soon.");
PyDoc_STRVAR(pause_reading_doc, "pause_reading($self, /)\n--\n\nRead nothing until resume_reading() is called.");
PyDoc_STRVAR(resume_reading_doc, "resume_reading($self, /)\n--\n\n"
                                 "Go on reading after pause_reading().\n\n"
                                 "Raises RuntimeError when the loop is closed.");
PyDoc_STRVAR(is_reading_doc, "is_reading($self, /)\n--\n\nTrue unless reading is paused or the pipe is closing.");

static PyMethodDef read_methods[] = {
    {"close", read_close, METH_NOARGS, close_doc},
    {"pause_reading", read_pause_reading, METH_NOARGS, pause_reading_doc},
    {"resume_reading", read_resume_reading, METH_NOARGS, resume_reading_doc},
    {"is_reading", read_is_reading, METH_NOARGS, is_reading_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
read_repr(PyObject *self)
{
    PipeTransport *t = (PipeTransport *)self;
    return pipe_repr(t, "ReadPipeTransport", t->stream.reading ? " polling" : " idle");
}

PyDoc_STRVAR(read_doc, "The reading end of a pipe. Made by EventLoop.connect_read_pipe().");

static PyType_Slot read_slots[] = {
    {Py_tp_doc, (void *)read_doc}, {Py_tp_traverse, pipe_traverse},
    {Py_tp_clear, pipe_clear},     {Py_tp_finalize, pipe_finalize},
    {Py_tp_dealloc, pipe_dealloc}, {Py_tp_repr, read_repr},
    {Py_tp_methods, read_methods}, {Py_tp_getset, pipe_getset},
    {Py_tp_members, pipe_members}, {0, NULL},
};

static PyType_Spec read_spec = {
    .name = "corolla.ReadPipeTransport",
    .basicsize = sizeof(PipeTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = read_slots,
};

int
pipe_read_init(PyObject *module, corolla_state *state)
{
    state->read_pipe_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &read_spec, state->asyncio_ReadTransport);
    if (state->read_pipe_type == NULL || corolla_add_methods(state->read_pipe_type, pipe_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->read_pipe_type);
}
