/* sock_recvfrom(), sock_recvfrom_into() and sock_sendto(): one attempt each. */
#include "sock.h"

#include <sys/socket.h>

/* Whether addresses of the socket's family are known here. The others' are left to the socket module. */
static bool
family_is_known(int fd, int *family)
{
    socklen_t len = sizeof *family;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, family, &len) == 0 &&
           (*family == AF_INET || *family == AF_INET6 || *family == AF_UNIX);
}

/* (first, address); steals first. New reference or NULL. */
static PyObject *
with_address(PyObject *first, const struct sockaddr_storage *from, socklen_t len)
{
    PyObject *address = first == NULL ? NULL : corolla_address_to_python((const struct sockaddr *)from, len);
    PyObject *pair = address == NULL ? NULL : PyTuple_Pack(2, first, address);
    Py_XDECREF(first);
    Py_XDECREF(address);
    return pair;
}

static Attempt
recvfrom_method(corolla_state *state, SockState *st, PyObject **result)
{
    *result = PyObject_CallMethodOneArg(st->sock, state->s.recvfrom, st->arg);
    return *result == NULL ? sock_method_failed() : DONE;
}

Attempt
sock_recvfrom_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    int family, fd = st->plain ? sock_fileno(state, st) : -1;
    if (fd == -2) {
        return FAILED;
    }
    if (!st->plain || !family_is_known(fd, &family)) {
        return recvfrom_method(state, st, result);
    }
    Py_ssize_t size = PyNumber_AsSsize_t(st->arg, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return FAILED;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recvfrom");
        return FAILED;
    }
    void *scratch = corolla_reactor_scratch(&loop_core(st->loop)->reactor);
    if (scratch == NULL || size > COROLLA_SCRATCH) {
        return recvfrom_method(state, st, result);
    }
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(fd, scratch, (size_t)size, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    if (n < 0) {
        return sock_call_failed();
    }
    *result = with_address(PyBytes_FromStringAndSize(scratch, n), &from, len);
    return *result == NULL ? FAILED : DONE;
}

/* How many bytes are asked for: st->rest, where that is 0 or missing the whole buffer. -1 with an exception. */
static Py_ssize_t
wanted_bytes(SockState *st, const Py_buffer *view)
{
    Py_ssize_t wanted = st->rest == NULL ? 0 : PyNumber_AsSsize_t(st->rest, PyExc_OverflowError);
    if (wanted == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (wanted < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recvfrom_into");
        return -1;
    }
    if (wanted > view->len) {
        PyErr_SetString(PyExc_ValueError, "nbytes is greater than the length of the buffer");
        return -1;
    }
    return wanted == 0 ? view->len : wanted;
}

static Attempt
recvfrom_into_method(corolla_state *state, SockState *st, PyObject **result)
{
    PyObject *wanted;
    int given = st->rest == NULL ? 0 : PyObject_IsTrue(st->rest);
    if (given < 0) {
        return FAILED;
    }
    wanted = given ? Py_NewRef(st->rest) : PyLong_FromSsize_t(PyObject_Length(st->arg));
    if (wanted == NULL || PyErr_Occurred()) {
        Py_XDECREF(wanted);
        return FAILED;
    }
    *result = PyObject_CallMethodObjArgs(st->sock, state->s.recvfrom_into, st->arg, wanted, NULL);
    Py_DECREF(wanted);
    return *result == NULL ? sock_method_failed() : DONE;
}

Attempt
sock_recvfrom_into_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    int family, fd = st->plain ? sock_fileno(state, st) : -1;
    Py_buffer view;
    if (fd == -2) {
        return FAILED;
    }
    if (!st->plain || !family_is_known(fd, &family) || PyObject_GetBuffer(st->arg, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear(); /* what is wrong with the buffer the socket says itself */
        return recvfrom_into_method(state, st, result);
    }
    Attempt done = FAILED;
    Py_ssize_t wanted = wanted_bytes(st, &view);
    if (wanted >= 0) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, view.buf, (size_t)wanted, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0) {
            done = sock_call_failed();
        }
        else {
            *result = with_address(PyLong_FromSsize_t(n), &from, len);
            done = *result == NULL ? FAILED : DONE;
        }
    }
    PyBuffer_Release(&view);
    return done;
}

/* What is wrong with data or address the socket says itself; and it looks names up. */
static Attempt
sendto_method(corolla_state *state, SockState *st, PyObject **result)
{
    *result = PyObject_CallMethodObjArgs(st->sock, state->s.sendto, st->arg, st->rest, NULL);
    return *result == NULL ? sock_method_failed() : DONE;
}

Attempt
sock_sendto_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    int family, fd = st->plain ? sock_fileno(state, st) : -1;
    struct sockaddr_storage to;
    socklen_t len;
    Py_buffer view;
    if (fd == -2) {
        return FAILED;
    }
    if (!st->plain || !family_is_known(fd, &family)) {
        return sendto_method(state, st, result);
    }
    if (corolla_address_from_python(st->rest, family, &to, &len) < 0 ||
        PyObject_GetBuffer(st->arg, &view, PyBUF_SIMPLE) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return FAILED;
        }
        PyErr_Clear();
        return sendto_method(state, st, result);
    }
    Attempt done = FAILED;
    if (PySys_Audit("socket.sendto", "OO", st->sock, st->rest) == 0) {
        ssize_t n = sendto(fd, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to, len);
        if (n < 0) {
            done = sock_call_failed();
        }
        else {
            *result = PyLong_FromSsize_t(n);
            done = *result == NULL ? FAILED : DONE;
        }
    }
    PyBuffer_Release(&view);
    return done;
}
