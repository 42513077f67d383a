/* Any loop: what runs on it, and futures of it. */
#include "scheduler.h"

/* ---- The running loop ---------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030E0000
/* Where asyncio keeps what it knows of this thread's running loop: an object made anew each time that is set, and
 * identity tells whether it was. Asking asyncio costs a system call (getpid). Borrowed; NULL when there is none. */
static PyObject *
find_holder(corolla_state *state)
{
    PyObject *dict = PyThreadState_GetDict();
    PyObject *holder = dict == NULL ? NULL : PyDict_GetItemWithError(dict, state->s.__asyncio_running_event_loop__);
    if (holder == NULL) {
        PyErr_Clear();
    }
    return holder;
}

/* The core of the loop of ours that runs on this thread, if that is easily known; else NULL. */
static corolla_core *
find_running(corolla_state *state)
{
    corolla_core *core = state->running;
    bool current = core != NULL && core->thread == PyThread_get_thread_ident() && core->running &&
                   core->forks == corolla_fork_count() && core->holder == find_holder(state);
    return current ? core : NULL;
}

void
corolla_core_entered(corolla_core *core)
{
    Py_XSETREF(core->holder, Py_XNewRef(find_holder(core->state)));
    if (core->holder != NULL) {
        core->state->running = core;
    }
}

void
corolla_core_left(corolla_core *core)
{
    if (core->state->running == core) {
        core->state->running = NULL;
    }
    Py_CLEAR(core->holder);
}
#else
/* There asking is cheap. */
static corolla_core *
find_running(corolla_state *state)
{
    (void)state;
    return NULL;
}

void
corolla_core_entered(corolla_core *core)
{
    (void)core;
}

void
corolla_core_left(corolla_core *core)
{
    (void)core;
}
#endif

PyObject *
corolla_running_loop(corolla_state *state)
{
    corolla_core *core = find_running(state);
    return core != NULL ? Py_NewRef(core->loop) : PyObject_CallNoArgs(state->get_running_loop);
}

PyObject *
corolla_default_loop(corolla_state *state)
{
    corolla_core *core = find_running(state);
    if (core != NULL) {
        return Py_NewRef(core->loop);
    }
    PyObject *loop = PyObject_CallNoArgs(state->_get_running_loop);
    if (loop == Py_None) {
        Py_DECREF(loop);
        return PyObject_CallNoArgs(state->get_event_loop);
    }
    return loop;
}

/* ---- Tasks and futures of a loop ----------------------------------------------------------- */

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
