/* The bytes a reader holds. */
#include "buffer.h"

#include <assert.h>
#include <string.h>

void
buffer_clear(corolla_buffer *buffer)
{
    Py_CLEAR(buffer->store); /* bytes: no finaliser runs */
    buffer->begin = buffer->end = 0;
    buffer->shared = false;
}

static size_t
capacity_of(const corolla_buffer *buffer)
{
    return buffer->store == NULL ? 0 : (size_t)PyBytes_GET_SIZE(buffer->store);
}

/* A store of that capacity with what is unread at its beginning. */
static int
move_to(corolla_buffer *buffer, size_t capacity)
{
    size_t len = buffer_len(buffer);
    assert(capacity >= len && capacity > 0);
    if (capacity > (size_t)PY_SSIZE_T_MAX - 64) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *store = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)capacity);
    if (store == NULL) {
        return -1;
    }
    if (len > 0) {
        memcpy(PyBytes_AS_STRING(store), buffer_data(buffer), len);
    }
    Py_XSETREF(buffer->store, store);
    buffer->begin = 0;
    buffer->end = len;
    buffer->shared = false;
    return 0;
}

int
buffer_reserve(corolla_buffer *buffer, size_t least, void **room, size_t *len)
{
    size_t capacity = capacity_of(buffer);
    if (buffer->shared || capacity - buffer->end < least) {
        size_t unread = buffer_len(buffer);
        size_t wanted = unread == 0 ? least : unread + (unread > least ? unread : least);
        if (move_to(buffer, wanted) < 0) {
            return -1;
        }
        capacity = wanted;
    }
    *room = PyBytes_AS_STRING(buffer->store) + buffer->end;
    *len = capacity - buffer->end;
    return 0;
}

int
buffer_fit(corolla_buffer *buffer, size_t len)
{
    assert(len >= buffer_len(buffer));
    if (buffer->begin == 0 && !buffer->shared && capacity_of(buffer) == len) {
        return 0;
    }
    return move_to(buffer, len);
}

void
buffer_added(corolla_buffer *buffer, size_t len)
{
    buffer->end += len;
    assert(buffer->end <= capacity_of(buffer));
}

int
buffer_add(corolla_buffer *buffer, const void *data, size_t len)
{
    void *room;
    size_t there;
    if (len == 0) {
        return 0;
    }
    if (buffer_reserve(buffer, len, &room, &there) < 0) {
        return -1;
    }
    memcpy(room, data, len);
    buffer_added(buffer, len);
    return 0;
}

int
buffer_add_bytes(corolla_buffer *buffer, PyObject *bytes)
{
    size_t len = (size_t)PyBytes_GET_SIZE(bytes);
    if (buffer_len(buffer) > 0 || len == 0) {
        return buffer_add(buffer, PyBytes_AS_STRING(bytes), len);
    }
    Py_XSETREF(buffer->store, Py_NewRef(bytes));
    buffer->begin = 0;
    buffer->end = len;
    buffer->shared = true;
    return 0;
}

void
buffer_drop(corolla_buffer *buffer, size_t len)
{
    assert(len <= buffer_len(buffer));
    buffer->begin += len;
    if (buffer->begin == buffer->end) {
        buffer_clear(buffer); /* an idle connection holds no memory */
    }
}

PyObject *
buffer_take(corolla_buffer *buffer, size_t len)
{
    if (len == 0 || len < buffer_len(buffer) || buffer->begin > 0 || buffer->end != capacity_of(buffer)) {
        PyObject *taken = PyBytes_FromStringAndSize(buffer_data(buffer), (Py_ssize_t)len);
        if (taken != NULL) {
            buffer_drop(buffer, len);
        }
        return taken;
    }
    PyObject *whole = buffer->store;
    buffer->store = NULL;
    buffer_clear(buffer);
    return whole;
}
