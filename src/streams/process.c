/* Process: a child and its streams. Its coroutines are in child_wait.c and child_communicate.c. */
#include "process.h"

/* ---- Life -------------------------------------------------------------------------------- */

static PyObject *
process_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    ((Process *)self)->state = state;
    corolla_state_hold(state);
    return self;
}

/* What the protocol has under the names of the three streams. 0 or -1. */
static int
take_streams(Process *process, PyObject *protocol)
{
    corolla_state *state = process->state;
    static const char *const names[3] = {"stdin", "stdout", "stderr"};
    for (int fd = 0; fd < 3; fd++) {
        PyObject *stream = subprocess_protocol_is_plain(state, protocol)
                               ? Py_XNewRef(((SubprocessProtocol *)protocol)->streams[fd])
                               : PyObject_GetAttrString(protocol, names[fd]);
        if (stream == NULL && PyErr_Occurred()) {
            return -1;
        }
        Py_XSETREF(process->streams[fd], stream);
    }
    return 0;
}

static int
setup(Process *process, PyObject *transport, PyObject *protocol, PyObject *loop)
{
    if (take_streams(process, protocol) < 0) {
        return -1;
    }
    PyObject *pid = PyObject_CallMethodNoArgs(transport, process->state->s.get_pid);
    if (pid == NULL) {
        return -1;
    }
    Py_XSETREF(process->pid, pid);
    Py_XSETREF(process->protocol, Py_NewRef(protocol));
    Py_XSETREF(process->loop, Py_NewRef(loop));
    Py_XSETREF(process->transport, Py_NewRef(transport));
    return 0;
}

static int
process_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"transport", "protocol", "loop", NULL};
    static const corolla_signature sig = {"Process", names, 3, 3, NULL};
    PyObject *given[3];
    if (corolla_unpack_tuple(&sig, args, kwargs, given) < 0) {
        return -1;
    }
    return setup((Process *)self, given[0], given[1], given[2]);
}

PyObject *
child_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *loop)
{
    PyObject *self = process_tp_new(state->stream_process_type, NULL, NULL);
    if (self != NULL && setup((Process *)self, transport, protocol, loop) < 0) {
        Py_CLEAR(self);
    }
    return self;
}

int
child_check(Process *process)
{
    if (process->transport == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Process object is not initialized.");
        return -1;
    }
    return 0;
}

static int
process_traverse(PyObject *self, visitproc visit, void *arg)
{
    Process *process = (Process *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(process->dict);
    Py_VISIT(process->transport);
    Py_VISIT(process->protocol);
    Py_VISIT(process->loop);
    for (int fd = 0; fd < 3; fd++) {
        Py_VISIT(process->streams[fd]);
    }
    Py_VISIT(process->pid);
    return 0;
}

static int
process_clear(PyObject *self)
{
    Process *process = (Process *)self;
    Py_CLEAR(process->dict);
    Py_CLEAR(process->transport);
    Py_CLEAR(process->protocol);
    Py_CLEAR(process->loop);
    for (int fd = 0; fd < 3; fd++) {
        Py_CLEAR(process->streams[fd]);
    }
    Py_CLEAR(process->pid);
    return 0;
}

static void
process_dealloc(PyObject *self)
{
    Process *process = (Process *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = process->state;
    PyObject_GC_UnTrack(self);
    if (process->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)process_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
process_repr(PyObject *self)
{
    Process *process = (Process *)self;
    PyObject *name = PyObject_GetAttr((PyObject *)Py_TYPE(self), process->state->s.__name__);
    PyObject *pid = Py_NewRef(process->pid != NULL ? process->pid : Py_None);
    PyObject *shown = name == NULL ? NULL : PyUnicode_FromFormat("<%S %S>", name, pid);
    Py_XDECREF(name);
    Py_DECREF(pid);
    return shown;
}

/* ---- Methods ------------------------------------------------------------------------------- */

/* transport.name(arg), arg NULL for none: new reference or NULL. */
static PyObject *
pass_on(Process *process, PyObject *name, PyObject *arg)
{
    if (child_check(process) < 0) {
        return NULL;
    }
    PyObject *transport = Py_NewRef(process->transport);
    PyObject *answer =
        arg == NULL ? PyObject_CallMethodNoArgs(transport, name) : PyObject_CallMethodOneArg(transport, name, arg);
    Py_DECREF(transport);
    return answer;
}

/* The same, and nothing is returned. */
static PyObject *
tell(Process *process, PyObject *name, PyObject *arg)
{
    PyObject *answer = pass_on(process, name, arg);
    if (answer == NULL) {
        return NULL;
    }
    Py_DECREF(answer);
    Py_RETURN_NONE;
}

PyObject *
child_returncode(Process *process)
{
    return pass_on(process, process->state->s.get_returncode, NULL);
}

static PyObject *
get_returncode(PyObject *self, void *unused)
{
    return child_returncode((Process *)self);
}

static PyObject *
process_send_signal(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *signal = corolla_unpack_one("send_signal", "signal", args, nargs, kwnames);
    return signal == NULL ? NULL : tell((Process *)self, ((Process *)self)->state->s.send_signal, signal);
}

static PyObject *
process_terminate(PyObject *self, PyObject *unused)
{
    return tell((Process *)self, ((Process *)self)->state->s.terminate, NULL);
}

static PyObject *
process_kill(PyObject *self, PyObject *unused)
{
    return tell((Process *)self, ((Process *)self)->state->s.kill, NULL);
}

/* ---- The type -------------------------------------------------------------------------------- */

PyDoc_STRVAR(wait_doc, "wait($self, /)\n--\n\n"
                       "Coroutine: wait until the process has ended, and return its returncode.\n\n"
                       "It does not wait for the end of the output, which a grandchild may hold open. A process whose\n"
                       "output is a pipe that nobody reads may never end: use communicate() then. Specified by\n"
                       "asyncio.subprocess.Process.wait().");
PyDoc_STRVAR(
    communicate_doc,
    "communicate($self, /, input=None)\n--\n\n"
    "Coroutine: send input to stdin and close it, read stdout and stderr to their ends, wait for the process.\n"
    "Return (stdout, stderr): bytes, or None for what is no pipe.\n\n"
    "input: a bytes-like object, or None for nothing. A process that does not read all of it is no error.\n"
    "When it is cancelled the output that had come is kept, and returned by the next call. Specified by\n"
    "asyncio.subprocess.Process.communicate().");
PyDoc_STRVAR(send_signal_doc, "send_signal($self, /, signal)\n--\n\n"
                              "Send a signal, an int, to the process. Raises ProcessLookupError once it has ended.");
PyDoc_STRVAR(terminate_doc, "terminate($self, /)\n--\n\nSend SIGTERM, as by send_signal().");
PyDoc_STRVAR(kill_doc, "kill($self, /)\n--\n\nSend SIGKILL, as by send_signal().");

static PyMethodDef process_methods[] = {
    {"wait", child_wait, METH_NOARGS, wait_doc},
    {"communicate", (PyCFunction)(void (*)(void))child_communicate, METH_FASTCALL | METH_KEYWORDS, communicate_doc},
    {"send_signal", (PyCFunction)(void (*)(void))process_send_signal, METH_FASTCALL | METH_KEYWORDS, send_signal_doc},
    {"terminate", process_terminate, METH_NOARGS, terminate_doc},
    {"kill", process_kill, METH_NOARGS, kill_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef process_getset[] = {
    {"returncode", get_returncode, NULL, "None while it runs; negative: the signal that ended it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef process_members[] = {
    {"stdin", T_OBJECT, offsetof(Process, streams[0]), 0, "A StreamWriter if stdin is a pipe, or None."},
    {"stdout", T_OBJECT, offsetof(Process, streams[1]), 0, "A StreamReader if stdout is a pipe, or None."},
    {"stderr", T_OBJECT, offsetof(Process, streams[2]), 0, "A StreamReader if stderr is a pipe, or None."},
    {"pid", T_OBJECT, offsetof(Process, pid), 0, "The process's number; a shell's for create_subprocess_shell()."},
    {"_transport", T_OBJECT, offsetof(Process, transport), READONLY, NULL},
    {"_protocol", T_OBJECT, offsetof(Process, protocol), READONLY, NULL},
    {"_loop", T_OBJECT, offsetof(Process, loop), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Process, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Process, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(process_doc, "Process(transport, protocol, loop)\n--\n\n"
                          "A subprocess. Made by create_subprocess_exec() and create_subprocess_shell().\n\n"
                          "Specified by asyncio.subprocess.Process.");

static PyType_Slot process_slots[] = {
    {Py_tp_doc, (void *)process_doc},
    {Py_tp_new, process_tp_new},
    {Py_tp_init, process_tp_init},
    {Py_tp_dealloc, process_dealloc},
    {Py_tp_traverse, process_traverse},
    {Py_tp_clear, process_clear},
    {Py_tp_repr, process_repr},
    {Py_tp_methods, process_methods},
    {Py_tp_getset, process_getset},
    {Py_tp_members, process_members},
    {0, NULL},
};

static PyType_Spec process_spec = {
    .name = "corolla.Process",
    .basicsize = sizeof(Process),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = process_slots,
};

int
child_init(PyObject *module, corolla_state *state)
{
    state->stream_process_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &process_spec, NULL);
    return state->stream_process_type == NULL ? -1 : PyModule_AddType(module, state->stream_process_type);
}
