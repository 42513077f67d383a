/* Semaphore and BoundedSemaphore: so many at a time, in the order in which they asked. */
#include "sync.h"

/* A count. asyncio takes whatever compares and adds like a number, math.inf for one. */
typedef struct {
    Py_ssize_t plain;
    PyObject *odd; /* owned: the count, when it is not an int that fits; else NULL */
} Number;

typedef struct {
    corolla_sync sync;
    Number value; /* what may be taken at once */
    Number bound; /* of a BoundedSemaphore: what it began with */
} SemaphoreObject;

static SemaphoreObject *
semaphore_of(PyObject *self)
{
    return (SemaphoreObject *)self;
}

/* ---- Counts -------------------------------------------------------------------------------------- */

/* Steals odd. */
static void
number_replace(Number *number, Py_ssize_t plain, PyObject *odd)
{
    PyObject *old = number->odd;
    number->plain = plain;
    number->odd = odd;
    Py_XDECREF(old);
}

static void
number_set(Number *number, PyObject *value)
{
    if (PyLong_CheckExact(value)) {
        Py_ssize_t plain = PyLong_AsSsize_t(value);
        if (plain != -1 || !PyErr_Occurred()) {
            number_replace(number, plain, NULL);
            return;
        }
        PyErr_Clear();
    }
    number_replace(number, 0, Py_NewRef(value));
}

/* New reference or NULL. */
static PyObject *
number_get(const Number *number)
{
    return number->odd != NULL ? Py_NewRef(number->odd) : PyLong_FromSsize_t(number->plain);
}

/* number OP other (a small int): 1, 0 or -1. */
static int
number_compares(const Number *number, int op, long other)
{
    if (number->odd == NULL) {
        switch (op) {
        case Py_LT:
            return number->plain < other;
        case Py_EQ:
            return number->plain == other;
        default:
            return number->plain > other;
        }
    }
    PyObject *held = Py_NewRef(number->odd), *object = PyLong_FromLong(other);
    int answer = object == NULL ? -1 : PyObject_RichCompareBool(held, object, op);
    Py_XDECREF(object);
    Py_DECREF(held);
    return answer;
}

/* Adds 1 or -1. 0 or -1. */
static int
number_add(Number *number, int step)
{
    if (number->odd == NULL && number->plain < PY_SSIZE_T_MAX && number->plain > PY_SSIZE_T_MIN) {
        number->plain += step;
        return 0;
    }
    PyObject *held = number_get(number), *one = PyLong_FromLong(1), *sum = NULL;
    if (held != NULL && one != NULL) {
        sum = step > 0 ? PyNumber_Add(held, one) : PyNumber_Subtract(held, one);
    }
    Py_XDECREF(one);
    Py_XDECREF(held);
    if (sum == NULL) {
        return -1;
    }
    number_set(number, sum);
    Py_DECREF(sum);
    return 0;
}

/* ---- Acquiring and releasing --------------------------------------------------------------------- */

/* Exactly one of ours, nobody having replaced its methods. */
static bool
is_plain(PyObject *self)
{
    corolla_state *state = semaphore_of(self)->sync.state;
    return corolla_sync_is_plain(self, state->semaphore_type) ||
           corolla_sync_is_plain(self, state->bounded_semaphore_type);
}

/* What Semaphore.locked() says: nothing left, or others come first. 1, 0 or -1. */
static int
is_locked(SemaphoreObject *semaphore)
{
    int zero = number_compares(&semaphore->value, Py_EQ, 0);
    return zero != 0 ? zero : corolla_waitlist_is_live(semaphore->sync.state, &semaphore->sync.waiters);
}

/* locked(), whoever's it is. */
static int
ask_locked(PyObject *self)
{
    if (is_plain(self)) {
        return is_locked(semaphore_of(self));
    }
    PyObject *answer = PyObject_CallMethodNoArgs(self, semaphore_of(self)->sync.state->s.locked);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* Hands one over to the first who waits and is not done. 1, 0 when there is nobody, or -1. */
static int
wake_next(SemaphoreObject *semaphore)
{
    corolla_state *state = semaphore->sync.state;
    PyObject *future;
    int found = corolla_waitlist_first(state, &semaphore->sync.waiters, &future);
    if (found <= 0) {
        return found;
    }
    int rc = number_add(&semaphore->value, -1);
    if (rc == 0) {
        rc = corolla_any_set_result(state, future, Py_True);
    }
    Py_DECREF(future);
    return rc < 0 ? -1 : 1;
}

/* While there is something left, it goes to those who wait. 0 or -1. */
static int
wake_while_any(SemaphoreObject *semaphore)
{
    int more;
    do {
        more = number_compares(&semaphore->value, Py_GT, 0);
        if (more > 0) {
            more = wake_next(semaphore);
        }
    } while (more > 0);
    return more;
}

/* What Semaphore.release() does. 0 or -1. */
static int
release(SemaphoreObject *semaphore)
{
    if (number_add(&semaphore->value, 1) < 0) {
        return -1;
    }
    return wake_next(semaphore) < 0 ? -1 : 0;
}

/* What BoundedSemaphore.release() does. 0 or -1. */
static int
release_bounded(SemaphoreObject *semaphore)
{
    int full;
    if (semaphore->value.odd == NULL && semaphore->bound.odd == NULL) {
        full = semaphore->value.plain >= semaphore->bound.plain;
    }
    else {
        PyObject *value = number_get(&semaphore->value), *bound = number_get(&semaphore->bound);
        full = value == NULL || bound == NULL ? -1 : PyObject_RichCompareBool(value, bound, Py_GE);
        Py_XDECREF(value);
        Py_XDECREF(bound);
    }
    if (full > 0) {
        PyErr_SetString(PyExc_ValueError, "BoundedSemaphore released too many times");
    }
    return full != 0 ? -1 : release(semaphore);
}

/* An acquire() that has waited ends with an exception. Gives COROLLA_RAISE. */
static corolla_step
give_up(corolla_sync_call *call)
{
    SemaphoreObject *semaphore = semaphore_of(call->self);
    corolla_state *state = semaphore->sync.state;
    bool cancelled = PyErr_ExceptionMatches(state->CancelledError);
    PyObject *raised = PyErr_GetRaisedException();
    int rc = 0;
    if (cancelled) {
        /* Woken for one that it does not take now: back with it. */
        int done = corolla_any_done(state, call->waiting);
        int lost = done > 0 ? corolla_any_cancelled(state, call->waiting) : !done;
        rc = lost == 0 ? number_add(&semaphore->value, 1) : lost < 0 ? -1 : 0;
    }
    if (rc == 0) {
        rc = wake_while_any(semaphore);
    }
    (void)corolla_sync_raise_again(raised, rc);
    return COROLLA_RAISE;
}

static corolla_step acquire_step(corolla_coro *co, PyObject *value);

static const corolla_coro_spec acquire_spec = COROLLA_SYNC_SPEC("acquire", "Semaphore.acquire", acquire_step);
static const corolla_coro_spec enter_spec = COROLLA_SYNC_SPEC("__aenter__", "Semaphore.__aenter__", acquire_step);

static corolla_step
acquire_step(corolla_coro *co, PyObject *value)
{
    corolla_sync_call *call = corolla_coro_state(co);
    SemaphoreObject *semaphore = semaphore_of(call->self);

    COROLLA_BEGIN(co);

    int locked = ask_locked(call->self);
    if (locked < 0 || (locked == 0 && number_add(&semaphore->value, -1) < 0)) {
        return COROLLA_RAISE;
    }
    if (locked > 0) {
        if (corolla_sync_line_up(call) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, call->waiting);
        if (corolla_sync_step_out(call) < 0) {
            return COROLLA_RAISE;
        }
        if (value == NULL) {
            return give_up(call);
        }
        /* Others may have lined up behind it although there was something left: they have their turn now. */
        if (wake_while_any(semaphore) < 0) {
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, Py_NewRef(co->spec == &enter_spec ? Py_None : Py_True));

    COROLLA_END(co);
}

/* release() of one whose methods nobody has replaced. 0 or -1. */
static int
release_plain(PyObject *self)
{
    SemaphoreObject *semaphore = semaphore_of(self);
    bool bounded = Py_IS_TYPE(self, semaphore->sync.state->bounded_semaphore_type);
    return bounded ? release_bounded(semaphore) : release(semaphore);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    corolla_sync_call *call = corolla_coro_state(co);
    return release_plain(call->self) < 0 ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
}

static const corolla_coro_spec exit_spec = COROLLA_SYNC_SPEC("__aexit__", "Semaphore.__aexit__", exit_step);

/* ---- Methods ------------------------------------------------------------------------------------- */

PyDoc_STRVAR(acquire_doc,
             "acquire($self, /)\n--\n\n"
             "Coroutine: wait until the count is above zero, take one off, and return True.\n\n"
             "First come, first served. Raises RuntimeError if it has to wait and the semaphore is bound to another\n"
             "loop. Specified by asyncio.Semaphore.acquire().");

static PyObject *
semaphore_acquire(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_sync_coro(self, &acquire_spec);
}

PyDoc_STRVAR(release_doc, "release($self, /)\n--\n\n"
                          "Add one to the count, or hand it to whoever waits for it first. Specified by\n"
                          "asyncio.Semaphore.release().");

static PyObject *
semaphore_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (release(semaphore_of(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(bounded_release_doc, "release($self, /)\n--\n\n"
                                  "Add one to the count, or hand it to whoever waits for it first.\n\n"
                                  "Raises ValueError if that would be more than there were at first. Specified by\n"
                                  "asyncio.BoundedSemaphore.release().");

static PyObject *
bounded_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (release_bounded(semaphore_of(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nReturn whether acquire() would have to wait now.");

static PyObject *
semaphore_locked(PyObject *self, PyObject *unused)
{
    (void)unused;
    int locked = is_locked(semaphore_of(self));
    return locked < 0 ? NULL : PyBool_FromLong(locked);
}

PyDoc_STRVAR(enter_doc, "__aenter__($self, /)\n--\n\nCoroutine: acquire(); return None.");

static PyObject *
semaphore_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_sync_coro(self, is_plain(self) ? &enter_spec : &corolla_sync_enter_spec);
}

PyDoc_STRVAR(exit_doc, "__aexit__($self, exc_type, exc, tb, /)\n--\n\nCoroutine: release(); return None.");

static PyObject *
semaphore_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    if (corolla_sync_check_exit(nargs) < 0) {
        return NULL;
    }
    return corolla_sync_coro(self, is_plain(self) ? &exit_spec : &corolla_sync_exit_spec);
}

int
corolla_semaphore_quick_enter(PyObject *self)
{
    SemaphoreObject *semaphore = semaphore_of(self);
    int locked = is_plain(self) ? is_locked(semaphore) : 1;
    return locked != 0 ? (locked < 0 ? -1 : 0) : (number_add(&semaphore->value, -1) < 0 ? -1 : 1);
}

int
corolla_semaphore_quick_exit(PyObject *self)
{
    return is_plain(self) ? (release_plain(self) < 0 ? -1 : 1) : 0;
}

/* ---- The types ----------------------------------------------------------------------------------- */

static PyObject *
semaphore_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *self = corolla_sync_tp_new(type, args, kwargs);
    if (self != NULL) {
        semaphore_of(self)->value.plain = semaphore_of(self)->bound.plain = 1;
    }
    return self;
}

static int
init(PyObject *self, const char *function, PyObject *args, PyObject *kwargs, bool bounded)
{
    static const char *const names[] = {"value", NULL};
    const corolla_signature sig = {function, names, 0, 1, NULL};
    PyObject *given;
    if (corolla_unpack_tuple(&sig, args, kwargs, &given) < 0) {
        return -1;
    }
    Number value = {.plain = 1};
    if (given != NULL) {
        number_set(&value, given);
    }
    int negative = number_compares(&value, Py_LT, 0);
    if (negative != 0) {
        number_replace(&value, 0, NULL);
        if (negative > 0) {
            PyErr_SetString(PyExc_ValueError, "Semaphore initial value must be >= 0");
        }
        return -1;
    }
    SemaphoreObject *semaphore = semaphore_of(self);
    if (bounded) {
        number_replace(&semaphore->bound, value.plain, Py_XNewRef(value.odd));
    }
    number_replace(&semaphore->value, value.plain, value.odd);
    corolla_waitlist_replace(&semaphore->sync.waiters, Py_None);
    return 0;
}

static int
semaphore_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init(self, "Semaphore.__init__", args, kwargs, false);
}

static int
bounded_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return init(self, "BoundedSemaphore.__init__", args, kwargs, true);
}

static int
semaphore_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(semaphore_of(self)->value.odd);
    Py_VISIT(semaphore_of(self)->bound.odd);
    return corolla_sync_traverse(self, visit, arg);
}

static int
semaphore_tp_clear(PyObject *self)
{
    number_replace(&semaphore_of(self)->value, 0, NULL);
    number_replace(&semaphore_of(self)->bound, 0, NULL);
    return corolla_sync_clear(self);
}

static void
semaphore_tp_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    (void)semaphore_tp_clear(self);
    corolla_sync_bury(self);
}

static PyObject *
semaphore_tp_repr(PyObject *self)
{
    int locked = ask_locked(self);
    if (locked < 0) {
        return NULL;
    }
    if (locked) {
        return corolla_sync_repr(self, PyUnicode_FromString("locked"));
    }
    PyObject *value = number_get(&semaphore_of(self)->value);
    PyObject *extra = value == NULL ? NULL : PyUnicode_FromFormat("unlocked, value:%S", value);
    Py_XDECREF(value);
    return corolla_sync_repr(self, extra);
}

/* which: offset of a Number. */
static PyObject *
get_number(PyObject *self, void *which)
{
    return number_get((Number *)((char *)self + (size_t)which));
}

static int
set_number(PyObject *self, PyObject *value, void *which)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    number_set((Number *)((char *)self + (size_t)which), value);
    return 0;
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", semaphore_acquire, METH_NOARGS, acquire_doc},
    {"release", semaphore_release, METH_NOARGS, release_doc},
    {"locked", semaphore_locked, METH_NOARGS, locked_doc},
    {"__aenter__", semaphore_enter, METH_NOARGS, enter_doc},
    {"__aexit__", (PyCFunction)(void (*)(void))semaphore_exit, METH_FASTCALL, exit_doc},
    COROLLA_SYNC_GET_LOOP,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    COROLLA_SYNC_GETSET,
    COROLLA_SYNC_GETSET_WAITERS,
    {"_value", get_number, set_number, "What may be taken at once.", (void *)offsetof(SemaphoreObject, value)},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(semaphore_doc,
             "Semaphore(value=1)\n--\n\n"
             "A count that tasks of one event loop take from and give back to, and wait for at zero.\n\n"
             "value: the count at first, a number. Raises ValueError if it is negative. Not safe to use from several\n"
             "threads. `async with semaphore:` acquires and releases it. Specified by asyncio.Semaphore.");

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)semaphore_doc},
    {Py_tp_new, semaphore_tp_new},
    {Py_tp_init, semaphore_tp_init},
    {Py_tp_dealloc, semaphore_tp_dealloc},
    {Py_tp_traverse, semaphore_tp_traverse},
    {Py_tp_clear, semaphore_tp_clear},
    {Py_tp_repr, semaphore_tp_repr},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_getset, semaphore_getset},
    {Py_tp_members, corolla_sync_members},
    {0, NULL},
};

PyType_Spec corolla_semaphore_spec = {
    .name = "corolla.Semaphore",
    .basicsize = sizeof(SemaphoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = semaphore_slots,
};

static PyMethodDef bounded_methods[] = {
    {"release", bounded_release, METH_NOARGS, bounded_release_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef bounded_getset[] = {
    {"_bound_value", get_number, set_number, "What there may be at most.", (void *)offsetof(SemaphoreObject, bound)},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(bounded_doc, "BoundedSemaphore(value=1)\n--\n\n"
                          "A Semaphore that is never given back more than was taken from it.\n\n"
                          "value: the count at first, a number. Raises ValueError if it is negative. Specified by\n"
                          "asyncio.BoundedSemaphore.");

static PyType_Slot bounded_slots[] = {
    {Py_tp_doc, (void *)bounded_doc},      {Py_tp_init, bounded_tp_init},
    {Py_tp_dealloc, semaphore_tp_dealloc}, {Py_tp_traverse, semaphore_tp_traverse},
    {Py_tp_clear, semaphore_tp_clear},     {Py_tp_methods, bounded_methods},
    {Py_tp_getset, bounded_getset},        {0, NULL},
};

PyType_Spec corolla_bounded_semaphore_spec = {
    .name = "corolla.BoundedSemaphore",
    .basicsize = sizeof(SemaphoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = bounded_slots,
};
