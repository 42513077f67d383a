/* TlsTransport: the type that an application gets as its transport. */
#include "tls.h"

/* ---- Life ------------------------------------------------------------------------------------------- */

int
tls_set_protocol(TlsTransport *t, PyObject *protocol)
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

static void
set_defaults(TlsTransport *t, const corolla_tls_options *options)
{
    t->handshake_timeout = options->handshake_timeout;
    t->whole = options->whole_seconds;
    t->shutdown_timeout = options->shutdown_timeout;
    t->accepted = options->server != NULL;
    t->told = options->call_made ? TLS_TOLD_NOTHING : TLS_TOLD_MADE;
    t->write_high = TLS_WRITE_HIGH_WATER;
    t->write_low = TLS_WRITE_HIGH_WATER / 4;
    t->read_high = TLS_READ_HIGH_WATER;
    t->read_low = TLS_READ_HIGH_WATER / 4;
    t->flush.fn = tls_end_of_turn;
}

TlsTransport *
tls_transport_new(corolla_core *core, const corolla_tls_options *options)
{
    corolla_state *state = core->state;
    PyTypeObject *type = state->tls_transport_type;
    if (corolla_core_check_closed(core) < 0) {
        return NULL;
    }
    TlsTransport *t = (TlsTransport *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->state = state;
    corolla_state_hold(state);
    set_defaults(t, options);
    t->closed = true; /* until there is something to close */
    t->core = core;
    t->loop = Py_NewRef(core->loop);
    t->sslcontext = Py_NewRef(options->sslcontext);
    t->waiter = Py_XNewRef(options->waiter);
    /* A copy, since the context of the transport below may be the very same, and is entered already when it calls. */
    t->context = PyContext_Copy(options->context);
    if (t->context == NULL || tls_set_protocol(t, options->protocol) < 0) {
        goto fail;
    }
    PyObject *hostname = options->server_side || options->server_hostname == Py_None ? NULL : options->server_hostname;
    int named = hostname == NULL ? 0 : PyObject_IsTrue(hostname);
    if (named < 0) {
        goto fail;
    }
    t->engine = tls_ssl_object_new(state, options->sslcontext, options->server_side, named ? hostname : NULL);
    if (t->engine == NULL) {
        goto fail;
    }
    t->closed = false;
    return t;

fail:
    Py_DECREF(t);
    return NULL;
}

/* ---- Methods ---------------------------------------------------------------------------------------- */

static PyObject *
method_close(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    t->inside++;
    int rc = tls_close(t);
    t->inside--;
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_abort(PyObject *self, PyObject *unused)
{
    return tls_abort((TlsTransport *)self, NULL) < 0 ? NULL : Py_NewRef(Py_None);
}

/* For asyncio's own TLS on top of ours, and for programs that know it. */
static PyObject *
method_force_close(PyObject *self, PyObject *exc)
{
    return tls_abort((TlsTransport *)self, exc == Py_None ? NULL : exc) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_is_closing(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    /* Below it may be over already, which is yet to be told: who writes in a loop has to let that happen. */
    int closing = t->closed || t->below == NULL ? t->closed : tls_below_is_closing(t);
    return closing < 0 ? NULL : PyBool_FromLong(closing);
}

static PyObject *
method_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol = corolla_unpack_one("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    return tls_set_protocol((TlsTransport *)self, protocol) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((TlsTransport *)self)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

PyDoc_STRVAR(close_doc, "Close the connection, in order, once what was written has been sent.");
PyDoc_STRVAR(abort_doc, "Close the connection at once; what was not sent is lost.");
PyDoc_STRVAR(is_closing_doc, "True once the connection is closing or closed.");
PyDoc_STRVAR(set_protocol_doc, "Set a new protocol.");
PyDoc_STRVAR(get_protocol_doc, "The current protocol.");

static PyMethodDef methods[] = {
    {"close", method_close, METH_NOARGS, close_doc},
    {"abort", method_abort, METH_NOARGS, abort_doc},
    {"_force_close", method_force_close, METH_O, NULL},
    {"is_closing", method_is_closing, METH_NOARGS, is_closing_doc},
    {"set_protocol", (PyCFunction)(void (*)(void))method_set_protocol, METH_FASTCALL | METH_KEYWORDS, set_protocol_doc},
    {"get_protocol", method_get_protocol, METH_NOARGS, get_protocol_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
transport_repr(PyObject *self)
{
    TlsTransport *t = (TlsTransport *)self;
    const char *state = t->lost ? " closed" : t->closed ? " closing" : t->stage == TLS_HANDSHAKE ? " handshake" : "";
    if (t->below == NULL) {
        return PyUnicode_FromFormat("<TlsTransport%s>", state);
    }
    return PyUnicode_FromFormat("<TlsTransport%s over %R>", state, t->below);
}

PyObject *
corolla_tls_protocol(PyObject *transport)
{
    return ((TlsTransport *)transport)->protocol;
}

/* ---- The type ---------------------------------------------------------------------------------------- */

static int
transport_traverse(PyObject *self, visitproc visit, void *arg)
{
    TlsTransport *t = (TlsTransport *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->below);
    Py_VISIT(t->unread);
    Py_VISIT(t->waiter);
    Py_VISIT(t->sslcontext);
    int rc = corolla_alarm_traverse(&t->alarm, visit, arg);
    return rc != 0 || t->engine == NULL ? rc : t->engine->ops->traverse(t->engine, visit, arg);
}

static int
transport_clear(PyObject *self)
{
    TlsTransport *t = (TlsTransport *)self;
    tls_finish(t);
    t->core = NULL;
    t->on = TLS_ON_NOTHING;
    tls_engine *engine = t->engine;
    t->engine = NULL;
    if (engine != NULL) {
        engine->ops->free(engine);
    }
    Py_CLEAR(t->below);
    Py_CLEAR(t->unread);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->context);
    Py_CLEAR(t->sslcontext);
    Py_CLEAR(t->loop);
    return 0;
}

static void
transport_finalize(PyObject *self)
{
    TlsTransport *t = (TlsTransport *)self;
    if (t->closed) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    t->closed = true;
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0) {
        /* Anything else is an interpreter that is going away. */
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            PyErr_WriteUnraisable(self);
        }
        PyErr_Clear();
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void
transport_dealloc(PyObject *self)
{
    TlsTransport *t = (TlsTransport *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    corolla_state *state = t->state;
    (void)transport_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

PyDoc_STRVAR(transport_doc,
             "A TLS connection, over any stream transport. Made by the ssl argument of EventLoop's methods and by\n"
             "EventLoop.start_tls().");

static PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(TlsTransport, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TlsTransport, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)transport_doc}, {Py_tp_traverse, transport_traverse},
    {Py_tp_clear, transport_clear},     {Py_tp_finalize, transport_finalize},
    {Py_tp_dealloc, transport_dealloc}, {Py_tp_repr, transport_repr},
    {Py_tp_methods, methods},           {Py_tp_getset, tls_getset},
    {Py_tp_members, members},           {0, NULL},
};

static PyType_Spec spec = {
    .name = "corolla.TlsTransport",
    .basicsize = sizeof(TlsTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int
tls_transport_init(PyObject *module, corolla_state *state)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, state->asyncio_Transport);
    state->tls_transport_type = type;
    if (type == NULL || corolla_add_methods(type, tls_read_methods) < 0 ||
        corolla_add_methods(type, tls_write_methods) < 0 || corolla_add_methods(type, tls_extra_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, type);
}
