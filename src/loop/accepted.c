/* EventLoop.connect_accepted_socket() */
#include "endpoint.h"

enum {
    FACTORY,
    SOCK,
    SSL,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory", "sock", "ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout", NULL,
};
static const corolla_signature signature = {"connect_accepted_socket", names, 2, 2, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing was given, or None for an option */
    endpoint_tls tls;          /* owned */
    endpoint_link link;        /* owned */
} AcceptedState;

static int
accepted_traverse(void *data, visitproc visit, void *arg)
{
    AcceptedState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->tls.context);
    return endpoint_link_traverse(&st->link, visit, arg);
}

static void
accepted_clear(void *data)
{
    AcceptedState *st = data;
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->tls.context);
    endpoint_link_clear(&st->link);
}

static int
begin(AcceptedState *st)
{
    PyObject **args = st->args;
    if (endpoint_check_stream(args[SOCK]) < 0) {
        return -1;
    }
    int ssl = endpoint_check_ssl_options(args[SSL], NULL, args[HANDSHAKE_TIMEOUT], args[SHUTDOWN_TIMEOUT]);
    if (ssl < 0 || endpoint_refuse_ssl_socket(args[SOCK]) < 0) {
        return -1;
    }
    if (ssl > 0 && endpoint_tls_parse(&st->tls, st->loop, args[SSL], true, NULL, args[HANDSHAKE_TIMEOUT],
                                      args[SHUTDOWN_TIMEOUT]) < 0) {
        return -1;
    }
    int fd = endpoint_take_socket(st->loop, args[SOCK]);
    return fd < 0 ? -1 : endpoint_link_make(&st->link, st->loop, args[FACTORY], args[SOCK], fd, &st->tls);
}

static void
log_handled(AcceptedState *st)
{
    corolla_core *core = loop_core(st->loop);
    if (!core->debug) {
        return;
    }
    PyObject *sock = PyObject_CallMethod(st->link.transport, "get_extra_info", "s", "socket");
    PyObject *args = sock == NULL ? NULL : PyTuple_Pack(3, sock, st->link.transport, st->link.protocol);
    Py_XDECREF(sock);
    endpoint_log(core, "debug", "%r handled: (%r, %r)", args);
}

static corolla_step
accepted_step(corolla_coro *co, PyObject *value)
{
    AcceptedState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (begin(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->link.waiter);
    if (value != NULL) {
        log_handled(st);
    }
    return endpoint_link_return(co, &st->link, value);
    COROLLA_END(co);
}

static const corolla_coro_spec accepted_spec = {
    .name = "connect_accepted_socket",
    .qualname = "EventLoop.connect_accepted_socket",
    .size = sizeof(AcceptedState),
    .step = accepted_step,
    .traverse = accepted_traverse,
    .clear = accepted_clear,
};

static PyObject *
connect_accepted_socket(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &accepted_spec);
    if (co == NULL) {
        return NULL;
    }
    AcceptedState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i > SOCK ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    connect_accepted_socket_doc,
    "connect_accepted_socket($self, protocol_factory, sock, *, ssl=None, ssl_handshake_timeout=None,\n"
    "                        ssl_shutdown_timeout=None)\n--\n\n"
    "Wrap a connection that was accepted outside asyncio: a (transport, protocol) pair. A coroutine.\n\n"
    "protocol_factory: called without arguments, for the protocol. sock: a connected stream socket, which is the\n"
    "transport's from then on; it stays the caller's if this fails before there is a transport. ssl: an\n"
    "ssl.SSLContext: the connection is encrypted, this end being the server. ssl_handshake_timeout,\n"
    "ssl_shutdown_timeout: seconds, 60 and 30 unless given.\n\n"
    "ValueError for what is no stream socket, for a timeout without ssl or one that is not positive, and for\n"
    "ssl=True; TypeError for an SSLSocket; RuntimeError if a transport uses the socket; ssl.SSLError and OSError\n"
    "when the handshake fails. Specified by asyncio.loop.connect_accepted_socket().");

PyMethodDef corolla_loop_accepted_methods[] = {
    {"connect_accepted_socket", (PyCFunction)(void (*)(void))connect_accepted_socket, METH_FASTCALL | METH_KEYWORDS,
     connect_accepted_socket_doc},
    {NULL, NULL, 0, NULL},
};
