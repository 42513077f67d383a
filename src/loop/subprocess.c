/* subprocess_exec() and subprocess_shell(). */
#include "loop.h"

typedef struct SubprocessState {
    PyObject *loop; /* owned, and all the rest */
    PyObject *factory;
    PyObject *args;     /* a tuple of program and arguments; a shell's command */
    PyObject *kwargs;   /* a dict of our own, or NULL */
    PyObject *stdio[3]; /* from the first step on */
    PyObject *protocol;
    PyObject *waiter;
    PyObject *transport;
    PyObject *awaited; /* the end of a child that nobody wants any more */
    PyObject *raised;  /* why */
    PyObject *log;     /* in debug mode: what is started */
} SubprocessState;

static int
subprocess_state_traverse(void *state, visitproc visit, void *arg)
{
    SubprocessState *st = state;
    Py_VISIT(st->loop);
    Py_VISIT(st->factory);
    Py_VISIT(st->args);
    Py_VISIT(st->kwargs);
    for (int i = 0; i < 3; i++) {
        Py_VISIT(st->stdio[i]);
    }
    Py_VISIT(st->protocol);
    Py_VISIT(st->waiter);
    Py_VISIT(st->transport);
    Py_VISIT(st->awaited);
    Py_VISIT(st->raised);
    return 0;
}

static void
subprocess_state_clear(void *state)
{
    SubprocessState *st = state;
    Py_CLEAR(st->log);
    Py_CLEAR(st->raised);
    Py_CLEAR(st->awaited);
    Py_CLEAR(st->transport);
    Py_CLEAR(st->waiter);
    Py_CLEAR(st->protocol);
    for (int i = 0; i < 3; i++) {
        Py_CLEAR(st->stdio[i]);
    }
    Py_CLEAR(st->kwargs);
    Py_CLEAR(st->args);
    Py_CLEAR(st->factory);
    Py_CLEAR(st->loop);
}

/* ---- Checks ------------------------------------------------------------------------------------ */

/* Takes a keyword argument out: 1 and a new reference, 0 and NULL, or -1. */
static int
take(SubprocessState *st, const char *name, PyObject **value)
{
    *value = NULL;
    PyObject *key = st->kwargs == NULL ? NULL : PyUnicode_FromString(name);
    if (key == NULL) {
        return st->kwargs == NULL ? 0 : -1;
    }
    int found = PyDict_GetItemRef(st->kwargs, key, value);
    if (found == 1 && PyDict_DelItem(st->kwargs, key) < 0) {
        Py_CLEAR(*value);
        found = -1;
    }
    Py_DECREF(key);
    return found;
}

enum { IS_FALSE, IS_TRUE, IS_ZERO, IS_NONE };

/* 0, or -1 with ValueError for a value that it must not have. */
static int
check_option(SubprocessState *st, const char *name, int must_be)
{
    PyObject *value;
    int found = take(st, name, &value);
    if (found <= 0) {
        return found;
    }
    static const char *const words[] = {"False", "True", "0", "None"};
    int fits;
    if (must_be == IS_NONE) {
        fits = value == Py_None;
    }
    else if (must_be == IS_ZERO) {
        PyObject *zero = PyLong_FromLong(0);
        fits = zero == NULL ? -1 : PyObject_RichCompareBool(value, zero, Py_EQ);
        Py_XDECREF(zero);
    }
    else {
        int truth = PyObject_IsTrue(value);
        fits = truth < 0 ? -1 : truth == (must_be == IS_TRUE);
    }
    Py_DECREF(value);
    if (fits == 0) {
        PyErr_Format(PyExc_ValueError, "%s must be %s", name, words[must_be]);
    }
    return fits == 1 ? 0 : -1;
}

/* In asyncio's order. 0 or -1. */
static int
check_options(SubprocessState *st, bool shell)
{
    static const char *const names[3] = {"stdin", "stdout", "stderr"};
    if (shell && !PyBytes_Check(st->args) && !PyUnicode_Check(st->args)) {
        PyErr_SetString(PyExc_ValueError, "cmd must be a string");
        return -1;
    }
    if (check_option(st, "universal_newlines", IS_FALSE) < 0 ||
        check_option(st, "shell", shell ? IS_TRUE : IS_FALSE) < 0 || check_option(st, "bufsize", IS_ZERO) < 0 ||
        check_option(st, "text", IS_FALSE) < 0 || check_option(st, "encoding", IS_NONE) < 0 ||
        check_option(st, "errors", IS_NONE) < 0) {
        return -1;
    }
    for (int i = 0; i < 3; i++) {
        int found = take(st, names[i], &st->stdio[i]);
        if (found < 0 || (found == 0 && (st->stdio[i] = PyLong_FromLong(-1)) == NULL)) {
            return -1; /* -1 is subprocess.PIPE */
        }
    }
    return 0;
}

/* ---- Debug mode ------------------------------------------------------------------------------------ */

/* Without the arguments, which may be secret and long. 0 or -1. */
static int
log_start(SubprocessState *st, bool shell)
{
    corolla_core *core = loop_core(st->loop);
    if (!core->debug) {
        return 0;
    }
    st->log = shell ? PyUnicode_FromFormat("run shell command %R", st->args)
                    : PyUnicode_FromFormat("execute program %R", PyTuple_GET_ITEM(st->args, 0));
    PyObject *done = st->log == NULL ? NULL
                                     : PyObject_CallMethod(core->state->BaseEventLoop, "_log_subprocess", "OOOOO",
                                                           st->loop, st->log, st->stdio[0], st->stdio[1], st->stdio[2]);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
log_started(SubprocessState *st)
{
    if (st->log == NULL || !loop_core(st->loop)->debug) {
        return 0;
    }
    PyObject *done =
        PyObject_CallMethod(loop_core(st->loop)->state->logger, "info", "sOO", "%s: %r", st->log, st->transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* ---- The coroutine ----------------------------------------------------------------------------------- */

/* 0 or -1. */
static int
start(SubprocessState *st, bool shell)
{
    corolla_core *core = loop_core(st->loop);
    if (check_options(st, shell) < 0 || (st->protocol = PyObject_CallNoArgs(st->factory)) == NULL ||
        log_start(st, shell) < 0 || loop_check(st->loop) < 0 || (st->waiter = corolla_future_new(core)) == NULL) {
        return -1;
    }
    PyObject *context = PyContext_CopyCurrent();
    if (context == NULL) {
        return -1;
    }
    corolla_process_options options = {
        .args = st->args,
        .shell = shell,
        .stdio = {st->stdio[0], st->stdio[1], st->stdio[2]},
        .more = st->kwargs,
        .protocol = st->protocol,
        .context = context,
        .waiter = st->waiter,
    };
    st->transport = corolla_process_new(core, &options);
    Py_DECREF(context);
    return st->transport == NULL ? -1 : 0;
}

/* Whether what is raised leaves time to wait for a child that is being killed. */
static bool
may_wait(void)
{
    return !PyErr_ExceptionMatches(PyExc_GeneratorExit) && !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) &&
           !PyErr_ExceptionMatches(PyExc_SystemExit);
}

static corolla_step
subprocess_step(corolla_coro *co, PyObject *value, bool shell)
{
    SubprocessState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (start(st, shell) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value != NULL) {
        return corolla_return(co, log_started(st) < 0 ? NULL : PyTuple_Pack(2, st->transport, st->protocol));
    }
    corolla_process_discard(st->transport);
    if (!may_wait()) {
        return COROLLA_RAISE;
    }
    st->raised = PyErr_GetRaisedException();
    st->awaited = corolla_process_wait(st->transport);
    if (st->awaited == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->awaited);
    if (value != NULL) {
        PyErr_SetRaisedException(st->raised);
        st->raised = NULL;
    }
    return COROLLA_RAISE;
    COROLLA_END(co);
}

static corolla_step
exec_step(corolla_coro *co, PyObject *value)
{
    return subprocess_step(co, value, false);
}

static corolla_step
shell_step(corolla_coro *co, PyObject *value)
{
    return subprocess_step(co, value, true);
}

#define SUBPROCESS_SPEC(call, body)                \
    static const corolla_coro_spec call##_spec = { \
        .name = #call,                             \
        .qualname = "EventLoop." #call,            \
        .size = sizeof(SubprocessState),           \
        .step = body,                              \
        .traverse = subprocess_state_traverse,     \
        .clear = subprocess_state_clear,           \
    }

SUBPROCESS_SPEC(subprocess_exec, exec_step);
SUBPROCESS_SPEC(subprocess_shell, shell_step);

/* ---- Methods ------------------------------------------------------------------------------------------ */

/* The first two arguments, by position or by name: new references in out. 0, or -1 with TypeError. */
static int
bind_two(const char *function, SubprocessState *st, PyObject *args, const char *const names[2], PyObject *out[2])
{
    Py_ssize_t given = PyTuple_GET_SIZE(args);
    for (Py_ssize_t i = 0; i < 2; i++) {
        int found = take(st, names[i], &out[i]);
        if (found < 0) {
            return -1;
        }
        if (i < given && found) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", function, names[i]);
            return -1;
        }
        if (i < given) {
            out[i] = Py_NewRef(PyTuple_GET_ITEM(args, i));
        }
        else if (!found) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", function, names[i]);
            return -1;
        }
    }
    return 0;
}

static PyObject *
new_subprocess(PyObject *loop, const corolla_coro_spec *spec, PyObject *args, PyObject *kwargs, bool shell)
{
    const char *const names[2] = {"protocol_factory", shell ? "cmd" : "program"};
    PyObject *out[2] = {NULL, NULL};
    if (loop_check(loop) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(loop)->state, spec);
    if (co == NULL) {
        return NULL;
    }
    SubprocessState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(loop);
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0 && (st->kwargs = PyDict_Copy(kwargs)) == NULL) {
        goto fail;
    }
    if (bind_two(spec->name, st, args, names, out) < 0) {
        goto fail;
    }
    Py_ssize_t given = PyTuple_GET_SIZE(args);
    if (shell && given > 2) {
        PyErr_Format(PyExc_TypeError, "subprocess_shell() takes 2 positional arguments but %zd were given", given);
        goto fail;
    }
    st->factory = Py_NewRef(out[0]);
    st->args = shell ? Py_NewRef(out[1]) : given >= 2 ? PyTuple_GetSlice(args, 1, given) : PyTuple_Pack(1, out[1]);
    if (st->args == NULL) {
        goto fail;
    }
    Py_DECREF(out[0]);
    Py_DECREF(out[1]);
    return (PyObject *)co;

fail:
    Py_XDECREF(out[0]);
    Py_XDECREF(out[1]);
    co->finished = true; /* it cannot be awaited: no warning that it was not */
    Py_DECREF(co);
    return NULL;
}

static PyObject *
subprocess_exec(PyObject *loop, PyObject *args, PyObject *kwargs)
{
    return new_subprocess(loop, &subprocess_exec_spec, args, kwargs, false);
}

static PyObject *
subprocess_shell(PyObject *loop, PyObject *args, PyObject *kwargs)
{
    return new_subprocess(loop, &subprocess_shell_spec, args, kwargs, true);
}

PyDoc_STRVAR(
    subprocess_exec_doc,
    "subprocess_exec($self, protocol_factory, program, *args, stdin=-1, stdout=-1, stderr=-1, universal_newlines=False,\n"
    "                shell=False, bufsize=0, encoding=None, errors=None, text=None, **kwargs)\n--\n\n"
    "Start a program: a (transport, protocol) pair. A coroutine.\n\n"
    "protocol_factory: gives a SubprocessProtocol. program, args: str, bytes or path-like. stdin, stdout, stderr:\n"
    "subprocess.PIPE (the default), DEVNULL, a file object, a descriptor, None for the parent's own; stderr also\n"
    "STDOUT. kwargs: what subprocess.Popen takes, but for bufsize, text, encoding, errors, universal_newlines and\n"
    "shell, which raise ValueError when they ask for anything. Raises what Popen raises when the program cannot be\n"
    "started; nothing is left open then. Cancelled, it kills the child and waits for its end.\n\n"
    "Child watchers of the event loop policy are not asked. Specified by asyncio.loop.subprocess_exec().");
PyDoc_STRVAR(
    subprocess_shell_doc,
    "subprocess_shell($self, protocol_factory, cmd, *, stdin=-1, stdout=-1, stderr=-1, universal_newlines=False,\n"
    "                 shell=True, bufsize=0, encoding=None, errors=None, text=None, **kwargs)\n--\n\n"
    "Start a command of the shell: a (transport, protocol) pair. A coroutine.\n\n"
    "cmd: str or bytes, else ValueError. The rest is as for subprocess_exec(). Specified by\n"
    "asyncio.loop.subprocess_shell().");

PyMethodDef corolla_loop_subprocess_methods[] = {
    {"subprocess_exec", (PyCFunction)(void (*)(void))subprocess_exec, METH_VARARGS | METH_KEYWORDS,
     subprocess_exec_doc},
    {"subprocess_shell", (PyCFunction)(void (*)(void))subprocess_shell, METH_VARARGS | METH_KEYWORDS,
     subprocess_shell_doc},
    {NULL, NULL, 0, NULL},
};
