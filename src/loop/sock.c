/* sock_recv() and its kin: coroutines over a socket object that the user keeps.
 *
 * Each tries first and waits only when it would block; then it tries again. What is read is read by the coroutine itself
 * when it runs, never on its behalf, so a cancelled call has taken nothing from the socket. For a socket.socket the
 * system is asked directly; for a subclass, or something that only looks like one, its methods are called. */
#include "sock.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

static int
sock_traverse(void *state, visitproc visit, void *arg)
{
    SockState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->sock);
    Py_VISIT(st->arg);
    Py_VISIT(st->rest);
    return 0;
}

static void
sock_clear(void *state)
{
    SockState *st = state;
    loop_wait_stop(&st->wait);
    Py_CLEAR(st->rest);
    Py_CLEAR(st->arg);
    Py_CLEAR(st->sock);
    Py_CLEAR(st->loop);
}

/* ---- What all of them begin with ------------------------------------------------------------ */

/* TypeError for an ssl.SSLSocket; there is none as long as nobody has imported ssl. 0 or -1. */
static int
check_not_ssl(corolla_state *state, PyObject *sock)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *ssl = PyMapping_GetItemString(modules, "ssl"), *type = NULL;
    if (ssl == NULL) {
        PyErr_Clear();
        return 0;
    }
    int found = PyObject_GetOptionalAttr(ssl, state->s.SSLSocket, &type);
    Py_DECREF(ssl);
    if (found <= 0) {
        return found;
    }
    int is_ssl = PyObject_IsInstance(sock, type);
    Py_DECREF(type);
    if (is_ssl > 0) {
        PyErr_SetString(PyExc_TypeError, "Socket cannot be of type SSLSocket");
    }
    return is_ssl == 0 ? 0 : -1;
}

/* 0 or -1. */
static int
sock_check(corolla_state *state, SockState *st)
{
    st->plain = Py_IS_TYPE(st->sock, (PyTypeObject *)state->socket_type);
    if (!st->plain && check_not_ssl(state, st->sock) < 0) {
        return -1;
    }
    if (!loop_core(st->loop)->debug) {
        return 0;
    }
    PyObject *timeout = PyObject_CallMethodNoArgs(st->sock, state->s.gettimeout), *zero = NULL;
    int blocking = -1;
    if (timeout != NULL && (zero = PyLong_FromLong(0)) != NULL) {
        blocking = PyObject_RichCompareBool(timeout, zero, Py_NE);
    }
    Py_XDECREF(timeout);
    Py_XDECREF(zero);
    if (blocking > 0) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    }
    return blocking == 0 ? 0 : -1;
}

int
sock_fileno(corolla_state *state, SockState *st)
{
    /* The method of the socket module's own type without the look-up, four times a message. */
    PyObject *number = st->plain && state->socket_fileno != NULL
                           ? ((PyMethodDescrObject *)state->socket_fileno)->d_method->ml_meth(st->sock, NULL)
                           : PyObject_CallMethodNoArgs(st->sock, state->s.fileno);
    if (number == NULL) {
        return -2;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -2;
    }
    st->fd = fd < 0 || fd > INT_MAX ? -1 : (int)fd;
    return st->fd;
}

int
sock_init(corolla_state *state)
{
    PyObject *method = PyObject_GetAttr(state->socket_type, state->s.fileno);
    if (method == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type) ||
        ((PyMethodDescrObject *)method)->d_method->ml_flags != METH_NOARGS) {
        Py_CLEAR(method); /* somebody has put a function of their own there */
    }
    state->socket_fileno = method;
    return 0;
}

/* Waits for the descriptor. 0 or -1. */
static int
sock_wait(corolla_state *state, SockState *st, unsigned event)
{
    /* A plain socket's attempt has asked for it just now, and run nothing since that could have closed it. */
    int fd = st->plain && st->fd >= 0 ? st->fd : sock_fileno(state, st);
    return fd == -2 ? -1 : loop_wait_start((LoopObject *)st->loop, &st->wait, fd, event, st->plain ? st->sock : NULL);
}

Attempt
sock_method_failed(void)
{
    if (PyErr_ExceptionMatches(PyExc_BlockingIOError) || PyErr_ExceptionMatches(PyExc_InterruptedError)) {
        PyErr_Clear();
        return AGAIN;
    }
    return FAILED;
}

Attempt
sock_call_failed(void)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return AGAIN;
    }
    PyErr_SetFromErrno(PyExc_OSError);
    return FAILED;
}

/* ---- sock_recv() and sock_recv_into() ---------------------------------------------------------- */

/* From this much on, reads go straight into the object; below it, one copy out of warm memory is cheaper than an object
 * of the size that was asked for, cut down to what came. */
enum { DIRECT = 32 * 1024 };

static Attempt
recv_directly(int fd, Py_ssize_t size, size_t *hint, PyObject **result)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, size);
    if (bytes == NULL) {
        return FAILED;
    }
    ssize_t n = recv(fd, PyBytes_AS_STRING(bytes), (size_t)size, MSG_DONTWAIT);
    if (n < 0) {
        Py_DECREF(bytes);
        return sock_call_failed();
    }
    *hint = *hint > (size_t)n ? *hint - (*hint - (size_t)n) / 4 : (size_t)n;
    if (n != size && _PyBytes_Resize(&bytes, n) < 0) {
        return FAILED;
    }
    *result = bytes;
    return DONE;
}

/* Reads of size up to n bytes; hint: what lately came from this socket, or NULL while nobody has waited for it. */
static Attempt
recv_by_copy(corolla_reactor *r, int fd, Py_ssize_t size, size_t *hint, PyObject **result)
{
    void *scratch = corolla_reactor_scratch(r);
    if (scratch == NULL) { /* the loop is closed, or memory is short */
        size_t unknown = 0;
        return recv_directly(fd, size, &unknown, result);
    }
    ssize_t n = recv(fd, scratch, (size_t)(size < COROLLA_SCRATCH ? size : COROLLA_SCRATCH), MSG_DONTWAIT);
    if (n < 0) {
        return sock_call_failed();
    }
    if (hint != NULL) {
        *hint = (size_t)n;
    }
    *result = PyBytes_FromStringAndSize(scratch, n);
    return *result == NULL ? FAILED : DONE;
}

static Attempt
recv_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    if (!st->plain) {
        *result = PyObject_CallMethodOneArg(st->sock, state->s.recv, st->arg);
        return *result == NULL ? sock_method_failed() : DONE;
    }
    Py_ssize_t size = PyNumber_AsSsize_t(st->arg, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred()) {
        return FAILED;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        return FAILED;
    }
    if (size == 0) {
        *result = PyBytes_FromStringAndSize(NULL, 0); /* as socket.recv(): the system is not asked */
        return *result == NULL ? FAILED : DONE;
    }
    int fd = sock_fileno(state, st);
    if (fd == -2) {
        return FAILED;
    }
    size_t *hint = loop_read_hint((LoopObject *)st->loop, fd);
    return size > DIRECT && hint != NULL && *hint >= DIRECT
               ? recv_directly(fd, size, hint, result)
               : recv_by_copy(&loop_core(st->loop)->reactor, fd, size, hint, result);
}

static Attempt
recv_into_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    Py_buffer view;
    if (!st->plain || PyObject_GetBuffer(st->arg, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear(); /* what is wrong with the buffer the socket says itself */
        *result = PyObject_CallMethodOneArg(st->sock, state->s.recv_into, st->arg);
        return *result == NULL ? sock_method_failed() : DONE;
    }
    Attempt done = FAILED;
    int fd = sock_fileno(state, st);
    if (fd != -2) {
        ssize_t n = view.len == 0 ? 0 : recv(fd, view.buf, (size_t)view.len, MSG_DONTWAIT);
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

/* ---- sock_sendall() ----------------------------------------------------------------------------- */

/* Sends what is left of the buffer. */
static Attempt
send_bytes(corolla_state *state, SockState *st, const Py_buffer *view)
{
    int fd = sock_fileno(state, st);
    if (fd == -2) {
        return FAILED;
    }
    ssize_t n = send(fd, (char *)view->buf + st->sent, (size_t)(view->len - st->sent), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
        return sock_call_failed();
    }
    st->sent += n;
    return st->sent < view->len ? AGAIN : DONE;
}

static Attempt
send_plain(corolla_state *state, SockState *st)
{
    if (st->rest != NULL) {
        return send_bytes(state, st, PyMemoryView_GET_BUFFER(st->rest));
    }
    Py_buffer view;
    if (PyObject_GetBuffer(st->arg, &view, PyBUF_SIMPLE) < 0) {
        return FAILED;
    }
    Attempt done = send_bytes(state, st, &view);
    if (done == AGAIN) {
        /* Holds the buffer as it is while the rest waits. */
        st->rest = PyMemoryView_FromObject(st->arg);
        if (st->rest == NULL) {
            done = FAILED;
        }
    }
    PyBuffer_Release(&view);
    return done;
}

/* Makes st->rest, the bytes of data whatever its shape. 0 or -1. */
static int
view_bytes(SockState *st)
{
    st->rest = PyMemoryView_FromObject(st->arg);
    if (st->rest == NULL) {
        return -1;
    }
    Py_buffer *view = PyMemoryView_GET_BUFFER(st->rest);
    if (view->ndim != 1 || view->itemsize != 1) {
        PyObject *bytes = PyObject_CallMethod(st->rest, "cast", "s", "B");
        Py_SETREF(st->rest, bytes);
    }
    return st->rest == NULL ? -1 : 0;
}

static Attempt
send_method(corolla_state *state, SockState *st)
{
    if (st->rest == NULL && view_bytes(st) < 0) {
        return FAILED;
    }
    Py_ssize_t size = PyMemoryView_GET_BUFFER(st->rest)->len;
    PyObject *piece = st->sent == 0 ? Py_NewRef(st->arg) : PySequence_GetSlice(st->rest, st->sent, size);
    PyObject *count = piece == NULL ? NULL : PyObject_CallMethodOneArg(st->sock, state->s.send, piece);
    Py_XDECREF(piece);
    if (count == NULL) {
        return sock_method_failed();
    }
    Py_ssize_t n = PyNumber_AsSsize_t(count, PyExc_OverflowError);
    Py_DECREF(count);
    if (n < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "send() returned a negative number");
        }
        return FAILED;
    }
    if (n >= size - st->sent) {
        return DONE;
    }
    st->sent += n;
    return AGAIN;
}

static Attempt
send_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    Attempt done = st->plain ? send_plain(state, st) : send_method(state, st);
    if (done == DONE) {
        *result = Py_NewRef(Py_None);
    }
    return done;
}

/* ---- sock_accept() ------------------------------------------------------------------------------ */

/* True if there is nothing to accept yet: cheaper than an exception, and accept() does not block. */
static bool
nothing_to_accept(int fd)
{
    struct pollfd ask = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&ask, 1, 0) == 0;
}

static Attempt
accept_attempt(corolla_state *state, SockState *st, PyObject **result)
{
    if (st->plain) {
        int fd = sock_fileno(state, st);
        if (fd == -2) {
            return FAILED;
        }
        if (nothing_to_accept(fd)) {
            return AGAIN;
        }
    }
    PyObject *pair = PyObject_CallMethodNoArgs(st->sock, state->s.accept);
    if (pair == NULL) {
        return sock_method_failed();
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "accept() must return a pair");
        Py_DECREF(pair);
        return FAILED;
    }
    PyObject *conn = PyTuple_GET_ITEM(pair, 0);
    PyObject *set = PyObject_CallMethodOneArg(conn, state->s.setblocking, Py_False);
    if (set == NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        PyObject *closed = PyObject_CallMethodNoArgs(conn, state->s.close);
        if (closed == NULL) {
            PyErr_WriteUnraisable(conn);
        }
        Py_XDECREF(closed);
        Py_DECREF(pair);
        PyErr_SetRaisedException(exc);
        return FAILED;
    }
    Py_DECREF(set);
    *result = pair;
    return DONE;
}

/* ---- Coroutines ---------------------------------------------------------------------------------- */

/* Tries, and waits for event between tries, from the first try to the end. */
static corolla_step
try_step(corolla_coro *co, PyObject *value, attempt_fn attempt, unsigned event)
{
    SockState *st = corolla_coro_state(co);
    PyObject *result = NULL;
    Attempt done;
    COROLLA_BEGIN(co);
    if (sock_check(co->state, st) < 0) {
        return COROLLA_RAISE;
    }
    while ((done = attempt(co->state, st, &result)) == AGAIN) {
        if (sock_wait(co->state, st, event) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->wait.future);
        loop_wait_stop(&st->wait);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return done == DONE ? corolla_return(co, result) : COROLLA_RAISE;
    COROLLA_END(co);
}

static corolla_step
recv_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, recv_attempt, COROLLA_READABLE);
}

static corolla_step
recv_into_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, recv_into_attempt, COROLLA_READABLE);
}

static corolla_step
sendall_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, send_attempt, COROLLA_WRITABLE);
}

static corolla_step
recvfrom_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, sock_recvfrom_attempt, COROLLA_READABLE);
}

static corolla_step
recvfrom_into_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, sock_recvfrom_into_attempt, COROLLA_READABLE);
}

static corolla_step
sendto_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, sock_sendto_attempt, COROLLA_WRITABLE);
}

static corolla_step
accept_step(corolla_coro *co, PyObject *value)
{
    return try_step(co, value, accept_attempt, COROLLA_READABLE);
}

static corolla_step
connect_step(corolla_coro *co, PyObject *value)
{
    SockState *st = corolla_coro_state(co);
    PyObject *result = NULL;
    Attempt done;
    COROLLA_BEGIN(co);
    if (sock_check(co->state, st) < 0 || sock_connect_resolve(co->state, st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->rest != NULL) {
        COROLLA_AWAIT(co, st->rest);
        if (value == NULL || sock_connect_resolved(st, value) < 0) {
            return COROLLA_RAISE;
        }
    }
    while ((done = sock_connect_attempt(co->state, st, &result)) == AGAIN) {
        if (sock_wait(co->state, st, COROLLA_WRITABLE) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->wait.future);
        loop_wait_stop(&st->wait);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return done == DONE ? corolla_return(co, result) : COROLLA_RAISE;
    COROLLA_END(co);
}

#define SOCK_SPEC(call, body)                      \
    static const corolla_coro_spec call##_spec = { \
        .name = #call,                             \
        .qualname = "EventLoop." #call,            \
        .size = sizeof(SockState),                 \
        .step = body,                              \
        .traverse = sock_traverse,                 \
        .clear = sock_clear,                       \
    }

SOCK_SPEC(sock_recv, recv_step);
SOCK_SPEC(sock_recv_into, recv_into_step);
SOCK_SPEC(sock_sendall, sendall_step);
SOCK_SPEC(sock_connect, connect_step);
SOCK_SPEC(sock_accept, accept_step);
SOCK_SPEC(sock_recvfrom, recvfrom_step);
SOCK_SPEC(sock_recvfrom_into, recvfrom_into_step);
SOCK_SPEC(sock_sendto, sendto_step);

/* ---- Methods ------------------------------------------------------------------------------------- */

static PyObject *
sock_coroutine(PyObject *loop, const corolla_coro_spec *spec, const corolla_signature *sig, PyObject *const *args,
               Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *out[3] = {NULL, NULL, NULL};
    if (corolla_unpack(sig, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co != NULL) {
        SockState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
        st->sock = Py_NewRef(out[0]);
        st->fd = -1;
        st->arg = Py_XNewRef(out[1]);
        st->rest = Py_XNewRef(out[2]);
    }
    return (PyObject *)co;
}

#define SOCK_METHOD(call, required, count, ...)                                                              \
    static const char *const call##_names[] = {__VA_ARGS__, NULL};                                           \
    static const corolla_signature call##_sig = {#call, call##_names, required, count, NULL};                \
    static PyObject *loop_##call(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
    {                                                                                                        \
        return sock_coroutine(loop, &call##_spec, &call##_sig, args, nargs, kwnames);                        \
    }

SOCK_METHOD(sock_recv, 2, 2, "sock", "n")
SOCK_METHOD(sock_recv_into, 2, 2, "sock", "buf")
SOCK_METHOD(sock_sendall, 2, 2, "sock", "data")
SOCK_METHOD(sock_connect, 2, 2, "sock", "address")
SOCK_METHOD(sock_accept, 1, 1, "sock")
SOCK_METHOD(sock_recvfrom, 2, 2, "sock", "bufsize")
SOCK_METHOD(sock_recvfrom_into, 2, 3, "sock", "buf", "nbytes")
SOCK_METHOD(sock_sendto, 3, 3, "sock", "data", "address")

PyDoc_STRVAR(sock_recv_doc, "sock_recv($self, sock, n)\n--\n\n"
                            "Up to n bytes from a non-blocking socket, as soon as there are any; b'' at its end.");
PyDoc_STRVAR(sock_recv_into_doc, "sock_recv_into($self, sock, buf)\n--\n\n"
                                 "The same into a writable buffer; gives how many bytes came.");
PyDoc_STRVAR(sock_sendall_doc, "sock_sendall($self, sock, data)\n--\n\n"
                               "Send all of a buffer through a non-blocking socket.");
PyDoc_STRVAR(sock_connect_doc, "sock_connect($self, sock, address)\n--\n\n"
                               "Connect a non-blocking socket to an address; names are looked up.");
PyDoc_STRVAR(sock_accept_doc, "sock_accept($self, sock)\n--\n\n"
                              "Accept a connection: (conn, address), conn a non-blocking socket.");

PyDoc_STRVAR(sock_recvfrom_doc, "sock_recvfrom($self, sock, bufsize)\n--\n\n"
                                "A datagram of up to bufsize bytes, and where it came from: (data, address).\n\n"
                                "Specified by asyncio.loop.sock_recvfrom().");
PyDoc_STRVAR(sock_recvfrom_into_doc,
             "sock_recvfrom_into($self, sock, buf, nbytes=0)\n--\n\n"
             "A datagram of up to nbytes bytes (0: all the room there is) into buf: (count, address).\n\n"
             "Specified by asyncio.loop.sock_recvfrom_into().");
PyDoc_STRVAR(sock_sendto_doc, "sock_sendto($self, sock, data, address)\n--\n\n"
                              "Send a datagram through a non-blocking socket; gives how many bytes were sent.\n\n"
                              "Specified by asyncio.loop.sock_sendto().");

#define SOCK_ENTRY(call)                                                                           \
    {                                                                                              \
#call, (PyCFunction)(void (*)(void))loop_##call, METH_FASTCALL | METH_KEYWORDS, call##_doc \
    }

PyMethodDef corolla_loop_sock_methods[] = {
    SOCK_ENTRY(sock_recv),          SOCK_ENTRY(sock_recv_into), SOCK_ENTRY(sock_sendall),
    SOCK_ENTRY(sock_connect),       SOCK_ENTRY(sock_accept),    SOCK_ENTRY(sock_recvfrom),
    SOCK_ENTRY(sock_recvfrom_into), SOCK_ENTRY(sock_sendto),    {NULL, NULL, 0, NULL},
};
