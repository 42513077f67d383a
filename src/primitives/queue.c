/* The methods of Queue, PriorityQueue and LifoQueue. The types are in queue_type.c. */
#include <math.h>
#include <stddef.h>

#include "queue.h"

static corolla_queue *
queue_of(PyObject *self)
{
    return (corolla_queue *)self;
}

int
corolla_queue_check(corolla_queue *queue)
{
    if (queue->maxsize == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Queue object is not initialized.");
        return -1;
    }
    return 0;
}

/* ---- Which methods are somebody else's ----------------------------------------------------- */

static const struct {
    size_t name; /* offset into corolla_state.s */
    unsigned bit;
} hooks[] = {
    {offsetof(corolla_state, s._init), QUEUE_OWN_INIT},
    {offsetof(corolla_state, s._put), QUEUE_OWN_PUT},
    {offsetof(corolla_state, s._get), QUEUE_OWN_GET},
    {offsetof(corolla_state, s.qsize), QUEUE_OWN_QSIZE},
    {offsetof(corolla_state, s.empty), QUEUE_OWN_EMPTY},
    {offsetof(corolla_state, s.full), QUEUE_OWN_FULL},
    {offsetof(corolla_state, s.put_nowait), QUEUE_OWN_PUT_NOWAIT},
    {offsetof(corolla_state, s.get_nowait), QUEUE_OWN_GET_NOWAIT},
    {offsetof(corolla_state, s._wakeup_next), QUEUE_OWN_WAKEUP},
    {offsetof(corolla_state, s._format), QUEUE_OWN_FORMAT},
};

/* The methods are all Queue's own: what the three types do differently depends on the kind. */
int
corolla_queue_find_overrides(corolla_queue *queue, PyTypeObject *type)
{
    corolla_state *state = queue->state;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(hooks); i++) {
        PyObject *name = *(PyObject **)((char *)state + hooks[i].name);
        PyObject *theirs = PyObject_GetAttr((PyObject *)type, name);
        PyObject *ours = PyObject_GetAttr((PyObject *)state->queue_type, name);
        bool known = theirs != NULL && ours != NULL;
        if (known && theirs != ours) {
            queue->own |= hooks[i].bit;
        }
        Py_XDECREF(theirs);
        Py_XDECREF(ours);
        if (!known) {
            return -1;
        }
    }
    return 0;
}

/* self.name(), for its truth: 1, 0 or -1. */
static int
ask(corolla_queue *queue, PyObject *name)
{
    PyObject *answer = PyObject_CallMethodNoArgs((PyObject *)queue, name);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

/* ---- Full and empty ------------------------------------------------------------------------ */

Py_ssize_t
corolla_queue_limit(PyObject *maxsize)
{
    if (PyLong_CheckExact(maxsize)) {
        int overflow;
        long long value = PyLong_AsLongLongAndOverflow(maxsize, &overflow);
        return overflow > 0 || value > PY_SSIZE_T_MAX ? PY_SSIZE_T_MAX : value > 0 ? (Py_ssize_t)value : 0;
    }
    if (PyFloat_CheckExact(maxsize)) {
        double value = ceil(PyFloat_AS_DOUBLE(maxsize));
        return !(value > 0) ? 0 : value < (double)PY_SSIZE_T_MAX ? (Py_ssize_t)value : PY_SSIZE_T_MAX;
    }
    return QUEUE_ODD_LIMIT;
}

/* maxsize > 0 and qsize() >= maxsize, by the comparisons asyncio makes. 1, 0 or -1. */
static int
is_full_by_comparison(corolla_queue *queue)
{
    PyObject *maxsize = Py_NewRef(queue->maxsize), *zero = PyLong_FromLong(0), *size = NULL;
    int answer = zero == NULL ? -1 : PyObject_RichCompareBool(maxsize, zero, Py_LE);
    if (answer != 0) {
        answer = answer < 0 ? -1 : 0;
        goto done;
    }
    if (queue->own & QUEUE_OWN_QSIZE) {
        size = PyObject_CallMethodNoArgs((PyObject *)queue, queue->state->s.qsize);
    }
    else {
        Py_ssize_t count = corolla_queue_count(queue);
        size = count < 0 ? NULL : PyLong_FromSsize_t(count);
    }
    answer = size == NULL ? -1 : PyObject_RichCompareBool(size, maxsize, Py_GE);
done:
    Py_XDECREF(size);
    Py_XDECREF(zero);
    Py_DECREF(maxsize);
    return answer;
}

/* What Queue.full() does. */
static int
is_full(corolla_queue *queue)
{
    if (corolla_queue_check(queue) < 0) {
        return -1;
    }
    if (queue->limit == 0) {
        return 0;
    }
    if (queue->limit == QUEUE_ODD_LIMIT || (queue->own & QUEUE_OWN_QSIZE)) {
        return is_full_by_comparison(queue);
    }
    Py_ssize_t count = corolla_queue_count(queue);
    return count < 0 ? -1 : count >= queue->limit;
}

static int
is_empty(corolla_queue *queue)
{
    return corolla_queue_check(queue) < 0 ? -1 : corolla_queue_is_empty(queue);
}

int
corolla_queue_full(corolla_queue *queue)
{
    return queue->own & QUEUE_OWN_FULL ? ask(queue, queue->state->s.full) : is_full(queue);
}

int
corolla_queue_empty(corolla_queue *queue)
{
    return queue->own & QUEUE_OWN_EMPTY ? ask(queue, queue->state->s.empty) : is_empty(queue);
}

PyDoc_STRVAR(qsize_doc, "qsize($self, /)\n--\n\nReturn the number of items in the queue.");

static PyObject *
queue_qsize(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_ssize_t count = corolla_queue_check(queue_of(self)) < 0 ? -1 : corolla_queue_count(queue_of(self));
    return count < 0 ? NULL : PyLong_FromSsize_t(count);
}

PyDoc_STRVAR(empty_doc, "empty($self, /)\n--\n\nReturn whether there is no item in the queue.");

static PyObject *
queue_empty(PyObject *self, PyObject *unused)
{
    (void)unused;
    int empty = is_empty(queue_of(self));
    return empty < 0 ? NULL : PyBool_FromLong(empty);
}

PyDoc_STRVAR(full_doc, "full($self, /)\n--\n\n"
                       "Return whether there are maxsize items in the queue. Without a maxsize, never.");

static PyObject *
queue_full(PyObject *self, PyObject *unused)
{
    (void)unused;
    int full = is_full(queue_of(self));
    return full < 0 ? NULL : PyBool_FromLong(full);
}

/* ---- Putting and getting at once ----------------------------------------------------------- */

/* What Queue.put_nowait() does. 0 or -1. */
static int
put_now(corolla_queue *queue, PyObject *item)
{
    corolla_state *state = queue->state;
    if (queue->shut_down) {
        PyErr_SetNone(state->QueueShutDown);
        return -1;
    }
    int full = corolla_queue_full(queue);
    if (full != 0) {
        if (full > 0) {
            PyErr_SetNone(state->QueueFull);
        }
        return -1;
    }
    if (queue->own & QUEUE_OWN_PUT) {
        PyObject *done = PyObject_CallMethodOneArg((PyObject *)queue, state->s._put, item);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    else if (corolla_queue_check(queue) < 0 || corolla_queue_add(queue, item) < 0) {
        return -1;
    }
    queue->unfinished++;
    if (queue->finished != NULL) {
        PyObject *done = PyObject_CallMethodNoArgs(queue->finished, state->s.clear);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    return corolla_queue_wake_one(queue, &queue->getters);
}

/* self._get(): new reference or NULL. */
static PyObject *
take_item(corolla_queue *queue)
{
    if (queue->own & QUEUE_OWN_GET) {
        return PyObject_CallMethodNoArgs((PyObject *)queue, queue->state->s._get);
    }
    return corolla_queue_check(queue) < 0 ? NULL : corolla_queue_take(queue);
}

/* What Queue.get_nowait() does. New reference or NULL. */
static PyObject *
get_now(corolla_queue *queue)
{
    corolla_state *state = queue->state;
    int empty = corolla_queue_empty(queue);
    if (empty != 0) {
        if (empty > 0) {
            PyErr_SetNone(queue->shut_down ? state->QueueShutDown : state->QueueEmpty);
        }
        return NULL;
    }
    PyObject *item = take_item(queue);
    if (item != NULL && corolla_queue_wake_one(queue, &queue->putters) < 0) {
        Py_CLEAR(item);
    }
    return item;
}

PyObject *
corolla_queue_put_nowait(corolla_queue *queue, PyObject *item)
{
    if (queue->own & QUEUE_OWN_PUT_NOWAIT) {
        return PyObject_CallMethodOneArg((PyObject *)queue, queue->state->s.put_nowait, item);
    }
    return put_now(queue, item) < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
corolla_queue_get_nowait(corolla_queue *queue)
{
    if (queue->own & QUEUE_OWN_GET_NOWAIT) {
        return PyObject_CallMethodNoArgs((PyObject *)queue, queue->state->s.get_nowait);
    }
    return get_now(queue);
}

PyDoc_STRVAR(put_nowait_doc, "put_nowait($self, /, item)\n--\n\n"
                             "Put an item into the queue.\n\n"
                             "Raises QueueFull if there is no room, QueueShutDown after shutdown().");

static int
unpack_item(const char *function, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **item)
{
    static const char *const names[] = {"item", NULL};
    const corolla_signature sig = {function, names, 1, 1, NULL};
    return corolla_unpack(&sig, args, nargs, kwnames, item);
}

static PyObject *
queue_put_nowait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    if (unpack_item("put_nowait", args, nargs, kwnames, &item) < 0 || corolla_queue_check(queue_of(self)) < 0 ||
        put_now(queue_of(self), item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_nowait_doc,
             "get_nowait($self, /)\n--\n\n"
             "Take an item out of the queue and return it.\n\n"
             "Raises QueueEmpty if there is none, QueueShutDown if there is none and shutdown() has been called.");

static PyObject *
queue_get_nowait(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_queue_check(queue_of(self)) < 0 ? NULL : get_now(queue_of(self));
}

/* ---- put(), get(), join() ------------------------------------------------------------------ */

/* item may be NULL. */
static PyObject *
new_wait(PyObject *self, const corolla_coro_spec *spec, PyObject *item)
{
    corolla_coro *co = corolla_coro_new(queue_of(self)->state, spec);
    if (co == NULL) {
        return NULL;
    }
    queue_wait_state *st = corolla_coro_state(co);
    st->queue = (corolla_queue *)Py_NewRef(self);
    st->item = Py_XNewRef(item);
    return (PyObject *)co;
}

PyDoc_STRVAR(put_doc, "put($self, /, item)\n--\n\n"
                      "Coroutine: put an item into the queue, waiting for room if it is full.\n\n"
                      "Raises QueueShutDown after shutdown(), also while it waits. Specified by asyncio.Queue.put().");

static PyObject *
queue_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *item;
    if (unpack_item("put", args, nargs, kwnames, &item) < 0) {
        return NULL;
    }
    return new_wait(self, &corolla_queue_put_spec, item);
}

PyDoc_STRVAR(get_doc,
             "get($self, /)\n--\n\n"
             "Coroutine: take an item out of the queue and return it, waiting for one if there is none.\n\n"
             "Raises QueueShutDown if there is none and shutdown() has been called. Specified by asyncio.Queue.get().");

static PyObject *
queue_get(PyObject *self, PyObject *unused)
{
    (void)unused;
    return new_wait(self, &corolla_queue_get_spec, NULL);
}

PyDoc_STRVAR(join_doc, "join($self, /)\n--\n\n"
                       "Coroutine: wait until task_done() has been called for every item that was put.\n\n"
                       "Specified by asyncio.Queue.join().");

static PyObject *
queue_join(PyObject *self, PyObject *unused)
{
    (void)unused;
    return new_wait(self, &corolla_queue_join_spec, NULL);
}

PyDoc_STRVAR(task_done_doc, "task_done($self, /)\n--\n\n"
                            "Say that the work on an item taken out of the queue is done; the last one ends join().\n\n"
                            "Raises ValueError if called more often than there were items put.");

static PyObject *
queue_task_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_queue *queue = queue_of(self);
    if (corolla_queue_check(queue) < 0) {
        return NULL;
    }
    if (queue->unfinished <= 0) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    if (--queue->unfinished == 0 && corolla_queue_set_finished(queue) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Takes everything out. 0 or -1. */
static int
drain(corolla_queue *queue)
{
    int empty;
    while ((empty = corolla_queue_empty(queue)) == 0) {
        PyObject *item = take_item(queue);
        if (item == NULL) {
            return -1;
        }
        Py_DECREF(item);
        if (queue->unfinished > 0) {
            queue->unfinished--;
        }
    }
    return empty < 0 ? -1 : queue->unfinished == 0 ? corolla_queue_set_finished(queue) : 0;
}

PyDoc_STRVAR(
    shutdown_doc,
    "shutdown($self, /, immediate=False)\n--\n\n"
    "Make put() raise QueueShutDown, and get() too once the queue is empty; who waits is woken.\n\n"
    "immediate: empty the queue, each item counting as done. Specified by asyncio.Queue.shutdown() of CPython\n"
    "3.13.");

static PyObject *
queue_shutdown(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"immediate", NULL};
    static const corolla_signature sig = {"shutdown", names, 0, 1, NULL};
    corolla_queue *queue = queue_of(self);
    PyObject *given = NULL;
    if ((nargs > 0 || kwnames != NULL) && corolla_unpack(&sig, args, nargs, kwnames, &given) < 0) {
        return NULL;
    }
    if (corolla_queue_check(queue) < 0) {
        return NULL;
    }
    queue->shut_down = true;
    int immediate = given == NULL ? 0 : PyObject_IsTrue(given);
    if (immediate < 0 || (immediate && drain(queue) < 0) || corolla_queue_wake_all(queue, &queue->getters) < 0 ||
        corolla_queue_wake_all(queue, &queue->putters) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- What a subclass may replace ----------------------------------------------------------- */

PyDoc_STRVAR(init_doc, "_init($self, /, maxsize)\n--\n\nMake _queue. A subclass may replace it.");

static PyObject *
queue_py_init(PyObject *self, PyObject *maxsize)
{
    (void)maxsize;
    corolla_queue_replace(queue_of(self), NULL);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(py_put_doc, "_put($self, /, item)\n--\n\nPut an item into _queue. A subclass may replace it.");

static PyObject *
queue_py_put(PyObject *self, PyObject *item)
{
    if (corolla_queue_add(queue_of(self), item) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(py_get_doc, "_get($self, /)\n--\n\nTake an item out of _queue. A subclass may replace it.");

static PyObject *
queue_py_get(PyObject *self, PyObject *unused)
{
    (void)unused;
    return corolla_queue_take(queue_of(self));
}

PyDoc_STRVAR(wakeup_next_doc, "_wakeup_next($self, /, waiters)\n--\n\n"
                              "Wake the first future in a deque that is not done, _getters or _putters.");

static PyObject *
queue_wakeup_next(PyObject *self, PyObject *waiters)
{
    if (corolla_wake_in_deque(queue_of(self)->state, waiters) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_loop_doc, "_get_loop($self, /)\n--\n\n"
                           "Return the running loop, which from now on is the queue's own.\n\n"
                           "Raises RuntimeError if another one is.");

static PyObject *
queue_get_loop(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_queue *queue = queue_of(self);
    if (corolla_binding_bind(queue->state, &queue->binding, self) < 0) {
        return NULL;
    }
    return Py_NewRef(queue->binding.loop);
}

PyDoc_STRVAR(format_doc, "_format($self, /)\n--\n\nReturn what repr() and str() show.");

/* ---- The table ----------------------------------------------------------------------------- */

#define FAST(name, function, doc)                                                       \
    {                                                                                   \
        name, (PyCFunction)(void (*)(void))function, METH_FASTCALL | METH_KEYWORDS, doc \
    }

PyMethodDef corolla_queue_methods[] = {
    {"qsize", queue_qsize, METH_NOARGS, qsize_doc},
    {"empty", queue_empty, METH_NOARGS, empty_doc},
    {"full", queue_full, METH_NOARGS, full_doc},
    FAST("put", queue_put, put_doc),
    FAST("put_nowait", queue_put_nowait, put_nowait_doc),
    {"get", queue_get, METH_NOARGS, get_doc},
    {"get_nowait", queue_get_nowait, METH_NOARGS, get_nowait_doc},
    {"task_done", queue_task_done, METH_NOARGS, task_done_doc},
    {"join", queue_join, METH_NOARGS, join_doc},
    FAST("shutdown", queue_shutdown, shutdown_doc),
    {"_init", queue_py_init, METH_O, init_doc},
    {"_put", queue_py_put, METH_O, py_put_doc},
    {"_get", queue_py_get, METH_NOARGS, py_get_doc},
    {"_wakeup_next", queue_wakeup_next, METH_O, wakeup_next_doc},
    {"_get_loop", queue_get_loop, METH_NOARGS, get_loop_doc},
    {"_format", corolla_queue_format, METH_NOARGS, format_doc},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "See PEP 585."},
    {NULL, NULL, 0, NULL},
};
