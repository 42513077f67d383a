/* EventLoop.create_server() */
#include "endpoint.h"

#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

enum {
    FACTORY,
    HOST,
    PORT,
    FAMILY,
    FLAGS,
    SOCK,
    BACKLOG,
    SSL,
    REUSE_ADDRESS,
    REUSE_PORT,
    KEEP_ALIVE,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    START_SERVING,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory",
    "host",
    "port",
    "family",
    "flags",
    "sock",
    "backlog",
    "ssl",
    "reuse_address",
    "reuse_port",
    "keep_alive",
    "ssl_handshake_timeout",
    "ssl_shutdown_timeout",
    "start_serving",
    NULL,
};
static const corolla_signature signature = {"create_server", names, 1, 3, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing or None was given */
    PyObject *hosts;           /* owned: list */
    PyObject *pending;         /* owned: the look-up that is awaited, or its result */
    PyObject *infos;           /* owned: dict, as an ordered set of address infos */
    PyObject *sockets;         /* owned: list */
    PyObject *server;          /* owned */
    endpoint_tls tls;          /* owned */
    Py_ssize_t at;             /* in hosts */
    int family, flags, backlog;
    bool start, reuse_address, reuse_port, keep_alive;
    bool made_sockets; /* they are not the caller's */
} ServeState;

static int
serve_traverse(void *data, visitproc visit, void *arg)
{
    ServeState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->hosts);
    Py_VISIT(st->pending);
    Py_VISIT(st->infos);
    Py_VISIT(st->sockets);
    Py_VISIT(st->server);
    Py_VISIT(st->tls.context);
    return 0;
}

static void
serve_clear(void *data)
{
    ServeState *st = data;
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->hosts);
    Py_CLEAR(st->pending);
    Py_CLEAR(st->infos);
    Py_CLEAR(st->sockets);
    Py_CLEAR(st->server);
    Py_CLEAR(st->tls.context);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

static int
check_arguments(ServeState *st)
{
    PyObject **args = st->args;
    if (args[SSL] != NULL && PyBool_Check(args[SSL])) {
        PyErr_SetString(PyExc_TypeError, "ssl argument must be an SSLContext or None");
        return -1;
    }
    if (args[HANDSHAKE_TIMEOUT] != NULL && args[SSL] == NULL) {
        PyErr_SetString(PyExc_ValueError, "ssl_handshake_timeout is only meaningful with ssl");
        return -1;
    }
    if (args[SHUTDOWN_TIMEOUT] != NULL && args[SSL] == NULL) {
        PyErr_SetString(PyExc_ValueError, "ssl_shutdown_timeout is only meaningful with ssl");
        return -1;
    }
    if (args[SOCK] != NULL && endpoint_refuse_ssl_socket(args[SOCK]) < 0) {
        return -1;
    }
    bool named = args[HOST] != NULL || args[PORT] != NULL;
    if (named && args[SOCK] != NULL) {
        PyErr_SetString(PyExc_ValueError, "host/port and sock can not be specified at the same time");
        return -1;
    }
    if (!named && args[SOCK] == NULL) {
        PyErr_SetString(PyExc_ValueError, "Neither host/port nor sock were specified");
        return -1;
    }
    if (args[SOCK] != NULL && endpoint_check_stream(args[SOCK]) < 0) {
        return -1;
    }
    if (args[SSL] != NULL && endpoint_tls_parse(&st->tls, st->loop, args[SSL], true, NULL, args[HANDSHAKE_TIMEOUT],
                                                args[SHUTDOWN_TIMEOUT]) < 0) {
        return -1;
    }
    if (endpoint_parse_int(args[FAMILY], AF_UNSPEC, &st->family) < 0 ||
        endpoint_parse_int(args[FLAGS], AI_PASSIVE, &st->flags) < 0 ||
        endpoint_parse_int(args[BACKLOG], 100, &st->backlog) < 0 ||
        endpoint_parse_bool(args[REUSE_ADDRESS], true, &st->reuse_address) < 0 ||
        endpoint_parse_bool(args[REUSE_PORT], false, &st->reuse_port) < 0 ||
        endpoint_parse_bool(args[KEEP_ALIVE], false, &st->keep_alive) < 0) {
        return -1;
    }
    return endpoint_parse_bool(args[START_SERVING], true, &st->start);
}

/* The list of hosts: of one, or of several when an iterable that is no string was given. */
static PyObject *
list_hosts(PyObject *host)
{
    if (host != NULL && !PyUnicode_Check(host) && !PyBytes_Check(host) && Py_TYPE(host)->tp_iter != NULL) {
        return PySequence_List(host);
    }
    bool any = host == NULL || (PyUnicode_Check(host) && PyUnicode_GET_LENGTH(host) == 0);
    return Py_BuildValue("[O]", any ? Py_None : host);
}

/* ---- Addresses ------------------------------------------------------------------------------ */

/* Adds the found addresses of one host to st->infos, each once. Steals found. */
static int
add_infos(ServeState *st, PyObject *host, PyObject *found)
{
    int any = PyObject_IsTrue(found);
    if (any == 0) {
        PyErr_Format(PyExc_OSError, "getaddrinfo(%R) returned empty list", host);
    }
    PyObject *list = any > 0 ? PySequence_Tuple(found) : NULL;
    Py_DECREF(found);
    if (list == NULL) {
        return -1;
    }
    int rc = -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(list); i++) {
        PyObject *info = PyTuple_GET_ITEM(list, i);
        if (!PyTuple_Check(info) || PyTuple_GET_SIZE(info) != 5) {
            PyErr_Format(PyExc_ValueError, "getaddrinfo() returned %R in place of a 5-tuple", info);
            goto fail;
        }
        if (PyDict_SetItem(st->infos, info, Py_None) < 0) {
            goto fail;
        }
    }
    rc = 0;
fail:
    Py_DECREF(list);
    return rc;
}

/* ---- Sockets -------------------------------------------------------------------------------- */

static int
socket_fd(PyObject *sock)
{
    PyObject *number = PyObject_CallMethod(sock, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    int fd = -1;
    (void)endpoint_parse_int(number, -1, &fd);
    Py_DECREF(number);
    return fd;
}

static int
set_option(int fd, int level, int option)
{
    int on = 1;
    if (setsockopt(fd, level, option, &on, sizeof on) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

static int
set_options(ServeState *st, PyObject *sock, int family)
{
    int fd = socket_fd(sock);
    if (fd < 0 && PyErr_Occurred()) {
        return -1;
    }
    if (st->reuse_address && set_option(fd, SOL_SOCKET, SO_REUSEADDR) < 0) {
        return -1;
    }
    /* Linux allows it for these two families only, from 6.12.9 on. */
    bool inet = family == AF_INET || family == AF_INET6;
    if (inet && st->reuse_port && set_option(fd, SOL_SOCKET, SO_REUSEPORT) < 0) {
        PyErr_SetString(PyExc_ValueError, "reuse_port not supported by socket module, "
                                          "SO_REUSEPORT defined but not implemented.");
        return -1;
    }
    if (st->keep_alive && set_option(fd, SOL_SOCKET, SO_KEEPALIVE) < 0) {
        return -1;
    }
    /* Without this one IPv6 socket listens on both families, and the IPv4 one beside it fails to bind. */
    return family == AF_INET6 ? set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY) : 0;
}

/* Replaces the OSError being raised by one that names the address. 0: the address does not exist here, and
 * the caller goes on without it; -1. */
static int
explain_bind(ServeState *st, PyObject *address)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = PyObject_GetAttrString(exc, "errno");
    PyObject *text = PyObject_Str(exc);
    PyObject *lower = text == NULL ? NULL : PyObject_CallMethod(text, "lower", NULL);
    PyObject *message = NULL;
    if (number != NULL && lower != NULL) {
        message = PyUnicode_FromFormat("error while attempting to bind on address %R: %U", address, lower);
    }
    int rc = -1;
    if (message != NULL) {
        if (PyLong_Check(number) && PyLong_AsLong(number) == EADDRNOTAVAIL) {
            corolla_core *core = loop_core(st->loop);
            if (core->debug) {
                endpoint_log(core, "warning", "%s", Py_BuildValue("(O)", message));
            }
            rc = 0;
        }
        else {
            PyObject *args = PyTuple_Pack(2, number, message);
            if (args != NULL) {
                PyErr_SetObject(PyExc_OSError, args);
                Py_DECREF(args);
            }
        }
    }
    Py_XDECREF(number);
    Py_XDECREF(text);
    Py_XDECREF(lower);
    Py_XDECREF(message);
    Py_DECREF(exc);
    return rc;
}

static void
close_quietly(PyObject *sock)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethod(sock, "close", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(done);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static PyObject *
open_socket(ServeState *st, PyObject *info)
{
    corolla_core *core = loop_core(st->loop);
    PyObject *sock = PyObject_CallFunctionObjArgs(core->state->socket_type, PyTuple_GET_ITEM(info, 0),
                                                  PyTuple_GET_ITEM(info, 1), PyTuple_GET_ITEM(info, 2), NULL);
    if (sock != NULL || !PyErr_ExceptionMatches(PyExc_OSError)) {
        return sock;
    }
    /* A combination of family, type and protocol that this machine does not have. */
    PyErr_Clear();
    if (core->debug) {
        endpoint_log(core, "warning", "create_server() failed to create socket.socket(%r, %r, %r)",
                     PyTuple_GetSlice(info, 0, 3));
    }
    return Py_NewRef(Py_None);
}

/* A bound socket for an address info, or None if there is nothing to bind to. New reference or NULL. */
static PyObject *
bind_socket(ServeState *st, PyObject *info)
{
    PyObject *address = PyTuple_GET_ITEM(info, 4);
    long family = PyLong_AsLong(PyTuple_GET_ITEM(info, 0));
    if (family == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *sock = open_socket(st, info);
    if (sock == NULL || sock == Py_None) {
        return sock;
    }
    if (set_options(st, sock, (int)family) < 0) {
        goto fail;
    }
    PyObject *done = PyObject_CallMethod(sock, "bind", "(O)", address);
    if (done != NULL) {
        Py_DECREF(done);
        return sock;
    }
    if (explain_bind(st, address) == 0) {
        close_quietly(sock);
        Py_DECREF(sock);
        return Py_NewRef(Py_None);
    }
fail:
    close_quietly(sock);
    Py_DECREF(sock);
    return NULL;
}

static void
close_sockets(ServeState *st)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(st->sockets); i++) {
        close_quietly(PyList_GET_ITEM(st->sockets, i));
    }
}

static void
raise_unbound(PyObject *infos)
{
    PyObject *addresses = PyList_New(0);
    PyObject *info, *unused;
    Py_ssize_t at = 0;
    while (addresses != NULL && PyDict_Next(infos, &at, &info, &unused)) {
        if (PyList_Append(addresses, PyTuple_GET_ITEM(info, 4)) < 0) {
            Py_CLEAR(addresses);
        }
    }
    if (addresses != NULL) {
        PyErr_Format(PyExc_OSError, "could not bind on any address out of %R", addresses);
        Py_DECREF(addresses);
    }
}

/* st->sockets out of st->infos. 0, or -1 with nothing left open. */
static int
bind_sockets(ServeState *st)
{
    PyObject *infos = PySequence_List(st->infos);
    if (infos == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(infos); i++) {
        PyObject *sock = bind_socket(st, PyList_GET_ITEM(infos, i));
        if (sock == NULL) {
            goto fail;
        }
        if (sock != Py_None && PyList_Append(st->sockets, sock) < 0) {
            close_quietly(sock);
            Py_DECREF(sock);
            goto fail;
        }
        Py_DECREF(sock);
    }
    if (PyList_GET_SIZE(st->sockets) == 0) {
        raise_unbound(st->infos);
        goto fail;
    }
    Py_DECREF(infos);
    return 0;
fail:
    close_sockets(st);
    Py_DECREF(infos);
    return -1;
}

/* The server over st->sockets, listening if it is to start. 0, or -1 with the sockets closed unless they
 * are the caller's. */
static int
make_server(ServeState *st)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(st->sockets); i++) {
        if (endpoint_set_nonblocking(PyList_GET_ITEM(st->sockets, i)) < 0) {
            goto fail;
        }
    }
    st->server = corolla_server_new(loop_core(st->loop), Py_NewRef(st->sockets), st->args[FACTORY], st->backlog);
    if (st->server != NULL && endpoint_tls_serve(&st->tls, st->server) == 0 &&
        (!st->start || corolla_server_start(st->server) == 0)) {
        return 0;
    }
fail:
    if (st->made_sockets) {
        close_sockets(st);
    }
    return -1;
}

/* ---- The coroutine ---------------------------------------------------------------------------- */

static int
begin(ServeState *st)
{
    if (check_arguments(st) < 0) {
        return -1;
    }
    st->hosts = st->args[SOCK] != NULL ? PyList_New(0) : list_hosts(st->args[HOST]);
    st->infos = PyDict_New();
    st->sockets = PyList_New(0);
    if (st->hosts == NULL || st->infos == NULL || st->sockets == NULL) {
        return -1;
    }
    return st->args[SOCK] != NULL ? PyList_Append(st->sockets, st->args[SOCK]) : 0;
}

/* 1: st->pending is the list; 0: it is to be awaited for it; -1. */
static int
resolve_next(ServeState *st)
{
    PyObject *port = st->args[PORT] == NULL ? Py_None : st->args[PORT];
    Py_CLEAR(st->pending);
    return endpoint_resolve(st->loop, PyList_GET_ITEM(st->hosts, st->at), port, NULL, st->family, 0, st->flags,
                            &st->pending);
}

static corolla_step
serve_step(corolla_coro *co, PyObject *value)
{
    ServeState *st = corolla_coro_state(co);
    int rc;
    COROLLA_BEGIN(co);
    if (begin(st) < 0) {
        return COROLLA_RAISE;
    }
    for (st->at = 0; st->at < PyList_GET_SIZE(st->hosts); st->at++) {
        rc = resolve_next(st);
        if (rc < 0) {
            return COROLLA_RAISE;
        }
        if (rc == 0) {
            COROLLA_AWAIT(co, st->pending);
            if (value == NULL) {
                return COROLLA_RAISE;
            }
            Py_XSETREF(st->pending, Py_NewRef(value));
        }
        if (add_infos(st, PyList_GET_ITEM(st->hosts, st->at), Py_NewRef(st->pending)) < 0) {
            return COROLLA_RAISE;
        }
    }
    if (st->args[SOCK] == NULL) {
        st->made_sockets = true;
        if (bind_sockets(st) < 0) {
            return COROLLA_RAISE;
        }
    }
    if (make_server(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->start) {
        COROLLA_PAUSE(co);
        if (value == NULL) {
            PyObject *exc = PyErr_GetRaisedException();
            if (corolla_server_close(st->server) < 0) { /* nobody will ever get it */
                PyErr_WriteUnraisable(st->server);
            }
            PyErr_SetRaisedException(exc);
            return COROLLA_RAISE;
        }
    }
    if (loop_core(st->loop)->debug) {
        endpoint_log(loop_core(st->loop), "info", "%r is serving", Py_BuildValue("(O)", st->server));
    }
    return corolla_return(co, Py_NewRef(st->server));
    COROLLA_END(co);
}

static const corolla_coro_spec serve_spec = {
    .name = "create_server",
    .qualname = "EventLoop.create_server",
    .size = sizeof(ServeState),
    .step = serve_step,
    .traverse = serve_traverse,
    .clear = serve_clear,
};

static PyObject *
create_server(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &serve_spec);
    if (co == NULL) {
        return NULL;
    }
    ServeState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i != FACTORY && i != START_SERVING ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    create_server_doc,
    "create_server($self, protocol_factory, host=None, port=None, *, family=0, flags=1, sock=None, backlog=100,\n"
    "              ssl=None, reuse_address=None, reuse_port=None, keep_alive=None, ssl_handshake_timeout=None,\n"
    "              ssl_shutdown_timeout=None, start_serving=True)\n--\n\n"
    "Create a TCP server bound to host and port, or on a socket; a Server. A coroutine.\n\n"
    "protocol_factory: called without arguments, for the protocol of each connection. host: one or several; None\n"
    "for all interfaces. sock: a bound stream socket instead, which the server closes. backlog: connections that may\n"
    "wait to be accepted. ssl: an ssl.SSLContext: connections are encrypted, and reach their protocol once the\n"
    "handshake is over. ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 unless given.\n"
    "start_serving: false to begin with Server.start_serving() later.\n\n"
    "OSError when nothing can be bound to; ValueError for arguments that do not go together; TypeError for\n"
    "ssl=True. Specified by asyncio.loop.create_server().");

PyMethodDef corolla_loop_serve_methods[] = {
    {"create_server", (PyCFunction)(void (*)(void))create_server, METH_FASTCALL | METH_KEYWORDS, create_server_doc},
    {NULL, NULL, 0, NULL},
};
