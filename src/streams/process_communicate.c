/* Process.communicate(): one coroutine that waits for all three streams at once. What comes stays in the readers until
 * everything is there, so that one that is cancelled loses nothing. */
#include "process.h"

/* ---- Steps, which child_gather.c has, too --------------------------------------------------- */

int
child_debug(Process *process, const char *format, PyObject *arg)
{
    int debug = stream_debug(process->state, process->loop);
    if (debug <= 0) {
        return debug;
    }
    PyObject *logger = process->state->logger;
    PyObject *done = arg == NULL ? PyObject_CallMethod(logger, "debug", "sO", format, process)
                                 : PyObject_CallMethod(logger, "debug", "sOO", format, process, arg);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* stdin.write(input), and says so in debug mode. 0 or -1. */
static int
write_input(Process *process, PyObject *writer, PyObject *input)
{
    if (Py_IS_TYPE(writer, process->state->stream_writer_type)) {
        if (writer_check((StreamWriter *)writer) < 0 || writer_send((StreamWriter *)writer, input) < 0) {
            return -1;
        }
    }
    else {
        PyObject *done = PyObject_CallMethodOneArg(writer, process->state->s.write, input);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    Py_ssize_t size = stream_debug(process->state, process->loop) > 0 ? PyObject_Size(input) : 0;
    PyObject *bytes = size < 0 || PyErr_Occurred() ? NULL : PyLong_FromSsize_t(size);
    int rc = bytes == NULL ? -1 : child_debug(process, "%r communicate: feed stdin (%s bytes)", bytes);
    Py_XDECREF(bytes);
    return rc;
}

int
child_feed(Process *process, PyObject *input)
{
    PyObject *writer = Py_XNewRef(child_stream(process, 0));
    int rc = 0;
    if (writer != NULL && input != NULL && input != Py_None && write_input(process, writer, input) < 0) {
        rc = child_unread(process) > 0 ? 0 : -1;
    }
    Py_XDECREF(writer);
    return rc;
}

int
child_unread(Process *process)
{
    if (!PyErr_ExceptionMatches(PyExc_BrokenPipeError) && !PyErr_ExceptionMatches(PyExc_ConnectionResetError)) {
        return 0;
    }
    PyObject *exc = PyErr_GetRaisedException();
    int rc = child_debug(process, "%r communicate: stdin got %r", exc);
    Py_DECREF(exc);
    return rc < 0 ? -1 : 1;
}

int
child_close_stdin(Process *process)
{
    PyObject *writer = Py_XNewRef(child_stream(process, 0));
    if (writer == NULL || child_debug(process, "%r communicate: close stdin", NULL) < 0) {
        Py_XDECREF(writer);
        return writer == NULL ? 0 : -1;
    }
    PyObject *done = PyObject_CallMethodNoArgs(writer, process->state->s.close);
    Py_DECREF(writer);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
child_read_output(Process *process, int fd)
{
    return child_debug(process, fd == 1 ? "%r communicate: read stdout" : "%r communicate: read stderr", NULL);
}

int
child_close_output(Process *process, int fd)
{
    if (child_debug(process, fd == 1 ? "%r communicate: close stdout" : "%r communicate: close stderr", NULL) < 0 ||
        child_check(process) < 0) {
        return -1;
    }
    PyObject *transport = Py_NewRef(process->transport), *done = NULL;
    PyObject *number = PyLong_FromLong(fd);
    PyObject *pipe =
        number == NULL ? NULL : PyObject_CallMethodOneArg(transport, process->state->s.get_pipe_transport, number);
    if (pipe != NULL) {
        done = pipe == Py_None ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(pipe, process->state->s.close);
    }
    Py_XDECREF(pipe);
    Py_XDECREF(number);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* ---- The coroutine ------------------------------------------------------------------------------ */

typedef struct {
    Process *process;             /* owned */
    PyObject *input;              /* owned, or NULL */
    SubprocessProtocol *protocol; /* owned: its protocol, if that and its streams are ours; else NULL */
    StreamReader *readers[3];     /* owned: stdout and stderr in their places, likewise */
    PyObject *waiter;             /* owned: what is awaited */
    PyObject *outputs;            /* owned: of others' streams: a sequence of None, stdout and stderr */
    bool feeding;                 /* stdin has not been closed yet */
    bool begun;                   /* stdin had its turn */
    bool ended[3];                /* the end of that output has been seen */
} CommunicateState;

static int
communicate_traverse(void *data, visitproc visit, void *arg)
{
    CommunicateState *st = data;
    Py_VISIT(st->process);
    Py_VISIT(st->input);
    Py_VISIT(st->protocol);
    Py_VISIT(st->readers[1]);
    Py_VISIT(st->readers[2]);
    Py_VISIT(st->waiter);
    Py_VISIT(st->outputs);
    return 0;
}

static void
communicate_clear(void *data)
{
    CommunicateState *st = data;
    Py_CLEAR(st->process);
    Py_CLEAR(st->input);
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->readers[1]);
    Py_CLEAR(st->readers[2]);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->outputs);
}

/* Whether everything is exactly ours; then the state has it. */
static bool
take_parts(CommunicateState *st)
{
    Process *process = st->process;
    corolla_state *state = process->state;
    PyObject *protocol = process->protocol, *writer = child_stream(process, 0);
    if (!subprocess_protocol_is_plain(state, protocol) || ((StreamFlow *)protocol)->loop == NULL ||
        (writer != NULL &&
         (!Py_IS_TYPE(writer, state->stream_writer_type) || ((StreamWriter *)writer)->protocol != protocol))) {
        return false;
    }
    for (int fd = 1; fd < 3; fd++) {
        PyObject *reader = child_stream(process, fd);
        if (reader != NULL && !reader_is_plain(state, reader)) {
            return false;
        }
    }
    st->protocol = (SubprocessProtocol *)Py_NewRef(protocol);
    st->readers[1] = (StreamReader *)Py_XNewRef(child_stream(process, 1));
    st->readers[2] = (StreamReader *)Py_XNewRef(child_stream(process, 2));
    st->feeding = writer != NULL;
    return true;
}

/* Closes stdin once all is on its way, or nobody reads it. 0 or -1. */
static int
look_at_stdin(CommunicateState *st)
{
    StreamFlow *flow = &st->protocol->flow;
    if (!st->feeding || (flow->paused && !flow->lost)) {
        return 0;
    }
    st->feeding = false;
    if (flow->lost) {
        PyErr_SetString(PyExc_ConnectionResetError, "Connection lost");
        if (child_unread(st->process) < 0) {
            return -1;
        }
    }
    return child_close_stdin(st->process);
}

/* 0 at the end of that output, or if it is no pipe; 1 when there may be more; -1 with what it broke with. */
static int
look_at_output(CommunicateState *st, int fd)
{
    StreamReader *reader = st->readers[fd];
    if (reader == NULL || st->ended[fd]) {
        return 0;
    }
    if ((!st->begun && child_read_output(st->process, fd) < 0) || reader_check_exception(reader) < 0) {
        return -1;
    }
    if (!reader->eof) {
        return 1;
    }
    st->ended[fd] = true;
    return child_close_output(st->process, fd);
}

static void
wait_over(CommunicateState *st)
{
    flow_waited(&st->protocol->flow, st->waiter);
    for (int fd = 1; fd < 3; fd++) {
        if (st->readers[fd] != NULL) {
            reader_wait_over(st->readers[fd], st->waiter);
        }
    }
    Py_CLEAR(st->waiter);
}

/* 0 when all is done, 1 with something to await in st->waiter, or -1. */
static int
look(CommunicateState *st)
{
    int more[3] = {0, 0, 0};
    if (look_at_stdin(st) < 0 || (more[1] = look_at_output(st, 1)) < 0 || (more[2] = look_at_output(st, 2)) < 0) {
        return -1;
    }
    st->begun = true;
    if (!st->feeding && !more[1] && !more[2]) {
        return 0;
    }
    st->waiter = stream_future(st->process->state, st->protocol->flow.loop);
    if (st->waiter == NULL) {
        return -1;
    }
    if (st->feeding && corolla_waiters_push(&st->protocol->flow.drainers, st->waiter) < 0) {
        goto fail;
    }
    for (int fd = 1; fd < 3; fd++) {
        if (more[fd] && reader_wait_on(st->readers[fd], st->waiter, "read", SIZE_MAX) < 0) {
            goto fail;
        }
    }
    return 1;
fail:
    wait_over(st);
    return -1;
}

/* The exception being raised is stdin's, and communicate() goes on: 1. 0: it stays; -1: another. */
static int
stdin_failed(CommunicateState *st)
{
    if (!st->feeding) {
        return 0;
    }
    int unread = child_unread(st->process);
    if (unread <= 0) {
        return unread;
    }
    st->feeding = false;
    return child_close_stdin(st->process) < 0 ? -1 : 1;
}

static PyObject *
wait_for_process(Process *process)
{
    return Py_IS_TYPE(process, process->state->stream_process_type)
               ? child_wait((PyObject *)process, NULL)
               : PyObject_CallMethodNoArgs((PyObject *)process, process->state->s.wait);
}

/* What was read of one output: new reference or NULL. */
static PyObject *
output_of(CommunicateState *st, int fd)
{
    if (st->outputs != NULL) {
        return PySequence_GetItem(st->outputs, fd);
    }
    StreamReader *reader = st->readers[fd];
    return reader == NULL ? Py_NewRef(Py_None) : reader_take(reader, buffer_len(&reader->buffer));
}

static PyObject *
outputs(CommunicateState *st)
{
    PyObject *out = output_of(st, 1);
    PyObject *err = out == NULL ? NULL : output_of(st, 2);
    PyObject *both = err == NULL ? NULL : PyTuple_Pack(2, out, err);
    Py_XDECREF(out);
    Py_XDECREF(err);
    return both;
}

static corolla_step
communicate_step(corolla_coro *co, PyObject *value)
{
    CommunicateState *st = corolla_coro_state(co);
    int more;

    COROLLA_BEGIN(co);

    if (child_check(st->process) < 0) {
        return COROLLA_RAISE;
    }
    if (!take_parts(st)) {
        st->waiter = child_gather(st->process, st->input);
        if (st->waiter == NULL) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
        st->outputs = Py_NewRef(value);
    }
    else if (child_feed(st->process, st->input) < 0) {
        return COROLLA_RAISE;
    }
    while (st->protocol != NULL && (more = look(st)) != 0) {
        if (more < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        wait_over(st);
        if (value == NULL && stdin_failed(st) <= 0) {
            return COROLLA_RAISE;
        }
    }
    Py_XSETREF(st->waiter, wait_for_process(st->process));
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, outputs(st));

    COROLLA_END(co);
}

static const corolla_coro_spec communicate_spec = {
    .name = "communicate",
    .qualname = "Process.communicate",
    .size = sizeof(CommunicateState),
    .step = communicate_step,
    .traverse = communicate_traverse,
    .clear = communicate_clear,
};

PyObject *
child_communicate(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"input", NULL};
    static const corolla_signature sig = {"communicate", names, 0, 1, NULL};
    PyObject *input;
    if (corolla_unpack(&sig, args, nargs, kwnames, &input) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(((Process *)self)->state, &communicate_spec);
    if (co != NULL) {
        CommunicateState *st = corolla_coro_state(co);
        st->process = (Process *)Py_NewRef(self);
        st->input = Py_XNewRef(input);
    }
    return (PyObject *)co;
}
