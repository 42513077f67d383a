/* Any loop: what runs on it, and futures of it. */
#include "scheduler.h"

PyObject *
corolla_current_task(corolla_state *state, PyObject *loop)
{
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *task = PyObject_CallOneArg(state->current_task, loop);
    if (task == Py_None) {
        Py_CLEAR(task);
    }
    return task;
#else
    PyObject *task;
    (void)PyDict_GetItemRef(state->current_tasks, loop, &task);
    return task;
#endif
}

PyObject *
corolla_loop_future(corolla_state *state, PyObject *loop)
{
    corolla_core *core = corolla_core_of(state, loop);
    return core != NULL && !(core->overridden & COROLLA_OWN_CREATE_FUTURE)
               ? corolla_future_new(core)
               : PyObject_CallMethodNoArgs(loop, state->s.create_future);
}
