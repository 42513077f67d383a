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

int
corolla_tls_upgrade(corolla_core *core, PyObject *transport, PyObject *tls, PyObject *unread)
{
    TlsTransport *t = (TlsTransport *)Py_XNewRef(corolla_tls_transport(tls));
    int rc = -1;
    if (t == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the TLS connection has been given up");
        return -1;
    }
    if (take_over(core->state, transport, tls) < 0 || tls_made(t, transport) < 0) {
        goto done;
    }
    if (unread != NULL && t->stage != TLS_UNWRAPPED) {
        Py_buffer view;
        if (PyObject_GetBuffer(unread, &view, PyBUF_SIMPLE) < 0) {
            goto done;
        }
        int fed = view.len == 0 ? 0 : tls_came(t, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
        if (fed < 0) {
            goto done;
        }
    }
    /* Reading goes on even if it had been paused, or had come to the end: it comes to it once more, for the handshake. */
    rc = t->stage == TLS_UNWRAPPED ? 0 : (t->on == TLS_ON_TLS || tls_below_pause(t) == 0) ? tls_below_resume(t) : -1;
done:
    Py_DECREF(t);
    return rc;
}
