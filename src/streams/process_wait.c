/* Process.wait(). */
#include "process.h"

typedef struct {
    Process *process; /* owned */
    PyObject *waiter; /* owned: what is awaited */
} WaitState;

static int
state_traverse(void *data, visitproc visit, void *arg)
{
    WaitState *st = data;
    Py_VISIT(st->process);
    Py_VISIT(st->waiter);
    return 0;
}

static void
state_clear(void *data)
{
    WaitState *st = data;
    Py_CLEAR(st->process);
    Py_CLEAR(st->waiter);
}

/* The protocol, if it is exactly ours and will be told of the end; or NULL. */
static SubprocessProtocol *
watching(Process *process)
{
    if (process->protocol == NULL || !subprocess_protocol_is_plain(process->state, process->protocol)) {
        return NULL;
    }
    SubprocessProtocol *protocol = (SubprocessProtocol *)process->protocol;
    return protocol->exited || protocol->flow.loop == NULL ? NULL : protocol;
}

/* What to await, in st->waiter. Our protocol is told of the end of the process itself, whichever the loop: the transports
 * of some tell those who wait only when the output has ended as well. 0 or -1. */
static int
begin_wait(WaitState *st)
{
    Process *process = st->process;
    SubprocessProtocol *protocol = watching(process);
    if (protocol == NULL) {
        PyObject *transport = Py_NewRef(process->transport);
        st->waiter = PyObject_CallMethodNoArgs(transport, process->state->s._wait);
        Py_DECREF(transport);
        return st->waiter == NULL ? -1 : 0;
    }
    PyObject *waiter = stream_future(process->state, protocol->flow.loop);
    if (waiter == NULL || corolla_waiters_push(&protocol->watchers, waiter) < 0) {
        Py_XDECREF(waiter);
        return -1;
    }
    st->waiter = waiter;
    return 0;
}

/* Takes it off the protocol's queue: true if it was there. */
static bool
end_wait(WaitState *st)
{
    PyObject *protocol = st->process->protocol;
    return protocol != NULL && subprocess_protocol_is_plain(st->process->state, protocol) &&
           corolla_waiters_remove(&((SubprocessProtocol *)protocol)->watchers, st->waiter);
}

static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    WaitState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    PyObject *code = child_returncode(st->process);
    if (code == NULL || code != Py_None) {
        return corolla_return(co, code);
    }
    Py_DECREF(code);
    if (begin_wait(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    bool watched = end_wait(st);
    if (value == NULL) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, watched ? child_returncode(st->process) : Py_NewRef(value));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_spec = {
    .name = "wait",
    .qualname = "Process.wait",
    .size = sizeof(WaitState),
    .step = wait_step,
    .traverse = state_traverse,
    .clear = state_clear,
};

PyObject *
child_wait(PyObject *self, PyObject *unused)
{
    corolla_coro *co = corolla_coro_new(((Process *)self)->state, &wait_spec);
    if (co != NULL) {
        ((WaitState *)corolla_coro_state(co))->process = (Process *)Py_NewRef(self);
    }
    return (PyObject *)co;
}
