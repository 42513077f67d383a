/* Lock: one owner at a time, in the order in which they asked. */
#include "lock.h"

static corolla_lock *
lock_of(PyObject *self)
{
    return (corolla_lock *)self;
}

/* ---- Acquiring and releasing ----------------------------------------------------------------- */

/* Free, and nobody stands in line for it but those who are cancelled. 1, 0 or -1. */
static int
may_take(corolla_lock *lock)
{
    if (lock->locked) {
        return 0;
    }
    if (lock->sync.waiters.shown == NULL && lock->sync.waiters.ring.count == 0) {
        return 1;
    }
    int live = corolla_waitlist_is_live(lock->sync.state, &lock->sync.waiters);
    return live < 0 ? -1 : !live;
}

int
corolla_lock_try(PyObject *self)
{
    int free = may_take(lock_of(self));
    if (free > 0) {
        lock_of(self)->locked = true;
    }
    return free;
}

int
corolla_lock_release(PyObject *self)
{
    corolla_lock *lock = lock_of(self);
    if (!lock->locked) {
        PyErr_SetString(PyExc_RuntimeError, "Lock is not acquired.");
        return -1;
    }
    lock->locked = false;
    return corolla_waitlist_wake_head(lock->sync.state, &lock->sync.waiters);
}

static corolla_step acquire_step(corolla_coro *co, PyObject *value);

static const corolla_coro_spec acquire_spec = COROLLA_SYNC_SPEC("acquire", "Lock.acquire", acquire_step);
static const corolla_coro_spec enter_spec = COROLLA_SYNC_SPEC("__aenter__", "Lock.__aenter__", acquire_step);

static corolla_step
acquire_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);
    corolla_lock *lock = lock_of(call->self);

    COROLLA_BEGIN(co);

    int taken = corolla_lock_try(call->self);
    if (taken == 0) {
        if (corolla_sync_line_up(call) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, call->waiting);
        if (corolla_sync_step_out(call) < 0) {
            return COROLLA_RAISE;
        }
        if (value == NULL) {
            /* It may have been woken for a lock that it does not take now: the next in line is to have it. */
            if (!lock->locked && PyErr_ExceptionMatches(co->state->CancelledError)) {
                PyObject *raised = PyErr_GetRaisedException();
                (void)corolla_sync_raise_again(raised, corolla_waitlist_wake_head(co->state, &lock->sync.waiters));
            }
            return COROLLA_RAISE;
        }
        lock->locked = true;
        taken = 1;
    }
    if (taken < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(co->spec == &enter_spec ? Py_None : Py_True));

    COROLLA_END(co);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    corolla_sync_call *call = corolla_coro_state(co);
    return corolla_lock_release(call->self) < 0 ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec exit_spec = COROLLA_SYNC_SPEC("__aexit__", "Lock.__aexit__", exit_step);

PyObject *
corolla_lock_acquire(PyObject *self)
{
    return corolla_sync_coro(self, &acquire_spec);
}

/* ---- Methods ----------------------------------------------------------------------------------- */

PyDoc_STRVAR(acquire_doc, "acquire($self, /)\n--\n\n"
                          "Coroutine: wait until the lock is free, lock it, and return True.\n\n"
                          "First come, first served. Raises RuntimeError if it has to wait and the lock is bound to\n"
                          "another loop. Specified by asyncio.Lock.acquire().");

static PyObject *
lock_acquire(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_lock_acquire(self);
}

PyDoc_STRVAR(release_doc, "release($self, /)\n--\n\n"
                          "Unlock it, and wake whoever waits for it first.\n\n"
                          "Raises RuntimeError if it is not locked. Specified by asyncio.Lock.release().");

static PyObject *
lock_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (corolla_lock_release(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nReturn whether it is locked.");

static PyObject *
lock_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(lock_of(self)->locked);
}

PyDoc_STRVAR(enter_doc, "__aenter__($self, /)\n--\n\nCoroutine: acquire(); return None.");

static PyObject *
lock_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    bool plain = corolla_sync_is_plain(self, lock_of(self)->sync.state->lock_type);
    return corolla_sync_coro(self, plain ? &enter_spec : &corolla_sync_enter_spec);
}

PyDoc_STRVAR(exit_doc, "__aexit__($self, exc_type, exc, tb, /)\n--\n\nCoroutine: release(); return None.");

static PyObject *
lock_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    if (corolla_sync_check_exit(nargs) < 0) {
        return NULL;
    }
    bool plain = corolla_sync_is_plain(self, lock_of(self)->sync.state->lock_type);
    return corolla_sync_coro(self, plain ? &exit_spec : &corolla_sync_exit_spec);
}

int
corolla_lock_quick_enter(PyObject *self)
{
    bool plain = corolla_sync_is_plain(self, lock_of(self)->sync.state->lock_type);
    return plain ? corolla_lock_try(self) : 0;
}

int
corolla_lock_quick_exit(PyObject *self)
{
    bool plain = corolla_sync_is_plain(self, lock_of(self)->sync.state->lock_type);
    return plain ? (corolla_lock_release(self) < 0 ? -1 : 1) : 0;
}

/* ---- The type ---------------------------------------------------------------------------------- */

static int
lock_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {NULL};
    static const corolla_signature sig = {"Lock.__init__", names, 0, 0, NULL};
    if (corolla_unpack_tuple(&sig, args, kwargs, NULL) < 0) {
        return -1;
    }
    lock_of(self)->locked = false;
    corolla_waitlist_replace(&lock_of(self)->sync.waiters, Py_None);
    return 0;
}

static PyObject *
lock_tp_repr(PyObject *self)
{
    return corolla_sync_repr(self, PyUnicode_FromString(lock_of(self)->locked ? "locked" : "unlocked"));
}

static PyObject *
get_locked(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(lock_of(self)->locked);
}

static int
set_locked(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    return corolla_sync_set_flag(value, &lock_of(self)->locked);
}

static PyMethodDef lock_methods[] = {
    {"acquire", lock_acquire, METH_NOARGS, acquire_doc},
    {"release", lock_release, METH_NOARGS, release_doc},
    {"locked", lock_locked, METH_NOARGS, locked_doc},
    {"__aenter__", lock_enter, METH_NOARGS, enter_doc},
    {"__aexit__", (PyCFunction)(void (*)(void))lock_exit, METH_FASTCALL, exit_doc},
    COROLLA_SYNC_GET_LOOP,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef lock_getset[] = {
    COROLLA_SYNC_GETSET,
    COROLLA_SYNC_GETSET_WAITERS,
    {"_locked", get_locked, set_locked, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(lock_doc,
             "Lock()\n--\n\n"
             "A mutual exclusion lock for the tasks of one event loop. Not safe to use from several threads.\n\n"
             "`async with lock:` acquires and releases it. Specified by asyncio.Lock.");

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)lock_doc},
    {Py_tp_new, corolla_sync_tp_new},
    {Py_tp_init, lock_tp_init},
    {Py_tp_dealloc, corolla_sync_tp_dealloc},
    {Py_tp_traverse, corolla_sync_traverse},
    {Py_tp_clear, corolla_sync_clear},
    {Py_tp_repr, lock_tp_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_getset, lock_getset},
    {Py_tp_members, corolla_sync_members},
    {0, NULL},
};

PyType_Spec corolla_lock_spec = {
    .name = "corolla.Lock",
    .basicsize = sizeof(corolla_lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = lock_slots,
};
