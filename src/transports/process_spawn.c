/* Starting a child. */
#include "process.h"

/* subprocess.Popen, looked up each time: programs replace it.
 * Popen(args, shell=shell, stdin=stdin, ..., bufsize=0, **more): new reference or NULL. */
static PyObject *
call_popen(corolla_state *state, const corolla_process_options *options)
{
    PyObject *args = PyTuple_Pack(1, options->args);
    PyObject *kwargs = options->more == NULL ? PyDict_New() : PyDict_Copy(options->more);
    PyObject *type = PyImport_ImportModuleAttrString("subprocess", "Popen");
    PyObject *popen = NULL;
    if (type != NULL && args != NULL && kwargs != NULL &&
        PyDict_SetItemString(kwargs, "shell", options->shell ? Py_True : Py_False) == 0 &&
        PyDict_SetItemString(kwargs, "stdin", options->stdio[0]) == 0 &&
        PyDict_SetItemString(kwargs, "stdout", options->stdio[1]) == 0 &&
        PyDict_SetItemString(kwargs, "stderr", options->stdio[2]) == 0 &&
        PyDict_SetItemString(kwargs, "universal_newlines", Py_False) == 0) {
        PyObject *bufsize = PyLong_FromLong(0);
        if (bufsize != NULL && PyDict_SetItemString(kwargs, "bufsize", bufsize) == 0) {
            popen = PyObject_Call(type, args, kwargs);
        }
        Py_XDECREF(bufsize);
    }
    Py_XDECREF(type);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return popen;
}

int
process_spawn(corolla_state *state, const corolla_process_options *options, Spawned *spawned)
{
    static const char *const names[CHILD_PIPES] = {"stdin", "stdout", "stderr"};
    *spawned = (Spawned){.fds = {-1, -1, -1}};
    spawned->popen = call_popen(state, options);
    if (spawned->popen == NULL) {
        return -1;
    }
    PyObject *pid = PyObject_GetAttrString(spawned->popen, "pid");
    spawned->pid = pid == NULL ? -1 : (pid_t)PyLong_AsLong(pid);
    Py_XDECREF(pid);
    for (int i = 0; i < CHILD_PIPES; i++) {
        PyObject *file = spawned->pid < 0 ? NULL : PyObject_GetAttrString(spawned->popen, names[i]);
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

fail:
    for (int i = 0; i < CHILD_PIPES; i++) {
        Py_CLEAR(spawned->files[i]);
    }
    Py_CLEAR(spawned->popen);
    return -1;
}

PyObject *
process_make_popen(ProcessTransport *t)
{
    Py_RETURN_NONE;
}
