/* What a transport tells about itself: get_extra_info(), and the underscored attributes that programs
 * written for asyncio read. Nothing is made before it is asked for. */
#include "tcp.h"

#include <string.h>
#include <unistd.h>

/* ---- Addresses ----------------------------------------------------------------------------- */

static bool
is_inet(sa_family_t family)
{
    return family == AF_INET || family == AF_INET6;
}

static void
store_inet(corolla_inet_address *to, const struct sockaddr *addr, socklen_t len)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): getpeername() has filled it */
    if (len >= sizeof(sa_family_t) && is_inet(addr->sa_family) && len <= sizeof *to) {
        memcpy(to, addr, len);
    }
}

static PyObject *
inet_to_python(const corolla_inet_address *addr)
{
    return corolla_address_to_python(&addr->any, addr->any.sa_family == AF_INET ? sizeof addr->in : sizeof addr->in6);
}

typedef int (*name_function)(int fd, struct sockaddr *addr, socklen_t *len);

/* What getsockname() or getpeername() gives; None when it fails. New reference or NULL. */
static PyObject *
ask_name(int fd, name_function ask)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (ask(fd, (struct sockaddr *)&addr, &len) < 0) {
        Py_RETURN_NONE;
    }
    return corolla_address_to_python((struct sockaddr *)&addr, len);
}

/* Steals value. 0 or -1. */
static int
set_extra(TcpTransport *t, PyObject *name, PyObject *value)
{
    if (value == NULL) {
        return -1;
    }
    PyObject *extra = Py_XNewRef(transport_extra(&t->extra)); /* a name's __eq__() may put another one there */
    int rc = extra == NULL ? -1 : PyDict_SetItem(extra, name, value);
    Py_XDECREF(extra);
    Py_DECREF(value);
    return rc;
}

int
tcp_learn_addresses(TcpTransport *t, const struct sockaddr *peer, socklen_t len)
{
    struct sockaddr_storage asked;
    if (peer == NULL) {
        len = sizeof asked;
        if (getpeername(t->fd, (struct sockaddr *)&asked, &len) == 0) {
            peer = (struct sockaddr *)&asked;
        }
    }
    if (peer == NULL) {
        return set_extra(t, t->state->s.peername, Py_NewRef(Py_None));
    }
    store_inet(&t->peer, peer, len);
    if (is_inet(t->peer.any.sa_family)) {
        return 0; /* the tuples are made when somebody wants them */
    }
    if (set_extra(t, t->state->s.peername, corolla_address_to_python(peer, len)) < 0) {
        return -1;
    }
    return set_extra(t, t->state->s.sockname, ask_name(t->fd, getsockname));
}

void
tcp_keep_addresses(TcpTransport *t)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (t->local.any.sa_family == AF_UNSPEC && getsockname(t->fd, (struct sockaddr *)&addr, &len) == 0) {
        store_inet(&t->local, (struct sockaddr *)&addr, len);
    }
}

static PyObject *
make_peername(TcpTransport *t)
{
    return is_inet(t->peer.any.sa_family) ? inet_to_python(&t->peer) : Py_NewRef(Py_None);
}

static PyObject *
make_sockname(TcpTransport *t)
{
    if (!t->closed) {
        tcp_keep_addresses(t);
    }
    if (is_inet(t->local.any.sa_family)) {
        return inet_to_python(&t->local);
    }
    if (t->closed) {
        Py_RETURN_NONE;
    }
    return ask_name(t->fd, getsockname);
}

/* ---- The socket object --------------------------------------------------------------------- */

/* A socket object that owns our descriptor from now on. New reference or NULL. */
static PyObject *
adopt_descriptor(TcpTransport *t)
{
    PyObject *empty = NULL, *timeout = NULL;
    PyObject *sock = NULL;
    PyObject *kwargs = Py_BuildValue("{s:i}", "fileno", t->fd);
    if (kwargs == NULL || (empty = PyTuple_New(0)) == NULL) {
        goto done;
    }
    sock = PyObject_Call(t->state->socket_type, empty, kwargs);
    if (sock == NULL) {
        goto done;
    }
    timeout = PyObject_CallMethod(sock, "setblocking", "i", 0);
    if (timeout == NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        PyObject *fd = PyObject_CallMethodNoArgs(sock, t->state->s.detach); /* it stays ours */
        Py_XDECREF(fd);
        PyErr_SetRaisedException(exc);
        Py_CLEAR(sock);
    }
done:
    Py_XDECREF(kwargs);
    Py_XDECREF(empty);
    Py_XDECREF(timeout);
    return sock;
}

/* A closed socket object of the right family, for whoever asks too late. New reference or NULL. */
static PyObject *
closed_socket(TcpTransport *t)
{
    int family = is_inet(t->local.any.sa_family) ? t->local.any.sa_family : AF_INET;
    if (Py_IS_TYPE(t, t->state->unix_transport_type)) {
        family = AF_UNIX;
    }
    PyObject *sock = PyObject_CallFunction(t->state->socket_type, "ii", family, (int)SOCK_STREAM);
    if (sock == NULL) {
        return NULL;
    }
    PyObject *done = PyObject_CallMethodNoArgs(sock, t->state->s.close);
    if (done == NULL) {
        Py_CLEAR(sock);
    }
    Py_XDECREF(done);
    return sock;
}

/* The socket object that owns the descriptor, made if need be. New reference or NULL. */
static PyObject *
tcp_sock(TcpTransport *t)
{
    if (t->closed) {
        return closed_socket(t);
    }
    if (t->sock == NULL) {
        PyObject *sock = adopt_descriptor(t);
        if (sock == NULL) {
            return NULL;
        }
        t->sock = sock;
    }
    return Py_NewRef(t->sock);
}

static PyObject *
make_socket(TcpTransport *t)
{
    PyObject *sock = tcp_sock(t);
    if (sock == NULL) {
        return NULL;
    }
    PyObject *shown = PyObject_CallOneArg(t->state->TransportSocket, sock);
    Py_DECREF(sock);
    return shown;
}

/* ---- get_extra_info() ---------------------------------------------------------------------- */

/* 1 and a new reference, 0 when there is no such thing, or -1. */
static int
find_extra(TcpTransport *t, PyObject *name, PyObject **value)
{
    *value = NULL;
    if (t->extra != NULL) {
        int found = transport_find_extra(&t->extra, name, value);
        if (found != 0) {
            return found;
        }
    }
    if (!PyUnicode_Check(name)) {
        return 0;
    }
    if (PyUnicode_Compare(name, t->state->s.peername) == 0) {
        *value = make_peername(t);
    }
    else if (PyUnicode_Compare(name, t->state->s.sockname) == 0) {
        *value = make_sockname(t);
    }
    else if (PyUnicode_Compare(name, t->state->s.socket) == 0) {
        /* The only one that is kept: it is the same object each time. */
        *value = make_socket(t);
        if (*value != NULL && set_extra(t, name, Py_NewRef(*value)) < 0) {
            Py_CLEAR(*value);
        }
    }
    else {
        return 0;
    }
    return *value == NULL ? -1 : 1;
}

static PyObject *
tcp_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature signature = {"get_extra_info", names, 1, 2, NULL};
    PyObject *given[2], *value;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    int found = find_extra((TcpTransport *)self, given[0], &value);
    if (found != 0) {
        return value;
    }
    return Py_NewRef(given[1] == NULL ? Py_None : given[1]);
}

PyDoc_STRVAR(get_extra_info_doc, "What is known of the connection: 'socket', 'peername', 'sockname'.");

PyMethodDef tcp_extra_methods[] = {
    {"get_extra_info", (PyCFunction)(void (*)(void))tcp_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Underscored attributes ------------------------------------------------------------------ */

static PyObject *
get_extra(PyObject *self, void *unused)
{
    TcpTransport *t = (TcpTransport *)self;
    PyObject *names[] = {t->state->s.socket, t->state->s.sockname, t->state->s.peername};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value;
        if (find_extra(t, names[i], &value) < 0 || set_extra(t, names[i], value) < 0) {
            return NULL;
        }
    }
    return Py_XNewRef(transport_extra(&t->extra));
}

static PyObject *
get_sock(PyObject *self, void *unused)
{
    TcpTransport *t = (TcpTransport *)self;
    return t->closed ? Py_NewRef(Py_None) : tcp_sock(t);
}

static PyObject *
get_object(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)(void *)((char *)self + (uintptr_t)offset);
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
get_flag(PyObject *self, void *offset)
{
    return PyBool_FromLong(*(bool *)((char *)self + (uintptr_t)offset));
}

static PyObject *
get_sock_fd(PyObject *self, void *unused)
{
    return PyLong_FromLong(((TcpTransport *)self)->fd);
}

static PyObject *
get_conn_lost(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLong(((TcpTransport *)self)->lost);
}

static PyObject *
get_high_water(PyObject *self, void *unused)
{
    return PyLong_FromSize_t(((TcpTransport *)self)->stream.high);
}

static PyObject *
get_low_water(PyObject *self, void *unused)
{
    return PyLong_FromSize_t(((TcpTransport *)self)->stream.low);
}

static PyObject *
get_start_tls_compatible(PyObject *self, void *unused)
{
    Py_RETURN_TRUE;
}

static PyObject *
get_sendfile_compatible(PyObject *self, void *unused)
{
    return Py_NewRef(((TcpTransport *)self)->state->sendfile_try_native);
}

#define FIELD(name) ((void *)(uintptr_t)offsetof(TcpTransport, name))

PyGetSetDef tcp_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_extra", get_extra, NULL, NULL, NULL},
    {"_sock", get_sock, NULL, NULL, NULL},
    {"_sock_fd", get_sock_fd, NULL, NULL, NULL},
    {"_loop", get_object, NULL, NULL, FIELD(loop)},
    {"_protocol", get_object, NULL, NULL, FIELD(protocol)},
    {"_server", get_object, NULL, NULL, FIELD(server)},
    {"_closing", get_flag, NULL, NULL, FIELD(closing)},
    {"_paused", get_flag, NULL, NULL, FIELD(paused)},
    {"_eof", get_flag, NULL, NULL, FIELD(eof)},
    {"_protocol_paused", get_flag, NULL, NULL, FIELD(protocol_paused)},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_high_water", get_high_water, NULL, NULL, NULL},
    {"_low_water", get_low_water, NULL, NULL, NULL},
    {"_sendfile_compatible", get_sendfile_compatible, NULL, NULL, NULL},
    {"_start_tls_compatible", get_start_tls_compatible, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
