/* connect_read_pipe() and connect_write_pipe(). */
#include "loop.h"
#include "endpoint.h"

typedef struct PipeState {
    PyObject *loop;     /* owned */
    PyObject *factory;  /* owned */
    PyObject *pipe;     /* owned */
    PyObject *protocol; /* owned, each, from the first step on */
    PyObject *waiter;
    PyObject *transport;
} PipeState;

static int
pipe_state_traverse(void *state, visitproc visit, void *arg)
{
    PipeState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->factory);
    Py_VISIT(st->pipe);
    Py_VISIT(st->protocol);
    Py_VISIT(st->waiter);
    Py_VISIT(st->transport);
    return 0;
}

static void
pipe_state_clear(void *state)
{
    PipeState *st = state;
    Py_CLEAR(st->transport);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->pipe);
    Py_CLEAR(st->factory);
    Py_CLEAR(st->loop);
}

/* pipe.fileno(): -1 with an exception. */
static int
pipe_fileno(corolla_state *state, PyObject *pipe)
{
    PyObject *number = PyObject_CallMethodNoArgs(pipe, state->s.fileno);
    if (number == NULL) {
        return -1;
    }
    int overflow = 0;
    long fd = PyLong_Check(number) ? PyLong_AsLongAndOverflow(number, &overflow) : PyObject_AsFileDescriptor(number);
    if ((fd < 0 || fd > INT_MAX || overflow != 0) && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
    }
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : (int)fd;
}

typedef PyObject *(*new_pipe_fn)(corolla_core *core, const corolla_pipe_options *options);

/* 0 or -1. */
static int
make_transport(PipeState *st, new_pipe_fn new_pipe)
{
    corolla_core *core = loop_core(st->loop);
    st->protocol = PyObject_CallNoArgs(st->factory);
    if (st->protocol == NULL || loop_check(st->loop) < 0) {
        return -1;
    }
    st->waiter = corolla_future_new(core);
    int fd = st->waiter == NULL ? -1 : pipe_fileno(core->state, st->pipe);
    PyObject *context = fd < 0 ? NULL : PyContext_CopyCurrent();
    if (context == NULL) {
        return -1;
    }
    corolla_pipe_options options = {
        .fd = fd,
        .pipe = st->pipe,
        .protocol = st->protocol,
        .context = context,
        .waiter = st->waiter,
    };
    st->transport = new_pipe(core, &options);
    Py_DECREF(context);
    return st->transport == NULL ? -1 : 0;
}

static void
log_connected(PipeState *st, const char *format)
{
    corolla_core *core = loop_core(st->loop);
    if (!core->debug) {
        return;
    }
    PyObject *number = PyObject_CallMethodNoArgs(st->pipe, core->state->s.fileno);
    PyObject *args = number == NULL ? NULL : PyTuple_Pack(3, number, st->transport, st->protocol);
    Py_XDECREF(number);
    endpoint_log(core, "debug", format, args);
}

static corolla_step
pipe_step(corolla_coro *co, PyObject *value, new_pipe_fn new_pipe, const char *format)
{
    PipeState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (make_transport(st, new_pipe) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL) {
        corolla_pipe_discard(st->transport);
        return COROLLA_RAISE;
    }
    log_connected(st, format);
    return corolla_return(co, PyTuple_Pack(2, st->transport, st->protocol));
    COROLLA_END(co);
}

static corolla_step
read_step(corolla_coro *co, PyObject *value)
{
    return pipe_step(co, value, corolla_read_pipe_new, "Read pipe %r connected: (%r, %r)");
}

static corolla_step
write_step(corolla_coro *co, PyObject *value)
{
    return pipe_step(co, value, corolla_write_pipe_new, "Write pipe %r connected: (%r, %r)");
}

#define PIPE_SPEC(call, body)                      \
    static const corolla_coro_spec call##_spec = { \
        .name = #call,                             \
        .qualname = "EventLoop." #call,            \
        .size = sizeof(PipeState),                 \
        .step = body,                              \
        .traverse = pipe_state_traverse,           \
        .clear = pipe_state_clear,                 \
    }

PIPE_SPEC(connect_read_pipe, read_step);
PIPE_SPEC(connect_write_pipe, write_step);

static PyObject *
connect_pipe(PyObject *loop, const corolla_coro_spec *spec, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"protocol_factory", "pipe", NULL};
    const corolla_signature signature = {spec->name, names, 2, 2, NULL};
    PyObject *given[2];
    if (loop_check(loop) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co != NULL) {
        PipeState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
        st->factory = Py_NewRef(given[0]);
        st->pipe = Py_NewRef(given[1]);
    }
    return (PyObject *)co;
}

static PyObject *
connect_read_pipe(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return connect_pipe(loop, &connect_read_pipe_spec, args, nargs, kwnames);
}

static PyObject *
connect_write_pipe(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return connect_pipe(loop, &connect_write_pipe_spec, args, nargs, kwnames);
}

PyDoc_STRVAR(
    connect_read_pipe_doc,
    "connect_read_pipe($self, protocol_factory, pipe)\n--\n\n"
    "Read from the file object pipe: a (transport, protocol) pair. A coroutine.\n\n"
    "pipe is a pipe, a FIFO, a socket or a character device; the transport closes it. ValueError for anything\n"
    "else. Specified by asyncio.loop.connect_read_pipe().");
PyDoc_STRVAR(
    connect_write_pipe_doc,
    "connect_write_pipe($self, protocol_factory, pipe)\n--\n\n"
    "Write to the file object pipe: a (transport, protocol) pair. A coroutine.\n\n"
    "pipe is a pipe, a FIFO, a socket or a character device; the transport closes it. ValueError for anything\n"
    "else. Specified by asyncio.loop.connect_write_pipe().");

PyMethodDef corolla_loop_pipe_methods[] = {
    {"connect_read_pipe", (PyCFunction)(void (*)(void))connect_read_pipe, METH_FASTCALL | METH_KEYWORDS,
     connect_read_pipe_doc},
    {"connect_write_pipe", (PyCFunction)(void (*)(void))connect_write_pipe, METH_FASTCALL | METH_KEYWORDS,
     connect_write_pipe_doc},
    {NULL, NULL, 0, NULL},
};
