/* Who waits for a queue: whom to wake, and the coroutines put(), get() and join(). */
#include "queue.h"

/* ---- Waking -------------------------------------------------------------------------------- */

/* Steals future. 1 if it was woken, 0 if it was done already, or -1. */
static int
wake(corolla_state *state, PyObject *future, PyObject *result)
{
    int done = corolla_any_done(state, future);
    int rc = done == 0 ? corolla_any_set_result(state, future, result) : 0;
    Py_DECREF(future);
    return done < 0 || rc < 0 ? -1 : !done;
}

int
corolla_wake_in_deque(corolla_state *state, PyObject *deque)
{
    for (;;) {
        int truth = PyObject_IsTrue(deque);
        if (truth <= 0) {
            return truth;
        }
        PyObject *future = PyObject_CallMethodNoArgs(deque, state->s.popleft);
        if (future == NULL) {
            return -1;
        }
        int woken = wake(state, future, Py_None);
        if (woken != 0) {
            return woken < 0 ? -1 : 0;
        }
    }
}

/* The first who is not done, and nobody if all are. 1, 0 or -1. */
static int
line_wake_one(corolla_state *state, corolla_waitlist *line)
{
    if (line->shown != NULL) {
        PyObject *deque = Py_NewRef(line->shown);
        int rc = corolla_wake_in_deque(state, deque);
        Py_DECREF(deque);
        return rc;
    }
    PyObject *future;
    while ((future = corolla_waiters_pop(&line->ring)) != NULL) {
        int woken = wake(state, future, Py_None);
        if (woken != 0) {
            return woken < 0 ? -1 : 0;
        }
    }
    return 0;
}

int
corolla_queue_wake_one(corolla_queue *queue, corolla_waitlist *line)
{
    if (!(queue->own & QUEUE_OWN_WAKEUP)) {
        return line_wake_one(queue->state, line);
    }
    PyObject *deque = corolla_waitlist_show(queue->state, line);
    if (deque == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodOneArg((PyObject *)queue, queue->state->s._wakeup_next, deque);
    Py_DECREF(deque);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Keeps the first error of several in *first. */
static void
keep_first(PyObject **first)
{
    if (*first == NULL) {
        *first = PyErr_GetRaisedException();
    }
    else {
        PyErr_Clear();
    }
}

static int
waiters_wake_all(corolla_state *state, corolla_waiters *waiters, PyObject *result)
{
    PyObject *future, *failure = NULL;
    while ((future = corolla_waiters_pop(waiters)) != NULL) {
        if (wake(state, future, result) < 0) {
            keep_first(&failure);
        }
    }
    if (failure != NULL) {
        PyErr_SetRaisedException(failure);
        return -1;
    }
    return 0;
}

int
corolla_queue_wake_all(corolla_queue *queue, corolla_waitlist *line)
{
    int rc = waiters_wake_all(queue->state, &line->ring, Py_None);
    while (rc == 0 && line->shown != NULL) {
        Py_ssize_t count = corolla_waitlist_count(line);
        if (count <= 0) {
            return count < 0 ? -1 : 0;
        }
        rc = line_wake_one(queue->state, line);
    }
    return rc;
}

int
corolla_queue_set_finished(corolla_queue *queue)
{
    int rc = waiters_wake_all(queue->state, &queue->joiners, Py_True);
    if (rc == 0 && queue->finished != NULL) {
        PyObject *event = Py_NewRef(queue->finished);
        PyObject *done = PyObject_CallMethodNoArgs(event, queue->state->s.set);
        Py_DECREF(event);
        Py_XDECREF(done);
        rc = done == NULL ? -1 : 0;
    }
    return rc;
}

/* ---- Waiting ------------------------------------------------------------------------------- */

static int
wait_traverse(void *data, visitproc visit, void *arg)
{
    queue_wait_state *st = data;
    Py_VISIT(st->queue);
    Py_VISIT(st->item);
    Py_VISIT(st->waiter);
    return 0;
}

static void
wait_clear(void *data)
{
    queue_wait_state *st = data;
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->item);
    Py_CLEAR(st->queue);
}

/* Makes st->waiter and puts it in the line. 0 or -1. */
static int
begin_waiting(queue_wait_state *st, corolla_waitlist *line)
{
    corolla_queue *queue = st->queue;
    if (corolla_binding_bind(queue->state, &queue->binding, (PyObject *)queue) < 0) {
        return -1;
    }
    st->waiter = corolla_binding_future(queue->state, &queue->binding);
    return st->waiter == NULL ? -1 : corolla_waitlist_push(queue->state, line, st->waiter);
}

/* While an exception is being raised: runs what is left to do, whose own error takes its place. */
static void
chain_error(PyObject *raised, int rc)
{
    if (rc < 0) {
        PyObject *error = PyErr_GetRaisedException();
        PyException_SetContext(error, raised);
        raised = error;
    }
    PyErr_SetRaisedException(raised);
}

/* A loop of ours that is closed: nobody who waits there will ever run. */
static bool
is_closed(const corolla_binding *binding)
{
    return binding->loop == NULL || (binding->core != NULL && binding->core->closed);
}

/* Passes on a wakeup that cannot be used, if there is still something to be had. 0 or -1. */
static int
pass_on(corolla_queue *queue, corolla_waitlist *line, int (*blocked)(corolla_queue *))
{
    int still = blocked(queue);
    return still != 0 ? (still < 0 ? -1 : 0) : corolla_queue_wake_one(queue, line);
}

/* The await was broken off, and that exception is being raised. */
static void
give_up(queue_wait_state *st, corolla_waitlist *line, int (*blocked)(corolla_queue *))
{
    corolla_queue *queue = st->queue;
    corolla_state *state = queue->state;
    PyObject *raised = PyErr_GetRaisedException();
    int rc = corolla_waitlist_remove(state, line, st->waiter);
    if (rc == 0 && !is_closed(&queue->binding)) {
        rc = corolla_any_cancel(state, st->waiter, NULL) < 0 ? -1 : 0;
        int cancelled = rc < 0 ? -1 : corolla_any_cancelled(state, st->waiter);
        rc = cancelled == 0 ? pass_on(queue, line, blocked) : cancelled < 0 ? -1 : 0;
    }
    chain_error(raised, rc);
}

/* It was woken, and then put_nowait() or get_nowait() raised: what it was woken for is there still. */
static void
decline(queue_wait_state *st, corolla_waitlist *line, int (*blocked)(corolla_queue *))
{
    if (st->waiter != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        chain_error(raised, pass_on(st->queue, line, blocked));
    }
}

/* ---- put(), get(), join() ------------------------------------------------------------------ */

static int
refuse(corolla_queue *queue)
{
    PyErr_SetNone(queue->state->QueueShutDown);
    return -1;
}

static corolla_step
put_step(corolla_coro *co, PyObject *value)
{
    queue_wait_state *st = corolla_coro_state(co);
    corolla_queue *queue = st->queue;
    int full;
    COROLLA_BEGIN(co);
    while ((full = corolla_queue_full(queue)) != 0) {
        if (full < 0 || (queue->shut_down && refuse(queue) < 0)) {
            return COROLLA_RAISE;
        }
        Py_CLEAR(st->waiter);
        if (begin_waiting(st, &queue->putters) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        if (value == NULL) {
            give_up(st, &queue->putters, corolla_queue_full);
            return COROLLA_RAISE;
        }
    }
    PyObject *done = corolla_queue_put_nowait(queue, st->item);
    if (done == NULL) {
        decline(st, &queue->putters, corolla_queue_full);
    }
    return corolla_return(co, done);
    COROLLA_END(co);
}

static corolla_step
get_step(corolla_coro *co, PyObject *value)
{
    queue_wait_state *st = corolla_coro_state(co);
    corolla_queue *queue = st->queue;
    int empty;
    COROLLA_BEGIN(co);
    while ((empty = corolla_queue_empty(queue)) != 0) {
        if (empty < 0 || (queue->shut_down && refuse(queue) < 0)) {
            return COROLLA_RAISE;
        }
        Py_CLEAR(st->waiter);
        if (begin_waiting(st, &queue->getters) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        if (value == NULL) {
            give_up(st, &queue->getters, corolla_queue_empty);
            return COROLLA_RAISE;
        }
    }
    PyObject *item = corolla_queue_get_nowait(queue);
    if (item == NULL) {
        decline(st, &queue->getters, corolla_queue_empty);
    }
    return corolla_return(co, item);
    COROLLA_END(co);
}

/* A future among the joiners, or the wait() of an event that is in other hands. New reference or NULL. */
static PyObject *
new_joiner(corolla_queue *queue)
{
    corolla_state *state = queue->state;
    if (queue->finished != NULL) {
        return PyObject_CallMethodNoArgs(queue->finished, state->s.wait);
    }
    if (corolla_binding_bind(state, &queue->joining, (PyObject *)queue) < 0) {
        return NULL;
    }
    PyObject *future = corolla_binding_future(state, &queue->joining);
    if (future != NULL && corolla_waiters_push(&queue->joiners, future) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

static corolla_step
join_step(corolla_coro *co, PyObject *value)
{
    queue_wait_state *st = corolla_coro_state(co);
    corolla_queue *queue = st->queue;
    COROLLA_BEGIN(co);
    if (corolla_queue_check(queue) < 0) {
        return COROLLA_RAISE;
    }
    if (queue->unfinished > 0) {
        st->waiter = new_joiner(queue);
        if (st->waiter == NULL) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        if (value == NULL) {
            PyObject *raised = PyErr_GetRaisedException();
            (void)corolla_waiters_remove(&queue->joiners, st->waiter);
            PyErr_SetRaisedException(raised);
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

const corolla_coro_spec corolla_queue_put_spec = {
    .name = "put",
    .qualname = "Queue.put",
    .size = sizeof(queue_wait_state),
    .step = put_step,
    .traverse = wait_traverse,
    .clear = wait_clear,
};

const corolla_coro_spec corolla_queue_get_spec = {
    .name = "get",
    .qualname = "Queue.get",
    .size = sizeof(queue_wait_state),
    .step = get_step,
    .traverse = wait_traverse,
    .clear = wait_clear,
};

const corolla_coro_spec corolla_queue_join_spec = {
    .name = "join",
    .qualname = "Queue.join",
    .size = sizeof(queue_wait_state),
    .step = join_step,
    .traverse = wait_traverse,
    .clear = wait_clear,
};
