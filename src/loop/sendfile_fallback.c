/* sendfile() where the kernel cannot do it: blocks are read in the default executor and written. */
#include "sendfile.h"

#include <errno.h>

/* asyncio's sizes. */
enum { SOCKET_BLOCK = 256 * 1024, TRANSPORT_BLOCK = 16 * 1024 };

/* ---- The protocol that stands in for the transport's own ------------------------------------------ */

typedef struct SendfileProtocol {
    PyObject_HEAD
    corolla_state *state; /* borrowed */
    PyObject *loop;       /* owned */
    PyObject *transport;  /* owned */
    PyObject *protocol;   /* owned: the transport's own */
    PyObject *waiter;     /* owned: while writing is paused, a future, or NULL */
    bool resume_reading, resume_writing;
} SendfileProtocol;

static PyObject *
protocol_connection_made(PyObject *self, PyObject *transport)
{
    PyErr_SetString(PyExc_RuntimeError, "Invalid state: connection should have been established already.");
    return NULL;
}

static PyObject *
protocol_connection_lost(PyObject *self, PyObject *exc)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    if (p->waiter != NULL) {
        /* That all has been sent by now is nothing the sender could know. */
        if (exc == Py_None) {
            PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
        }
        else {
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        }
        if (corolla_future_complete(p->waiter, NULL) < 0) {
            return NULL;
        }
    }
    if (p->protocol == NULL) {
        Py_RETURN_NONE; /* cleared by the collector */
    }
    return PyObject_CallMethodOneArg(p->protocol, p->state->s.connection_lost, exc);
}

static PyObject *
protocol_pause_writing(PyObject *self, PyObject *unused)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    if (p->waiter == NULL) {
        p->waiter = corolla_future_new(loop_core(p->loop));
        if (p->waiter == NULL) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
protocol_resume_writing(PyObject *self, PyObject *unused)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    PyObject *waiter = p->waiter;
    p->waiter = NULL;
    int rc = waiter == NULL ? 0 : corolla_future_complete(waiter, Py_False);
    Py_XDECREF(waiter);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
protocol_nothing_read(PyObject *self, PyObject *unused)
{
    PyErr_SetString(PyExc_RuntimeError, "Invalid state: reading should be paused");
    return NULL;
}

static PyMethodDef protocol_methods[] = {
    {"connection_made", protocol_connection_made, METH_O, NULL},
    {"connection_lost", protocol_connection_lost, METH_O, NULL},
    {"pause_writing", protocol_pause_writing, METH_NOARGS, NULL},
    {"resume_writing", protocol_resume_writing, METH_NOARGS, NULL},
    {"data_received", protocol_nothing_read, METH_O, NULL},
    {"eof_received", protocol_nothing_read, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int
protocol_traverse(PyObject *self, visitproc visit, void *arg)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(p->loop);
    Py_VISIT(p->transport);
    Py_VISIT(p->protocol);
    Py_VISIT(p->waiter);
    return 0;
}

static int
protocol_clear(PyObject *self)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    Py_CLEAR(p->waiter);
    Py_CLEAR(p->protocol);
    Py_CLEAR(p->transport);
    return 0;
}

static void
protocol_dealloc(PyObject *self)
{
    SendfileProtocol *p = (SendfileProtocol *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = p->state;
    PyObject_GC_UnTrack(self);
    (void)protocol_clear(self);
    Py_XDECREF(p->loop);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyType_Slot protocol_slots[] = {
    {Py_tp_traverse, protocol_traverse},
    {Py_tp_clear, protocol_clear},
    {Py_tp_dealloc, protocol_dealloc},
    {Py_tp_methods, protocol_methods},
    {0, NULL},
};

static PyType_Spec protocol_spec = {
    .name = "corolla._core._SendfileProtocol",
    .basicsize = sizeof(SendfileProtocol),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = protocol_slots,
};

int
loop_sendfile_init(PyObject *module, corolla_state *state)
{
    PyObject *mode = PyImport_ImportModuleAttrString("asyncio.constants", "_SendfileMode");
    if (mode == NULL) {
        return -1;
    }
    state->sendfile_try_native = PyObject_GetAttrString(mode, "TRY_NATIVE");
    state->sendfile_fallback = PyObject_GetAttrString(mode, "FALLBACK");
    state->sendfile_unsupported = PyObject_GetAttrString(mode, "UNSUPPORTED");
    Py_DECREF(mode);
    state->sendfile_protocol_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &protocol_spec, state->asyncio_Protocol);
    return state->sendfile_try_native == NULL || state->sendfile_fallback == NULL ||
                   state->sendfile_unsupported == NULL || state->sendfile_protocol_type == NULL
               ? -1
               : 0;
}

/* transport.name() as a truth value: 1, 0 or -1. */
static int
ask_transport(PyObject *transport, const char *name)
{
    PyObject *answer = PyObject_CallMethod(transport, name, NULL);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* transport.name([arg]). 0 or -1. */
static int
tell_transport(PyObject *transport, const char *name, PyObject *arg)
{
    PyObject *done = PyObject_CallMethod(transport, name, arg == NULL ? NULL : "O", arg);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Takes the transport over. New reference or NULL, with the transport as it was. */
static SendfileProtocol *
protocol_new(PyObject *loop, PyObject *transport)
{
    corolla_state *state = loop_core(loop)->state;
    PyObject *paused = NULL;
    int found = PyObject_GetOptionalAttr(transport, state->s._protocol_paused, &paused);
    if (found <= 0) {
        if (found == 0) {
            PyErr_SetString(PyExc_TypeError, "transport should be _FlowControlMixin instance");
        }
        return NULL;
    }
    int resume_writing = PyObject_IsTrue(paused);
    Py_DECREF(paused);
    int resume_reading = resume_writing < 0 ? -1 : ask_transport(transport, "is_reading");
    PyObject *own = resume_reading < 0 ? NULL : PyObject_CallMethod(transport, "get_protocol", NULL);
    if (own == NULL) {
        return NULL;
    }
    SendfileProtocol *p = (SendfileProtocol *)state->sendfile_protocol_type->tp_alloc(state->sendfile_protocol_type, 0);
    if (p == NULL) {
        Py_DECREF(own);
        return NULL;
    }
    p->state = state;
    corolla_state_hold(state);
    p->loop = Py_NewRef(loop);
    p->transport = Py_NewRef(transport);
    p->protocol = own;
    p->resume_reading = resume_reading;
    p->resume_writing = resume_writing;
    if (resume_writing && (p->waiter = corolla_future_new(loop_core(loop))) == NULL) {
        goto fail;
    }
    if (tell_transport(transport, "pause_reading", NULL) < 0 ||
        tell_transport(transport, "set_protocol", (PyObject *)p) < 0) {
        goto fail;
    }
    return p;

fail:
    Py_DECREF(p);
    return NULL;
}

/* Gives the transport back. 0 or -1. */
static int
protocol_restore(SendfileProtocol *p)
{
    if (tell_transport(p->transport, "set_protocol", p->protocol) < 0 ||
        (p->resume_reading && tell_transport(p->transport, "resume_reading", NULL) < 0)) {
        return -1;
    }
    if (p->waiter != NULL && corolla_future_cancel(p->waiter, NULL) < 0) {
        return -1;
    }
    if (p->resume_writing) {
        PyObject *done = PyObject_CallMethodNoArgs(p->protocol, p->state->s.resume_writing);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    return 0;
}

/* ---- Blocks -------------------------------------------------------------------------------------------- */

typedef struct FallbackState {
    PyObject *loop;             /* owned */
    PyObject *target;           /* owned: a socket or a transport */
    PyObject *buffer;           /* owned: bytearray */
    PyObject *pending;          /* owned: what is awaited */
    SendfileProtocol *protocol; /* owned; NULL for a socket */
    FileRange range;
    long long start;
    Py_ssize_t block;
    bool seekable;
} FallbackState;

static int
fallback_traverse(void *state, visitproc visit, void *arg)
{
    FallbackState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->target);
    Py_VISIT(st->buffer);
    Py_VISIT(st->pending);
    Py_VISIT(st->protocol);
    return range_traverse(&st->range, visit, arg);
}

static void
fallback_clear(void *state)
{
    FallbackState *st = state;
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->pending);
    Py_CLEAR(st->buffer);
    Py_CLEAR(st->target);
    Py_CLEAR(st->loop);
    range_clear(&st->range);
}

static int
seek(corolla_state *state, PyObject *file, long long position)
{
    PyObject *number = PyLong_FromLongLong(position);
    PyObject *done = number == NULL ? NULL : PyObject_CallMethodOneArg(file, state->s.seek, number);
    Py_XDECREF(number);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether the exception being raised says that this is no file to seek in. */
static bool
cannot_seek(corolla_state *state)
{
    if (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(state->UnsupportedOperation)) {
        return true;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return false;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = ((PyOSErrorObject *)exc)->myerrno; /* borrowed */
    bool pipe = number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == ESPIPE;
    PyErr_SetRaisedException(exc);
    return pipe;
}

/* The file to the offset, 0 included. What cannot seek can only be sent from where it is, which is right for an offset
 * of 0. 0 or -1. */
static int
seek_first(corolla_state *state, FallbackState *st)
{
    if (seek(state, st->range.file, st->range.at) == 0) {
        st->seekable = true;
        return 0;
    }
    if (st->range.at != 0 || !cannot_seek(state)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static int
fallback_begin(corolla_state *state, FallbackState *st, Py_ssize_t block)
{
    FileRange *range = &st->range;
    if (range_parse(range) < 0 || seek_first(state, st) < 0) {
        return -1;
    }
    st->start = range->at;
    st->block = range->left > 0 && range->left < block ? (Py_ssize_t)range->left : block;
    st->buffer = PyByteArray_FromStringAndSize(NULL, st->block);
    return st->buffer == NULL ? -1 : 0;
}

/* memoryview(buffer)[:size], new reference or NULL. */
static PyObject *
view_block(FallbackState *st, Py_ssize_t size)
{
    PyObject *view = PyMemoryView_FromObject(st->buffer);
    PyObject *part = view == NULL ? NULL : PySequence_GetSlice(view, 0, size);
    Py_XDECREF(view);
    return part;
}

/* Has the next block read. 1: st->pending is to be awaited; 0: all that was asked for has been; -1. */
static int
read_block(corolla_state *state, FallbackState *st)
{
    FileRange *range = &st->range;
    if (range->left >= 0 && range->left < st->block) {
        st->block = (Py_ssize_t)range->left;
    }
    if (st->block <= 0) {
        return 0;
    }
    PyObject *view = view_block(st, st->block);
    PyObject *read = view == NULL ? NULL : PyObject_GetAttr(range->file, state->s.readinto);
    PyObject *args[] = {st->loop, Py_None, read, view};
    PyObject *pending = read == NULL ? NULL
                                     : PyObject_VectorcallMethod(state->s.run_in_executor, args,
                                                                 4 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(read);
    Py_XDECREF(view);
    Py_XSETREF(st->pending, pending);
    return pending == NULL ? -1 : 1;
}

/* What readinto() gave: bytes read, 0 at the end, or -1. */
static Py_ssize_t
block_size(FallbackState *st, PyObject *value)
{
    int some = PyObject_IsTrue(value);
    if (some <= 0) {
        return some;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (!PyErr_Occurred() && (n < 0 || n > PyByteArray_GET_SIZE(st->buffer))) {
        PyErr_Format(PyExc_ValueError, "readinto() returned %zd for %zd bytes", n, st->block);
    }
    return PyErr_Occurred() ? -1 : n;
}

static void
count_block(FileRange *range, Py_ssize_t n)
{
    range->sent += n;
    if (range->left > 0) {
        range->left -= n;
    }
}

/* The end, whatever it is: the file's position, and the transport back to its owner. ok: no exception is being raised. */
static corolla_step
fallback_end(corolla_coro *co, FallbackState *st, bool ok)
{
    PyObject *exc = ok ? NULL : PyErr_GetRaisedException();
    bool failed = st->range.sent > 0 && st->seekable && seek(co->state, st->range.file, st->start + st->range.sent) < 0;
    if (st->protocol != NULL) {
        PyObject *first = failed ? PyErr_GetRaisedException() : NULL;
        failed = protocol_restore(st->protocol) < 0 || failed;
        if (first != NULL) {
            PyErr_Clear();
            PyErr_SetRaisedException(first);
        }
    }
    if (exc != NULL) {
        PyErr_Clear(); /* what went wrong first is what is told */
        PyErr_SetRaisedException(exc);
        return COROLLA_RAISE;
    }
    return failed ? COROLLA_RAISE : corolla_return(co, PyLong_FromLongLong(st->range.sent));
}

/* ---- To a socket ------------------------------------------------------------------------------------------ */

static int
send_block(corolla_state *state, FallbackState *st, Py_ssize_t n)
{
    PyObject *view = view_block(st, n);
    PyObject *args[] = {st->loop, st->target, view};
    PyObject *pending =
        view == NULL ? NULL
                     : PyObject_VectorcallMethod(state->s.sock_sendall, args, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(view);
    Py_XSETREF(st->pending, pending);
    return pending == NULL ? -1 : 0;
}

static corolla_step
sock_fallback_step(corolla_coro *co, PyObject *value)
{
    FallbackState *st = corolla_coro_state(co);
    Py_ssize_t n;
    int more;
    COROLLA_BEGIN(co);
    if (fallback_begin(co->state, st, SOCKET_BLOCK) < 0) {
        return COROLLA_RAISE;
    }
    while ((more = read_block(co->state, st)) > 0) {
        COROLLA_AWAIT(co, st->pending);
        n = value == NULL ? -1 : block_size(st, value);
        if (n <= 0) {
            return fallback_end(co, st, n == 0);
        }
        st->block = n; /* so much is in the buffer */
        if (send_block(co->state, st, n) < 0) {
            return fallback_end(co, st, false);
        }
        COROLLA_AWAIT(co, st->pending);
        if (value == NULL) {
            return fallback_end(co, st, false);
        }
        count_block(&st->range, st->block);
        st->block = PyByteArray_GET_SIZE(st->buffer);
    }
    return fallback_end(co, st, more == 0);
    COROLLA_END(co);
}

/* ---- Over a transport ---------------------------------------------------------------------------------------- */

/* 1: st->pending is to be awaited before more is written; 0; or -1 with ConnectionError. */
static int
drain(FallbackState *st)
{
    int closing = ask_transport(st->target, "is_closing");
    if (closing > 0) {
        PyErr_SetString(PyExc_ConnectionError, "Connection closed by peer");
    }
    if (closing != 0) {
        return -1;
    }
    if (st->protocol->waiter == NULL) {
        return 0;
    }
    Py_XSETREF(st->pending, Py_NewRef(st->protocol->waiter));
    return 1;
}

/* As bytes of their own: the buffer will be read into again, and not every transport copies what it queues. The file has
 * seen the buffer, and may have made it smaller meanwhile. */
static int
write_block(FallbackState *st)
{
    if (st->block > PyByteArray_GET_SIZE(st->buffer)) {
        PyErr_SetString(PyExc_BufferError, "readinto() changed the size of the buffer");
        return -1;
    }
    PyObject *data = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(st->buffer), st->block);
    int rc = data == NULL ? -1 : tell_transport(st->target, "write", data);
    Py_XDECREF(data);
    return rc;
}

static corolla_step
transport_fallback_step(corolla_coro *co, PyObject *value)
{
    FallbackState *st = corolla_coro_state(co);
    Py_ssize_t n;
    int more;
    COROLLA_BEGIN(co);
    if (fallback_begin(co->state, st, TRANSPORT_BLOCK) < 0 ||
        (st->protocol = protocol_new(st->loop, st->target)) == NULL) {
        return COROLLA_RAISE;
    }
    while ((more = read_block(co->state, st)) > 0) {
        COROLLA_AWAIT(co, st->pending);
        n = value == NULL ? -1 : block_size(st, value);
        if (n <= 0) {
            return fallback_end(co, st, n == 0);
        }
        st->block = n; /* so much is in the buffer */
        more = drain(st);
        if (more > 0) {
            COROLLA_AWAIT(co, st->pending);
            more = value == NULL ? -1 : 0;
        }
        if (more < 0 || write_block(st) < 0) {
            return fallback_end(co, st, false);
        }
        count_block(&st->range, st->block);
        st->block = PyByteArray_GET_SIZE(st->buffer);
    }
    return fallback_end(co, st, more == 0);
    COROLLA_END(co);
}

static const corolla_coro_spec sock_fallback_spec = {
    .name = "_sock_sendfile_fallback",
    .qualname = "EventLoop._sock_sendfile_fallback",
    .size = sizeof(FallbackState),
    .step = sock_fallback_step,
    .traverse = fallback_traverse,
    .clear = fallback_clear,
};

static const corolla_coro_spec transport_fallback_spec = {
    .name = "_sendfile_fallback",
    .qualname = "EventLoop._sendfile_fallback",
    .size = sizeof(FallbackState),
    .step = transport_fallback_step,
    .traverse = fallback_traverse,
    .clear = fallback_clear,
};

static PyObject *
fallback_new(PyObject *loop, PyObject *target, const FileRange *range, const corolla_coro_spec *spec)
{
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co != NULL) {
        FallbackState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
        st->target = Py_NewRef(target);
        st->range.file = Py_NewRef(range->file);
        st->range.offset = Py_NewRef(range->offset);
        st->range.count = Py_NewRef(range->count);
    }
    return (PyObject *)co;
}

PyObject *
sendfile_fallback(PyObject *loop, PyObject *sock, const FileRange *range)
{
    return fallback_new(loop, sock, range, &sock_fallback_spec);
}

PyObject *
sendfile_transport_fallback(PyObject *loop, PyObject *transport, const FileRange *range)
{
    return fallback_new(loop, transport, range, &transport_fallback_spec);
}
