/* The heap of a PriorityQueue: heapq's order, and its order of comparisons.
 *
 * A comparison may raise, or run code that puts into or gets from this very queue. So nothing is moved until all
 * comparisons are made: an error leaves every item where it was, and a heap that has changed under a comparison is
 * an error, as it is to heapq. */
#include "queue.h"

/* The items as one table of slots: of the ring, whose head a heap never moves, or of the list that is shown. */
typedef struct {
    queue_items *items;
    PyObject *list;   /* owned, or NULL */
    Py_ssize_t count; /* when we began */
    uint64_t changes;
} Heap;

static int
heap_open(Heap *heap, queue_items *items)
{
    *heap = (Heap){items, NULL, items->count, items->changes};
    if (items->shown != NULL) {
        if (!PyList_Check(items->shown)) {
            PyErr_SetString(PyExc_TypeError, "heap argument must be a list");
            return -1;
        }
        heap->list = Py_NewRef(items->shown);
        heap->count = PyList_GET_SIZE(heap->list);
    }
    return 0;
}

static PyObject *
heap_at(const Heap *heap, Py_ssize_t index)
{
    return heap->list != NULL ? PyList_GET_ITEM(heap->list, index) : heap->items->slots[index];
}

/* Neither takes nor drops a reference. */
static void
heap_set(const Heap *heap, Py_ssize_t index, PyObject *item)
{
    if (heap->list != NULL) {
        PyList_SET_ITEM(heap->list, index, item);
    }
    else {
        heap->items->slots[index] = item;
    }
}

static bool
heap_is_same(const Heap *heap)
{
    if (heap->list != NULL) {
        return heap->items->shown == heap->list && PyList_GET_SIZE(heap->list) == heap->count;
    }
    return heap->items->shown == NULL && heap->items->changes == heap->changes;
}

/* 1 if one is less than other, 0, or -1. */
static int
heap_less(const Heap *heap, PyObject *one, PyObject *other)
{
    Py_INCREF(one);
    Py_INCREF(other);
    int less = PyObject_RichCompareBool(one, other, Py_LT);
    Py_DECREF(one);
    Py_DECREF(other);
    if (less >= 0 && !heap_is_same(heap)) {
        PyErr_SetString(PyExc_RuntimeError, "list changed size during iteration");
        return -1;
    }
    return less;
}

/* ---- Push ---------------------------------------------------------------------------------- */

static int
heap_append(const Heap *heap, PyObject *item)
{
    if (heap->list != NULL) {
        return PyList_Append(heap->list, item);
    }
    if (corolla_queue_reserve(heap->items) < 0) {
        return -1;
    }
    heap->items->slots[heap->items->count++] = Py_NewRef(item);
    heap->items->changes++;
    return 0;
}

int
corolla_heap_push(queue_items *items, PyObject *item)
{
    Heap heap;
    int rc = -1;
    if (heap_open(&heap, items) < 0) {
        return -1;
    }
    Py_ssize_t place = heap.count;
    while (place > 0) {
        Py_ssize_t parent = (place - 1) >> 1;
        int less = heap_less(&heap, item, heap_at(&heap, parent));
        if (less < 0) {
            goto fail;
        }
        if (!less) {
            break;
        }
        place = parent;
    }
    if (heap_append(&heap, item) < 0) {
        goto fail;
    }
    for (Py_ssize_t at = heap.count; at > place; at = (at - 1) >> 1) {
        heap_set(&heap, at, heap_at(&heap, (at - 1) >> 1));
    }
    heap_set(&heap, place, item); /* the reference is the one appended */
    rc = 0;
fail:
    Py_XDECREF(heap.list);
    return rc;
}

/* ---- Pop ----------------------------------------------------------------------------------- */

/* Where the lesser child is, from the root down to a leaf: path[0] is the root. Gives the index of the leaf in
 * path, or -1. */
static int
heap_descend(const Heap *heap, Py_ssize_t end, Py_ssize_t *path)
{
    int depth = 0;
    path[0] = 0;
    while (path[depth] < end >> 1) {
        Py_ssize_t child = 2 * path[depth] + 1;
        if (child + 1 < end) {
            int less = heap_less(heap, heap_at(heap, child), heap_at(heap, child + 1));
            if (less < 0) {
                return -1;
            }
            child += !less;
        }
        path[++depth] = child;
    }
    return depth;
}

/* Takes the last slot off. The caller has a reference of its own to what is in it. */
static int
heap_shrink(const Heap *heap)
{
    if (heap->list != NULL) {
        return PyList_SetSlice(heap->list, heap->count - 1, heap->count, NULL);
    }
    Py_DECREF(heap->items->slots[--heap->items->count]);
    heap->items->changes++;
    corolla_queue_give_back(heap->items);
    return 0;
}

PyObject *
corolla_heap_pop(queue_items *items)
{
    Heap heap;
    Py_ssize_t path[8 * sizeof(Py_ssize_t)];
    PyObject *first = NULL, *last = NULL;
    if (heap_open(&heap, items) < 0) {
        return NULL;
    }
    if (heap.count == 0) {
        PyErr_SetString(PyExc_IndexError, "index out of range");
        goto fail;
    }
    last = Py_NewRef(heap_at(&heap, heap.count - 1));
    int depth = heap_descend(&heap, heap.count - 1, path);
    if (depth < 0) {
        goto fail;
    }
    while (depth > 0) {
        int less = heap_less(&heap, last, heap_at(&heap, path[depth]));
        if (less < 0) {
            goto fail;
        }
        if (!less) {
            break;
        }
        depth--;
    }
    if (heap_shrink(&heap) < 0) {
        goto fail;
    }
    if (heap.count == 1) {
        first = last;
        last = NULL;
        goto fail;
    }
    first = heap_at(&heap, 0);
    for (int i = 0; i < depth; i++) {
        heap_set(&heap, path[i], heap_at(&heap, path[i + 1]));
    }
    heap_set(&heap, path[depth], last);
    last = NULL;
fail:
    Py_XDECREF(last);
    Py_XDECREF(heap.list);
    return first;
}
