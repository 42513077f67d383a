/* The transport below: ours are called directly, others by method. */
#include "../tcp.h"
#include "tls.h"

#include <assert.h>
#include <string.h>

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

/* All of them in one bytes object. New reference or NULL. */
static PyObject *
join(PyObject *const *items, size_t count)
{
    Py_ssize_t size = 0;
    if (count == 1) {
        return Py_NewRef(items[0]);
    }
    for (size_t i = 0; i < count; i++) {
        size += PyBytes_GET_SIZE(items[i]);
    }
    PyObject *joined = PyBytes_FromStringAndSize(NULL, size);
    char *at = joined == NULL ? NULL : PyBytes_AS_STRING(joined);
    for (size_t i = 0; joined != NULL && i < count; i++) {
        memcpy(at, PyBytes_AS_STRING(items[i]), (size_t)PyBytes_GET_SIZE(items[i]));
        at += PyBytes_GET_SIZE(items[i]);
    }
    return joined;
}

/* One write() is one system call, for a transport that keeps to asyncio's. */
static int
write_foreign(PyObject *below, PyObject *write, PyObject *const *items, size_t count)
{
    PyObject *data = join(items, count);
    int rc = data == NULL ? -1 : done(PyObject_CallMethodOneArg(below, write, data));
    Py_XDECREF(data);
    return rc;
}

static_assert((int)TLS_MOST_SEALED <= (int)COROLLA_TCP_MOST, "what is sealed at once is written at once");

int
tls_below_write(TlsTransport *t, PyObject *const *items, size_t count)
{
    PyObject *below = Py_NewRef(t->below);
    int rc;
    switch (t->on) {
    case TLS_ON_TCP:
        rc = count == 1 ? corolla_tcp_write(below, items[0]) : corolla_tcp_write_all(below, items, count);
        break;
    case TLS_ON_TLS:
        rc = count == 1 ? tls_write((TlsTransport *)below, items[0])
                        : tls_write_all((TlsTransport *)below, items, count);
        break;
    default:
        rc = write_foreign(below, t->state->s.write, items, count);
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
