/* What a read and a write pipe transport have in common: how they come to be, how they end, and what they tell. */
#include "pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The protocol and the exception handler ---------------------------------------------------- */

PyObject *
pipe_call(PipeTransport *t, PyObject *name, PyObject *arg)
{
    return transport_call(t->core, (PyObject *)t, t->protocol, t->in_method ? NULL : t->context, name, arg);
}

int
pipe_report(PipeTransport *t, const char *message)
{
    return transport_report(t->state, t->loop, (PyObject *)t, t->protocol, message);
}

int
pipe_fatal(PipeTransport *t, const char *message)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    PyObject *exc = PyErr_GetRaisedException(), *leaving = NULL;
    if (t->core == NULL || t->kind->is_quiet(t, exc)) {
        transport_log_failure(t->core, (PyObject *)t, message, exc);
    }
    else {
        PyErr_SetRaisedException(Py_NewRef(exc));
        if (pipe_report(t, message) < 0) {
            leaving = PyErr_GetRaisedException();
        }
    }
    int rc = pipe_force_close(t, exc);
    Py_DECREF(exc);
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
        rc = -1;
    }
    return rc;
}

enum { PIPE_GROWN = 256 * 1024 }; /* bytes: what a busy one holds */

/* Two processes on two processors would wait for each other at every 64 KiB. Only pipes that are busy get more, since the kernel
 * gives a user no more than 64 MiB for all; where it refuses, things stay as they are. */
void
pipe_grow(PipeTransport *t)
{
    if (t->grown || t->stream.closed || t->protocol == NULL || !Py_IS_TYPE(t->protocol, t->state->process_pipe_type)) {
        return;
    }
    t->grown = true;
    if (fcntl(t->watched, F_GETPIPE_SZ) == PIPE_HOLDS) {
        (void)fcntl(t->watched, F_SETPIPE_SZ, PIPE_GROWN);
    }
}

int
pipe_fatal_errno(PipeTransport *t, ssize_t err, const char *message)
{
    transport_set_errno(err);
    return pipe_fatal(t, message);
}

int
pipe_check_thread(PipeTransport *t)
{
    return t->core != NULL && t->core->debug ? corolla_core_check_thread(t->core) : 0;
}

/* ---- The end --------------------------------------------------------------------------------------- */

void
pipe_update_hold(PipeTransport *t)
{
    const corolla_stream *s = &t->stream;
    bool hold = t->guest.next != NULL && !s->closed && (s->reading || s->queued > 0 || s->minded != 0);
    if (hold == (t->guest.held != NULL)) {
        return;
    }
    if (hold) {
        t->guest.held = Py_NewRef(t);
    }
    else {
        Py_CLEAR(t->guest.held);
    }
}

/* No watch any more, and no copy of the descriptor. */
static void
stop(PipeTransport *t)
{
    corolla_stream_close(&t->stream);
    if (t->watched != t->fd) {
        close(t->watched);
        t->watched = t->fd;
    }
}

/* The descriptor has one owner, and is closed once: by the object that we were given, if there is one. */
static void
close_descriptor(PipeTransport *t)
{
    if (t->closed) {
        return;
    }
    t->closed = true;
    PyObject *pipe = t->pipe;
    t->pipe = NULL;
    if (pipe == NULL) {
        close(t->fd);
        return;
    }
    PyObject *done = PyObject_CallMethodNoArgs(pipe, t->state->s.close);
    if (done == NULL) {
        PyErr_WriteUnraisable(pipe);
    }
    Py_XDECREF(done);
    Py_DECREF(pipe);
}

/* Leaves behind no watch, no descriptor, no protocol, no loop. Keeps an exception being raised. The caller has a
 * reference. */
static void
finish(PipeTransport *t)
{
    PyObject *exc = PyErr_GetRaisedException();
    t->closing = t->lost = true;
    stop(t);
    corolla_guest_remove(&t->guest);
    pipe_update_hold(t);
    close_descriptor(t);
    PyObject *protocol = t->protocol, *loop = t->loop, *waiter = t->waiter, *reason = t->reason;
    PyObject *landing = t->landing;
    t->protocol = t->loop = t->waiter = t->reason = t->landing = NULL;
    t->core = NULL;
    Py_XDECREF(protocol);
    Py_XDECREF(waiter);
    Py_XDECREF(reason);
    Py_XDECREF(landing);
    Py_XDECREF(loop);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

int
pipe_lost_job(void *arg)
{
    PipeTransport *t = arg;
    int rc = 0;
    if (t->made && t->core != NULL) {
        PyObject *result = pipe_call(t, t->state->s.connection_lost, t->reason == NULL ? Py_None : t->reason);
        if (result == NULL) {
            rc = pipe_report(t, "Exception in callback protocol.connection_lost()");
        }
        Py_XDECREF(result);
    }
    finish(t);
    Py_DECREF(t);
    return rc;
}

int
pipe_force_close(PipeTransport *t, PyObject *exc)
{
    if (t->lost) {
        return 0;
    }
    t->closing = t->lost = true;
    t->reason = Py_XNewRef(exc);
    Py_INCREF(t);
    stop(t);
    pipe_update_hold(t);
    int rc = corolla_core_post(t->core, pipe_lost_job, Py_NewRef(t));
    Py_DECREF(t);
    return rc;
}

/* The loop closes: nothing is heard any more; the descriptor stays with us. */
static void
leave_loop(corolla_guest *guest)
{
    PipeTransport *t = (PipeTransport *)(void *)((char *)guest - offsetof(PipeTransport, guest));
    Py_INCREF(t);
    stop(t);
    pipe_update_hold(t);
    Py_DECREF(t); /* may be the last, and warn of a transport that nobody closed */
}

/* ---- The beginning ----------------------------------------------------------------------------------- */

static int
wake_waiter(PipeTransport *t)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    if (waiter == NULL) {
        return 0;
    }
    int rc = corolla_future_complete(waiter, Py_None);
    Py_DECREF(waiter);
    return rc;
}

static int
start(PipeTransport *t)
{
    if (t->lost || t->stream.closed) {
        return 0;
    }
    int err = t->kind->start(t);
    if (err < 0) {
        return pipe_fatal_errno(t, err, t->kind->start_failed);
    }
    pipe_update_hold(t);
    return 0;
}

/* What asyncio has as three callbacks in a row: connection_made(), reading, the waiter. */
static int
make(PipeTransport *t)
{
    if (t->core == NULL) {
        return 0; /* finished by the collector's or the creator's hand */
    }
    if (t->waiter != NULL && corolla_future_done(t->waiter)) {
        corolla_core_leave_task(t->core);
        finish(t); /* its creation was cancelled: the protocol never hears of it */
        return 0;
    }
    t->made = true;
    PyObject *leaving = NULL;
    PyObject *result = pipe_call(t, t->state->s.connection_made, (PyObject *)t);
    if (result == NULL && pipe_report(t, "Exception in callback protocol.connection_made()") < 0) {
        leaving = PyErr_GetRaisedException();
    }
    Py_XDECREF(result);
    int rc = start(t);
    if (wake_waiter(t) < 0) {
        rc = -1;
    }
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
        rc = -1;
    }
    return rc;
}

int
pipe_made_job(void *arg)
{
    PipeTransport *t = arg;
    int rc = make(t);
    Py_DECREF(t);
    return rc;
}

/* ValueError for a regular file, a directory ...; learns what a writer has to mind. 0 or -1. */
static int
check_kind(PipeTransport *t)
{
    struct stat st;
    if (fstat(t->fd, &st) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (S_ISSOCK(st.st_mode)) {
        t->minded = COROLLA_READABLE | COROLLA_HANGUP;
    }
    else if (S_ISFIFO(st.st_mode)) {
        t->minded = COROLLA_HANGUP;
    }
    else if (!S_ISCHR(st.st_mode)) {
        PyErr_SetString(PyExc_ValueError, t->kind->refusal);
        return -1;
    }
    return 0;
}

static int
set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

/* A descriptor has one watch. That a terminal is read by one transport and written by another, on the same number, is
 * ordinary: the second one watches a copy. 0 or -1. */
static int
open_stream(PipeTransport *t, corolla_core *core)
{
    int err = corolla_stream_open(&core->reactor, &t->stream, t->fd);
    if (err == -EEXIST) {
        int copy = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        t->watched = copy;
        err = corolla_stream_open(&core->reactor, &t->stream, copy);
    }
    if (err < 0) {
        transport_set_errno(err);
    }
    return err < 0 ? -1 : 0;
}

PyObject *
pipe_new(corolla_core *core, PyTypeObject *type, const PipeKind *kind, const corolla_stream_ops *ops,
         const corolla_pipe_options *options)
{
    if (corolla_core_check_closed(core) < 0) {
        return NULL;
    }
    PipeTransport *t = (PipeTransport *)type->tp_alloc(type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->state = core->state;
    corolla_state_hold(t->state);
    t->kind = kind;
    t->fd = t->watched = options->fd;
    t->closed = true; /* until all has worked out, it is the caller's */
    corolla_stream_init(&t->stream, ops);
    t->core = core;
    t->loop = Py_NewRef(core->loop);
    t->protocol = Py_NewRef(options->protocol);
    t->context = Py_NewRef(options->context);
    t->waiter = Py_XNewRef(options->waiter);
    t->guest.leave = leave_loop;
    t->extra = PyDict_New();
    if (t->extra == NULL || check_kind(t) < 0 || set_nonblocking(t->fd) < 0 || open_stream(t, core) < 0 ||
        (options->pipe != NULL && PyDict_SetItem(t->extra, t->state->s.pipe, options->pipe) < 0) ||
        corolla_guest_add(core, &t->guest) < 0 || corolla_core_post(core, pipe_made_job, Py_NewRef(t)) < 0) {
        goto fail;
    }
    t->pipe = Py_XNewRef(options->pipe);
    t->closed = false;
    return (PyObject *)t;

fail:
    finish(t);
    Py_DECREF(t);
    return NULL;
}

void
corolla_pipe_discard(PyObject *transport)
{
    PipeTransport *t = (PipeTransport *)transport;
    PyObject *exc = PyErr_GetRaisedException();
    if (!t->made) {
        finish(t);
    }
    else {
        PyObject *done = PyObject_CallMethodNoArgs(transport, t->state->s.close);
        if (done == NULL) {
            PyErr_WriteUnraisable(transport);
        }
        Py_XDECREF(done);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* ---- Methods ----------------------------------------------------------------------------------------- */

static PyObject *
pipe_is_closing(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((PipeTransport *)self)->closing);
}

static PyObject *
pipe_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"protocol", NULL};
    static const corolla_signature sig = {"set_protocol", names, 1, 1, NULL};
    PyObject *protocol;
    if (corolla_unpack(&sig, args, nargs, kwnames, &protocol) < 0) {
        return NULL;
    }
    Py_XSETREF(((PipeTransport *)self)->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

static PyObject *
pipe_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((PipeTransport *)self)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

/* Where we were made from a bare descriptor: a file object that owns it from now on. 0 or -1. */
static int
adopt_descriptor(PipeTransport *t)
{
    if (t->closed || t->pipe != NULL) {
        return 0;
    }
    PyObject *pipe = PyObject_CallFunction(t->state->FileIO, "is", t->fd,
                                           Py_IS_TYPE((PyObject *)t, t->state->read_pipe_type) ? "r" : "w");
    if (pipe == NULL) {
        return -1;
    }
    t->pipe = pipe;
    PyObject *extra = transport_extra(&t->extra);
    return extra == NULL ? -1 : PyDict_SetItem(extra, t->state->s.pipe, pipe);
}

static PyObject *
pipe_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature signature = {"get_extra_info", names, 1, 2, NULL};
    PipeTransport *t = (PipeTransport *)self;
    PyObject *given[2], *value = NULL;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0 || adopt_descriptor(t) < 0) {
        return NULL;
    }
    int found = transport_find_extra(&t->extra, given[0], &value);
    if (found != 0) {
        return value;
    }
    return Py_NewRef(given[1] == NULL ? Py_None : given[1]);
}

PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\nTrue once the pipe is closing or closed.");
PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, protocol)\n--\n\nSet a new protocol.");
PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\nThe current protocol; None once it is closed.");
PyDoc_STRVAR(get_extra_info_doc, "get_extra_info($self, name, default=None)\n--\n\n"
                                 "What is known of the transport: 'pipe' is the object that owns the descriptor.");

PyMethodDef pipe_methods[] = {
    {"is_closing", pipe_is_closing, METH_NOARGS, is_closing_doc},
    {"set_protocol", (PyCFunction)(void (*)(void))pipe_set_protocol, METH_FASTCALL | METH_KEYWORDS, set_protocol_doc},
    {"get_protocol", pipe_get_protocol, METH_NOARGS, get_protocol_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))pipe_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *
get_object(PyObject *self, void *offset)
{
    PyObject *value = *(PyObject **)(void *)((char *)self + (uintptr_t)offset);
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
get_flag(PyObject *self, void *offset)
{
    return PyBool_FromLong(*(bool *)((char *)self + (uintptr_t)offset));
}

static PyObject *
get_fileno(PyObject *self, void *unused)
{
    return PyLong_FromLong(((PipeTransport *)self)->fd);
}

/* _pipe = None: whoever sets it takes the descriptor over, and closes it. */
static int
disown(PyObject *self, PyObject *value, void *unused)
{
    PipeTransport *t = (PipeTransport *)self;
    if (value != Py_None) {
        PyErr_SetString(PyExc_AttributeError, "_pipe can only be set to None");
        return -1;
    }
    Py_INCREF(t);
    t->closed = true;
    t->closing = true;
    stop(t);
    pipe_update_hold(t);
    Py_CLEAR(t->pipe);
    Py_DECREF(t);
    return 0;
}

#define FIELD(name) ((void *)(uintptr_t)offsetof(PipeTransport, name))

PyGetSetDef pipe_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", get_object, NULL, NULL, FIELD(loop)},
    {"_protocol", get_object, NULL, NULL, FIELD(protocol)},
    {"_pipe", get_object, disown, NULL, FIELD(pipe)},
    {"_fileno", get_fileno, NULL, NULL, NULL},
    {"_closing", get_flag, NULL, NULL, FIELD(closing)},
    {"_paused", get_flag, NULL, NULL, FIELD(paused)},
    {"_protocol_paused", get_flag, NULL, NULL, FIELD(protocol_paused)},
    {NULL, NULL, NULL, NULL, NULL},
};

PyMemberDef pipe_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(PipeTransport, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PipeTransport, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyObject *
pipe_repr(PipeTransport *t, const char *name, const char *polling)
{
    const char *state = t->closed ? " closed" : t->closing ? " closing" : "";
    if (t->closed) {
        polling = " closed";
    }
    else if (t->core == NULL || t->core->closed) {
        polling = " open";
    }
    return PyUnicode_FromFormat("<%s%s fd=%d%s>", name, state, t->fd, polling);
}

/* ---- The types' slots ---------------------------------------------------------------------------------- */

int
pipe_traverse(PyObject *self, visitproc visit, void *arg)
{
    PipeTransport *t = (PipeTransport *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->pipe);
    Py_VISIT(t->waiter);
    Py_VISIT(t->reason);
    return 0;
}

int
pipe_clear(PyObject *self)
{
    PipeTransport *t = (PipeTransport *)self;
    finish(t); /* the finaliser has run before: there is no descriptor left to close here */
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->context);
    return 0;
}

void
pipe_finalize(PyObject *self)
{
    PipeTransport *t = (PipeTransport *)self;
    if (t->closed) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0) {
        /* Anything else is an interpreter that is going away. */
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            PyErr_WriteUnraisable(self);
        }
        PyErr_Clear();
    }
    finish(t);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

void
pipe_dealloc(PyObject *self)
{
    PipeTransport *t = (PipeTransport *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)pipe_clear(self);
    corolla_state *state = t->state;
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}
