/* sock_connect(): the address, the attempt and its outcome. */
#include "sock.h"

#include <sys/socket.h>

/* Takes (host, port[, flowinfo, scope_id]) apart: new references, NULL for what is not there. 0 or -1. */
static int
split_address(PyObject *address, PyObject *parts[4])
{
    parts[0] = parts[1] = parts[2] = parts[3] = NULL;
    PyObject *tuple = PySequence_Tuple(address);
    if (tuple == NULL) {
        return -1;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    if (size < 2) {
        PyErr_Format(PyExc_ValueError, "not enough values to unpack (expected 2, got %zd)", size);
    }
    else if (size > 4) {
        PyErr_SetString(PyExc_TypeError, "an address has at most host, port, flowinfo and scope id");
    }
    else {
        for (Py_ssize_t i = 0; i < size; i++) {
            parts[i] = Py_NewRef(PyTuple_GET_ITEM(tuple, i));
        }
    }
    Py_DECREF(tuple);
    return PyErr_Occurred() ? -1 : 0;
}

static int
int_attribute(PyObject *obj, PyObject *name, int *out)
{
    PyObject *value = PyObject_GetAttr(obj, name);
    if (value == NULL) {
        return -1;
    }
    long number = PyLong_AsLong(value);
    Py_DECREF(value);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    *out = (int)number;
    return 0;
}

static long
long_or_zero(PyObject *obj)
{
    return obj == NULL ? 0 : PyLong_AsLong(obj);
}

int
sock_connect_resolve(corolla_state *state, SockState *st)
{
    int family, type, proto;
    if (int_attribute(st->sock, state->s.family, &family) < 0) {
        return -1;
    }
    if (family != AF_INET && family != AF_INET6) {
        return 0;
    }
    if (int_attribute(st->sock, state->s.type, &type) < 0 || int_attribute(st->sock, state->s.proto, &proto) < 0) {
        return -1;
    }
    PyObject *parts[4], *info = NULL;
    int rc = split_address(st->arg, parts);
    if (rc < 0) {
        return -1;
    }
    long flowinfo = long_or_zero(parts[2]), scope_id = long_or_zero(parts[3]);
    if (!PyErr_Occurred()) {
        info = loop_ipaddr_info(parts[0], parts[1], family, type, proto, flowinfo, scope_id);
    }
    if (info == Py_None) {
        st->rest = loop_getaddrinfo(st->loop, parts[0], parts[1], family, type, proto, 0);
        rc = st->rest == NULL ? -1 : 0;
    }
    else if (info != NULL) {
        Py_SETREF(st->arg, Py_NewRef(PyTuple_GET_ITEM(info, 4)));
    }
    else {
        rc = -1;
    }
    Py_XDECREF(info);
    for (int i = 0; i < 4; i++) {
        Py_XDECREF(parts[i]);
    }
    return rc;
}

int
sock_connect_resolved(SockState *st, PyObject *infos)
{
    PyObject *info = PySequence_GetItem(infos, 0);
    PyObject *address = info == NULL ? NULL : PySequence_GetItem(info, 4);
    Py_XDECREF(info);
    if (address == NULL) {
        return -1;
    }
    Py_SETREF(st->arg, address);
    return 0;
}

/* The outcome of a connection that was being made. */
static Attempt
sock_connect_outcome(corolla_state *state, SockState *st)
{
    PyObject *answer = PyObject_CallMethod(st->sock, "getsockopt", "ii", SOL_SOCKET, SO_ERROR);
    if (answer == NULL) {
        return sock_method_failed();
    }
    long error = PyLong_AsLong(answer);
    Py_DECREF(answer);
    if (error == 0) {
        return DONE;
    }
    if (error == -1 && PyErr_Occurred()) {
        return FAILED;
    }
    PyObject *text = PyUnicode_FromFormat("Connect call failed %S", st->arg);
    PyObject *exc = text == NULL ? NULL : PyObject_CallFunction(PyExc_OSError, "lO", error, text);
    Py_XDECREF(text);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return sock_method_failed();
}

Attempt
sock_connect_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    Attempt done;
    if (st->connecting) {
        done = sock_connect_outcome(state, st);
    }
    else {
        PyObject *connected = PyObject_CallMethodOneArg(st->sock, state->s.connect, st->arg);
        done = connected == NULL ? sock_method_failed() : DONE;
        Py_XDECREF(connected);
        st->connecting = true;
    }
    if (done == DONE) {
        *result = Py_NewRef(Py_None);
    }
    return done;
}
