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

static int
native_where(PyObject *self, size_t hint, void **buf, size_t *len)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyObject *reader = protocol_reader(protocol);
    if (reader == NULL) {
        return 0;
    }
    int rc = reader_is_plain(protocol->flow.state, reader) ? room_in((StreamReader *)reader, hint, buf, len) : 0;
    Py_DECREF(reader);
    return rc;
}

/* So many came, at buf: there, or in memory of the transport's. 0 or -1. */
static int
native_came(PyObject *self, const void *buf, size_t n)
{
    StreamProtocol *protocol = (StreamProtocol *)self;
    PyObject *object = protocol_reader(protocol);
    if (object == NULL) {
        return 0; /* nobody will read it */
    }
    int rc;
    if (reader_is_plain(protocol->flow.state, object)) {
        StreamReader *reader = (StreamReader *)object;
        corolla_buffer *buffer = &reader->buffer;
        bool inside = buffer->store != NULL && buf == PyBytes_AS_STRING(buffer->store) + buffer->end;
        rc = 0;
        if (inside) {
            buffer_added(buffer, n);
        }
        else {
            rc = buffer_add(buffer, buf, n);
        }
        if (rc == 0) {
            rc = reader_fed(reader);
        }
    }
    else {
        PyObject *data = PyBytes_FromStringAndSize(buf, (Py_ssize_t)n);
        PyObject *fed =
            data == NULL ? NULL : PyObject_CallMethodOneArg(object, protocol->flow.state->s.feed_data, data);
        rc = fed == NULL ? -1 : 0;
        Py_XDECREF(data);
        Py_XDECREF(fed);
    }
    Py_DECREF(object);
    return rc;
}

const corolla_native_protocol stream_native_ops = {native_where, native_came};
