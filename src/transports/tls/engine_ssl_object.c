/* The engine that works everywhere: ssl.SSLObject between two ssl.MemoryBIO.
 *
 * An SSLObject's methods are Python functions around those of the C object in it. Where it is no subclass, the C object is
 * called directly, reads go straight into the caller's memory, and no exception is raised where none is needed: the
 * records that are there are counted. A subclass (sslobject_class) gets the calls that asyncio would make. */
#include "engine.h"

#include <limits.h>
#include <string.h>

/* A MemoryBIO is cleared, filled and copied from, and keeps what it has grown to: a record or two at a time stay in the
 * processor's cache, however much comes at once. */
enum { BITE = 16 * 1024 + 512 };

typedef struct SslEngine {
    tls_engine base;
    corolla_state *state;          /* borrowed */
    PyObject *incoming, *outgoing; /* owned, each: the MemoryBIOs */
    PyObject *inner;               /* owned: the C object in base.object, or base.object itself for a subclass */
    PyObject *feed, *take;         /* owned, each: incoming.write, outgoing.read */
    PyObject *read, *write;        /* owned, each: methods of inner */
    PyObject *read_into; /* owned: (0, window), or NULL for a subclass: as much as fits the window; no cycle */
    tls_window *window;  /* owned */
    tls_records records;
    bool own_bios; /* they are the ssl module's, whatever is in it now: lent memory is not kept */
    bool rest;     /* of a record that did not fit is in the SSL object */
    bool fed;      /* since the read that is going on began */
} SslEngine;

static SslEngine *
ssl_of(tls_engine *engine)
{
    return (SslEngine *)(void *)engine;
}

/* ---- Lending ---------------------------------------------------------------------------------- */

static void
lend(SslEngine *e, const void *buf, size_t len)
{
    e->window->buf = (void *)(uintptr_t)buf;
    e->window->len = len > INT_MAX ? INT_MAX : (Py_ssize_t)len;
}

static void
lend_no_more(SslEngine *e)
{
    e->window->buf = NULL;
    e->window->len = 0;
}

/* ---- Outcomes -------------------------------------------------------------------------------- */

/* Of a call that raised: what asyncio takes for "not yet" is TLS_AGAIN, and cleared. */
static int
judge(SslEngine *e)
{
    corolla_state *state = e->state;
    if (PyErr_ExceptionMatches(state->ssl_SSLWantReadError) || PyErr_ExceptionMatches(state->ssl_SSLSyscallError)) {
        PyErr_Clear();
        return TLS_AGAIN;
    }
    return TLS_FAILED;
}

static int
call_inner(SslEngine *e, PyObject *name)
{
    PyObject *inner = Py_NewRef(e->inner);
    PyObject *done = PyObject_CallMethodNoArgs(inner, name);
    Py_DECREF(inner);
    if (done == NULL) {
        return judge(e);
    }
    Py_DECREF(done);
    return 0;
}

static ssize_t
take_count(PyObject *count, size_t most)
{
    if (count == NULL) {
        return TLS_FAILED;
    }
    Py_ssize_t n = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    if (n >= 0 && (size_t)n <= most) {
        return n;
    }
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_RuntimeError, "the SSL object counted %zd of %zu bytes", n, most);
    }
    return TLS_FAILED;
}

static ssize_t
pending_in(PyObject *bio, corolla_state *state)
{
    PyObject *pending = PyObject_GetAttr(bio, state->s.pending);
    if (pending == NULL) {
        return -1;
    }
    Py_ssize_t n = PyLong_AsSsize_t(pending);
    Py_DECREF(pending);
    return n;
}

/* ---- The wire ---------------------------------------------------------------------------------- */

static ssize_t
ssl_feed(tls_engine *engine, const void *buf, size_t n)
{
    SslEngine *e = ssl_of(engine);
    PyObject *done;
    if (n > BITE && !e->records.odd) {
        n = BITE;
    }
    n = n > INT_MAX ? INT_MAX : n; /* what can be lent */
    if (e->own_bios) {
        lend(e, buf, n);
        done = PyObject_CallOneArg(e->feed, (PyObject *)e->window);
        lend_no_more(e);
    }
    else {
        PyObject *data = PyBytes_FromStringAndSize(buf, (Py_ssize_t)n);
        done = data == NULL ? NULL : PyObject_CallOneArg(e->feed, data);
        Py_XDECREF(data);
    }
    if (done == NULL) {
        return TLS_FAILED;
    }
    Py_DECREF(done);
    tls_records_feed(&e->records, buf, n);
    e->fed = true;
    return (ssize_t)n;
}

static int
ssl_take(tls_engine *engine, PyObject **data)
{
    SslEngine *e = ssl_of(engine);
    engine->stirred = false;
    *data = PyObject_CallNoArgs(e->take);
    if (*data == NULL) {
        return TLS_FAILED;
    }
    if (!PyBytes_CheckExact(*data)) {
        PyErr_Format(PyExc_TypeError, "the BIO read %.200s, not bytes", Py_TYPE(*data)->tp_name);
        Py_CLEAR(*data);
        return TLS_FAILED;
    }
    if (PyBytes_GET_SIZE(*data) == 0) {
        Py_CLEAR(*data);
    }
    return 0;
}

static ssize_t
ssl_unread(tls_engine *engine)
{
    SslEngine *e = ssl_of(engine);
    return pending_in(e->incoming, e->state);
}

/* ---- The connection ---------------------------------------------------------------------------- */

static ssize_t
read_plain(SslEngine *e, void *buf, size_t len)
{
    lend(e, buf, len);
    PyObject *count = PyObject_Call(e->read, e->read_into, NULL);
    lend_no_more(e);
    return count == NULL ? judge(e) : take_count(count, len);
}

/* Nothing is there: a read says so, and OpenSSL gives back the 16 KiB of room for a record that it would keep until the first
 * bytes come. 0 or TLS_FAILED. */
static int
give_back_room(SslEngine *e)
{
    char none;
    ssize_t n = read_plain(e, &none, 1);
    if (n == 1) {
        PyErr_SetString(PyExc_RuntimeError, "the SSL object has bytes that nobody sent");
        return TLS_FAILED;
    }
    e->records.whole = n == TLS_CLOSED; /* to be told again */
    return n == TLS_FAILED ? TLS_FAILED : 0;
}

static int
ssl_handshake(tls_engine *engine)
{
    SslEngine *e = ssl_of(engine);
    int rc = call_inner(e, e->state->s.do_handshake);
    engine->stirred = true;
    if (rc == 0 && engine->plain) {
        ssize_t unread = ssl_unread(engine);
        if (unread < 0) {
            return TLS_FAILED;
        }
        if (unread == 0) {
            e->records.whole = 0; /* those of the handshake were counted, too */
            return give_back_room(e);
        }
    }
    return rc;
}

static int
ssl_shutdown(tls_engine *engine)
{
    SslEngine *e = ssl_of(engine);
    return call_inner(e, engine->plain ? e->state->s.shutdown : e->state->s.unwrap);
}

/* ---- Plain bytes ------------------------------------------------------------------------------- */

static bool
ssl_readable(const tls_engine *engine)
{
    const SslEngine *e = (const SslEngine *)(const void *)engine;
    return e->records.whole > 0 || e->rest;
}

static void
ssl_thrift(tls_engine *engine)
{
    SslEngine *e = ssl_of(engine);
    if (e->records.whole > 0) {
        e->records.whole++; /* the read that finds nothing, as in give_back_room() */
    }
}

static ssize_t
read_subclass(SslEngine *e, void *buf, size_t len)
{
    PyObject *read = Py_NewRef(e->read);
    PyObject *data = PyObject_CallFunction(read, "n", (Py_ssize_t)(len > INT_MAX ? INT_MAX : len));
    Py_DECREF(read);
    if (data == NULL) {
        return judge(e);
    }
    Py_buffer view;
    int rc = PyObject_GetBuffer(data, &view, PyBUF_SIMPLE);
    Py_DECREF(data);
    if (rc < 0) {
        return TLS_FAILED;
    }
    ssize_t n = view.len;
    if ((size_t)n <= len) {
        memcpy(buf, view.buf, (size_t)n);
    }
    else {
        PyErr_Format(PyExc_RuntimeError, "the SSL object read %zd of %zu bytes", n, len);
        n = TLS_FAILED;
    }
    PyBuffer_Release(&view);
    return n;
}

/* After a read that filled its memory: whether the record has more. */
static int
ask_for_rest(SslEngine *e)
{
    PyObject *count = PyObject_CallMethodNoArgs(e->inner, e->state->s.pending);
    if (count == NULL) {
        return -1;
    }
    int some = PyObject_IsTrue(count);
    Py_DECREF(count);
    return some;
}

static ssize_t
ssl_read(tls_engine *engine, void *buf, size_t len)
{
    SslEngine *e = ssl_of(engine);
    e->fed = false;
    ssize_t n = engine->plain ? read_plain(e, buf, len) : read_subclass(e, buf, len);
    if (n <= 0) {
        engine->stirred = true;                          /* a record that held no data may want an answer */
        if (n != TLS_FAILED) {                           /* a signal's handler may have raised: there is more */
            e->records.whole = e->fed && n == TLS_AGAIN; /* by code that ran in there */
            e->rest = false;
        }
        return n;
    }
    if (e->records.odd) {
        return n; /* there may be more until a read says that there is not */
    }
    int rest = (size_t)n == len ? ask_for_rest(e) : 0;
    if (rest < 0) {
        PyErr_Clear(); /* then the next read will tell */
        rest = 1;
    }
    if (!rest && e->records.whole > 0) {
        e->records.whole--;
    }
    e->rest = rest;
    return n;
}

static ssize_t
ssl_write(tls_engine *engine, PyObject *owner, const void *data, size_t len)
{
    SslEngine *e = ssl_of(engine);
    PyObject *made = NULL;
    if (owner == NULL && !engine->plain) {
        made = owner = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
        if (made == NULL) {
            return TLS_FAILED;
        }
    }
    else if (owner == NULL) {
        lend(e, data, len);
        owner = (PyObject *)e->window;
    }
    PyObject *write = Py_NewRef(e->write);
    PyObject *count = PyObject_CallOneArg(write, owner);
    lend_no_more(e);
    Py_DECREF(write);
    Py_XDECREF(made);
    return count == NULL ? judge(e) : take_count(count, len);
}

/* ---- Life ---------------------------------------------------------------------------------------- */

static int
ssl_traverse(tls_engine *engine, visitproc visit, void *arg)
{
    SslEngine *e = ssl_of(engine);
    Py_VISIT(engine->object);
    Py_VISIT(e->incoming);
    Py_VISIT(e->outgoing);
    Py_VISIT(e->inner);
    Py_VISIT(e->feed);
    Py_VISIT(e->take);
    Py_VISIT(e->read);
    Py_VISIT(e->write);
    return 0;
}

static void
ssl_free(tls_engine *engine)
{
    SslEngine *e = ssl_of(engine);
    Py_XDECREF(engine->object);
    Py_XDECREF(e->incoming);
    Py_XDECREF(e->outgoing);
    Py_XDECREF(e->inner);
    Py_XDECREF(e->feed);
    Py_XDECREF(e->take);
    Py_XDECREF(e->read);
    Py_XDECREF(e->write);
    Py_XDECREF(e->read_into);
    Py_XDECREF((PyObject *)e->window);
    PyMem_Free(e);
}

static const tls_engine_ops ssl_ops = {
    .feed = ssl_feed,
    .take = ssl_take,
    .handshake = ssl_handshake,
    .readable = ssl_readable,
    .thrift = ssl_thrift,
    .read = ssl_read,
    .write = ssl_write,
    .shutdown = ssl_shutdown,
    .unread = ssl_unread,
    .traverse = ssl_traverse,
    .free = ssl_free,
};

static int
wrap(SslEngine *e, PyObject *sslcontext, bool server_side, PyObject *server_hostname)
{
    corolla_state *state = e->state;
    PyObject *kwnames = PyTuple_Pack(2, state->s.server_side, state->s.server_hostname);
    if (kwnames == NULL) {
        return -1;
    }
    PyObject *args[] = {
        sslcontext,
        e->incoming,
        e->outgoing,
        server_side ? Py_True : Py_False,
        server_hostname == NULL ? Py_None : server_hostname,
    };
    e->base.object = PyObject_VectorcallMethod(state->s.wrap_bio, args, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, kwnames);
    Py_DECREF(kwnames);
    return e->base.object == NULL ? -1 : 0;
}

/* Not of a class written in Python: it keeps no view of what it is given. */
static bool
is_native(PyObject *obj)
{
    return !(Py_TYPE(obj)->tp_flags & Py_TPFLAGS_BASETYPE);
}

/* The methods, bound once. */
static int
prepare(SslEngine *e)
{
    corolla_state *state = e->state;
    PyObject *object = e->base.object;
    e->base.plain = Py_IS_TYPE(object, (PyTypeObject *)state->ssl_SSLObject);
    if (e->base.plain) {
        e->inner = PyObject_GetAttr(object, state->s._sslobj);
        if (e->inner == NULL) {
            return -1;
        }
        e->base.plain = is_native(e->inner);
    }
    if (!e->base.plain) {
        e->records.odd = true; /* what it keeps to itself nobody can count */
        Py_XSETREF(e->inner, Py_NewRef(object));
    }
    e->own_bios = is_native(e->incoming);
    e->feed = PyObject_GetAttr(e->incoming, state->s.write);
    e->take = PyObject_GetAttr(e->outgoing, state->s.read);
    if (e->inner == NULL || e->feed == NULL || e->take == NULL) {
        return -1;
    }
    e->read = PyObject_GetAttr(e->inner, state->s.read);
    e->write = PyObject_GetAttr(e->inner, state->s.write);
    e->window = tls_window_new(state);
    if (e->read == NULL || e->write == NULL || e->window == NULL) {
        return -1;
    }
    if (e->base.plain) {
        e->read_into = Py_BuildValue("iO", 0, e->window);
        if (e->read_into == NULL) {
            return -1;
        }
        PyObject_GC_UnTrack(e->read_into); /* the window is for nobody to find */
    }
    return 0;
}

tls_engine *
tls_ssl_object_new(corolla_state *state, PyObject *sslcontext, bool server_side, PyObject *server_hostname)
{
    if (tls_import_ssl(state) < 0) {
        return NULL;
    }
    SslEngine *e = PyMem_Calloc(1, sizeof *e);
    if (e == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    e->base.ops = &ssl_ops;
    e->state = state;
    e->incoming = PyObject_CallNoArgs(state->ssl_MemoryBIO);
    e->outgoing = e->incoming == NULL ? NULL : PyObject_CallNoArgs(state->ssl_MemoryBIO);
    if (e->outgoing == NULL || wrap(e, sslcontext, server_side, server_hostname) < 0 || prepare(e) < 0) {
        ssl_free(&e->base);
        return NULL;
    }
    return &e->base;
}
