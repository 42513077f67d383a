/* loop.sendfile()'s part in a TCP or Unix transport: while a file is sent past its queue, nobody else writes, and nothing is
 * read. */
#include "tcp.h"

bool
corolla_transport_sends_files(corolla_state *state, PyObject *transport)
{
    return corolla_tcp_check(state, transport);
}

int
corolla_sendfile_begin(PyObject *transport)
{
    TcpTransport *t = (TcpTransport *)transport;
    if (t->sending_file) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return -1;
    }
    t->sending_file = true;
    t->resume_after = !t->closing && !t->paused;
    if (t->resume_after) {
        tcp_pause(t);
    }
    return 0;
}

/* Keeps an exception being raised. */
void
corolla_sendfile_end(PyObject *transport)
{
    TcpTransport *t = (TcpTransport *)transport;
    if (!t->sending_file) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *room = t->room;
    t->room = NULL;
    t->sending_file = false;
    if (!t->stream.closed) {
        (void)corolla_stream_want(&t->stream, false);
        if (t->eof) {
            (void)corolla_stream_shutdown(&t->stream); /* write_eof() waited for the file */
        }
    }
    if (t->resume_after && t->core != NULL && !t->core->closed && tcp_resume(t) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    tcp_update_hold(t);
    Py_XDECREF(room);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

int
corolla_sendfile_descriptor(PyObject *transport)
{
    TcpTransport *t = (TcpTransport *)transport;
    return t->stream.closed ? -1 : t->fd;
}

bool
corolla_sendfile_may_go(PyObject *transport)
{
    return ((TcpTransport *)transport)->stream.piece_count == 0;
}

PyObject *
corolla_sendfile_room(PyObject *transport)
{
    TcpTransport *t = (TcpTransport *)transport;
    PyObject *room = corolla_future_new(t->core);
    if (room == NULL) {
        return NULL;
    }
    int err = corolla_stream_want(&t->stream, true);
    if (err < 0) {
        transport_set_errno(err);
        Py_DECREF(room);
        return NULL;
    }
    Py_XSETREF(t->room, Py_NewRef(room));
    tcp_update_hold(t);
    return room;
}

void
corolla_sendfile_broken(PyObject *transport)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (tcp_force_close((TcpTransport *)transport, exc) < 0) {
        PyErr_Clear(); /* the loop has closed: nobody is to be told */
    }
    PyErr_SetRaisedException(exc);
}

int
tcp_tell_room(TcpTransport *t)
{
    PyObject *room = t->room;
    t->room = NULL;
    int rc = room == NULL ? 0 : corolla_future_complete(room, Py_None);
    Py_XDECREF(room);
    return rc;
}

int
tcp_fail_room(TcpTransport *t, PyObject *exc)
{
    PyObject *room = t->room;
    if (room == NULL) {
        return 0;
    }
    t->room = NULL;
    if (exc == NULL) {
        PyErr_SetString(PyExc_ConnectionError, "Connection is closed");
    }
    else {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    int rc = corolla_future_complete(room, NULL);
    Py_DECREF(room);
    return rc;
}
