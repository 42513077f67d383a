/* The methods of a ProcessTransport. */
#include "process.h"

#include "../scheduler/await.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/* ---- close() ------------------------------------------------------------------------------------ */

/* 0 or -1: the first exception of several. */
static int
close_pipes(ProcessTransport *t)
{
    PyObject *first = NULL;
    for (int i = 0; i < CHILD_PIPES; i++) {
        if (t->pipes[i] == NULL) {
            continue;
        }
        PyObject *done = PyObject_CallMethodNoArgs(t->pipes[i]->transport, t->state->s.close);
        Py_XDECREF(done);
        if (done == NULL && first == NULL) {
            first = PyErr_GetRaisedException();
        }
        PyErr_Clear();
    }
    if (first != NULL) {
        PyErr_SetRaisedException(first);
    }
    return first == NULL ? 0 : -1;
}

/* By the kill() of the Popen where there is one: programs watch it. */
static int
kill_child(ProcessTransport *t)
{
    if (t->core != NULL && t->core->debug) {
        PyObject *done =
            PyObject_CallMethod(t->state->logger, "warning", "sO", "Close running child process: kill %r", t);
        if (done == NULL) {
            return -1;
        }
        Py_DECREF(done);
    }
    if (t->popen == NULL) {
        /* Otherwise it has just ended, or runs as somebody else. */
        t->killed = corolla_child_signal(&t->child, SIGKILL) == 0;
        return 0;
    }
    PyObject *done = PyObject_CallMethodNoArgs(t->popen, t->state->s.kill);
    Py_XDECREF(done);
    if (done == NULL && !PyErr_ExceptionMatches(PyExc_ProcessLookupError) &&
        !PyErr_ExceptionMatches(PyExc_PermissionError)) {
        return -1;
    }
    t->killed = done != NULL;
    PyErr_Clear();
    return 0;
}

int
process_close(ProcessTransport *t)
{
    if (t->closed) {
        return 0;
    }
    t->closed = true;
    bool deaf = t->core == NULL || t->core->closed; /* pipes cannot tell of their end: they are left to themselves */
    int rc = deaf ? 0 : close_pipes(t);
    if (t->exited || t->parent != getpid()) {
        return rc;
    }
    if (corolla_child_ended(&t->child)) {
        if (deaf) {
            process_disown(t);
        }
        return rc;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (kill_child(t) < 0) {
        rc = -1;
    }
    if (deaf) {
        process_disown(t);
    }
    if (exc != NULL) {
        PyErr_Clear();
        PyErr_SetRaisedException(exc);
    }
    return rc;
}

static PyObject *
process_close_method(PyObject *self, PyObject *unused)
{
    return process_close((ProcessTransport *)self) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
process_is_closing(PyObject *self, PyObject *unused)
{
    return PyBool_FromLong(((ProcessTransport *)self)->closed);
}

/* ---- Signals ------------------------------------------------------------------------------------- */

/* What the Popen has reaped is no more, too. */
static bool
is_over(ProcessTransport *t)
{
    if (t->exited || t->core == NULL) {
        return true;
    }
    PyObject *known = t->popen == NULL ? NULL : PyObject_GetAttr(t->popen, t->state->s.returncode);
    PyErr_Clear();
    bool over = known != NULL && known != Py_None;
    Py_XDECREF(known);
    return over;
}

static PyObject *
send_signal(ProcessTransport *t, int signum)
{
    if (is_over(t)) {
        PyErr_SetNone(PyExc_ProcessLookupError);
        return NULL;
    }
    int err = corolla_child_signal(&t->child, signum);
    if (err < 0) {
        transport_set_errno(err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
process_send_signal(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given = corolla_unpack_one("send_signal", "signal", args, nargs, kwnames);
    long signum = given == NULL ? -1 : PyLong_AsLong(given);
    if (signum == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (signum < INT_MIN || signum > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "signal number out of range");
        return NULL;
    }
    return send_signal((ProcessTransport *)self, (int)signum);
}

static PyObject *
process_terminate(PyObject *self, PyObject *unused)
{
    return send_signal((ProcessTransport *)self, SIGTERM);
}

static PyObject *
process_kill(PyObject *self, PyObject *unused)
{
    return send_signal((ProcessTransport *)self, SIGKILL);
}

/* ---- _wait() -------------------------------------------------------------------------------------- */

typedef struct WaitState {
    ProcessTransport *transport; /* owned */
    PyObject *future;            /* owned: what is awaited */
} WaitState;

static int
wait_state_traverse(void *state, visitproc visit, void *arg)
{
    WaitState *st = state;
    Py_VISIT(st->transport);
    Py_VISIT(st->future);
    return 0;
}

static void
wait_state_clear(void *state)
{
    WaitState *st = state;
    Py_CLEAR(st->transport);
    Py_CLEAR(st->future);
}

/* A future among those that are told of the end. New reference or NULL. */
static PyObject *
add_exit_waiter(ProcessTransport *t)
{
    if (t->exit_waiters == NULL) {
        t->exit_waiters = PyList_New(0);
    }
    PyObject *future = t->exit_waiters == NULL ? NULL : corolla_future_new(t->core);
    if (future != NULL && PyList_Append(t->exit_waiters, future) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

/* Who no longer waits is not kept until the process ends. Keeps the exception being raised. */
static void
remove_exit_waiter(ProcessTransport *t, PyObject *future)
{
    PyObject *waiters = t->exit_waiters;
    for (Py_ssize_t i = 0; waiters != NULL && i < PyList_GET_SIZE(waiters); i++) {
        if (PyList_GET_ITEM(waiters, i) == future) {
            PyObject *exc = PyErr_GetRaisedException();
            (void)PySequence_DelItem(waiters, i);
            PyErr_Clear();
            PyErr_SetRaisedException(exc);
            return;
        }
    }
}

static corolla_step
wait_step(corolla_coro *co, PyObject *value)
{
    WaitState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (st->transport->exited) {
        return corolla_return(co, PyLong_FromLong(st->transport->returncode));
    }
    if (st->transport->core == NULL) {
        PyErr_SetNone(PyExc_ProcessLookupError);
        return COROLLA_RAISE;
    }
    st->future = add_exit_waiter(st->transport);
    if (st->future == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    if (value == NULL) {
        remove_exit_waiter(st->transport, st->future);
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(value));
    COROLLA_END(co);
}

static const corolla_coro_spec wait_spec = {
    .name = "_wait",
    .qualname = "ProcessTransport._wait",
    .size = sizeof(WaitState),
    .step = wait_step,
    .traverse = wait_state_traverse,
    .clear = wait_state_clear,
};

PyObject *
corolla_process_wait(PyObject *transport)
{
    corolla_coro *co = corolla_coro_new(((ProcessTransport *)transport)->state, &wait_spec);
    if (co != NULL) {
        ((WaitState *)corolla_coro_state(co))->transport = (ProcessTransport *)Py_NewRef(transport);
    }
    return (PyObject *)co;
}

static PyObject *
process_wait(PyObject *self, PyObject *unused)
{
    return corolla_process_wait(self);
}

void
corolla_process_discard(PyObject *transport)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (process_close((ProcessTransport *)transport) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* ---- What is known of it ---------------------------------------------------------------------------- */

static PyObject *
process_get_pid(PyObject *self, PyObject *unused)
{
    return PyLong_FromLong(((ProcessTransport *)self)->child.pid);
}

static PyObject *
process_get_returncode(PyObject *self, PyObject *unused)
{
    ProcessTransport *t = (ProcessTransport *)self;
    return t->exited ? PyLong_FromLong(t->returncode) : Py_NewRef(Py_None);
}

static PyObject *
process_get_pipe_transport(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ProcessTransport *t = (ProcessTransport *)self;
    PyObject *given = corolla_unpack_one("get_pipe_transport", "fd", args, nargs, kwnames);
    if (given == NULL) {
        return NULL;
    }
    int overflow = 0;
    long fd = PyLong_Check(given) ? PyLong_AsLongAndOverflow(given, &overflow) : -1;
    if (fd < 0 || fd >= CHILD_PIPES || t->pipes[fd] == NULL) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(t->pipes[fd]->transport);
}

static PyObject *
process_set_protocol(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *protocol = corolla_unpack_one("set_protocol", "protocol", args, nargs, kwnames);
    if (protocol == NULL) {
        return NULL;
    }
    Py_XSETREF(((ProcessTransport *)self)->protocol, Py_NewRef(protocol));
    Py_RETURN_NONE;
}

static PyObject *
process_get_protocol(PyObject *self, PyObject *unused)
{
    PyObject *protocol = ((ProcessTransport *)self)->protocol;
    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

/* Made for who asks for it. 0 or -1. */
static int
need_popen(ProcessTransport *t)
{
    if (t->popen != NULL) {
        return 0;
    }
    PyObject *popen = process_make_popen(t);
    if (popen == NULL) {
        return -1;
    }
    if (t->popen != NULL) {
        Py_DECREF(popen); /* somebody was quicker, in between */
        return 0;
    }
    t->popen = popen;
    PyObject *extra = transport_extra(&t->extra);
    return extra == NULL ? -1 : PyDict_SetItem(extra, t->state->s.subprocess, popen);
}

static PyObject *
process_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"name", "default", NULL};
    static const corolla_signature signature = {"get_extra_info", names, 1, 2, NULL};
    ProcessTransport *t = (ProcessTransport *)self;
    PyObject *given[2], *value = NULL;
    if (corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    if (PyUnicode_Check(given[0]) && PyUnicode_Compare(given[0], t->state->s.subprocess) == 0 && need_popen(t) < 0) {
        return NULL;
    }
    int found = transport_find_extra(&t->extra, given[0], &value);
    if (found != 0) {
        return value;
    }
    return Py_NewRef(given[1] == NULL ? Py_None : given[1]);
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Close the pipes, and kill the process if it still runs.\n\n"
                        "connection_lost() is called once it has ended and its pipes are closed. Harmless twice.");
PyDoc_STRVAR(is_closing_doc, "is_closing($self, /)\n--\n\nTrue once close() was called.");
PyDoc_STRVAR(send_signal_doc, "send_signal($self, /, signal)\n--\n\n"
                              "Send the process a signal, by its number.\n\n"
                              "Raises ProcessLookupError once it has ended; a number that another process has by then\n"
                              "is never signalled.");
PyDoc_STRVAR(terminate_doc, "terminate($self, /)\n--\n\n"
                            "Send SIGTERM. Raises ProcessLookupError once the process has ended.");
PyDoc_STRVAR(kill_doc, "kill($self, /)\n--\n\n"
                       "Send SIGKILL. Raises ProcessLookupError once the process has ended.");
PyDoc_STRVAR(wait_doc, "_wait($self, /)\n--\n\n"
                       "Wait until the process has ended: its return code. A coroutine.\n\n"
                       "Does not wait for its pipes, which others may still hold.");
PyDoc_STRVAR(get_pid_doc, "get_pid($self, /)\n--\n\nThe number of the process.");
PyDoc_STRVAR(get_returncode_doc, "get_returncode($self, /)\n--\n\n"
                                 "What the process gave exit(), the negative number of the signal that ended it, or\n"
                                 "None while it runs. 255 when somebody else has taken its exit status.");
PyDoc_STRVAR(get_pipe_transport_doc, "get_pipe_transport($self, /, fd)\n--\n\n"
                                     "The transport of the pipe that is the child's stdin (0), stdout (1) or stderr\n"
                                     "(2); None where it is no pipe.");
PyDoc_STRVAR(set_protocol_doc, "set_protocol($self, /, protocol)\n--\n\nSet a new protocol.");
PyDoc_STRVAR(get_protocol_doc, "get_protocol($self, /)\n--\n\n"
                               "The current protocol; None once connection_lost() was called.");
PyDoc_STRVAR(get_extra_info_doc, "get_extra_info($self, name, default=None)\n--\n\n"
                                 "What is known of the transport: 'subprocess' is its subprocess.Popen.");

PyMethodDef process_methods[] = {
    {"close", process_close_method, METH_NOARGS, close_doc},
    {"is_closing", process_is_closing, METH_NOARGS, is_closing_doc},
    {"send_signal", (PyCFunction)(void (*)(void))process_send_signal, METH_FASTCALL | METH_KEYWORDS, send_signal_doc},
    {"terminate", process_terminate, METH_NOARGS, terminate_doc},
    {"kill", process_kill, METH_NOARGS, kill_doc},
    {"_wait", process_wait, METH_NOARGS, wait_doc},
    {"get_pid", process_get_pid, METH_NOARGS, get_pid_doc},
    {"get_returncode", process_get_returncode, METH_NOARGS, get_returncode_doc},
    {"get_pipe_transport", (PyCFunction)(void (*)(void))process_get_pipe_transport, METH_FASTCALL | METH_KEYWORDS,
     get_pipe_transport_doc},
    {"set_protocol", (PyCFunction)(void (*)(void))process_set_protocol, METH_FASTCALL | METH_KEYWORDS,
     set_protocol_doc},
    {"get_protocol", process_get_protocol, METH_NOARGS, get_protocol_doc},
    {"get_extra_info", (PyCFunction)(void (*)(void))process_get_extra_info, METH_FASTCALL | METH_KEYWORDS,
     get_extra_info_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Underscored attributes ---------------------------------------------------------------------------- */

static PyObject *
get_loop(PyObject *self, void *unused)
{
    PyObject *loop = ((ProcessTransport *)self)->loop;
    return Py_NewRef(loop == NULL ? Py_None : loop);
}

static PyObject *
get_protocol(PyObject *self, void *unused)
{
    return process_get_protocol(self, NULL);
}

static PyObject *
get_pid(PyObject *self, void *unused)
{
    return process_get_pid(self, NULL);
}

static PyObject *
get_returncode(PyObject *self, void *unused)
{
    return process_get_returncode(self, NULL);
}

static PyObject *
get_closed(PyObject *self, void *unused)
{
    return process_is_closing(self, NULL);
}

static PyObject *
get_proc(PyObject *self, void *unused)
{
    ProcessTransport *t = (ProcessTransport *)self;
    if (t->core == NULL) {
        Py_RETURN_NONE;
    }
    return need_popen(t) < 0 ? NULL : Py_NewRef(t->popen);
}

static PyObject *
get_pipes(PyObject *self, void *unused)
{
    ProcessTransport *t = (ProcessTransport *)self;
    PyObject *pipes = PyDict_New();
    for (int i = 0; pipes != NULL && i < CHILD_PIPES; i++) {
        PyObject *number = t->pipes[i] == NULL ? NULL : PyLong_FromLong(i);
        if (t->pipes[i] != NULL && (number == NULL || PyDict_SetItem(pipes, number, (PyObject *)t->pipes[i]) < 0)) {
            Py_CLEAR(pipes);
        }
        Py_XDECREF(number);
    }
    return pipes;
}

PyGetSetDef process_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_protocol", get_protocol, NULL, NULL, NULL},
    {"_pid", get_pid, NULL, NULL, NULL},
    {"_returncode", get_returncode, NULL, NULL, NULL},
    {"_closed", get_closed, NULL, NULL, NULL},
    {"_proc", get_proc, NULL, NULL, NULL},
    {"_pipes", get_pipes, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- repr() ---------------------------------------------------------------------------------------------- */

/* Of the two, each or both of which may be NULL: new reference or NULL. Steals them. */
static PyObject *
join(PyObject *shown, PyObject *part)
{
    PyObject *both = shown == NULL || part == NULL ? NULL : PyUnicode_Concat(shown, part);
    Py_XDECREF(shown);
    Py_XDECREF(part);
    return both;
}

PyObject *
process_repr(PyObject *self)
{
    static const char *const names[CHILD_PIPES] = {"stdin", "stdout", "stderr"};
    ProcessTransport *t = (ProcessTransport *)self;
    PyObject *shown = PyUnicode_FromFormat("<ProcessTransport%s pid=%d", t->closed ? " closed" : "", (int)t->child.pid);
    shown = join(shown,
                 t->exited ? PyUnicode_FromFormat(" returncode=%d", t->returncode) : PyUnicode_FromString(" running"));
    for (int i = 0; i < CHILD_PIPES && shown != NULL; i++) {
        if (t->pipes[i] != NULL) {
            shown = join(shown, PyUnicode_FromFormat(" %s=%R", names[i], t->pipes[i]->transport));
        }
    }
    return shown == NULL ? NULL : join(shown, PyUnicode_FromString(">"));
}
