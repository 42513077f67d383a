/* What a datagram endpoint receives and sends, addresses, errors, and flow control. */
#include "datagram.h"

#include <limits.h>
#include <string.h>

enum { WARN_AFTER = 5 };

/* ---- Addresses that are known ------------------------------------------------------------------------- */

static void
forget(KnownAddress *known)
{
    known->len = 0;
    Py_CLEAR(known->tuple);
}

int
datagram_io_traverse(DatagramEndpoint *t, visitproc visit, void *arg)
{
    Py_VISIT(t->target.tuple);
    for (unsigned i = 0; i < t->sender_slots; i++) {
        Py_VISIT(t->senders[i].tuple);
    }
    return 0;
}

void
datagram_io_clear(DatagramEndpoint *t)
{
    KnownAddress *senders = t->senders;
    unsigned slots = t->sender_slots;
    t->senders = t->recent = NULL;
    t->sender_slots = 0;
    for (unsigned i = 0; i < slots; i++) {
        forget(&senders[i]);
    }
    PyMem_Free(senders);
    forget(&t->target);
}

/* False for an address that is not kept. */
static bool
hash_address(const struct sockaddr *addr, socklen_t len, uint32_t *hash)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)addr;
    if (len == sizeof *in && addr->sa_family == AF_INET) {
        *hash = in->sin_addr.s_addr ^ (uint32_t)in->sin_port << 8;
    }
    else if (len == sizeof *in6 && addr->sa_family == AF_INET6) {
        memcpy(hash, &in6->sin6_addr.s6_addr[12], sizeof *hash);
        *hash ^= (uint32_t)in6->sin6_port << 8;
    }
    else {
        return false;
    }
    *hash = (*hash * 2654435761U) >> 16;
    return true;
}

/* Makes the table, or makes it larger when many have lost their place to others. Without memory it stays as it is. */
static void
reserve_senders(DatagramEndpoint *t)
{
    if (t->senders != NULL && (t->evicted < t->sender_slots || t->sender_slots == MOST_SENDERS)) {
        return;
    }
    unsigned slots = t->senders == NULL ? FIRST_SENDERS : t->sender_slots * 4;
    KnownAddress *table = PyMem_Calloc(slots, sizeof *table), *old = t->senders;
    if (table == NULL) {
        return;
    }
    for (unsigned i = 0; old != NULL && i < t->sender_slots; i++) {
        uint32_t hash;
        /* The larger table has room for all: what shared no slot in the smaller one shares none in it. */
        if (old[i].tuple != NULL && hash_address(&old[i].addr.any, old[i].len, &hash)) {
            table[hash % slots] = old[i];
        }
    }
    t->senders = table;
    t->recent = NULL;
    t->sender_slots = slots;
    t->evicted = 0;
    PyMem_Free(old);
}

/* The sender as Python knows it: the same tuple for the same address, as long as it is remembered. New reference or
 * NULL. */
static PyObject *
sender_to_python(DatagramEndpoint *t, const struct sockaddr *from, socklen_t len)
{
    uint32_t hash;
    if (!hash_address(from, len, &hash)) {
        return corolla_address_to_python(from, len);
    }
    reserve_senders(t);
    if (t->sender_slots == 0) {
        return corolla_address_to_python(from, len);
    }
    KnownAddress *known = &t->senders[hash % t->sender_slots];
    if (known->len != len || memcmp(&known->addr, from, len) != 0) {
        PyObject *tuple = corolla_address_to_python(from, len), *old = known->tuple;
        if (tuple == NULL) {
            return NULL;
        }
        t->evicted += old != NULL;
        memcpy(&known->addr, from, len);
        known->len = len;
        known->tuple = tuple;
        Py_XDECREF(old);
    }
    t->recent = known;
    return Py_NewRef(known->tuple);
}

/* Whether a tuple will always mean what it means now, and can be recognised by its identity. */
static bool
is_constant(PyObject *address)
{
    if (!PyTuple_CheckExact(address)) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(address); i++) {
        PyObject *item = PyTuple_GET_ITEM(address, i);
        if (!PyUnicode_CheckExact(item) && !PyLong_CheckExact(item)) {
            return false;
        }
    }
    return true;
}

/* ---- Calling the protocol ------------------------------------------------------------------------------ */

/* Takes the exception being raised, an OSError, and gives it to error_received(). 0, or -1: from a job with
 * KeyboardInterrupt or SystemExit, from a method with whatever that raised, as asyncio has it. */
static int
tell_error(DatagramEndpoint *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *result = datagram_call(t, t->state->s.error_received, exc);
    Py_DECREF(exc);
    if (result == NULL) {
        return t->in_method ? -1 : datagram_report(t, "Exception in callback protocol.error_received()");
    }
    Py_DECREF(result);
    return 0;
}

static int
tell_errno(DatagramEndpoint *t, ssize_t err)
{
    transport_set_errno(err);
    if (err != -ENOMEM) {
        return tell_error(t);
    }
    if (t->in_method) {
        return -1;
    }
    return datagram_report(t, "Fatal read error on datagram transport"); /* a MemoryError: the endpoint goes on */
}

static int
deliver(DatagramEndpoint *t, const void *data, ssize_t n, const struct sockaddr *from, socklen_t len)
{
    PyObject *result = NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(data, n);
    PyObject *sender = bytes == NULL ? NULL : sender_to_python(t, from, len);
    if (sender != NULL) {
        result = transport_call_pair(t->core, (PyObject *)t, t->protocol, t->context, t->state->s.datagram_received,
                                     bytes, sender);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(sender);
    if (result == NULL) {
        return datagram_report(t, "Exception in callback protocol.datagram_received()");
    }
    Py_DECREF(result);
    return 0;
}

static int
datagram_came(corolla_datagram *d, const void *data, ssize_t n, const struct sockaddr *from, socklen_t len)
{
    DatagramEndpoint *t = endpoint_of(d);
    Py_INCREF(t);
    int rc = n >= 0 ? deliver(t, data, n, from, len) : tell_errno(t, n);
    Py_DECREF(t);
    return rc;
}

static int
datagram_failed(corolla_datagram *d, int err)
{
    DatagramEndpoint *t = endpoint_of(d);
    int rc = 0;
    if (!t->closing) {
        Py_INCREF(t);
        rc = tell_errno(t, err);
        Py_DECREF(t);
    }
    return rc;
}

static int
datagram_pressure(corolla_datagram *d, bool on)
{
    DatagramEndpoint *t = endpoint_of(d);
    if (t->closing || t->protocol_paused == on) {
        return 0;
    }
    int rc = 0;
    Py_INCREF(t);
    t->protocol_paused = on;
    PyObject *result = datagram_call(t, on ? t->state->s.pause_writing : t->state->s.resume_writing, NULL);
    if (result == NULL) {
        rc = datagram_report(t, on ? "protocol.pause_writing() failed" : "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
    Py_DECREF(t);
    return rc;
}

static int
datagram_flushed(corolla_datagram *d)
{
    DatagramEndpoint *t = endpoint_of(d);
    int rc = 0;
    Py_INCREF(t);
    if (t->closing) {
        rc = datagram_force_close(t, NULL);
    }
    else {
        datagram_update_hold(t);
    }
    Py_DECREF(t);
    return rc;
}

const corolla_datagram_ops datagram_ops = {
    .came = datagram_came,
    .failed = datagram_failed,
    .pressure = datagram_pressure,
    .flushed = datagram_flushed,
};

/* ---- Where to ------------------------------------------------------------------------------------------- */

typedef struct Target {
    struct sockaddr_storage room;
    const struct sockaddr *addr; /* into room, or what the endpoint knows */
    socklen_t len;               /* 0: the kernel knows */
} Target;

static bool
same_address(const struct sockaddr *one, socklen_t one_len, const struct sockaddr *other, socklen_t other_len)
{
    if (one->sa_family == AF_INET6 && other->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)(const void *)one;
        const struct sockaddr_in6 *b = (const struct sockaddr_in6 *)(const void *)other;
        return a->sin6_port == b->sin6_port && memcmp(&a->sin6_addr, &b->sin6_addr, sizeof a->sin6_addr) == 0 &&
               (a->sin6_scope_id == b->sin6_scope_id || a->sin6_scope_id == 0);
    }
    return one_len == other_len && memcmp(one, other, one_len) == 0;
}

/* Whether addr is the endpoint's only peer, under any of its names. 1, 0 or -1. */
static int
is_peer(DatagramEndpoint *t, PyObject *addr)
{
    PyObject *const names[] = {t->address, t->given};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        int same = names[i] == NULL ? 0 : PyObject_RichCompareBool(addr, names[i], Py_EQ);
        if (same != 0) {
            return same;
        }
    }
    struct sockaddr_storage room;
    socklen_t len;
    if (t->peer_len == 0) {
        return 0;
    }
    if (corolla_address_from_python(addr, t->family, &room, &len) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear(); /* whatever it is, it is not the peer */
        return 0;
    }
    return same_address((struct sockaddr *)&room, len, (struct sockaddr *)&t->peer, t->peer_len);
}

static void
aim(Target *target, const void *addr, socklen_t len)
{
    target->addr = addr;
    target->len = len;
}

/* 0, or -1 with an exception. */
static int
find_target(DatagramEndpoint *t, PyObject *addr, Target *target)
{
    if (t->address != NULL) {
        int same = addr == NULL ? 1 : is_peer(t, addr);
        if (same == 0) {
            PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", t->address);
        }
        aim(target, &t->peer, t->connected ? 0 : t->peer_len);
        return same > 0 ? 0 : -1;
    }
    const KnownAddress *known = NULL;
    if (addr == NULL) {
        aim(target, NULL, 0);
        return 0;
    }
    if (t->recent != NULL && t->recent->tuple == addr) {
        known = t->recent;
    }
    else if (t->target.tuple == addr) {
        known = &t->target;
    }
    if (known != NULL) {
        aim(target, &known->addr, known->len);
        return 0;
    }
    aim(target, &target->room, 0);
    if (corolla_address_from_python(addr, t->family, &target->room, &target->len) == 0) {
        if (is_constant(addr) && target->len <= sizeof t->target.addr) {
            PyObject *old = t->target.tuple;
            t->target.tuple = Py_NewRef(addr);
            t->target.len = target->len;
            memcpy(&t->target.addr, &target->room, target->len);
            Py_XDECREF(old);
        }
        return 0;
    }
    if (t->closing || !PyErr_ExceptionMatches(t->state->gaierror)) {
        return -1;
    }
    PyErr_Clear();
    return corolla_address_resolve(t->state, addr, t->family, &target->room, &target->len);
}

/* ---- sendto() -------------------------------------------------------------------------------------------- */

/* A datagram for an endpoint that is gone. 0 or -1. */
static int
count_lost(DatagramEndpoint *t)
{
    if (t->lost >= WARN_AFTER && t->address != NULL) {
        PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "s", "socket.send() raised exception.");
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    if (t->lost > 0 && t->lost < UINT_MAX) {
        t->lost++;
    }
    return 0;
}

static int
send_chunk(DatagramEndpoint *t, const corolla_chunk *chunk, PyObject *addr)
{
    Target target;
    bool known = find_target(t, addr, &target) == 0;
    if (t->closing || t->datagram.closed) {
        if (!known && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* nobody is told of it any more */
            known = true;
        }
        return known ? count_lost(t) : -1;
    }
    int rc = 0;
    t->in_method++;
    if (known && target.len > 0 && PySys_Audit("socket.sendto", "OO", t->sock, addr == NULL ? t->address : addr) < 0) {
        rc = -1;
    }
    else if (known) {
        int err = corolla_datagram_send(&t->datagram, chunk, target.addr, target.len);
        if (PyErr_Occurred()) {
            rc = -1; /* KeyboardInterrupt or SystemExit out of pause_writing() */
        }
        else if (err < 0) {
            rc = tell_errno(t, err);
        }
        else {
            datagram_update_hold(t);
        }
    }
    else {
        rc = PyErr_ExceptionMatches(PyExc_OSError) ? tell_error(t) : -1;
    }
    t->in_method--;
    return rc;
}

static PyObject *
method_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"data", "addr", NULL};
    static const corolla_signature sig = {"sendto", names, 1, 2, NULL};
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    PyObject *given[2];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    PyObject *data = given[0], *addr = given[1] == Py_None ? NULL : given[1];
    int rc;
    if (PyBytes_CheckExact(data)) {
        corolla_chunk chunk = transport_bytes_chunk(data);
        rc = send_chunk(t, &chunk, addr);
    }
    else if (!PyObject_CheckBuffer(data)) {
        return PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%.200s'",
                            Py_TYPE(data)->tp_name);
    }
    else {
        Py_buffer view;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        corolla_chunk chunk = transport_view_chunk(&view);
        rc = send_chunk(t, &chunk, addr);
        PyBuffer_Release(&view);
    }
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- Limits ------------------------------------------------------------------------------------------------ */

static PyObject *
method_set_limits(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"high", "low", NULL};
    static const corolla_signature sig = {"set_write_buffer_limits", names, 0, 2, NULL};
    DatagramEndpoint *t = (DatagramEndpoint *)self;
    PyObject *given[2];
    Py_ssize_t high = 0, low = 0;
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0 ||
        transport_parse_limits(given[0], given[1], &high, &low) < 0) {
        return NULL;
    }
    t->in_method++;
    corolla_datagram_limits(&t->datagram, (size_t)high, (size_t)low);
    t->in_method--;
    if (PyErr_Occurred()) {
        return NULL; /* out of pause_writing() */
    }
    Py_RETURN_NONE;
}

static PyObject *
method_get_limits(PyObject *self, PyObject *unused)
{
    const corolla_datagram *d = &((DatagramEndpoint *)self)->datagram;
    return Py_BuildValue("nn", (Py_ssize_t)d->low, (Py_ssize_t)d->high);
}

static PyObject *
method_get_size(PyObject *self, PyObject *unused)
{
    return PyLong_FromSize_t(((DatagramEndpoint *)self)->datagram.queued);
}

PyDoc_STRVAR(sendto_doc,
             "sendto($self, data, addr=None)\n--\n\n"
             "Send a datagram, which may be empty; what the kernel does not take at once is queued.\n\n"
             "data is a bytes-like object; addr is (host, port) or what else the socket's family has, None for the\n"
             "address the endpoint was made for. A host that is a name is looked up while the loop waits. An OSError\n"
             "goes to error_received(). TypeError for other data; ValueError for another address than the one the\n"
             "endpoint was made for; OverflowError for a port above 65535. Specified by\n"
             "asyncio.DatagramTransport.sendto().");
PyDoc_STRVAR(set_limits_doc, "set_write_buffer_limits($self, high=None, low=None)\n--\n\n"
                             "Set the high and low watermarks of the queue, in bytes.\n\n"
                             "Each datagram counts for its size and 8. ValueError unless high >= low >= 0.");
PyDoc_STRVAR(get_limits_doc, "get_write_buffer_limits($self, /)\n--\n\nThe low and the high watermark of the queue.");
PyDoc_STRVAR(get_size_doc, "get_write_buffer_size($self, /)\n--\n\n"
                           "Bytes of datagrams that the kernel has not taken yet, and 8 for each.");

PyMethodDef datagram_io_methods[] = {
    {"sendto", (PyCFunction)(void (*)(void))method_sendto, METH_FASTCALL | METH_KEYWORDS, sendto_doc},
    {"set_write_buffer_limits", (PyCFunction)(void (*)(void))method_set_limits, METH_FASTCALL | METH_KEYWORDS,
     set_limits_doc},
    {"get_write_buffer_limits", method_get_limits, METH_NOARGS, get_limits_doc},
    {"get_write_buffer_size", method_get_size, METH_NOARGS, get_size_doc},
    {NULL, NULL, 0, NULL},
};
