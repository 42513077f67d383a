/* Condition: tasks that hold a lock wait for others that hold it to tell them something. */
#include <math.h>

#include "lock.h"

typedef struct {
    PyObject *lock; /* owned; NULL until __init__ has run */
    /* owned, each: the lock's methods, which the condition has for its own, as __init__ found them or as they were set
     * since. NULL for those of a plain Lock. */
    PyObject *acquire, *release, *locked;
} Inner;

typedef struct {
    corolla_sync sync;
    Inner inner;
} ConditionObject;

static ConditionObject *
condition_of(PyObject *self)
{
    return (ConditionObject *)self;
}

/* RuntimeError if __init__ has not run. 0 or -1. */
static int
check(PyObject *self)
{
    if (condition_of(self)->inner.lock == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Condition object is not initialized.");
        return -1;
    }
    return 0;
}

/* ---- The lock ------------------------------------------------------------------------------------ */

/* New reference or NULL. */
static PyObject *
call_held(PyObject *method)
{
    Py_INCREF(method); /* it may be replaced meanwhile */
    PyObject *result = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    return result;
}

/* 1, 0 or -1. */
static int
is_locked(PyObject *self)
{
    ConditionObject *condition = condition_of(self);
    if (check(self) < 0) {
        return -1;
    }
    if (condition->inner.locked == NULL) {
        return ((corolla_lock *)condition->inner.lock)->locked;
    }
    PyObject *answer = call_held(condition->inner.locked);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int
corolla_condition_try(PyObject *self)
{
    ConditionObject *condition = condition_of(self);
    if (check(self) < 0) {
        return -1;
    }
    return condition->inner.acquire != NULL ? 0 : corolla_lock_try(condition->inner.lock);
}

PyObject *
corolla_condition_acquire(PyObject *self)
{
    ConditionObject *condition = condition_of(self);
    if (check(self) < 0) {
        return NULL;
    }
    return condition->inner.acquire != NULL ? call_held(condition->inner.acquire)
                                            : corolla_lock_acquire(condition->inner.lock);
}

int
corolla_condition_release(PyObject *self)
{
    ConditionObject *condition = condition_of(self);
    if (check(self) < 0) {
        return -1;
    }
    if (condition->inner.release == NULL) {
        return corolla_lock_release(condition->inner.lock);
    }
    PyObject *done = call_held(condition->inner.release);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* ---- Waiting ------------------------------------------------------------------------------------- */

/* wait() ends with the exception being raised, after which another may have come while the lock was awaited. Whoever
 * was notified hands it on. Gives COROLLA_RAISE. */
static corolla_step
give_up(corolla_sync_call *call)
{
    corolla_sync *sync = (corolla_sync *)call->self;
    PyObject *first = call->raised;
    call->raised = NULL;
    if (first != NULL) {
        (void)corolla_sync_raise_again(first, PyErr_Occurred() ? -1 : 0);
    }
    PyObject *raised = PyErr_GetRaisedException();
    int rc = corolla_waitlist_wake(sync->state, &sync->waiters, 1, Py_False) < 0 ? -1 : 0;
    (void)corolla_sync_raise_again(raised, rc);
    return COROLLA_RAISE;
}

/* Before wait() waits: makes the future, releases the lock, and stands in line. 0; -1: there is nothing to undo; -2: the
 * lock is to be taken back. */
static int
begin_waiting(corolla_sync_call *call)
{
    corolla_sync *sync = (corolla_sync *)call->self;
    int locked = is_locked(call->self);
    if (locked == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock");
    }
    if (locked <= 0 || corolla_sync_new_future(call) < 0 || corolla_condition_release(call->self) < 0) {
        return -1;
    }
    return corolla_waitlist_push(sync->state, &sync->waiters, call->waiting) < 0 ? -2 : 0;
}

static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    int begun = begin_waiting(call);
    if (begun == -1) {
        return COROLLA_RAISE;
    }
    if (begun == 0) {
        COROLLA_AWAIT(co, call->waiting);
        (void)corolla_sync_step_out(call);
    }
    if (PyErr_Occurred()) {
        call->raised = PyErr_GetRaisedException();
    }
    /* The lock is taken back come what may. A cancellation that arrives meanwhile is raised then, the last one of them. */
    while (corolla_condition_try(call->self) == 0) {
        Py_XSETREF(call->waiting, corolla_condition_acquire(call->self));
        if (call->waiting == NULL) {
            return give_up(call);
        }
        COROLLA_AWAIT(co, call->waiting);
        if (value != NULL) {
            break;
        }
        if (!PyErr_ExceptionMatches(co->state->CancelledError)) {
            return give_up(call);
        }
        Py_XSETREF(call->extra, PyErr_GetRaisedException());
    }
    if (call->extra != NULL && !PyErr_Occurred()) {
        PyErr_SetRaisedException(call->extra);
        call->extra = NULL;
    }
    if (call->raised != NULL || PyErr_Occurred()) {
        return give_up(call);
    }
    return corolla_return(co, Py_NewRef(Py_True));

    COROLLA_END(co);
}

static const corolla_coro_spec wait_spec = COROLLA_SYNC_SPEC("wait", "Condition.wait", wait_step);

PyObject *
corolla_condition_wait(PyObject *self)
{
    return corolla_sync_coro(self, &wait_spec);
}

static corolla_step
wait_for_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    for (;;) {
        Py_XSETREF(call->waiting, PyObject_CallNoArgs(call->extra));
        int truth = call->waiting == NULL ? -1 : PyObject_IsTrue(call->waiting);
        if (truth < 0) {
            return COROLLA_RAISE;
        }
        if (truth > 0) {
            return corolla_return(co, Py_NewRef(call->waiting));
        }
        Py_XSETREF(call->waiting, corolla_sync_is_plain(call->self, co->state->condition_type)
                                      ? corolla_condition_wait(call->self)
                                      : PyObject_CallMethodNoArgs(call->self, co->state->s.wait));
        if (call->waiting == NULL) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, call->waiting);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }

    COROLLA_END(co);
}

static const corolla_coro_spec wait_for_spec = COROLLA_SYNC_SPEC("wait_for", "Condition.wait_for", wait_for_step);

int
corolla_condition_notify(PyObject *self, Py_ssize_t most)
{
    corolla_sync *sync = (corolla_sync *)self;
    int locked = is_locked(self);
    if (locked == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot notify on un-acquired lock");
    }
    return locked <= 0 || corolla_waitlist_wake(sync->state, &sync->waiters, most, Py_False) < 0 ? -1 : 0;
}

/* ---- async with ---------------------------------------------------------------------------------- */

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    int taken = corolla_condition_try(call->self);
    if (taken == 0) {
        call->waiting = corolla_condition_acquire(call->self);
        if (call->waiting == NULL) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, call->waiting);
        taken = value == NULL ? -1 : 1;
    }
    return taken < 0 ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    corolla_sync_call *call = corolla_coro_state(co);
    return corolla_condition_release(call->self) < 0 ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec enter_spec = COROLLA_SYNC_SPEC("__aenter__", "Condition.__aenter__", enter_step);
static const corolla_coro_spec exit_spec = COROLLA_SYNC_SPEC("__aexit__", "Condition.__aexit__", exit_step);

/* ---- Methods ------------------------------------------------------------------------------------- */

PyDoc_STRVAR(
    wait_doc,
    "wait($self, /)\n--\n\n"
    "Coroutine: release the lock, wait until notified, take the lock back, and return True.\n\n"
    "It may return without reason: whoever waits checks what it waited for and waits again. Cancelled, it takes the\n"
    "lock back, too. Raises RuntimeError if the lock is not acquired. Specified by asyncio.Condition.wait().");

static PyObject *
condition_wait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_condition_wait(self);
}

PyDoc_STRVAR(wait_for_doc, "wait_for($self, /, predicate)\n--\n\n"
                           "Coroutine: wait() until predicate() is true, and return what it returned.\n\n"
                           "Raises RuntimeError if it has to wait and the lock is not acquired. Specified by\n"
                           "asyncio.Condition.wait_for().");

static PyObject *
condition_wait_for(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *predicate = corolla_unpack_one("wait_for", "predicate", args, nargs, kwnames);
    PyObject *co = predicate == NULL ? NULL : corolla_sync_coro(self, &wait_for_spec);
    if (co != NULL) {
        ((corolla_sync_call *)corolla_coro_state((corolla_coro *)co))->extra = Py_NewRef(predicate);
    }
    return co;
}

/* How many to notify, as comparing 0, 1, 2... with n would have it. 0 or -1. */
static int
read_count(PyObject *n, Py_ssize_t *most)
{
    if (PyFloat_Check(n)) {
        double value = ceil(PyFloat_AS_DOUBLE(n));
        *most = value <= 0 ? 0 : value < (double)PY_SSIZE_T_MAX ? (Py_ssize_t)value : PY_SSIZE_T_MAX;
        return 0;
    }
    *most = PyNumber_AsSsize_t(n, NULL); /* clipped to what fits */
    return *most == -1 && PyErr_Occurred() ? -1 : 0;
}

PyDoc_STRVAR(notify_doc, "notify($self, /, n=1)\n--\n\n"
                         "Wake n of those who wait, or all if they are fewer.\n\n"
                         "They go on once they have the lock. Raises RuntimeError if the lock is not acquired.\n"
                         "Specified by asyncio.Condition.notify().");

static PyObject *
condition_notify(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    static const corolla_signature sig = {"notify", names, 0, 1, NULL};
    PyObject *n;
    Py_ssize_t most = 1;
    if (corolla_unpack(&sig, args, nargs, kwnames, &n) < 0 || (n != NULL && read_count(n, &most) < 0) ||
        corolla_condition_notify(self, most) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(notify_all_doc, "notify_all($self, /)\n--\n\n"
                             "Wake all who wait. Raises RuntimeError if the lock is not acquired. Specified by\n"
                             "asyncio.Condition.notify_all().");

static PyObject *
condition_notify_all(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_sync *sync = (corolla_sync *)self;
    if (corolla_sync_is_plain(self, sync->state->condition_type)) {
        if (corolla_condition_notify(self, PY_SSIZE_T_MAX) < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    Py_ssize_t count = corolla_waitlist_count(&sync->waiters);
    PyObject *n = count < 0 ? NULL : PyLong_FromSsize_t(count);
    PyObject *done = n == NULL ? NULL : PyObject_CallMethodOneArg(self, sync->state->s.notify, n);
    Py_XDECREF(n);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(enter_doc, "__aenter__($self, /)\n--\n\nCoroutine: acquire(); return None.");

static PyObject *
condition_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    bool plain = corolla_sync_is_plain(self, ((corolla_sync *)self)->state->condition_type);
    return corolla_sync_coro(self, plain ? &enter_spec : &corolla_sync_enter_spec);
}

PyDoc_STRVAR(exit_doc, "__aexit__($self, exc_type, exc, tb, /)\n--\n\nCoroutine: release(); return None.");

static PyObject *
condition_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    if (corolla_sync_check_exit(nargs) < 0) {
        return NULL;
    }
    bool plain = corolla_sync_is_plain(self, ((corolla_sync *)self)->state->condition_type);
    return corolla_sync_coro(self, plain ? &exit_spec : &corolla_sync_exit_spec);
}

int
corolla_condition_quick_enter(PyObject *self)
{
    bool plain = corolla_sync_is_plain(self, ((corolla_sync *)self)->state->condition_type);
    return plain ? corolla_condition_try(self) : 0;
}

int
corolla_condition_quick_exit(PyObject *self)
{
    bool plain = corolla_sync_is_plain(self, ((corolla_sync *)self)->state->condition_type);
    return plain ? (corolla_condition_release(self) < 0 ? -1 : 1) : 0;
}

/* ---- The type ------------------------------------------------------------------------------------ */

PyObject *
corolla_condition_new(corolla_state *state)
{
    PyObject *self = corolla_sync_tp_new(state->condition_type, NULL, NULL);
    if (self != NULL) {
        condition_of(self)->inner.lock = corolla_sync_tp_new(state->lock_type, NULL, NULL);
        if (condition_of(self)->inner.lock == NULL) {
            Py_CLEAR(self);
        }
    }
    return self;
}

/* The structure is whole before the first reference goes. */
static void
replace_inner(ConditionObject *condition, Inner inner)
{
    Inner old = condition->inner;
    condition->inner = inner;
    Py_XDECREF(old.lock);
    Py_XDECREF(old.acquire);
    Py_XDECREF(old.release);
    Py_XDECREF(old.locked);
}

static int
condition_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"lock", NULL};
    static const corolla_signature sig = {"Condition.__init__", names, 0, 1, NULL};
    ConditionObject *condition = condition_of(self);
    corolla_state *state = condition->sync.state;
    PyObject *given;
    Inner inner = {.lock = NULL};
    if (corolla_unpack_tuple(&sig, args, kwargs, &given) < 0) {
        return -1;
    }
    bool make = given == NULL || given == Py_None;
    inner.lock = make ? corolla_sync_tp_new(state->lock_type, NULL, NULL) : Py_NewRef(given);
    if (inner.lock == NULL) {
        return -1;
    }
    if (!corolla_sync_is_plain(inner.lock, state->lock_type)) {
        inner.locked = PyObject_GetAttr(inner.lock, state->s.locked);
        inner.acquire = inner.locked == NULL ? NULL : PyObject_GetAttr(inner.lock, state->s.acquire);
        inner.release = inner.acquire == NULL ? NULL : PyObject_GetAttr(inner.lock, state->s.release);
        if (inner.release == NULL) {
            goto fail;
        }
    }
    replace_inner(condition, inner);
    corolla_waitlist_replace(&condition->sync.waiters, Py_None);
    return 0;
fail:
    Py_XDECREF(inner.acquire);
    Py_XDECREF(inner.locked);
    Py_DECREF(inner.lock);
    return -1;
}

static int
condition_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    ConditionObject *condition = condition_of(self);
    Py_VISIT(condition->inner.lock);
    Py_VISIT(condition->inner.acquire);
    Py_VISIT(condition->inner.release);
    Py_VISIT(condition->inner.locked);
    return corolla_sync_traverse(self, visit, arg);
}

static int
condition_tp_clear(PyObject *self)
{
    replace_inner(condition_of(self), (Inner){.lock = NULL});
    return corolla_sync_clear(self);
}

static void
condition_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, condition_tp_dealloc) /* a condition of a condition of a condition ... */
        replace_inner(condition_of(self), (Inner){.lock = NULL});
    corolla_sync_bury(self);
    Py_TRASHCAN_END
}

static PyObject *
condition_tp_repr(PyObject *self)
{
    int locked = is_locked(self);
    return locked < 0 ? NULL : corolla_sync_repr(self, PyUnicode_FromString(locked ? "locked" : "unlocked"));
}

static PyObject *
get_lock(PyObject *self, void *unused)
{
    (void)unused;
    return check(self) < 0 ? NULL : Py_NewRef(condition_of(self)->inner.lock);
}

/* acquire, release and locked are the lock's, as asyncio's are: attributes, not methods. */
enum { ACQUIRE, RELEASE, LOCKED };

static PyObject **
method_field(PyObject *self, void *which, PyObject **name)
{
    ConditionObject *condition = condition_of(self);
    corolla_state *state = condition->sync.state;
    switch ((intptr_t)which) {
    case ACQUIRE:
        *name = state->s.acquire;
        return &condition->inner.acquire;
    case RELEASE:
        *name = state->s.release;
        return &condition->inner.release;
    default:
        *name = state->s.locked;
        return &condition->inner.locked;
    }
}

static PyObject *
get_method(PyObject *self, void *which)
{
    PyObject *name, **field = method_field(self, which, &name);
    if (*field != NULL) {
        return Py_NewRef(*field);
    }
    return check(self) < 0 ? NULL : PyObject_GetAttr(condition_of(self)->inner.lock, name);
}

static int
set_method(PyObject *self, PyObject *value, void *which)
{
    PyObject *name, **field = method_field(self, which, &name);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    Py_XSETREF(*field, Py_NewRef(value));
    return 0;
}

static PyMethodDef condition_methods[] = {
    {"wait", condition_wait, METH_NOARGS, wait_doc},
    {"wait_for", (PyCFunction)(void (*)(void))condition_wait_for, METH_FASTCALL | METH_KEYWORDS, wait_for_doc},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_FASTCALL | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS, notify_all_doc},
    {"__aenter__", condition_enter, METH_NOARGS, enter_doc},
    {"__aexit__", (PyCFunction)(void (*)(void))condition_exit, METH_FASTCALL, exit_doc},
    COROLLA_SYNC_GET_LOOP,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef condition_getset[] = {
    COROLLA_SYNC_GETSET,
    COROLLA_SYNC_GETSET_WAITERS,
    {"_lock", get_lock, NULL, "The lock it was made with.", NULL},
    {"acquire", get_method, set_method, "The lock's acquire().", (void *)ACQUIRE},
    {"release", get_method, set_method, "The lock's release().", (void *)RELEASE},
    {"locked", get_method, set_method, "The lock's locked().", (void *)LOCKED},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    condition_doc,
    "Condition(lock=None)\n--\n\n"
    "A lock whose owners can wait until another owner notifies them. Not safe to use from several threads.\n\n"
    "lock: a Lock, or anything with its acquire(), release() and locked(); None makes a new Lock. `async with\n"
    "condition:` acquires and releases it. Specified by asyncio.Condition.");

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, (void *)condition_doc},
    {Py_tp_new, corolla_sync_tp_new},
    {Py_tp_init, condition_tp_init},
    {Py_tp_dealloc, condition_tp_dealloc},
    {Py_tp_traverse, condition_tp_traverse},
    {Py_tp_clear, condition_tp_clear},
    {Py_tp_repr, condition_tp_repr},
    {Py_tp_methods, condition_methods},
    {Py_tp_getset, condition_getset},
    {Py_tp_members, corolla_sync_members},
    {0, NULL},
};

PyType_Spec corolla_condition_spec = {
    .name = "corolla.Condition",
    .basicsize = sizeof(ConditionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = condition_slots,
};
