/* The orderly end: close_notify of ours behind all that was written, then the peer's, then the transport below is closed.
 *
 * What comes meanwhile is dropped. A peer that goes on sending is not listened to for long: it has our close_notify, and
 * the transport below is closed on it. One that says nothing is waited for until the timeout. */
#include "tls.h"

enum { MOST_DISCARDED = 256 * 1024 }; /* bytes: more than what is on its way when both sides mean well */

int
tls_tell_eof(TlsTransport *t)
{
    if (t->told != TLS_TOLD_MADE || t->protocol == NULL) {
        return 0;
    }
    t->told = TLS_TOLD_EOF;
    PyObject *result = tls_call(t, t->state->s.eof_received, NULL);
    int keep_open = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (keep_open < 0) {
        return tls_fatal(t, "Error calling eof_received()");
    }
    if (keep_open) {
        PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "s",
                                             "returning true from eof_received() has no effect when using ssl");
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)t);
        }
        Py_XDECREF(done);
    }
    return 0;
}

static PyObject *
shutdown_late(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    if (t->stage != TLS_SHUTDOWN) {
        Py_RETURN_NONE;
    }
    corolla_core_leave_task(t->core);
    PyObject *exc = PyObject_CallFunction(PyExc_TimeoutError, "s", "SSL shutdown timed out");
    if (exc == NULL) {
        return NULL;
    }
    int rc = tls_abort(t, exc);
    Py_DECREF(exc);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef shutdown_late_def = {"_check_shutdown_timeout", shutdown_late, METH_NOARGS, NULL};

/* Drops the plain bytes that are there. 1, 0 once it is more than anybody had on its way, or -1. */
static int
discard(TlsTransport *t)
{
    tls_engine *engine = t->engine;
    char dropped
        [16 * 1024]; /* the loop's scratch memory may hold another connection's bytes: close() can be called anywhere */
    while (engine->ops->readable(engine)) {
        ssize_t n = engine->ops->read(engine, dropped, sizeof dropped);
        if (n > 0) {
            t->discarded += (size_t)n;
        }
        else if (n == TLS_CLOSED) {
            t->notified = true;
            break;
        }
        else if (tls_drop_exception() < 0) {
            return -1;
        }
        else {
            break; /* shutdown() will tell */
        }
    }
    return t->discarded <= MOST_DISCARDED;
}

/* Nothing is waited for any longer. */
static int
close_below(TlsTransport *t)
{
    corolla_alarm_clear(&t->alarm, t->state);
    return tls_below_close(t);
}

int
tls_shut(TlsTransport *t)
{
    tls_engine *engine = t->engine;
    int listened_to = discard(t);
    if (listened_to < 0) {
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    int rc = 0;
    if (!t->eof) { /* else there is nobody to say close_notify to: asyncio does not */
        rc = engine->ops->shutdown(engine);
        t->notified = t->notified || rc == 0; /* if not by discard(), then by this */
    }
    if (t->stage != TLS_SHUTDOWN) { /* by code of somebody's that it runs */
        return tls_drop_exception();
    }
    PyObject *error = rc == TLS_FAILED ? PyErr_GetRaisedException() : NULL;
    if (tls_send(t) < 0) {
        Py_XDECREF(error);
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    if (rc == TLS_AGAIN && listened_to && !t->eof) {
        return 0;
    }
    if (error != NULL && listened_to && !t->eof) {
        PyErr_SetRaisedException(error);
        return tls_fatal(t, "Fatal error on transport");
    }
    if (error != NULL) {
        int closed = close_below(t);
        if (closed < 0) {
            Py_DECREF(error);
            return -1;
        }
        PyErr_SetRaisedException(error);
        return tls_drop_exception();
    }
    if (rc == 0) {
        int told = tls_tell_eof(t);
        if (told < 0 || t->stage != TLS_SHUTDOWN) {
            return told;
        }
    }
    return close_below(t);
}

static int
begin(TlsTransport *t)
{
    t->closed = true;
    if (t->sealing) { /* by the protocol, that below calls from inside write(): behind what is being written */
        t->closed = t->close_after = true;
        return 0;
    }
    t->close_after = false;
    corolla_reactor_undefer(&t->core->reactor, &t->flush);
    if (tls_seal(t, true) < 0) {
        t->close_after = true; /* where it is not over: KeyboardInterrupt leaves it to whoever runs the loop again */
        return -1;
    }
    if (t->stage != TLS_WRAPPED && t->stage != TLS_FLUSHING) {
        return 0; /* it failed, or a protocol's method that it called has closed or aborted */
    }
    t->stage = TLS_SHUTDOWN;
    if (corolla_alarm_after(&t->alarm, t->state, t->loop, t->shutdown_timeout, &shutdown_late_def, (PyObject *)t) < 0) {
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    if (t->below_paused) {
        t->below_paused = false;
        if (tls_below_resume(t) < 0) {
            return tls_fatal(t, "Fatal error on SSL protocol");
        }
    }
    return tls_shut(t);
}

int
tls_close(TlsTransport *t)
{
    switch (t->stage) {
    case TLS_UNWRAPPED:
        t->closed = true;
        return 0;
    case TLS_HANDSHAKE:
        return tls_abort(t, NULL);
    case TLS_SHUTDOWN:
        return 0;
    default:
        return begin(t);
    }
}
