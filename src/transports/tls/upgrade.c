/* start_tls: a connection that has begun in clear text goes on under TLS. */
#include "../tcp.h"
#include "tls.h"

/* Whatever comes from now on is for TLS. 0 or -1. */
static int
take_over(corolla_state *state, PyObject *transport, PyObject *tls)
{
    PyObject *done;
    if (corolla_tls_check(state, transport)) {
        return tls_set_protocol((TlsTransport *)transport, tls);
    }
    done = PyObject_CallMethodOneArg(transport, state->s.set_protocol, tls);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What came too early, then what comes. Takes the unread bytes. 0 or -1. */
static int
begin(TlsTransport *t)
{
    PyObject *unread = t->unread;
    Py_buffer view;
    t->unread = NULL;
    int rc = tls_begin(t);
    if (unread != NULL && rc == 0 && t->stage != TLS_UNWRAPPED) {
        rc = PyObject_GetBuffer(unread, &view, PyBUF_SIMPLE);
        if (rc == 0) {
            rc = view.len == 0 ? 0 : tls_came(t, view.buf, (size_t)view.len);
            PyBuffer_Release(&view);
        }
    }
    Py_XDECREF(unread);
    /* Reading goes on even if it had been paused, or had come to the end: it comes to it once more, for the handshake. */
    return rc < 0 || t->stage == TLS_UNWRAPPED ? rc : tls_below_resume(t);
}

int
tls_upgrade_job(void *arg)
{
    TlsTransport *t = arg;
    int rc = 0;
    if (!t->lost && t->core != NULL) {
        corolla_core_leave_task(t->core);
        rc = begin(t);
        if (rc < 0) {
            rc = tls_fatal(t, "Fatal error on SSL protocol");
        }
    }
    Py_DECREF(t);
    return rc;
}

/* By a job, since whoever asks is in the middle of a task's step, and the handshake runs code of others. Nothing is read
 * until then. */
int
corolla_tls_upgrade(corolla_core *core, PyObject *transport, PyObject *tls, PyObject *unread)
{
    TlsTransport *t = (TlsTransport *)Py_XNewRef(corolla_tls_transport(tls));
    if (t == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the TLS connection has been given up");
        return -1;
    }
    int rc = tls_attach(t, transport);
    if (rc == 0 && tls_below_is_gone(t)) {
        PyErr_SetString(PyExc_ConnectionResetError, "the connection was closed before the SSL handshake");
        rc = -1;
    }
    if (rc == 0) {
        t->unread = Py_XNewRef(unread);
        rc = tls_below_pause(t);
    }
    if (rc == 0) {
        rc = take_over(core->state, transport, tls);
    }
    if (rc == 0) {
        rc = corolla_core_post(core, tls_upgrade_job, Py_NewRef(t));
    }
    Py_DECREF(t);
    return rc;
}
