/* Starting a child: by subprocess.Popen, or, where nothing unusual is asked for, by what stands below it. A start of the
 * second kind that does not succeed leaves nothing behind and is made again by the first, which knows what to say. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* subprocess.PIPE, STDOUT and DEVNULL */
enum { PIPE = -1, STDOUT = -2, DEVNULL = -3 };

/* ---- Popen ------------------------------------------------------------------------------------- */

static const char *const stdio_names[CHILD_PIPES] = {"stdin", "stdout", "stderr"};

/* Its keyword arguments. New reference or NULL. */
static PyObject *
popen_options(const corolla_process_options *options)
{
    PyObject *kwargs = options->more == NULL ? PyDict_New() : PyDict_Copy(options->more);
    PyObject *zero = PyLong_FromLong(0);
    bool whole = kwargs != NULL && zero != NULL &&
                 PyDict_SetItemString(kwargs, "shell", options->shell ? Py_True : Py_False) == 0 &&
                 PyDict_SetItemString(kwargs, "universal_newlines", Py_False) == 0 &&
                 PyDict_SetItemString(kwargs, "bufsize", zero) == 0;
    for (int i = 0; i < CHILD_PIPES && whole; i++) {
        whole = PyDict_SetItemString(kwargs, stdio_names[i], options->stdio[i]) == 0;
    }
    Py_XDECREF(zero);
    if (!whole) {
        Py_CLEAR(kwargs);
    }
    return kwargs;
}

/* type(args, shell=shell, stdin=stdin, ..., bufsize=0, **more): new reference or NULL. */
static PyObject *
call_popen(PyObject *type, const corolla_process_options *options)
{
    PyObject *args = PyTuple_Pack(1, options->args);
    PyObject *kwargs = args == NULL ? NULL : popen_options(options);
    PyObject *popen = kwargs == NULL ? NULL : PyObject_Call(type, args, kwargs);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return popen;
}

/* 0, or -1 with nothing started. */
static int
spawn_by_popen(PyObject *type, const corolla_process_options *options, Spawned *spawned)
{
    spawned->popen = call_popen(type, options);
    if (spawned->popen == NULL) {
        return -1;
    }
    PyObject *pid = PyObject_GetAttrString(spawned->popen, "pid");
    spawned->pid = pid == NULL ? -1 : (pid_t)PyLong_AsLong(pid);
    Py_XDECREF(pid);
    if (spawned->pid <= 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "a Popen without a process"); /* 0 and less are signalled as groups */
    }
    for (int i = 0; i < CHILD_PIPES; i++) {
        PyObject *file = spawned->pid <= 0 ? NULL : PyObject_GetAttrString(spawned->popen, stdio_names[i]);
        if (file == NULL) {
            goto fail;
        }
        if (file == Py_None) {
            Py_DECREF(file);
        }
        else {
            spawned->files[i] = file;
        }
    }
    return 0;

fail: /* a Popen of somebody's that is none */
    for (int i = 0; i < CHILD_PIPES; i++) {
        Py_CLEAR(spawned->files[i]);
    }
    Py_CLEAR(spawned->popen);
    return -1;
}

/* ---- Without it ----------------------------------------------------------------------------------- */

typedef struct Ends {
    int child[CHILD_PIPES]; /* what become its 0, 1 and 2; -1 for the parent's own */
    bool ours[CHILD_PIPES]; /* opened here */
    int parent[CHILD_PIPES];
    int error_read, error_write; /* the child closes it by becoming the program, or says why not */
} Ends;

static void
close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void
close_child_ends(Ends *ends)
{
    close_fd(&ends->error_write);
    for (int i = 0; i < CHILD_PIPES; i++) {
        if (ends->ours[i]) {
            close_fd(&ends->child[i]);
        }
    }
}

static void
close_ends(Ends *ends)
{
    close_child_ends(ends);
    close_fd(&ends->error_read);
    for (int i = 0; i < CHILD_PIPES; i++) {
        close_fd(&ends->parent[i]);
    }
}

/* 0, -errno, or -EINVAL for what only Popen knows. */
static int
open_end(Ends *ends, int i, PyObject *given)
{
    if (given == Py_None) {
        return 0;
    }
    if (!PyLong_CheckExact(given)) {
        return -EINVAL;
    }
    int overflow;
    long fd = PyLong_AsLongAndOverflow(given, &overflow);
    if (overflow) {
        return -EINVAL; /* -1 with it is no PIPE */
    }
    if (fd == PIPE) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0) {
            return -errno;
        }
        ends->child[i] = pair[i == 0 ? 0 : 1];
        ends->parent[i] = pair[i == 0 ? 1 : 0];
        ends->ours[i] = true;
    }
    else if (fd == DEVNULL) {
        ends->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        ends->ours[i] = true;
        return ends->child[i] < 0 ? -errno : 0;
    }
    else if (fd == STDOUT && i == 2 && ends->child[1] >= 0) {
        ends->child[2] = ends->child[1];
    }
    else if (fd >= 0 && fd <= INT_MAX) {
        ends->child[i] = (int)fd;
    }
    else {
        return -EINVAL;
    }
    return 0;
}

/* 0 or -errno. */
static int
open_ends(Ends *ends, PyObject *const *stdio)
{
    int pair[2];
    *ends = (Ends){.child = {-1, -1, -1}, .parent = {-1, -1, -1}, .error_read = -1, .error_write = -1};
    for (int i = 0; i < CHILD_PIPES; i++) {
        int err = open_end(ends, i, stdio[i]);
        if (err < 0) {
            return err;
        }
    }
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return -errno;
    }
    ends->error_read = pair[0];
    ends->error_write = pair[1];
    return pair[1] < 3 ? -EINVAL : 0; /* it would be in the way of the child's stdio */
}

/* Whether nothing is asked for that only Popen does. */
static bool
is_usual(const corolla_process_options *options)
{
    PyObject *more = options->more;
    if (more != NULL && PyDict_GET_SIZE(more) > 0) {
        PyObject *cwd = PyDict_GetItemString(more, "cwd"); /* borrowed */
        if (cwd == NULL || PyDict_GET_SIZE(more) > 1 ||
            !(cwd == Py_None || PyUnicode_CheckExact(cwd) || PyBytes_CheckExact(cwd))) {
            return false;
        }
    }
    if (options->shell) {
        return PyUnicode_CheckExact(options->args) || PyBytes_CheckExact(options->args);
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(options->args); i++) {
        PyObject *arg = PyTuple_GET_ITEM(options->args, i);
        if (!PyUnicode_CheckExact(arg) && !PyBytes_CheckExact(arg)) {
            return false;
        }
    }
    return true;
}

/* Where a program without a directory may be: a tuple of bytes. New reference or NULL. */
static PyObject *
search_path(PyObject *name)
{
    PyObject *get = PyImport_ImportModuleAttrString("os", "get_exec_path");
    PyObject *places = get == NULL ? NULL : PyObject_CallNoArgs(get);
    Py_XDECREF(get);
    Py_ssize_t count = places == NULL ? -1 : PySequence_Size(places);
    PyObject *found = count < 0 ? NULL : PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count && found != NULL; i++) {
        PyObject *place = PySequence_GetItem(places, i), *bytes = NULL;
        if (place != NULL && PyUnicode_FSConverter(place, &bytes)) {
            Py_ssize_t length = PyBytes_GET_SIZE(bytes);
            bool ends = length == 0 || PyBytes_AS_STRING(bytes)[length - 1] == '/';
            PyObject *whole =
                PyBytes_FromFormat("%s%s%s", PyBytes_AS_STRING(bytes), ends ? "" : "/", PyBytes_AS_STRING(name));
            Py_DECREF(bytes);
            if (whole != NULL) {
                PyTuple_SET_ITEM(found, i, whole);
                Py_DECREF(place);
                continue;
            }
        }
        Py_XDECREF(place);
        Py_CLEAR(found);
    }
    Py_XDECREF(places);
    return found;
}

/* What to execute: a tuple of bytes, tried in order. New reference or NULL. */
static PyObject *
executables(PyObject *program)
{
    PyObject *name = NULL;
    if (!PyUnicode_FSConverter(program, &name)) {
        return NULL;
    }
    PyObject *list = NULL;
    if (PyBytes_GET_SIZE(name) > 0) {
        list = strchr(PyBytes_AS_STRING(name), '/') != NULL ? PyTuple_Pack(1, name) : search_path(name);
    }
    else {
        PyErr_SetString(PyExc_ValueError, "no program");
    }
    Py_DECREF(name);
    return list;
}

/* _posixsubprocess.fork_exec(): the child's number, or -1 with an exception. */
static pid_t
fork_exec(PyObject *args, PyObject *programs, PyObject *cwd, const Ends *ends)
{
    PyObject *call = PyImport_ImportModuleAttrString("_posixsubprocess", "fork_exec");
    PyObject *vfork = call == NULL ? NULL : PyImport_ImportModuleAttrString("subprocess", "_USE_VFORK");
    PyObject *done = NULL;
    if (vfork != NULL) {
        done = PyObject_CallFunction(call, "OOO(i)OOiiiiiiiiOOiOOOiOO", args, programs, Py_True, ends->error_write, cwd,
                                     Py_None, ends->child[0], ends->parent[0], ends->parent[1], ends->child[1],
                                     ends->parent[2], ends->child[2], ends->error_read, ends->error_write, Py_True,
                                     Py_False, -1, Py_None, Py_None, Py_None, -1, Py_None, vfork);
    }
    long pid = done == NULL ? -1 : PyLong_AsLong(done);
    Py_XDECREF(done);
    Py_XDECREF(vfork);
    Py_XDECREF(call);
    return (pid_t)pid;
}

/* Waits until the child has become the program: whether it has. */
static bool
has_begun(Ends *ends)
{
    char reason;
    ssize_t n;
    Py_BEGIN_ALLOW_THREADS;
    while ((n = read(ends->error_read, &reason, 1)) < 0 && errno == EINTR) {
    }
    Py_END_ALLOW_THREADS;
    return n == 0;
}

/* The child has ended before it became anything. */
static void
reap(pid_t pid)
{
    Py_BEGIN_ALLOW_THREADS;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    Py_END_ALLOW_THREADS;
}

/* args: a list. True with *spawned filled in; false, perhaps with an exception, and nothing left. */
static bool
try_start(PyObject *args, PyObject *cwd, PyObject *const *stdio, Spawned *spawned)
{
    Ends ends;
    PyObject *program = PySequence_GetItem(args, 0); /* audit hooks have had the list, too */
    PyObject *programs = program == NULL ? NULL : executables(program);
    pid_t pid = -1;
    bool begun = false;
    if (open_ends(&ends, stdio) == 0 && programs != NULL) {
        pid = fork_exec(args, programs, cwd, &ends);
    }
    close_child_ends(&ends);
    if (pid > 0) {
        begun = has_begun(&ends);
        if (!begun) {
            reap(pid);
        }
    }
    if (begun) {
        spawned->pid = pid;
        memcpy(spawned->fds, ends.parent, sizeof spawned->fds);
        memset(ends.parent, -1, sizeof ends.parent);
    }
    close_ends(&ends);
    Py_XDECREF(program);
    Py_XDECREF(programs);
    return begun;
}

/* 1: started; 0: Popen is to try; -1 with what an audit hook raises. */
static int
spawn_directly(const corolla_process_options *options, Spawned *spawned)
{
    PyObject *args =
        options->shell ? Py_BuildValue("[ssO]", "/bin/sh", "-c", options->args) : PySequence_List(options->args);
    if (args == NULL) {
        return -1;
    }
    PyObject *cwd = options->more == NULL ? NULL : PyDict_GetItemString(options->more, "cwd"); /* borrowed */
    cwd = cwd == NULL ? Py_None : cwd;
    int rc = PySys_Audit("subprocess.Popen", "OOOO", PyList_GET_ITEM(args, 0), args, cwd, Py_None);
    if (rc == 0) {
        rc = try_start(args, cwd, options->stdio, spawned);
        PyErr_Clear();
    }
    Py_DECREF(args);
    return rc;
}

int
process_spawn(corolla_state *state, const corolla_process_options *options, Spawned *spawned)
{
    *spawned = (Spawned){.fds = {-1, -1, -1}};
    /* Looked up each time: programs replace it. */
    PyObject *type = PyImport_ImportModuleAttrString("subprocess", "Popen");
    if (type == NULL) {
        return -1;
    }
    int rc = type == state->Popen && is_usual(options) ? spawn_directly(options, spawned) : 0;
    if (rc == 0) {
        rc = spawn_by_popen(type, options, spawned);
    }
    Py_DECREF(type);
    return rc < 0 ? -1 : 0;
}

/* ---- A Popen for who asks ------------------------------------------------------------------------------- */

/* The file object of a pipe that is still open is the Popen's, too. 0 or -1. */
static int
set_file(ProcessTransport *t, PyObject *popen, int i)
{
    if (t->pipes[i] == NULL) {
        return 0;
    }
    PyObject *file = PyObject_CallMethodOneArg(t->pipes[i]->transport, t->state->s.get_extra_info, t->state->s.pipe);
    int rc = file == NULL ? -1 : PyObject_SetAttrString(popen, stdio_names[i], file);
    Py_XDECREF(file);
    return rc;
}

PyObject *
process_make_popen(ProcessTransport *t)
{
    PyObject *make = PyImport_ImportModuleAttrString("corolla._popen", "started");
    PyObject *popen = make == NULL ? NULL : PyObject_CallFunction(make, "Oi", t->args, (int)t->child.pid);
    Py_XDECREF(make);
    if (popen != NULL && t->child.reaped) {
        PyObject *code = PyLong_FromLong(t->returncode);
        if (code == NULL || PyObject_SetAttr(popen, t->state->s.returncode, code) < 0) {
            Py_CLEAR(popen);
        }
        Py_XDECREF(code);
    }
    for (int i = 0; i < CHILD_PIPES && popen != NULL; i++) {
        if (set_file(t, popen, i) < 0) {
            Py_CLEAR(popen);
        }
    }
    return popen;
}
