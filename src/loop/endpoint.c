/* What create_server() and create_connection() have in common. */
#include "endpoint.h"

#include <errno.h>

int
endpoint_refuse_ssl_socket(PyObject *sock)
{
    /* Whoever has one has imported the module. */
    PyObject *name = PyUnicode_FromString("ssl");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *type = PyObject_GetAttrString(module, "SSLSocket");
    Py_DECREF(module);
    if (type == NULL) {
        return -1;
    }
    int rc = PyObject_IsInstance(sock, type);
    Py_DECREF(type);
    if (rc > 0) {
        PyErr_SetString(PyExc_TypeError, "Socket cannot be of type SSLSocket");
    }
    return rc == 0 ? 0 : -1;
}

int
endpoint_check_stream(PyObject *sock)
{
    PyObject *type = PyObject_GetAttrString(sock, "type");
    if (type == NULL) {
        return -1;
    }
    long number = PyLong_AsLong(type);
    Py_DECREF(type);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number != SOCK_STREAM) {
        PyErr_Format(PyExc_ValueError, "A Stream Socket was expected, got %R", sock);
        return -1;
    }
    return 0;
}

int
endpoint_set_nonblocking(PyObject *sock)
{
    PyObject *done = PyObject_CallMethod(sock, "setblocking", "O", Py_False);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
endpoint_parse_int(PyObject *value, int otherwise, int *out)
{
    if (value == NULL) {
        *out = otherwise;
        return 0;
    }
    long number = PyLong_AsLong(value);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return -1;
    }
    *out = (int)number;
    return 0;
}

void
endpoint_refuse_ssl(const char *method)
{
    PyErr_Format(PyExc_NotImplementedError, "%s() with ssl is not implemented yet", method);
}

static int
parse_more(PyObject *more, Py_ssize_t i, long *out)
{
    *out = 0;
    if (more == NULL || i >= PyTuple_GET_SIZE(more)) {
        return 0;
    }
    *out = PyLong_AsLong(PyTuple_GET_ITEM(more, i));
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

int
endpoint_resolve(PyObject *loop, PyObject *host, PyObject *port, PyObject *more, int family, int proto, int flags,
                 PyObject **found)
{
    long flowinfo, scope;
    if (parse_more(more, 0, &flowinfo) < 0 || parse_more(more, 1, &scope) < 0) {
        return -1;
    }
    PyObject *info = loop_ipaddr_info(host, port, family, SOCK_STREAM, proto, flowinfo, scope);
    if (info == NULL) {
        return -1;
    }
    if (info == Py_None) {
        Py_DECREF(info);
        *found = loop_getaddrinfo(loop, host, port, family, SOCK_STREAM, proto, flags);
        return *found == NULL ? -1 : 0;
    }
    *found = PyList_New(1);
    if (*found == NULL) {
        Py_DECREF(info);
        return -1;
    }
    PyList_SET_ITEM(*found, 0, info);
    return 1;
}

void
endpoint_log(corolla_core *core, const char *level, const char *message_format, PyObject *args)
{
    PyObject *done = NULL;
    PyObject *method = args == NULL ? NULL : PyObject_GetAttrString(core->state->logger, level);
    if (method != NULL) {
        PyObject *format = Py_BuildValue("(s)", message_format);
        PyObject *all = format == NULL ? NULL : PySequence_Concat(format, args);
        done = all == NULL ? NULL : PyObject_CallObject(method, all);
        Py_XDECREF(format);
        Py_XDECREF(all);
        Py_DECREF(method);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable(core->loop);
    }
    Py_XDECREF(done);
    Py_XDECREF(args);
}
