/* How a connection begins, how it fails and how it ends: what comes from the transport below, and what the application's
 * protocol is told of it. The order is that of asyncio.sslproto. */
#include "tls.h"

enum { BUSY = 10 * 1000 * 1000 }; /* ns between what comes: a connection with less is busy */

/* ---- Telling ------------------------------------------------------------------------------------ */

PyObject *
tls_call(TlsTransport *t, PyObject *name, PyObject *arg)
{
    PyObject *context = t->inside ? NULL : t->context;
    t->inside++;
    PyObject *result = transport_call(t->core, (PyObject *)t, t->protocol, context, name, arg);
    t->inside--;
    return result;
}

/* In debug mode: logger.debug("%r: %s", t, message, exc_info=exc). Keeps an exception being raised. */
static void
log_failure(TlsTransport *t, const char *message, PyObject *exc)
{
    if (t->core == NULL || !t->core->debug) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *debug = PyObject_GetAttr(t->state->logger, t->state->s.debug);
    PyObject *args = debug == NULL ? NULL : Py_BuildValue("sOs", "%r: %s", t, message);
    PyObject *kwargs = args == NULL ? NULL : Py_BuildValue("{sO}", "exc_info", exc);
    PyObject *done = kwargs == NULL ? NULL : PyObject_Call(debug, args, kwargs);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(debug);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_XDECREF(done);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* call_exception_handler() with the transport below and its protocol, as asyncio has it. 0 or -1. */
static int
report(TlsTransport *t, const char *message, PyObject *exc)
{
    PyObject *face = t->face == NULL ? NULL : Py_NewRef(t->face);
    PyObject *below = Py_NewRef(t->below == NULL ? Py_None : t->below);
    PyErr_SetRaisedException(Py_NewRef(exc));
    int rc = transport_report(t->state, t->loop, below, face, message);
    Py_XDECREF(face);
    Py_DECREF(below);
    return rc;
}

/* Steals waiter. exc may be NULL. */
static int
settle(PyObject *waiter, PyObject *exc)
{
    int rc = 0;
    if (waiter != NULL && !corolla_future_done(waiter)) {
        rc = exc == NULL ? corolla_future_set_result(waiter, Py_None) : corolla_future_set_exception(waiter, exc);
    }
    Py_XDECREF(waiter);
    return rc;
}

static int
wake_waiter(TlsTransport *t, PyObject *exc)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    return settle(waiter, exc);
}

/* A transport below that is not ours has raised when it was to be aborted, so that connection_lost() may never come: that is
 * told, and who waits for the handshake hears of exc, which was the reason. Takes the exception being raised. 0, or -1 with
 * KeyboardInterrupt or SystemExit. */
static int
abort_failed(TlsTransport *t, PyObject *exc)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    PyObject *raised = PyErr_GetRaisedException();
    int rc = report(t, "Exception in transport.abort()", raised);
    Py_DECREF(raised);
    return rc < 0 ? rc : wake_waiter(t, exc);
}

int
tls_fatal(TlsTransport *t, const char *message)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int rc = tls_abort(t, exc);
    if (rc < 0) {
        rc = abort_failed(t, exc);
    }
    if (rc == 0 && PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        log_failure(t, message, exc);
    }
    else if (rc == 0 && !PyErr_GivenExceptionMatches(exc, t->state->CancelledError)) {
        rc = report(t, message, exc);
    }
    Py_DECREF(exc);
    return rc;
}

/* Before code of anybody's is run; a transport that is not ours may call from inside a task's step. */
static void
leave_task(TlsTransport *t)
{
    if (t->inside == 0) {
        corolla_core_leave_task(t->core);
    }
}

/* ---- The handshake --------------------------------------------------------------------------------- */

/* Takes the exception being raised. 0 or -1. */
static int
fail_handshake(TlsTransport *t)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    corolla_alarm_clear(&t->alarm, t->state);
    PyObject *exc = PyErr_GetRaisedException();
    bool verifying = PyErr_GivenExceptionMatches(exc, t->state->ssl_CertificateError);
    if (!t->eof && tls_send(t) < 0) { /* the alert: the peer is told why */
        PyErr_Clear();
    }
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    PyErr_SetRaisedException(Py_NewRef(exc));
    int rc = tls_fatal(t, verifying ? "SSL handshake failed on verifying the certificate" : "SSL handshake failed");
    if (rc == 0 && t->accepted && t->core != NULL && t->core->debug) {
        /* What asyncio's server says, to whom it says it. */
        rc = report(t, "Error on transport creation for incoming connection", exc);
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (settle(waiter, exc) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
    }
    Py_DECREF(exc);
    return rc;
}

static void
log_handshake(TlsTransport *t)
{
    if (!t->core->debug || t->began == 0) {
        return;
    }
    double took = (double)(corolla_clock() - t->began) / 1e6;
    PyObject *done = PyObject_CallMethod(t->state->logger, "debug", "sOd", "%r: SSL handshake took %.1f ms", t, took);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(done);
}

static int
complete_handshake(TlsTransport *t)
{
    int rc = t->engine->plain ? 0 : tls_learn_extra(t);
    if (t->stage != TLS_HANDSHAKE) { /* aborted by code of somebody's that this runs */
        return tls_drop_exception();
    }
    if (rc < 0) {
        return fail_handshake(t);
    }
    corolla_alarm_clear(&t->alarm, t->state);
    t->stage = TLS_WRAPPED;
    t->shaken = true;
    log_handshake(t);
    if (t->stage != TLS_WRAPPED) {
        return 0;
    }
    if (t->told == TLS_TOLD_NOTHING) {
        t->told = TLS_TOLD_MADE;
        PyObject *result = tls_call(t, t->state->s.connection_made, (PyObject *)t);
        if (result == NULL) {
            return tls_fatal(t, "Fatal error: protocol.connection_made() call failed.");
        }
        Py_DECREF(result);
    }
    if (wake_waiter(t, NULL) < 0) {
        return -1;
    }
    rc = tls_pump(t, NULL); /* the application's first bytes and ours leave together */
    if (rc == 0 && t->stage == TLS_WRAPPED && t->engine->stirred) {
        rc = tls_send(t) < 0 ? tls_fatal(t, "Fatal error on SSL protocol") : 0;
    }
    return rc;
}

static int
shake_hands(TlsTransport *t)
{
    int rc = t->engine->ops->handshake(t->engine);
    if (t->stage != TLS_HANDSHAKE) { /* aborted by code of somebody's that the handshake runs */
        return tls_drop_exception();
    }
    if (rc == TLS_FAILED) {
        return fail_handshake(t);
    }
    if (rc == TLS_AGAIN) {
        return tls_send(t) < 0 ? tls_fatal(t, "Fatal error on SSL protocol") : 0;
    }
    return complete_handshake(t);
}

static PyObject *
handshake_late(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    if (t->stage != TLS_HANDSHAKE) {
        Py_RETURN_NONE;
    }
    corolla_core_leave_task(t->core);
    char *seconds = PyOS_double_to_string(t->handshake_timeout, 'r', 0, t->whole ? 0 : Py_DTSF_ADD_DOT_0, NULL);
    if (seconds == NULL) {
        return NULL;
    }
    PyErr_Format(PyExc_ConnectionAbortedError,
                 "SSL handshake is taking longer than %s seconds: aborting the connection", seconds);
    PyMem_Free(seconds);
    return tls_fatal(t, "Fatal error on transport") < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef handshake_late_def = {"_check_handshake_timeout", handshake_late, METH_NOARGS, NULL};

int
tls_attach(TlsTransport *t, PyObject *below)
{
    if (tls_check_core(t) < 0) {
        return -1;
    }
    if (t->stage != TLS_UNWRAPPED || t->below != NULL || t->lost) {
        PyErr_SetString(PyExc_RuntimeError, "the connection was made before");
        return -1;
    }
    tls_set_below(t, below);
    return 0;
}

int
tls_begin(TlsTransport *t)
{
    if (t->given_up || t->closed) {
        return tls_below_abort(t, NULL);
    }
    transport_log(t->core, (PyObject *)t, "debug", "%r starts SSL handshake");
    t->began = t->core->debug ? corolla_clock() : 0;
    t->stage = TLS_HANDSHAKE;
    if (corolla_alarm_after(&t->alarm, t->state, t->loop, t->handshake_timeout, &handshake_late_def, (PyObject *)t) <
        0) {
        return fail_handshake(t);
    }
    int closing = tls_below_is_closing(t);
    if (closing != 0) {
        if (closing > 0) {
            PyErr_SetString(PyExc_ConnectionResetError, "the connection was closed before the SSL handshake");
        }
        return fail_handshake(t);
    }
    return shake_hands(t);
}

/* ---- What comes ------------------------------------------------------------------------------------ */

/* OpenSSL keeps 16 KiB for the next record until it is asked for one in vain. Asking costs an exception: a microsecond that a
 * busy connection saves, and an idle one's memory is worth. */
static bool
is_quiet(TlsTransport *t)
{
    int64_t before = t->heard;
    t->heard = corolla_clock();
    return t->heard - before > BUSY;
}

int
tls_came(TlsTransport *t, const void *buf, size_t n)
{
    if (t->core == NULL || t->stage == TLS_UNWRAPPED) {
        return 0;
    }
    leave_task(t);
    tls_wire wire = {buf, n, false};
    if (t->stage == TLS_WRAPPED || t->stage == TLS_FLUSHING || t->pumping) {
        wire.thrift = is_quiet(t);
        return tls_pump(t, &wire);
    }
    if (tls_feed(t, &wire) < 0) {
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    switch (t->stage) {
    case TLS_HANDSHAKE:
        return shake_hands(t);
    case TLS_SHUTDOWN:
        return tls_shut(t);
    default: /* by code of somebody's that the engine runs */
        return tls_pump(t, NULL);
    }
}

int
tls_ended(TlsTransport *t, bool *keep_open)
{
    *keep_open = false;
    t->eof = true;
    if (t->core == NULL) {
        return 0;
    }
    leave_task(t);
    transport_log(t->core, (PyObject *)t, "debug", "%r received EOF");
    switch (t->stage) {
    case TLS_HANDSHAKE:
        PyErr_SetNone(PyExc_ConnectionResetError);
        return fail_handshake(t);
    case TLS_WRAPPED:
        t->stage = TLS_FLUSHING;
        if (t->paused) {
            *keep_open = true; /* until it resumes: the rest is the application's */
            return 0;
        }
        return tls_pump(t, NULL);
    case TLS_SHUTDOWN:
        return tls_shut(t);
    default:
        return 0;
    }
}

/* ---- The end --------------------------------------------------------------------------------------- */

int
tls_abort(TlsTransport *t, PyObject *exc)
{
    t->closed = true;
    t->stage = TLS_UNWRAPPED;
    corolla_alarm_clear(&t->alarm, t->state);
    return tls_below_abort(t, exc);
}

/* Who waits for a handshake that is cut short hears of it, whatever the reason. 0 or -1. */
static int
fail_waiter(TlsTransport *t, PyObject *exc)
{
    if (t->waiter == NULL || exc != NULL) {
        return wake_waiter(t, exc);
    }
    PyObject *aborted =
        PyObject_CallFunction(PyExc_ConnectionAbortedError, "s", "the connection was closed during the SSL handshake");
    if (aborted == NULL) {
        return -1;
    }
    int rc = wake_waiter(t, aborted);
    Py_DECREF(aborted);
    return rc;
}

int
tls_lost(TlsTransport *t, PyObject *exc)
{
    if (t->lost || t->core == NULL) {
        return 0;
    }
    t->lost = t->closed = true;
    t->stage = TLS_UNWRAPPED;
    leave_task(t);
    corolla_alarm_clear(&t->alarm, t->state);
    int rc = 0;
    if (t->told == TLS_TOLD_MADE || t->told == TLS_TOLD_EOF) {
        t->told = TLS_TOLD_LOST;
        PyObject *result = tls_call(t, t->state->s.connection_lost, exc == NULL ? Py_None : exc);
        if (result == NULL) {
            rc = transport_report(t->state, t->loop, (PyObject *)t, t->protocol,
                                  "Exception in callback protocol.connection_lost()");
        }
        Py_XDECREF(result);
    }
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (fail_waiter(t, exc) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
    }
    tls_finish(t);
    return rc;
}

void
tls_finish(TlsTransport *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    t->lost = t->closed = true;
    t->stage = TLS_UNWRAPPED;
    if (t->core != NULL) {
        corolla_reactor_undefer(&t->core->reactor, &t->flush);
    }
    corolla_alarm_clear(&t->alarm, t->state);
    PyObject *protocol = t->protocol, *waiter = t->waiter;
    t->protocol = t->waiter = NULL;
    t->native = NULL;
    t->buffered = false;
    tls_backlog_clear(&t->backlog);
    Py_XDECREF(protocol);
    Py_XDECREF(waiter);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}
