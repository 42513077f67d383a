/* Reading: from the engine to the application's protocol. */
#include "tls.h"

#include <assert.h>

enum { MUCH = 8 * 1024 }; /* bytes: too much to be copied */

/* ---- Out of the engine ----------------------------------------------------------------------------- */

/* How a filling ended, besides that memory was full or nothing was left. */
typedef struct Ending {
    bool closed;     /* by the peer's close_notify */
    PyObject *error; /* owned: what was raised, or NULL */
} Ending;

static int
feed_some(TlsTransport *t, tls_wire *wire)
{
    ssize_t n = t->engine->ops->feed(t->engine, wire->at, wire->left);
    if (n < 0) {
        wire->left = 0;
        return -1;
    }
    assert(n > 0 && (size_t)n <= wire->left);
    wire->at += n;
    wire->left -= (size_t)n;
    if (wire->left == 0 && wire->thrift) {
        t->engine->ops->thrift(t->engine);
    }
    return 0;
}

int
tls_feed(TlsTransport *t, tls_wire *wire)
{
    int rc = 0;
    while (rc == 0 && wire->left > 0) {
        rc = feed_some(t, wire);
    }
    return rc;
}

/* Free memory at buf, of which there is len. What came from below may lie in the same, further on. */
static size_t
room(const char *buf, size_t len, const tls_wire *wire)
{
    bool inside = wire->left > 0 && wire->at >= buf && wire->at < buf + len;
    return inside ? (size_t)(wire->at - buf) : len;
}

/* Not so once code of somebody's, which reading may run, has closed or aborted it: then no byte is delivered. */
static bool
is_alive(const TlsTransport *t)
{
    return t->stage == TLS_WRAPPED || t->stage == TLS_FLUSHING;
}

/* Records into memory: how many bytes. Those before an error, or the end, are the application's all the same. The engine has
 * got all that came when this is over, or will not want it. */
static size_t
fill(TlsTransport *t, char *buf, size_t len, tls_wire *wire, Ending *ending)
{
    tls_engine *engine = t->engine;
    corolla_core *core = t->core;
    size_t total = 0;
    bool outer = core->opening;
    core->opening = true;
    *ending = (Ending){.error = NULL};
    while (total < len && is_alive(t)) {
        size_t most = room(buf + total, len - total, wire);
        if (wire->left > 0 && (most == 0 || !engine->ops->readable(engine))) {
            if (feed_some(t, wire) < 0) {
                ending->error = PyErr_GetRaisedException();
                break;
            }
            continue;
        }
        if (!engine->ops->readable(engine)) {
            break;
        }
        ssize_t n = engine->ops->read(engine, buf + total, most);
        if (n > 0) {
            total += (size_t)n;
            continue;
        }
        if (n == TLS_CLOSED) {
            ending->closed = t->notified = true;
            wire->left = 0;
            break;
        }
        if (n == TLS_FAILED) { /* perhaps by a signal's handler: then the connection goes on */
            ending->error = PyErr_GetRaisedException();
            break;
        }
    }
    if (tls_feed(t, wire) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        if (ending->error == NULL) {
            ending->error = error;
        }
        else {
            Py_DECREF(error);
        }
    }
    core->opening = outer;
    return total;
}

/* rc: of what the bytes were delivered by. Steals the error. */
static int
end(TlsTransport *t, int rc, const Ending *ending)
{
    if (rc < 0) {
        Py_XDECREF(ending->error);
        return rc;
    }
    if (ending->error != NULL) {
        PyErr_SetRaisedException(ending->error);
        return is_alive(t) ? tls_fatal(t, "Fatal error on SSL protocol") : tls_drop_exception();
    }
    if (!is_alive(t)) {
        return 0;
    }
    if (ending->closed) {
        rc = tls_tell_eof(t);
        return rc < 0 ? rc : tls_close(t);
    }
    return 0;
}

/* Steals the result of a protocol's method. */
static int
check(TlsTransport *t, PyObject *result)
{
    if (result == NULL) {
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    Py_DECREF(result);
    return 0;
}

/* ---- To the protocol ------------------------------------------------------------------------------- */

/* Borrowed: static; NULL where data_received() is to be called. */
static const corolla_native_protocol *
taker(const TlsTransport *t)
{
    const corolla_native_protocol *native = t->native;
    return native != NULL && (native->takes == NULL || native->takes(t->protocol)) ? native : NULL;
}

static int
give_native(TlsTransport *t, const corolla_native_protocol *native, const char *buf, size_t n)
{
    PyObject *protocol = Py_NewRef(t->protocol);
    int rc = native->came(protocol, buf, n);
    Py_DECREF(protocol);
    return rc < 0 ? tls_fatal(t, "Fatal error on SSL protocol") : 0;
}

/* data: stolen, or NULL with an exception. */
static int
give_bytes(TlsTransport *t, PyObject *data)
{
    PyObject *result = data == NULL ? NULL : tls_call(t, t->state->s.data_received, data);
    Py_XDECREF(data);
    return check(t, result);
}

/* Much has come: it is opened where it stays. */
static int
pump_much(TlsTransport *t, tls_wire *wire)
{
    Ending ending;
    ssize_t unread = t->engine->ops->unread(t->engine);
    PyObject *data = unread < 0 ? NULL : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)wire->left + unread);
    if (data == NULL) {
        wire->left = 0;
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    size_t n = fill(t, PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data), wire, &ending);
    int rc = 0;
    if (n > 0 && is_alive(t)) {
        (void)_PyBytes_Resize(&data, (Py_ssize_t)n);
        rc = give_bytes(t, data);
    }
    else {
        Py_DECREF(data);
    }
    return end(t, rc, &ending);
}

static int
pump_data(TlsTransport *t, tls_wire *wire)
{
    Ending ending;
    bool nested = t->core->opening; /* called by code that runs while another's bytes are in the scratch memory */
    char *buf = nested ? PyMem_Malloc(COROLLA_SCRATCH) : corolla_reactor_scratch(&t->core->reactor);
    if (buf == NULL) {
        PyErr_NoMemory();
        wire->left = 0;
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    size_t n = fill(t, buf, COROLLA_SCRATCH, wire, &ending);
    int rc = 0;
    if (n > 0 && is_alive(t)) {
        const corolla_native_protocol *native = taker(t);
        rc = native != NULL ? give_native(t, native, buf, n)
                            : give_bytes(t, PyBytes_FromStringAndSize(buf, (Py_ssize_t)n));
    }
    if (nested) {
        PyMem_Free(buf);
    }
    return end(t, rc, &ending);
}

/* protocol.get_buffer(). 0, or -1 with an exception. */
static int
get_buffer(TlsTransport *t, Py_buffer *view)
{
    ssize_t unread = t->engine->ops->unread(t->engine);
    PyObject *hint = unread < 0 ? NULL : PyLong_FromSsize_t(unread);
    PyObject *buffer = hint == NULL ? NULL : tls_call(t, t->state->s.get_buffer, hint);
    Py_XDECREF(hint);
    if (buffer == NULL) {
        return -1;
    }
    int rc = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    Py_DECREF(buffer);
    if (rc == 0 && view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        rc = -1;
    }
    return rc;
}

/* Whether the protocol may be given anything. */
static bool
is_open(const TlsTransport *t)
{
    return is_alive(t) && !t->paused && !t->close_after;
}

static bool
may_read(const TlsTransport *t)
{
    return is_open(t) && t->engine->ops->readable(t->engine);
}

static int
pump_buffer(TlsTransport *t)
{
    Py_buffer view;
    Ending ending;
    t->switched = false;
    if (get_buffer(t, &view) < 0) {
        return tls_fatal(t, "Fatal error on SSL protocol");
    }
    if (t->switched || !may_read(t)) {
        PyBuffer_Release(&view); /* the bytes are for another protocol, or for later */
        return 0;
    }
    tls_wire none = {.left = 0};
    size_t n = fill(t, view.buf, (size_t)view.len, &none, &ending);
    PyBuffer_Release(&view);
    int rc = 0;
    if (n > 0 && is_alive(t)) {
        PyObject *size = PyLong_FromSize_t(n);
        PyObject *result = size == NULL ? NULL : tls_call(t, t->state->s.buffer_updated, size);
        Py_XDECREF(size);
        rc = check(t, result);
    }
    return end(t, rc, &ending);
}

/* The stream below has ended, and all that came before is delivered. */
static int
end_of_stream(TlsTransport *t)
{
    int rc = tls_tell_eof(t);
    return rc < 0 ? rc : tls_close(t);
}

void
tls_go_on_later(TlsTransport *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (!t->resuming && t->core != NULL && is_alive(t)) {
        t->resuming = corolla_core_post(t->core, tls_resume_job, Py_NewRef(t)) == 0;
        PyErr_Clear();
    }
    PyErr_SetRaisedException(exc);
}

/* What there is goes to the protocol. 0 or -1. */
static int
pump(TlsTransport *t, tls_wire *wire)
{
    int rc = 0;
    if (t->buffered || !is_open(t)) {
        rc = tls_feed(t, wire) < 0 ? tls_fatal(t, "Fatal error on SSL protocol") : 0;
    }
    else if (wire->left > 0) {
        rc = wire->left >= MUCH && taker(t) == NULL ? pump_much(t, wire) : pump_data(t, wire);
    }
    while (rc == 0 && may_read(t)) {
        rc = t->buffered ? pump_buffer(t) : pump_data(t, wire);
    }
    return rc;
}

int
tls_pump(TlsTransport *t, tls_wire *wire)
{
    tls_wire none = {.left = 0};
    wire = wire == NULL ? &none : wire;
    if (t->pumping) { /* whoever does it goes on; what came before goes first */
        bool fed = tls_feed(t, t->wire) == 0 && tls_feed(t, wire) == 0;
        return fed ? 0 : tls_fatal(t, "Fatal error on SSL protocol");
    }
    t->pumping = true;
    t->wire = wire;
    int rc = pump(t, wire);
    t->wire = NULL;
    t->pumping = false;
    if (rc < 0) {
        tls_go_on_later(t);
        return rc;
    }
    if (is_alive(t)) {
        if (t->close_after && !t->sealing) { /* that close() was interrupted */
            rc = tls_close(t);
        }
        else if (t->backlog.count > 0 && t->flush.next == NULL) {
            rc = tls_seal(t, false);
        }
        else if (t->engine->stirred && tls_send(t) < 0) {
            rc = tls_fatal(t, "Fatal error on SSL protocol");
        }
    }
    if (rc == 0 && t->stage == TLS_FLUSHING && !t->paused) {
        rc = end_of_stream(t);
    }
    else if (rc == 0 && t->stage == TLS_SHUTDOWN && t->engine->ops->readable(t->engine)) {
        rc = tls_shut(t); /* closed while the engine had not got all of it */
    }
    return rc < 0 ? rc : tls_control_reading(t);
}

/* ---- Flow control ---------------------------------------------------------------------------------- */

int
tls_control_reading(TlsTransport *t)
{
    bool wrapped = t->stage == TLS_WRAPPED;
    if ((!t->paused && !t->below_paused) || !wrapped) {
        return 0;
    }
    ssize_t unread = t->engine->ops->unread(t->engine);
    int rc = unread < 0 ? -1 : 0;
    if (rc == 0 && !t->below_paused && (size_t)unread >= t->read_high) {
        t->below_paused = true;
        rc = tls_below_pause(t);
    }
    else if (rc == 0 && t->below_paused && (!t->paused || (size_t)unread <= t->read_low)) {
        t->below_paused = false;
        rc = tls_below_resume(t);
    }
    return rc < 0 ? tls_fatal(t, "Fatal error on SSL protocol") : 0;
}

void
tls_pause(TlsTransport *t)
{
    t->paused = true;
}

int
tls_resume_job(void *arg)
{
    TlsTransport *t = arg;
    int rc = 0;
    t->resuming = false;
    if (t->core != NULL && is_alive(t)) {
        corolla_core_leave_task(t->core);
        rc = tls_pump(t, NULL);
    }
    Py_DECREF(t);
    return rc;
}

int
tls_resume(TlsTransport *t)
{
    if (!t->paused) {
        return 0;
    }
    if (t->lost || t->core == NULL) {
        t->paused = false;
        return 0;
    }
    if (!t->resuming) {
        if (corolla_core_post(t->core, tls_resume_job, Py_NewRef(t)) < 0) {
            return -1;
        }
        t->resuming = true;
    }
    t->paused = false;
    return 0;
}

/* ---- Methods --------------------------------------------------------------------------------------- */

static PyObject *
method_pause_reading(PyObject *self, PyObject *unused)
{
    tls_pause((TlsTransport *)self);
    Py_RETURN_NONE;
}

static PyObject *
method_resume_reading(PyObject *self, PyObject *unused)
{
    return tls_resume((TlsTransport *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_is_reading(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    return PyBool_FromLong(!t->paused && !t->closed);
}

static PyObject *
method_set_read_buffer_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low", NULL};
    static const corolla_signature signature = {"set_read_buffer_limits", names, 0, 2, NULL};
    TlsTransport *t = (TlsTransport *)self;
    PyObject *given[2];
    Py_ssize_t high = 0, low = 0;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0 ||
        transport_parse_limits_of(given[0], given[1], TLS_READ_HIGH_WATER, &high, &low) < 0) {
        return NULL;
    }
    t->read_high = (size_t)high;
    t->read_low = (size_t)low;
    return tls_control_reading(t) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
method_get_read_buffer_limits(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    return Py_BuildValue("nn", (Py_ssize_t)t->read_low, (Py_ssize_t)t->read_high);
}

static PyObject *
method_get_read_buffer_size(PyObject *self, PyObject *unused)
{
    TlsTransport *t = (TlsTransport *)self;
    ssize_t unread = t->engine == NULL ? 0 : t->engine->ops->unread(t->engine);
    return unread < 0 ? NULL : PyLong_FromSsize_t(unread);
}

PyDoc_STRVAR(pause_reading_doc, "Give the protocol nothing until resume_reading() is called.");
PyDoc_STRVAR(resume_reading_doc, "Go on after pause_reading().");
PyDoc_STRVAR(is_reading_doc, "True unless reading is paused or the connection is closing.");
PyDoc_STRVAR(
    set_limits_doc,
    "Set the high and low watermarks, in bytes, of what was received and not decrypted while reading is paused.");
PyDoc_STRVAR(get_limits_doc, "The low and the high watermark of what is received while reading is paused.");
PyDoc_STRVAR(get_size_doc, "Bytes received and not decrypted yet.");

PyMethodDef tls_read_methods[] = {
    {"pause_reading", method_pause_reading, METH_NOARGS, pause_reading_doc},
    {"resume_reading", method_resume_reading, METH_NOARGS, resume_reading_doc},
    {"is_reading", method_is_reading, METH_NOARGS, is_reading_doc},
    {"set_read_buffer_limits", (PyCFunction)(void (*)(void))method_set_read_buffer_limits,
     METH_FASTCALL | METH_KEYWORDS, set_limits_doc},
    {"get_read_buffer_limits", method_get_read_buffer_limits, METH_NOARGS, get_limits_doc},
    {"get_read_buffer_size", method_get_read_buffer_size, METH_NOARGS, get_size_doc},
    {NULL, NULL, 0, NULL},
};
