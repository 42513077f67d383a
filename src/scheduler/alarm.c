/* Alarms: timers of C code, embedded in the object that waits. On a loop of ours there is no Handle and no context to
 * copy; on any other, on one whose methods are overridden and in debug mode the loop's own methods make a handle. */
#include "callback.h"

/* What the loop's heap, or its queue, owns of a native one. NULL when it is not set. */
static PyObject *
take_target(corolla_alarm *alarm)
{
    PyObject *target = alarm->target;
    alarm->target = NULL;
    return target;
}

int
corolla_alarm_job(void *arg)
{
    corolla_alarm *alarm = arg;
    corolla_core *core = alarm->core;
    PyMethodDef *call = alarm->call;
    corolla_timer_fired(&alarm->timer);
    PyObject *target = take_target(alarm); /* the alarm may be gone, or set anew, when the call returns */
    if (!corolla_core_takes_jobs(core)) {
        corolla_core_leave_task(core);
    }
    int rc = 0;
    PyObject *done = call->ml_meth(target, NULL);
    if (done == NULL) {
        corolla_core_leave_task(core);
        rc = corolla_report_raised(core->state, core->loop, "Exception in callback of a timer", NULL, NULL);
    }
    Py_XDECREF(done);
    if (Py_REFCNT(target) == 1) {
        corolla_core_leave_task(core); /* freeing it may run code of others */
    }
    Py_DECREF(target);
    return rc;
}

void
corolla_alarm_forget(corolla_alarm *alarm)
{
    corolla_timer_fired(&alarm->timer);
    Py_XDECREF(take_target(alarm));
}

static corolla_core *
native_core(corolla_state *state, PyObject *loop, unsigned methods)
{
    corolla_core *core = corolla_core_of(state, loop);
    return core != NULL && !core->debug && !(core->overridden & methods) ? core : NULL;
}

/* Sets a native one. 0 or -1. */
static int
start_native(corolla_alarm *alarm, corolla_core *core, int64_t deadline, PyMethodDef *call, PyObject *target)
{
    if (corolla_core_check_closed(core) < 0) {
        return -1;
    }
    corolla_timer_init(&alarm->timer, corolla_alarm_job, alarm);
    int rc = deadline == INT64_MIN ? corolla_timer_queue(&core->reactor, &alarm->timer)
                                   : corolla_timer_start(&core->reactor, &alarm->timer, deadline);
    if (rc < 0) {
        PyErr_NoMemory();
        return -1;
    }
    alarm->core = core;
    alarm->call = call;
    alarm->target = Py_NewRef(target);
    return 0;
}

/* loop.method(seconds, call bound to target), or without seconds if that is NULL. Steals seconds. 0 or -1. */
static int
start_foreign(corolla_alarm *alarm, PyObject *loop, PyObject *method, PyObject *seconds, PyMethodDef *call,
              PyObject *target)
{
    PyObject *callback = PyCFunction_New(call, target);
    if (callback != NULL) {
        PyObject *stack[3] = {loop, callback, NULL};
        if (seconds != NULL) {
            stack[1] = seconds;
            stack[2] = callback;
        }
        size_t count = seconds != NULL ? 3 : 2;
        alarm->handle = PyObject_VectorcallMethod(method, stack, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(callback);
    }
    Py_XDECREF(seconds);
    return alarm->handle == NULL ? -1 : 0;
}

int
corolla_alarm_at(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double when, PyMethodDef *call,
                 PyObject *target)
{
    corolla_core *core = native_core(state, loop, COROLLA_OWN_CALL_AT);
    if (core != NULL) {
        int64_t deadline;
        return corolla_deadline(when, &deadline) < 0
                   ? -1
                   : start_native(alarm, core, deadline + (deadline == INT64_MIN), call, target);
    }
    PyObject *seconds = PyFloat_FromDouble(when);
    return seconds == NULL ? -1 : start_foreign(alarm, loop, state->s.call_at, seconds, call, target);
}

int
corolla_alarm_after(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double delay, PyMethodDef *call,
                    PyObject *target)
{
    corolla_core *core = native_core(state, loop, COROLLA_OWN_CALL_AT | COROLLA_OWN_CALL_LATER);
    if (core != NULL) {
        int64_t now;
        return corolla_core_now(core, &now) < 0
                   ? -1
                   : corolla_alarm_at(alarm, state, loop, (double)now / 1e9 + delay, call, target);
    }
    PyObject *seconds = PyFloat_FromDouble(delay);
    return seconds == NULL ? -1 : start_foreign(alarm, loop, state->s.call_later, seconds, call, target);
}

int
corolla_alarm_soon(corolla_alarm *alarm, corolla_state *state, PyObject *loop, PyMethodDef *call, PyObject *target)
{
    corolla_core *core = native_core(state, loop, COROLLA_OWN_CALL_SOON);
    return core != NULL ? start_native(alarm, core, INT64_MIN, call, target)
                        : start_foreign(alarm, loop, state->s.call_soon, NULL, call, target);
}

/* ---- Alarms that wake a future ------------------------------------------------------------- */

/* As asyncio's _set_result_unless_cancelled(). */
static PyObject *
wake_future(PyObject *future, PyObject *unused)
{
    (void)unused;
    if (!corolla_future_done(future) && corolla_future_set_result(future, Py_None) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef wake_future_def = {"set_result_unless_cancelled", wake_future, METH_NOARGS, NULL};

int
corolla_alarm_wake(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double delay, PyObject *future)
{
    if (corolla_is_plain_future(state, future)) {
        return corolla_alarm_after(alarm, state, loop, delay, &wake_future_def, future);
    }
    PyObject *seconds = PyFloat_FromDouble(delay);
    if (seconds == NULL) {
        return -1;
    }
    PyObject *stack[5] = {loop, seconds, state->set_result_unless_cancelled, future, Py_None};
    alarm->handle = PyObject_VectorcallMethod(state->s.call_later, stack, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(seconds);
    return alarm->handle == NULL ? -1 : 0;
}

/* ---- Stopping ------------------------------------------------------------------------------ */

static int
cancel_handle(corolla_state *state, PyObject *handle)
{
    if (Py_IS_TYPE(handle, state->timer_handle_type) || Py_IS_TYPE(handle, state->handle_type)) {
        corolla_handle_cancel((corolla_handle *)handle);
        return 0;
    }
    PyObject *done = PyObject_CallMethodNoArgs(handle, state->s.cancel);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
stop_slowly(corolla_alarm *alarm, corolla_state *state)
{
    PyObject *raised = PyErr_GetRaisedException(); /* what is dropped may run a finaliser */
    PyObject *handle = alarm->handle, *target = take_target(alarm);
    alarm->handle = NULL;
    if (target != NULL) {
        (void)corolla_timer_stop(&alarm->core->reactor, &alarm->timer);
        Py_DECREF(target);
    }
    int rc = handle != NULL ? cancel_handle(state, handle) : 0;
    Py_XDECREF(handle);
    if (rc < 0) {
        Py_XDECREF(raised);
    }
    else if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
    return rc;
}

int
corolla_alarm_stop(corolla_alarm *alarm, corolla_state *state)
{
    return alarm->target == NULL && alarm->handle == NULL ? 0 : stop_slowly(alarm, state);
}

void
corolla_alarm_clear(corolla_alarm *alarm, corolla_state *state)
{
    if (alarm->target == NULL && alarm->handle == NULL) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    if (stop_slowly(alarm, state) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}
