/* EventLoop.start_tls(): TLS from here on, over a transport that is there. */
#include "endpoint.h"

#include "../streams/streams.h"

enum {
    TRANSPORT,
    PROTOCOL,
    CONTEXT,
    SERVER_SIDE,
    SERVER_HOSTNAME,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "transport",
    "protocol",
    "sslcontext",
    "server_side",
    "server_hostname",
    "ssl_handshake_timeout",
    "ssl_shutdown_timeout",
    NULL,
};
static const corolla_signature signature = {"start_tls", names, 3, 3, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing was given, or None for an option */
    endpoint_tls tls;          /* owned */
    PyObject *made;            /* owned: the protocol that TLS is to the transport below */
    PyObject *transport;       /* owned: what the application is to use instead */
    PyObject *waiter;          /* owned: a future, done once the handshake is over */
} StartState;

static int
start_traverse(void *data, visitproc visit, void *arg)
{
    StartState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->tls.context);
    Py_VISIT(st->made);
    Py_VISIT(st->transport);
    Py_VISIT(st->waiter);
    return 0;
}

static void
start_clear(void *data)
{
    StartState *st = data;
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->tls.context);
    Py_CLEAR(st->made);
    Py_CLEAR(st->transport);
    Py_CLEAR(st->waiter);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

static int
check_context(PyObject *context)
{
    PyObject *type = PyImport_ImportModuleAttrString("ssl", "SSLContext");
    int fits = type == NULL ? -1 : PyObject_IsInstance(context, type);
    Py_XDECREF(type);
    if (fits == 0) {
        PyErr_Format(PyExc_TypeError, "sslcontext is expected to be an instance of ssl.SSLContext, got %R", context);
    }
    return fits > 0 ? 0 : -1;
}

static int
check_transport(corolla_state *state, PyObject *transport)
{
    if (corolla_tcp_check(state, transport) || corolla_tls_check(state, transport)) {
        return 0;
    }
    PyObject *value = NULL;
    int fits = PyObject_GetOptionalAttr(transport, state->s._start_tls_compatible, &value);
    if (fits > 0) {
        fits = PyObject_IsTrue(value);
        Py_DECREF(value);
    }
    if (fits == 0) {
        PyErr_Format(PyExc_TypeError, "transport %R is not supported by start_tls()", transport);
    }
    return fits > 0 ? 0 : -1;
}

static int
parse_arguments(StartState *st)
{
    PyObject **args = st->args;
    bool server_side;
    if (check_context(args[CONTEXT]) < 0 || check_transport(loop_core(st->loop)->state, args[TRANSPORT]) < 0 ||
        endpoint_parse_bool(args[SERVER_SIDE], false, &server_side) < 0) {
        return -1;
    }
    return endpoint_tls_parse(&st->tls, st->loop, args[CONTEXT], server_side,
                              server_side ? NULL : args[SERVER_HOSTNAME], args[HANDSHAKE_TIMEOUT],
                              args[SHUTDOWN_TIMEOUT]);
}

/* ---- The upgrade ----------------------------------------------------------------------------- */

/* Makes st->made, st->transport and st->waiter. 0 or -1. */
static int
make_tls(StartState *st)
{
    corolla_core *core = loop_core(st->loop);
    st->waiter = corolla_future_new(core);
    PyObject *context = st->waiter == NULL ? NULL : PyContext_CopyCurrent();
    if (context == NULL) {
        return -1;
    }
    corolla_tls_options options = st->tls.options;
    options.protocol = st->args[PROTOCOL];
    options.context = context;
    options.waiter = st->waiter;
    st->made = corolla_tls_new(core, &options);
    Py_DECREF(context);
    if (st->made == NULL) {
        return -1;
    }
    st->transport = Py_NewRef(corolla_tls_transport(st->made));
    return 0;
}

/* What a stream's reader holds came in clear text, before the handshake and whatever it may prove. It is the peer's
 * ClientHello, or something that a man in the middle put behind STARTTLS; either way it is the handshake's to judge, and nothing
 * the application may take for a part of the session. */
static int
take_unread(StartState *st, PyObject **unread)
{
    corolla_state *state = loop_core(st->loop)->state;
    PyObject *below = PyObject_CallMethod(st->args[TRANSPORT], "get_protocol", NULL);
    if (below == NULL) {
        return -1;
    }
    if (Py_IS_TYPE(below, state->tls_protocol_type)) {
        Py_DECREF(below);
        PyErr_SetString(PyExc_RuntimeError,
                        "TLS has begun on this transport already: another one is to be used instead");
        return -1;
    }
    int rc = stream_hand_over(state, below, st->transport, unread);
    if (rc == 0 && *unread == NULL && below != st->args[PROTOCOL]) {
        rc = stream_hand_over(state, st->args[PROTOCOL], st->transport, unread);
    }
    Py_DECREF(below);
    return rc;
}

/* 0, or -1 with the transport as it was, unless it cannot be upgraded. */
static int
begin(StartState *st)
{
    if (parse_arguments(st) < 0 || make_tls(st) < 0) {
        return -1;
    }
    PyObject *unread = NULL;
    int rc = take_unread(st, &unread);
    if (rc == 0) {
        rc = corolla_tls_upgrade(loop_core(st->loop), st->args[TRANSPORT], st->made, unread);
    }
    Py_XDECREF(unread);
    if (rc < 0) {
        corolla_tls_discard(st->made);
    }
    return rc;
}

/* The connection is of no use to anybody any more. Keeps the exception being raised. */
static void
give_up(StartState *st)
{
    corolla_tls_discard(st->made);
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *closed = PyObject_CallMethodNoArgs(st->args[TRANSPORT], loop_core(st->loop)->state->s.close);
    if (closed == NULL) {
        PyErr_WriteUnraisable(st->args[TRANSPORT]);
    }
    Py_XDECREF(closed);
    PyErr_SetRaisedException(exc);
}

static corolla_step
start_step(corolla_coro *co, PyObject *value)
{
    StartState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (begin(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL) {
        give_up(st);
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(st->transport));
    COROLLA_END(co);
}

static const corolla_coro_spec start_spec = {
    .name = "start_tls",
    .qualname = "EventLoop.start_tls",
    .size = sizeof(StartState),
    .step = start_step,
    .traverse = start_traverse,
    .clear = start_clear,
};

static PyObject *
start_tls(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &start_spec);
    if (co == NULL) {
        return NULL;
    }
    StartState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        st->args[i] = given[i] == Py_None && i > SERVER_SIDE ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    start_tls_doc,
    "start_tls($self, transport, protocol, sslcontext, *, server_side=False, server_hostname=None,\n"
    "          ssl_handshake_timeout=None, ssl_shutdown_timeout=None)\n--\n\n"
    "Go on over TLS on a connection that is there; the transport to use instead. A coroutine.\n\n"
    "transport: one that loop.create_connection() and the like made, encrypted or not; it is not to be used "
    "any\nmore, and is closed if the handshake fails or is cancelled. protocol: what gets the decrypted bytes;\n"
    "connection_made() is not called. sslcontext: an ssl.SSLContext. server_side: whether this end accepted\n"
    "the connection. server_hostname: str, the name that the peer's certificate must hold. ssl_handshake_timeout,\n"
    "ssl_shutdown_timeout: seconds, 60 and 30 unless given. What a StreamReader on the connection holds unread\n"
    "goes to the handshake, not to the application.\n\n"
    "TypeError for another kind of context or transport; ValueError for a timeout that is not positive;\n"
    "ssl.SSLError and OSError when the handshake fails, ConnectionAbortedError when it takes too long.\n"
    "Specified by asyncio.loop.start_tls().");

PyMethodDef corolla_loop_start_tls_methods[] = {
    {"start_tls", (PyCFunction)(void (*)(void))start_tls, METH_FASTCALL | METH_KEYWORDS, start_tls_doc},
    {NULL, NULL, 0, NULL},
};
