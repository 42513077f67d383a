/* Server: the type, its listening sockets, the list of its connections. Accepting is in accept.c, its
 * coroutines are in server_async.c. */
#include "tcp.h"

#include <errno.h>

/* ---- Connections --------------------------------------------------------------------------- */

static void
wake_waiters(Server *server)
{
    PyObject *waiters = server->waiters;
    server->waiters = NULL;
    if (waiters == NULL) {
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters); i++) {
        if (corolla_future_complete(PyList_GET_ITEM(waiters, i), Py_None) < 0) {
            PyErr_WriteUnraisable((PyObject *)server);
        }
    }
    Py_DECREF(waiters);
}

void
server_attach(Server *server, TcpTransport *t)
{
    t->prev_client = NULL;
    t->next_client = server->clients;
    if (t->next_client != NULL) {
        t->next_client->prev_client = t;
    }
    server->clients = t;
    server->client_count++;
}

void
server_detach(Server *server, TcpTransport *t)
{
    if (t->next_client != NULL) {
        t->next_client->prev_client = t->prev_client;
    }
    if (t->prev_client != NULL) {
        t->prev_client->next_client = t->next_client;
    }
    else {
        server->clients = t->next_client;
    }
    t->next_client = t->prev_client = NULL;
    server->client_count--;
    if (server->client_count == 0 && server->sockets == NULL) {
        wake_waiters(server);
    }
}

/* What the application has as its transport: of a TLS connection, the uppermost. Borrowed. */
static PyObject *
upper_transport(Server *server, TcpTransport *t)
{
    PyObject *transport = (PyObject *)t, *protocol = t->protocol;
    while (protocol != NULL && Py_IS_TYPE(protocol, server->state->tls_protocol_type) &&
           corolla_tls_transport(protocol) != NULL) {
        transport = corolla_tls_transport(protocol);
        protocol = corolla_tls_protocol(transport);
    }
    return transport;
}

/* The connections as a list of their own: closing one changes the server's. New reference or NULL. */
static PyObject *
list_clients(Server *server)
{
    PyObject *clients = PyList_New(0); /* the collector may run, and there be fewer of them afterwards */
    for (TcpTransport *t = server->clients; clients != NULL && t != NULL; t = t->next_client) {
        if (PyList_Append(clients, upper_transport(server, t)) < 0) {
            Py_CLEAR(clients);
        }
    }
    return clients;
}

/* ---- Listening ----------------------------------------------------------------------------- */

void
server_stop_listening(Server *server)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        corolla_listener_stop(&server->listeners[i].listener);
    }
    server->serving = false;
}

static void
prepare_listener(Server *server, ServerListener *listener, PyObject *sock)
{
    listener->server = server;
    listener->sock = Py_NewRef(sock);
    corolla_listener_init(&listener->listener);
    listener->listener.accepted = server_accepted;
    listener->listener.failed = server_accept_failed;
}

/* One listener for each socket, once. 0 or -1. */
static int
prepare_listeners(Server *server)
{
    if (server->listeners != NULL) {
        return 0;
    }
    size_t count = (size_t)PyList_GET_SIZE(server->sockets);
    server->listeners = PyMem_Calloc(count ? count : 1, sizeof *server->listeners);
    if (server->listeners == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        prepare_listener(server, &server->listeners[i], PyList_GET_ITEM(server->sockets, (Py_ssize_t)i));
    }
    server->listener_count = count;
    return 0;
}

static int
socket_fileno(PyObject *sock, corolla_state *state)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, state->s.fileno);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (fd < 0 || fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
        return -1;
    }
    return (int)fd;
}

static int
start_listening(Server *server, ServerListener *listener)
{
    PyObject *done = PyObject_CallMethod(listener->sock, "listen", "i", server->backlog);
    if (done == NULL) {
        return -1;
    }
    Py_DECREF(done);
    int fd = socket_fileno(listener->sock, server->state);
    if (fd < 0) {
        return -1;
    }
    int err = corolla_listener_start(&server->core->reactor, &listener->listener, fd, server->backlog);
    if (err == -EEXIST) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is already being watched", fd);
    }
    else if (err < 0) {
        errno = -err;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return err < 0 ? -1 : 0;
}

int
corolla_server_start(PyObject *self)
{
    Server *server = (Server *)self;
    if (server->serving) {
        return 0;
    }
    if (server->sockets == NULL) {
        PyErr_Format(PyExc_RuntimeError, "server %R is closed", self);
        return -1;
    }
    if (corolla_core_check_closed(server->core) < 0 || prepare_listeners(server) < 0 ||
        registry_add_server(server->core, server) < 0) {
        return -1;
    }
    server->serving = true;
    for (size_t i = 0; i < server->listener_count; i++) {
        if (start_listening(server, &server->listeners[i]) < 0) {
            server_stop_listening(server);
            registry_remove_server(server->core, server); /* the caller has a reference */
            return -1;
        }
    }
    return 0;
}

int
corolla_server_close(PyObject *self)
{
    Server *server = (Server *)self;
    PyObject *sockets = server->sockets;
    if (sockets == NULL) {
        return 0;
    }
    int rc = 0;
    Py_INCREF(self);
    server->sockets = NULL;
    server_stop_listening(server);
    /* First: while the socket is open, no other file can have been given its inode's number. */
    server_remove_path(server);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(sockets); i++) {
        PyObject *done = PyObject_CallMethodNoArgs(PyList_GET_ITEM(sockets, i), server->state->s.close);
        if (done == NULL) {
            PyErr_WriteUnraisable(PyList_GET_ITEM(sockets, i));
        }
        Py_XDECREF(done);
    }
    PyObject *forever = server->forever;
    server->forever = NULL;
    if (forever != NULL) {
        rc = corolla_future_cancel(forever, NULL) < 0 ? -1 : 0;
        Py_DECREF(forever);
    }
    if (server->client_count == 0) {
        wake_waiters(server);
    }
    Py_DECREF(sockets);
    registry_remove_server(server->core, server);
    Py_DECREF(self);
    return rc;
}

PyObject *
corolla_server_new(corolla_core *core, PyObject *sockets, PyObject *factory, int backlog)
{
    PyTypeObject *type = core->state->server_type;
    Server *server = (Server *)type->tp_alloc(type, 0);
    if (server == NULL) {
        Py_DECREF(sockets);
        return NULL;
    }
    server->state = core->state;
    corolla_state_hold(server->state);
    server->core = core;
    server->loop = Py_NewRef(core->loop);
    server->sockets = sockets;
    server->factory = Py_NewRef(factory);
    server->backlog = backlog;
    server->context = PyContext_CopyCurrent();
    server->waiters = PyList_New(0);
    if (server->context == NULL || server->waiters == NULL) {
        Py_DECREF(server);
        return NULL;
    }
    return (PyObject *)server;
}

int
corolla_server_set_tls(PyObject *self, const corolla_tls_options *options)
{
    Server *server = (Server *)self;
    server->tls = (corolla_tls_options){
        .handshake_timeout = options->handshake_timeout,
        .shutdown_timeout = options->shutdown_timeout,
        .whole_seconds = options->whole_seconds,
        .server_side = true,
        .call_made = true,
    };
    Py_XSETREF(server->sslcontext, Py_NewRef(options->sslcontext));
    return 0;
}

/* ---- Methods ------------------------------------------------------------------------------- */

static PyObject *
server_method_close(PyObject *self, PyObject *unused)
{
    return corolla_server_close(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
server_start_serving_now(PyObject *self, PyObject *unused)
{
    return corolla_server_start(self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
for_each_client(PyObject *self, const char *method)
{
    PyObject *clients = list_clients((Server *)self);
    if (clients == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(clients); i++) {
        PyObject *done = PyObject_CallMethod(PyList_GET_ITEM(clients, i), method, NULL);
        if (done == NULL) {
            Py_DECREF(clients);
            return NULL;
        }
        Py_DECREF(done);
    }
    Py_DECREF(clients);
    Py_RETURN_NONE;
}

static PyObject *
server_close_clients(PyObject *self, PyObject *unused)
{
    return for_each_client(self, "close");
}

static PyObject *
server_abort_clients(PyObject *self, PyObject *unused)
{
    return for_each_client(self, "abort");
}

static PyObject *
server_get_loop(PyObject *self, PyObject *unused)
{
    return Py_NewRef(((Server *)self)->loop);
}

static PyObject *
server_is_serving(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((Server *)self)->serving);
}

static PyObject *
server_get_sockets(PyObject *self, void *unused)
{
    Server *server = (Server *)self;
    PyObject *sockets = Py_XNewRef(server->sockets); /* close() may come from inside a constructor */
    if (sockets == NULL) {
        return PyTuple_New(0);
    }
    PyObject *result = PyTuple_New(PyList_GET_SIZE(sockets));
    for (Py_ssize_t i = 0; result != NULL && i < PyTuple_GET_SIZE(result); i++) {
        PyObject *shown = PyObject_CallOneArg(server->state->TransportSocket, PyList_GET_ITEM(sockets, i));
        if (shown == NULL) {
            Py_CLEAR(result);
        }
        else {
            PyTuple_SET_ITEM(result, i, shown);
        }
    }
    Py_DECREF(sockets);
    return result;
}

static PyObject *
server_get__sockets(PyObject *self, void *unused)
{
    PyObject *sockets = ((Server *)self)->sockets;
    return Py_NewRef(sockets == NULL ? Py_None : sockets);
}

static PyObject *
server_get__waiters(PyObject *self, void *unused)
{
    PyObject *waiters = ((Server *)self)->waiters;
    return Py_NewRef(waiters == NULL ? Py_None : waiters);
}

static PyObject *
server_get__loop(PyObject *self, void *unused)
{
    return Py_NewRef(((Server *)self)->loop);
}

static PyObject *
server_get__serving(PyObject *self, void *unused)
{
    return PyBool_FromLong(((Server *)self)->serving);
}

static PyObject *
server_repr(PyObject *self)
{
    PyObject *name = PyType_GetName(Py_TYPE(self));
    PyObject *sockets = name == NULL ? NULL : server_get_sockets(self, NULL);
    PyObject *shown = sockets == NULL ? NULL : PyUnicode_FromFormat("<%U sockets=%R>", name, sockets);
    Py_XDECREF(name);
    Py_XDECREF(sockets);
    return shown;
}

PyDoc_STRVAR(close_doc, "Stop listening. Connections stay open.");
PyDoc_STRVAR(close_clients_doc, "Close all connections that were accepted.");
PyDoc_STRVAR(abort_clients_doc, "Close all connections at once, without sending what is queued.");
PyDoc_STRVAR(get_loop_doc, "The event loop the server belongs to.");
PyDoc_STRVAR(is_serving_doc, "True while connections are accepted.");
PyDoc_STRVAR(sockets_doc, "The listening sockets; none once the server is closed.");

static PyMethodDef server_methods[] = {
    {"close", server_method_close, METH_NOARGS, close_doc},
    {"close_clients", server_close_clients, METH_NOARGS, close_clients_doc},
    {"abort_clients", server_abort_clients, METH_NOARGS, abort_clients_doc},
    {"get_loop", server_get_loop, METH_NOARGS, get_loop_doc},
    {"is_serving", server_is_serving, METH_NOARGS, is_serving_doc},
    {"_start_serving", server_start_serving_now, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"sockets", server_get_sockets, NULL, sockets_doc, NULL}, {"_sockets", server_get__sockets, NULL, NULL, NULL},
    {"_waiters", server_get__waiters, NULL, NULL, NULL},      {"_loop", server_get__loop, NULL, NULL, NULL},
    {"_serving", server_get__serving, NULL, NULL, NULL},      {NULL, NULL, NULL, NULL, NULL},
};

/* ---- The type ------------------------------------------------------------------------------ */

static int
server_traverse(PyObject *self, visitproc visit, void *arg)
{
    Server *server = (Server *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(server->loop);
    Py_VISIT(server->sockets);
    Py_VISIT(server->factory);
    Py_VISIT(server->context);
    Py_VISIT(server->sslcontext);
    Py_VISIT(server->waiters);
    Py_VISIT(server->forever);
    for (size_t i = 0; i < server->listener_count; i++) {
        Py_VISIT(server->listeners[i].sock);
    }
    return 0;
}

static int
server_clear(PyObject *self)
{
    Server *server = (Server *)self;
    server_stop_listening(server);
    ServerListener *listeners = server->listeners;
    size_t count = server->listener_count;
    server->listeners = NULL;
    server->listener_count = 0;
    for (size_t i = 0; i < count; i++) {
        Py_CLEAR(listeners[i].sock);
    }
    PyMem_Free(listeners);
    PyMem_Free(server->path); /* nobody closed it: the path stays */
    server->path = NULL;
    Py_CLEAR(server->sockets);
    Py_CLEAR(server->factory);
    Py_CLEAR(server->context);
    Py_CLEAR(server->sslcontext);
    Py_CLEAR(server->waiters);
    Py_CLEAR(server->forever);
    return 0;
}

static void
server_dealloc(PyObject *self)
{
    Server *server = (Server *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = server->state;
    PyObject_GC_UnTrack(self);
    (void)server_clear(self);
    Py_CLEAR(server->loop); /* not in tp_clear: methods rely on it */
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

PyDoc_STRVAR(server_doc, "Listening sockets and the connections accepted on them. Made by create_server().");

static PyType_Slot server_slots[] = {
    {Py_tp_doc, (void *)server_doc}, {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},     {Py_tp_dealloc, server_dealloc},
    {Py_tp_repr, server_repr},       {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},   {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "corolla._core.ServerBase",
    .basicsize = sizeof(Server),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = server_slots,
};

/* A class made by calling type(), for the sake of a second base: what C made comes first, asyncio's is
 * there so that isinstance() holds. */
int
server_init(PyObject *module, corolla_state *state)
{
    int rc = -1;
    PyObject *type = NULL;
    PyObject *base = PyType_FromModuleAndSpec(module, &server_spec, NULL);
    if (base == NULL || corolla_add_methods((PyTypeObject *)base, server_async_methods) < 0) {
        goto fail;
    }
    type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(OO){s:s,s:s}", "Server", base, state->asyncio_Server,
                                 "__module__", "corolla", "__doc__", server_doc);
    if (type == NULL) {
        goto fail;
    }
    state->server_type = (PyTypeObject *)Py_NewRef(type);
    rc = PyModule_AddObjectRef(module, "Server", type);
fail:
    Py_XDECREF(type);
    Py_XDECREF(base);
    return rc;
}
