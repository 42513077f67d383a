/* The life of a task: a coroutine that is stepped until it ends. The Python type is in task_type.c.
 *
 * Between two steps a task is in one of three states: a step of it is queued; or it waits, and stands among the
 * waiters of fut_waiter; or it is done. */
#include <string.h>

#include "callback.h"
#include "freelist.h"

/* ---- The interpreter's list of tasks that are not done ------------------------------------ */

static void
task_link(corolla_task *task)
{
    corolla_state *state = task->future.state;
    task->prev = NULL;
    task->next = state->tasks;
    if (state->tasks != NULL) {
        state->tasks->prev = task;
    }
    state->tasks = task;
    task->linked = true;
}

void
corolla_task_unlink(corolla_task *task)
{
    if (!task->linked) {
        return;
    }
    if (task->prev != NULL) {
        task->prev->next = task->next;
    }
    else {
        task->future.state->tasks = task->next;
    }
    if (task->next != NULL) {
        task->next->prev = task->prev;
    }
    task->prev = task->next = NULL;
    task->linked = false;
}

/* ---- asyncio.current_task() ---------------------------------------------------------------- */

/* Puts task (NULL: none) in the loop's place and gives what was there: new reference in *previous, or NULL.
 * 0 or -1. */
static int
swap_current(corolla_state *state, PyObject *loop, PyObject *task, PyObject **previous)
{
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *stack[2] = {loop, task != NULL ? task : Py_None};
    *previous = PyObject_Vectorcall(state->swap_current, stack, 2, NULL);
    if (*previous == NULL) {
        return -1;
    }
    if (*previous == Py_None) {
        Py_CLEAR(*previous);
    }
    return 0;
#else
    if (PyDict_GetItemRef(state->current_tasks, loop, previous) < 0) {
        return -1;
    }
    if (task != NULL) {
        return PyDict_SetItem(state->current_tasks, loop, task);
    }
    return *previous == NULL ? 0 : PyDict_DelItem(state->current_tasks, loop);
#endif
}

static int
enter_refused(PyObject *task, PyObject *other)
{
    PyErr_Format(PyExc_RuntimeError, "Cannot enter into task %R while another task %R is being executed.", task, other);
    return -1;
}

static int
enter_task(corolla_task *task)
{
    corolla_state *state = task->future.state;
    PyObject *loop = task->future.loop;
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *previous;
    if (swap_current(state, loop, (PyObject *)task, &previous) < 0) {
        return -1;
    }
    if (previous != NULL) {
        PyObject *again;
        enter_refused((PyObject *)task, previous);
        PyObject *exc = PyErr_GetRaisedException();
        if (swap_current(state, loop, previous, &again) < 0) {
            PyErr_WriteUnraisable((PyObject *)task);
        }
        else {
            Py_XDECREF(again);
        }
        PyErr_SetRaisedException(exc);
        Py_DECREF(previous);
        return -1;
    }
    return 0;
#else
    corolla_core *core = task->future.core;
    if (core != NULL && core->shown != NULL) {
        /* The entry is what the last step left: replacing it is half the price of deleting and inserting. */
        if (core->shown == (PyObject *)task) {
            return 0;
        }
        if (PyDict_SetItem(state->current_tasks, loop, (PyObject *)task) < 0) {
            return -1;
        }
        Py_SETREF(core->shown,
                  Py_NewRef((PyObject *)task)); /* not the old one's last: enter_context() has seen to it */
        return 0;
    }
    PyObject *current;
    int found = PyDict_GetItemRef(state->current_tasks, loop, &current);
    if (found > 0) {
        enter_refused((PyObject *)task, current);
        Py_DECREF(current);
        return -1;
    }
    if (found < 0 || PyDict_SetItem(state->current_tasks, loop, (PyObject *)task) < 0) {
        return -1;
    }
    if (core != NULL) {
        core->shown = Py_NewRef((PyObject *)task);
    }
    return 0;
#endif
}

void
corolla_core_leave_task_slow(corolla_core *core)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *previous = NULL;
    if (core->entered != NULL && corolla_core_exit_context(core) < 0) {
        PyErr_WriteUnraisable(core->loop);
    }
    PyObject *shown = core->shown;
    if (shown != NULL) {
        core->shown = NULL;
        if (swap_current(core->state, core->loop, NULL, &previous) < 0) {
            PyErr_WriteUnraisable(core->loop);
        }
        Py_XDECREF(previous);
        Py_DECREF(shown);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* Keeps whatever exception is being raised. */
static void
leave_task(corolla_task *task)
{
    corolla_core *core = task->future.core;
    if (core != NULL) {
        bool done = task->future.status != COROLLA_PENDING;
        if (done) {
            corolla_give_back_entered(core, &task->queued);
        }
        /* Where call_soon() is somebody's own, code of theirs runs between steps. And a task that is done and that
         * nobody waits for, but its job, asyncio's dict and the loop, goes at once, with no task current. */
        if (!corolla_core_takes_jobs(core) || (done && Py_REFCNT(task) <= 3)) {
            corolla_core_leave_task(core);
        }
    }
#if PY_VERSION_HEX < 0x030E0000
    if (core != NULL) {
        return;
    }
#endif
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *previous = NULL;
    if (swap_current(task->future.state, task->future.loop, NULL, &previous) < 0) {
        PyErr_WriteUnraisable((PyObject *)task);
    }
    Py_XDECREF(previous);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* ---- Queueing a step ----------------------------------------------------------------------- */

static int task_step(corolla_task *task, PyObject *exc);

static bool
has_native_loop(const corolla_task *task)
{
    return task->future.core != NULL && corolla_core_takes_jobs(task->future.core);
}

/* What a step raised outside the coroutine. 0 when reported, -1 when it leaves the loop. */
static int
report_step(corolla_task *task)
{
    if (task->future.core != NULL) {
        corolla_core_leave_task(task->future.core);
    }
    return corolla_report_raised(task->future.state, task->future.loop, "Exception in callback Task.task_step()",
                                 task->future.state->s.task, (PyObject *)task);
}

/* Leaves the context entered on a loop of ours: corolla_core_leave_task(). */
static int
enter_context(corolla_task *task)
{
    corolla_core *core = task->future.core;
    if (task->queued.shared && corolla_borrow_context(core, &task->queued) < 0) {
        return -1;
    }
    PyObject *context = task->queued.context;
    if (core == NULL) {
        return PyContext_Enter(context);
    }
    if (core->shown != NULL && core->shown != (PyObject *)task && Py_REFCNT(core->shown) <= 2) {
        corolla_core_leave_task(core); /* it ends here, with no task current */
    }
    if (core->entered == context) {
        return 0;
    }
    if ((core->entered != NULL && corolla_core_exit_context(core) < 0) || PyContext_Enter(context) < 0) {
        return -1;
    }
    core->entered = Py_NewRef(context);
    return 0;
}

/* Steals exc. 0, or -1 with what leaves the loop. */
static int
step_in_context(corolla_task *task, PyObject *exc)
{
    if (enter_context(task) < 0) {
        Py_XDECREF(exc);
        return report_step(task);
    }
    int rc = task_step(task, exc);
    if (task->future.core == NULL && PyContext_Exit(task->queued.context) < 0) {
        rc = -1;
    }
    return rc < 0 ? report_step(task) : 0;
}

static int
timed_step(corolla_task *task, PyObject *exc)
{
    corolla_core *core = task->future.core;
    if (core == NULL || !core->debug) {
        return step_in_context(task, exc);
    }
    int64_t begin = corolla_clock();
    int rc = step_in_context(task, exc);
    int64_t took = corolla_clock() - begin;
    corolla_core_leave_task(core); /* a report runs code of others */
    if (rc == 0 && corolla_core_report_slow(core, (PyObject *)task, took) < 0) {
        rc = report_step(task);
    }
    return rc;
}

int
corolla_task_step_job(void *arg)
{
    corolla_task *task = arg;
    int rc = timed_step(task, NULL);
    if (Py_REFCNT(task) > 1) {
        corolla_task_track(task); /* the first step: nothing holds it for sure any more */
    }
    Py_DECREF(task);
    return rc;
}

/* What such a future, being done, throws into a task that waits on it: new reference, or NULL for a value. */
static PyObject *
outcome_of(PyObject *future)
{
    PyObject *exc;
    if (corolla_future_take_exception((corolla_future *)future, &exc) < 0) {
        exc = PyErr_GetRaisedException();
    }
    return exc;
}

int
corolla_task_wakeup_job(void *arg)
{
    corolla_task *task = arg;
    PyObject *exc = NULL;
    PyObject *future = task->fut_waiter;
    if (future != NULL && corolla_is_plain_future(task->future.state, future) && corolla_future_done(future)) {
        exc = outcome_of(future);
    }
    int rc = timed_step(task, exc);
    Py_DECREF(task);
    return rc;
}

static int
step_with_error(PyObject *task, PyObject *exc)
{
    return step_in_context((corolla_task *)task, Py_NewRef(exc));
}

static PyObject *
task_step_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (task_step((corolla_task *)self, nargs > 0 && args[0] != Py_None ? Py_NewRef(args[0]) : NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef step_def = {"task_step", (PyCFunction)(void (*)(void))task_step_method, METH_FASTCALL, NULL};

/* Queues the next step, with an exception to throw or NULL (borrowed). 0 or -1. */
static int
queue_step(corolla_task *task, PyObject *exc)
{
    if (has_native_loop(task)) {
        if (exc == NULL) {
            return corolla_core_post(task->future.core, corolla_task_step_job, Py_NewRef((PyObject *)task));
        }
        PyObject *cb = corolla_callback_new_c(task->future.state, step_with_error, Py_NewRef(exc));
        if (cb == NULL) {
            return -1;
        }
        ((corolla_callback *)cb)->future = Py_NewRef((PyObject *)task);
        return corolla_core_post(task->future.core, corolla_callback_job, cb);
    }
    PyObject *step = PyCFunction_New(&step_def, (PyObject *)task);
    if (step == NULL) {
        return -1;
    }
    PyObject *handle = NULL;
    if (corolla_own_context(&task->queued) != NULL) {
        handle = corolla_foreign_call_soon(task->future.state, task->future.loop, step, exc, task->queued.context);
    }
    Py_DECREF(step);
    if (handle == NULL) {
        return -1;
    }
    Py_DECREF(handle);
    return 0;
}

/* Takes the exception being raised into the next step. */
static int
queue_raised(corolla_task *task)
{
    PyObject *exc = PyErr_GetRaisedException();
    int rc = queue_step(task, exc);
    Py_DECREF(exc);
    return rc;
}

static PyObject *
task_wakeup_method(PyObject *self, PyObject *future)
{
    corolla_task *task = (corolla_task *)self;
    PyObject *exc = NULL;
    if (corolla_is_plain_future(task->future.state, future)) {
        exc = outcome_of(future);
    }
    else {
        PyObject *value = PyObject_CallMethodNoArgs(future, task->future.state->s.result);
        if (value == NULL) {
            exc = PyErr_GetRaisedException();
        }
        Py_XDECREF(value);
    }
    if (task_step(task, exc) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef wakeup_def = {"task_wakeup", task_wakeup_method, METH_O, NULL};

PyObject *
corolla_task_wakeup_callable(PyObject *task)
{
    return PyCFunction_New(&wakeup_def, task);
}

/* ---- A step -------------------------------------------------------------------------------- */

/* The coroutine raised. 0, or -1 with KeyboardInterrupt or SystemExit still raised. */
static int
task_raised(corolla_task *task)
{
    corolla_future *fut = &task->future;
    if (PyErr_ExceptionMatches(fut->state->CancelledError)) {
        PyObject *exc = PyErr_GetRaisedException();
        Py_XSETREF(fut->cancelled_exc, exc);
        return corolla_future_cancel_base(fut, NULL) < 0 ? -1 : 0;
    }
    bool leaves = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit);
    PyObject *exc = PyErr_GetRaisedException();
    int rc = corolla_future_set_exception((PyObject *)task, exc);
    if (leaves && rc == 0) {
        PyErr_SetRaisedException(exc);
        return -1;
    }
    Py_DECREF(exc);
    return rc;
}

static int
task_returned(corolla_task *task, PyObject *value)
{
    int rc;
    if (task->must_cancel) {
        task->must_cancel = false;
        rc = corolla_future_cancel_base(&task->future, task->future.cancel_message) < 0 ? -1 : 0;
    }
    else {
        rc = corolla_future_set_result((PyObject *)task, value);
    }
    Py_DECREF(value);
    return rc;
}

/* result was yielded and is a future, ours or not, that the task now waits on. Steals result. */
static int
wait_on(corolla_task *task, PyObject *result)
{
    Py_XSETREF(task->fut_waiter, result);
    if (!task->must_cancel) {
        return 0;
    }
    corolla_state *state = task->future.state;
    /* Both may be replaced meanwhile. */
    PyObject *msg = Py_XNewRef(task->future.cancel_message);
    Py_INCREF(result);
    int cancelled = corolla_any_cancel(state, result, msg);
    Py_XDECREF(msg);
    Py_DECREF(result);
    if (cancelled > 0) {
        task->must_cancel = false;
    }
    return cancelled < 0 ? -1 : 0;
}

/* A Future or Task of ours, not a subclass: linked directly. Steals result. */
static int
await_native(corolla_task *task, PyObject *result)
{
    corolla_future *fut = (corolla_future *)result;
    if (fut->loop != task->future.loop) {
        PyErr_Format(PyExc_RuntimeError, "Task %R got Future %R attached to a different loop", task, result);
        goto fail;
    }
    if (!fut->blocking) {
        PyErr_Format(PyExc_RuntimeError, "yield was used instead of yield from in task %R with %R", task, result);
        goto fail;
    }
    fut->blocking = false;
    if (result == (PyObject *)task) {
        PyErr_Format(PyExc_RuntimeError, "Task cannot await on itself: %R", task);
        goto fail;
    }
    int rc = fut->status == COROLLA_PENDING ? corolla_future_add_waiter(fut, (PyObject *)task)
                                            : corolla_future_tell_now(fut, (PyObject *)task);
    if (rc < 0) {
        goto fail;
    }
    return wait_on(task, result);
fail:
    Py_DECREF(result);
    return queue_raised(task);
}

/* Any future that is not exactly ours. Steals result. */
static int
await_foreign(corolla_task *task, PyObject *result, PyObject *blocking)
{
    corolla_state *state = task->future.state;
    PyObject *wakeup = NULL, *names = NULL, *added = NULL;
    PyObject *loop = corolla_any_loop(state, result);
    int truth = loop == NULL ? -1 : PyObject_IsTrue(blocking);
    if (truth < 0) {
        goto fail;
    }
    if (loop != task->future.loop) {
        PyErr_Format(PyExc_RuntimeError, "Task %R got Future %R attached to a different loop", task, result);
        goto fail;
    }
    if (!truth) {
        PyErr_Format(PyExc_RuntimeError, "yield was used instead of yield from in task %R with %R", task, result);
        goto fail;
    }
    if (result == (PyObject *)task) {
        PyErr_Format(PyExc_RuntimeError, "Task cannot await on itself: %R", task);
        goto fail;
    }
    if (PyObject_SetAttr(result, state->s._asyncio_future_blocking, Py_False) < 0) {
        goto fail;
    }
    wakeup = corolla_task_wakeup_callable((PyObject *)task);
    names = PyTuple_Pack(1, state->s.context);
    if (wakeup == NULL || names == NULL) {
        goto fail;
    }
    PyObject *stack[3] = {result, wakeup, task->queued.context};
    added = PyObject_VectorcallMethod(state->s.add_done_callback, stack, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    if (added == NULL) {
        goto fail;
    }
    Py_DECREF(added);
    Py_DECREF(names);
    Py_DECREF(wakeup);
    Py_DECREF(loop);
    return wait_on(task, result);
fail:
    Py_XDECREF(names);
    Py_XDECREF(wakeup);
    Py_XDECREF(loop);
    Py_DECREF(result);
    return queue_raised(task);
}

/* The coroutine yielded something. Steals result. */
static int
task_yielded(corolla_task *task, PyObject *result)
{
    corolla_state *state = task->future.state;
    if (corolla_is_plain_future(state, result)) {
        return await_native(task, result);
    }
    if (result == Py_None) {
        Py_DECREF(result);
        return queue_step(task, NULL);
    }
    PyObject *blocking;
    int found = PyObject_GetOptionalAttr(result, state->s._asyncio_future_blocking, &blocking);
    if (found < 0) {
        Py_DECREF(result);
        return queue_raised(task);
    }
    if (found > 0 && blocking != Py_None) {
        int rc = await_foreign(task, result, blocking);
        Py_DECREF(blocking);
        return rc;
    }
    Py_XDECREF(blocking);
    if (PyGen_CheckExact(result)) {
        PyErr_Format(PyExc_RuntimeError, "yield was used instead of yield from for generator in task %R with %R", task,
                     result);
    }
    else {
        PyErr_Format(PyExc_RuntimeError, "Task got bad yield: %R", result);
    }
    Py_DECREF(result);
    return queue_raised(task);
}

/* Runs the coroutine to its next await, in the task's context and as the current task. Steals exc, which may be
 * NULL. 0, or -1 with what leaves the loop. */
static int
run_coroutine(corolla_task *task, PyObject *exc)
{
    PyObject *result = NULL;
    PySendResult sent;
    if (exc == NULL) {
        sent = PyIter_Send(task->coro, Py_None, &result);
    }
    else {
        result = PyObject_CallMethodOneArg(task->coro, task->future.state->s.throw, exc);
        Py_DECREF(exc);
        sent = PYGEN_NEXT;
        if (result == NULL) {
            result = corolla_fetch_stop_iteration();
            sent = result != NULL ? PYGEN_RETURN : PYGEN_ERROR;
        }
    }
    switch (sent) {
    case PYGEN_NEXT:
        return task_yielded(task, result);
    case PYGEN_RETURN:
        corolla_task_unlink(task);
        return task_returned(task, result);
    default:
        corolla_task_unlink(task);
        return task_raised(task);
    }
}

/* Steals exc. */
static int
task_step(corolla_task *task, PyObject *exc)
{
    corolla_future *fut = &task->future;
    if (fut->status != COROLLA_PENDING || task->coro == NULL) {
        PyErr_Format(fut->state->InvalidStateError, "__step(): already done: %R %R", task, exc != NULL ? exc : Py_None);
        Py_XDECREF(exc);
        return -1;
    }
    if (task->must_cancel) {
        if (exc == NULL || PyErr_GivenExceptionMatches(exc, fut->state->CancelledError) == 0) {
            PyObject *cancelled = corolla_future_cancelled_error(fut);
            if (cancelled == NULL) {
                Py_XDECREF(exc);
                return -1;
            }
            Py_XSETREF(exc, cancelled);
        }
        task->must_cancel = false;
    }
    if (enter_task(task) < 0) {
        Py_XDECREF(exc);
        return -1;
    }
    Py_CLEAR(task->fut_waiter);
    int rc = run_coroutine(task, exc);
    leave_task(task);
    return rc;
}

/* ---- Beginning ----------------------------------------------------------------------------- */

/* Runs the first step now, inside whatever runs. 0 or -1. */
static int
start_eagerly(corolla_task *task)
{
    corolla_state *state = task->future.state;
    PyObject *loop = task->future.loop;
    PyObject *previous = NULL, *self = NULL;
    if (swap_current(state, loop, (PyObject *)task, &previous) < 0) {
        Py_XDECREF(previous);
        return -1;
    }
    task_link(task);
    int rc = PyContext_Enter(task->queued.context);
    if (rc == 0) {
        rc = run_coroutine(task, NULL);
        if (PyContext_Exit(task->queued.context) < 0) {
            rc = -1;
        }
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (swap_current(state, loop, previous, &self) < 0) {
        if (raised != NULL) {
            PyErr_WriteUnraisable((PyObject *)task);
        }
        rc = -1;
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    Py_XDECREF(previous);
    Py_XDECREF(self);
    if (task->future.status != COROLLA_PENDING) {
        /* As asyncio: a task that ended in its first step lets go of the coroutine. */
        Py_CLEAR(task->coro);
    }
    return rc;
}

/* May a task of this loop start eagerly here? Only on the thread that runs the loop. 1, 0 or -1. */
static int
loop_runs_here(corolla_task *task)
{
    corolla_core *core = task->future.core;
    if (core != NULL) {
        return core->running && core->thread == PyThread_get_thread_ident();
    }
    PyObject *running = PyObject_CallNoArgs(task->future.state->_get_running_loop);
    if (running == NULL) {
        return -1;
    }
    int here = running == task->future.loop;
    Py_DECREF(running);
    return here;
}

static int
check_coroutine(corolla_state *state, PyObject *coro)
{
    if (PyCoro_CheckExact(coro) || Py_IS_TYPE(coro, state->coroutine_type)) {
        return 0;
    }
    PyObject *answer = PyObject_CallOneArg(state->iscoroutine, coro);
    int is = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (is == 0) {
        PyErr_Format(PyExc_TypeError, "a coroutine was expected, got %R", coro);
    }
    return is > 0 ? 0 : -1;
}

int
corolla_task_setup(corolla_task *task, PyObject *coro, PyObject *name, PyObject *context, bool eager)
{
    corolla_state *state = task->future.state;
    task->log_destroy_pending = false; /* until it may be blamed for */
    if (check_coroutine(state, coro) < 0) {
        return -1;
    }
    corolla_queued queued = {0};
    if (context == NULL || context == Py_None) {
        if (corolla_queue_context(eager ? NULL : task->future.core, &queued) < 0) {
            return -1;
        }
    }
    else if (!PyContext_CheckExact(context)) {
        PyErr_Format(PyExc_TypeError, "a contextvars.Context is required, got %R", context);
        return -1;
    }
    else {
        queued.context = Py_NewRef(context);
    }
    context = task->queued.context;
    task->queued = queued;
    Py_XDECREF(context); /* __init__ called again */
    if (name == NULL || name == Py_None) {
        task->number = ++state->task_names;
    }
    else {
        PyObject *text = PyUnicode_CheckExact(name) ? Py_NewRef(name) : PyObject_Str(name);
        if (text == NULL) {
            return -1;
        }
        Py_XSETREF(task->name, text);
    }
    Py_XSETREF(task->coro, Py_NewRef(coro));
    int here = eager ? loop_runs_here(task) : 0;
    if (here < 0) {
        return -1;
    }
    if (here) {
        task->log_destroy_pending = true;
        return start_eagerly(task);
    }
    task->log_destroy_pending = true;
    if (queue_step(task, NULL) < 0) {
        return -1;
    }
    task_link(task);
    return 0;
}

PyObject *
corolla_task_new(corolla_core *core, PyObject *coro, PyObject *name, PyObject *context, bool eager)
{
    corolla_state *state = core->state;
    PyObject *self = freelist_new(state, &state->freelists->tasks, state->task_type);
    if (self == NULL) {
        return NULL;
    }
    corolla_task *task = (corolla_task *)self;
    corolla_future_blank(&task->future, state);
    memset((char *)task + sizeof task->future, 0, sizeof *task - sizeof task->future);
    task->future.is_task = true;
    task->future.loop = Py_NewRef(core->loop);
    task->future.core = core;
    task->untracked = true;
    bool queued = !eager && core->running && has_native_loop(task);
    if (!queued) {
        corolla_task_track(task);
    }
    if ((core->debug && corolla_future_trace(&task->future) < 0) ||
        corolla_task_setup(task, coro, name, context, eager) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (!core->running || !has_native_loop(task)) {
        corolla_task_track(task);
    }
    return self;
}

PyObject *
corolla_task_name(corolla_task *task)
{
    if (task->name != NULL) {
        return Py_NewRef(task->name);
    }
    return PyUnicode_FromFormat("Task-%llu", (unsigned long long)task->number);
}

/* ---- Cancelling ---------------------------------------------------------------------------- */

int
corolla_task_cancel(corolla_task *task, PyObject *msg)
{
    corolla_state *state = task->future.state;
    task->future.log_traceback = false;
    if (task->future.status != COROLLA_PENDING) {
        return 0;
    }
    task->cancel_requests++;
    if (task->fut_waiter != NULL) {
        /* Tasks may wait for one another in a circle. */
        if (Py_EnterRecursiveCall(" while cancelling a task")) {
            return -1;
        }
        PyObject *waiter = Py_NewRef(task->fut_waiter);
        int cancelled = corolla_any_cancel(state, waiter, msg);
        Py_DECREF(waiter);
        Py_LeaveRecursiveCall();
        if (cancelled != 0) {
            /* fut_waiter stays: it may be a task that ignores this, to be cancelled again. */
            return cancelled;
        }
    }
    /* A step is queued, or running. */
    task->must_cancel = true;
    Py_XSETREF(task->future.cancel_message, Py_XNewRef(msg));
    return 1;
}
