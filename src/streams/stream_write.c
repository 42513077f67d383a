/* Stream: writing and closing. */
#include "stream.h"

typedef struct {
    Stream *stream;   /* owned */
    PyObject *data;   /* owned: what write() or writelines() was given, or the awaitable of sendfile() */
    PyObject *args;   /* owned: sendfile()'s positional arguments */
    PyObject *named;  /* owned: its keyword arguments, or NULL */
    PyObject *waiter; /* owned: what is awaited, or NULL */
    bool writing;     /* the stream's flag is ours */
    bool abort;       /* close(): without waiting for what is queued */
} WriteState;

static int
write_traverse(void *data, visitproc visit, void *arg)
{
    WriteState *st = data;
    Py_VISIT(st->stream);
    Py_VISIT(st->data);
    Py_VISIT(st->args);
    Py_VISIT(st->named);
    Py_VISIT(st->waiter);
    return 0;
}

/* Also what runs however the coroutine ends. */
static void
write_clear(void *data)
{
    WriteState *st = data;
    if (st->writing) {
        st->writing = false;
        st->stream->writing = false;
    }
    Py_CLEAR(st->stream);
    Py_CLEAR(st->data);
    Py_CLEAR(st->args);
    Py_CLEAR(st->named);
    Py_CLEAR(st->waiter);
}

int
stream_begin_writing(Stream *stream, const char *function)
{
    if (stream_check(stream, STREAM_WRITE) < 0) {
        return -1;
    }
    if (stream->writing) {
        PyErr_Format(PyExc_RuntimeError, "%s() called while another coroutine is already writing", function);
        return -1;
    }
    if (writer_check_reader(&stream->writer) < 0) {
        return -1;
    }
    int closing = writer_closing(&stream->writer);
    if (closing > 0) {
        PyErr_Format(PyExc_ConnectionResetError, "%s() called on a stream that is closing", function);
    }
    if (closing != 0) {
        return -1;
    }
    stream->writing = true;
    return 0;
}

/* Nobody else may write until this coroutine has ended. 0 or -1. */
static int
begin_writing(WriteState *st, const char *function)
{
    if (stream_begin_writing(st->stream, function) < 0) {
        return -1;
    }
    st->writing = true;
    return 0;
}

/* Each of an iterable. 0 or -1. */
static int
send_lines(Stream *stream, PyObject *lines)
{
    PyObject *transport = Py_NewRef(stream->writer.transport);
    PyObject *done = PyObject_CallMethodOneArg(transport, stream->writer.state->s.writelines, lines);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* ---- write() and writelines() ------------------------------------------------------------------ */

static corolla_step
write_or_lines(corolla_coro *co, PyObject *value, bool lines)
{
    WriteState *st = corolla_coro_state(co);
    StreamWriter *writer = &st->stream->writer;

    COROLLA_BEGIN(co);

    if (begin_writing(st, lines ? "writelines" : "write") < 0 ||
        (lines ? send_lines(st->stream, st->data) : writer_send(writer, st->data)) < 0) {
        return COROLLA_RAISE;
    }
    Py_CLEAR(st->data); /* the transport has it */
    int closing = writer_closing(writer);
    if (closing < 0) {
        return COROLLA_RAISE;
    }
    if (closing) {
        /* The kernel has refused it: connection_lost() is about to be called. */
        COROLLA_PAUSE(co);
        if (value == NULL || writer_check(writer) < 0) {
            return COROLLA_RAISE;
        }
    }
    int wait = writer_begin_drain(writer, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait > 0) {
        COROLLA_AWAIT(co, st->waiter);
        if (writer->protocol != NULL) {
            flow_waited((StreamFlow *)writer->protocol, st->waiter);
        }
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static corolla_step
write_step(corolla_coro *co, PyObject *value)
{
    return write_or_lines(co, value, false);
}

static corolla_step
writelines_step(corolla_coro *co, PyObject *value)
{
    return write_or_lines(co, value, true);
}

static const corolla_coro_spec write_spec = {
    .name = "write",
    .qualname = "Stream.write",
    .size = sizeof(WriteState),
    .step = write_step,
    .traverse = write_traverse,
    .clear = write_clear,
};

static const corolla_coro_spec writelines_spec = {
    .name = "writelines",
    .qualname = "Stream.writelines",
    .size = sizeof(WriteState),
    .step = writelines_step,
    .traverse = write_traverse,
    .clear = write_clear,
};

static WriteState *
new_write(PyObject *self, const corolla_coro_spec *spec, corolla_coro **co)
{
    *co = NULL;
    if (writer_check((StreamWriter *)self) < 0) {
        return NULL;
    }
    *co = corolla_coro_new(((StreamWriter *)self)->state, spec);
    if (*co == NULL) {
        return NULL;
    }
    WriteState *st = corolla_coro_state(*co);
    st->stream = (Stream *)Py_NewRef(self);
    return st;
}

static PyObject *
stream_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("write", "data", args, nargs, kwnames);
    corolla_coro *co = NULL;
    WriteState *st = data == NULL ? NULL : new_write(self, &write_spec, &co);
    if (st != NULL) {
        st->data = Py_NewRef(data);
    }
    return (PyObject *)co;
}

static PyObject *
stream_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("writelines", "data", args, nargs, kwnames);
    corolla_coro *co = NULL;
    WriteState *st = data == NULL ? NULL : new_write(self, &writelines_spec, &co);
    if (st != NULL) {
        st->data = Py_NewRef(data);
    }
    return (PyObject *)co;
}

/* ---- write_eof() ------------------------------------------------------------------------------- */

static corolla_step
write_eof_step(corolla_coro *co, PyObject *value)
{
    WriteState *st = corolla_coro_state(co);
    if (begin_writing(st, "write_eof") < 0) {
        return COROLLA_RAISE;
    }
    PyObject *transport = Py_NewRef(st->stream->writer.transport);
    PyObject *done = PyObject_CallMethodNoArgs(transport, co->state->s.write_eof);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec write_eof_spec = {
    .name = "write_eof",
    .qualname = "Stream.write_eof",
    .size = sizeof(WriteState),
    .step = write_eof_step,
    .traverse = write_traverse,
    .clear = write_clear,
};

static PyObject *
stream_write_eof(PyObject *self, PyObject *unused)
{
    corolla_coro *co;
    (void)new_write(self, &write_eof_spec, &co);
    return (PyObject *)co;
}

/* ---- sendfile() -------------------------------------------------------------------------------- */

/* loop.sendfile(transport, *args, **named): the awaitable. New reference or NULL. */
static PyObject *
call_sendfile(WriteState *st)
{
    StreamWriter *writer = &st->stream->writer;
    PyObject *result = NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(st->args);
    PyObject *method = PyObject_GetAttr(writer->loop, writer->state->s.sendfile);
    PyObject *args = method == NULL ? NULL : PyTuple_New(count + 1);
    if (args == NULL) {
        goto fail;
    }
    PyTuple_SET_ITEM(args, 0, Py_NewRef(writer->transport));
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(args, i + 1, Py_NewRef(PyTuple_GET_ITEM(st->args, i)));
    }
    result = PyObject_Call(method, args, st->named);
fail:
    Py_XDECREF(args);
    Py_XDECREF(method);
    return result;
}

static corolla_step
sendfile_step(corolla_coro *co, PyObject *value)
{
    WriteState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (begin_writing(st, "sendfile") < 0) {
        return COROLLA_RAISE;
    }
    st->waiter = call_sendfile(st);
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));

    COROLLA_END(co);
}

static const corolla_coro_spec sendfile_spec = {
    .name = "sendfile",
    .qualname = "Stream.sendfile",
    .size = sizeof(WriteState),
    .step = sendfile_step,
    .traverse = write_traverse,
    .clear = write_clear,
};

static PyObject *
stream_sendfile(PyObject *self, PyObject *args, PyObject *kwargs)
{
    corolla_coro *co;
    WriteState *st = new_write(self, &sendfile_spec, &co);
    if (st != NULL) {
        st->args = Py_NewRef(args);
        st->named = Py_XNewRef(kwargs);
    }
    return (PyObject *)co;
}

/* ---- close() ------------------------------------------------------------------------------------- */

static corolla_step
close_step(corolla_coro *co, PyObject *value)
{
    WriteState *st = corolla_coro_state(co);
    StreamWriter *writer = &st->stream->writer;

    COROLLA_BEGIN(co);

    if (writer_check(writer) < 0) {
        return COROLLA_RAISE;
    }
    PyObject *transport = Py_NewRef(writer->transport);
    bool abort = st->abort && (st->stream->mode & STREAM_WRITE); /* a pipe that is read from cannot be aborted */
    PyObject *done = PyObject_CallMethodNoArgs(transport, abort ? co->state->s.abort : co->state->s.close);
    Py_DECREF(transport);
    if (done == NULL) {
        return COROLLA_RAISE;
    }
    Py_DECREF(done);
    int wait = writer_begin_end(writer, &st->waiter);
    if (wait > 0) {
        COROLLA_AWAIT(co, st->waiter);
        if (writer->protocol != NULL) {
            flow_waited((StreamFlow *)writer->protocol, st->waiter);
        }
        wait = value == NULL ? -1 : 0;
    }
    if (wait < 0) {
        /* A body that has failed is told of its own failure, not of what came of it. */
        if (!st->abort || !PyErr_ExceptionMatches(PyExc_OSError)) {
            return COROLLA_RAISE;
        }
        PyErr_Clear();
    }
    return corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec close_spec = {
    .name = "close",
    .qualname = "Stream.close",
    .size = sizeof(WriteState),
    .step = close_step,
    .traverse = write_traverse,
    .clear = write_clear,
};

PyObject *
stream_closing(PyObject *self, bool abort)
{
    corolla_coro *co;
    WriteState *st = new_write(self, &close_spec, &co);
    if (st != NULL) {
        st->abort = abort;
    }
    return (PyObject *)co;
}

static PyObject *
stream_close(PyObject *self, PyObject *unused)
{
    return stream_closing(self, false);
}

/* ---- Methods ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(write_doc,
             "write($self, /, data)\n--\n\n"
             "Coroutine: send bytes, and wait while too much is queued.\n\n"
             "data: a bytes-like object; all of it is accepted before the wait, and a cancelled wait takes none back.\n"
             "Raises ConnectionResetError once the connection is closing or lost, what it was lost with, and\n"
             "RuntimeError while another coroutine writes.");
PyDoc_STRVAR(writelines_doc, "writelines($self, /, data)\n--\n\n"
                             "Coroutine: as write() of each of an iterable of bytes-like objects, in order.");
PyDoc_STRVAR(write_eof_doc,
             "write_eof($self, /)\n--\n\n"
             "Coroutine: nothing will be written any more; the other side reads the end once everything\n"
             "has been sent.");
PyDoc_STRVAR(sendfile_doc,
             "sendfile($self, /, file, offset=0, count=None, *, fallback=True)\n--\n\n"
             "Coroutine: send a file opened in binary mode and return the number of bytes sent.\n\n"
             "offset, count: bytes. Raises what write() raises and what loop.sendfile() does, which specifies it.");
PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Coroutine: send what is queued, close the connection, and wait until it is closed.\n\n"
             "Raises what the connection was lost with, if it was: not everything may have arrived. Harmless\n"
             "twice. `async with` ends with it; when its body has failed, with abort() instead.");

PyMethodDef stream_write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))stream_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))stream_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"write_eof", stream_write_eof, METH_NOARGS, write_eof_doc},
    {"sendfile", (PyCFunction)(void (*)(void))stream_sendfile, METH_VARARGS | METH_KEYWORDS, sendfile_doc},
    {"close", stream_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};
