/* communicate() where the streams are somebody's own, such as those of a subclass of the protocol: a task for each, which
 * uses their public methods. */
#include "process.h"

typedef struct {
    Process *process; /* owned */
    PyObject *input;  /* owned, or NULL */
    PyObject *stream; /* owned */
    PyObject *waiter; /* owned: what is awaited */
    int fd;
} GatherState;

static int
state_traverse(void *data, visitproc visit, void *arg)
{
    GatherState *st = data;
    Py_VISIT(st->process);
    Py_VISIT(st->input);
    Py_VISIT(st->stream);
    Py_VISIT(st->waiter);
    return 0;
}

static void
state_clear(void *data)
{
    GatherState *st = data;
    Py_CLEAR(st->process);
    Py_CLEAR(st->input);
    Py_CLEAR(st->stream);
    Py_CLEAR(st->waiter);
}

static corolla_step
feed_step(corolla_coro *co, PyObject *value)
{
    GatherState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (st->stream == NULL) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    if (child_feed(st->process, st->input) < 0) {
        return COROLLA_RAISE;
    }
    st->waiter = PyObject_CallMethodNoArgs(st->stream, co->state->s.drain);
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if ((value == NULL && child_unread(st->process) <= 0) || child_close_stdin(st->process) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static corolla_step
read_step(corolla_coro *co, PyObject *value)
{
    GatherState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (st->stream == NULL) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    if (child_read_output(st->process, st->fd) < 0) {
        return COROLLA_RAISE;
    }
    st->waiter = PyObject_CallMethod(st->stream, "read", NULL);
    if (st->waiter == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL) {
        return COROLLA_RAISE;
    }
    PyObject *output = Py_NewRef(value);
    if (child_close_output(st->process, st->fd) < 0) {
        Py_DECREF(output);
        return COROLLA_RAISE;
    }
    return corolla_return(co, output);

    COROLLA_END(co);
}

#define GATHER_SPEC(name_, step_)                                                                  \
    {                                                                                              \
        .name = #name_, .qualname = "Process." #name_, .size = sizeof(GatherState), .step = step_, \
        .traverse = state_traverse, .clear = state_clear,                                          \
    }

static const corolla_coro_spec feed_spec = GATHER_SPEC(_feed_stdin, feed_step);
static const corolla_coro_spec read_spec = GATHER_SPEC(_read_stream, read_step);

/* A task of the loop's. New reference or NULL. */
static PyObject *
task_of(Process *process, int fd, PyObject *input)
{
    corolla_coro *co = corolla_coro_new(process->state, fd == 0 ? &feed_spec : &read_spec);
    if (co == NULL) {
        return NULL;
    }
    GatherState *st = corolla_coro_state(co);
    st->process = (Process *)Py_NewRef((PyObject *)process);
    st->input = Py_XNewRef(input);
    st->stream = Py_XNewRef(child_stream(process, fd));
    st->fd = fd;
    PyObject *task = stream_task(process->state, process->loop, (PyObject *)co);
    Py_DECREF(co);
    return task;
}

PyObject *
child_gather(Process *process, PyObject *input)
{
    PyObject *feed = task_of(process, 0, input);
    PyObject *out = feed == NULL ? NULL : task_of(process, 1, NULL);
    PyObject *err = out == NULL ? NULL : task_of(process, 2, NULL);
    PyObject *future = err == NULL ? NULL : PyObject_CallFunctionObjArgs(process->state->gather, feed, out, err, NULL);
    Py_XDECREF(feed);
    Py_XDECREF(out);
    Py_XDECREF(err);
    return future;
}
