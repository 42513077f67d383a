/* Writing: plain bytes are sealed and sent before write() returns, as asyncio does it. They wait where they cannot be
 * (before the handshake is over, or while the transport below is full), and, on a connection that was written to several
 * times in each of its last turns with writes, until the end of the turn: then they share records and one send. */
#include "tls.h"

#include <assert.h>
#include <string.h>

enum {
    RECORD = 16 * 1024,                 /* most plain bytes in one */
    PORTION = TLS_MOST_SEALED * RECORD, /* sealed before it is sent: more does not stay in the processor's cache */
    HOLD_AFTER = 2,                     /* turns with several writes */
    HOLD_MOST = 64 * 1024,
    WARN_AFTER = 5,
    FIRST_ITEMS = 8,
};

/* ---- The backlog ------------------------------------------------------------------------------------- */

static PyObject **
item_at(tls_backlog *backlog, size_t i)
{
    return &backlog->items[(backlog->head + i) & (backlog->capacity - 1)];
}

static int
backlog_reserve(tls_backlog *backlog)
{
    if (backlog->count < backlog->capacity) {
        return 0;
    }
    size_t capacity = backlog->capacity ? backlog->capacity * 2 : FIRST_ITEMS;
    PyObject **items = PyMem_New(PyObject *, capacity);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < backlog->count; i++) {
        items[i] = *item_at(backlog, i);
    }
    PyMem_Free(backlog->items);
    backlog->items = items;
    backlog->capacity = capacity;
    backlog->head = 0;
    return 0;
}

/* bytes: stolen, also on failure. 0 or -1. */
static int
backlog_add(tls_backlog *backlog, PyObject *bytes)
{
    if (bytes == NULL || backlog_reserve(backlog) < 0) {
        Py_XDECREF(bytes);
        return -1;
    }
    *item_at(backlog, backlog->count++) = bytes;
    backlog->size += (size_t)PyBytes_GET_SIZE(bytes);
    return 0;
}

/* The same but for its first skip bytes, in front of all there is, of which nothing is sealed. */
static int
backlog_add_first(tls_backlog *backlog, PyObject *bytes, size_t skip)
{
    if (bytes == NULL || backlog_reserve(backlog) < 0) {
        Py_XDECREF(bytes);
        return -1;
    }
    assert(backlog->offset == 0);
    backlog->head = (backlog->head + backlog->capacity - 1) & (backlog->capacity - 1);
    backlog->count++;
    *item_at(backlog, 0) = bytes;
    backlog->offset = skip;
    backlog->size += (size_t)PyBytes_GET_SIZE(bytes) - skip;
    return 0;
}

/* n bytes at its front are sealed. */
static void
backlog_take(tls_backlog *backlog, size_t n)
{
    backlog->size -= n;
    while (n > 0) {
        PyObject *first = *item_at(backlog, 0);
        size_t left = (size_t)PyBytes_GET_SIZE(first) - backlog->offset;
        if (n < left) {
            backlog->offset += n;
            return;
        }
        n -= left;
        backlog->offset = 0;
        backlog->head = (backlog->head + 1) & (backlog->capacity - 1);
        backlog->count--;
        Py_DECREF(first); /* bytes: no code of anybody's runs */
    }
}

void
tls_backlog_clear(tls_backlog *backlog)
{
    tls_backlog old = *backlog;
    *backlog = (tls_backlog){.items = NULL};
    for (size_t i = 0; i < old.count; i++) {
        Py_DECREF(*item_at(&old, i));
    }
    PyMem_Free(old.items);
}

/* What to seal next: of the first item at most a portion, or a record's worth of several. Returns its length, and *owner if
 * it is all of a bytes object, which is borrowed. */
static size_t
backlog_peek(tls_backlog *backlog, size_t portion, char *record, const char **data, PyObject **owner)
{
    PyObject *first = *item_at(backlog, 0);
    size_t len = (size_t)PyBytes_GET_SIZE(first) - backlog->offset;
    *data = PyBytes_AS_STRING(first) + backlog->offset;
    *owner = backlog->offset == 0 ? first : NULL;
    if (len >= RECORD || backlog->count == 1) {
        if (len > portion) {
            *owner = NULL;
            len = portion;
        }
        return len;
    }
    memcpy(record, *data, len);
    for (size_t i = 1; i < backlog->count && len < RECORD; i++) {
        PyObject *item = *item_at(backlog, i);
        size_t more = (size_t)PyBytes_GET_SIZE(item);
        more = more < RECORD - len ? more : RECORD - len;
        memcpy(record + len, PyBytes_AS_STRING(item), more);
        len += more;
    }
    *data = record;
    *owner = NULL;
    return len;
}

/* ---- Sealing ------------------------------------------------------------------------------------------ */

/* Records that go to the transport below together. Each was taken from the engine as soon as it was sealed, while it was in
 * the processor's cache. */
typedef struct Sealed {
    PyObject *items[TLS_MOST_SEALED]; /* owned, each: bytes */
    size_t count;
} Sealed;

/* What the engine has for the wire joins them. 0 or -1. */
static int
take(TlsTransport *t, Sealed *sealed)
{
    PyObject *data;
    if (t->engine->ops->take(t->engine, &data) < 0) {
        return -1;
    }
    if (data != NULL) {
        sealed->items[sealed->count++] = data;
    }
    return 0;
}

/* Sends them. rc: of what was done before; an exception of that one stays. 0 or -1. */
static int
send_off(TlsTransport *t, const Sealed *sealed, int rc)
{
    PyObject *raised = rc < 0 ? PyErr_GetRaisedException() : NULL;
    if (sealed->count > 0 && t->below != NULL && tls_below_write(t, sealed->items, sealed->count) < 0) {
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
    }
    for (size_t i = 0; i < sealed->count; i++) {
        Py_DECREF(sealed->items[i]);
    }
    return rc;
}

int
tls_send(TlsTransport *t)
{
    Sealed sealed = {.count = 0};
    if (t->sealing) {
        return 0; /* behind what is sealed already: stop_sealing() */
    }
    int rc = take(t, &sealed);
    return send_off(t, &sealed, rc);
}

/* rc: of the sealing. Sends what came up meanwhile. 0 or -1. */
static int
stop_sealing(TlsTransport *t, int rc)
{
    while (rc == 0 && t->engine->stirred && t->stage != TLS_UNWRAPPED) {
        Sealed sealed = {.count = 0};
        rc = take(t, &sealed);
        rc = send_off(t, &sealed, rc);
    }
    t->sealing = false;
    return rc;
}

/* How many of these bytes were sealed, and taken; *failed: with an exception. What raised may be a signal's handler, whose turn
 * comes once they are sealed: KeyboardInterrupt does not end a connection, and nothing may be sealed twice. */
static size_t
seal_one(TlsTransport *t, PyObject *owner, const char *data, size_t len, Sealed *sealed, bool *failed)
{
    size_t before = sealed->count;
    ssize_t n = t->engine->ops->write(t->engine, owner, data, len);
    if (n != TLS_FAILED) {
        *failed = take(t, sealed) < 0;
        return n > 0 ? (size_t)n : 0;
    }
    *failed = true;
    PyObject *raised = PyErr_GetRaisedException();
    if (take(t, sealed) < 0) { /* nobody knows what is sealed: this ends the connection, whatever raised before */
        Py_DECREF(raised);
        return 0;
    }
    PyErr_SetRaisedException(raised);
    bool done = sealed->count > before && (size_t)PyBytes_GET_SIZE(sealed->items[before]) > len;
    return done ? len : 0;
}

/* Plain bytes that the engine is given at once. A subclass's write() gets as much as asyncio would give it. */
static size_t
portion_of(const TlsTransport *t)
{
    return t->engine->plain ? RECORD : PORTION;
}

/* Whether anything more can be sealed now. */
static bool
may_seal(const TlsTransport *t, bool all)
{
    bool wrapped = t->stage == TLS_WRAPPED || t->stage == TLS_FLUSHING;
    return wrapped && t->backlog.count > 0 && (all || !t->below_full);
}

/* As much of the backlog as is sent at once; *again once the engine wants something of the peer's first. 0 or -1. */
static int
seal_some(TlsTransport *t, Sealed *sealed, bool *again)
{
    char record[RECORD];
    size_t total = 0;
    while (sealed->count < TLS_MOST_SEALED && total < PORTION && t->backlog.count > 0) {
        const char *data;
        PyObject *owner;
        size_t len = backlog_peek(&t->backlog, portion_of(t), record, &data, &owner);
        PyObject *first = Py_NewRef(*item_at(&t->backlog, 0));
        bool failed;
        size_t n = seal_one(t, owner, data, len, sealed, &failed);
        Py_DECREF(first);
        if (n <= t->backlog.size) { /* else it was aborted meanwhile */
            backlog_take(&t->backlog, n);
            total += n;
        }
        if (failed) {
            return -1;
        }
        if (n == 0) {
            *again = true;
            break;
        }
    }
    return 0;
}

/* *again: the engine wants something of the peer's first: a renegotiation, what comes will let it go on. 0 or -1. */
static int
seal_backlog(TlsTransport *t, bool all, bool *again)
{
    while (may_seal(t, all) && !*again) {
        Sealed sealed = {.count = 0};
        int rc = seal_some(t, &sealed, again);
        if (send_off(t, &sealed, rc) < 0) {
            return -1;
        }
    }
    return 0;
}

int
tls_seal(TlsTransport *t, bool all)
{
    bool again = false;
    int rc;
    if (t->backlog.count == 0 || t->sealing) {
        return 0;
    }
    do { /* what is sent last may have been answered from within, and written to again */
        t->sealing = true;
        rc = stop_sealing(t, seal_backlog(t, all, &again));
    } while (rc == 0 && may_seal(t, all) && !again);
    if (rc < 0) {
        rc = tls_fatal(t, "Fatal error on SSL protocol");
        if (rc < 0) {
            tls_go_on_later(t);
        }
        return rc;
    }
    rc = tls_control_writing(t);
    return rc < 0 || !t->close_after ? rc : tls_close(t);
}

int
tls_end_of_turn(corolla_deferred *deferred)
{
    TlsTransport *t = (TlsTransport *)(void *)((char *)deferred - offsetof(TlsTransport, flush));
    Py_INCREF(t);
    corolla_core_leave_task(t->core);
    int rc = tls_seal(t, false);
    Py_DECREF(t);
    return rc;
}

/* ---- Flow control -------------------------------------------------------------------------------------- */

int
tls_control_writing(TlsTransport *t)
{
    size_t size = t->backlog.size;
    bool pause = !t->told_pause && size > t->write_high && t->flush.next == NULL;
    bool resume = t->told_pause && size <= t->write_low;
    if ((!pause && !resume) || t->protocol == NULL || t->closed) {
        return 0;
    }
    corolla_state *state = t->state;
    t->told_pause = pause;
    PyObject *result = tls_call(t, pause ? state->s.pause_writing : state->s.resume_writing, NULL);
    if (result == NULL) {
        return transport_report(state, t->loop, (PyObject *)t, t->protocol,
                                pause ? "protocol.pause_writing() failed" : "protocol.resume_writing() failed");
    }
    Py_DECREF(result);
    return 0;
}

/* ---- write() ------------------------------------------------------------------------------------------- */

/* Counts this write and says whether it should wait for others of its turn. As the reactor's streams learn it. */
static bool
learn_to_hold(TlsTransport *t)
{
    corolla_reactor *r = &t->core->reactor;
    if (!r->in_turn) {
        return false;
    }
    if (t->write_turn != r->turns) {
        if (t->writes <= 1) {
            t->hold = 0;
        }
        else if (t->hold < HOLD_AFTER) {
            t->hold++;
        }
        t->write_turn = r->turns;
        t->writes = 0;
    }
    t->writes++;
    return t->hold == HOLD_AFTER && t->write_high > 0;
}

/* A write on a connection that is closing or gone. 0 or -1. */
static int
count_lost_write(TlsTransport *t)
{
    if (t->lost_writes >= WARN_AFTER) {
        PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "s", "SSL connection is closed");
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    if (t->lost_writes < UINT_MAX) {
        t->lost_writes++;
    }
    return 0;
}

static bool
takes_writes(const TlsTransport *t)
{
    return t->stage == TLS_HANDSHAKE || (t->stage == TLS_WRAPPED && t->core != NULL && !t->close_after);
}

/* What is in the backlog goes now, later in this turn, or when it can. 0 or -1. */
static int
push(TlsTransport *t, bool hold)
{
    if (t->stage != TLS_WRAPPED) {
        return tls_control_writing(t);
    }
    if (hold && t->backlog.size < HOLD_MOST) {
        corolla_reactor_defer(&t->core->reactor, &t->flush);
        return 0;
    }
    corolla_reactor_undefer(&t->core->reactor, &t->flush);
    return t->sealing ? tls_control_writing(t) : tls_seal(t, false);
}

/* The same, of data (with the bytes object it is all of, or NULL). *at: how much of it is sealed, also on failure. */
static int
seal_data(TlsTransport *t, PyObject *owner, const char *data, size_t len, Sealed *sealed, size_t *at, bool *again)
{
    size_t begin = *at;
    while (sealed->count < TLS_MOST_SEALED && *at < len && *at - begin < PORTION && t->stage == TLS_WRAPPED) {
        size_t left = len - *at, portion = portion_of(t);
        bool failed;
        portion = left < portion ? left : portion;
        size_t n = seal_one(t, portion == len ? owner : NULL, data + *at, portion, sealed, &failed);
        *at += n;
        if (failed) {
            return -1;
        }
        if (n == 0) {
            *again = true;
            break;
        }
    }
    return 0;
}

/* Data of a connection that can take it at once. *at: how much it took. 0 or -1. */
static int
seal_at_once(TlsTransport *t, PyObject *owner, const char *data, size_t len, size_t *at)
{
    int rc = 0;
    bool again = false;
    t->sealing = true;
    while (rc == 0 && *at < len && t->stage == TLS_WRAPPED && !t->below_full && !again) {
        Sealed sealed = {.count = 0};
        rc = seal_data(t, owner, data, len, &sealed, at, &again);
        rc = send_off(t, &sealed, rc);
    }
    return stop_sealing(t, rc);
}

/* All of it is sent. What the protocol wrote meanwhile is not, nor what it closed closed. */
static int
finish_write(TlsTransport *t)
{
    if (t->close_after) {
        return tls_close(t);
    }
    if (t->backlog.count > 0) {
        return push(t, false);
    }
    return t->told_pause ? tls_control_writing(t) : 0;
}

/* What of data is not sealed joins the backlog: behind it, or, begun, in front of what code of somebody's has written in the
 * middle of it. 0 or -1. */
static int
keep(TlsTransport *t, PyObject *owner, const char *data, size_t len, size_t at, bool begun)
{
    PyObject *bytes = owner != NULL ? Py_NewRef(owner) : PyBytes_FromStringAndSize(data + at, (Py_ssize_t)(len - at));
    return begun ? backlog_add_first(&t->backlog, bytes, owner != NULL ? at : 0) : backlog_add(&t->backlog, bytes);
}

/* Behind seal_at_once(), with its exception. After KeyboardInterrupt the connection is as good as before. 0 or -1. */
static int
fail_write(TlsTransport *t, PyObject *owner, const char *data, size_t len, size_t at)
{
    int rc = tls_fatal(t, "Fatal error on SSL protocol");
    if (rc < 0 && at < len && t->stage == TLS_WRAPPED) {
        PyObject *raised = PyErr_GetRaisedException();
        if (keep(t, owner, data, len, at, true) < 0) {
            (void)tls_fatal(t, "Fatal error on SSL protocol"); /* MemoryError: no peer is to see a gap */
        }
        PyErr_Clear();
        PyErr_SetRaisedException(raised);
    }
    if (rc < 0) {
        tls_go_on_later(t);
    }
    return rc;
}

static int
write_bytes(TlsTransport *t, PyObject *owner, const char *data, size_t len)
{
    bool hold = learn_to_hold(t);
    size_t at = 0;
    bool begun = t->stage == TLS_WRAPPED && t->backlog.count == 0 && !hold && !t->sealing;
    if (begun) {
        if (seal_at_once(t, owner, data, len, &at) < 0) {
            return fail_write(t, owner, data, len, at);
        }
        if (at == len) {
            return finish_write(t);
        }
        if (t->stage != TLS_WRAPPED) {
            return 0;
        }
    }
    int rc = keep(t, owner, data, len, at, begun);
    if (rc == 0) {
        rc = t->close_after ? tls_close(t) : push(t, hold);
    }
    return rc;
}

int
tls_write(TlsTransport *t, PyObject *data)
{
    Py_buffer view = {.obj = NULL};
    const char *buf;
    size_t len;
    if (PyBytes_CheckExact(data)) {
        buf = PyBytes_AS_STRING(data);
        len = (size_t)PyBytes_GET_SIZE(data);
    }
    else if (!PyObject_CheckBuffer(data)) {
        PyErr_Format(PyExc_TypeError, "data: expecting a bytes-like instance, got %.200s", Py_TYPE(data)->tp_name);
        return -1;
    }
    else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        buf = view.buf;
        len = (size_t)view.len;
    }
    int rc = 0;
    t->inside++;
    if (len > 0) {
        rc = takes_writes(t) ? write_bytes(t, view.obj == NULL ? data : NULL, buf, len) : count_lost_write(t);
    }
    t->inside--;
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    return rc;
}

/* ---- Methods ------------------------------------------------------------------------------------------- */

static PyObject *
method_write(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *data = corolla_unpack_one("write", "data", args, nargs, kwnames);
    if (data == NULL) {
        return NULL;
    }
    return tls_write((TlsTransport *)self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Any buffer as a bytes object of its own. New reference or NULL. */
static PyObject *
as_bytes(PyObject *item)
{
    if (PyBytes_CheckExact(item)) {
        return Py_NewRef(item);
    }
    if (!PyObject_CheckBuffer(item)) {
        PyErr_Format(PyExc_TypeError, "data: expecting a bytes-like instance, got %.200s", Py_TYPE(item)->tp_name);
        return NULL;
    }
    return PyBytes_FromObject(item);
}

/* Each is checked before the first is written. New reference or NULL. */
static PyObject *
all_as_bytes(PyObject *iterable)
{
    PyObject *given = PySequence_Tuple(iterable);
    PyObject *items = given == NULL ? NULL : PyTuple_New(PyTuple_GET_SIZE(given));
    for (Py_ssize_t i = 0; items != NULL && i < PyTuple_GET_SIZE(given); i++) {
        PyObject *bytes = as_bytes(PyTuple_GET_ITEM(given, i));
        if (bytes == NULL) {
            Py_CLEAR(items);
        }
        else {
            PyTuple_SET_ITEM(items, i, bytes);
        }
    }
    Py_XDECREF(given);
    return items;
}

int
tls_write_all(TlsTransport *t, PyObject *const *items, size_t count)
{
    if (!takes_writes(t)) {
        return count_lost_write(t);
    }
    bool hold = learn_to_hold(t);
    for (size_t i = 0; i < count; i++) {
        if (PyBytes_GET_SIZE(items[i]) > 0 && backlog_add(&t->backlog, Py_NewRef(items[i])) < 0) {
            return -1;
        }
    }
    t->inside++;
    int rc = t->backlog.count > 0 ? push(t, hold) : 0;
    t->inside--;
    return rc;
}

static PyObject *
method_writelines(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    TlsTransport *t = (TlsTransport *)self;
    PyObject *iterable = corolla_unpack_one("writelines", "list_of_data", args, nargs, kwnames);
    PyObject *items = iterable == NULL ? NULL : all_as_bytes(iterable);
    if (items == NULL) {
        return NULL;
    }
    int rc = tls_write_all(t, PySequence_Fast_ITEMS(items), (size_t)PyTuple_GET_SIZE(items));
    Py_DECREF(items);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* asyncio has it for its tests: queued, and sealed whenever something else makes it. */
static PyObject *
method_append_backlog(PyObject *self, PyObject *data)
{
    PyObject *bytes = as_bytes(data);
    if (bytes != NULL && PyBytes_GET_SIZE(bytes) == 0) {
        Py_DECREF(bytes);
        Py_RETURN_NONE;
    }
    if (backlog_add(&((TlsTransport *)self)->backlog, bytes) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
method_write_eof(PyObject *self, PyObject *unused)
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

static PyObject *
method_can_write_eof(PyObject *self, PyObject *unused)
{
    Py_RETURN_FALSE;
}

static PyObject *
method_set_write_buffer_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low", NULL};
    static const corolla_signature signature = {"set_write_buffer_limits", names, 0, 2, NULL};
    TlsTransport *t = (TlsTransport *)self;
    PyObject *given[2];
    Py_ssize_t high = 0, low = 0;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0 ||
        transport_parse_limits_of(given[0], given[1], TLS_WRITE_HIGH_WATER, &high, &low) < 0) {
        return NULL;
    }
    t->write_high = (size_t)high;
    t->write_low = (size_t)low;
    t->inside++;
    int rc = tls_control_writing(t);
    t->inside--;
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_get_write_buffer_limits(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    return Py_BuildValue("nn", (Py_ssize_t)t->write_low, (Py_ssize_t)t->write_high);
}

static PyObject *
method_get_write_buffer_size(PyObject *self, PyObject *unused)
{
    return PyLong_FromSize_t(((TlsTransport *)self)->backlog.size);
}

PyDoc_STRVAR(write_doc, "Write bytes; what cannot be sent at once is queued.");
PyDoc_STRVAR(writelines_doc, "Write each of the given bytes-like objects, in order.");
PyDoc_STRVAR(write_eof_doc, "Not supported: TLS cannot be half-closed.");
PyDoc_STRVAR(can_write_eof_doc, "False: write_eof() is not supported.");
PyDoc_STRVAR(set_limits_doc, "Set the high and low watermarks of the write queue, in bytes.");
PyDoc_STRVAR(get_limits_doc, "The low and the high watermark of the write queue.");
PyDoc_STRVAR(get_size_doc, "Bytes written that are not sealed yet.");

PyMethodDef tls_write_methods[] = {
    {"write", (PyCFunction)(void (*)(void))method_write, METH_FASTCALL | METH_KEYWORDS, write_doc},
    {"writelines", (PyCFunction)(void (*)(void))method_writelines, METH_FASTCALL | METH_KEYWORDS, writelines_doc},
    {"_test__append_write_backlog", method_append_backlog, METH_O, NULL},
    {"write_eof", method_write_eof, METH_NOARGS, write_eof_doc},
    {"can_write_eof", method_can_write_eof, METH_NOARGS, can_write_eof_doc},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))method_set_write_buffer_limits,
     METH_FASTCALL | METH_KEYWORDS, set_limits_doc},
    {"get_write_buffer_limits", method_get_write_buffer_limits, METH_NOARGS, get_limits_doc},
    {"get_write_buffer_size", method_get_write_buffer_size, METH_NOARGS, get_size_doc},
    {NULL, NULL, 0, NULL},
};
