/* Reading: where the bytes go, and what the protocol is told. */
#include "tcp.h"

static void
release_view(TcpTransport *t)
{
    if (t->view != NULL && t->view->obj != NULL) {
        PyBuffer_Release(t->view);
    }
}

void
tcp_read_clear(TcpTransport *t)
{
    release_view(t);
    Py_CLEAR(t->landing);
}

/* ---- Where do bytes go? ---------------------------------------------------------------------- */

/* Asks the protocol for its buffer. 0 with t->view set, or -1 with an exception. */
static int
get_buffer(TcpTransport *t)
{
    corolla_state *state = t->state;
    if (t->view == NULL) {
        t->view = PyMem_Calloc(1, sizeof *t->view);
        if (t->view == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    release_view(t); /* of a read that came to nothing */
    PyObject *sizehint = PyLong_FromLong(-1);
    if (sizehint == NULL) {
        return -1;
    }
    PyObject *buffer = tcp_call(t, state->s.get_buffer, sizehint);
    Py_DECREF(sizehint);
    if (buffer == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(buffer, t->view, PyBUF_WRITABLE);
    Py_DECREF(buffer);
    if (rc == 0 && t->view->len == 0) {
        release_view(t);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        rc = -1;
    }
    return rc;
}

static int
land(TcpTransport *t, size_t hint, void **buf, size_t *len)
{
    while (t->buffered) {
        t->switched = false;
        if (get_buffer(t) < 0) {
            return tcp_fatal(t, "Fatal error: protocol.get_buffer() call failed.");
        }
        if (!t->stream.reading) {
            release_view(t); /* paused or closed by get_buffer() */
            return 0;
        }
        if (!t->switched) {
            *buf = t->view->buf;
            *len = (size_t)t->view->len;
            return 0;
        }
        release_view(t); /* the bytes are for the new protocol */
    }
    if (t->native != NULL) {
        int rc = t->native->where(t->protocol, hint, buf, len);
        if (rc < 0) {
            return tcp_fatal(t, "Fatal read error on socket transport");
        }
        t->by_method = rc > 0;
        if (*buf != NULL) {
            Py_CLEAR(t->landing);
            return 0;
        }
    }
    if (transport_land(t->core, &t->landing, hint, buf, len) < 0) {
        return tcp_fatal(t, "Fatal read error on socket transport");
    }
    return 0;
}

int
tcp_where(corolla_stream *s, size_t hint, void **buf, size_t *len)
{
    TcpTransport *t = tcp_of(s);
    if (!t->buffered && hint < TRANSPORT_DIRECT && t->native == NULL) {
        *buf = t->core->reactor.scratch;
        *len = COROLLA_SCRATCH;
        return 0;
    }
    Py_INCREF(t);
    int rc = land(t, hint, buf, len);
    Py_DECREF(t);
    return rc;
}

/* ---- So many came ---------------------------------------------------------------------------- */

static int
deliver_update(TcpTransport *t, ssize_t n)
{
    release_view(t);
    PyObject *result = NULL;
    PyObject *size = PyLong_FromSsize_t(n);
    if (size != NULL) {
        result = tcp_call(t, t->state->s.buffer_updated, size);
        Py_DECREF(size);
    }
    if (result == NULL) {
        return tcp_fatal(t, "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static int
deliver_native(TcpTransport *t, const void *buf, ssize_t n)
{
    PyObject *protocol = Py_NewRef(t->protocol);
    int rc = t->native->came(protocol, buf, (size_t)n);
    Py_DECREF(protocol);
    return rc < 0 ? tcp_fatal(t, "Fatal error: protocol.data_received() call failed.") : 0;
}

static int
deliver_data(TcpTransport *t, const void *buf, ssize_t n)
{
    if (t->native != NULL && !t->by_method && t->landing == NULL) {
        return deliver_native(t, buf, n);
    }
    PyObject *data = transport_take(&t->landing, buf, n);
    if (data == NULL) {
        return tcp_fatal(t, "Fatal read error on socket transport");
    }
    PyObject *result = tcp_call(t, t->state->s.data_received, data);
    Py_DECREF(data);
    if (result == NULL) {
        return tcp_fatal(t, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(result);
    return 0;
}

static int
deliver_eof(TcpTransport *t)
{
    tcp_debug(t, "%r received EOF");
    PyObject *result = tcp_call(t, t->state->s.eof_received, NULL);
    int keep_open = -1;
    if (result != NULL) {
        keep_open = PyObject_IsTrue(result);
        Py_DECREF(result);
    }
    if (keep_open < 0) {
        return tcp_fatal(t, "Fatal error: protocol.eof_received() call failed.");
    }
    if (!keep_open) {
        return tcp_close(t);
    }
    tcp_update_hold(t); /* the stream has stopped reading by itself */
    return 0;
}

int
tcp_came(corolla_stream *s, void *buf, ssize_t n)
{
    TcpTransport *t = tcp_of(s);
    int rc;
    Py_INCREF(t);
    if (n > 0) {
        bool viewed = t->view != NULL && t->view->obj != NULL;
        rc = viewed ? deliver_update(t, n) : deliver_data(t, buf, n);
    }
    else {
        tcp_read_clear(t);
        rc = n == 0 ? deliver_eof(t) : tcp_fatal_errno(t, n, "Fatal read error on socket transport");
    }
    Py_DECREF(t);
    return rc;
}

/* ---- Methods --------------------------------------------------------------------------------- */

void
tcp_pause(TcpTransport *t)
{
    if (t->closing || t->paused) {
        return;
    }
    t->paused = true;
    if (!t->stream.closed) {
        (void)corolla_stream_read(&t->stream, false);
        tcp_update_hold(t);
    }
    tcp_debug(t, "%r pauses reading");
}

static PyObject *
tcp_pause_reading(PyObject *self, PyObject *unused)
{
    tcp_pause((TcpTransport *)self);
    Py_RETURN_NONE;
}

int
tcp_resume(TcpTransport *t)
{
    if (t->closing || !t->paused) {
        return 0;
    }
    if (corolla_core_check_closed(t->core) < 0) {
        return -1;
    }
    t->paused = false;
    if (t->made) { /* else it starts behind connection_made() */
        int err = corolla_stream_read(&t->stream, true);
        if (err < 0) {
            t->paused = true;
            transport_set_errno(err);
            return -1;
        }
        tcp_update_hold(t);
    }
    tcp_debug(t, "%r resumes reading");
    return 0;
}

static PyObject *
tcp_resume_reading(PyObject *self, PyObject *unused)
{
    return tcp_resume((TcpTransport *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tcp_is_reading(PyObject *self, PyObject *unused)
{
    TcpTransport *t = (TcpTransport *)self;
    return PyBool_FromLong(!t->closing && !t->paused);
}

PyDoc_STRVAR(pause_reading_doc, "Read nothing until resume_reading() is called.");
PyDoc_STRVAR(resume_reading_doc, "Go on reading after pause_reading().");
PyDoc_STRVAR(is_reading_doc, "True unless reading is paused or the connection is closing.");

PyMethodDef tcp_read_methods[] = {
    {"pause_reading", tcp_pause_reading, METH_NOARGS, pause_reading_doc},
    {"resume_reading", tcp_resume_reading, METH_NOARGS, resume_reading_doc},
    {"is_reading", tcp_is_reading, METH_NOARGS, is_reading_doc},
    {NULL, NULL, 0, NULL},
};
