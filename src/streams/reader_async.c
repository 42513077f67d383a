/* The coroutines of StreamReader: read, readexactly, readuntil, readline. What is cancelled leaves its bytes in the
 * buffer. */
#include <string.h>

#include "streams.h"

/* ---- Waiting for bytes --------------------------------------------------------------------- */

typedef struct {
    StreamReader *reader; /* owned */
    PyObject *owner;      /* owned: the Stream whose call it is, or NULL */
    PyObject *waiter;     /* owned: the future that this call waits on */
    Py_ssize_t n;         /* read() and readexactly(): bytes asked for; < 0: all */
    PyObject *separators; /* owned: readuntil(): a bytes object, or a list of them, the shortest first */
    size_t offset;        /* of the buffer: no separator begins before */
    bool line;            /* readline(): its errors are other ones */
    bool iterating;       /* __anext__() */
} ReadState;

static int
read_traverse(void *data, visitproc visit, void *arg)
{
    ReadState *st = data;
    Py_VISIT(st->reader);
    Py_VISIT(st->owner);
    Py_VISIT(st->waiter);
    Py_VISIT(st->separators);
    return 0;
}

static void
read_clear(void *data)
{
    ReadState *st = data;
    Py_CLEAR(st->reader);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->separators);
    Py_CLEAR(st->owner);
}

/* An error of the connection: a StreamReader's calls raise it before they look at what is unread, as asyncio's do. */
static int
check_before(ReadState *st)
{
    return st->owner == NULL ? reader_check_exception(st->reader) : 0;
}

/* A Stream's raise it once what is unread does not do. */
static int
check_after(ReadState *st)
{
    return st->owner != NULL ? reader_check_exception(st->reader) : 0;
}

/* 0, or -1 when it cannot be waited for. */
static int
may_wait(StreamReader *reader, const char *function)
{
    if (reader_check(reader) < 0) {
        return -1;
    }
    if (reader->waiter != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%s() called while another coroutine is already waiting for incoming data",
                     function);
        return -1;
    }
    /* A paused transport would never wake it. */
    return reader_resume_now(reader);
}

int
reader_wait_on(StreamReader *reader, PyObject *waiter, const char *function, size_t wanted)
{
    if (may_wait(reader, function) < 0) {
        return -1;
    }
    Py_XSETREF(reader->waiter, Py_NewRef(waiter));
    reader->wanted = wanted;
    return 0;
}

int
reader_begin_wait(StreamReader *reader, PyObject **mine, const char *function, size_t wanted)
{
    if (may_wait(reader, function) < 0) {
        return -1;
    }
    PyObject *waiter = stream_future(reader->state, reader->loop);
    if (waiter == NULL) {
        return -1;
    }
    Py_XSETREF(reader->waiter, Py_NewRef(waiter));
    reader->wanted = wanted;
    Py_XSETREF(*mine, waiter);
    return 0;
}

void
reader_wait_over(StreamReader *reader, PyObject *waiter)
{
    if (reader->waiter == waiter) {
        reader->waiter = NULL;
        reader->wanted = 0;
        Py_DECREF(waiter); /* the caller has another one */
    }
}

void
reader_end_wait(StreamReader *reader, PyObject **mine)
{
    reader_wait_over(reader, *mine);
    Py_CLEAR(*mine);
}

void
stream_raise(PyObject *exc)
{
    if (PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    else if (PyExceptionClass_Check(exc)) {
        PyErr_SetNone(exc);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    }
}

int
reader_check_exception(StreamReader *reader)
{
    if (reader->exception != NULL) {
        PyObject *exc = Py_NewRef(reader->exception);
        stream_raise(exc);
        Py_DECREF(exc);
        return -1;
    }
    return reader_check(reader);
}

PyObject *
reader_take(StreamReader *reader, size_t len)
{
    PyObject *bytes = buffer_take(&reader->buffer, len);
    if (bytes != NULL && reader->paused && reader_resume(reader) < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

/* IncompleteReadError(partial, expected) with all that is unread. expected: None if < 0. */
static void
raise_incomplete(StreamReader *reader, Py_ssize_t expected)
{
    PyObject *partial = buffer_take(&reader->buffer, buffer_len(&reader->buffer));
    if (partial == NULL) {
        return;
    }
    PyObject *exc = expected < 0 ? PyObject_CallFunction(reader->state->IncompleteReadError, "OO", partial, Py_None)
                                 : PyObject_CallFunction(reader->state->IncompleteReadError, "On", partial, expected);
    Py_DECREF(partial);
    if (exc != NULL) {
        PyErr_SetObject(reader->state->IncompleteReadError, exc);
        Py_DECREF(exc);
    }
}

/* ---- read() -------------------------------------------------------------------------------- */

static corolla_step
read_step(corolla_coro *co, PyObject *value)
{
    ReadState *st = corolla_coro_state(co);
    StreamReader *reader = st->reader;

    COROLLA_BEGIN(co);

    if (check_before(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->n == 0) {
        return corolla_return(co, PyBytes_FromStringAndSize(NULL, 0));
    }
    while (!reader->eof && (st->n < 0 || buffer_len(&reader->buffer) == 0)) {
        if (check_after(st) < 0 || reader_begin_wait(st->reader, &st->waiter, "read", st->n < 0 ? SIZE_MAX : 0) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        reader_end_wait(st->reader, &st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
        /* Nothing there is no end: somebody else may have taken it since. */
        if ((st->n < 0 || (buffer_len(&reader->buffer) == 0 && !reader->eof)) && reader_check_exception(reader) < 0) {
            return COROLLA_RAISE;
        }
    }
    size_t len = buffer_len(&reader->buffer);
    if (len == 0 && check_after(st) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, reader_take(reader, st->n < 0 || len < (size_t)st->n ? len : (size_t)st->n));

    COROLLA_END(co);
}

static const corolla_coro_spec read_spec = {
    .name = "read",
    .qualname = "StreamReader.read",
    .size = sizeof(ReadState),
    .step = read_step,
    .traverse = read_traverse,
    .clear = read_clear,
};

/* ---- readexactly() ------------------------------------------------------------------------- */

static corolla_step
readexactly_step(corolla_coro *co, PyObject *value)
{
    ReadState *st = corolla_coro_state(co);
    StreamReader *reader = st->reader;

    COROLLA_BEGIN(co);

    if (st->n < 0) {
        PyErr_SetString(PyExc_ValueError, "readexactly size can not be less than zero");
        return COROLLA_RAISE;
    }
    if (check_before(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->n == 0) {
        return corolla_return(co, PyBytes_FromStringAndSize(NULL, 0));
    }
    while (buffer_len(&reader->buffer) < (size_t)st->n) {
        if (check_after(st) < 0) {
            return COROLLA_RAISE;
        }
        if (reader->eof) {
            raise_incomplete(reader, st->n);
            return COROLLA_RAISE;
        }
        if (reader_begin_wait(st->reader, &st->waiter, "readexactly", (size_t)st->n) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        reader_end_wait(st->reader, &st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    return corolla_return(co, reader_take(reader, (size_t)st->n));

    COROLLA_END(co);
}

static const corolla_coro_spec readexactly_spec = {
    .name = "readexactly",
    .qualname = "StreamReader.readexactly",
    .size = sizeof(ReadState),
    .step = readexactly_step,
    .traverse = read_traverse,
    .clear = read_clear,
};

/* ---- Separators ---------------------------------------------------------------------------- */

/* A separator as bytes: new reference, or NULL with the exception that len() or find() of it would raise. */
static PyObject *
separator_bytes(PyObject *given)
{
    if (PyBytes_CheckExact(given)) {
        return Py_NewRef(given);
    }
    if (PyObject_CheckBuffer(given)) {
        return PyBytes_FromObject(given);
    }
    if (PyObject_Size(given) >= 0) {
        PyErr_Format(PyExc_TypeError, "argument should be integer or bytes-like object, not '%.200s'",
                     Py_TYPE(given)->tp_name);
    }
    return NULL;
}

/* A new list of the separators of a tuple, the shortest first, in their order where they are equally long. */
static PyObject *
separator_list(PyObject *tuple)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *bytes = separator_bytes(PyTuple_GET_ITEM(tuple, i));
        Py_ssize_t at = PyList_GET_SIZE(list);
        while (bytes != NULL && at > 0 && PyBytes_GET_SIZE(PyList_GET_ITEM(list, at - 1)) > PyBytes_GET_SIZE(bytes)) {
            at--;
        }
        if (bytes == NULL || PyList_Insert(list, at, bytes) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(bytes);
    }
    return list;
}

/* What readuntil() was given, ready to be searched for. New reference or NULL. */
static PyObject *
parse_separators(PyObject *given)
{
    PyObject *separators;
    Py_ssize_t shortest;
    if (PyTuple_Check(given)) {
        separators = separator_list(given);
        if (separators == NULL) {
            return NULL;
        }
        if (PyList_GET_SIZE(separators) == 0) {
            PyErr_SetString(PyExc_ValueError, "Separator should contain at least one element");
            Py_DECREF(separators);
            return NULL;
        }
        shortest = PyBytes_GET_SIZE(PyList_GET_ITEM(separators, 0));
    }
    else {
        separators = separator_bytes(given);
        if (separators == NULL) {
            return NULL;
        }
        shortest = PyBytes_GET_SIZE(separators);
    }
    if (shortest == 0) {
        PyErr_SetString(PyExc_ValueError, "Separator should be at least one-byte string");
        Py_CLEAR(separators);
    }
    return separators;
}

/* Where it begins in data[from:len], or NULL. */
static const char *
find(const char *data, size_t from, size_t len, PyObject *separator)
{
    size_t size = (size_t)PyBytes_GET_SIZE(separator);
    if (len - from < size) {
        return NULL;
    }
    if (size == 1) {
        return memchr(data + from, PyBytes_AS_STRING(separator)[0], len - from);
    }
    return memmem(data + from, len - from, PyBytes_AS_STRING(separator), size);
}

/* The match that ends first, from offset on. */
static bool
find_first(const ReadState *st, size_t *start, size_t *end)
{
    const corolla_buffer *buffer = &st->reader->buffer;
    const char *data = buffer_data(buffer);
    size_t len = buffer_len(buffer);
    bool single = PyBytes_CheckExact(st->separators);
    Py_ssize_t count = single ? 1 : PyList_GET_SIZE(st->separators);
    bool found = false;
    for (Py_ssize_t i = 0; i < count && st->offset < len; i++) {
        PyObject *separator = single ? st->separators : PyList_GET_ITEM(st->separators, i);
        const char *at = find(data, st->offset, len, separator);
        size_t ends = at == NULL ? 0 : (size_t)(at - data) + (size_t)PyBytes_GET_SIZE(separator);
        if (at != NULL && (!found || ends < *end)) {
            found = true;
            *start = (size_t)(at - data);
            *end = ends;
        }
    }
    return found;
}

static size_t
longest(PyObject *separators)
{
    PyObject *last =
        PyBytes_CheckExact(separators) ? separators : PyList_GET_ITEM(separators, PyList_GET_SIZE(separators) - 1);
    return (size_t)PyBytes_GET_SIZE(last);
}

/* ---- readuntil() and readline() ------------------------------------------------------------ */

/* Over the limit: LimitOverrunError with everything left in the buffer; or for readline(), whose buffer loses the line
 * if it was found whole and all it has if not, ValueError. */
static void
raise_overrun(ReadState *st, const char *message, size_t consumed, size_t line)
{
    StreamReader *reader = st->reader;
    if (st->line) {
        buffer_drop(&reader->buffer, line > 0 ? line : buffer_len(&reader->buffer));
        if (reader_resume(reader) == 0) {
            PyErr_SetString(PyExc_ValueError, message);
        }
        return;
    }
    PyObject *exc = PyObject_CallFunction(reader->state->LimitOverrunError, "sn", message, (Py_ssize_t)consumed);
    if (exc != NULL) {
        PyErr_SetObject(reader->state->LimitOverrunError, exc);
        Py_DECREF(exc);
    }
}

/* Looks into the buffer. 1: *value is what to return; 0: more bytes are needed; -1: an exception. */
static int
look(ReadState *st, PyObject **value)
{
    StreamReader *reader = st->reader;
    size_t start = 0, end = 0;
    if (find_first(st, &start, &end)) {
        if (start > reader->limit) {
            raise_overrun(st, "Separator is found, but chunk is longer than limit", start, end);
            return -1;
        }
        *value = reader_take(reader, end);
        return *value == NULL ? -1 : 1;
    }
    /* A separator may have begun in the last bytes. */
    size_t len = buffer_len(&reader->buffer), tail = longest(st->separators) - 1;
    st->offset = len > tail ? len - tail : 0;
    if (st->offset > reader->limit) {
        raise_overrun(st, "Separator is not found, and chunk exceed the limit", st->offset, 0);
        return -1;
    }
    bool rest = st->line && reader->eof && len > 0; /* a last line without a newline does */
    if (!rest && check_after(st) < 0) {
        return -1;
    }
    if (!reader->eof) {
        return 0;
    }
    if (!st->line) {
        raise_incomplete(reader, -1);
        return -1;
    }
    *value = buffer_take(&reader->buffer, len);
    return *value == NULL ? -1 : 1;
}

static corolla_step
readuntil_step(corolla_coro *co, PyObject *value)
{
    ReadState *st = corolla_coro_state(co);
    PyObject *line;

    COROLLA_BEGIN(co);

    if (check_before(st) < 0) {
        return COROLLA_RAISE;
    }
    for (;;) {
        int found = look(st, &line);
        if (found < 0) {
            return COROLLA_RAISE;
        }
        if (found > 0) {
            break;
        }
        if (reader_begin_wait(st->reader, &st->waiter, "readuntil", 0) < 0) {
            return COROLLA_RAISE;
        }
        COROLLA_AWAIT(co, st->waiter);
        reader_end_wait(st->reader, &st->waiter);
        if (value == NULL) {
            return COROLLA_RAISE;
        }
    }
    if (st->iterating && PyBytes_GET_SIZE(line) == 0) {
        Py_DECREF(line);
        PyErr_SetNone(PyExc_StopAsyncIteration);
        return COROLLA_RAISE;
    }
    return corolla_return(co, line);

    COROLLA_END(co);
}

static const corolla_coro_spec readuntil_spec = {
    .name = "readuntil",
    .qualname = "StreamReader.readuntil",
    .size = sizeof(ReadState),
    .step = readuntil_step,
    .traverse = read_traverse,
    .clear = read_clear,
};

static const corolla_coro_spec readline_spec = {
    .name = "readline",
    .qualname = "StreamReader.readline",
    .size = sizeof(ReadState),
    .step = readuntil_step,
    .traverse = read_traverse,
    .clear = read_clear,
};

static const corolla_coro_spec anext_spec = {
    .name = "__anext__",
    .qualname = "StreamReader.__anext__",
    .size = sizeof(ReadState),
    .step = readuntil_step,
    .traverse = read_traverse,
    .clear = read_clear,
};

/* ---- Methods ------------------------------------------------------------------------------- */

static ReadState *
new_read(PyObject *self, const corolla_coro_spec *spec, corolla_coro **co)
{
    *co = corolla_coro_new(((StreamReader *)self)->state, spec);
    if (*co == NULL) {
        return NULL;
    }
    ReadState *st = corolla_coro_state(*co);
    st->reader = (StreamReader *)Py_NewRef(self);
    return st;
}

/* A number of bytes: 0 or -1. */
static int
parse_count(PyObject *given, Py_ssize_t *n)
{
    *n = PyNumber_AsSsize_t(given, NULL); /* clipped: nobody has that much */
    return *n == -1 && PyErr_Occurred() ? -1 : 0;
}

PyDoc_STRVAR(read_doc,
             "read($self, /, n=-1)\n--\n\n"
             "Coroutine: return up to n bytes, as soon as there is one; b'' at the end.\n\n"
             "n: bytes; all until the end if negative. Raises what set_exception() was given, and RuntimeError while\n"
             "another coroutine waits for bytes. Specified by asyncio.StreamReader.read().");

PyObject *
reader_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    static const corolla_signature sig = {"read", names, 0, 1, NULL};
    PyObject *given;
    Py_ssize_t n = -1;
    if (corolla_unpack(&sig, args, nargs, kwnames, &given) < 0 || (given != NULL && parse_count(given, &n) < 0)) {
        return NULL;
    }
    corolla_coro *co;
    ReadState *st = new_read(self, &read_spec, &co);
    if (st == NULL) {
        return NULL;
    }
    st->n = n;
    return (PyObject *)co;
}

PyDoc_STRVAR(readexactly_doc,
             "readexactly($self, /, n)\n--\n\n"
             "Coroutine: return exactly n bytes.\n\n"
             "Raises asyncio.IncompleteReadError, with what there was in its attribute partial, if the end comes\n"
             "before; ValueError for a negative n; and what read() raises. Specified by\n"
             "asyncio.StreamReader.readexactly().");

PyObject *
reader_readexactly(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    static const corolla_signature sig = {"readexactly", names, 1, 1, NULL};
    PyObject *given;
    Py_ssize_t n;
    if (corolla_unpack(&sig, args, nargs, kwnames, &given) < 0 || parse_count(given, &n) < 0) {
        return NULL;
    }
    corolla_coro *co;
    ReadState *st = new_read(self, &readexactly_spec, &co);
    if (st == NULL) {
        return NULL;
    }
    st->n = n;
    return (PyObject *)co;
}

PyDoc_STRVAR(readuntil_doc,
             "readuntil($self, /, separator=b'\\n')\n--\n\n"
             "Coroutine: return the bytes up to and including the separator.\n\n"
             "separator: a bytes-like object, or a tuple of them: the match that ends first wins. Raises\n"
             "asyncio.IncompleteReadError if the end comes before; asyncio.LimitOverrunError, with the bytes left\n"
             "unread, if more than the limit come before it; ValueError for an empty separator; and what read()\n"
             "raises. Specified by asyncio.StreamReader.readuntil() of CPython 3.13.");

PyObject *
reader_readuntil(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"separator", NULL};
    static const corolla_signature sig = {"readuntil", names, 0, 1, NULL};
    PyObject *given;
    if (corolla_unpack(&sig, args, nargs, kwnames, &given) < 0) {
        return NULL;
    }
    PyObject *separators = given == NULL ? PyBytes_FromStringAndSize("\n", 1) : parse_separators(given);
    if (separators == NULL) {
        return NULL;
    }
    corolla_coro *co;
    ReadState *st = new_read(self, &readuntil_spec, &co);
    if (st == NULL) {
        Py_DECREF(separators);
        return NULL;
    }
    st->separators = separators;
    return (PyObject *)co;
}

static PyObject *
new_readline(PyObject *self, const corolla_coro_spec *spec, bool iterating)
{
    corolla_coro *co;
    ReadState *st = new_read(self, spec, &co);
    if (st == NULL) {
        return NULL;
    }
    st->line = true;
    st->iterating = iterating;
    st->separators = PyBytes_FromStringAndSize("\n", 1); /* CPython has one for each byte */
    if (st->separators == NULL) {
        co->finished = true; /* dropped without a warning */
        Py_CLEAR(co);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(readline_doc,
             "readline($self, /)\n--\n\n"
             "Coroutine: return the bytes up to and including the next newline; the rest without one at the end.\n\n"
             "Raises ValueError for a line longer than the limit, which is dropped from the buffer (all that is there\n"
             "if its newline has not come), and what read() raises. Specified by asyncio.StreamReader.readline().");

PyObject *
reader_readline(PyObject *self, PyObject *unused)
{
    return new_readline(self, &readline_spec, false);
}

PyObject *
reader_anext(PyObject *self)
{
    return new_readline(self, &anext_spec, true);
}

PyObject *
reader_call_of(PyObject *coro, PyObject *stream)
{
    if (coro != NULL) {
        ((ReadState *)corolla_coro_state((corolla_coro *)coro))->owner = Py_NewRef(stream);
    }
    return coro;
}

PyMethodDef reader_async_methods[] = {
    {"read", (PyCFunction)(void (*)(void))reader_read, METH_FASTCALL | METH_KEYWORDS, read_doc},
    {"readexactly", (PyCFunction)(void (*)(void))reader_readexactly, METH_FASTCALL | METH_KEYWORDS, readexactly_doc},
    {"readuntil", (PyCFunction)(void (*)(void))reader_readuntil, METH_FASTCALL | METH_KEYWORDS, readuntil_doc},
    {"readline", reader_readline, METH_NOARGS, readline_doc},
    {NULL, NULL, 0, NULL},
};
