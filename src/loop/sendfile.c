/* sock_sendfile() and sendfile(): a file to a socket without a copy, by sendfile(2); where the file or the transport
 * cannot do that, by the fallback.
 *
 * The methods that try it natively are there under asyncio's names, _sendfile_native() and _sock_sendfile_native(), and
 * are called as methods, so that they can be replaced. */
#include "endpoint.h"
#include "sendfile.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* The most that Linux sends in one call. */
enum { MOST_AT_ONCE = 0x7ffff000 };

#define BAD_COUNT "count must be a positive integer (got %R)"

int
range_traverse(FileRange *range, visitproc visit, void *arg)
{
    Py_VISIT(range->file);
    Py_VISIT(range->offset);
    Py_VISIT(range->count);
    return 0;
}

void
range_clear(FileRange *range)
{
    Py_CLEAR(range->file);
    Py_CLEAR(range->offset);
    Py_CLEAR(range->count);
}

int
range_parse(FileRange *range)
{
    int overflow = 0;
    range->at = PyLong_AsLongLong(range->offset);
    if (range->at == -1 && PyErr_Occurred()) {
        return -1;
    }
    range->left = -1;
    if (range->count != Py_None) {
        range->left = PyLong_AsLongLongAndOverflow(range->count, &overflow);
        if (range->left == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (overflow > 0) {
            range->left = LLONG_MAX;
        }
        else if (overflow < 0 || range->left <= 0) {
            PyErr_Format(PyExc_ValueError, BAD_COUNT, range->count);
            return -1;
        }
    }
    return 0;
}

/* ---- The checks ------------------------------------------------------------------------------ */

static int
check_mode(corolla_state *state, PyObject *file)
{
    PyObject *mode = NULL;
    int found = PyObject_GetOptionalAttr(file, state->s.mode, &mode);
    if (found <= 0) {
        return found;
    }
    PyObject *letter = PyUnicode_FromString("b");
    int binary = letter == NULL ? -1 : PySequence_Contains(mode, letter);
    Py_XDECREF(letter);
    Py_DECREF(mode);
    if (binary == 0) {
        PyErr_SetString(PyExc_ValueError, "file should be opened in binary mode");
    }
    return binary > 0 ? 0 : -1;
}

static int
check_stream(corolla_state *state, PyObject *sock)
{
    PyObject *type = PyObject_GetAttr(sock, state->s.type);
    PyObject *stream = type == NULL ? NULL : PyLong_FromLong(SOCK_STREAM);
    int equal = stream == NULL ? -1 : PyObject_RichCompareBool(type, stream, Py_EQ);
    Py_XDECREF(type);
    Py_XDECREF(stream);
    if (equal == 0) {
        PyErr_SetString(PyExc_ValueError, "only SOCK_STREAM type sockets are supported");
    }
    return equal > 0 ? 0 : -1;
}

/* An int that is at least so much. 0 or -1. */
static int
check_number(PyObject *number, long least, const char *message)
{
    if (!PyLong_Check(number)) {
        PyErr_Format(PyExc_TypeError, message, number);
        return -1;
    }
    int overflow = 0;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow < 0 || (overflow == 0 && value < least)) {
        PyErr_Format(PyExc_ValueError, message, number);
        return -1;
    }
    return 0;
}

/* sock: NULL for a transport of ours, which is a stream. 0 or -1. */
static int
check_parameters(corolla_state *state, PyObject *sock, FileRange *range)
{
    if (check_mode(state, range->file) < 0 || (sock != NULL && check_stream(state, sock) < 0)) {
        return -1;
    }
    if (range->count != Py_None && check_number(range->count, 1, BAD_COUNT) < 0) {
        return -1;
    }
    return check_number(range->offset, 0, "offset must be a non-negative integer (got %R)");
}

/* In debug mode: ValueError for a socket that blocks. 0 or -1. */
static int
check_nonblocking(PyObject *loop, PyObject *sock)
{
    corolla_core *core = loop_core(loop);
    if (!core->debug) {
        return 0;
    }
    PyObject *timeout = PyObject_CallMethodNoArgs(sock, core->state->s.gettimeout);
    PyObject *zero = timeout == NULL ? NULL : PyLong_FromLong(0);
    int blocking = zero == NULL ? -1 : PyObject_RichCompareBool(timeout, zero, Py_NE);
    Py_XDECREF(timeout);
    Py_XDECREF(zero);
    if (blocking > 0) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    }
    return blocking == 0 ? 0 : -1;
}

/* ---- Natively ---------------------------------------------------------------------------------- */

typedef struct NativeState {
    loop_wait wait;   /* of a socket */
    PyObject *loop;   /* owned */
    PyObject *target; /* owned: a socket or a transport */
    PyObject *room;   /* owned: what is awaited of a transport */
    FileRange range;
    long long size; /* of the file, when it was begun */
    bool begun;     /* the transport is ours until the end */
    bool waited;
} NativeState;

typedef enum { FAILED = -1, DONE, AGAIN } Attempt;

static int
native_traverse(void *state, visitproc visit, void *arg)
{
    NativeState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->target);
    Py_VISIT(st->room);
    return range_traverse(&st->range, visit, arg);
}

static void
native_clear(void *state)
{
    NativeState *st = state;
    loop_wait_stop(&st->wait);
    if (st->begun) {
        st->begun = false;
        corolla_sendfile_end(st->target);
    }
    Py_CLEAR(st->room);
    Py_CLEAR(st->target);
    Py_CLEAR(st->loop);
    range_clear(&st->range);
}

/* SendfileNotAvailableError, with the exception being raised as its context. */
static void
raise_not_available(corolla_state *state, const char *message)
{
    PyObject *context = PyErr_GetRaisedException();
    PyErr_SetString(state->SendfileNotAvailableError, message);
    PyObject *exc = PyErr_GetRaisedException();
    if (context != NULL) {
        PyException_SetContext(exc, context);
    }
    PyErr_SetRaisedException(exc);
}

/* The file's descriptor; -1 with SendfileNotAvailableError where there is none. */
static int
file_descriptor(corolla_state *state, PyObject *file)
{
    PyObject *number = PyObject_CallMethodNoArgs(file, state->s.fileno);
    if (number == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(state->UnsupportedOperation)) {
            raise_not_available(state, "not a regular file");
        }
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    return fd < 0 || fd > INT_MAX ? INT_MAX : (int)fd; /* what is none fails where it is used */
}

/* 1: there is something to send; 0: nothing at all; -1. */
static int
native_begin(corolla_state *state, NativeState *st)
{
    struct stat info;
    int fd = file_descriptor(state, st->range.file);
    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, &info) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        raise_not_available(state, "not a regular file");
        return -1;
    }
    st->size = (long long)info.st_size;
    if (st->range.left < 0 && st->size == 0) {
        return 0;
    }
    return 1;
}

/* What the file's position is after it: where the sending stopped. Keeps an exception being raised. */
static void
update_position(corolla_state *state, NativeState *st)
{
    if (st->range.sent == 0) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int fd = file_descriptor(state, st->range.file);
    if (fd >= 0) {
        (void)lseek(fd, (off_t)st->range.at, SEEK_SET);
    }
    PyErr_Clear();
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* A call that failed for good. As asyncio has it: before the first byte, this file cannot be sent so. */
static void
native_failed(corolla_state *state, NativeState *st, int err)
{
    errno = err;
    PyErr_SetFromErrno(PyExc_OSError);
    if (st->range.sent == 0) {
        raise_not_available(state, "os.sendfile call failed");
    }
    else if (err == ENOTCONN && st->waited) {
        PyObject *cause = PyErr_GetRaisedException();
        PyObject *exc = PyObject_CallFunction(PyExc_ConnectionError, "si", "socket is not connected", ENOTCONN);
        if (exc == NULL) {
            Py_DECREF(cause);
            return;
        }
        PyException_SetCause(exc, cause);
        PyErr_SetRaisedException(exc);
    }
}

/* Sends what the kernel takes now. */
static Attempt
send_some(corolla_state *state, NativeState *st, int out)
{
    FileRange *range = &st->range;
    while (range->left != 0) {
        int in = file_descriptor(state, range->file);
        if (in < 0) {
            return FAILED;
        }
        off_t at = (off_t)range->at;
        size_t asked = range->left < 0 || range->left > MOST_AT_ONCE ? MOST_AT_ONCE : (size_t)range->left;
        ssize_t n;
        Py_BEGIN_ALLOW_THREADS /* the file may have to come from a disk first */
        n = corolla_sendfile(out, in, &at, asked);
        Py_END_ALLOW_THREADS
        if (n == -EAGAIN || n == -EINTR) {
            return AGAIN;
        }
        if (n < 0) {
            native_failed(state, st, (int)-n);
            return FAILED;
        }
        if (n == 0) {
            break;
        }
        range->at += n;
        range->sent += n;
        if (range->left > 0) {
            range->left -= n;
        }
        if (range->left > 0 || (range->left < 0 && range->at < st->size)) {
            return AGAIN; /* it took less than there is: it is full, and others want their turn */
        }
    }
    return DONE;
}

/* The socket's descriptor as it is now. -1 with an exception; what is closed is INT_MAX, which fails as such. */
static int
socket_descriptor(corolla_state *state, PyObject *sock)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, state->s.fileno);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -1;
    }
    return fd < 0 || fd > INT_MAX ? INT_MAX : (int)fd;
}

static corolla_step
native_end(corolla_coro *co, NativeState *st, Attempt done)
{
    update_position(co->state, st);
    return done == DONE ? corolla_return(co, PyLong_FromLongLong(st->range.sent)) : COROLLA_RAISE;
}

static corolla_step
sock_native_step(corolla_coro *co, PyObject *value)
{
    NativeState *st = corolla_coro_state(co);
    Attempt done = DONE;
    int fd, some;
    COROLLA_BEGIN(co);
    some = range_parse(&st->range) < 0 ? -1 : native_begin(co->state, st);
    if (some < 0) {
        return COROLLA_RAISE;
    }
    while (some > 0) {
        fd = socket_descriptor(co->state, st->target);
        done = fd < 0 ? FAILED : send_some(co->state, st, fd);
        if (done == AGAIN && loop_wait_start((LoopObject *)st->loop, &st->wait, fd, COROLLA_WRITABLE, NULL) < 0) {
            done = FAILED;
        }
        if (done != AGAIN) {
            break;
        }
        COROLLA_AWAIT(co, st->wait.future);
        loop_wait_stop(&st->wait);
        if (value == NULL) {
            return native_end(co, st, FAILED);
        }
        st->waited = true;
        some = 1;
    }
    return native_end(co, st, done);
    COROLLA_END(co);
}

/* Sends what a transport's descriptor takes; waits for what the transport has queued before. */
static Attempt
send_past(corolla_state *state, NativeState *st)
{
    int fd = corolla_sendfile_descriptor(st->target);
    if (fd < 0) {
        PyErr_SetString(PyExc_ConnectionError, "Connection is closed");
        return FAILED;
    }
    Attempt done = corolla_sendfile_may_go(st->target) ? send_some(state, st, fd) : AGAIN;
    if (done == FAILED && PyErr_ExceptionMatches(PyExc_ConnectionError)) {
        corolla_sendfile_broken(st->target); /* reading is paused: nothing else would tell */
    }
    if (done == AGAIN) {
        Py_XSETREF(st->room, corolla_sendfile_room(st->target));
        if (st->room == NULL) {
            return FAILED;
        }
    }
    return done;
}

static corolla_step
transport_native_step(corolla_coro *co, PyObject *value)
{
    NativeState *st = corolla_coro_state(co);
    Attempt done = DONE;
    int some;
    COROLLA_BEGIN(co);
    if (!corolla_transport_sends_files(co->state, st->target)) {
        PyErr_SetString(co->state->SendfileNotAvailableError, "sendfile syscall is not supported");
        return COROLLA_RAISE;
    }
    if (corolla_sendfile_begin(st->target) < 0) {
        return COROLLA_RAISE;
    }
    st->begun = true; /* clear ends it */
    some = check_parameters(co->state, NULL, &st->range) < 0 || range_parse(&st->range) < 0
               ? -1
               : native_begin(co->state, st);
    if (some < 0) {
        return COROLLA_RAISE;
    }
    while (some > 0 && (done = send_past(co->state, st)) == AGAIN) {
        COROLLA_AWAIT(co, st->room);
        if (value == NULL) {
            return native_end(co, st, FAILED);
        }
        st->waited = true;
        some = 1;
    }
    return native_end(co, st, done);
    COROLLA_END(co);
}

/* ---- The coroutines ------------------------------------------------------------------------------ */

typedef struct SendfileState {
    PyObject *loop;     /* owned */
    PyObject *target;   /* owned: a socket or a transport */
    PyObject *pending;  /* owned: the coroutine that is awaited */
    PyObject *fallback; /* owned, as given */
    FileRange range;
} SendfileState;

static int
sendfile_traverse(void *state, visitproc visit, void *arg)
{
    SendfileState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->target);
    Py_VISIT(st->pending);
    Py_VISIT(st->fallback);
    return range_traverse(&st->range, visit, arg);
}

static void
sendfile_clear(void *state)
{
    SendfileState *st = state;
    Py_CLEAR(st->pending);
    Py_CLEAR(st->fallback);
    Py_CLEAR(st->target);
    Py_CLEAR(st->loop);
    range_clear(&st->range);
}

/* loop.name(target, file, offset, count), to be awaited. 0 or -1. */
static int
call_native(SendfileState *st, PyObject *name)
{
    PyObject *args[] = {st->loop, st->target, st->range.file, st->range.offset, st->range.count};
    st->pending = PyObject_VectorcallMethod(name, args, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return st->pending == NULL ? -1 : 0;
}

/* After the native way has raised: 1 if the fallback is to be tried, 0 if not, or -1; an exception stays but for 1. */
static int
wants_fallback(corolla_state *state, SendfileState *st)
{
    if (!PyErr_ExceptionMatches(state->SendfileNotAvailableError)) {
        return 0;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int wanted = PyObject_IsTrue(st->fallback);
    if (wanted == 0) {
        PyErr_SetRaisedException(exc);
        return 0;
    }
    Py_DECREF(exc);
    return wanted;
}

static corolla_step
sock_sendfile_step(corolla_coro *co, PyObject *value)
{
    SendfileState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (check_nonblocking(st->loop, st->target) < 0 || endpoint_refuse_ssl_socket(st->target) < 0 ||
        check_parameters(co->state, st->target, &st->range) < 0 ||
        call_native(st, co->state->s._sock_sendfile_native) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->pending);
    if (value != NULL) {
        return corolla_return(co, Py_NewRef(value));
    }
    if (wants_fallback(co->state, st) <= 0) {
        return COROLLA_RAISE;
    }
    Py_XSETREF(st->pending, sendfile_fallback(st->loop, st->target, &st->range));
    if (st->pending == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->pending);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));
    COROLLA_END(co);
}

/* How files go over a transport: 1 natively, 0 by the fallback, -1 not at all (RuntimeError). */
static int
sendfile_mode(corolla_state *state, PyObject *transport)
{
    PyObject *closing = PyObject_CallMethod(transport, "is_closing", NULL);
    int is_closing = closing == NULL ? -1 : PyObject_IsTrue(closing);
    Py_XDECREF(closing);
    if (is_closing > 0) {
        PyErr_SetString(PyExc_RuntimeError, "Transport is closing");
    }
    if (is_closing != 0) {
        return -1;
    }
    PyObject *mode = NULL;
    if (PyObject_GetOptionalAttr(transport, state->s._sendfile_compatible, &mode) < 0) {
        return -1;
    }
    int rc = mode == state->sendfile_try_native ? 1 : 0;
    if (mode == NULL || mode == state->sendfile_unsupported) {
        PyErr_Format(PyExc_RuntimeError, "sendfile is not supported for transport %R", transport);
        rc = -1;
    }
    Py_XDECREF(mode);
    return rc;
}

/* 0, or -1 where the fallback is the only way and was not wanted. */
static int
check_fallback(SendfileState *st)
{
    int wanted = PyObject_IsTrue(st->fallback);
    if (wanted == 0) {
        /* asyncio raises RuntimeError, of which this is one, and documents this. */
        PyErr_Format(loop_core(st->loop)->state->SendfileNotAvailableError,
                     "fallback is disabled and native sendfile is not supported for transport %R", st->target);
    }
    return wanted > 0 ? 0 : -1;
}

static corolla_step
sendfile_step(corolla_coro *co, PyObject *value)
{
    SendfileState *st = corolla_coro_state(co);
    int mode;
    COROLLA_BEGIN(co);
    mode = sendfile_mode(co->state, st->target);
    if (mode < 0) {
        return COROLLA_RAISE;
    }
    if (mode > 0) {
        if (call_native(st, co->state->s._sendfile_native) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->pending);
        if (value != NULL) {
            return corolla_return(co, Py_NewRef(value));
        }
        if (wants_fallback(co->state, st) <= 0) {
            return COROLLA_RAISE;
        }
    }
    else if (check_fallback(st) < 0) {
        return COROLLA_RAISE;
    }
    Py_XSETREF(st->pending, sendfile_transport_fallback(st->loop, st->target, &st->range));
    if (st->pending == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->pending);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));
    COROLLA_END(co);
}

#define SENDFILE_SPEC(call, kind, State, body)     \
    static const corolla_coro_spec call##_spec = { \
        .name = #call,                             \
        .qualname = "EventLoop." #call,            \
        .size = sizeof(State),                     \
        .step = body,                              \
        .traverse = kind##_traverse,               \
        .clear = kind##_clear,                     \
    }

SENDFILE_SPEC(sock_sendfile, sendfile, SendfileState, sock_sendfile_step);
SENDFILE_SPEC(sendfile, sendfile, SendfileState, sendfile_step);
SENDFILE_SPEC(_sock_sendfile_native, native, NativeState, sock_native_step);
SENDFILE_SPEC(_sendfile_native, native, NativeState, transport_native_step);

/* ---- Methods ---------------------------------------------------------------------------------------- */

/* file, offset and count as given; offset NULL for 0, count NULL for None. 0 or -1. */
static int
range_init(FileRange *range, PyObject *const *given)
{
    range->offset = given[1] == NULL ? PyLong_FromLong(0) : Py_NewRef(given[1]);
    range->file = Py_NewRef(given[0]);
    range->count = Py_NewRef(given[2] == NULL ? Py_None : given[2]);
    return range->offset == NULL ? -1 : 0;
}

static PyObject *
make_sendfile(PyObject *loop, const corolla_coro_spec *spec, const char *target, PyObject *const *args,
              Py_ssize_t nargs, PyObject *kwnames)
{
    const char *const names[] = {target, "file", "offset", "count", "fallback", NULL};
    const corolla_signature signature = {spec->name, names, 2, 4, NULL};
    PyObject *given[5];
    if (loop_check(loop) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co == NULL) {
        return NULL;
    }
    SendfileState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(loop);
    st->target = Py_NewRef(given[0]);
    st->fallback = Py_NewRef(given[4] == NULL ? Py_True : given[4]);
    if (range_init(&st->range, given + 1) < 0) {
        Py_CLEAR(co);
    }
    return (PyObject *)co;
}

static PyObject *
make_native(PyObject *loop, const corolla_coro_spec *spec, const char *target, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    const char *const names[] = {target, "file", "offset", "count", NULL};
    const corolla_signature signature = {spec->name, names, 4, 4, NULL};
    PyObject *given[4];
    if (loop_check(loop) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co == NULL) {
        return NULL;
    }
    NativeState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(loop);
    st->target = Py_NewRef(given[0]);
    if (range_init(&st->range, given + 1) < 0) {
        Py_CLEAR(co);
    }
    return (PyObject *)co;
}

#define SENDFILE_METHOD(call, make, target)                                                                  \
    static PyObject *loop_##call(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) \
    {                                                                                                        \
        return make(loop, &call##_spec, target, args, nargs, kwnames);                                       \
    }

SENDFILE_METHOD(sock_sendfile, make_sendfile, "sock")
SENDFILE_METHOD(sendfile, make_sendfile, "transport")
SENDFILE_METHOD(_sock_sendfile_native, make_native, "sock")
SENDFILE_METHOD(_sendfile_native, make_native, "transp")

PyDoc_STRVAR(
    sock_sendfile_doc,
    "sock_sendfile($self, sock, file, offset=0, count=None, *, fallback=True)\n--\n\n"
    "Send a file through a non-blocking stream socket; gives how many bytes were sent. A coroutine.\n\n"
    "file: a regular file opened in binary mode, whose position is where the sending stopped afterwards. offset: "
    "the\nfirst byte to send. count: so many at most; None for all. fallback: read and send where sendfile(2) "
    "is of no\nuse, else SendfileNotAvailableError. TypeError and ValueError for arguments out of range. "
    "Specified by\nasyncio.loop.sock_sendfile().");
PyDoc_STRVAR(sendfile_doc,
             "sendfile($self, transport, file, offset=0, count=None, *, fallback=True)\n--\n\n"
             "Send a file over a transport, behind what was written before; gives how many bytes were sent. A "
             "coroutine.\n\n"
             "Arguments as for sock_sendfile(). While it runs nothing is read, and write() raises RuntimeError. "
             "RuntimeError for\na transport that is closing or cannot send files; SendfileNotAvailableError as "
             "there. Specified by\nasyncio.loop.sendfile().");
PyDoc_STRVAR(_sock_sendfile_native_doc, "_sock_sendfile_native($self, sock, file, offset, count)\n--\n\n"
                                        "sock_sendfile() by sendfile(2) only, without its checks.");
PyDoc_STRVAR(_sendfile_native_doc, "_sendfile_native($self, transp, file, offset, count)\n--\n\n"
                                   "sendfile() by sendfile(2) only.");

#define SENDFILE_ENTRY(call)                                                                       \
    {                                                                                              \
#call, (PyCFunction)(void (*)(void))loop_##call, METH_FASTCALL | METH_KEYWORDS, call##_doc \
    }

PyMethodDef corolla_loop_sendfile_methods[] = {
    SENDFILE_ENTRY(sock_sendfile),    SENDFILE_ENTRY(sendfile), SENDFILE_ENTRY(_sock_sendfile_native),
    SENDFILE_ENTRY(_sendfile_native), {NULL, NULL, 0, NULL},
};
