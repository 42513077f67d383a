/* Bytes from a transport of ours to a reader of ours, without a call into Python. */
#include "streams.h"

/* From so much on, what is asked for in one piece is received into it. Less is better taken out of whatever comes. */
enum { FIT_LEAST = 16 * 1024, FIT_MOST = 1024 * 1024, DIRECT_LEAST = 32 * 1024, ROOM_LEAST = 2048 };

/* Where the reader's buffer wants bytes, or (*buf stays NULL) wherever is best for the transport. */
static int
room_in(StreamReader *reader, size_t hint, void **buf, size_t *len)
{
    corolla_buffer *buffer = &reader->buffer;
    size_t unread = buffer_len(buffer);
    size_t missing = reader->wanted > unread ? reader->wanted - unread : 0;
    if (missing >= FIT_LEAST && reader->wanted <= FIT_MOST) {
        return buffer_fit(buffer, reader->wanted) < 0 ? -1 : buffer_reserve(buffer, missing, buf, len);
    }
    if (unread == 0 && hint < DIRECT_LEAST) {
        return 0;
    }
    size_t least = hint + hint / 4;
    least = least < ROOM_LEAST ? ROOM_LEAST : least > COROLLA_SCRATCH ? COROLLA_SCRATCH : least;
    return buffer_reserve(buffer, least, buf, len);
}

/* ---- For a reader ------------------------------------------------------------------------------ */

static int
reader_where(PyObject *self, size_t hint, void **buf, size_t *len)
{
    return room_in((StreamReader *)self, hint, buf, len);
}

/* So many came, at buf: in the buffer, where room_in() said, or in memory of the transport's. 0 or -1. */
static int
reader_came(PyObject *self, const void *buf, size_t n)
{
    StreamReader *reader = (StreamReader *)self;
    corolla_buffer *buffer = &reader->buffer;
    if (reader->eof) {
        PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof"); /* as reader.feed_data() */
        return -1;
    }
    if (buffer->store != NULL && buf == PyBytes_AS_STRING(buffer->store) + buffer->end) {
        buffer_added(buffer, n);
    }
    else if (buffer_add(buffer, buf, n) < 0) {
        return -1;
    }
    return reader_fed(reader);
}

const corolla_native_protocol reader_native_ops = {reader_where, reader_came, NULL};

/* ---- For a protocol ---------------------------------------------------------------------------- */

/* Whether no method of a program's stands in between; then *reader is the reader (new reference), or NULL if nobody has it. */
static bool
is_direct(StreamProtocol *protocol, PyObject **reader)
{
    const corolla_state *state = protocol->flow.state;
    *reader = NULL;
    if (!protocol_is_plain(state, (PyObject *)protocol) || stream_has_own(protocol->flow.dict)) {
        return false;
    }
    *reader = protocol_reader(protocol);
    if (*reader != NULL && !reader_is_plain(state, *reader)) {
        Py_CLEAR(*reader);
        return false;
    }
    return true;
}

static bool
protocol_takes(PyObject *self)
{
    PyObject *reader;
    bool direct = is_direct((StreamProtocol *)self, &reader);
    Py_XDECREF(reader);
    return direct;
}

static int
protocol_where(PyObject *self, size_t hint, void **buf, size_t *len)
{
    PyObject *reader;
    if (!is_direct((StreamProtocol *)self, &reader)) {
        return 1;
    }
    int rc = reader == NULL ? 0 : reader_where(reader, hint, buf, len);
    Py_XDECREF(reader);
    return rc;
}

static int
protocol_came(PyObject *self, const void *buf, size_t n)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyObject *reader;
    int rc = 0;
    if (!is_direct(protocol, &reader)) { /* a transport that has asked takes() long before */
        PyObject *data = PyBytes_FromStringAndSize(buf, (Py_ssize_t)n);
        PyObject *done =
            data == NULL ? NULL : PyObject_CallMethodOneArg(self, protocol->flow.state->s.data_received, data);
        rc = done == NULL ? -1 : 0;
        Py_XDECREF(data);
        Py_XDECREF(done);
    }
    else if (reader != NULL) { /* else nobody will read it */
        rc = reader_came(reader, buf, n);
    }
    Py_XDECREF(reader);
    return rc;
}

const corolla_native_protocol stream_native_ops = {protocol_where, protocol_came, protocol_takes};
