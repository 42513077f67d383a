/* Free lists of the objects that are made and dropped all the time. One set for each interpreter. */
#ifndef COROLLA_FREELIST_H
#define COROLLA_FREELIST_H

#include "../state.h"

enum { FREELIST_MAX = 256 };

typedef struct freelist {
    PyObject *items[FREELIST_MAX]; /* dead objects: memory only, no reference of theirs is counted */
    int count;
} freelist;

/* A future may be the result of a future that is the result of a future: so that freeing the last does not recurse
 * into them all, the dead beyond NEST_DEEPEST deallocations inside one another wait for the outermost. */
enum { NEST_DEEPEST = 50 };

typedef struct nest {
    int depth;
    PyObject *late; /* dead objects, not cleared yet: a list through their fields for weak references */
} nest;

typedef struct corolla_freelists {
    freelist handles, timers, futures, tasks, iters, callbacks, coros, stops, bounds;
    nest dying_futures, dying_handles;
} corolla_freelists;

/* A new object of exactly that type, counted in the state, not tracked, its fields not set. NULL with
 * MemoryError. */
static inline PyObject *
freelist_new(corolla_state *state, freelist *list, PyTypeObject *type)
{
    PyObject *self;
    if (list->count > 0) {
        self = list->items[--list->count];
        corolla_revive(self, type);
    }
    else {
        self = _PyObject_GC_New(type);
        if (self == NULL) {
            return NULL;
        }
    }
    corolla_state_hold(state);
    return self;
}

/* Takes the memory of an object that is dead, untracked and cleared; drops its type and its count. One whose
 * finalizer has run is not kept: its header says so, and the next owner's would never run. */
static inline void
freelist_drop(corolla_state *state, freelist *list, PyTypeObject *exact, PyObject *self, bool finalized)
{
    PyTypeObject *type = Py_TYPE(self);
    if (type == exact && list->count < FREELIST_MAX && state->module != NULL && !finalized) {
        list->items[list->count++] = self;
    }
    else {
        type->tp_free(self);
    }
    Py_DECREF(type);
    corolla_state_drop(state);
}

#endif
