/* The bytes a reader holds: one bytes object that is filled at its end and taken from at its front. */
#ifndef COROLLA_STREAMS_BUFFER_H
#define COROLLA_STREAMS_BUFFER_H

#include "../compat.h"

#include <stdbool.h>

/* All zero bytes is an empty one. What is taken whole is handed out as it is, without a copy. */
typedef struct corolla_buffer {
    PyObject *store;   /* owned: exactly bytes, or NULL */
    size_t begin, end; /* what is unread in it; begin < end unless there is nothing */
    bool shared;       /* others may hold the store: it is not written to */
} corolla_buffer;

static inline size_t
buffer_len(const corolla_buffer *buffer)
{
    return buffer->end - buffer->begin;
}

/* NULL when it is empty. */
static inline const char *
buffer_data(const corolla_buffer *buffer)
{
    return buffer->store == NULL ? NULL : PyBytes_AS_STRING(buffer->store) + buffer->begin;
}

void buffer_clear(corolla_buffer *buffer);
/* Adds a bytes object by reference where it can. 0 or -1 with MemoryError. */
int buffer_add_bytes(corolla_buffer *buffer, PyObject *bytes);
int buffer_add(corolla_buffer *buffer, const void *data, size_t len); /* copies; 0 or -1 with MemoryError */
/* Room for at least that many bytes (> 0) behind the unread ones; all there is of it. 0 or -1 with MemoryError. */
int buffer_reserve(corolla_buffer *buffer, size_t least, void **room, size_t *len);
/* Makes the store exactly that long, so that it can be handed out whole once it is full. 0 or -1 with MemoryError. */
int buffer_fit(corolla_buffer *buffer, size_t len);
void buffer_added(corolla_buffer *buffer, size_t len); /* so many were put where buffer_reserve() said */
/* The first len (at most what there is) as a bytes object, new reference, and drops them; NULL with MemoryError and
 * nothing dropped. */
PyObject *buffer_take(corolla_buffer *buffer, size_t len);
void buffer_drop(corolla_buffer *buffer, size_t len);

#endif
