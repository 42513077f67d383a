/* corolla.as_completed(): futures in the order in which they are done. */
#include "../scheduler/waiters.h"

#include "primitives.h"

typedef struct {
    PyObject_HEAD
    corolla_state *state;    /* borrowed */
    PyObject *loop;          /* owned */
    PyObject *todo;          /* owned: dict of the futures that have not told us, to their callbacks */
    corolla_waiters done;    /* futures to be handed out, in order; None stands for one that came too late */
    corolla_waiters getters; /* futures that somebody waits on for one of them */
    Py_ssize_t left;         /* how many are still to be asked for */
    corolla_alarm alarm;
} AsCompletedObject;

/* ---- One is done, or the time is up -------------------------------------------------------- */

/* Wakes the first who waits. 0 or -1. */
static int
wake_next(AsCompletedObject *self)
{
    PyObject *getter;
    while ((getter = corolla_waiters_pop(&self->getters)) != NULL) {
        int done = corolla_any_done(self->state, getter);
        int rc = done == 0 ? corolla_any_set_result(self->state, getter, Py_None) : 0;
        Py_DECREF(getter);
        if (done < 0 || rc < 0) {
            return -1;
        }
        if (!done) {
            return 0;
        }
    }
    return 0;
}

/* future may be None. 0 or -1. */
static int
hand_out(AsCompletedObject *self, PyObject *future)
{
    return corolla_waiters_push(&self->done, future) < 0 ? -1 : wake_next(self);
}

static int
one_done(PyObject *future, PyObject *arg)
{
    AsCompletedObject *self = (AsCompletedObject *)arg;
    PyObject *todo = self->todo;
    if (todo == NULL || PyDict_GET_SIZE(todo) == 0) {
        return 0; /* the time was up first */
    }
    Py_INCREF(todo);
    int rc = PyDict_DelItem(todo, future);
    if (rc == 0 && PyDict_GET_SIZE(todo) == 0) {
        rc = corolla_alarm_stop(&self->alarm, self->state);
    }
    Py_DECREF(todo);
    return rc < 0 ? -1 : hand_out(self, future);
}

static PyObject *
time_is_up(PyObject *arg, PyObject *unused)
{
    (void)unused;
    AsCompletedObject *self = (AsCompletedObject *)arg;
    corolla_core *core = corolla_core_of(self->state, self->loop);
    if (core != NULL) {
        corolla_core_leave_task(core);
    }
    PyObject *todo = self->todo;
    PyObject *empty = todo == NULL ? NULL : PyDict_New();
    if (empty == NULL) {
        return todo == NULL ? Py_NewRef(Py_None) : NULL;
    }
    self->todo = empty;
    PyObject *future, *callback;
    Py_ssize_t at = 0;
    int rc = 0;
    while (rc == 0 && PyDict_Next(todo, &at, &future, &callback)) {
        rc = corolla_any_unwatch(self->state, future, callback);
        rc = rc < 0 ? rc : hand_out(self, Py_None);
    }
    Py_DECREF(todo);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef time_is_up_def = {"_handle_timeout", time_is_up, METH_NOARGS, NULL};

/* ---- The next one -------------------------------------------------------------------------- */

typedef struct {
    AsCompletedObject *from; /* owned */
    PyObject *getter;        /* owned */
    bool resolve;            /* give the result, not the future */
    bool count;              /* asynchronous iteration: ends here, not where the coroutine was made */
} NextState;

static int
next_traverse(void *data, visitproc visit, void *arg)
{
    NextState *st = data;
    Py_VISIT(st->from);
    Py_VISIT(st->getter);
    return 0;
}

static void
next_clear(void *data)
{
    NextState *st = data;
    Py_CLEAR(st->from);
    Py_CLEAR(st->getter);
}

/* Whoever waited is not interested any more: what has woken it wakes the next. Keeps the exception being raised. */
static void
give_up(AsCompletedObject *self, PyObject *getter)
{
    PyObject *raised = PyErr_GetRaisedException();
    int rc = corolla_any_cancel(self->state, getter, NULL);
    (void)corolla_waiters_remove(&self->getters, getter);
    if (rc >= 0 && self->done.count > 0) {
        rc = corolla_any_cancelled(self->state, getter);
        if (rc == 0) {
            rc = wake_next(self);
        }
    }
    if (rc < 0) {
        PyErr_WriteUnraisable(getter);
    }
    PyErr_SetRaisedException(raised);
}

static corolla_step
next_step(corolla_coro *co, PyObject *value)
{
    NextState *st = corolla_coro_state(co);
    AsCompletedObject *self = st->from;
    PyObject *future;

    COROLLA_BEGIN(co);

    if (st->count) {
        if (self->left == 0) {
            PyErr_SetNone(PyExc_StopAsyncIteration);
            return COROLLA_RAISE;
        }
        self->left--;
    }
    while (self->done.count == 0) {
        if (self->loop == NULL) {
            PyErr_SetString(PyExc_RuntimeError, "the iterator has been cleared by the garbage collector");
            return COROLLA_RAISE;
        }
        Py_XSETREF(st->getter, corolla_loop_future(co->state, self->loop));
        if (st->getter == NULL || corolla_waiters_push(&self->getters, st->getter) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->getter);
        if (value == NULL) {
            give_up(self, st->getter);
            return COROLLA_RAISE;
        }
    }
    future = corolla_waiters_pop(&self->done);
    if (future == Py_None) {
        Py_DECREF(future);
        PyErr_SetNone(PyExc_TimeoutError);
        return COROLLA_RAISE;
    }
    if (st->resolve) {
        Py_SETREF(future, corolla_any_result(co->state, future));
    }
    return corolla_return(co, future);

    COROLLA_END(co);
}

static const corolla_coro_spec next_spec = {
    .name = "_wait_for_one",
    .qualname = "_AsCompletedIterator._wait_for_one",
    .size = sizeof(NextState),
    .step = next_step,
    .traverse = next_traverse,
    .clear = next_clear,
};

static PyObject *
make_next(PyObject *self, bool resolve, bool count)
{
    corolla_coro *co = corolla_coro_new(((AsCompletedObject *)self)->state, &next_spec);
    if (co != NULL) {
        NextState *st = corolla_coro_state(co);
        st->from = (AsCompletedObject *)Py_NewRef(self);
        st->resolve = resolve;
        st->count = count;
    }
    return (PyObject *)co;
}

static PyObject *
iterator_next(PyObject *self)
{
    if (((AsCompletedObject *)self)->left == 0) {
        return NULL;
    }
    PyObject *next = make_next(self, true, false);
    if (next != NULL) {
        ((AsCompletedObject *)self)->left--;
    }
    return next;
}

static PyObject *
iterator_anext(PyObject *self)
{
    return make_next(self, false, true);
}

/* ---- The type ------------------------------------------------------------------------------ */

static int
iterator_traverse(PyObject *obj, visitproc visit, void *arg)
{
    AsCompletedObject *self = (AsCompletedObject *)obj;
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(self->loop);
    Py_VISIT(self->todo);
    int rc = corolla_waiters_traverse(&self->done, visit, arg);
    rc = rc != 0 ? rc : corolla_waiters_traverse(&self->getters, visit, arg);
    return rc != 0 ? rc : corolla_alarm_traverse(&self->alarm, visit, arg);
}

static int
iterator_clear(PyObject *obj)
{
    AsCompletedObject *self = (AsCompletedObject *)obj;
    corolla_alarm_clear(&self->alarm, self->state);
    Py_CLEAR(self->todo);
    corolla_waiters_clear(&self->done);
    corolla_waiters_clear(&self->getters);
    Py_CLEAR(self->loop);
    return 0;
}

static void
iterator_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    corolla_state *state = ((AsCompletedObject *)obj)->state;
    PyObject_GC_UnTrack(obj);
    iterator_clear(obj);
    type->tp_free(obj);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyType_Slot iterator_slots[] = {
    {Py_tp_doc, (void *)"What as_completed() returns: futures as they are done, or coroutines of their results."},
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_traverse, iterator_traverse},
    {Py_tp_clear, iterator_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, iterator_anext},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "corolla._AsCompletedIterator",
    .basicsize = sizeof(AsCompletedObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iterator_slots,
};

int
corolla_as_completed_init(PyObject *module, corolla_state *state)
{
    state->as_completed_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &iterator_spec, NULL);
    return state->as_completed_type == NULL ? -1 : 0;
}

/* ---- as_completed() ------------------------------------------------------------------------ */

/* The awaitables given, each once, in their order: a list, new reference or NULL. */
static PyObject *
read_awaitables(PyObject *fs)
{
    PyObject *seen = PyDict_New(), *item, *list = NULL;
    PyObject *iter = seen == NULL ? NULL : PyObject_GetIter(fs);
    if (iter == NULL) {
        goto done;
    }
    while ((item = PyIter_Next(iter)) != NULL) {
        int rc = PyDict_SetItem(seen, item, Py_None);
        Py_DECREF(item);
        if (rc < 0) {
            goto done;
        }
    }
    if (!PyErr_Occurred()) {
        list = PyDict_Keys(seen);
    }
done:
    Py_XDECREF(seen);
    Py_XDECREF(iter);
    return list;
}

/* Makes futures of all first, as asyncio does; then has each tell, or takes it if it is done. 0 or -1. */
static int
watch_all(AsCompletedObject *self, PyObject *list)
{
    corolla_state *state = self->state;
    Py_ssize_t count = PyList_GET_SIZE(list);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *future = corolla_ensure_future(state, PyList_GET_ITEM(list, i), self->loop);
        if (future == NULL || PyList_SetItem(list, i, future) < 0) {
            return -1;
        }
    }
    self->left = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *future = PyList_GET_ITEM(list, i);
        int done = corolla_any_done(state, future);
        if (done != 0) {
            if (done < 0 || corolla_waiters_push(&self->done, future) < 0) {
                return -1;
            }
            continue;
        }
        PyObject *callback = corolla_any_watch(state, future, one_done, Py_NewRef((PyObject *)self));
        int rc = callback == NULL ? -1 : PyDict_SetItem(self->todo, future, callback);
        Py_XDECREF(callback);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int
set_timeout(AsCompletedObject *self, PyObject *timeout)
{
    if (timeout == NULL || timeout == Py_None || PyDict_GET_SIZE(self->todo) == 0) {
        return 0;
    }
    double delay = PyFloat_AsDouble(timeout);
    if (delay == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    return corolla_alarm_after(&self->alarm, self->state, self->loop, delay, &time_is_up_def, (PyObject *)self);
}

PyDoc_STRVAR(
    as_completed_doc,
    "as_completed($module, /, fs, *, timeout=None)\n--\n\n"
    "Run awaitables side by side; iterate over them in the order in which they are done.\n\n"
    "`async for` gives the futures that were given, done, or the tasks made; `for` gives coroutines, each of which\n"
    "returns or raises what the next one does. timeout: seconds after which TimeoutError is raised for each that is\n"
    "left, or None. Raises TypeError for a single awaitable. Specified by asyncio.as_completed() of CPython 3.13.");

static PyObject *
module_as_completed(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fs", "timeout", NULL};
    static const corolla_signature sig = {"as_completed", names, 1, 1, NULL};
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_state *state = corolla_state_of_module(module);
    if (!PyList_CheckExact(given[0]) && !PySet_CheckExact(given[0])) {
        PyObject *answer = PyObject_CallOneArg(state->isawaitable, given[0]);
        int awaitable = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (awaitable != 0) {
            if (awaitable > 0) {
                corolla_refuse_type("expects an iterable of awaitables", given[0]);
            }
            return NULL;
        }
    }
    AsCompletedObject *self = (AsCompletedObject *)state->as_completed_type->tp_alloc(state->as_completed_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    corolla_state_hold(state);
    PyObject *list = NULL;
    self->loop = corolla_default_loop(state);
    self->todo = self->loop == NULL ? NULL : PyDict_New();
    if (self->todo != NULL) {
        list = read_awaitables(given[0]);
    }
    if (list == NULL || watch_all(self, list) < 0 || set_timeout(self, given[1]) < 0) {
        Py_CLEAR(self);
    }
    Py_XDECREF(list);
    return (PyObject *)self;
}

PyMethodDef corolla_as_completed_functions[] = {
    {"as_completed", (PyCFunction)(void (*)(void))module_as_completed, METH_FASTCALL | METH_KEYWORDS, as_completed_doc},
    {NULL, NULL, 0, NULL},
};
