/* Signals. What signal.signal() is given puts the registered Handle into the ready queue, so nothing depends on a byte
 * for each signal in a pipe. The pipe is there only to end a poll: a signal that another thread received, or that came
 * just before the poll began, would else be noticed late. */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

/* ---- The wakeup descriptor ------------------------------------------------------------------ */

/* The descriptor that a loop of this process gave to signal.set_wakeup_fd(). A child made by fork() finds its parent's
 * there, which nobody owns any more. Main thread of the main interpreter only. */
static struct {
    int fd;
    unsigned forks; /* corolla_fork_count() of the process */
} installed = {-1, 0};

/* signal.set_wakeup_fd(fd, warn_on_full_buffer=False): 0 and what was set before, or -1. */
static int
set_wakeup_fd(corolla_state *state, int fd, int *before)
{
    PyObject *number = PyLong_FromLong(fd), *names = PyTuple_Pack(1, state->s.warn_on_full_buffer), *result = NULL;
    if (number != NULL && names != NULL) {
        PyObject *stack[2] = {number, Py_False};
        result = PyObject_Vectorcall(state->signal_set_wakeup_fd, stack, 1, names);
    }
    Py_XDECREF(number);
    Py_XDECREF(names);
    if (result == NULL) {
        return -1;
    }
    *before = (int)PyLong_AsLong(result);
    Py_DECREF(result);
    return PyErr_Occurred() ? -1 : 0;
}

static int
wake_ready(corolla_watch *watch, unsigned events)
{
    LoopObject *self = (LoopObject *)((char *)watch - offsetof(LoopObject, wake_watch));
    char bytes[512];
    ssize_t n;
    do {
        n = read(watch->fd, bytes, sizeof bytes);
    } while (n == (ssize_t)sizeof bytes || (n < 0 && errno == EINTR));
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        /* Closed behind our back, one end or both: the next run makes another. At an end of file it is the writing end,
         * and the number of one that was closed may be somebody else's by now. */
        corolla_watch_stop(watch);
        self->wake_made = false;
        if (n == 0) {
            close(self->wake_read);
        }
    }
    return 0;
}

static int
make_wakeup(LoopObject *self)
{
    int ends[2];
    if (self->wake_made) {
        return 0;
    }
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    corolla_watch_init(&self->wake_watch, wake_ready);
    int rc = corolla_watch_start(&self->head.core.reactor, &self->wake_watch, ends[0], COROLLA_READABLE);
    if (rc < 0) {
        close(ends[0]);
        close(ends[1]);
        errno = -rc;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->wake_read = ends[0];
    self->wake_write = ends[1];
    self->wake_made = true;
    return 0;
}

static int
in_main_thread(corolla_state *state)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        return 0;
    }
    PyObject *thread = PyObject_CallNoArgs(state->main_thread);
    PyObject *ident = thread == NULL ? NULL : PyObject_GetAttr(thread, state->s.ident);
    Py_XDECREF(thread);
    if (ident == NULL) {
        return -1;
    }
    unsigned long main = ident == Py_None ? 0 : PyLong_AsUnsignedLong(ident);
    Py_DECREF(ident);
    return PyErr_Occurred() ? -1 : main == PyThread_get_thread_ident();
}

/* After a fork, in the child: its signals must not wake the parent. */
static PyObject *
forget_parents(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    const int theirs = installed.fd;
    if (theirs < 0 || installed.forks == corolla_fork_count()) {
        Py_RETURN_NONE;
    }
    installed.fd = -1;
    PyObject *set = PyImport_ImportModuleAttrString("signal", "set_wakeup_fd");
    PyObject *before = set == NULL ? NULL : PyObject_CallFunction(set, "i", -1);
    long fd = before == NULL ? -1 : PyLong_AsLong(before);
    if (fd >= 0 && fd != theirs) {
        Py_SETREF(before, PyObject_CallFunction(set, "l", fd)); /* the program's own */
    }
    Py_XDECREF(set);
    return before;
}

static PyMethodDef forget_parents_def = {"forget_the_parents_wakeup_fd", forget_parents, METH_NOARGS, NULL};

/* Has it called, from the first run that needs it on; newer versions of asyncio do the same. 0 or -1. */
static int
watch_forks(corolla_state *state)
{
    if (state->forgets_wakeup_fd) {
        return 0;
    }
    PyObject *done = NULL, *kwargs = NULL;
    PyObject *hook = PyCFunction_New(&forget_parents_def, NULL);
    PyObject *reg = hook == NULL ? NULL : PyImport_ImportModuleAttrString("os", "register_at_fork");
    kwargs = reg == NULL ? NULL : Py_BuildValue("{sO}", "after_in_child", hook);
    done = kwargs == NULL ? NULL : PyObject_VectorcallDict(reg, NULL, 0, kwargs);
    state->forgets_wakeup_fd = done != NULL;
    Py_XDECREF(hook);
    Py_XDECREF(reg);
    Py_XDECREF(kwargs);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
loop_signals_enter(LoopObject *self)
{
    corolla_state *state = self->head.core.state;
    int here = in_main_thread(state);
    if (here <= 0 || self->wake_installed) {
        return here < 0 ? -1 : 0;
    }
    int before;
    if (make_wakeup(self) < 0) {
        return -1;
    }
    if (set_wakeup_fd(state, self->wake_write, &before) < 0) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear(); /* the main thread of threading is not that of the interpreter */
            return 0;
        }
        return -1;
    }
    bool inherited = before == installed.fd && installed.forks != corolla_fork_count();
    if (before >= 0 && !inherited) {
        return set_wakeup_fd(state, before, &before); /* the user's */
    }
    self->wake_installed = true;
    installed.fd = self->wake_write;
    installed.forks = corolla_fork_count();
    return watch_forks(state);
}

void
loop_signals_leave(LoopObject *self)
{
    corolla_state *state = self->head.core.state;
    if (!self->wake_installed) {
        return;
    }
    self->wake_installed = false;
    PyObject *exc = PyErr_GetRaisedException();
    const int ours = self->wake_write;
    int before;
    installed.fd = -1;
    if (set_wakeup_fd(state, -1, &before) < 0 ||
        (before >= 0 && before != ours && set_wakeup_fd(state, before, &before) < 0)) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* ---- Dispositions ----------------------------------------------------------------------------- */

static PyObject *signal_received(PyObject *weak, PyObject *const *args, Py_ssize_t nargs);

/* What signal.signal() is given: this function, bound to a weak reference to the loop. */
static PyMethodDef signal_received_def = {"signal_received", (PyCFunction)(void (*)(void))signal_received,
                                          METH_FASTCALL, NULL};

static bool
is_receiver(PyObject *handler, PyObject *weak)
{
    return PyCFunction_Check(handler) && PyCFunction_GET_SELF(handler) == weak;
}

/* Gives a signal the disposition it has in a program that does nothing about it, if the receiver of that weak reference
 * is still what gets it: what another loop or the user has set since then is theirs. 0 or -1. */
static int
restore_disposition(PyObject *sig, PyObject *weak)
{
    int rc = -1;
    PyObject *handler = NULL, *done = NULL;
    PyObject *module = PyImport_ImportModule("signal");
    PyObject *current = module == NULL ? NULL : PyObject_CallMethod(module, "getsignal", "O", sig);
    if (current == NULL) {
        goto fail;
    }
    if (!is_receiver(current, weak)) {
        rc = 0;
        goto fail;
    }
    long number = PyLong_AsLong(sig);
    if (number == -1 && PyErr_Occurred()) {
        goto fail;
    }
    handler = PyObject_GetAttrString(module, number == SIGINT ? "default_int_handler" : "SIG_DFL");
    done = handler == NULL ? NULL : PyObject_CallMethod(module, "signal", "OO", sig, handler);
    rc = done == NULL ? -1 : 0;
fail:
    Py_XDECREF(module);
    Py_XDECREF(current);
    Py_XDECREF(handler);
    Py_XDECREF(done);
    return rc;
}

/* Does for a loop that was closed on another thread what only the main thread may do. arg: (weak reference, numbers). */
static int
restore_later(void *arg)
{
    PyObject *leftover = arg;
    PyObject *weak = PyTuple_GET_ITEM(leftover, 0), *numbers = PyTuple_GET_ITEM(leftover, 1);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(numbers); i++) {
        if (restore_disposition(PyList_GET_ITEM(numbers, i), weak) < 0) {
            PyErr_WriteUnraisable(weak);
        }
    }
    Py_DECREF(leftover);
    return 0;
}

/* A signal for a loop that is gone without having been closed: from now on the program is as if it had never asked for
 * it, beginning with this one. */
static PyObject *
signal_orphaned(PyObject *weak, PyObject *sig)
{
    if (restore_disposition(sig, weak) < 0) {
        return NULL;
    }
    long number = PyLong_AsLong(sig);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    raise((int)number);
    Py_RETURN_NONE;
}

/* Undoes what add_signal_handler() did. 0 or -1 with nothing changed. */
static int
forget_signal(LoopObject *self, PyObject *sig)
{
    /* The loop may be closed while signal.signal() runs, which is written in Python. */
    PyObject *handlers = Py_NewRef(self->signal_handlers), *receiver = Py_NewRef(self->signal_receiver);
    int rc = restore_disposition(sig, PyCFunction_GET_SELF(receiver));
    if (rc == 0 && PyDict_DelItem(handlers, sig) < 0) {
        if (PyErr_ExceptionMatches(PyExc_KeyError)) {
            PyErr_Clear();
        }
        else {
            rc = -1;
        }
    }
    Py_DECREF(handlers);
    Py_DECREF(receiver);
    return rc;
}

/* The loop's part of a delivery. 0 or -1. */
static int
queue_signal(LoopObject *self, PyObject *sig)
{
    corolla_core *core = &self->head.core;
    PyObject *handle;
    if (self->signal_handlers == NULL || core->closed) {
        return 0;
    }
    int found = PyDict_GetItemRef(self->signal_handlers, sig, &handle);
    if (found <= 0) {
        return found;
    }
    if (((corolla_handle *)handle)->cancelled) {
        Py_DECREF(handle);
        return forget_signal(self, sig);
    }
    if (core->thread == 0 || core->thread == PyThread_get_thread_ident()) {
        return corolla_core_post(core, corolla_handle_job, handle);
    }
    int rc = corolla_inbox_post(core->reactor.inbox, corolla_handle_job, handle);
    if (rc < 0) {
        Py_DECREF(handle);
        corolla_raise_post(rc);
        return -1;
    }
    return 0;
}

/* Runs between two bytecodes of the main thread, or in the loop's own check after a poll. */
static PyObject *
signal_received(PyObject *weak, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "a signal handler takes a number and a frame");
        return NULL;
    }
    PyObject *loop = PyObject_CallNoArgs(weak);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *result = NULL;
    if (loop == Py_None) {
        result = signal_orphaned(weak, args[0]);
    }
    else if (queue_signal((LoopObject *)loop, args[0]) == 0) {
        result = Py_NewRef(Py_None);
    }
    Py_DECREF(loop);
    return result;
}

/* Has receiver called for a signal, and interrupted system calls restarted. All or nothing. 0 or -1. */
static int
install_receiver(corolla_state *state, PyObject *sig, PyObject *receiver)
{
    PyObject *before = PyObject_CallFunctionObjArgs(state->signal_signal, sig, receiver, NULL);
    if (before == NULL) {
        if (PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_SetString(PyExc_RuntimeError, "set_wakeup_fd only works in main thread of the main interpreter");
        }
        return -1;
    }
    PyObject *done = PyObject_CallFunctionObjArgs(state->signal_siginterrupt, sig, Py_False, NULL);
    if (done == NULL && before != Py_None) {
        PyObject *exc = PyErr_GetRaisedException();
        done = PyObject_CallFunctionObjArgs(state->signal_signal, sig, before, NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable(receiver);
        }
        Py_CLEAR(done);
        PyErr_SetRaisedException(exc);
    }
    Py_DECREF(before);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Turns EINVAL into what add_signal_handler() and remove_signal_handler() say of it. */
static void
explain_uncatchable(PyObject *sig)
{
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = PyObject_GetAttrString(exc, "errno");
    bool invalid = number != NULL && PyLong_Check(number) && PyLong_AsLong(number) == EINVAL;
    Py_XDECREF(number);
    PyErr_Clear();
    if (!invalid) {
        PyErr_SetRaisedException(exc);
        return;
    }
    PyErr_Format(PyExc_RuntimeError, "sig %S cannot be caught", sig);
    Py_DECREF(exc);
}

/* ---- Methods ------------------------------------------------------------------------------------ */

static int
check_signal(corolla_state *state, PyObject *sig)
{
    if (!PyLong_Check(sig)) {
        PyErr_Format(PyExc_TypeError, "sig must be an int, not %R", sig);
        return -1;
    }
    PyObject *valid = PyObject_CallNoArgs(state->signal_valid_signals);
    int known = valid == NULL ? -1 : PySequence_Contains(valid, sig);
    Py_XDECREF(valid);
    if (known == 0) {
        PyErr_Format(PyExc_ValueError, "invalid signal number %S", sig);
    }
    return known > 0 ? 0 : -1;
}

/* Makes the dict and the receiver. 0 or -1. */
static int
make_receiver(LoopObject *self)
{
    if (self->signal_handlers == NULL) {
        self->signal_handlers = PyDict_New();
        if (self->signal_handlers == NULL) {
            return -1;
        }
    }
    if (self->signal_receiver != NULL) {
        return 0;
    }
    PyObject *weak = PyWeakref_NewRef((PyObject *)self, NULL);
    if (weak == NULL) {
        return -1;
    }
    PyObject *receiver = PyCFunction_New(&signal_received_def, weak);
    Py_DECREF(weak);
    self->signal_receiver = receiver;
    return receiver == NULL ? -1 : 0;
}

/* Puts back the Handle a signal had, or none. Keeps what is being raised. */
static void
put_back(PyObject *handlers, PyObject *sig, PyObject *before)
{
    PyObject *exc = PyErr_GetRaisedException();
    if ((before != NULL ? PyDict_SetItem(handlers, sig, before) : PyDict_DelItem(handlers, sig)) < 0) {
        PyErr_WriteUnraisable(handlers);
    }
    PyErr_SetRaisedException(exc);
}

static const char *const add_names[] = {"sig", "callback", NULL};
static const corolla_signature add_sig = {"add_signal_handler", add_names, 2, 2, NULL};

PyDoc_STRVAR(add_signal_handler_doc,
             "add_signal_handler($self, sig, callback, *args)\n--\n\n"
             "Call callback(*args) from the loop whenever the signal arrives. Main thread only.\n\n"
             "sig: a number, as those in the signal module. A second call for the same signal replaces the callback.");

static PyObject *
loop_add_signal_handler(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_core *core = loop_core(loop);
    PyObject *out[2], *const *rest;
    Py_ssize_t count;
    if (loop_unpack_call(&add_sig, args, nargs, kwnames, out, &rest, &count) < 0) {
        return NULL;
    }
    if (!core->ready) {
        loop_check(loop);
        return NULL;
    }
    PyObject *sig = out[0];
    int coroutine = loop_is_coroutine(core->state, out[1]);
    if (coroutine != 0) {
        if (coroutine > 0) {
            PyErr_SetString(PyExc_TypeError, "coroutines cannot be used with add_signal_handler()");
        }
        return NULL;
    }
    if (check_signal(core->state, sig) < 0 || loop_check(loop) < 0) {
        return NULL;
    }
    PyObject *handle = corolla_handle_new(core, out[1], rest, count, NULL);
    PyObject *handlers = NULL, *receiver = NULL, *before = NULL, *result = NULL;
    if (handle == NULL || make_receiver(self) < 0) {
        goto fail;
    }
    handlers = Py_NewRef(self->signal_handlers);
    receiver = Py_NewRef(self->signal_receiver);
    if (PyDict_GetItemRef(handlers, sig, &before) < 0 || PyDict_SetItem(handlers, sig, handle) < 0) {
        goto fail;
    }
    if (install_receiver(core->state, sig, receiver) < 0) {
        put_back(handlers, sig, before);
        explain_uncatchable(sig);
        goto fail;
    }
    result = Py_NewRef(Py_None);
fail:
    Py_XDECREF(handle);
    Py_XDECREF(handlers);
    Py_XDECREF(receiver);
    Py_XDECREF(before);
    return result;
}

static const char *const remove_names[] = {"sig", NULL};
static const corolla_signature remove_sig = {"remove_signal_handler", remove_names, 1, 1, NULL};

PyDoc_STRVAR(remove_signal_handler_doc, "remove_signal_handler($self, sig)\n--\n\n"
                                        "Stop what add_signal_handler() began. True if there was something to stop.");

static PyObject *
loop_remove_signal_handler(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    LoopObject *self = (LoopObject *)loop;
    corolla_core *core = loop_core(loop);
    PyObject *sig;
    if (corolla_unpack(&remove_sig, args, nargs, kwnames, &sig) < 0) {
        return NULL;
    }
    if (!core->ready) {
        loop_check(loop);
        return NULL;
    }
    if (check_signal(core->state, sig) < 0) {
        return NULL;
    }
    int known = self->signal_handlers == NULL ? 0 : PyDict_Contains(self->signal_handlers, sig);
    if (known <= 0) {
        return known < 0 ? NULL : Py_NewRef(Py_False);
    }
    if (forget_signal(self, sig) < 0) {
        explain_uncatchable(sig);
        return NULL;
    }
    Py_RETURN_TRUE;
}

PyMethodDef corolla_loop_signal_methods[] = {
    {"add_signal_handler", (PyCFunction)(void (*)(void))loop_add_signal_handler, METH_FASTCALL | METH_KEYWORDS,
     add_signal_handler_doc},
    {"remove_signal_handler", (PyCFunction)(void (*)(void))loop_remove_signal_handler, METH_FASTCALL | METH_KEYWORDS,
     remove_signal_handler_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- Life --------------------------------------------------------------------------------------- */

/* Off the main thread: leaves the rest to it. */
static void
restore_on_main_thread(PyObject *weak, PyObject *numbers)
{
    PyObject *leftover = PyTuple_Pack(2, weak, numbers);
    if (leftover == NULL) {
        PyErr_WriteUnraisable(weak);
    }
    else if (Py_AddPendingCall(restore_later, leftover) < 0) {
        Py_DECREF(leftover); /* too much is pending: the receiver sees to itself when the signal comes */
    }
}

static int
is_finalizing(void)
{
    PyObject *test = PySys_GetObject("is_finalizing"); /* borrowed */
    PyObject *answer = test == NULL ? NULL : PyObject_CallNoArgs(test);
    int yes = answer == NULL ? 1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    PyErr_Clear();
    return yes;
}

static int
restore_all(LoopObject *self, PyObject *handlers, PyObject *weak)
{
    if (is_finalizing()) {
        return PyErr_ResourceWarning((PyObject *)self, 1,
                                     "Closing the loop %R on interpreter shutdown stage, skipping signal handlers "
                                     "removal",
                                     self);
    }
    PyObject *numbers = PyDict_Keys(handlers);
    int here = numbers == NULL ? -1 : in_main_thread(self->head.core.state);
    int rc = here < 0 ? -1 : 0;
    if (here == 0) {
        restore_on_main_thread(weak, numbers);
    }
    for (Py_ssize_t i = 0; here > 0 && i < PyList_GET_SIZE(numbers); i++) {
        PyObject *exc = PyErr_GetRaisedException(); /* the first is told; the others are restored all the same */
        if (restore_disposition(PyList_GET_ITEM(numbers, i), weak) < 0) {
            rc = -1;
        }
        if (exc != NULL) {
            PyErr_Clear();
            PyErr_SetRaisedException(exc);
        }
    }
    Py_XDECREF(numbers);
    return rc;
}

int
loop_signals_close(LoopObject *self)
{
    loop_signals_leave(self);
    if (self->wake_made) {
        corolla_watch_stop(&self->wake_watch);
        self->wake_made = false;
        close(self->wake_read);
        close(self->wake_write);
        self->wake_read = self->wake_write = -1;
    }
    PyObject *handlers = self->signal_handlers, *receiver = self->signal_receiver;
    self->signal_handlers = self->signal_receiver = NULL;
    int rc = 0;
    if (handlers != NULL && PyDict_GET_SIZE(handlers) > 0) {
        rc = restore_all(self, handlers, PyCFunction_GET_SELF(receiver));
    }
    PyObject *exc = PyErr_GetRaisedException();
    Py_XDECREF(handlers);
    Py_XDECREF(receiver);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return rc;
}
