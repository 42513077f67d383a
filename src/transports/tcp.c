/* TcpTransport and UnixTransport: the types, how a transport comes to be and how it ends. Reading is in read.c, writing
 * in write.c, what it tells about itself in extra.c. The two are one mechanism: a Unix transport has no TCP_NODELAY to
 * set, and its own name. */
#include "../args.h"
#include "tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

static const corolla_stream_ops stream_ops = {
    .where = tcp_where,
    .came = tcp_came,
    .failed = tcp_failed,
    .pressure = tcp_pressure,
    .flushed = tcp_flushed,
};

/* ---- Calling the protocol ------------------------------------------------------------------ */

PyObject *
tcp_call(TcpTransport *t, PyObject *name, PyObject *arg)
{
    return transport_call(t->core, (PyObject *)t, t->protocol, t->in_method ? NULL : t->context, name, arg);
}

void
tcp_debug(TcpTransport *t, const char *format)
{
    transport_log(t->core, (PyObject *)t, "debug", format);
}

int
tcp_report(TcpTransport *t, const char *message)
{
    return transport_report(t->state, t->loop, (PyObject *)t, t->protocol, message);
}

int
tcp_fatal(TcpTransport *t, const char *message)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *leaving = NULL;
    if (t->core != NULL && !PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        PyErr_SetRaisedException(Py_NewRef(exc));
        if (tcp_report(t, message) < 0) {
            leaving = PyErr_GetRaisedException();
        }
    }
    else {
        transport_log_failure(t->core, (PyObject *)t, message, exc);
    }
    int rc = tcp_force_close(t, exc);
    Py_DECREF(exc);
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
        rc = -1;
    }
    return rc;
}

int
tcp_fatal_errno(TcpTransport *t, ssize_t err, const char *message)
{
    transport_set_errno(err);
    return tcp_fatal(t, message);
}

/* ---- The end ------------------------------------------------------------------------------- */

void
tcp_update_hold(TcpTransport *t)
{
    const corolla_stream *s = &t->stream;
    bool hold = t->registered && !s->closed && (s->reading || s->queued > 0 || s->wanted);
    if (hold == t->held) {
        return;
    }
    t->held = hold;
    if (hold) {
        Py_INCREF(t);
    }
    else {
        Py_DECREF(t);
    }
}

static void
close_descriptor(TcpTransport *t)
{
    if (t->closed) {
        return;
    }
    tcp_keep_addresses(t);
    t->closed = true;
    PyObject *sock = t->sock;
    t->sock = NULL;
    if (sock == NULL) {
        close(t->fd);
        return;
    }
    PyObject *done = PyObject_CallMethodNoArgs(sock, t->state->s.close);
    if (done == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(done);
    Py_DECREF(sock);
}

/* Leaves behind no watch, no descriptor, no protocol, no loop. Keeps an exception being raised. The
 * caller has a reference. */
static void
finish(TcpTransport *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    t->closing = true;
    if (t->lost == 0) {
        t->lost = 1;
    }
    corolla_stream_close(&t->stream);
    if (t->core != NULL) {
        registry_remove(t->core, t);
    }
    tcp_update_hold(t);
    close_descriptor(t);
    PyObject *protocol = t->protocol, *loop = t->loop, *waiter = t->waiter, *reason = t->reason, *room = t->room;
    Server *server = t->server;
    t->protocol = t->loop = t->waiter = t->reason = t->room = NULL;
    t->native = NULL;
    t->core = NULL;
    t->server = NULL;
    tcp_read_clear(t);
    if (server != NULL) {
        server_detach(server, t);
        Py_DECREF(server);
    }
    Py_XDECREF(protocol);
    Py_XDECREF(waiter);
    Py_XDECREF(reason);
    Py_XDECREF(room);
    Py_XDECREF(loop);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static int
lose(TcpTransport *t)
{
    int rc = 0;
    if (t->made && t->core != NULL) {
        PyObject *result = tcp_call(t, t->state->s.connection_lost, t->reason == NULL ? Py_None : t->reason);
        if (result == NULL) {
            rc = tcp_report(t, "Exception in callback protocol.connection_lost()");
        }
        Py_XDECREF(result);
    }
    finish(t);
    return rc;
}

int
tcp_lost_job(void *arg)
{
    TcpTransport *t = arg;
    int rc = lose(t);
    Py_DECREF(t);
    return rc;
}

/* Nothing is read or written from here on, and connection_lost() is queued. */
static int
schedule_lost(TcpTransport *t, PyObject *exc)
{
    t->lost = 1;
    t->reason = exc == Py_None ? NULL : Py_XNewRef(exc);
    Py_INCREF(t);
    corolla_stream_close(&t->stream);
    tcp_update_hold(t);
    int rc = corolla_core_post(t->core, tcp_lost_job, Py_NewRef(t));
    if (rc == 0) {
        rc = tcp_fail_room(t, t->reason);
    }
    Py_DECREF(t);
    return rc;
}

int
tcp_close(TcpTransport *t)
{
    if (t->closing) {
        return 0;
    }
    if (t->core->debug && corolla_core_check_thread(t->core) < 0) {
        return -1;
    }
    t->closing = true;
    if (t->stream.queued == 0 || t->stream.closed) {
        return schedule_lost(t, NULL);
    }
    (void)corolla_stream_read(&t->stream, false); /* the queue keeps it watched and held */
    return 0;
}

int
tcp_force_close(TcpTransport *t, PyObject *exc)
{
    if (t->lost) {
        return 0;
    }
    t->closing = true;
    return schedule_lost(t, exc);
}

int
tcp_failed(corolla_stream *s, int err)
{
    TcpTransport *t = tcp_of(s);
    Py_INCREF(t);
    int rc = tcp_fatal_errno(t, err, "Fatal write error on socket transport");
    Py_DECREF(t);
    return rc;
}

int
tcp_flushed(corolla_stream *s)
{
    TcpTransport *t = tcp_of(s);
    int rc = 0;
    Py_INCREF(t);
    if (t->closing && !t->lost) {
        rc = schedule_lost(t, NULL);
    }
    else {
        rc = tcp_tell_room(t);
        tcp_update_hold(t);
    }
    Py_DECREF(t);
    return rc;
}

/* ---- The beginning --------------------------------------------------------------------------- */

static int
start_reading(TcpTransport *t)
{
    if (t->closing || t->paused) {
        return 0;
    }
    int err = corolla_stream_read(&t->stream, true);
    if (err < 0) {
        return tcp_fatal_errno(t, err, "Fatal read error on socket transport");
    }
    tcp_update_hold(t);
    return 0;
}

static int
wake_waiter(TcpTransport *t)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    if (waiter == NULL) {
        return 0;
    }
    int rc = corolla_future_complete(waiter, Py_None);
    Py_DECREF(waiter);
    return rc;
}

/* What asyncio has as three callbacks in a row: connection_made(), reading, the waiter. */
static int
make(TcpTransport *t)
{
    if (t->core == NULL) {
        return 0; /* finished by the collector's or the creator's hand */
    }
    if (t->waiter != NULL && corolla_future_done(t->waiter)) {
        corolla_core_leave_task(t->core);
        finish(t); /* its creation was cancelled: the protocol never hears of it */
        return 0;
    }
    t->made = true;
    PyObject *leaving = NULL;
    PyObject *result = tcp_call(t, t->state->s.connection_made, (PyObject *)t);
    if (result == NULL && tcp_report(t, "Exception in callback protocol.connection_made()") < 0) {
        leaving = PyErr_GetRaisedException();
    }
    Py_XDECREF(result);
    int rc = start_reading(t);
    if (wake_waiter(t) < 0) {
        rc = -1;
    }
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
        rc = -1;
    }
    return rc;
}

int
tcp_made_job(void *arg)
{
    TcpTransport *t = arg;
    int rc = make(t);
    Py_DECREF(t);
    return rc;
}

static void
set_nodelay(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* no TCP socket, no delay */
}

static int
set_protocol(TcpTransport *t, PyObject *protocol)
{
    int buffered = PyObject_IsInstance(protocol, t->state->asyncio_BufferedProtocol);
    if (buffered < 0) {
        return -1;
    }
    t->buffered = buffered;
    t->switched = true;
    t->native = corolla_native_of_type(t->state, protocol);
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

static int
open_stream(TcpTransport *t, corolla_core *core)
{
    int err = corolla_stream_open(&core->reactor, &t->stream, t->fd);
    if (err == -EEXIST) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is already being watched", t->fd);
    }
    else if (err < 0) {
        transport_set_errno(err);
    }
    return err < 0 ? -1 : 0;
}

static bool
is_unix(const corolla_tcp_options *options)
{
    if (options->peer != NULL && options->peer_len >= sizeof(sa_family_t)) {
        return options->peer->sa_family == AF_UNIX;
    }
    int family = AF_UNSPEC;
    socklen_t len = sizeof family;
    return getsockopt(options->fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0 && family == AF_UNIX;
}

PyObject *
corolla_tcp_new(corolla_core *core, const corolla_tcp_options *options)
{
    if (corolla_core_check_closed(core) < 0) {
        return NULL;
    }
    bool local = is_unix(options);
    PyTypeObject *type = local ? core->state->unix_transport_type : core->state->tcp_transport_type;
    TcpTransport *t = (TcpTransport *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->state = core->state;
    corolla_state_hold(t->state);
    t->fd = options->fd;
    t->closed = true; /* until all has worked out, it is the caller's */
    corolla_stream_init(&t->stream, &stream_ops);
    t->core = core;
    t->loop = Py_NewRef(core->loop);
    t->context = Py_NewRef(options->context);
    t->waiter = Py_XNewRef(options->waiter);
    if (set_protocol(t, options->protocol) < 0 || tcp_learn_addresses(t, options->peer, options->peer_len) < 0 ||
        registry_add(core, t) < 0 || open_stream(t, core) < 0) {
        goto fail;
    }
    if (!local) {
        set_nodelay(t->fd);
    }
    if (corolla_core_post(core, tcp_made_job, Py_NewRef(t)) < 0) {
        goto fail;
    }
    t->sock = Py_XNewRef(options->sock);
    t->closed = false;
    if (options->server != NULL) {
        t->server = (Server *)Py_NewRef(options->server);
        server_attach(t->server, t);
    }
    return (PyObject *)t;

fail:
    finish(t);
    Py_DECREF(t);
    return NULL;
}

void
corolla_tcp_discard(PyObject *transport)
{
    TcpTransport *t = (TcpTransport *)transport;
    PyObject *exc = PyErr_GetRaisedException();
    if (!t->made) {
        finish(t);
    }
    else if (tcp_close(t) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

bool
corolla_tcp_is_closing(PyObject *transport)
{
    return ((TcpTransport *)transport)->closing;
}

/* ---- Methods --------------------------------------------------------------------------------- */

static PyObject *
tcp_method_close(PyObject *self, PyObject *unused)
{
    return tcp_close((TcpTransport *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* For asyncio's own SSLProtocol, which some programs put on a transport of ours. */
static PyObject *
tcp_method_force_close(PyObject *self, PyObject *exc)
{
    TcpTransport *t = (TcpTransport *)self;
    if (!t->lost && t->core->debug && corolla_core_check_thread(t->core) < 0) {
        return NULL;
    }
    return tcp_force_close(t, exc == Py_None ? NULL : exc) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tcp_method_abort(PyObject *self, PyObject *unused)
{
    return tcp_method_force_close(self, Py_None);
}

static PyObject *
tcp_method_is_closing(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((TcpTransport *)self)->closing);
}

static PyObject *
tcp_method_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"protocol", NULL};
    static const corolla_signature sig = {"set_protocol", names, 1, 1, NULL};
    PyObject *protocol;
    if (corolla_unpack(&sig, args, nargs, kwnames, &protocol) < 0) {
        return NULL;
    }
    return set_protocol((TcpTransport *)self, protocol) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
tcp_method_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((TcpTransport *)self)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

PyDoc_STRVAR(close_doc, "Close the connection once what was written has been sent.");
PyDoc_STRVAR(abort_doc, "Close the connection at once; what was not sent is lost.");
PyDoc_STRVAR(is_closing_doc, "True once the connection is closing or closed.");
PyDoc_STRVAR(set_protocol_doc, "Set a new protocol.");
PyDoc_STRVAR(get_protocol_doc, "The current protocol.");

static PyMethodDef tcp_methods[] = {
    {"close", tcp_method_close, METH_NOARGS, close_doc},
    {"abort", tcp_method_abort, METH_NOARGS, abort_doc},
    {"_force_close", tcp_method_force_close, METH_O, NULL},
    {"is_closing", tcp_method_is_closing, METH_NOARGS, is_closing_doc},
    {"set_protocol", (PyCFunction)(void (*)(void))tcp_method_set_protocol, METH_FASTCALL | METH_KEYWORDS,
     set_protocol_doc},
    {"get_protocol", tcp_method_get_protocol, METH_NOARGS, get_protocol_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
tcp_repr(PyObject *self)
{
    TcpTransport *t = (TcpTransport *)self;
    const char *state = t->closed ? " closed" : t->closing ? " closing" : "";
    const char *name = Py_IS_TYPE(self, t->state->unix_transport_type) ? "UnixTransport" : "TcpTransport";
    if (t->core == NULL || t->core->closed) {
        return PyUnicode_FromFormat("<%s%s fd=%d>", name, state, t->fd);
    }
    bool writing = (t->stream.watch.interest & COROLLA_WRITABLE) != 0;
    return PyUnicode_FromFormat("<%s%s fd=%d read=%s write=<%s, bufsize=%zu>>", name, state, t->fd,
                                t->stream.reading ? "polling" : "idle", writing ? "polling" : "idle", t->stream.queued);
}

/* ---- The type -------------------------------------------------------------------------------- */

static int
tcp_traverse(PyObject *self, visitproc visit, void *arg)
{
    TcpTransport *t = (TcpTransport *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->sock);
    Py_VISIT(t->waiter);
    Py_VISIT(t->reason);
    Py_VISIT(t->room);
    Py_VISIT(t->server);
    if (t->view != NULL) {
        Py_VISIT(t->view->obj);
    }
    return 0;
}

static int
tcp_clear(PyObject *self)
{
    TcpTransport *t = (TcpTransport *)self;
    finish(t); /* the finaliser has run before: there is no descriptor left to close here */
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->context);
    return 0;
}

static void
tcp_finalize(PyObject *self)
{
    TcpTransport *t = (TcpTransport *)self;
    if (t->closed) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0) {
        /* Anything else is an interpreter that is going away. */
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            PyErr_WriteUnraisable(self);
        }
        PyErr_Clear();
    }
    finish(t);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void
tcp_dealloc(PyObject *self)
{
    TcpTransport *t = (TcpTransport *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)tcp_clear(self);
    PyMem_Free(t->view);
    corolla_state *state = t->state;
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

PyDoc_STRVAR(tcp_doc, "A TCP connection. Made by EventLoop.create_connection() and create_server().");
PyDoc_STRVAR(
    unix_doc,
    "A connection over a Unix stream socket. Made by EventLoop.create_unix_connection() and create_unix_server().");

static PyMemberDef tcp_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TcpTransport, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TcpTransport, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define SLOTS(doc)                                                                                             \
    {                                                                                                          \
        {Py_tp_doc, (void *)(doc)}, {Py_tp_traverse, tcp_traverse}, {Py_tp_clear, tcp_clear},                  \
            {Py_tp_finalize, tcp_finalize}, {Py_tp_dealloc, tcp_dealloc}, {Py_tp_repr, tcp_repr},              \
            {Py_tp_methods, tcp_methods}, {Py_tp_getset, tcp_getset}, {Py_tp_members, tcp_members}, {0, NULL}, \
    }

static PyType_Slot tcp_slots[] = SLOTS(tcp_doc);
static PyType_Slot unix_slots[] = SLOTS(unix_doc);

static PyType_Spec tcp_spec = {
    .name = "corolla.TcpTransport",
    .basicsize = sizeof(TcpTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tcp_slots,
};

static PyType_Spec unix_spec = {
    .name = "corolla.UnixTransport",
    .basicsize = sizeof(TcpTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = unix_slots,
};

static PyTypeObject *
make_type(PyObject *module, corolla_state *state, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, state->asyncio_Transport);
    if (type != NULL &&
        (corolla_add_methods(type, tcp_read_methods) < 0 || corolla_add_methods(type, tcp_write_methods) < 0 ||
         corolla_add_methods(type, tcp_extra_methods) < 0 || PyModule_AddType(module, type) < 0)) {
        Py_CLEAR(type);
    }
    return type;
}

int
tcp_init(PyObject *module, corolla_state *state)
{
    state->tcp_transport_type = make_type(module, state, &tcp_spec);
    if (state->tcp_transport_type == NULL) {
        return -1;
    }
    state->unix_transport_type = make_type(module, state, &unix_spec);
    return state->unix_transport_type == NULL ? -1 : 0;
}
