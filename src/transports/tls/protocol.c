/* TlsProtocol: what the transport below has as its protocol. One of ours gives it bytes in C, any other by the methods of
 * asyncio.Protocol. */
#include "tls.h"

/* New reference, or NULL (without an exception) once the connection is lost. */
static TlsTransport *
tls_of(PyObject *self)
{
    return (TlsTransport *)Py_XNewRef(((TlsProtocol *)self)->tls);
}

/* A transport that is not ours calls in a context of its choice, perhaps from inside a task's step: there is none to be
 * entered, nor a task to be left. answer() is the end of it. */
static void
enter(TlsTransport *t)
{
    if (t != NULL && t->on == TLS_ON_FOREIGN) {
        t->inside++;
    }
}

/* Steals t. */
static PyObject *
answer(TlsTransport *t, int rc)
{
    if (t != NULL && t->on == TLS_ON_FOREIGN) {
        t->inside--;
    }
    Py_XDECREF(t);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- From a transport of ours ------------------------------------------------------------------------- */

enum { MOST_AT_ONCE = 128 * 1024 }; /* a MemoryBIO never shrinks: what an idle connection keeps is bounded by this */

static int
native_where(PyObject *self, size_t hint, void **buf, size_t *len)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    (void)hint;
    if (t == NULL || t->core == NULL) {
        return 0;
    }
    *buf = corolla_reactor_scratch(&t->core->reactor);
    *len = MOST_AT_ONCE;
    if (*buf == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
native_came(PyObject *self, const void *buf, size_t n)
{
    TlsTransport *t = tls_of(self);
    if (t == NULL) {
        return 0;
    }
    int rc = tls_came(t, buf, n);
    Py_DECREF(t);
    return rc;
}

static const corolla_native_protocol native_ops = {native_where, native_came};

/* ---- From any transport ------------------------------------------------------------------------------- */

static PyObject *
protocol_connection_made(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *below = corolla_unpack_one("connection_made", "transport", args, nargs, kwnames);
    if (below == NULL) {
        return NULL;
    }
    TlsTransport *t = tls_of(self);
    if (t == NULL) { /* given up before it was there: nobody else would close it */
        PyObject *done = PyObject_CallMethodNoArgs(below, ((TlsProtocol *)self)->state->s.abort);
        Py_XDECREF(done);
        return done == NULL ? NULL : Py_NewRef(Py_None);
    }
    int rc = tls_attach(t, below);
    enter(t);
    rc = rc < 0 ? rc : tls_begin(t);
    return answer(t, rc);
}

static PyObject *
protocol_data_received(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("data_received", "data", args, nargs, kwnames);
    Py_buffer view;
    if (data == NULL || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    TlsTransport *t = tls_of(self);
    enter(t);
    PyObject *result = answer(t, t == NULL || view.len == 0 ? 0 : tls_came(t, view.buf, (size_t)view.len));
    PyBuffer_Release(&view);
    return result;
}

static PyObject *
protocol_eof_received(PyObject *self, PyObject *unused)
{
    TlsTransport *t = tls_of(self);
    bool keep_open = false;
    enter(t);
    PyObject *done = answer(t, t == NULL ? 0 : tls_ended(t, &keep_open));
    Py_XDECREF(done);
    return done == NULL ? NULL : PyBool_FromLong(keep_open);
}

static PyObject *
protocol_connection_lost(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = corolla_unpack_one("connection_lost", "exc", args, nargs, kwnames);
    if (exc == NULL) {
        return NULL;
    }
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    ((TlsProtocol *)self)->tls = NULL;
    if (t != NULL) {
        t->face = NULL;
    }
    enter(t);
    return answer(t, t == NULL ? 0 : tls_lost(t, exc == Py_None ? NULL : exc));
}

static PyObject *
protocol_pause_writing(PyObject *self, PyObject *unused)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    if (t != NULL) {
        t->below_full = true;
    }
    Py_RETURN_NONE;
}

static PyObject *
protocol_resume_writing(PyObject *self, PyObject *unused)
{
    TlsTransport *t = tls_of(self);
    int rc = 0;
    enter(t);
    if (t != NULL && t->core != NULL) {
        t->below_full = false;
        if (t->flush.next == NULL) {
            rc = tls_seal(t, false);
        }
    }
    return answer(t, rc);
}

PyDoc_STRVAR(made_doc, "connection_made($self, /, transport)\n--\n\nThe handshake begins on that transport.");
PyDoc_STRVAR(lost_doc, "connection_lost($self, /, exc)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(data_doc, "data_received($self, /, data)\n--\n\nTLS records, or parts of some.");
PyDoc_STRVAR(eof_doc, "eof_received($self, /)\n--\n\nSpecified by asyncio.Protocol.");
PyDoc_STRVAR(pause_doc, "pause_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(resume_doc, "resume_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");

static PyMethodDef protocol_methods[] = {
    {"connection_made", (PyCFunction)(void (*)(void))protocol_connection_made, METH_FASTCALL | METH_KEYWORDS, made_doc},
    {"connection_lost", (PyCFunction)(void (*)(void))protocol_connection_lost, METH_FASTCALL | METH_KEYWORDS, lost_doc},
    {"data_received", (PyCFunction)(void (*)(void))protocol_data_received, METH_FASTCALL | METH_KEYWORDS, data_doc},
    {"eof_received", protocol_eof_received, METH_NOARGS, eof_doc},
    {"pause_writing", protocol_pause_writing, METH_NOARGS, pause_doc},
    {"resume_writing", protocol_resume_writing, METH_NOARGS, resume_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- What programs written for asyncio look at ---------------------------------------------------------- */

static PyObject *
get_app_transport(PyObject *self, void *unused)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    return Py_NewRef(t == NULL ? Py_None : (PyObject *)t);
}

static PyObject *
get_transport(PyObject *self, void *unused)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    return Py_NewRef(t == NULL || t->below == NULL ? Py_None : t->below);
}

static PyObject *
get_app_protocol(PyObject *self, void *unused)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    return Py_NewRef(t == NULL || t->protocol == NULL ? Py_None : t->protocol);
}

static PyObject *
get_sslobj(PyObject *self, void *unused)
{
    TlsTransport *t = ((TlsProtocol *)self)->tls;
    return Py_NewRef(t == NULL || t->engine == NULL ? Py_None : t->engine->object);
}

static PyGetSetDef protocol_getset[] = {
    {"_app_transport", get_app_transport, NULL, NULL, NULL},
    {"_app_protocol", get_app_protocol, NULL, NULL, NULL},
    {"_transport", get_transport, NULL, NULL, NULL},
    {"_sslobj", get_sslobj, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- The type -------------------------------------------------------------------------------------------- */

static int
protocol_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((TlsProtocol *)self)->tls);
    return 0;
}

static int
protocol_clear(PyObject *self)
{
    TlsProtocol *face = (TlsProtocol *)self;
    TlsTransport *t = face->tls;
    face->tls = NULL;
    if (t != NULL && t->face == face) {
        t->face = NULL;
    }
    Py_XDECREF(t);
    return 0;
}

static void
protocol_dealloc(PyObject *self)
{
    TlsProtocol *face = (TlsProtocol *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = face->state;
    PyObject_GC_UnTrack(self);
    if (face->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)protocol_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

PyDoc_STRVAR(protocol_doc, "A TLS connection, as the transport below it sees it.");

static PyMemberDef protocol_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TlsProtocol, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot protocol_slots[] = {
    {Py_tp_doc, (void *)protocol_doc}, {Py_tp_traverse, protocol_traverse},
    {Py_tp_clear, protocol_clear},     {Py_tp_dealloc, protocol_dealloc},
    {Py_tp_methods, protocol_methods}, {Py_tp_getset, protocol_getset},
    {Py_tp_members, protocol_members}, {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "corolla._core.TlsProtocol",
    .basicsize = sizeof(TlsProtocol),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = protocol_slots,
};

int
tls_protocol_init(PyObject *module, corolla_state *state)
{
    state->tls_protocol_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &protocol_spec, state->asyncio_Protocol);
    state->tls_protocol_ops = &native_ops;
    return state->tls_protocol_type == NULL ? -1 : 0;
}

/* ---- For the rooms above ------------------------------------------------------------------------------------ */

PyObject *
corolla_tls_new(corolla_core *core, const corolla_tls_options *options)
{
    TlsTransport *t = tls_transport_new(core, options);
    if (t == NULL) {
        return NULL;
    }
    PyTypeObject *type = core->state->tls_protocol_type;
    TlsProtocol *face = (TlsProtocol *)type->tp_alloc(type, 0);
    if (face == NULL) {
        t->closed = true; /* nobody has seen it */
        Py_DECREF(t);
        return NULL;
    }
    face->state = core->state;
    corolla_state_hold(face->state);
    face->tls = t;
    t->face = face;
    return (PyObject *)face;
}

PyObject *
corolla_tls_transport(PyObject *tls)
{
    return (PyObject *)((TlsProtocol *)tls)->tls;
}

bool
corolla_tls_check(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->tls_transport_type);
}

/* The exception that is being raised stays, whatever happens meanwhile. */
void
corolla_tls_discard(PyObject *tls)
{
    TlsTransport *t = tls_of(tls);
    if (t == NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    t->given_up = t->closed = true;
    if (tls_abort(t, NULL) < 0) {
        PyErr_WriteUnraisable(tls);
    }
    if (t->below == NULL) {
        (void)protocol_clear(tls); /* nothing will ever come */
        tls_finish(t);
    }
    Py_DECREF(t);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}
