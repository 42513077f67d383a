/* Barrier: tasks that go on together once so many have come. */
#include "lock.h"

typedef enum { FILLING, DRAINING, RESETTING, BROKEN } BarrierStatus;

typedef struct {
    corolla_sync sync;
    PyObject *condition; /* owned: a Condition, for whoever waits; NULL until __init__ has run */
    PyObject *parties;   /* owned: as given */
    Py_ssize_t limit;    /* the same as a number; 0: no count is ever equal to it */
    Py_ssize_t count;    /* tasks inside wait() */
    uint8_t status;      /* BarrierStatus */
} BarrierObject;

static BarrierObject *
barrier_of(PyObject *self)
{
    return (BarrierObject *)self;
}

/* RuntimeError if __init__ has not run. 0 or -1. */
static int
check(PyObject *self)
{
    if (barrier_of(self)->condition == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Barrier object is not initialized.");
        return -1;
    }
    return 0;
}

/* ---- Waiting ------------------------------------------------------------------------------------- */

/* Everybody who waits looks at the status again. 0 or -1. */
static int
tell_all(BarrierObject *barrier)
{
    return corolla_condition_notify(barrier->condition, PY_SSIZE_T_MAX);
}

/* Comes in. 0 or -1. */
static int
come_in(corolla_sync_call *call)
{
    BarrierObject *barrier = barrier_of(call->self);
    call->index = barrier->count++;
    if (barrier->count != barrier->limit) {
        return 0;
    }
    barrier->status = DRAINING;
    return tell_all(barrier);
}

/* Goes out again; the last one makes room for the next round. Keeps an exception being raised. 0 or -1. */
static int
go_out(BarrierObject *barrier)
{
    if (--barrier->count != 0) {
        return 0;
    }
    if (barrier->status == RESETTING || barrier->status == DRAINING) {
        barrier->status = FILLING;
    }
    PyObject *raised = PyErr_GetRaisedException();
    return corolla_sync_raise_again(raised, tell_all(barrier));
}

/* The end of every coroutine here that has got as far as to hold the lock: releases it, and returns value (stolen), or
 * goes on raising if that is NULL. */
static corolla_step
leave(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);
    PyObject *raised = value == NULL ? PyErr_GetRaisedException() : NULL;
    int rc = corolla_condition_release(call->extra);
    if (value == NULL || rc < 0) {
        (void)corolla_sync_raise_again(raised, rc);
        Py_XDECREF(value);
        return COROLLA_RAISE;
    }
    return corolla_return(co, value);
}

/* What is awaited to get the lock, or to wait with it: in call->waiting. 0 or -1. */
static int
prepare(corolla_sync_call *call, PyObject *(*method)(PyObject *condition))
{
    Py_XSETREF(call->waiting, method(call->extra));
    return call->waiting == NULL ? -1 : 0;
}

/* call->extra is the condition: it stays the same to the end. */
static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);
    BarrierObject *barrier = barrier_of(call->self);

    COROLLA_BEGIN(co);

    int taken = corolla_condition_try(call->extra);
    if (taken < 0 || (taken == 0 && prepare(call, corolla_condition_acquire) < 0)) {
        return COROLLA_RAISE;
    }
    if (taken == 0) {
        COROLLA_AWAIT(co, call->waiting);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    /* The round before must be over. */
    while (barrier->status == DRAINING || barrier->status == RESETTING) {
        if (prepare(call, corolla_condition_wait) < 0) {
            return leave(co, NULL);
        }
        COROLLA_AWAIT(co, call->waiting);
        if (value == NULL) {
            return leave(co, NULL);
        }
    }
    if (barrier->status == BROKEN) {
        PyErr_SetString(co->state->BrokenBarrierError, "Barrier aborted");
        return leave(co, NULL);
    }
    if (come_in(call) < 0) {
        goto out;
    }
    if (barrier->count != barrier->limit) {
        while (barrier->status == FILLING) {
            if (prepare(call, corolla_condition_wait) < 0) {
                goto out;
            }
            COROLLA_AWAIT(co, call->waiting);
            if (value == NULL) {
                goto out;
            }
        }
        if (barrier->status == BROKEN || barrier->status == RESETTING) {
            PyErr_SetString(co->state->BrokenBarrierError, "Abort or reset of barrier");
        }
    }
out:
    return leave(co, go_out(barrier) < 0 || PyErr_Occurred() ? NULL : PyLong_FromSsize_t(call->index));

    COROLLA_END(co);
}

/* ---- Resetting and aborting ---------------------------------------------------------------------- */

static void
reset(BarrierObject *barrier)
{
    barrier->status = barrier->count > 0 ? RESETTING : FILLING;
}

static void
abort_it(BarrierObject *barrier)
{
    barrier->status = BROKEN;
}

static corolla_step change_step(corolla_coro *co, PyObject *value);

static const corolla_coro_spec reset_spec = COROLLA_SYNC_SPEC("reset", "Barrier.reset", change_step);
static const corolla_coro_spec abort_spec = COROLLA_SYNC_SPEC("abort", "Barrier.abort", change_step);

static corolla_step
change_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);
    BarrierObject *barrier = barrier_of(call->self);

    COROLLA_BEGIN(co);

    int taken = corolla_condition_try(call->extra);
    if (taken < 0 || (taken == 0 && prepare(call, corolla_condition_acquire) < 0)) {
        return COROLLA_RAISE;
    }
    if (taken == 0) {
        COROLLA_AWAIT(co, call->waiting);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    (co->spec == &reset_spec ? reset : abort_it)(barrier);
    return leave(co, tell_all(barrier) < 0 ? NULL : Py_NewRef(Py_None));

    COROLLA_END(co);
}

/* ---- async with, by a wait() of somebody else's -------------------------------------------------- */

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    call->waiting = PyObject_CallMethodNoArgs(call->self, co->state->s.wait);
    if (call->waiting == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, call->waiting);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(value));

    COROLLA_END(co);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    return corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec wait_spec = COROLLA_SYNC_SPEC("wait", "Barrier.wait", wait_step);
static const corolla_coro_spec plain_enter_spec = COROLLA_SYNC_SPEC("__aenter__", "Barrier.__aenter__", wait_step);
static const corolla_coro_spec enter_spec = COROLLA_SYNC_SPEC("__aenter__", "Barrier.__aenter__", enter_step);
static const corolla_coro_spec exit_spec = COROLLA_SYNC_SPEC("__aexit__", "Barrier.__aexit__", exit_step);

/* ---- Methods ------------------------------------------------------------------------------------- */

/* A coroutine that uses the condition. New reference or NULL. */
static PyObject *
with_condition(PyObject *self, const corolla_coro_spec *spec)
{
    PyObject *co = check(self) < 0 ? NULL : corolla_sync_coro(self, spec);
    if (co != NULL) {
        ((corolla_sync_call *)corolla_coro_state((corolla_coro *)co))->extra = Py_NewRef(barrier_of(self)->condition);
    }
    return co;
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /)\n--\n\n"
    "Coroutine: wait until as many tasks have come as there are parties, and return which one this was, from 0\n"
    "on.\n\n"
    "Raises BrokenBarrierError if the barrier is, or meanwhile becomes, broken, or is reset meanwhile. Specified\n"
    "by asyncio.Barrier.wait().");

static PyObject *
barrier_wait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return with_condition(self, &wait_spec);
}

PyDoc_STRVAR(reset_doc, "reset($self, /)\n--\n\n"
                        "Coroutine: make it empty again. Whoever waits gets BrokenBarrierError. Specified by\n"
                        "asyncio.Barrier.reset().");

static PyObject *
barrier_reset(PyObject *self, PyObject *unused)
{
    (void)unused;
    return with_condition(self, &reset_spec);
}

PyDoc_STRVAR(abort_doc, "abort($self, /)\n--\n\n"
                        "Coroutine: break it. Whoever waits, and whoever comes, gets BrokenBarrierError, until it is\n"
                        "reset. Specified by asyncio.Barrier.abort().");

static PyObject *
barrier_abort(PyObject *self, PyObject *unused)
{
    (void)unused;
    return with_condition(self, &abort_spec);
}

PyDoc_STRVAR(enter_doc, "__aenter__($self, /)\n--\n\nCoroutine: return await wait().");

static PyObject *
barrier_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    bool plain = corolla_sync_is_plain(self, barrier_of(self)->sync.state->barrier_type);
    return plain ? with_condition(self, &plain_enter_spec) : corolla_sync_coro(self, &enter_spec);
}

PyDoc_STRVAR(exit_doc, "__aexit__($self, *args)\n--\n\nCoroutine: return None.");

static PyObject *
barrier_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return corolla_sync_coro(self, &exit_spec);
}

/* ---- The type ------------------------------------------------------------------------------------ */

/* The count that parties is equal to, or 0. -1 with ValueError or TypeError. */
static Py_ssize_t
read_parties(PyObject *parties)
{
    PyObject *one = PyLong_FromLong(1);
    int less = one == NULL ? -1 : PyObject_RichCompareBool(parties, one, Py_LT);
    Py_XDECREF(one);
    if (less != 0) {
        if (less > 0) {
            PyErr_SetString(PyExc_ValueError, "parties must be > 0");
        }
        return -1;
    }
    if (PyFloat_Check(parties)) {
        double value = PyFloat_AS_DOUBLE(parties);
        Py_ssize_t whole = value < (double)PY_SSIZE_T_MAX ? (Py_ssize_t)value : 0;
        return (double)whole == value ? whole : 0;
    }
    return PyNumber_AsSsize_t(parties, NULL); /* more than fits: as many will never come */
}

static int
barrier_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"parties", NULL};
    static const corolla_signature sig = {"Barrier.__init__", names, 1, 1, NULL};
    BarrierObject *barrier = barrier_of(self);
    PyObject *parties;
    if (corolla_unpack_tuple(&sig, args, kwargs, &parties) < 0) {
        return -1;
    }
    Py_ssize_t limit = read_parties(parties);
    PyObject *condition = limit < 0 ? NULL : corolla_condition_new(barrier->sync.state);
    if (condition == NULL) {
        return -1;
    }
    PyObject *old_condition = barrier->condition, *old_parties = barrier->parties;
    barrier->condition = condition;
    barrier->parties = Py_NewRef(parties);
    barrier->limit = limit;
    barrier->count = 0;
    barrier->status = FILLING;
    Py_XDECREF(old_condition);
    Py_XDECREF(old_parties);
    return 0;
}

static int
barrier_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(barrier_of(self)->condition);
    Py_VISIT(barrier_of(self)->parties);
    return corolla_sync_traverse(self, visit, arg);
}

static int
barrier_tp_clear(PyObject *self)
{
    Py_CLEAR(barrier_of(self)->condition);
    Py_CLEAR(barrier_of(self)->parties);
    return corolla_sync_clear(self);
}

static void
barrier_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    (void)barrier_tp_clear(self);
    corolla_sync_bury(self);
}

static Py_ssize_t
waiting(const BarrierObject *barrier)
{
    return barrier->status == FILLING ? barrier->count : 0;
}

static PyObject *
barrier_tp_repr(PyObject *self)
{
    static const char *const shown[] = {"filling", "draining", "resetting", "broken"};
    BarrierObject *barrier = barrier_of(self);
    if (check(self) < 0) {
        return NULL;
    }
    if (barrier->status == BROKEN) {
        return corolla_sync_repr_of(self, PyUnicode_FromString(shown[BROKEN]));
    }
    return corolla_sync_repr_of(
        self, PyUnicode_FromFormat("%s, waiters:%zd/%S", shown[barrier->status], waiting(barrier), barrier->parties));
}

static PyObject *
get_parties(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : Py_NewRef(barrier_of(self)->parties);
}

static PyObject *
get_n_waiting(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : PyLong_FromSsize_t(waiting(barrier_of(self)));
}

static PyObject *
get_broken(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : PyBool_FromLong(barrier_of(self)->status == BROKEN);
}

static PyObject *
get_condition(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : Py_NewRef(barrier_of(self)->condition);
}

static PyObject *
get_count(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : PyLong_FromSsize_t(barrier_of(self)->count);
}

static PyObject *
get_state(PyObject *self, void *unused)
{
    static const char *const names[] = {"FILLING", "DRAINING", "RESETTING", "BROKEN"};
    (void)unused;
    BarrierObject *barrier = barrier_of(self);
    return check(self) < 0 ? NULL : PyObject_GetAttrString(barrier->sync.state->BarrierState, names[barrier->status]);
}

static PyMethodDef barrier_methods[] = {
    {"wait", barrier_wait, METH_NOARGS, wait_doc},
    {"reset", barrier_reset, METH_NOARGS, reset_doc},
    {"abort", barrier_abort, METH_NOARGS, abort_doc},
    {"__aenter__", barrier_enter, METH_NOARGS, enter_doc},
    {"__aexit__", (PyCFunction)(void (*)(void))barrier_exit, METH_FASTCALL, exit_doc},
    COROLLA_SYNC_GET_LOOP,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    COROLLA_SYNC_GETSET,
    {"parties", get_parties, NULL, "How many tasks it takes.", NULL},
    {"n_waiting", get_n_waiting, NULL, "How many tasks have come so far.", NULL},
    {"broken", get_broken, NULL, "Whether it is broken.", NULL},
    {"_cond", get_condition, NULL, "The Condition of those who wait.", NULL},
    {"_count", get_count, NULL, "How many tasks are inside wait().", NULL},
    {"_parties", get_parties, NULL, NULL, NULL},
    {"_state", get_state, NULL, "A member of asyncio's enumeration.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    barrier_doc,
    "Barrier(parties)\n--\n\n"
    "A place where tasks wait for each other, to go on together. Not safe to use from several threads.\n\n"
    "parties: how many tasks it takes. Raises ValueError if that is less than 1. Specified by asyncio.Barrier.");

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, (void *)barrier_doc},
    {Py_tp_new, corolla_sync_tp_new},
    {Py_tp_init, barrier_tp_init},
    {Py_tp_dealloc, barrier_tp_dealloc},
    {Py_tp_traverse, barrier_tp_traverse},
    {Py_tp_clear, barrier_tp_clear},
    {Py_tp_repr, barrier_tp_repr},
    {Py_tp_methods, barrier_methods},
    {Py_tp_getset, barrier_getset},
    {Py_tp_members, corolla_sync_members},
    {0, NULL},
};

PyType_Spec corolla_barrier_spec = {
    .name = "corolla.Barrier",
    .basicsize = sizeof(BarrierObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = barrier_slots,
};
