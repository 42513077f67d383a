/* DatagramEndpoint: the type, how an endpoint comes to be and how it ends. What it receives and sends is in
 * datagram_io.c. */
#include "datagram.h"

#include <errno.h>
#include <string.h>

PyObject *
datagram_call(DatagramEndpoint *t, PyObject *name, PyObject *arg)
{
    return transport_call(t->core, (PyObject *)t, t->protocol, t->in_method ? NULL : t->context, name, arg);
}

int
datagram_report(DatagramEndpoint *t, const char *message)
{
    return transport_report(t->state, t->loop, (PyObject *)t, t->protocol, message);
}

/* ---- The end --------------------------------------------------------------------------------------- */

void
datagram_update_hold(DatagramEndpoint *t)
{
    const corolla_datagram *d = &t->datagram;
    bool hold = t->guest.next != NULL && !d->closed && (d->reading || d->queued > 0);
    if (hold == (t->guest.held != NULL)) {
        return;
    }
    if (hold) {
        t->guest.held = Py_NewRef(t);
    }
    else {
        Py_CLEAR(t->guest.held);
    }
}

static void
close_socket(DatagramEndpoint *t)
{
    PyObject *sock = t->sock;
    t->closed = true;
    t->sock = NULL;
    if (sock == NULL) {
        return;
    }
    PyObject *done = PyObject_CallMethodNoArgs(sock, t->state->s.close);
    if (done == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(done);
    Py_DECREF(sock);
}

/* Leaves behind no watch, no descriptor, no protocol, no loop. Keeps an exception being raised. The caller has a
 * reference. */
static void
finish(DatagramEndpoint *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    t->closing = true;
    if (t->lost == 0) {
        t->lost = 1;
    }
    corolla_datagram_close(&t->datagram);
    corolla_guest_remove(&t->guest);
    datagram_update_hold(t);
    close_socket(t);
    PyObject *protocol = t->protocol, *loop = t->loop, *waiter = t->waiter, *reason = t->reason;
    t->protocol = t->loop = t->waiter = t->reason = NULL;
    t->core = NULL;
    Py_XDECREF(protocol);
    Py_XDECREF(waiter);
    Py_XDECREF(reason);
    Py_XDECREF(loop);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

int
datagram_lost_job(void *arg)
{
    DatagramEndpoint *t = arg;
    int rc = 0;
    if (t->made && t->core != NULL) {
        PyObject *result = datagram_call(t, t->state->s.connection_lost, t->reason == NULL ? Py_None : t->reason);
        if (result == NULL) {
            rc = datagram_report(t, "Exception in callback protocol.connection_lost()");
        }
        Py_XDECREF(result);
    }
    finish(t);
    Py_DECREF(t);
    return rc;
}

int
datagram_force_close(DatagramEndpoint *t, PyObject *exc)
{
    if (t->lost) {
        return 0;
    }
    t->closing = true;
    t->lost = 1;
    t->reason = Py_XNewRef(exc);
    Py_INCREF(t);
    corolla_datagram_close(&t->datagram);
    datagram_update_hold(t);
    int rc = corolla_core_post(t->core, datagram_lost_job, Py_NewRef(t));
    Py_DECREF(t);
    return rc;
}

/* The loop closes: nothing is heard any more; the descriptor stays with us. */
static void
leave_loop(corolla_guest *guest)
{
    DatagramEndpoint *t = (DatagramEndpoint *)(void *)((char *)guest - offsetof(DatagramEndpoint, guest));
    Py_INCREF(t);
    corolla_datagram_close(&t->datagram);
    datagram_update_hold(t);
    Py_DECREF(t); /* may be the last, and warn of a transport that nobody closed */
}

/* ---- The beginning ----------------------------------------------------------------------------------- */

static int
wake_waiter(DatagramEndpoint *t)
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

static int
start_reading(DatagramEndpoint *t)
{
    if (t->closing || t->datagram.closed) {
        return 0;
    }
    int err = corolla_datagram_read(&t->datagram, true);
    if (err == 0) {
        datagram_update_hold(t);
        return 0;
    }
    transport_set_errno(err);
    PyObject *exc = PyErr_GetRaisedException();
    int rc = datagram_force_close(t, exc);
    Py_DECREF(exc);
    return rc;
}

/* What asyncio has as three callbacks in a row: connection_made(), reading, the waiter. */
static int
make(DatagramEndpoint *t)
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
    PyObject *result = datagram_call(t, t->state->s.connection_made, (PyObject *)t);
    if (result == NULL && datagram_report(t, "Exception in callback protocol.connection_made()") < 0) {
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
datagram_made_job(void *arg)
{
    DatagramEndpoint *t = arg;
    int rc = make(t);
    Py_DECREF(t);
    return rc;
}

/* Steals value. 0 or -1. */
static int
set_extra(DatagramEndpoint *t, PyObject *name, PyObject *value)
{
    int rc = value == NULL ? -1 : PyDict_SetItem(t->extra, name, value);
    Py_XDECREF(value);
    return rc;
}

/* Who we are, who the peer is, and what get_extra_info() says of it. 0 or -1. */
static int
learn_addresses(DatagramEndpoint *t, PyObject *sock, PyObject *address)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    t->extra = PyDict_New();
    if (t->extra == NULL) {
        return -1;
    }
    if (getsockname(t->fd, (struct sockaddr *)&local, &len) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    t->family = local.ss_family;
    t->peer_len = sizeof t->peer;
    t->connected = getpeername(t->fd, (struct sockaddr *)&t->peer, &t->peer_len) == 0;
    if (!t->connected) {
        t->peer_len = 0;
    }
    PyObject *peer =
        t->connected ? corolla_address_to_python((struct sockaddr *)&t->peer, t->peer_len) : Py_NewRef(Py_None);
    if (peer == NULL) {
        return -1;
    }
    t->address = Py_XNewRef(address != NULL ? address : t->connected ? peer : NULL);
    if (!t->connected && address != NULL &&
        corolla_address_from_python(address, t->family, &t->peer, &t->peer_len) < 0) {
        Py_DECREF(peer);
        return -1;
    }
    if (set_extra(t, t->state->s.peername, peer) < 0 ||
        set_extra(t, t->state->s.sockname, corolla_address_to_python((struct sockaddr *)&local, len)) < 0 ||
        set_extra(t, t->state->s.socket, PyObject_CallOneArg(t->state->TransportSocket, sock)) < 0) {
        return -1;
    }
    return 0;
}

static int
open_datagram(DatagramEndpoint *t, corolla_core *core)
{
    int err = corolla_datagram_open(&core->reactor, &t->datagram, t->fd);
    if (err == -EEXIST) {
        PyErr_Format(PyExc_RuntimeError, "File descriptor %d is already being watched", t->fd);
    }
    else if (err < 0) {
        transport_set_errno(err);
    }
    return err < 0 ? -1 : 0;
}

PyObject *
corolla_datagram_endpoint_new(corolla_core *core, const corolla_datagram_options *options)
{
    if (corolla_core_check_closed(core) < 0) {
        return NULL;
    }
    PyTypeObject *type = core->state->datagram_endpoint_type;
    DatagramEndpoint *t = (DatagramEndpoint *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->state = core->state;
    corolla_state_hold(t->state);
    t->fd = options->fd;
    t->closed = true; /* until all has worked out, it is the caller's */
    corolla_datagram_init(&t->datagram, &datagram_ops);
    t->core = core;
    t->loop = Py_NewRef(core->loop);
    t->protocol = Py_NewRef(options->protocol);
    t->context = Py_NewRef(options->context);
    t->waiter = Py_XNewRef(options->waiter);
    t->given = Py_XNewRef(options->given);
    t->guest.leave = leave_loop;
    if (learn_addresses(t, options->sock, options->address) < 0 || open_datagram(t, core) < 0 ||
        corolla_guest_add(core, &t->guest) < 0 || corolla_core_post(core, datagram_made_job, Py_NewRef(t)) < 0) {
        goto fail;
    }
    t->sock = Py_NewRef(options->sock);
    t->closed = false;
    return (PyObject *)t;

fail:
    finish(t);
    Py_DECREF(t);
    return NULL;
}

/* transport.close(): what is queued is sent first. 0 or -1. */
static int
close_endpoint(DatagramEndpoint *t)
{
    if (t->closing) {
        return 0;
    }
    if (t->core->debug && corolla_core_check_thread(t->core) < 0) {
        return -1;
    }
    t->closing = true;
    if (t->datagram.queued == 0 || t->datagram.closed) {
        return datagram_force_close(t, NULL);
    }
    (void)corolla_datagram_read(&t->datagram, false); /* the queue keeps it watched and held */
    return 0;
}

void
corolla_datagram_endpoint_discard(PyObject *transport)
{
    DatagramEndpoint *t = (DatagramEndpoint *)transport;
    PyObject *exc = PyErr_GetRaisedException();
    if (!t->made) {
        finish(t);
    }
    else if (close_endpoint(t) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

PyObject *
corolla_datagram_endpoint_at(corolla_core *core, int fd)
{
    corolla_datagram *d = corolla_datagram_at(&core->reactor, fd);
    if (d == NULL || d->ops != &datagram_ops) {
        return NULL;
    }
    DatagramEndpoint *t = endpoint_of(d);
    return t->closing ? NULL : (PyObject *)t;
}

/* ---- Methods ----------------------------------------------------------------------------------------- */

static PyObject *
method_close(PyObject *self, PyObject *unused)
{
    return close_endpoint((DatagramEndpoint *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_abort(PyObject *self, PyObject *unused)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    if (!t->lost && t->core->debug && corolla_core_check_thread(t->core) < 0) {
        return NULL;
    }
    return datagram_force_close(t, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_is_closing(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((DatagramEndpoint *)self)->closing);
}

static PyObject *
method_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"protocol", NULL};
    static const corolla_signature sig = {"set_protocol", names, 1, 1, NULL};
    PyObject *protocol;
    if (corolla_unpack(&sig, args, nargs, kwnames, &protocol) < 0) {
        return NULL;
    }
    Py_XSETREF(((DatagramEndpoint *)self)->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

static PyObject *
method_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((DatagramEndpoint *)self)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

static PyObject *
method_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature sig = {"get_extra_info", names, 1, 2, NULL};
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    PyObject *given[2], *value = NULL;
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    int found = transport_find_extra(&t->extra, given[0], &value);
    if (found != 0) {
        return value;
    }
    return Py_NewRef(given[1] == NULL ? Py_None : given[1]);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Receive no more, and close the endpoint once what is queued has been sent.");
PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\nClose the endpoint at once; what was not sent is lost.");
PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\nTrue once the endpoint is closing or closed.");
PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol)\n--\n\nSet a new protocol.");
PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\nThe current protocol; None once it is closed.");
PyDoc_STRVAR(get_extra_info_doc, "get_extra_info($self, name, default=None)\n--\n\n"
                                 "What is known of the endpoint: 'socket', 'sockname', 'peername'.");

static PyMethodDef datagram_methods[] = {
    {"close", method_close, METH_NOARGS, close_doc},
    {"abort", method_abort, METH_NOARGS, abort_doc},
    {"is_closing", method_is_closing, METH_NOARGS, is_closing_doc},
    {"set_protocol", (PyCFunction)(void (*)(void))method_set_protocol, METH_FASTCALL | METH_KEYWORDS, set_protocol_doc},
    {"get_protocol", method_get_protocol, METH_NOARGS, get_protocol_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))method_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Underscored attributes ------------------------------------------------------------------------------ */

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
    return PyLong_FromLong(((DatagramEndpoint *)self)->fd);
}

static PyObject *
get_conn_lost(PyObject *self, void *unused)
{
    return PyLong_FromUnsignedLong(((DatagramEndpoint *)self)->lost);
}

#define FIELD(name) ((void *)(uintptr_t)offsetof(DatagramEndpoint, name))

static PyGetSetDef datagram_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", get_object, NULL, NULL, FIELD(loop)},
    {"_protocol", get_object, NULL, NULL, FIELD(protocol)},
    {"_sock", get_object, NULL, NULL, FIELD(sock)},
    {"_sock_fd", get_sock_fd, NULL, NULL, NULL},
    {"_address", get_object, NULL, NULL, FIELD(address)},
    {"_closing", get_flag, NULL, NULL, FIELD(closing)},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_protocol_paused", get_flag, NULL, NULL, FIELD(protocol_paused)},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyObject *
datagram_repr(PyObject *self)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    const corolla_datagram *d = &t->datagram;
    const char *state = t->closed ? " closed" : t->closing ? " closing" : "";
    if (t->core == NULL || t->core->closed) {
        return PyUnicode_FromFormat("<DatagramEndpoint%s fd=%d>", state, t->fd);
    }
    return PyUnicode_FromFormat("<DatagramEndpoint%s fd=%d read=%s write=<%s, bufsize=%zu>>", state, t->fd,
                                d->reading ? "polling" : "idle", d->first != NULL ? "polling" : "idle", d->queued);
}

/* ---- The type ---------------------------------------------------------------------------------------------- */

static int
datagram_traverse(PyObject *self, visitproc visit, void *arg)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->sock);
    Py_VISIT(t->waiter);
    Py_VISIT(t->reason);
    Py_VISIT(t->address);
    Py_VISIT(t->given);
    return datagram_io_traverse(t, visit, arg);
}

static int
datagram_clear(PyObject *self)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    finish(t); /* the finaliser has run before: there is no descriptor left to close here */
    datagram_io_clear(t);
    Py_CLEAR(t->address);
    Py_CLEAR(t->given);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->context);
    return 0;
}

static void
datagram_finalize(PyObject *self)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
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
datagram_dealloc(PyObject *self)
{
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)datagram_clear(self);
    corolla_state *state = t->state;
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

PyDoc_STRVAR(datagram_doc, "A datagram socket: UDP, Unix ... Made by EventLoop.create_datagram_endpoint().");

static PyMemberDef datagram_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(DatagramEndpoint, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(DatagramEndpoint, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_slots[] = {
    {Py_tp_doc, (void *)datagram_doc}, {Py_tp_traverse, datagram_traverse},
    {Py_tp_clear, datagram_clear},     {Py_tp_finalize, datagram_finalize},
    {Py_tp_dealloc, datagram_dealloc}, {Py_tp_repr, datagram_repr},
    {Py_tp_methods, datagram_methods}, {Py_tp_getset, datagram_getset},
    {Py_tp_members, datagram_members}, {0, NULL},
};

static PyType_Spec datagram_spec = {
    .name = "corolla.DatagramEndpoint",
    .basicsize = sizeof(DatagramEndpoint),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_slots,
};

int
datagram_init(PyObject *module, corolla_state *state)
{
    /* A Transport, too: asyncio's are. */
    PyObject *bases = PyTuple_Pack(2, state->asyncio_Transport, state->asyncio_DatagramTransport);
    if (bases == NULL) {
        return -1;
    }
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &datagram_spec, bases);
    Py_DECREF(bases);
    if (type == NULL) {
        return -1;
    }
    state->datagram_endpoint_type = type;
    return corolla_add_methods(type, datagram_io_methods) < 0 ? -1 : PyModule_AddType(module, type);
}
