/* ProcessTransport: how a child process comes to be, what it tells, and how it ends. */
#include "process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- The protocol ------------------------------------------------------------------------------ */

/* protocol.name(arg) as a job; an exception is reported. 0, or -1 with KeyboardInterrupt or SystemExit. */
static int
tell(ProcessTransport *t, PyObject *name, PyObject *arg, const char *message)
{
    PyObject *result = transport_call(t->core, (PyObject *)t, t->protocol, t->context, name, arg);
    if (result == NULL) {
        return transport_report(t->state, t->loop, (PyObject *)t, t->protocol, message);
    }
    Py_DECREF(result);
    return 0;
}

/* ---- The end ------------------------------------------------------------------------------------- */

int
process_lost_job(void *arg)
{
    ProcessTransport *t = arg;
    int rc = 0;
    if (t->core != NULL) {
        rc = tell(t, t->state->s.connection_lost, Py_None, "Exception in callback protocol.connection_lost()");
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *loop = t->loop, *protocol = t->protocol;
    t->loop = t->protocol = NULL;
    t->core = NULL;
    Py_XDECREF(protocol);
    Py_XDECREF(loop);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    Py_DECREF(t);
    return rc;
}

int
process_try_finish(ProcessTransport *t)
{
    if (!t->exited || t->finished || t->core == NULL || t->core->closed) {
        return 0;
    }
    for (int i = 0; i < CHILD_PIPES; i++) {
        if (t->pipes[i] != NULL && !t->pipes[i]->disconnected) {
            return 0;
        }
    }
    t->finished = true;
    return corolla_core_post(t->core, process_lost_job, Py_NewRef(t));
}

/* Whoever awaits _wait(). 0 or -1. */
static int
wake_exit_waiters(ProcessTransport *t)
{
    PyObject *waiters = t->exit_waiters;
    t->exit_waiters = NULL;
    PyObject *code = waiters == NULL ? NULL : PyLong_FromLong(t->returncode);
    if (code == NULL) {
        Py_XDECREF(waiters);
        return waiters == NULL ? 0 : -1;
    }
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters); i++) {
        if (corolla_future_complete(PyList_GET_ITEM(waiters, i), code) < 0) {
            rc = -1;
        }
    }
    Py_DECREF(code);
    Py_DECREF(waiters);
    return rc;
}

/* The returncode that the Popen has, as an int, if it is known there. */
static bool
popen_knows(ProcessTransport *t, int *code)
{
    PyObject *known = t->popen == NULL ? NULL : PyObject_GetAttr(t->popen, t->state->s.returncode);
    bool knows = known != NULL && PyLong_Check(known);
    if (knows) {
        *code = (int)PyLong_AsLong(known);
    }
    PyErr_Clear();
    Py_XDECREF(known);
    return knows;
}

/* Somebody else has waited for it. */
static int
lost_status(ProcessTransport *t)
{
    int code = 255;
    if (popen_knows(t, &code)) {
        return code;
    }
    PyObject *done = PyObject_CallMethod(t->state->logger, "warning", "si",
                                         "Unknown child process pid %d, will report returncode 255", (int)t->child.pid);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(done);
    return code;
}

void
process_inform_popen(ProcessTransport *t)
{
    int known;
    if (t->popen == NULL || popen_knows(t, &known)) {
        return;
    }
    PyObject *code = PyLong_FromLong(t->returncode);
    if (code == NULL || PyObject_SetAttr(t->popen, t->state->s.returncode, code) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(code);
}

static void
log_exit(ProcessTransport *t)
{
    if (!t->core->debug) {
        return;
    }
    PyObject *done =
        PyObject_CallMethod(t->state->logger, "info", "sOi", "%r exited with return code %r", t, t->returncode);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(done);
}

static int
child_done(corolla_child *child, int code, int err)
{
    ProcessTransport *t = (ProcessTransport *)(void *)((char *)child - offsetof(ProcessTransport, child));
    PyObject *held = t->guest.held;
    t->guest.held = NULL;
    corolla_guest_remove(&t->guest);
    corolla_core_leave_task(t->core);
    t->returncode = err < 0 ? lost_status(t) : code;
    log_exit(t);
    t->exited = true;
    process_inform_popen(t);
    int rc = tell(t, t->state->s.process_exited, NULL, "Exception in callback protocol.process_exited()");
    PyObject *leaving = PyErr_GetRaisedException();
    if (wake_exit_waiters(t) < 0 || process_try_finish(t) < 0) {
        rc = -1;
    }
    if (leaving != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(leaving);
    }
    Py_XDECREF(held);
    return rc;
}

/* Nobody waits for the child any more; it becomes no zombie. Keeps an exception being raised. */
static void
let_child_go(ProcessTransport *t)
{
    corolla_guest_remove(&t->guest);
    if (t->parent == getpid()) {
        corolla_child_disown(&t->child);
    }
    else {
        corolla_child_forget(&t->child);
    }
    Py_CLEAR(t->guest.held);
}

/* If the child has ended, its Popen learns how: it could not any more once we have reaped it. */
static void
let_popen_look(ProcessTransport *t)
{
    PyObject *done = PyObject_CallMethod(t->popen, "poll", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(done);
}

void
process_disown(ProcessTransport *t)
{
    if (t->killed && !t->exited) {
        t->returncode = -SIGKILL;
        process_inform_popen(t);
    }
    else if (!t->exited && t->popen != NULL && t->parent == getpid()) {
        let_popen_look(t);
    }
    let_child_go(t);
}

/* The loop closes: the end of the child is not heard of any more. */
static void
leave_loop(corolla_guest *guest)
{
    ProcessTransport *t = (ProcessTransport *)(void *)((char *)guest - offsetof(ProcessTransport, guest));
    if (t->closed || t->parent != getpid()) {
        process_disown(t);
        return;
    }
    corolla_child_stop(&t->child);
    Py_CLEAR(t->guest.held); /* may be the last, and warn of a process that nobody closed */
}

/* ---- The beginning --------------------------------------------------------------------------------- */

static int
wake_waiter(ProcessTransport *t)
{
    PyObject *waiter = t->waiter;
    t->waiter = NULL;
    int rc = waiter == NULL ? 0 : corolla_future_complete(waiter, Py_None);
    Py_XDECREF(waiter);
    return rc;
}

int
process_made_job(void *arg)
{
    ProcessTransport *t = arg;
    int rc = 0;
    if (t->core != NULL) {
        rc = tell(t, t->state->s.connection_made, (PyObject *)t, "Exception in callback protocol.connection_made()");
        PyObject *leaving = PyErr_GetRaisedException();
        if (wake_waiter(t) < 0) {
            rc = -1;
        }
        if (leaving != NULL) {
            PyErr_Clear();
            PyErr_SetRaisedException(leaving);
        }
    }
    Py_DECREF(t);
    return rc;
}

/* The transport of one pipe, its connection_made() queued. 0 or -1. */
static int
connect_pipe(ProcessTransport *t, Spawned *spawned, int number)
{
    if (spawned->files[number] == NULL && spawned->fds[number] < 0) {
        return 0;
    }
    ProcessPipe *p = process_pipe_new(t, number);
    PyObject *context = p == NULL ? NULL : PyContext_Copy(t->context);
    if (context == NULL) {
        Py_XDECREF(p);
        return -1;
    }
    corolla_pipe_options options = {
        .fd = spawned->fds[number],
        .pipe = spawned->files[number],
        .protocol = (PyObject *)p,
        .context = context,
    };
    if (options.pipe != NULL) {
        options.fd = PyObject_AsFileDescriptor(options.pipe);
    }
    if (options.fd >= 0) {
        p->transport =
            number == 0 ? corolla_write_pipe_new(t->core, &options) : corolla_read_pipe_new(t->core, &options);
    }
    Py_DECREF(context);
    if (p->transport == NULL) {
        Py_DECREF(p);
        return -1;
    }
    spawned->fds[number] = -1;
    t->pipes[number] = p;
    return 0;
}

/* Pipes, then connection_made() behind theirs, then what is told of the child: nothing overtakes. 0 or -1. */
static int
begin(ProcessTransport *t, Spawned *spawned)
{
    for (int i = 0; i < CHILD_PIPES; i++) {
        if (connect_pipe(t, spawned, i) < 0) {
            return -1;
        }
    }
    if (corolla_guest_add(t->core, &t->guest) < 0 || corolla_core_post(t->core, process_made_job, Py_NewRef(t)) < 0) {
        return -1;
    }
    int err = corolla_child_start(&t->core->reactor, &t->child);
    if (err < 0) {
        transport_set_errno(err);
        return -1;
    }
    t->guest.held = Py_NewRef(t);
    return 0;
}

/* Takes back what begin() has begun, and ends the child. Keeps the exception being raised. */
static void
give_up(ProcessTransport *t, Spawned *spawned)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *loop = t->loop;
    t->closed = t->finished = true;
    t->loop = NULL;
    t->core = NULL; /* connection_made() will not be called */
    for (int i = 0; i < CHILD_PIPES; i++) {
        if (t->pipes[i] != NULL) {
            t->pipes[i]->disconnected = true;
            corolla_pipe_discard(t->pipes[i]->transport);
            Py_CLEAR(t->pipes[i]);
        }
        if (spawned->fds[i] >= 0) {
            close(spawned->fds[i]);
        }
    }
    (void)corolla_child_signal(&t->child, SIGKILL);
    t->returncode = -SIGKILL;
    process_inform_popen(t);
    let_child_go(t);
    Py_DECREF(loop);
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
}

static void
log_created(ProcessTransport *t)
{
    if (!t->core->debug) {
        return;
    }
    PyObject *program = PyTuple_Check(t->args) ? PyTuple_GET_ITEM(t->args, 0) : t->args;
    PyObject *done =
        PyObject_CallMethod(t->state->logger, "debug", "sOi", "process %r created: pid %s", program, (int)t->child.pid);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    Py_XDECREF(done);
}

PyObject *
corolla_process_new(corolla_core *core, const corolla_process_options *options)
{
    corolla_state *state = core->state;
    if (corolla_core_check_closed(core) < 0) {
        return NULL;
    }
    ProcessTransport *t = (ProcessTransport *)state->process_type->tp_alloc(state->process_type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->state = state;
    corolla_state_hold(state);
    t->closed = t->finished = true; /* until there is something to close */
    t->core = core;
    t->loop = Py_NewRef(core->loop);
    t->protocol = Py_NewRef(options->protocol);
    t->context = Py_NewRef(options->context);
    t->args = Py_NewRef(options->args);
    t->waiter = Py_XNewRef(options->waiter);
    t->guest.leave = leave_loop;
    t->extra = PyDict_New();
    t->parent = getpid();
    corolla_child_init(&t->child, 0);
    t->child.reaped = true;
    Spawned spawned;
    if (t->extra == NULL || process_spawn(state, options, &spawned) < 0) {
        Py_DECREF(t);
        return NULL;
    }
    corolla_child_init(&t->child, spawned.pid);
    t->child.done = child_done;
    t->closed = t->finished = false;
    t->popen = spawned.popen;
    if ((t->popen != NULL && PyDict_SetItem(t->extra, state->s.subprocess, t->popen) < 0) || begin(t, &spawned) < 0) {
        give_up(t, &spawned);
        Py_CLEAR(t);
    }
    else {
        log_created(t);
    }
    for (int i = 0; i < CHILD_PIPES; i++) {
        Py_XDECREF(spawned.files[i]);
    }
    return (PyObject *)t;
}

/* ---- The type's slots ------------------------------------------------------------------------------- */

static int
process_traverse(PyObject *self, visitproc visit, void *arg)
{
    ProcessTransport *t = (ProcessTransport *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->args);
    Py_VISIT(t->popen);
    Py_VISIT(t->waiter);
    Py_VISIT(t->exit_waiters);
    for (int i = 0; i < CHILD_PIPES; i++) {
        Py_VISIT(t->pipes[i]);
    }
    return 0;
}

static int
process_clear(PyObject *self)
{
    ProcessTransport *t = (ProcessTransport *)self;
    let_child_go(t);
    t->core = NULL;
    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->context);
    Py_CLEAR(t->args);
    Py_CLEAR(t->popen);
    Py_CLEAR(t->waiter);
    Py_CLEAR(t->exit_waiters);
    for (int i = 0; i < CHILD_PIPES; i++) {
        Py_CLEAR(t->pipes[i]);
    }
    Py_CLEAR(t->loop);
    return 0;
}

static void
process_finalize(PyObject *self)
{
    ProcessTransport *t = (ProcessTransport *)self;
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
    if (process_close(t) < 0) {
        PyErr_WriteUnraisable(self);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void
process_dealloc(PyObject *self)
{
    ProcessTransport *t = (ProcessTransport *)self;
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* resurrected */
    }
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)process_clear(self);
    corolla_state *state = t->state;
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyMemberDef process_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(ProcessTransport, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ProcessTransport, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(process_doc, "A child process. Made by EventLoop.subprocess_exec() and subprocess_shell().");

static PyType_Slot process_slots[] = {
    {Py_tp_doc, (void *)process_doc}, {Py_tp_traverse, process_traverse},
    {Py_tp_clear, process_clear},     {Py_tp_finalize, process_finalize},
    {Py_tp_dealloc, process_dealloc}, {Py_tp_repr, process_repr},
    {Py_tp_methods, process_methods}, {Py_tp_getset, process_getset},
    {Py_tp_members, process_members}, {0, NULL},
};

static PyType_Spec process_spec = {
    .name = "corolla.ProcessTransport",
    .basicsize = sizeof(ProcessTransport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = process_slots,
};

int
process_init(PyObject *module, corolla_state *state)
{
    const char *without = getenv("COROLLA_NO_PIDFD"); /* for tests, and for sandboxes that only pretend to have them */
    if (without != NULL && *without != '\0') {
        corolla_child_force_threads(true);
    }
    state->process_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &process_spec, state->asyncio_SubprocessTransport);
    if (state->process_type == NULL || process_pipe_init(module, state) < 0) {
        return -1;
    }
    return PyModule_AddType(module, state->process_type);
}
