/* A server's connections as they come: from the accepted descriptor to a transport, and what happens when
 * there are no descriptors left. */
#include "tcp.h"

#include <errno.h>
#include <unistd.h>

/* Takes the exception being raised. 0, or -1 with KeyboardInterrupt or SystemExit. */
static int
report(Server *server, const char *message, PyObject *key, PyObject *value)
{
    PyObject *loop = Py_NewRef(server->loop);
    int rc = corolla_report_raised(server->state, loop, message, key, value);
    Py_DECREF(loop);
    return rc;
}

/* protocol_factory() in that context. New reference or NULL. */
static PyObject *
make_protocol(Server *server, PyObject *context)
{
    PyObject *factory = Py_NewRef(server->factory);
    PyObject *none[1] = {NULL};
    int64_t began = server->core->debug ? corolla_clock() : 0;
    PyObject *protocol = corolla_call_in(context, factory, none + 1, PY_VECTORCALL_ARGUMENTS_OFFSET);
    if (began != 0) {
        transport_report_slow(server->core, factory, NULL, (PyObject *)server, corolla_clock() - began);
    }
    Py_DECREF(factory);
    return protocol;
}

/* The protocol of the connection itself: the application's, or TLS in front of it. New reference or NULL. */
static PyObject *
make_lower(Server *server, PyObject *protocol, PyObject *context)
{
    if (server->sslcontext == NULL) {
        return Py_NewRef(protocol);
    }
    corolla_tls_options options = server->tls;
    PyObject *sslcontext = Py_NewRef(server->sslcontext);
    options.sslcontext = sslcontext;
    options.protocol = protocol;
    options.context = context;
    options.server = (PyObject *)server;
    PyObject *tls = corolla_tls_new(server->core, &options);
    Py_DECREF(sslcontext);
    return tls;
}

/* In debug mode. */
static void
log_connection(Server *server, PyObject *transport)
{
    PyObject *peer = PyObject_CallMethod(transport, "get_extra_info", "s", "peername");
    PyObject *sock = PyObject_CallMethod(transport, "get_extra_info", "s", "socket");
    PyObject *done = NULL;
    if (peer != NULL && sock != NULL) {
        done = PyObject_CallMethod(server->state->logger, "debug", "sOOO", "%r got a new connection from %r: %r",
                                   server, peer, sock);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)server);
    }
    Py_XDECREF(done);
    Py_XDECREF(sock);
    Py_XDECREF(peer);
}

int
server_accepted(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    Server *server = ((ServerListener *)(void *)l)->server;
    PyObject *protocol = NULL, *lower = NULL, *transport = NULL;
    int rc = 0;
    Py_INCREF(server);
    corolla_core_leave_task(server->core);
    PyObject *context = PyContext_Copy(server->context);
    if (context == NULL) {
        goto fail;
    }
    protocol = make_protocol(server, context);
    if (protocol == NULL) {
        goto fail;
    }
    lower = make_lower(server, protocol, context);
    if (lower == NULL) {
        goto fail;
    }
    if (!server->serving) {
        if (lower != protocol) {
            corolla_tls_discard(lower);
        }
        close(fd); /* the factory closed the server: nobody waits for this one */
        goto done;
    }
    corolla_tcp_options options = {
        .fd = fd,
        .protocol = lower,
        .context = context,
        .server = (PyObject *)server,
        .peer = peer,
        .peer_len = len,
    };
    transport = corolla_tcp_new(server->core, &options);
    if (transport == NULL) {
        if (lower != protocol) {
            corolla_tls_discard(lower);
        }
        goto fail;
    }
    if (server->core->debug) {
        log_connection(server, transport);
    }
    goto done;

fail:
    close(fd);
    rc = report(server, "Error on transport creation for incoming connection", server->state->s.protocol, protocol);
done:
    Py_XDECREF(context);
    Py_XDECREF(protocol);
    Py_XDECREF(lower);
    Py_XDECREF(transport);
    Py_DECREF(server);
    return rc;
}

static bool
is_shortage(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

int
server_accept_failed(corolla_listener *l, int err)
{
    ServerListener *listener = (ServerListener *)(void *)l;
    Server *server = listener->server;
    Py_INCREF(server);
    corolla_core_leave_task(server->core);
    PyObject *shown = PyObject_CallOneArg(server->state->TransportSocket, listener->sock);
    if (shown != NULL) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    int rc = report(server, is_shortage(-err) ? "socket.accept() out of system resource" : "socket.accept() failed",
                    server->state->s.socket, shown);
    Py_XDECREF(shown);
    Py_DECREF(server);
    return rc;
}
