/* What locks, queues and streams share: the loop they are bound to, and a queue of futures that wait. */
#ifndef COROLLA_WAITERS_H
#define COROLLA_WAITERS_H

#include "scheduler.h"

/* ---- The loop that something is bound to ---------------------------------------------------- */

/* As asyncio's mixin: the first time something has to wait, it belongs to the loop that runs then. */
typedef struct corolla_binding {
    PyObject *loop;     /* owned; NULL while not bound */
    corolla_core *core; /* borrowed from loop; NULL when it is not one of ours */
} corolla_binding;

/* Binds self to the running loop. 0, or -1 with RuntimeError when none runs or it is bound to another. */
int corolla_binding_bind(corolla_state *state, corolla_binding *binding, PyObject *self);
/* A new future of the loop it is bound to, by its create_future() when that is not ours. New reference or NULL. */
PyObject *corolla_binding_future(corolla_state *state, corolla_binding *binding);

static inline int
corolla_binding_traverse(corolla_binding *binding, visitproc visit, void *arg)
{
    Py_VISIT(binding->loop);
    return 0;
}

static inline void
corolla_binding_clear(corolla_binding *binding)
{
    binding->core = NULL;
    Py_CLEAR(binding->loop);
}

/* ---- Futures that wait, first come first served --------------------------------------------- */

/* A ring; all zero bytes is an empty one. Futures of any kind, compared by identity. */
typedef struct corolla_waiters {
    PyObject **items;  /* owned table of owned references */
    uint32_t capacity; /* 0 or a power of two */
    uint32_t head;     /* index of the first */
    uint32_t count;
} corolla_waiters;

int corolla_waiters_push(corolla_waiters *waiters, PyObject *future); /* 0 or -1 with MemoryError */
/* The first one (owned by the caller now), or NULL when there is none. */
PyObject *corolla_waiters_pop(corolla_waiters *waiters);
/* Takes one out; false when it is not there. The structure is whole before its reference goes. */
bool corolla_waiters_remove(corolla_waiters *waiters, PyObject *future);
/* The one at that place, borrowed; index < count. */
static inline PyObject *
corolla_waiters_at(const corolla_waiters *waiters, uint32_t index)
{
    return waiters->items[(waiters->head + index) & (waiters->capacity - 1)];
}
/* A collections.deque of them, for attributes such as Lock._waiters. New reference or NULL. */
PyObject *corolla_waiters_deque(corolla_state *state, const corolla_waiters *waiters);
int corolla_waiters_traverse(corolla_waiters *waiters, visitproc visit, void *arg);
void corolla_waiters_clear(corolla_waiters *waiters);

#endif
