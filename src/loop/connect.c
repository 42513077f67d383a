/* EventLoop.create_connection(): arguments, look-ups, the attempts, the transport. What went wrong with
 * the attempts is put into words in attempts.c. */
#include "connect.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    FACTORY,
    HOST,
    PORT,
    SSL,
    FAMILY,
    PROTO,
    FLAGS,
    SOCK,
    LOCAL_ADDR,
    SERVER_HOSTNAME,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    DELAY,
    INTERLEAVE,
    ALL_ERRORS,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory",
    "host",
    "port",
    "ssl",
    "family",
    "proto",
    "flags",
    "sock",
    "local_addr",
    "server_hostname",
    "ssl_handshake_timeout",
    "ssl_shutdown_timeout",
    "happy_eyeballs_delay",
    "interleave",
    "all_errors",
    NULL,
};
static const corolla_signature signature = {"create_connection", names, 1, 3, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing or None was given */
    PyObject *pending;         /* owned: the look-up that is awaited, or its result */
    connect_attempts attempts; /* owned */
    PyObject *waiter;          /* owned: the future of the attempts */
    endpoint_tls tls;          /* owned */
    endpoint_link link;        /* owned */
    corolla_connector connector;
    corolla_guest guest; /* while the connector is at work; holds waiter, and so whoever awaits it */
    int fd;              /* owned while fd_valid */
    bool fd_valid;
    int family, proto, flags;
    Py_ssize_t interleave;
    bool all_errors;
} ConnectState;

static int
connect_traverse(void *data, visitproc visit, void *arg)
{
    ConnectState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->pending);
    Py_VISIT(st->attempts.infos);
    Py_VISIT(st->attempts.local_infos);
    Py_VISIT(st->waiter);
    Py_VISIT(st->tls.context);
    return endpoint_link_traverse(&st->link, visit, arg);
}

static void
connect_clear(void *data)
{
    ConnectState *st = data;
    corolla_connector_cancel(&st->connector);
    corolla_guest_remove(&st->guest);
    Py_CLEAR(st->guest.held);
    if (st->fd_valid) {
        st->fd_valid = false;
        close(st->fd);
    }
    attempts_clear(&st->attempts);
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->pending);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->tls.context);
    endpoint_link_clear(&st->link);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

/* 1 if TLS is asked for, 0 or -1. */
static int
check_ssl_arguments(PyObject **args)
{
    int ssl =
        endpoint_check_ssl_options(args[SSL], args[SERVER_HOSTNAME], args[HANDSHAKE_TIMEOUT], args[SHUTDOWN_TIMEOUT]);
    if (ssl <= 0 || args[SERVER_HOSTNAME] != NULL) {
        return ssl;
    }
    int named = args[HOST] == NULL ? 0 : PyObject_IsTrue(args[HOST]);
    if (named == 0) {
        PyErr_SetString(PyExc_ValueError, "You must set server_hostname when using ssl without a host");
    }
    if (named <= 0) {
        return -1;
    }
    args[SERVER_HOSTNAME] = Py_NewRef(args[HOST]);
    return 1;
}

static int
check_arguments(ConnectState *st)
{
    PyObject **args = st->args;
    int ssl = check_ssl_arguments(args);
    if (ssl < 0 || (args[SOCK] != NULL && endpoint_refuse_ssl_socket(args[SOCK]) < 0)) {
        return -1;
    }
    bool named = args[HOST] != NULL || args[PORT] != NULL;
    if (named && args[SOCK] != NULL) {
        PyErr_SetString(PyExc_ValueError, "host/port and sock can not be specified at the same time");
        return -1;
    }
    if (!named && args[SOCK] == NULL) {
        PyErr_SetString(PyExc_ValueError, "host and port was not specified and no sock specified");
        return -1;
    }
    if (args[SOCK] != NULL && endpoint_check_stream(args[SOCK]) < 0) {
        return -1;
    }
    if (ssl > 0 && endpoint_tls_parse(&st->tls, st->loop, args[SSL], false, args[SERVER_HOSTNAME],
                                      args[HANDSHAKE_TIMEOUT], args[SHUTDOWN_TIMEOUT]) < 0) {
        return -1;
    }
    int all_errors = args[ALL_ERRORS] == NULL ? 0 : PyObject_IsTrue(args[ALL_ERRORS]);
    if (all_errors < 0 || endpoint_parse_int(args[FAMILY], 0, &st->family) < 0 ||
        endpoint_parse_int(args[PROTO], 0, &st->proto) < 0 || endpoint_parse_int(args[FLAGS], 0, &st->flags) < 0) {
        return -1;
    }
    st->all_errors = all_errors;
    /* Happy Eyeballs alternate between the families unless told otherwise. */
    st->interleave = args[DELAY] != NULL;
    if (args[INTERLEAVE] != NULL) {
        st->interleave = PyNumber_AsSsize_t(args[INTERLEAVE], NULL);
        if (st->interleave == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    st->connector.delay = -1;
    if (args[DELAY] != NULL) {
        double delay = PyFloat_AsDouble(args[DELAY]);
        if ((delay == -1.0 && PyErr_Occurred()) || corolla_deadline(delay, &st->connector.delay) < 0) {
            return -1;
        }
        if (st->connector.delay < 0) {
            st->connector.delay = 0;
        }
    }
    return 0;
}

/* ---- Look-ups ------------------------------------------------------------------------------- */

/* 1: st->pending is the list; 0: it is to be awaited for it; -1. */
static int
resolve_remote(ConnectState *st)
{
    PyObject *host = st->args[HOST] == NULL ? Py_None : st->args[HOST];
    PyObject *port = st->args[PORT] == NULL ? Py_None : st->args[PORT];
    return endpoint_resolve(st->loop, host, port, NULL, st->family, st->proto, st->flags, &st->pending);
}

static int
resolve_local(ConnectState *st)
{
    PyObject *address = PySequence_Tuple(st->args[LOCAL_ADDR]);
    if (address == NULL) {
        return -1;
    }
    int rc = -1;
    Py_ssize_t size = PyTuple_GET_SIZE(address);
    if (size < 2) {
        PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected 2, got %zd)", size);
    }
    else {
        PyObject *more = PyTuple_GetSlice(address, 2, size);
        Py_CLEAR(st->pending);
        if (more != NULL) {
            rc = endpoint_resolve(st->loop, PyTuple_GET_ITEM(address, 0), PyTuple_GET_ITEM(address, 1), more,
                                  st->family, st->proto, st->flags, &st->pending);
            Py_DECREF(more);
        }
    }
    Py_DECREF(address);
    return rc;
}

/* ---- Attempts ------------------------------------------------------------------------------- */

/* The connector has ended. */
static void
leave_guests(ConnectState *st)
{
    corolla_guest_remove(&st->guest);
    Py_CLEAR(st->guest.held); /* may drop the coroutine, and st with it, unless the caller has a reference */
}

/* The loop closes: whoever waits will wait for ever. */
static void
leave_loop(corolla_guest *guest)
{
    ConnectState *st = (ConnectState *)(void *)((char *)guest - offsetof(ConnectState, guest));
    corolla_connector_cancel(&st->connector);
    leave_guests(st);
}

static int
connected(corolla_connector *c, int fd, size_t winner)
{
    ConnectState *st = (ConnectState *)(void *)((char *)c - offsetof(ConnectState, connector));
    (void)winner;
    st->fd = fd;
    st->fd_valid = fd >= 0;
    PyObject *waiter = Py_NewRef(st->waiter);
    leave_guests(st);
    int rc = corolla_future_complete(waiter, Py_None);
    Py_DECREF(waiter);
    return rc;
}

/* Starts the connector; st->waiter is done when it is. */
static int
start_attempts(ConnectState *st)
{
    corolla_core *core = loop_core(st->loop);
    if (attempts_prepare(&st->attempts, st->interleave) < 0) {
        return -1;
    }
    st->waiter = corolla_future_new(core);
    if (st->waiter == NULL || corolla_core_check_closed(core) < 0) {
        return -1;
    }
    corolla_connector_init(&st->connector);
    st->connector.targets = st->attempts.targets;
    st->connector.count = st->attempts.count;
    st->connector.local = st->attempts.local;
    st->connector.done = connected;
    st->guest.leave = leave_loop;
    if (corolla_guest_add(core, &st->guest) < 0) {
        return -1;
    }
    st->guest.held = Py_NewRef(st->waiter);
    if (corolla_connector_start(&core->reactor, &st->connector) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* ---- The transport --------------------------------------------------------------------------- */

static int
make_transport(ConnectState *st)
{
    bool ours = st->fd_valid;
    PyObject *sock = ours ? NULL : st->args[SOCK];
    int fd = ours ? st->fd : endpoint_take_socket(st->loop, sock);
    if (fd < 0 || endpoint_link_make(&st->link, st->loop, st->args[FACTORY], sock, fd, &st->tls) < 0) {
        return -1;
    }
    st->fd_valid = false; /* the transport's now */
    return 0;
}

static void
log_connected(ConnectState *st)
{
    corolla_core *core = loop_core(st->loop);
    if (!core->debug) {
        return;
    }
    PyObject *host = st->args[HOST] == NULL ? Py_None : st->args[HOST];
    PyObject *port = st->args[PORT] == NULL ? Py_None : st->args[PORT];
    PyObject *sock = PyObject_CallMethod(st->link.transport, "get_extra_info", "s", "socket");
    PyObject *args = sock == NULL ? NULL : PyTuple_Pack(5, sock, host, port, st->link.transport, st->link.protocol);
    Py_XDECREF(sock);
    endpoint_log(core, "debug", "%r connected to %s:%r: (%r, %r)", args);
}

/* ---- The coroutine ---------------------------------------------------------------------------- */

static corolla_step
connect_step(corolla_coro *co, PyObject *value)
{
    ConnectState *st = corolla_coro_state(co);
    int rc;
    COROLLA_BEGIN(co);
    if (check_arguments(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->args[SOCK] == NULL) {
        rc = resolve_remote(st);
        if (rc == 0) {
            COROLLA_AWAIT(co, st->pending);
            if (value == NULL) {
                return COROLLA_RAISE;
            }
            Py_XSETREF(st->pending, Py_NewRef(value));
            rc = 1;
        }
        if (rc < 0 || attempts_set_infos(&st->attempts.infos, st->pending) < 0) {
            return COROLLA_RAISE;
        }
        if (st->args[LOCAL_ADDR] != NULL) {
            rc = resolve_local(st);
            if (rc == 0) {
                COROLLA_AWAIT(co, st->pending);
                if (value == NULL) {
                    return COROLLA_RAISE;
                }
                Py_XSETREF(st->pending, Py_NewRef(value));
                rc = 1;
            }
            if (rc < 0 || attempts_set_infos(&st->attempts.local_infos, st->pending) < 0) {
                return COROLLA_RAISE;
            }
        }
        if (start_attempts(st) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE; /* clear ends the attempts and closes what they opened */
        }
        if (!st->fd_valid) {
            attempts_raise(&st->attempts, st->all_errors);
            return COROLLA_RAISE;
        }
    }
    if (make_transport(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->link.waiter);
    if (value != NULL) {
        log_connected(st);
    }
    return endpoint_link_return(co, &st->link, value);
    COROLLA_END(co);
}

static const corolla_coro_spec connect_spec = {
    .name = "create_connection",
    .qualname = "EventLoop.create_connection",
    .size = sizeof(ConnectState),
    .step = connect_step,
    .traverse = connect_traverse,
    .clear = connect_clear,
};

static PyObject *
create_connection(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &connect_spec);
    if (co == NULL) {
        return NULL;
    }
    ConnectState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i != FACTORY ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    create_connection_doc,
    "create_connection($self, protocol_factory, host=None, port=None, *, ssl=None, family=0, proto=0, flags=0,\n"
    "                  sock=None, local_addr=None, server_hostname=None, ssl_handshake_timeout=None,\n"
    "                  ssl_shutdown_timeout=None, happy_eyeballs_delay=None, interleave=None, all_errors=False)\n--\n\n"
    "Connect to a TCP server; a (transport, protocol) pair. A coroutine.\n\n"
    "protocol_factory: called without arguments, for the protocol. host, port: where to, looked up with family,\n"
    "proto and flags as by getaddrinfo(). sock: a connected stream socket instead, which is the transport's from\n"
    "then on. local_addr: a (host, port) to bind to. happy_eyeballs_delay: seconds before the next address is tried\n"
    "beside the one before. ssl: an ssl.SSLContext, or true for the default one: the connection is encrypted.\n"
    "server_hostname: str, the name that the server's certificate must hold, instead of host. ssl_handshake_timeout,\n"
    "ssl_shutdown_timeout: seconds, 60 and 30 unless given. all_errors: raise an ExceptionGroup of what each\n"
    "address gave.\n\n"
    "OSError when the connection fails, ssl.SSLError when the handshake does, ConnectionAbortedError when it takes\n"
    "too long; ValueError for arguments that do not go together. Specified by asyncio.loop.create_connection().");

PyMethodDef corolla_loop_connect_methods[] = {
    {"create_connection", (PyCFunction)(void (*)(void))create_connection, METH_FASTCALL | METH_KEYWORDS,
     create_connection_doc},
    {NULL, NULL, 0, NULL},
};
