/* What a TLS connection is asked for with, and the ssl module, which is imported when the first one is: an interpreter may
 * have none. */
#include "tls.h"

#define DEFAULT_HANDSHAKE_TIMEOUT 60.0 /* seconds; asyncio's */
#define DEFAULT_SHUTDOWN_TIMEOUT 30.0

static int
import(PyObject **slot, const char *name)
{
    if (*slot == NULL) {
        *slot = PyImport_ImportModuleAttrString("ssl", name);
    }
    return *slot == NULL ? -1 : 0;
}

int
tls_import_ssl(corolla_state *state)
{
    if (state->ssl_CertificateError != NULL) {
        return 0;
    }
    if (import(&state->ssl_MemoryBIO, "MemoryBIO") < 0 || import(&state->ssl_SSLObject, "SSLObject") < 0 ||
        import(&state->ssl_SSLWantReadError, "SSLWantReadError") < 0 ||
        import(&state->ssl_SSLSyscallError, "SSLSyscallError") < 0 ||
        import(&state->ssl_CertificateError, "CertificateError") < 0) {
        return -1;
    }
    return 0;
}

/* 0 or -1. */
static int
parse_timeout(PyObject *given, const char *name, double standard, double *seconds)
{
    if (given == NULL || given == Py_None) {
        *seconds = standard;
        return 0;
    }
    PyObject *zero = PyLong_FromLong(0);
    int refused = zero == NULL ? -1 : PyObject_RichCompareBool(given, zero, Py_LE);
    Py_XDECREF(zero);
    if (refused != 0) {
        if (refused > 0) {
            PyErr_Format(PyExc_ValueError, "%s should be a positive number, got %S", name, given);
        }
        return -1;
    }
    *seconds = PyFloat_AsDouble(given);
    return *seconds == -1.0 && PyErr_Occurred() ? -1 : 0;
}

/* asyncio's _create_transport_context(). New reference or NULL. */
static PyObject *
default_context(bool server_side, PyObject *server_hostname)
{
    if (server_side) {
        PyErr_SetString(PyExc_ValueError, "Server side SSL needs a valid SSLContext");
        return NULL;
    }
    int named = server_hostname == NULL ? 0 : PyObject_IsTrue(server_hostname);
    PyObject *make = named < 0 ? NULL : PyImport_ImportModuleAttrString("ssl", "create_default_context");
    PyObject *context = make == NULL ? NULL : PyObject_CallNoArgs(make);
    Py_XDECREF(make);
    if (context != NULL && !named && PyObject_SetAttrString(context, "check_hostname", Py_False) < 0) {
        Py_CLEAR(context);
    }
    return context;
}

int
corolla_tls_parse(corolla_state *state, PyObject *ssl, bool server_side, PyObject *server_hostname,
                  PyObject *handshake_timeout, PyObject *shutdown_timeout, corolla_tls_options *out, PyObject **made)
{
    *made = NULL;
    if (parse_timeout(handshake_timeout, "ssl_handshake_timeout", DEFAULT_HANDSHAKE_TIMEOUT, &out->handshake_timeout) <
            0 ||
        parse_timeout(shutdown_timeout, "ssl_shutdown_timeout", DEFAULT_SHUTDOWN_TIMEOUT, &out->shutdown_timeout) < 0 ||
        tls_import_ssl(state) < 0) {
        return -1;
    }
    bool given = ssl != NULL && ssl != Py_None && !PyBool_Check(ssl);
    *made = given ? Py_NewRef(ssl) : default_context(server_side, server_hostname);
    if (*made == NULL) {
        return -1;
    }
    out->sslcontext = *made;
    out->server_hostname = server_hostname == Py_None ? NULL : server_hostname;
    out->whole_seconds = handshake_timeout != NULL && PyLong_Check(handshake_timeout);
    out->server_side = server_side;
    return 0;
}
