/* Inside the room: what the files of the queues share. */
#ifndef COROLLA_QUEUE_H
#define COROLLA_QUEUE_H

#include "primitives.h"
#include "waitlist.h"

typedef enum { QUEUE_FIFO, QUEUE_LIFO, QUEUE_PRIORITY } queue_kind;

/* The items. They stand in a ring of ours until Python asks for _queue, or sets it: from then on that object holds
 * them, and whoever has it may change it. */
typedef struct queue_items {
    PyObject **slots; /* owned table of owned references; in a heap's order for QUEUE_PRIORITY */
    Py_ssize_t capacity, head, count;
    uint64_t changes; /* how often the ring has changed: a comparison may change it while we look */
    PyObject *shown;  /* owned: _queue, in the ring's place; or NULL */
} queue_items;

/* Methods that a Python subclass has replaced: decided once for each queue, from its type. */
enum {
    QUEUE_OWN_INIT = 1,
    QUEUE_OWN_PUT = 2,
    QUEUE_OWN_GET = 4,
    QUEUE_OWN_QSIZE = 8,
    QUEUE_OWN_EMPTY = 16,
    QUEUE_OWN_FULL = 32,
    QUEUE_OWN_PUT_NOWAIT = 64,
    QUEUE_OWN_GET_NOWAIT = 128,
    QUEUE_OWN_WAKEUP = 256,
    QUEUE_OWN_FORMAT = 512,
};

/* A limit that only the object given for it can tell, by comparison. */
enum { QUEUE_ODD_LIMIT = -1 };

typedef struct corolla_queue {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *maxsize;    /* owned: as given; NULL until __init__ has run */
    Py_ssize_t limit;     /* the same in items; 0: none; or QUEUE_ODD_LIMIT */
    queue_items items;
    corolla_binding binding; /* of getters and putters */
    corolla_waitlist getters, putters;
    corolla_binding joining; /* of joiners: asyncio's event is bound by itself */
    corolla_waiters joiners;
    PyObject *finished; /* owned: an Event for those who read _finished; NULL until somebody has */
    Py_ssize_t unfinished;
    unsigned own; /* QUEUE_OWN_ bits */
    uint8_t kind; /* queue_kind */
    bool shut_down;
} corolla_queue;

/* ---- queue_items.c ------------------------------------------------------------------------- */

/* -1 with an exception; never of the ring itself. */
Py_ssize_t corolla_queue_count(corolla_queue *queue);
int corolla_queue_is_empty(corolla_queue *queue); /* 1, 0 or -1 */
/* What _put and _get do when nobody has replaced them. An error leaves the items as they were, unless _queue is in
 * other hands. 0 or -1; new reference or NULL. */
int corolla_queue_add(corolla_queue *queue, PyObject *item);
PyObject *corolla_queue_take(corolla_queue *queue);
/* _queue: new reference or NULL. */
PyObject *corolla_queue_show(corolla_queue *queue);
/* A new list of the items, in the order of _queue. New reference or NULL. */
PyObject *corolla_queue_list(corolla_queue *queue);
/* No items, and those that were are dropped; shown (not stolen) or NULL takes their place. */
void corolla_queue_replace(corolla_queue *queue, PyObject *shown);
int corolla_queue_items_traverse(queue_items *items, visitproc visit, void *arg);

/* ---- queue_heap.c -------------------------------------------------------------------------- */

/* The same for a heap, in the ring or in a list that is shown. */
int corolla_heap_push(queue_items *items, PyObject *item);
PyObject *corolla_heap_pop(queue_items *items);

/* Room for one more in the ring. 0 or -1 with MemoryError. */
int corolla_queue_reserve(queue_items *items);
/* The memory of a large ring that is empty now. */
void corolla_queue_give_back(queue_items *items);

/* ---- queue_wait.c -------------------------------------------------------------------------- */

/* Sets the result of the first future in a deque, or in what looks like one, that is not done. 0 or -1. */
int corolla_wake_in_deque(corolla_state *state, PyObject *deque);
int corolla_queue_wake_one(corolla_queue *queue, corolla_waitlist *line); /* 0 or -1 */
/* Wakes everybody; the first error is raised after the last. 0 or -1. */
int corolla_queue_wake_all(corolla_queue *queue, corolla_waitlist *line);
/* No task is unfinished: tells the joiners. 0 or -1. */
int corolla_queue_set_finished(corolla_queue *queue);

extern const corolla_coro_spec corolla_queue_put_spec, corolla_queue_get_spec, corolla_queue_join_spec;

typedef struct queue_wait_state {
    corolla_queue *queue; /* owned */
    PyObject *item;       /* owned: of put() */
    PyObject *waiter;     /* owned */
} queue_wait_state;

/* ---- queue.c ------------------------------------------------------------------------------- */

/* RuntimeError if __init__ has not run. 0 or -1. */
int corolla_queue_check(corolla_queue *queue);
/* full(), empty(), put_nowait() and get_nowait(), whoever's they are: 1, 0 or -1; new reference or NULL. */
int corolla_queue_full(corolla_queue *queue);
int corolla_queue_empty(corolla_queue *queue);
PyObject *corolla_queue_put_nowait(corolla_queue *queue, PyObject *item);
PyObject *corolla_queue_get_nowait(corolla_queue *queue);
/* Sets own, from a type that is not one of the three. 0 or -1. */
int corolla_queue_find_overrides(corolla_queue *queue, PyTypeObject *type);
/* The number of items from which on it is full: 0 for never, QUEUE_ODD_LIMIT for what is not a plain number. */
Py_ssize_t corolla_queue_limit(PyObject *maxsize);
extern PyMethodDef corolla_queue_methods[];

/* ---- queue_type.c -------------------------------------------------------------------------- */

PyObject *corolla_queue_format(PyObject *self, PyObject *unused); /* the method _format() */

#endif
