/* What a TLS connection tells about itself: get_extra_info(), and the underscored attributes that programs written for
 * asyncio read. The peer's certificate is decoded when somebody wants it. */
#include "../tcp.h"
#include "tls.h"

/* ---- Kept once asked for ----------------------------------------------------------------------------- */

static int
keep(TlsTransport *t, PyObject *name, PyObject *value)
{
    if (t->extra == NULL) {
        t->extra = PyDict_New();
    }
    if (t->extra == NULL) {
        return -1;
    }
    PyObject *extra = Py_NewRef(t->extra);
    int rc = PyDict_SetItem(extra, name, value);
    Py_DECREF(extra);
    return rc;
}

/* ssl_object.method(), kept as name. New reference or NULL. */
static PyObject *
ask(TlsTransport *t, PyObject *name, PyObject *method)
{
    PyObject *object = Py_NewRef(t->engine->object);
    PyObject *value = PyObject_CallMethodNoArgs(object, method);
    Py_DECREF(object);
    if (value != NULL && keep(t, name, value) < 0) {
        Py_CLEAR(value);
    }
    return value;
}

int
tls_learn_extra(TlsTransport *t)
{
    corolla_state *state = t->state;
    PyObject *names[] = {state->s.peercert, state->s.cipher, state->s.compression};
    PyObject *methods[] = {state->s.getpeercert, state->s.cipher, state->s.compression};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = ask(t, names[i], methods[i]);
        if (value == NULL) {
            return -1;
        }
        Py_DECREF(value);
    }
    return 0;
}

/* 1 and a new reference, 0 when it is not TLS that is asked for, or -1. */
static int
find_own(TlsTransport *t, PyObject *name, PyObject **value)
{
    corolla_state *state = t->state;
    *value = NULL;
    if (t->extra != NULL) {
        PyObject *extra = Py_NewRef(t->extra); /* a name may be anything, and asyncio's slot is open to programs */
        int found = PyDict_GetItemRef(extra, name, value);
        Py_DECREF(extra);
        if (found != 0) {
            return found;
        }
    }
    if (!PyUnicode_Check(name)) {
        return 0;
    }
    if (PyUnicode_Compare(name, state->s.sslcontext) == 0) {
        *value = Py_XNewRef(t->sslcontext);
        return *value != NULL;
    }
    if (!t->shaken || t->engine == NULL) {
        return 0;
    }
    if (PyUnicode_Compare(name, state->s.ssl_object) == 0) {
        *value = Py_NewRef(t->engine->object);
    }
    else if (PyUnicode_Compare(name, state->s.peercert) == 0) {
        *value = ask(t, name, state->s.getpeercert);
    }
    else if (PyUnicode_Compare(name, state->s.cipher) == 0 || PyUnicode_Compare(name, state->s.compression) == 0) {
        *value = ask(t, name, name);
    }
    else if (PyUnicode_Compare(name, state->s.close_notify) == 0) {
        *value = PyBool_FromLong(t->notified);
    }
    else {
        return 0;
    }
    return *value == NULL ? -1 : 1;
}

static PyObject *
method_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature signature = {"get_extra_info", names, 1, 2, NULL};
    TlsTransport *t = (TlsTransport *)self;
    PyObject *given[2], *value;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    int found = find_own(t, given[0], &value);
    if (found != 0) {
        return value;
    }
    PyObject *otherwise = given[1] == NULL ? Py_None : given[1];
    if (t->below == NULL) {
        return Py_NewRef(otherwise);
    }
    PyObject *below = Py_NewRef(t->below);
    PyObject *stack[] = {below, given[0], otherwise};
    value = PyObject_VectorcallMethod(t->state->s.get_extra_info, stack, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(below);
    return value;
}

PyDoc_STRVAR(
    get_extra_info_doc,
    "What is known of the connection: 'ssl_object', 'sslcontext', 'peercert', 'cipher', 'compression'; 'close_notify':\n"
    "whether the peer has ended the session in order; and what the transport below knows.");

PyMethodDef tls_extra_methods[] = {
    {"get_extra_info", (PyCFunction)(void (*)(void))method_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Underscored attributes ---------------------------------------------------------------------------- */

static PyObject *
get_extra(PyObject *self, void *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    PyObject *names[] = {t->state->s.sslcontext, t->state->s.ssl_object, t->state->s.peercert, t->state->s.cipher,
                         t->state->s.compression};
    PyObject *all = PyDict_New();
    for (size_t i = 0; all != NULL && i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value;
        int found = find_own(t, names[i], &value);
        if (found < 0 || (found > 0 && PyDict_SetItem(all, names[i], value) < 0)) {
            Py_CLEAR(all);
        }
        Py_XDECREF(value);
    }
    return all;
}

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
get_start_tls_compatible(PyObject *self, void *unused)
{
    Py_RETURN_TRUE;
}

/* The kernel sends no file through TLS: loop.sendfile() reads and writes. */
static PyObject *
get_sendfile_compatible(PyObject *self, void *unused)
{
    return Py_NewRef(((TlsTransport *)self)->state->sendfile_fallback);
}

/* isinstance(t, asyncio.sslproto._SSLProtocolTransport) holds, which is how programs tell. */
static PyObject *
get_class(PyObject *self, void *unused)
{
    return Py_NewRef(((TlsTransport *)self)->state->asyncio_SSLTransport);
}

#define FIELD(name) ((void *)(uintptr_t)offsetof(TlsTransport, name))

PyGetSetDef tls_getset[] = {
    {"__class__", get_class, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_extra", get_extra, NULL, NULL, NULL},
    {"_loop", get_object, NULL, NULL, FIELD(loop)},
    {"_ssl_protocol", get_object, NULL, NULL, FIELD(face)},
    {"_closed", get_flag, NULL, NULL, FIELD(closed)},
    {"_protocol_paused", get_flag, NULL, NULL, FIELD(told_pause)},
    {"_sendfile_compatible", get_sendfile_compatible, NULL, NULL, NULL},
    {"_start_tls_compatible", get_start_tls_compatible, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
