/* Writing: what goes to the stream, by reference or copied, and flow control. */
#include "../args.h"
#include "tcp.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

enum { WARN_AFTER = 5, INLINE_CHUNKS = COROLLA_TCP_MOST };

/* ---- Flow control ---------------------------------------------------------------------------- */

int
tcp_pressure(corolla_stream *s, bool on)
{
    TcpTransport *t = tcp_of(s);
    if (t->closing || t->protocol_paused == on) {
        return 0;
    }
    corolla_state *state = t->state;
    int rc = 0;
    Py_INCREF(t);
    t->protocol_paused = on;
    PyObject *result = tcp_call(t, on ? state->s.pause_writing : state->s.resume_writing, NULL);
    if (result == NULL) {
        rc = tcp_report(t, on ? "protocol.pause_writing() failed" : "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
    Py_DECREF(t);
    return rc;
}

/* ---- Into the stream --------------------------------------------------------------------------- */

/* A write on a connection that is gone. 0 or -1. */
static int
count_lost_write(TcpTransport *t)
{
    if (t->lost >= WARN_AFTER) {
        PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "s", "socket.send() raised exception.");
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    if (t->lost < UINT_MAX) {
        t->lost++;
    }
    return 0;
}

static int
send_chunks(TcpTransport *t, const corolla_chunk *chunks, size_t count)
{
    if (t->lost) {
        return count_lost_write(t);
    }
    if (t->closing || t->stream.closed) {
        return 0; /* closed by us, or with the loop: ordinary in a shutdown */
    }
    t->in_method++;
    int err = corolla_stream_write(&t->stream, chunks, count);
    t->in_method--;
    if (PyErr_Occurred()) {
        return -1; /* KeyboardInterrupt or SystemExit out of pause_writing() */
    }
    if (err < 0 && !t->lost) {
        return tcp_fatal_errno(t, err, "Fatal write error on socket transport");
    }
    tcp_update_hold(t);
    return 0;
}

static int
check_not_ended(TcpTransport *t, const char *method)
{
    if (t->eof) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (t->sending_file) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", method);
        return -1;
    }
    return 0;
}

int
corolla_tcp_write(PyObject *transport, PyObject *data)
{
    TcpTransport *t = (TcpTransport *)transport;
    Py_buffer view = {.obj = NULL};
    corolla_chunk chunk;
    if (PyBytes_CheckExact(data)) {
        chunk = transport_bytes_chunk(data);
    }
    else if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                     Py_TYPE(data)->tp_name);
        return -1;
    }
    else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        chunk = transport_view_chunk(&view);
    }
    /* Behind the buffer, whose exporter may be Python code. */
    int rc = check_not_ended(t, "write");
    if (rc == 0 && chunk.len > 0) {
        rc = send_chunks(t, &chunk, 1);
    }
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    return rc;
}

int
corolla_tcp_write_all(PyObject *transport, PyObject *const *items, size_t count)
{
    TcpTransport *t = (TcpTransport *)transport;
    corolla_chunk chunks[COROLLA_TCP_MOST];
    assert(count <= COROLLA_TCP_MOST);
    for (size_t i = 0; i < count; i++) {
        chunks[i] = transport_bytes_chunk(items[i]);
    }
    return check_not_ended(t, "write") < 0 ? -1 : send_chunks(t, chunks, count);
}

static PyObject *
tcp_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", NULL};
    static const corolla_signature sig = {"write", names, 1, 1, NULL};
    PyObject *data;
    if (corolla_unpack(&sig, args, nargs, kwnames, &data) < 0) {
        return NULL;
    }
    return corolla_tcp_write(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- writelines() ------------------------------------------------------------------------------ */

typedef struct Lines {
    PyObject *items; /* owned: a tuple */
    corolla_chunk few[INLINE_CHUNKS];
    corolla_chunk *chunks;
    Py_buffer *views; /* owned table for what is not bytes, NULL until needed */
    size_t view_count, count, size;
} Lines;

static int
lines_init(Lines *lines, PyObject *iterable)
{
    *lines = (Lines){.items = PySequence_Tuple(iterable)};
    if (lines->items == NULL) {
        return -1;
    }
    size_t count = (size_t)PyTuple_GET_SIZE(lines->items);
    lines->chunks = count <= INLINE_CHUNKS ? lines->few : PyMem_New(corolla_chunk, count);
    if (lines->chunks == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GET_ITEM(lines->items, (Py_ssize_t)i);
        corolla_chunk chunk;
        if (PyBytes_CheckExact(item)) {
            chunk = transport_bytes_chunk(item);
        }
        else {
            if (lines->views == NULL) {
                lines->views = PyMem_New(Py_buffer, count);
                if (lines->views == NULL) {
                    PyErr_NoMemory();
                    return -1;
                }
            }
            if (!PyObject_CheckBuffer(item)) {
                PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                             Py_TYPE(item)->tp_name);
                return -1;
            }
            if (PyObject_GetBuffer(item, &lines->views[lines->view_count], PyBUF_SIMPLE) < 0) {
                return -1;
            }
            chunk = transport_view_chunk(&lines->views[lines->view_count++]);
        }
        if (chunk.len > 0) {
            lines->size += chunk.len;
            lines->chunks[lines->count++] = chunk;
        }
    }
    return 0;
}

static void
lines_clear(Lines *lines)
{
    for (size_t i = 0; i < lines->view_count; i++) {
        PyBuffer_Release(&lines->views[i]);
    }
    PyMem_Free(lines->views);
    if (lines->chunks != lines->few) {
        PyMem_Free(lines->chunks);
    }
    Py_XDECREF(lines->items);
}

static PyObject *
tcp_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"list_of_data", NULL};
    static const corolla_signature sig = {"writelines", names, 1, 1, NULL};
    PyObject *iterable;
    if (corolla_unpack(&sig, args, nargs, kwnames, &iterable) < 0) {
        return NULL;
    }
    TcpTransport *t = (TcpTransport *)self;
    Lines lines;
    if (check_not_ended(t, "writelines") < 0) {
        return NULL;
    }
    int rc = lines_init(&lines, iterable);
    if (rc == 0) {
        rc = check_not_ended(t, "writelines"); /* the iterable may have called write_eof() */
    }
    if (rc == 0 && lines.count > 0) {
        rc = send_chunks(t, lines.chunks, lines.count);
    }
    lines_clear(&lines);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- write_eof() ------------------------------------------------------------------------------- */

static PyObject *
tcp_write_eof(PyObject *self, PyObject *unused)
{
    TcpTransport *t = (TcpTransport *)self;
    if (t->closing || t->eof) {
        Py_RETURN_NONE;
    }
    t->eof = true;
    int err = t->stream.closed || t->sending_file ? 0 : corolla_stream_shutdown(&t->stream);
    if (err < 0) {
        errno = -err;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
tcp_can_write_eof(PyObject *self, PyObject *unused)
{
    Py_RETURN_TRUE;
}

/* ---- Limits ------------------------------------------------------------------------------------ */

static PyObject *
tcp_set_write_buffer_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low", NULL};
    static const corolla_signature signature = {"set_write_buffer_limits", names, 0, 2, NULL};
    TcpTransport *t = (TcpTransport *)self;
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
tcp_get_write_buffer_limits(PyObject *self, PyObject *unused)
{
    TcpTransport *t = (TcpTransport *)self;
    return Py_BuildValue("nn", (Py_ssize_t)t->stream.low, (Py_ssize_t)t->stream.high);
}

static PyObject *
tcp_get_write_buffer_size(PyObject *self, PyObject *unused)
{
    return PyLong_FromSize_t(((TcpTransport *)self)->stream.queued);
}

PyDoc_STRVAR(write_doc, "Write bytes; what the kernel does not take at once is queued.");
PyDoc_STRVAR(writelines_doc, "Write each of the given bytes-like objects, in order.");
PyDoc_STRVAR(write_eof_doc, "Close the writing side once what was written has been sent.");
PyDoc_STRVAR(can_write_eof_doc, "True: write_eof() is supported.");
PyDoc_STRVAR(set_limits_doc, "Set the high and low watermarks of the write queue, in bytes.");
PyDoc_STRVAR(get_limits_doc, "The low and the high watermark of the write queue.");
PyDoc_STRVAR(get_size_doc, "Bytes written that the kernel has not taken yet.");

PyMethodDef tcp_write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))tcp_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))tcp_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"write_eof", tcp_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", tcp_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))tcp_set_write_buffer_limits, METH_FASTCALL | METH_KEYWORDS,
     set_limits_doc},
    {"get_write_buffer_limits", tcp_get_write_buffer_limits, METH_NOARGS, get_limits_doc},
    {"get_write_buffer_size", tcp_get_write_buffer_size, METH_NOARGS, get_size_doc},
    {NULL, NULL, 0, NULL},
};
