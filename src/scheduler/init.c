/* The room's types, free lists and module functions. */
#include "async_def.h"
#include "await.h"
#include "callback.h"
#include "eager.h"
#include "freelist.h"
#include "special.h"

PyDoc_STRVAR(tasks_doc, "_tasks($module, /)\n--\n\nReturn a list of all tasks of this interpreter that are not done.");

static PyObject *
module_tasks(PyObject *module, PyObject *unused)
{
    (void)unused;
    corolla_state *state = corolla_state_of_module(module);
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    /* Appending may start a collection, and that may end tasks: the count is taken afresh at each step, and
     * the current one is held by the list before the next is looked at. */
    for (corolla_task *task = state->tasks; task != NULL; task = task->next) {
        if (Py_REFCNT(task) == 0) {
            continue; /* dead, its deallocation put off (CPython's trashcan) or begun by a subclass */
        }
        if (PyList_Append(list, (PyObject *)task) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyMethodDef module_functions[] = {
    {"_tasks", module_tasks, METH_NOARGS, tasks_doc},
    {NULL, NULL, 0, NULL},
};

/* A new type in *slot, and in the module under its own name if shown. 0 or -1. */
static int
add_type(PyObject *module, PyTypeObject **slot, PyType_Spec *spec, PyTypeObject *base, bool shown)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type == NULL) {
        return -1;
    }
    *slot = (PyTypeObject *)type;
    return shown ? PyModule_AddType(module, *slot) : 0;
}

static int
find_current_tasks(corolla_state *state)
{
#if PY_VERSION_HEX >= 0x030E0000
    state->swap_current = PyImport_ImportModuleAttrString("_asyncio", "_swap_current_task");
    return state->swap_current == NULL ? -1 : 0;
#else
    state->current_tasks = PyImport_ImportModuleAttrString("_asyncio", "_current_tasks");
    if (state->current_tasks == NULL) {
        return -1;
    }
    if (!PyDict_CheckExact(state->current_tasks)) {
        PyErr_SetString(PyExc_ImportError, "_asyncio._current_tasks is not a dict");
        return -1;
    }
    return 0;
#endif
}

static int
find_format_debug(corolla_state *state)
{
    PyObject *defaults = PyObject_GetAttrString(state->format_callback_source, "__kwdefaults__");
    if (defaults == NULL) {
        return -1;
    }
    int found = PyDict_Check(defaults) ? PyDict_Contains(defaults, state->s.debug) : 0;
    Py_DECREF(defaults);
    state->format_takes_debug = found > 0;
    return found < 0 ? -1 : 0;
}

int
corolla_scheduler_init(PyObject *module, corolla_state *state)
{
    state->freelists = PyMem_Calloc(1, sizeof *state->freelists);
    if (state->freelists == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (find_current_tasks(state) < 0 || find_format_debug(state) < 0 ||
        add_type(module, &state->handle_type, &corolla_handle_spec, NULL, true) < 0 ||
        add_type(module, &state->timer_handle_type, &corolla_timer_handle_spec, state->handle_type, true) < 0 ||
        add_type(module, &state->callback_type, &corolla_callback_spec, NULL, false) < 0 ||
        add_type(module, &state->future_type, &corolla_future_spec, NULL, true) < 0 ||
        add_type(module, &state->future_iter_type, &corolla_future_iter_spec, NULL, false) < 0 ||
        add_type(module, &state->task_type, &corolla_task_spec, state->future_type, true) < 0 ||
        add_type(module, &state->coro_wrapper_type, &corolla_coro_wrapper_spec, NULL, false) < 0 ||
        add_type(module, &state->coroutine_type, &corolla_coro_type_spec, NULL, false) < 0 ||
        add_type(module, &state->stop_type, &corolla_stop_spec, (PyTypeObject *)PyExc_StopIteration, false) < 0 ||
        add_type(module, &state->special_type, &corolla_special_spec, NULL, false) < 0 ||
        add_type(module, &state->bound_type, &corolla_bound_spec, NULL, false) < 0 ||
        add_type(module, &state->with_coroutine_type, &corolla_with_coroutine_spec, NULL, false) < 0 ||
        corolla_eager_init(module, state) < 0 || corolla_async_def_init(module, state) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, module_functions);
}

static void
free_list(freelist *list)
{
    for (int i = 0; i < list->count; i++) {
        PyObject_GC_Del(list->items[i]);
    }
    list->count = 0;
}

void
corolla_scheduler_free(corolla_state *state)
{
    corolla_freelists *lists = state->freelists;
    if (lists == NULL) {
        return;
    }
    state->freelists = NULL;
    free_list(&lists->handles);
    free_list(&lists->timers);
    free_list(&lists->futures);
    free_list(&lists->tasks);
    free_list(&lists->iters);
    free_list(&lists->callbacks);
    free_list(&lists->coros);
    free_list(&lists->stops);
    free_list(&lists->bounds);
    PyMem_Free(lists);
}
