/* Stream: reading. The coroutines are StreamReader's, and two more. */
#include "stream.h"

#include <string.h>

/* ---- StreamReader's ------------------------------------------------------------------------ */

static PyObject *
stream_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    return reader_call_of(reader_read(((StreamWriter *)self)->reader, args, nargs, kwnames), self);
}

static PyObject *
stream_readexactly(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    return reader_call_of(reader_readexactly(((StreamWriter *)self)->reader, args, nargs, kwnames), self);
}

static PyObject *
stream_readuntil(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    return reader_call_of(reader_readuntil(((StreamWriter *)self)->reader, args, nargs, kwnames), self);
}

static PyObject *
stream_readline(PyObject *self, PyObject *unused)
{
    if (stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    return reader_call_of(reader_readline(((StreamWriter *)self)->reader, NULL), self);
}

/* ---- readinto() and peek() ------------------------------------------------------------------- */

typedef struct {
    StreamReader *reader; /* owned */
    PyObject *owner;      /* owned: the Stream whose reader it is */
    PyObject *waiter;     /* owned: the future that this call waits on */
    PyObject *target;     /* owned: what readinto() fills; NULL: peek() */
    Py_ssize_t n;         /* peek(): bytes at most; < 0: all */
} LookState;

static int
look_traverse(void *data, visitproc visit, void *arg)
{
    LookState *st = data;
    Py_VISIT(st->reader);
    Py_VISIT(st->owner);
    Py_VISIT(st->waiter);
    Py_VISIT(st->target);
    return 0;
}

static void
look_clear(void *data)
{
    LookState *st = data;
    Py_CLEAR(st->reader);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->target);
    Py_CLEAR(st->owner);
}

/* A view of a writable buffer that is not empty. 0, or -1 with TypeError, BufferError or ValueError. */
static int
open_target(PyObject *target, Py_buffer *view)
{
    if (PyObject_GetBuffer(target, view, PyBUF_WRITABLE) < 0) {
        return -1;
    }
    if (view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "readinto() needs a buffer that is not empty");
        return -1;
    }
    return 0;
}

/* Moves what there is into the target: how many bytes, as an int. New reference or NULL. */
static PyObject *
fill_target(LookState *st)
{
    Py_buffer view;
    if (open_target(st->target, &view) < 0) {
        return NULL; /* it was emptied meanwhile: 0 would look like the end */
    }
    corolla_buffer *buffer = &st->reader->buffer;
    size_t len = buffer_len(buffer) < (size_t)view.len ? buffer_len(buffer) : (size_t)view.len;
    PyObject *count = PyLong_FromSize_t(len);
    if (count != NULL && len > 0) {
        memcpy(view.buf, buffer_data(buffer), len);
        buffer_drop(buffer, len);
    }
    PyBuffer_Release(&view);
    if (count != NULL && reader_resume(st->reader) < 0) {
        Py_CLEAR(count);
    }
    return count;
}

static PyObject *
look_at(LookState *st)
{
    corolla_buffer *buffer = &st->reader->buffer;
    size_t len = buffer_len(buffer);
    return PyBytes_FromStringAndSize(buffer_data(buffer),
                                     (Py_ssize_t)(st->n < 0 || (size_t)st->n > len ? len : (size_t)st->n));
}

/* Both wait for the first byte, or the end. */
static corolla_step
look_step(corolla_coro *co, PyObject *value)
{
    LookState *st = corolla_coro_state(co);
    StreamReader *reader = st->reader;

    COROLLA_BEGIN(co);

    if (st->target == NULL && st->n == 0) {
        return corolla_return(co, PyBytes_FromStringAndSize(NULL, 0));
    }
    /* Again, if somebody else has taken what came: nothing would look like the end. */
    while (buffer_len(&reader->buffer) == 0) {
        if (reader_check_exception(reader) < 0) {
            return COROLLA_RAISE;
        }
        if (reader->eof) {
            break;
        }
        if (reader_begin_wait(reader, &st->waiter, st->target != NULL ? "readinto" : "peek", 0) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        reader_end_wait(reader, &st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, st->target != NULL ? fill_target(st) : look_at(st));

    COROLLA_END(co);
}

static const corolla_coro_spec readinto_spec = {
    .name = "readinto",
    .qualname = "Stream.readinto",
    .size = sizeof(LookState),
    .step = look_step,
    .traverse = look_traverse,
    .clear = look_clear,
};

static const corolla_coro_spec peek_spec = {
    .name = "peek",
    .qualname = "Stream.peek",
    .size = sizeof(LookState),
    .step = look_step,
    .traverse = look_traverse,
    .clear = look_clear,
};

static LookState *
new_look(PyObject *self, const corolla_coro_spec *spec, corolla_coro **co)
{
    *co = corolla_coro_new(((StreamWriter *)self)->state, spec);
    if (*co == NULL) {
        return NULL;
    }
    LookState *st = corolla_coro_state(*co);
    st->reader = (StreamReader *)Py_NewRef(((StreamWriter *)self)->reader);
    st->owner = Py_NewRef(self);
    return st;
}

static int
check_target(PyObject *target)
{
    Py_buffer view;
    if (open_target(target, &view) < 0) {
        return -1;
    }
    PyBuffer_Release(&view);
    return 0;
}

static PyObject *
stream_readinto(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *target = corolla_unpack_one("readinto", "buffer", args, nargs, kwnames);
    if (target == NULL || stream_check((Stream *)self, STREAM_READ) < 0 || check_target(target) < 0) {
        return NULL;
    }
    corolla_coro *co;
    LookState *st = new_look(self, &readinto_spec, &co);
    if (st != NULL) {
        st->target = Py_NewRef(target);
    }
    return (PyObject *)co;
}

static PyObject *
stream_peek(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    static const corolla_signature sig = {"peek", names, 0, 1, NULL};
    PyObject *given;
    if (corolla_unpack(&sig, args, nargs, kwnames, &given) < 0 || stream_check((Stream *)self, STREAM_READ) < 0) {
        return NULL;
    }
    Py_ssize_t n = given == NULL ? -1 : PyNumber_AsSsize_t(given, NULL); /* clipped */
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    corolla_coro *co;
    LookState *st = new_look(self, &peek_spec, &co);
    if (st != NULL) {
        st->n = n;
    }
    return (PyObject *)co;
}

/* ---- Methods --------------------------------------------------------------------------------- */

PyDoc_STRVAR(read_doc, "read($self, /, n=-1)\n--\n\n"
                       "Coroutine: return up to n bytes, as soon as there is one; b'' at the end.\n\n"
                       "n: bytes; all until the end if negative. Raises what the connection was lost with, and\n"
                       "RuntimeError while another coroutine waits for bytes. Cancelling it loses none.");
PyDoc_STRVAR(readexactly_doc,
             "readexactly($self, /, n)\n--\n\n"
             "Coroutine: return exactly n bytes.\n\n"
             "Raises asyncio.IncompleteReadError, with what there was in its attribute partial, if the\n"
             "end comes before; ValueError for a negative n; and what read() raises.");
PyDoc_STRVAR(readuntil_doc,
             "readuntil($self, /, separator=b'\\n')\n--\n\n"
             "Coroutine: return the bytes up to and including the separator.\n\n"
             "separator: a bytes-like object, or a tuple of them: the match that ends first wins. Raises\n"
             "asyncio.IncompleteReadError if the end comes before; asyncio.LimitOverrunError, with the\n"
             "bytes left unread, if more than the limit come before it; ValueError for an empty\n"
             "separator; and what read() raises.");
PyDoc_STRVAR(readline_doc, "readline($self, /)\n--\n\n"
                           "Coroutine: return the bytes up to and including the next newline; the rest without one at\n"
                           "the end.\n\n"
                           "Raises ValueError for a line longer than the limit, which is dropped, and what read()\n"
                           "raises.");
PyDoc_STRVAR(readinto_doc,
             "readinto($self, /, buffer)\n--\n\n"
             "Coroutine: fill the beginning of a buffer with what there is, at least one byte; return how\n"
             "many, 0 at the end.\n\n"
             "buffer: a writable bytes-like object, not empty (ValueError). Raises what read() raises.");
PyDoc_STRVAR(peek_doc, "peek($self, /, n=-1)\n--\n\n"
                       "Coroutine: as read(n), but the bytes stay unread; a negative n means all that have come.");

PyMethodDef stream_read_methods[] = {
    {"read", (PyCFunction)(void (*)(void))stream_read, METH_FASTCALL | METH_KEYWORDS, read_doc},
    {"readexactly", (PyCFunction)(void (*)(void))stream_readexactly, METH_FASTCALL | METH_KEYWORDS, readexactly_doc},
    {"readuntil", (PyCFunction)(void (*)(void))stream_readuntil, METH_FASTCALL | METH_KEYWORDS, readuntil_doc},
    {"readline", stream_readline, METH_NOARGS, readline_doc},
    {"readinto", (PyCFunction)(void (*)(void))stream_readinto, METH_FASTCALL | METH_KEYWORDS, readinto_doc},
    {"peek", (PyCFunction)(void (*)(void))stream_peek, METH_FASTCALL | METH_KEYWORDS, peek_doc},
    {NULL, NULL, 0, NULL},
};
