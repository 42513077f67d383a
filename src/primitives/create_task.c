/* corolla.create_task() */
#include "primitives.h"

PyDoc_STRVAR(
    create_task_doc,
    "create_task($module, /, coro, **kwargs)\n--\n\n"
    "Run a coroutine on the running loop. Return its Task, or what the loop's task factory makes.\n\n"
    "The keywords are those of EventLoop.create_task(): name, context, eager_start, and whatever a task\n"
    "factory takes. Raises RuntimeError when no loop runs. Specified by asyncio.create_task() of CPython 3.14.");

static PyObject *
module_create_task(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_state *state = corolla_state_of_module(module);
    PyObject *loop = corolla_running_loop(state);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *task;
    corolla_core *core = corolla_core_of(state, loop);
    if (nargs == 1 && kwnames == NULL && core != NULL && !core->factory &&
        !(core->overridden & COROLLA_OWN_CREATE_TASK)) {
        task = corolla_task_new(core, args[0], NULL, NULL, false);
        goto done;
    }
    /* The arguments as they are, behind the loop. */
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *few[6], **all = count < 6 ? few : PyMem_New(PyObject *, count + 1);
    if (all == NULL) {
        task = PyErr_NoMemory();
        goto done;
    }
    all[0] = loop;
    for (Py_ssize_t i = 0; i < count; i++) {
        all[i + 1] = args[i];
    }
    task = PyObject_VectorcallMethod(state->s.create_task, all, (size_t)nargs + 1, kwnames);
    if (all != few) {
        PyMem_Free(all);
    }
done:
    Py_DECREF(loop);
    return task;
}

PyMethodDef corolla_create_task_functions[] = {
    {"create_task", (PyCFunction)(void (*)(void))module_create_task, METH_FASTCALL | METH_KEYWORDS, create_task_doc},
    {NULL, NULL, 0, NULL},
};
