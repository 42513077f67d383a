/* The writing side of a protocol: pause_writing() and resume_writing(), who waits in drain(), who waits for the end. */
#include "streams.h"

#include <string.h>

/* ---- Life -------------------------------------------------------------------------------- */

int
flow_check(StreamFlow *flow)
{
    if (flow->loop == NULL) {
        const char *name = Py_TYPE(flow)->tp_name, *dot = strrchr(name, '.');
        PyErr_Format(PyExc_RuntimeError, "%s object is not initialized.", dot != NULL ? dot + 1 : name);
        return -1;
    }
    return 0;
}

int
flow_traverse(StreamFlow *flow, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(flow));
    Py_VISIT(flow->dict);
    Py_VISIT(flow->loop);
    Py_VISIT(flow->closed);
    Py_VISIT(flow->lost_with);
    int rc = corolla_waiters_traverse(&flow->drainers, visit, arg);
    return rc != 0 ? rc : corolla_waiters_traverse(&flow->closers, visit, arg);
}

void
flow_clear(StreamFlow *flow)
{
    corolla_waiters_clear(&flow->drainers);
    corolla_waiters_clear(&flow->closers);
    Py_CLEAR(flow->dict);
    Py_CLEAR(flow->loop);
    Py_CLEAR(flow->closed);
    Py_CLEAR(flow->lost_with);
}

/* Nobody need have waited for the end: an exception there is not reported. */
void
flow_hush(StreamFlow *flow)
{
    PyObject *closed = flow->closed;
    if (closed == NULL || flow->lost_with == NULL) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    int cancelled = corolla_any_cancelled(flow->state, closed);
    PyObject *exc = cancelled == 0 ? corolla_any_exception(flow->state, closed) : NULL;
    if (exc == NULL && PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)flow);
    }
    Py_XDECREF(exc);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* ---- Futures of any kind ------------------------------------------------------------------- */

PyObject *
stream_future(corolla_state *state, PyObject *loop)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core != NULL && !(core->overridden & COROLLA_OWN_CREATE_FUTURE)) {
        return corolla_future_new(core);
    }
    return PyObject_CallMethodNoArgs(loop, state->s.create_future);
}

int
stream_settle(corolla_state *state, PyObject *future, PyObject *exc)
{
    int done = corolla_any_done(state, future);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    return exc == NULL ? corolla_any_set_result(state, future, Py_None) : corolla_any_set_exception(state, future, exc);
}

PyObject *
flow_close_waiter(StreamFlow *flow)
{
    if (flow_check(flow) < 0) {
        return NULL;
    }
    if (flow->closed == NULL) {
        PyObject *closed = stream_future(flow->state, flow->loop);
        if (closed == NULL || (flow->lost && stream_settle(flow->state, closed, flow->lost_with) < 0)) {
            Py_XDECREF(closed);
            return NULL;
        }
        Py_XSETREF(flow->closed, closed);
    }
    return Py_NewRef(flow->closed);
}

/* ---- Flow control -------------------------------------------------------------------------- */

/* A new future at the end of the queue: 1 with a new reference in *waiter, or -1. */
static int
wait_among(StreamFlow *flow, corolla_waiters *waiters, PyObject **waiter)
{
    PyObject *future = stream_future(flow->state, flow->loop);
    if (future == NULL || corolla_waiters_push(waiters, future) < 0) {
        Py_XDECREF(future);
        return -1;
    }
    *waiter = future;
    return 1;
}

int
flow_drain(StreamFlow *flow, PyObject **waiter)
{
    *waiter = NULL;
    if (flow_check(flow) < 0) {
        return -1;
    }
    if (flow->lost) {
        PyErr_SetString(PyExc_ConnectionResetError, "Connection lost");
        return -1;
    }
    if (!flow->paused) {
        return 0;
    }
    return wait_among(flow, &flow->drainers, waiter);
}

int
flow_ended(StreamFlow *flow, PyObject **waiter)
{
    *waiter = NULL;
    if (flow_check(flow) < 0) {
        return -1;
    }
    if (!flow->lost) {
        return wait_among(flow, &flow->closers, waiter);
    }
    if (flow->lost_with == NULL) {
        return 0;
    }
    stream_raise(flow->lost_with);
    return -1;
}

void
flow_waited(StreamFlow *flow, PyObject *waiter)
{
    if (!corolla_waiters_remove(&flow->drainers, waiter)) {
        (void)corolla_waiters_remove(&flow->closers, waiter);
    }
}

int
stream_wake_all(corolla_state *state, corolla_waiters *waiters, PyObject *exc)
{
    for (uint32_t i = 0; i < waiters->count; i++) {
        PyObject *waiter = Py_NewRef(corolla_waiters_at(waiters, i)); /* what it runs may change the queue */
        int rc = stream_settle(state, waiter, exc);
        Py_DECREF(waiter);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

int
stream_debug(corolla_state *state, PyObject *loop)
{
    corolla_core *core = corolla_core_of(state, loop);
    if (core != NULL) {
        return core->debug;
    }
    PyObject *answer = PyObject_CallMethodNoArgs(loop, state->s.get_debug);
    int debug = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return debug;
}

/* In debug mode: logger.debug(format, self). 0 or -1. */
static int
log_debug(StreamFlow *flow, const char *format)
{
    int debug = stream_debug(flow->state, flow->loop);
    if (debug <= 0) {
        return debug;
    }
    PyObject *done = PyObject_CallMethod(flow->state->logger, "debug", "sO", format, flow);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
flow_pause_writing(PyObject *self, PyObject *unused)
{
    StreamFlow *flow = (StreamFlow *)self;
    if (flow_check(flow) < 0) {
        return NULL;
    }
    if (flow->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    flow->paused = true;
    return log_debug(flow, "%r pauses writing") < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
flow_resume_writing(PyObject *self, PyObject *unused)
{
    StreamFlow *flow = (StreamFlow *)self;
    if (flow_check(flow) < 0) {
        return NULL;
    }
    if (!flow->paused) {
        PyErr_SetNone(PyExc_AssertionError);
        return NULL;
    }
    flow->paused = false;
    if (log_debug(flow, "%r resumes writing") < 0 || stream_wake_all(flow->state, &flow->drainers, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- The end ---------------------------------------------------------------------------------- */

void
flow_set_lost(StreamFlow *flow, PyObject *exc)
{
    if (!flow->lost) {
        flow->lost = true;
        flow->lost_with = Py_XNewRef(exc);
    }
}

int
flow_wake_lost(StreamFlow *flow)
{
    PyObject *exc = Py_XNewRef(flow->lost_with);
    int rc = 0;
    if (flow->closed != NULL) {
        PyObject *closed = Py_NewRef(flow->closed);
        rc = stream_settle(flow->state, closed, exc);
        Py_DECREF(closed);
    }
    if (rc == 0) {
        rc = stream_wake_all(flow->state, &flow->closers, exc);
    }
    if (rc == 0 && flow->paused) {
        rc = stream_wake_all(flow->state, &flow->drainers, exc);
    }
    Py_XDECREF(exc);
    return rc;
}

/* ---- What the standard library's streams use ------------------------------------------------ */

typedef struct {
    StreamFlow *flow; /* owned */
    PyObject *waiter; /* owned */
} DrainState;

static int
drain_traverse(void *data, visitproc visit, void *arg)
{
    DrainState *st = data;
    Py_VISIT(st->flow);
    Py_VISIT(st->waiter);
    return 0;
}

static void
drain_clear(void *data)
{
    DrainState *st = data;
    Py_CLEAR(st->flow);
    Py_CLEAR(st->waiter);
}

static corolla_step
drain_step(corolla_coro *co, PyObject *value)
{
    DrainState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    int wait = flow_drain(st->flow, &st->waiter);
    if (wait < 0) {
        return COROLLA_RAISE;
    }
    if (wait == 0) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    COROLLA_AWAIT(co, st->waiter);
    flow_waited(st->flow, st->waiter);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static const corolla_coro_spec drain_spec = {
    .name = "_drain_helper",
    .qualname = "FlowControlMixin._drain_helper",
    .size = sizeof(DrainState),
    .step = drain_step,
    .traverse = drain_traverse,
    .clear = drain_clear,
};

static PyObject *
flow_drain_helper(PyObject *self, PyObject *unused)
{
    corolla_coro *co = corolla_coro_new(((StreamFlow *)self)->state, &drain_spec);
    if (co != NULL) {
        ((DrainState *)corolla_coro_state(co))->flow = (StreamFlow *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(pause_doc, "pause_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");
PyDoc_STRVAR(resume_doc, "resume_writing($self, /)\n--\n\nSpecified by asyncio.BaseProtocol.");

PyMethodDef flow_methods[] = {
    {"pause_writing", flow_pause_writing, METH_NOARGS, pause_doc},
    {"resume_writing", flow_resume_writing, METH_NOARGS, resume_doc},
    {"_drain_helper", flow_drain_helper, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
