/* The coroutines of StreamWriter: drain, wait_closed. */
#include "process.h"

/* ---- drain() ------------------------------------------------------------------------------- */

typedef struct {
    StreamWriter *writer; /* owned */
    PyObject *waiter;     /* owned, or NULL */
} WriterState;

static int
state_traverse(void *data, visitproc visit, void *arg)
{
    WriterState *st = data;
    Py_VISIT(st->writer);
    Py_VISIT(st->waiter);
    return 0;
}

static void
state_clear(void *data)
{
    WriterState *st = data;
    Py_CLEAR(st->writer);
    Py_CLEAR(st->waiter);
}

static PyObject *
new_coroutine(PyObject *self, const corolla_coro_spec *spec)
{
    corolla_coro *co = corolla_coro_new(((StreamWriter *)self)->state, spec);
    if (co != NULL) {
        ((WriterState *)corolla_coro_state(co))->writer = (StreamWriter *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

int
writer_check_reader(StreamWriter *writer)
{
    if (writer->reader == NULL) {
        return 0;
    }
    PyObject *exc;
    if (reader_is_plain(writer->state, writer->reader)) {
        exc = Py_XNewRef(((StreamReader *)writer->reader)->exception);
    }
    else {
        PyObject *reader = Py_NewRef(writer->reader);
        exc = PyObject_CallMethodNoArgs(reader, writer->state->s.exception);
        Py_DECREF(reader);
        if (exc == NULL) {
            return -1;
        }
        if (exc == Py_None) {
            Py_CLEAR(exc);
        }
    }
    if (exc == NULL) {
        return 0;
    }
    stream_raise(exc);
    Py_DECREF(exc);
    return -1;
}

/* Its protocol's writing side, if that is exactly one of ours, so that nobody has replaced its methods; or NULL. */
static StreamFlow *
plain_flow(StreamWriter *writer)
{
    PyObject *protocol = writer->protocol;
    bool plain = protocol != NULL &&
                 (protocol_is_plain(writer->state, protocol) || subprocess_protocol_is_plain(writer->state, protocol));
    return plain ? (StreamFlow *)protocol : NULL;
}

int
writer_begin_drain(StreamWriter *writer, PyObject **waiter)
{
    StreamFlow *flow = plain_flow(writer);
    if (flow != NULL) {
        return flow_drain(flow, waiter);
    }
    PyObject *protocol = Py_NewRef(writer->protocol);
    *waiter = PyObject_CallMethodNoArgs(protocol, writer->state->s._drain_helper);
    Py_DECREF(protocol);
    return *waiter == NULL ? -1 : 1;
}

static corolla_step
drain_step(corolla_coro *co, PyObject *value)
{
    WriterState *st = corolla_coro_state(co);
    StreamWriter *writer = st->writer;

    COROLLA_BEGIN(co);

    if (writer_check(writer) < 0 || writer_check_reader(writer) < 0) {
        return COROLLA_RAISE;
    }
    int closing = writer_closing(writer);
    if (closing < 0) {
        return COROLLA_RAISE;
    }
    if (closing) {
        /* Lets connection_lost() be called: a loop of write() and drain() is to find out. */
        COROLLA_PAUSE(co);
        if (value == NULL || writer_check(writer) < 0) {
            return COROLLA_RAISE;
        }
    }
    int wait = writer_begin_drain(writer, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    COROLLA_AWAIT(co, st->waiter);
    StreamFlow *flow = plain_flow(writer);
    if (flow != NULL) {
        flow_waited(flow, st->waiter);
    }
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec drain_spec = {
    .name = "drain",
    .qualname = "StreamWriter.drain",
    .size = sizeof(WriterState),
    .step = drain_step,
    .traverse = state_traverse,
    .clear = state_clear,
};

PyObject *
writer_drain(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &drain_spec);
}

/* ---- wait_closed() --------------------------------------------------------------------------- */

int
writer_begin_end(StreamWriter *writer, PyObject **waiter)
{
    StreamFlow *flow = plain_flow(writer);
    bool its_own = flow != NULL && (protocol_is_plain(writer->state, writer->protocol) ||
                                    ((SubprocessProtocol *)flow)->streams[0] == (PyObject *)writer);
    if (its_own) {
        return flow_ended(flow, waiter);
    }
    PyObject *protocol = Py_NewRef(writer->protocol);
    *waiter = PyObject_CallMethodOneArg(protocol, writer->state->s._get_close_waiter, (PyObject *)writer);
    Py_DECREF(protocol);
    return *waiter == NULL ? -1 : 1;
}

static corolla_step
wait_closed_step(corolla_coro *co, PyObject *value)
{
    WriterState *st = corolla_coro_state(co);
    StreamWriter *writer = st->writer;

    COROLLA_BEGIN(co);

    if (writer_check(writer) < 0) {
        return COROLLA_RAISE;
    }
    int wait = writer_begin_end(writer, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    COROLLA_AWAIT(co, st->waiter);
    StreamFlow *flow = plain_flow(writer);
    if (flow != NULL) {
        flow_waited(flow, st->waiter);
    }
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_closed_spec = {
    .name = "wait_closed",
    .qualname = "StreamWriter.wait_closed",
    .size = sizeof(WriterState),
    .step = wait_closed_step,
    .traverse = state_traverse,
    .clear = state_clear,
};

static PyObject *
writer_wait_closed(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &wait_closed_spec);
}

PyDoc_STRVAR(drain_doc,
             "drain($self, /)\n--\n\n"
             "Coroutine: wait until it makes sense to write on.\n\n"
             "Returns at once unless the transport's queue has passed its high-water mark. Raises what the reader was\n"
             "given as exception, and ConnectionResetError once the connection is lost. Any number of coroutines may\n"
             "wait. Specified by asyncio.StreamWriter.drain().");
PyDoc_STRVAR(wait_closed_doc, "wait_closed($self, /)\n--\n\n"
                              "Coroutine: wait until the connection is closed. Raises what it was lost with.\n\n"
                              "Specified by asyncio.StreamWriter.wait_closed().");

PyMethodDef writer_async_methods[] = {
    {"drain", writer_drain, METH_NOARGS, drain_doc},
    {"wait_closed", writer_wait_closed, METH_NOARGS, wait_closed_doc},
    {NULL, NULL, 0, NULL},
};
