/* StreamReader: the bytes that have come and nobody has read yet. Its coroutines are in reader_async.c. */
#include "streams.h"

/* ---- Life -------------------------------------------------------------------------------- */

int
reader_check(StreamReader *reader)
{
    if (reader->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "StreamReader object is not initialized.");
        return -1;
    }
    return 0;
}

int
reader_parse_limit(PyObject *given, size_t *limit)
{
    PyObject *zero = PyLong_FromLong(0);
    int refused = zero == NULL ? -1 : PyObject_RichCompareBool(given, zero, Py_LE);
    Py_XDECREF(zero);
    if (refused < 0) {
        return -1;
    }
    if (refused) {
        PyErr_SetString(PyExc_ValueError, "Limit cannot be <= 0");
        return -1;
    }
    if (PyFloat_Check(given)) {
        double bytes = PyFloat_AS_DOUBLE(given);
        *limit = bytes < (double)(PY_SSIZE_T_MAX / 4) ? (size_t)bytes : (size_t)(PY_SSIZE_T_MAX / 4);
        return 0;
    }
    Py_ssize_t bytes = PyNumber_AsSsize_t(given, NULL); /* clipped: nobody has that much */
    if (bytes == -1 && PyErr_Occurred()) {
        return -1;
    }
    *limit = (size_t)(bytes < PY_SSIZE_T_MAX / 4 ? bytes : PY_SSIZE_T_MAX / 4);
    return 0;
}

static PyObject *
reader_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((StreamReader *)self)->state = state;
    ((StreamReader *)self)->limit = STREAM_LIMIT;
    corolla_state_hold(state);
    return self;
}

/* In debug mode, where it is being made. 0 or -1. */
static int
remember_origin(StreamReader *reader)
{
    int debug = stream_debug(reader->state, reader->loop);
    if (debug > 0) {
        PyObject *stack = PyObject_CallNoArgs(reader->state->extract_stack);
        if (stack == NULL) {
            return -1;
        }
        Py_XSETREF(reader->source_traceback, stack);
    }
    return debug < 0 ? -1 : 0;
}

static int
reader_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"limit", "loop", NULL};
    static const corolla_signature sig = {"StreamReader", names, 0, 2, NULL};
    StreamReader *reader = (StreamReader *)self;
    PyObject *given[2];
    size_t limit = STREAM_LIMIT;
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0 ||
        (given[0] != NULL && reader_parse_limit(given[0], &limit) < 0)) {
        return -1;
    }
    PyObject *loop = given[1] == NULL || given[1] == Py_None ? PyObject_CallNoArgs(reader->state->get_event_loop)
                                                             : Py_NewRef(given[1]);
    if (loop == NULL) {
        return -1;
    }
    reader->limit = limit;
    reader->wanted = 0;
    reader->eof = reader->paused = false;
    buffer_clear(&reader->buffer);
    Py_XSETREF(reader->loop, loop);
    Py_CLEAR(reader->waiter);
    Py_CLEAR(reader->exception);
    Py_CLEAR(reader->transport);
    Py_CLEAR(reader->source_traceback);
    return remember_origin(reader);
}

PyObject *
reader_new(corolla_state *state, PyObject *loop, size_t limit)
{
    PyObject *self = reader_tp_new(state->stream_reader_type, NULL, NULL);
    if (self == NULL) {
        return NULL;
    }
    ((StreamReader *)self)->loop = Py_NewRef(loop);
    ((StreamReader *)self)->limit = limit;
    if (remember_origin((StreamReader *)self) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

static int
reader_traverse(PyObject *self, visitproc visit, void *arg)
{
    StreamReader *reader = (StreamReader *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(reader->dict);
    Py_VISIT(reader->loop);
    Py_VISIT(reader->waiter);
    Py_VISIT(reader->exception);
    Py_VISIT(reader->transport);
    Py_VISIT(reader->source_traceback);
    return 0;
}

static int
reader_clear(PyObject *self)
{
    StreamReader *reader = (StreamReader *)self;
    buffer_clear(&reader->buffer);
    Py_CLEAR(reader->dict);
    Py_CLEAR(reader->loop);
    Py_CLEAR(reader->waiter);
    Py_CLEAR(reader->exception);
    Py_CLEAR(reader->transport);
    Py_CLEAR(reader->source_traceback);
    return 0;
}

static void
reader_dealloc(PyObject *self)
{
    StreamReader *reader = (StreamReader *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = reader->state;
    PyObject_GC_UnTrack(self);
    if (reader->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)reader_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

/* ---- What comes in ------------------------------------------------------------------------- */

/* Takes the future of the one that waits, unless it is done: cancelled, or woken for another reason. New reference or
 * NULL. */
static int
take_waiter(StreamReader *reader, PyObject **waiter)
{
    *waiter = reader->waiter;
    reader->waiter = NULL;
    reader->wanted = 0;
    if (*waiter == NULL) {
        return 0;
    }
    int done = corolla_any_done(reader->state, *waiter);
    if (done != 0) {
        Py_CLEAR(*waiter);
    }
    return done < 0 ? -1 : 0;
}

int
reader_wake(StreamReader *reader)
{
    PyObject *waiter;
    if (take_waiter(reader, &waiter) < 0) {
        return -1;
    }
    int rc = waiter == NULL ? 0 : corolla_any_set_result(reader->state, waiter, Py_None);
    Py_XDECREF(waiter);
    return rc;
}

int
reader_set_exception(StreamReader *reader, PyObject *exc)
{
    PyObject *waiter;
    Py_XSETREF(reader->exception, exc == Py_None ? NULL : Py_NewRef(exc));
    if (take_waiter(reader, &waiter) < 0) {
        return -1;
    }
    int rc = waiter == NULL ? 0 : corolla_any_set_exception(reader->state, waiter, exc);
    Py_XDECREF(waiter);
    return rc;
}

int
reader_feed_eof(StreamReader *reader)
{
    reader->eof = true;
    return reader_wake(reader);
}

/* transport.pause_reading(), of whatever kind. One that cannot is forgotten. 0 or -1. */
static int
pause_transport(StreamReader *reader)
{
    PyObject *transport = Py_NewRef(reader->transport);
    PyObject *done = PyObject_CallMethodNoArgs(transport, reader->state->s.pause_reading);
    Py_DECREF(transport);
    if (done != NULL) {
        Py_DECREF(done);
        reader->paused = true;
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    Py_CLEAR(reader->transport);
    return 0;
}

int
reader_fed(StreamReader *reader)
{
    size_t len = buffer_len(&reader->buffer);
    if (reader->wanted > len) {
        return 0; /* the one that waits will hold them all in any case: no wakeup, and no limit but its own */
    }
    if (reader_wake(reader) < 0) {
        return -1;
    }
    if (reader->transport != NULL && !reader->paused && len > 2 * reader->limit) {
        return pause_transport(reader);
    }
    return 0;
}

int
reader_resume_now(StreamReader *reader)
{
    if (!reader->paused) {
        return 0;
    }
    reader->paused = false;
    if (reader->transport == NULL) {
        return 0;
    }
    PyObject *transport = Py_NewRef(reader->transport);
    PyObject *done = PyObject_CallMethodNoArgs(transport, reader->state->s.resume_reading);
    Py_DECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
reader_resume(StreamReader *reader)
{
    return reader->paused && buffer_len(&reader->buffer) <= reader->limit ? reader_resume_now(reader) : 0;
}

/* ---- Methods ------------------------------------------------------------------------------- */

PyDoc_STRVAR(feed_data_doc, "feed_data($self, /, data)\n--\n\n"
                            "Add bytes to the end of the buffer and wake the call that waits for them.\n\n"
                            "data: a bytes-like object. The transport is paused once more than twice the limit is\n"
                            "unread. Raises AssertionError after feed_eof(). Specified by asyncio.StreamReader.");

static PyObject *
reader_feed_data(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("feed_data", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    StreamReader *reader = (StreamReader *)self;
    if (reader_check(reader) < 0) {
        return NULL;
    }
    if (reader->eof) {
        PyErr_SetString(PyExc_AssertionError, "feed_data after feed_eof");
        return NULL;
    }
    int rc;
    Py_ssize_t len;
    if (PyBytes_CheckExact(data)) {
        len = PyBytes_GET_SIZE(data);
        rc = buffer_add_bytes(&reader->buffer, data);
    }
    else {
        Py_buffer view;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        len = view.len;
        rc = buffer_add(&reader->buffer, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
    }
    if (rc < 0 || (len > 0 && reader_fed(reader) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(feed_eof_doc, "feed_eof($self, /)\n--\n\n"
                           "Nothing follows what was fed. Wake the call that waits.\n\n"
                           "Specified by asyncio.StreamReader.feed_eof().");

static PyObject *
reader_feed_eof_method(PyObject *self, PyObject *unused)
{
    return reader_feed_eof((StreamReader *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(at_eof_doc, "at_eof($self, /)\n--\n\n"
                         "Return True if the buffer is empty and feed_eof() was called.\n\n"
                         "Specified by asyncio.StreamReader.at_eof().");

static PyObject *
reader_at_eof(PyObject *self, PyObject *unused)
{
    StreamReader *reader = (StreamReader *)self;
    return PyBool_FromLong(reader->eof && buffer_len(&reader->buffer) == 0);
}

PyDoc_STRVAR(exception_doc, "exception($self, /)\n--\n\nReturn what set_exception() was given, or None.");

static PyObject *
reader_exception(PyObject *self, PyObject *unused)
{
    PyObject *exc = ((StreamReader *)self)->exception;
    return Py_NewRef(exc != NULL ? exc : Py_None);
}

PyDoc_STRVAR(set_exception_doc, "set_exception($self, /, exc)\n--\n\n"
                                "Every read from now on raises exc, an exception, and so does the one that waits.");

static PyObject *
reader_set_exception_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = corolla_unpack_one("set_exception", "exc", args, nargs, kwnames);
    if (exc == NULL) {
        return NULL;
    }
    return reader_set_exception((StreamReader *)self, exc) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_transport_doc, "set_transport($self, /, transport)\n--\n\n"
                                "The transport to pause when too much is unread. AssertionError if there is one.");

static PyObject *
reader_set_transport(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *transport = corolla_unpack_one("set_transport", "transport", args, nargs, kwnames);
    if (transport == NULL) {
        return NULL;
    }
    StreamReader *reader = (StreamReader *)self;
    if (reader->transport != NULL) {
        PyErr_SetString(PyExc_AssertionError, "Transport already set");
        return NULL;
    }
    reader->transport = Py_NewRef(transport);
    Py_RETURN_NONE;
}

static PyObject *
reader_aiter(PyObject *self)
{
    return Py_NewRef(self);
}

/* ", part" if repr(obj) can be had. Steals nothing. */
static int
add_shown(PyObject *parts, const char *format, PyObject *obj)
{
    PyObject *part = PyUnicode_FromFormat(format, obj);
    int rc = part == NULL ? -1 : PyList_Append(parts, part);
    Py_XDECREF(part);
    return rc;
}

static int
add_word(PyObject *parts, const char *word)
{
    PyObject *part = PyUnicode_FromString(word);
    int rc = part == NULL ? -1 : PyList_Append(parts, part);
    Py_XDECREF(part);
    return rc;
}

static int
add_number(PyObject *parts, const char *format, size_t number)
{
    PyObject *part = PyUnicode_FromFormat(format, number);
    int rc = part == NULL ? -1 : PyList_Append(parts, part);
    Py_XDECREF(part);
    return rc;
}

static int
add_parts(StreamReader *reader, PyObject *parts)
{
    size_t len = buffer_len(&reader->buffer);
    PyObject *waiter = Py_XNewRef(reader->waiter), *exc = Py_XNewRef(reader->exception);
    PyObject *transport = Py_XNewRef(reader->transport);
    int rc = -1;
    if ((len > 0 && add_number(parts, "%zu bytes", len) < 0) || (reader->eof && add_word(parts, "eof") < 0) ||
        (reader->limit != STREAM_LIMIT && add_number(parts, "limit=%zu", reader->limit) < 0) ||
        (waiter != NULL && add_shown(parts, "waiter=%R", waiter) < 0) ||
        (exc != NULL && add_shown(parts, "exception=%R", exc) < 0) ||
        (transport != NULL && add_shown(parts, "transport=%R", transport) < 0) ||
        (reader->paused && add_word(parts, "paused") < 0)) {
        goto fail;
    }
    rc = 0;
fail:
    Py_XDECREF(waiter);
    Py_XDECREF(exc);
    Py_XDECREF(transport);
    return rc;
}

static PyObject *
reader_repr(PyObject *self)
{
    PyObject *shown = NULL, *space = NULL, *joined = NULL;
    PyObject *parts = PyList_New(0);
    if (parts == NULL || add_word(parts, "StreamReader") < 0 || add_parts((StreamReader *)self, parts) < 0) {
        goto fail;
    }
    space = PyUnicode_FromString(" ");
    joined = space == NULL ? NULL : PyUnicode_Join(space, parts);
    shown = joined == NULL ? NULL : PyUnicode_FromFormat("<%U>", joined);
fail:
    Py_XDECREF(joined);
    Py_XDECREF(space);
    Py_XDECREF(parts);
    return shown;
}

/* ---- What people read of the standard library's -------------------------------------------- */

static PyObject *
get_buffer(PyObject *self, void *unused)
{
    corolla_buffer *buffer = &((StreamReader *)self)->buffer;
    return PyByteArray_FromStringAndSize(buffer_data(buffer), (Py_ssize_t)buffer_len(buffer));
}

static PyObject *
get_limit(PyObject *self, void *unused)
{
    return PyLong_FromSize_t(((StreamReader *)self)->limit);
}

static int
set_limit(PyObject *self, PyObject *value, void *unused)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_limit cannot be deleted");
        return -1;
    }
    return reader_parse_limit(value, &((StreamReader *)self)->limit);
}

static PyObject *
get_waiter(PyObject *self, void *unused)
{
    PyObject *waiter = ((StreamReader *)self)->waiter;
    return Py_NewRef(waiter != NULL ? waiter : Py_None);
}

static int
set_waiter(PyObject *self, PyObject *value, void *unused)
{
    StreamReader *reader = (StreamReader *)self;
    reader->wanted = 0;
    Py_XSETREF(reader->waiter, value == NULL || value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}

static PyObject *
get_transport(PyObject *self, void *unused)
{
    PyObject *transport = ((StreamReader *)self)->transport;
    return Py_NewRef(transport != NULL ? transport : Py_None);
}

static int
set_transport(PyObject *self, PyObject *value, void *unused)
{
    Py_XSETREF(((StreamReader *)self)->transport, value == NULL || value == Py_None ? NULL : Py_NewRef(value));
    return 0;
}

static PyObject *
get_loop(PyObject *self, void *unused)
{
    PyObject *loop = ((StreamReader *)self)->loop;
    return Py_NewRef(loop != NULL ? loop : Py_None);
}

static PyObject *
get_traceback(PyObject *self, void *unused)
{
    PyObject *stack = ((StreamReader *)self)->source_traceback;
    return Py_NewRef(stack != NULL ? stack : Py_None);
}

static PyMethodDef reader_methods[] = {
    {"feed_data", (PyCFunction)(void (*)(void))reader_feed_data, METH_FASTCALL | METH_KEYWORDS, feed_data_doc},
    {"feed_eof", reader_feed_eof_method, METH_NOARGS, feed_eof_doc},
    {"at_eof", reader_at_eof, METH_NOARGS, at_eof_doc},
    {"exception", reader_exception, METH_NOARGS, exception_doc},
    {"set_exception", (PyCFunction)(void (*)(void))reader_set_exception_method, METH_FASTCALL | METH_KEYWORDS,
     set_exception_doc},
    {"set_transport", (PyCFunction)(void (*)(void))reader_set_transport, METH_FASTCALL | METH_KEYWORDS,
     set_transport_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef reader_getset[] = {
    {"_buffer", get_buffer, NULL, "A copy of the bytes that nobody has read yet.", NULL},
    {"_limit", get_limit, set_limit, "The limit, bytes.", NULL},
    {"_waiter", get_waiter, set_waiter, NULL, NULL},
    {"_transport", get_transport, set_transport, NULL, NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_source_traceback", get_traceback, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef reader_members[] = {
    {"_eof", T_BOOL, offsetof(StreamReader, eof), READONLY, NULL},
    {"_paused", T_BOOL, offsetof(StreamReader, paused), READONLY, NULL},
    {"_exception", T_OBJECT, offsetof(StreamReader, exception), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(StreamReader, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(StreamReader, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(reader_doc, "StreamReader(limit=65536, loop=None)\n--\n\n"
                         "Bytes to read, from a transport or fed by hand. An asynchronous iterator over lines.\n\n"
                         "limit: bytes; a line may be so long, and the transport is paused at twice as many unread.\n"
                         "loop: an event loop, the current one if None. Raises ValueError for a limit <= 0.\n"
                         "Specified by asyncio.StreamReader.");

static PyType_Slot reader_slots[] = {
    {Py_tp_doc, (void *)reader_doc},
    {Py_tp_new, reader_tp_new},
    {Py_tp_init, reader_tp_init},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {Py_tp_repr, reader_repr},
    {Py_am_aiter, reader_aiter},
    {Py_am_anext, reader_anext},
    {Py_tp_methods, reader_methods},
    {Py_tp_getset, reader_getset},
    {Py_tp_members, reader_members},
    {0, NULL},
};

static PyType_Spec reader_spec = {
    .name = "corolla.StreamReader",
    .basicsize = sizeof(StreamReader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = reader_slots,
};

int
reader_init(PyObject *module, corolla_state *state)
{
    state->stream_reader_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &reader_spec, NULL);
    if (state->stream_reader_type == NULL || corolla_add_methods(state->stream_reader_type, reader_async_methods) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->stream_reader_type);
}
