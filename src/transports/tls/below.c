/* The transport below: ours are called directly, others by method. */
#include "../tcp.h"
#include "tls.h"

void
tls_set_below(TlsTransport *t, PyObject *below)
{
    t->on = corolla_tcp_check(t->state, below)   ? TLS_ON_TCP
            : corolla_tls_check(t->state, below) ? TLS_ON_TLS
                                                 : TLS_ON_FOREIGN;
    Py_XSETREF(t->below, Py_NewRef(below));
}

/* Steals the result of a call. */
static int
done(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tls_below_write(TlsTransport *t, PyObject *bytes)
{
    PyObject *below = Py_NewRef(t->below);
    int rc;
    switch (t->on) {
    case TLS_ON_TCP:
        rc = corolla_tcp_write(below, bytes);
        break;
    case TLS_ON_TLS:
        rc = tls_write((TlsTransport *)below, bytes);
        break;
    default:
        rc = done(PyObject_CallMethodOneArg(below, t->state->s.write, bytes));
    }
    Py_DECREF(below);
    return rc;
}

int
tls_below_pause(TlsTransport *t)
{
    PyObject *below = Py_NewRef(t->below);
    int rc = 0;
    switch (t->on) {
    case TLS_ON_TCP:
        tcp_pause((TcpTransport *)below);
        break;
    case TLS_ON_TLS:
        tls_pause((TlsTransport *)below);
        break;
    default:
        rc = done(PyObject_CallMethodNoArgs(below, t->state->s.pause_reading));
    }
    Py_DECREF(below);
    return rc;
}

int
tls_below_resume(TlsTransport *t)
{
    PyObject *below = Py_NewRef(t->below);
    int rc;
    switch (t->on) {
    case TLS_ON_TCP:
        rc = tcp_resume((TcpTransport *)below);
        break;
    case TLS_ON_TLS:
        rc = tls_resume((TlsTransport *)below);
        break;
    default:
        rc = done(PyObject_CallMethodNoArgs(below, t->state->s.resume_reading));
    }
    Py_DECREF(below);
    return rc;
}

int
tls_below_close(TlsTransport *t)
{
    if (t->below == NULL) {
        return 0;
    }
    PyObject *below = Py_NewRef(t->below);
    int rc;
    switch (t->on) {
    case TLS_ON_TCP:
        rc = tcp_close((TcpTransport *)below);
        break;
    case TLS_ON_TLS:
        rc = tls_close((TlsTransport *)below);
        break;
    default:
        rc = done(PyObject_CallMethodNoArgs(below, t->state->s.close));
    }
    Py_DECREF(below);
    return rc;
}

/* _force_close() is not in any documentation; whoever lacks it can only abort. */
static int
abort_foreign(corolla_state *state, PyObject *below, PyObject *exc)
{
    PyObject *method;
    int found = PyObject_GetOptionalAttr(below, state->s._force_close, &method);
    if (found < 0) {
        return -1;
    }
    if (found == 0) {
        return done(PyObject_CallMethodNoArgs(below, state->s.abort));
    }
    int rc = done(PyObject_CallOneArg(method, exc == NULL ? Py_None : exc));
    Py_DECREF(method);
    return rc;
}

int
tls_below_abort(TlsTransport *t, PyObject *exc)
{
    if (t->below == NULL) {
        return 0;
    }
    PyObject *below = Py_NewRef(t->below);
    int rc;
    switch (t->on) {
    case TLS_ON_TCP:
        rc = tcp_force_close((TcpTransport *)below, exc);
        break;
    case TLS_ON_TLS:
        rc = tls_abort((TlsTransport *)below, exc);
        break;
    default:
        rc = abort_foreign(t->state, below, exc);
    }
    Py_DECREF(below);
    return rc;
}

int
tls_below_is_closing(TlsTransport *t)
{
    if (t->on == TLS_ON_TCP) {
        return corolla_tcp_is_closing(t->below);
    }
    if (t->on == TLS_ON_TLS) {
        return ((TlsTransport *)t->below)->closed;
    }
    PyObject *below = Py_NewRef(t->below);
    PyObject *answer = PyObject_CallMethodNoArgs(below, t->state->s.is_closing);
    Py_DECREF(below);
    int closing = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return closing;
}

bool
tls_below_is_gone(TlsTransport *t)
{
    return (t->on == TLS_ON_TCP && ((TcpTransport *)t->below)->core == NULL) ||
           (t->on == TLS_ON_TLS && ((TlsTransport *)t->below)->lost);
}
