/* What a queue holds, apart from who waits for it. */
#include <string.h>

#include "queue.h"

/* ---- The ring ------------------------------------------------------------------------------ */

/* A ring as large as this is given back once it is empty. */
enum { LARGE_RING = 1024 };

static PyObject **
slot_at(queue_items *items, Py_ssize_t index)
{
    return &items->slots[(items->head + index) & (items->capacity - 1)];
}

int
corolla_queue_reserve(queue_items *items)
{
    if (items->count < items->capacity) {
        return 0;
    }
    if (items->capacity > PY_SSIZE_T_MAX / 4 / (Py_ssize_t)sizeof(PyObject *)) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t capacity = items->capacity == 0 ? 8 : items->capacity * 2;
    PyObject **slots = PyMem_New(PyObject *, capacity);
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < items->count; i++) {
        slots[i] = *slot_at(items, i);
    }
    PyMem_Free(items->slots);
    items->slots = slots;
    items->capacity = capacity;
    items->head = 0;
    return 0;
}

static int
ring_append(queue_items *items, PyObject *item)
{
    if (corolla_queue_reserve(items) < 0) {
        return -1;
    }
    *slot_at(items, items->count) = Py_NewRef(item);
    items->count++;
    items->changes++;
    return 0;
}

void
corolla_queue_give_back(queue_items *items)
{
    if (items->count == 0 && items->capacity >= LARGE_RING) {
        PyMem_Free(items->slots);
        items->slots = NULL;
        items->capacity = items->head = 0;
    }
}

static PyObject *
ring_take(queue_items *items, bool last)
{
    if (items->count == 0) {
        PyErr_SetString(PyExc_IndexError, last ? "pop from empty list" : "pop from an empty deque");
        return NULL;
    }
    PyObject *item = *slot_at(items, last ? items->count - 1 : 0);
    if (!last) {
        items->head = (items->head + 1) & (items->capacity - 1);
    }
    items->count--;
    items->changes++;
    corolla_queue_give_back(items);
    return item;
}

/* ---- As asyncio's methods see them --------------------------------------------------------- */

Py_ssize_t
corolla_queue_count(corolla_queue *queue)
{
    return queue->items.shown == NULL ? queue->items.count : PyObject_Size(queue->items.shown);
}

/* By its truth, as asyncio asks: what is shown need not have a length. */
int
corolla_queue_is_empty(corolla_queue *queue)
{
    if (queue->items.shown == NULL) {
        return queue->items.count == 0;
    }
    int truth = PyObject_IsTrue(queue->items.shown);
    return truth < 0 ? -1 : !truth;
}

int
corolla_queue_add(corolla_queue *queue, PyObject *item)
{
    queue_items *items = &queue->items;
    if (queue->kind == QUEUE_PRIORITY) {
        return corolla_heap_push(items, item);
    }
    if (items->shown == NULL) {
        return ring_append(items, item);
    }
    PyObject *shown = Py_NewRef(items->shown);
    PyObject *done = PyObject_CallMethodOneArg(shown, queue->state->s.append, item);
    Py_DECREF(shown);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
corolla_queue_take(corolla_queue *queue)
{
    queue_items *items = &queue->items;
    if (queue->kind == QUEUE_PRIORITY) {
        return corolla_heap_pop(items);
    }
    bool last = queue->kind == QUEUE_LIFO;
    if (items->shown == NULL) {
        return ring_take(items, last);
    }
    PyObject *shown = Py_NewRef(items->shown);
    PyObject *item = PyObject_CallMethodNoArgs(shown, last ? queue->state->s.pop : queue->state->s.popleft);
    Py_DECREF(shown);
    return item;
}

/* ---- Showing ------------------------------------------------------------------------------- */

void
corolla_queue_replace(corolla_queue *queue, PyObject *shown)
{
    queue_items *items = &queue->items, old = *items;
    memset(items, 0, sizeof *items);
    items->changes = old.changes + 1;
    items->shown = Py_XNewRef(shown);
    for (Py_ssize_t i = 0; i < old.count; i++) {
        Py_DECREF(*slot_at(&old, i));
    }
    PyMem_Free(old.slots);
    Py_XDECREF(old.shown);
}

/* Making a list may run the collector, and so code of others; filling it does not. New reference or NULL. */
static PyObject *
ring_list(queue_items *items)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < items->count; i++) {
        if (PyList_Append(list, *slot_at(items, i)) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

PyObject *
corolla_queue_list(corolla_queue *queue)
{
    queue_items *items = &queue->items;
    if (items->shown == NULL) {
        return ring_list(items);
    }
    PyObject *shown = Py_NewRef(items->shown);
    PyObject *list = PySequence_List(shown);
    Py_DECREF(shown);
    return list;
}

/* A deque of them; appending to one runs no code of others. */
static PyObject *
ring_deque(corolla_state *state, queue_items *items)
{
    PyObject *deque = PyObject_CallNoArgs(state->deque);
    for (Py_ssize_t i = 0; deque != NULL && i < items->count; i++) {
        PyObject *done = PyObject_CallMethodOneArg(deque, state->s.append, *slot_at(items, i));
        if (done == NULL) {
            Py_CLEAR(deque);
        }
        Py_XDECREF(done);
    }
    return deque;
}

PyObject *
corolla_queue_show(corolla_queue *queue)
{
    queue_items *items = &queue->items;
    if (items->shown == NULL) {
        PyObject *shown = queue->kind == QUEUE_FIFO ? ring_deque(queue->state, items) : ring_list(items);
        if (shown == NULL) {
            return NULL;
        }
        if (items->shown == NULL) {
            corolla_queue_replace(queue, shown);
        }
        Py_DECREF(shown);
    }
    return Py_NewRef(items->shown);
}

int
corolla_queue_items_traverse(queue_items *items, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < items->count; i++) {
        Py_VISIT(*slot_at(items, i));
    }
    Py_VISIT(items->shown);
    return 0;
}
