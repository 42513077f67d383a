/* What C callbacks of futures that are not ours, or on other threads, are given: a few objects and the module's state. */
#ifndef COROLLA_LINK_H
#define COROLLA_LINK_H

#include "primitives.h"

enum { COROLLA_LINKED = 4 };

typedef struct corolla_link {
    PyObject_HEAD
    corolla_state *state;              /* borrowed */
    PyObject *objects[COROLLA_LINKED]; /* owned, each; whoever makes it says what they are */
} corolla_link;

/* A new one; objects may be NULL and are not stolen. NULL with MemoryError. */
corolla_link *corolla_link_new(corolla_state *state, PyObject *first, PyObject *second, PyObject *third);
/* Takes one of its objects out: the caller's reference, or NULL. */
static inline PyObject *
corolla_link_take(corolla_link *link, int index)
{
    PyObject *object = link->objects[index];
    link->objects[index] = NULL;
    return object;
}
/* Drops all of them. */
void corolla_link_clear(corolla_link *link);

#endif
