/* EventLoop.create_unix_connection() */
#include "endpoint.h"

#include <errno.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    FACTORY,
    PATH,
    SSL,
    SOCK,
    SERVER_HOSTNAME,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory", "path", "ssl", "sock", "server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout", NULL,
};
static const corolla_signature signature = {"create_unix_connection", names, 1, 2, NULL};

/* How long to wait for room in the queue of a server that accepts too slowly, ns: twice as long each time. */
#define FIRST_DELAY INT64_C(1000000)
#define LAST_DELAY INT64_C(128000000)

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing or None was given */
    PyObject *waiter;          /* owned: done when it is time to try again */
    endpoint_tls tls;          /* owned */
    endpoint_link link;        /* owned */
    struct sockaddr_storage addr;
    socklen_t addrlen;
    corolla_timer retry;
    corolla_guest guest; /* while the timer runs; holds waiter, and so whoever awaits it */
    int64_t delay;       /* ns */
    int fd;              /* owned while fd_valid */
    bool fd_valid;
} UnixState;

static int
unix_traverse(void *data, visitproc visit, void *arg)
{
    UnixState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->waiter);
    Py_VISIT(st->tls.context);
    return endpoint_link_traverse(&st->link, visit, arg);
}

/* Ends the waiting. May drop the coroutine, and st with it, unless the caller has a reference. */
static void
stop_waiting(UnixState *st)
{
    if (st->guest.held == NULL) {
        return;
    }
    (void)corolla_timer_stop(&loop_core(st->loop)->reactor, &st->retry);
    corolla_guest_remove(&st->guest);
    Py_CLEAR(st->guest.held);
}

static void
unix_clear(void *data)
{
    UnixState *st = data;
    stop_waiting(st);
    if (st->fd_valid) {
        st->fd_valid = false;
        close(st->fd);
    }
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->tls.context);
    endpoint_link_clear(&st->link);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

static int
check_ssl_arguments(PyObject **args)
{
    PyObject *name = args[SERVER_HOSTNAME];
    if (name != NULL && !PyUnicode_Check(name)) {
        PyErr_SetNone(PyExc_AssertionError); /* it is an assertion in asyncio, and comes first */
        return -1;
    }
    int ssl = endpoint_check_ssl_options(args[SSL], name, args[HANDSHAKE_TIMEOUT], args[SHUTDOWN_TIMEOUT]);
    if (ssl > 0 && name == NULL) {
        PyErr_SetString(PyExc_ValueError, "you have to pass server_hostname when using ssl");
        return -1;
    }
    return ssl;
}

static int
check_arguments(UnixState *st)
{
    PyObject **args = st->args;
    int ssl = check_ssl_arguments(args);
    if (ssl < 0) {
        return -1;
    }
    if (args[PATH] != NULL) {
        if (args[SOCK] != NULL) {
            PyErr_SetString(PyExc_ValueError, "path and sock can not be specified at the same time");
            return -1;
        }
        PyObject *path = PyOS_FSPath(args[PATH]);
        if (path == NULL) {
            return -1;
        }
        Py_SETREF(args[PATH], path);
    }
    else if (args[SOCK] == NULL) {
        PyErr_SetString(PyExc_ValueError, "no path and sock were specified");
        return -1;
    }
    else if (endpoint_check_unix_stream(args[SOCK]) < 0) {
        return -1;
    }
    if (ssl == 0) {
        return 0;
    }
    return endpoint_tls_parse(&st->tls, st->loop, args[SSL], false, args[SERVER_HOSTNAME], args[HANDSHAKE_TIMEOUT],
                              args[SHUTDOWN_TIMEOUT]);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

static int
open_socket(UnixState *st)
{
    if (corolla_address_from_python(st->args[PATH], AF_UNIX, &st->addr, &st->addrlen) < 0) {
        return -1;
    }
    st->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (st->fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    st->fd_valid = true;
    return 0;
}

static int
time_to_retry(void *arg)
{
    UnixState *st = arg;
    corolla_timer_fired(&st->retry);
    PyObject *waiter = Py_NewRef(st->waiter);
    stop_waiting(st);
    int rc = corolla_future_complete(waiter, Py_None);
    Py_DECREF(waiter);
    return rc;
}

/* The loop closes: whoever waits will wait for ever. */
static void
leave_loop(corolla_guest *guest)
{
    stop_waiting((UnixState *)(void *)((char *)guest - offsetof(UnixState, guest)));
}

/* Makes st->waiter, done after a while. 0 or -1. */
static int
wait_for_room(UnixState *st)
{
    corolla_core *core = loop_core(st->loop);
    int64_t now;
    st->delay = st->delay == 0 ? FIRST_DELAY : st->delay < LAST_DELAY ? 2 * st->delay : LAST_DELAY;
    Py_XSETREF(st->waiter, corolla_future_new(core));
    if (st->waiter == NULL || corolla_core_check_closed(core) < 0 || corolla_core_now(core, &now) < 0 ||
        corolla_guest_add(core, &st->guest) < 0) {
        return -1;
    }
    st->guest.leave = leave_loop;
    corolla_timer_init(&st->retry, time_to_retry, st);
    if (corolla_timer_start(&core->reactor, &st->retry, now + st->delay) < 0) {
        corolla_guest_remove(&st->guest);
        PyErr_NoMemory();
        return -1;
    }
    st->guest.held = Py_NewRef(st->waiter);
    return 0;
}

/* A Unix connection is made, or refused, at once. 1; 0 when st->waiter is to be awaited before the next try; -1.
 *
 * With the server's queue full the kernel says EAGAIN and forgets: there is nothing to watch, and asyncio, which watches
 * nevertheless, goes on with a socket that is not connected. */
static int
try_connect(UnixState *st)
{
    int err;
    do {
        err = connect(st->fd, (struct sockaddr *)&st->addr, st->addrlen) < 0 ? errno : 0;
    } while (err == EINTR);
    if (err == 0) {
        return 1;
    }
    if (err == EAGAIN) {
        return wait_for_room(st);
    }
    errno = err;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static int
make_transport(UnixState *st)
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

/* ---- The coroutine ---------------------------------------------------------------------------- */

static corolla_step
unix_step(corolla_coro *co, PyObject *value)
{
    UnixState *st = corolla_coro_state(co);
    int rc;
    COROLLA_BEGIN(co);
    if (check_arguments(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->args[PATH] != NULL) {
        if (open_socket(st) < 0) {
            return COROLLA_RAISE;
        }
        while ((rc = try_connect(st)) == 0) {
            COROLLA_AWAIT(co, st->waiter);
            if (value == NULL) {
                return COROLLA_RAISE; /* clear stops the timer and closes the socket */
            }
        }
        if (rc < 0) {
            return COROLLA_RAISE;
        }
    }
    if (make_transport(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->link.waiter);
    return endpoint_link_return(co, &st->link, value);
    COROLLA_END(co);
}

static const corolla_coro_spec unix_spec = {
    .name = "create_unix_connection",
    .qualname = "EventLoop.create_unix_connection",
    .size = sizeof(UnixState),
    .step = unix_step,
    .traverse = unix_traverse,
    .clear = unix_clear,
};

static PyObject *
create_unix_connection(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &unix_spec);
    if (co == NULL) {
        return NULL;
    }
    UnixState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i != FACTORY ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    create_unix_connection_doc,
    "create_unix_connection($self, protocol_factory, path=None, *, ssl=None, sock=None, server_hostname=None,\n"
    "                       ssl_handshake_timeout=None, ssl_shutdown_timeout=None)\n--\n\n"
    "Connect to a Unix stream socket: a (transport, protocol) pair. A coroutine.\n\n"
    "protocol_factory: called without arguments, for the protocol. path: str, bytes or path-like; an abstract\n"
    "name begins with a NUL. While the server's queue is full, the connection is tried again. sock: a connected\n"
    "AF_UNIX stream socket instead of path, which is the transport's from then on. ssl: an ssl.SSLContext, or\n"
    "true for the default one: the connection is encrypted. server_hostname: str, the name that the server's\n"
    "certificate must hold; it has to be given with ssl. ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60\n"
    "and 30 unless given.\n\n"
    "OSError when the connection fails, ssl.SSLError when the handshake does; ValueError for neither or both of path and sock, for a socket of another\n"
    "kind, and for what is only meaningful with ssl. Specified by asyncio.loop.create_unix_connection().");

PyMethodDef corolla_loop_unix_connect_methods[] = {
    {"create_unix_connection", (PyCFunction)(void (*)(void))create_unix_connection, METH_FASTCALL | METH_KEYWORDS,
     create_unix_connection_doc},
    {NULL, NULL, 0, NULL},
};
