/* EventLoop.create_datagram_endpoint(): arguments, look-ups, the socket, the transport. */
#include "endpoint.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FACTORY, LOCAL, REMOTE, FAMILY, PROTO, FLAGS, REUSE_PORT, BROADCAST, SOCK, ARGUMENTS };

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory", "local_addr",      "remote_addr", "family", "proto", "flags",
    "reuse_port",       "allow_broadcast", "sock",        NULL,
};
static const corolla_signature signature = {"create_datagram_endpoint", names, 1, 3, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing or None was given */
    PyObject *pairs;           /* owned: list of [family, proto, local address, remote address] */
    PyObject *pending;         /* owned: what is awaited, or its result */
    PyObject *sock;            /* owned: the socket being made */
    PyObject *remote;          /* owned: the address it is for, or NULL */
    PyObject *first_error;     /* owned: of the attempts */
    PyObject *waiter;          /* owned */
    PyObject *protocol;        /* owned */
    PyObject *transport;       /* owned */
    Py_ssize_t next;           /* of pairs */
    int family, proto, flags;
    int which;                  /* LOCAL or REMOTE: whose address is looked up */
    bool has[REMOTE + 1];       /* that argument is true: as asyncio asks */
    bool reuse_port, broadcast; /* the same of these */
} EndpointState;

static int
endpoint_traverse(void *data, visitproc visit, void *arg)
{
    EndpointState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->pairs);
    Py_VISIT(st->pending);
    Py_VISIT(st->sock);
    Py_VISIT(st->remote);
    Py_VISIT(st->first_error);
    Py_VISIT(st->waiter);
    Py_VISIT(st->protocol);
    Py_VISIT(st->transport);
    return 0;
}

/* Closes the socket being made: nobody else knows it. Keeps an exception being raised. */
static void
drop_socket(EndpointState *st)
{
    PyObject *sock = st->sock;
    if (sock == NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    st->sock = NULL;
    PyObject *done = PyObject_CallMethod(sock, "close", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(done);
    Py_DECREF(sock);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void
endpoint_clear(void *data)
{
    EndpointState *st = data;
    drop_socket(st);
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->pairs);
    Py_CLEAR(st->pending);
    Py_CLEAR(st->remote);
    Py_CLEAR(st->first_error);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->transport);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

/* 0 or -1. */
static int
parse_truth(PyObject *value, bool *out)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    *out = truth > 0;
    return truth < 0 ? -1 : 0;
}

static int
parse_arguments(EndpointState *st)
{
    PyObject **args = st->args;
    if (parse_truth(args[LOCAL], &st->has[LOCAL]) < 0 || parse_truth(args[REMOTE], &st->has[REMOTE]) < 0 ||
        parse_truth(args[REUSE_PORT], &st->reuse_port) < 0 || parse_truth(args[BROADCAST], &st->broadcast) < 0) {
        return -1;
    }
    return endpoint_parse_int(args[FAMILY], 0, &st->family) < 0 || endpoint_parse_int(args[PROTO], 0, &st->proto) < 0 ||
                   endpoint_parse_int(args[FLAGS], 0, &st->flags) < 0
               ? -1
               : 0;
}

/* Names what was given besides sock, in the words of asyncio. */
static void
refuse_modifiers(EndpointState *st)
{
    PyObject *problems = PyUnicode_FromString("");
    for (int i = LOCAL; problems != NULL && i < SOCK; i++) {
        int given = st->args[i] == NULL ? 0 : PyObject_IsTrue(st->args[i]);
        if (given < 0) {
            Py_CLEAR(problems);
        }
        else if (given > 0) {
            const char *comma = PyUnicode_GET_LENGTH(problems) > 0 ? ", " : "";
            Py_SETREF(problems, PyUnicode_FromFormat("%U%s%s=%S", problems, comma, names[i], st->args[i]));
        }
    }
    if (problems != NULL) {
        PyErr_Format(PyExc_ValueError, "socket modifier keyword arguments can not be used when sock is specified. (%U)",
                     problems);
        Py_DECREF(problems);
    }
}

/* A socket that the caller has. 0 or -1. */
static int
take_socket(EndpointState *st)
{
    int type;
    PyObject *number = PyObject_GetAttr(st->args[SOCK], loop_core(st->loop)->state->s.type);
    int rc = number == NULL ? -1 : endpoint_parse_int(number, 0, &type);
    Py_XDECREF(number);
    if (rc < 0) {
        return -1;
    }
    if (type == SOCK_STREAM) {
        PyErr_Format(PyExc_ValueError, "A datagram socket was expected, got %R", st->args[SOCK]);
        return -1;
    }
    if (st->has[LOCAL] || st->has[REMOTE] || st->family || st->proto || st->flags || st->reuse_port || st->broadcast) {
        refuse_modifiers(st);
        return -1;
    }
    return endpoint_set_nonblocking(st->args[SOCK]);
}

/* ---- Addresses ------------------------------------------------------------------------------ */

/* Adds [family, proto, local, remote]; what is NULL is None. 0 or -1. */
static int
add_pair(EndpointState *st, PyObject *family, PyObject *proto, PyObject *local, PyObject *remote)
{
    PyObject *pair =
        Py_BuildValue("[OOOO]", family, proto, local == NULL ? Py_None : local, remote == NULL ? Py_None : remote);
    int rc = pair == NULL ? -1 : PyList_Append(st->pairs, pair);
    Py_XDECREF(pair);
    return rc;
}

/* The pair of a family and protocol, made if need be; borrowed, or NULL. */
static PyObject *
find_pair(EndpointState *st, PyObject *family, PyObject *proto)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(st->pairs); i++) {
        PyObject *pair = PyList_GET_ITEM(st->pairs, i);
        int same = PyObject_RichCompareBool(PyList_GET_ITEM(pair, 0), family, Py_EQ);
        if (same > 0) {
            same = PyObject_RichCompareBool(PyList_GET_ITEM(pair, 1), proto, Py_EQ);
        }
        if (same != 0) {
            return same < 0 ? NULL : pair;
        }
    }
    if (add_pair(st, family, proto, NULL, NULL) < 0) {
        return NULL;
    }
    return PyList_GET_ITEM(st->pairs, PyList_GET_SIZE(st->pairs) - 1);
}

/* Puts the addresses of a look-up, st->pending, where they belong. 0 or -1. */
static int
store_infos(EndpointState *st)
{
    PyObject *infos = PySequence_Fast(st->pending, "getaddrinfo() must return a sequence");
    if (infos == NULL) {
        return -1;
    }
    int rc = 0;
    if (PySequence_Fast_GET_SIZE(infos) == 0) {
        PyErr_SetString(PyExc_OSError, "getaddrinfo() returned empty list");
        rc = -1;
    }
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(infos); i++) {
        PyObject *info = PySequence_Tuple(PySequence_Fast_GET_ITEM(infos, i));
        rc = -1;
        if (info != NULL && PyTuple_GET_SIZE(info) != 5) {
            PyErr_SetString(PyExc_ValueError, "getaddrinfo() must return 5-tuples");
        }
        else if (info != NULL) {
            PyObject *pair = find_pair(st, PyTuple_GET_ITEM(info, 0), PyTuple_GET_ITEM(info, 2));
            rc = pair == NULL ? -1
                              : PyList_SetItem(pair, st->which == LOCAL ? 2 : 3, Py_NewRef(PyTuple_GET_ITEM(info, 4)));
        }
        Py_XDECREF(info);
    }
    Py_DECREF(infos);
    return rc;
}

/* Looks up the address of st->which. 1: st->pending is the list; 0: it is to be awaited for it; -1. */
static int
resolve(EndpointState *st)
{
    PyObject *address = st->args[st->which];
    if (!PyTuple_Check(address) || PyTuple_GET_SIZE(address) != 2) {
        PyErr_SetString(PyExc_TypeError, "2-tuple is expected");
        return -1;
    }
    PyObject *host = PyTuple_GET_ITEM(address, 0), *port = PyTuple_GET_ITEM(address, 1);
    PyObject *info = loop_ipaddr_info(host, port, st->family, SOCK_DGRAM, st->proto, 0, 0);
    if (info == NULL) {
        return -1;
    }
    int known = info != Py_None;
    PyObject *found = known ? PyTuple_Pack(1, info)
                            : loop_getaddrinfo(st->loop, host, port, st->family, SOCK_DGRAM, st->proto, st->flags);
    Py_DECREF(info);
    Py_XSETREF(st->pending, found);
    return found == NULL ? -1 : known;
}

/* Drops the pairs that lack an address that was asked for. 0 or -1. */
static int
check_pairs(EndpointState *st)
{
    for (Py_ssize_t i = PyList_GET_SIZE(st->pairs) - 1; i >= 0; i--) {
        PyObject *pair = PyList_GET_ITEM(st->pairs, i);
        if ((st->has[LOCAL] && PyList_GET_ITEM(pair, 2) == Py_None) ||
            (st->has[REMOTE] && PyList_GET_ITEM(pair, 3) == Py_None)) {
            if (PySequence_DelItem(st->pairs, i) < 0) {
                return -1;
            }
        }
    }
    if (PyList_GET_SIZE(st->pairs) == 0) {
        PyErr_SetString(PyExc_ValueError, "can not get address information");
        return -1;
    }
    return 0;
}

static void
log_stale(EndpointState *st, PyObject *path)
{
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    PyObject *exc = PyErr_GetRaisedException();
    endpoint_log(loop_core(st->loop), "error", "Unable to check or remove stale UNIX socket %r: %r",
                 PyTuple_Pack(2, path, exc));
    Py_DECREF(exc);
}

/* Removes a socket that an earlier program left at the path. 0 or -1. */
static int
remove_stale(EndpointState *st)
{
    PyObject *path = st->args[LOCAL];
    struct stat status;
    if (path == NULL || !st->has[LOCAL] || PyUnicode_READ_CHAR(path, 0) == 0) {
        return 0;
    }
    PyObject *bytes = PyUnicode_EncodeFSDefault(path);
    if (bytes == NULL) {
        return -1;
    }
    const char *text = PyBytes_AS_STRING(bytes);
    if ((stat(text, &status) < 0 || (S_ISSOCK(status.st_mode) && unlink(text) < 0)) && errno != ENOENT) {
        log_stale(st, path);
    }
    Py_DECREF(bytes);
    return 0;
}

/* The addresses that need no look-up. 1: st->pairs has them; 0: there is something to look up; -1. */
static int
plain_pairs(EndpointState *st)
{
    PyObject *zero = PyLong_FromLong(0);
    PyObject *family = st->args[FAMILY] == NULL ? zero : st->args[FAMILY];
    PyObject *proto = st->args[PROTO] == NULL ? zero : st->args[PROTO];
    int rc = -1;
    st->pairs = PyList_New(0);
    if (zero == NULL || st->pairs == NULL) {
        goto done;
    }
    if (!st->has[LOCAL] && !st->has[REMOTE]) {
        if (st->family == 0) {
            PyErr_SetString(PyExc_ValueError, "unexpected address family");
            goto done;
        }
        rc = add_pair(st, family, proto, NULL, NULL) < 0 ? -1 : 1;
    }
    else if (st->family == AF_UNIX) {
        for (int i = LOCAL; i <= REMOTE; i++) {
            if (st->args[i] != NULL && !PyUnicode_Check(st->args[i])) {
                PyErr_SetString(PyExc_TypeError, "string is expected");
                goto done;
            }
        }
        if (remove_stale(st) == 0) {
            rc = add_pair(st, family, proto, st->args[LOCAL], st->args[REMOTE]) < 0 ? -1 : 1;
        }
    }
    else {
        rc = 0;
    }
done:
    Py_XDECREF(zero);
    return rc;
}

/* ---- The socket ----------------------------------------------------------------------------- */

static int
set_option(PyObject *sock, int option)
{
    PyObject *done = PyObject_CallMethod(sock, "setsockopt", "iii", SOL_SOCKET, option, 1);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
set_reuse_port(PyObject *sock)
{
    if (set_option(sock, SO_REUSEPORT) == 0) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_SetString(PyExc_ValueError, "reuse_port not supported by socket module, "
                                          "SO_REUSEPORT defined but not implemented.");
    }
    return -1;
}

/* The socket of one pair, bound. 1: it is ready; 0: st->pending is to be awaited, and connects it; -1. */
static int
make_socket(EndpointState *st)
{
    corolla_state *state = loop_core(st->loop)->state;
    PyObject *pair = PyList_GET_ITEM(st->pairs, st->next);
    PyObject *local = PyList_GET_ITEM(pair, 2), *remote = PyList_GET_ITEM(pair, 3);
    Py_CLEAR(st->remote);
    st->sock = PyObject_CallFunction(state->socket_type, "OiO", PyList_GET_ITEM(pair, 0), (int)SOCK_DGRAM,
                                     PyList_GET_ITEM(pair, 1));
    if (st->sock == NULL || (st->reuse_port && set_reuse_port(st->sock) < 0) ||
        (st->broadcast && set_option(st->sock, SO_BROADCAST) < 0) || endpoint_set_nonblocking(st->sock) < 0) {
        return -1;
    }
    if (st->has[LOCAL]) {
        PyObject *bound = PyObject_CallMethodOneArg(st->sock, state->s.bind, local);
        if (bound == NULL) {
            return -1;
        }
        Py_DECREF(bound);
    }
    if (!st->has[REMOTE]) {
        return 1;
    }
    st->remote = Py_NewRef(remote);
    if (st->broadcast) {
        return 1; /* what comes from others is to be heard, so it is not connected */
    }
    PyObject *connecting = PyObject_CallMethodObjArgs(st->loop, state->s.sock_connect, st->sock, remote, NULL);
    Py_XSETREF(st->pending, connecting);
    return connecting == NULL ? -1 : 0;
}

/* Takes what an attempt has raised: 0, and the next pair's turn; -1 with what is raised in the end. */
static int
attempt_failed(EndpointState *st)
{
    drop_socket(st);
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (st->first_error == NULL) {
        st->first_error = Py_NewRef(exc);
    }
    Py_DECREF(exc);
    if (++st->next < PyList_GET_SIZE(st->pairs)) {
        return 0;
    }
    exc = st->first_error;
    st->first_error = NULL;
    PyErr_SetRaisedException(exc);
    return -1;
}

/* ---- The transport --------------------------------------------------------------------------- */

static int
make_transport(EndpointState *st)
{
    corolla_core *core = loop_core(st->loop);
    PyObject *sock = st->sock != NULL ? st->sock : st->args[SOCK];
    st->protocol = PyObject_CallNoArgs(st->args[FACTORY]);
    st->waiter = st->protocol == NULL ? NULL : corolla_future_new(core);
    int fd = st->waiter == NULL || loop_check(st->loop) < 0 ? -1 : loop_fileno(sock);
    if (fd < 0 || loop_check_no_transport((LoopObject *)st->loop, fd, sock) < 0) {
        return -1;
    }
    PyObject *context = PyContext_CopyCurrent();
    if (context == NULL) {
        return -1;
    }
    corolla_datagram_options options = {
        .fd = fd,
        .sock = sock,
        .address = st->remote,
        .given = st->args[REMOTE],
        .protocol = st->protocol,
        .context = context,
        .waiter = st->waiter,
    };
    st->transport = corolla_datagram_endpoint_new(core, &options);
    Py_DECREF(context);
    if (st->transport == NULL) {
        return -1;
    }
    Py_CLEAR(st->sock); /* the transport's now */
    return 0;
}

static void
log_created(EndpointState *st)
{
    corolla_core *core = loop_core(st->loop);
    if (!core->debug) {
        return;
    }
    PyObject *remote = st->args[REMOTE] == NULL ? Py_None : st->args[REMOTE];
    if (st->has[LOCAL]) {
        endpoint_log(core, "info", "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                     PyTuple_Pack(4, st->args[LOCAL], remote, st->transport, st->protocol));
    }
    else {
        endpoint_log(core, "debug", "Datagram endpoint remote_addr=%r created: (%r, %r)",
                     PyTuple_Pack(3, remote, st->transport, st->protocol));
    }
}

/* ---- The coroutine ---------------------------------------------------------------------------- */

static corolla_step
endpoint_step(corolla_coro *co, PyObject *value)
{
    EndpointState *st = corolla_coro_state(co);
    int rc;
    COROLLA_BEGIN(co);
    if (parse_arguments(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->args[SOCK] != NULL) {
        if (take_socket(st) < 0) {
            return COROLLA_RAISE;
        }
    }
    else {
        rc = plain_pairs(st);
        if (rc < 0) {
            return COROLLA_RAISE;
        }
        if (rc == 0) {
            for (st->which = LOCAL; st->which <= REMOTE; st->which++) {
                if (st->args[st->which] == NULL) {
                    continue;
                }
                rc = resolve(st);
                if (rc == 0) {
                    COROLLA_AWAIT(co, st->pending);
                    if (value == NULL) {
                        return COROLLA_RAISE;
                    }
                    Py_XSETREF(st->pending, Py_NewRef(value));
                    rc = 1;
                }
                if (rc < 0 || store_infos(st) < 0) {
                    return COROLLA_RAISE;
                }
            }
            if (check_pairs(st) < 0) {
                return COROLLA_RAISE;
            }
        }
        for (;;) {
            rc = make_socket(st);
            if (rc == 0) {
                COROLLA_AWAIT(co, st->pending);
                rc = value == NULL ? -1 : 1;
            }
            if (rc > 0) {
                break;
            }
            if (attempt_failed(st) < 0) {
                return COROLLA_RAISE;
            }
        }
    }
    if (make_transport(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL) {
        corolla_datagram_endpoint_discard(st->transport);
        return COROLLA_RAISE;
    }
    log_created(st);
    return corolla_return(co, PyTuple_Pack(2, st->transport, st->protocol));
    COROLLA_END(co);
}

static const corolla_coro_spec endpoint_spec = {
    .name = "create_datagram_endpoint",
    .qualname = "EventLoop.create_datagram_endpoint",
    .size = sizeof(EndpointState),
    .step = endpoint_step,
    .traverse = endpoint_traverse,
    .clear = endpoint_clear,
};

static PyObject *
create_datagram_endpoint(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &endpoint_spec);
    if (co == NULL) {
        return NULL;
    }
    EndpointState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i != FACTORY ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    create_datagram_endpoint_doc,
    "create_datagram_endpoint($self, protocol_factory, local_addr=None, remote_addr=None, *, family=0, proto=0,\n"
    "                         flags=0, reuse_port=None, allow_broadcast=None, sock=None)\n--\n\n"
    "A datagram socket: a (transport, protocol) pair. A coroutine.\n\n"
    "local_addr and remote_addr are (host, port), or paths with family=socket.AF_UNIX: bound to the one,\n"
    "connected to the other (only aimed at it with allow_broadcast). sock: a datagram socket instead of all\n"
    "that. OSError when no address can be used; ValueError and TypeError for arguments that do not go\n"
    "together. Specified by asyncio.loop.create_datagram_endpoint().");

PyMethodDef corolla_loop_datagram_methods[] = {
    {"create_datagram_endpoint", (PyCFunction)(void (*)(void))create_datagram_endpoint, METH_FASTCALL | METH_KEYWORDS,
     create_datagram_endpoint_doc},
    {NULL, NULL, 0, NULL},
};
