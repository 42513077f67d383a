/* What the scheduler needs of a loop of ours: queueing, its clock, its checks. */
#include <errno.h>
#include <math.h>

#include "callback.h"

PyObject *
corolla_job_object(corolla_job_fn fn, void *arg)
{
    if (fn == corolla_alarm_job) {
        return ((corolla_alarm *)arg)->target;
    }
    bool owns = fn == corolla_handle_job || fn == corolla_task_step_job || fn == corolla_task_wakeup_job ||
                fn == corolla_callback_job;
    return owns ? arg : NULL;
}

void
corolla_job_drop(corolla_job_fn fn, void *arg)
{
    if (fn == corolla_alarm_job) {
        corolla_alarm_forget(arg);
        return;
    }
    PyObject *object = corolla_job_object(fn, arg);
    if (fn == corolla_handle_job && ((corolla_handle *)arg)->timer) {
        /* If its job was queued: that is no more, and cancel() has nothing to revoke. */
        corolla_timer_fired(&((corolla_timer_handle *)arg)->timer);
        ((corolla_timer_handle *)arg)->scheduled = false;
    }
    Py_XDECREF(object);
}

int
corolla_core_check_closed(corolla_core *core)
{
    if (core->closed) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    if (corolla_core_is_inherited(core)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop belongs to the process that was forked from; the child needs one of its own");
        return -1;
    }
    return 0;
}

void
corolla_raise_post(int err)
{
    if (err == -ENOMEM) {
        PyErr_NoMemory();
    }
    else if (err == -ESHUTDOWN) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    }
    else {
        errno = -err; /* the loop could not be woken */
        PyErr_SetFromErrno(PyExc_OSError);
    }
}

int
corolla_core_check_thread(corolla_core *core)
{
    if (core->running && core->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Non-thread-safe operation invoked on an event loop other than the current one");
        return -1;
    }
    return 0;
}

int
corolla_core_post(corolla_core *core, corolla_job_fn fn, PyObject *arg)
{
    if (__builtin_expect(core->closed || core->debug, 0)) {
        if (core->closed && corolla_core_is_inherited(core)) {
            Py_DECREF(arg); /* a future of the parent's that a forked child ends: what it would wake is not there */
            return 0;
        }
        if (corolla_core_check_closed(core) < 0 || (core->debug && corolla_core_check_thread(core) < 0)) {
            Py_DECREF(arg);
            return -1;
        }
    }
    if (__builtin_expect(corolla_reactor_post(&core->reactor, fn, arg) < 0, 0)) {
        Py_DECREF(arg);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int
corolla_deadline(double seconds, int64_t *deadline)
{
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "Invalid time: NaN (not a number)");
        return -1;
    }
    double ns = seconds * 1e9;
    if (ns >= 9.2e18) {
        *deadline = COROLLA_NEVER;
    }
    else if (ns <= -9.2e18) {
        *deadline = INT64_MIN;
    }
    else {
        /* Upwards: a callback never finds loop.time() before its time. */
        *deadline = (int64_t)ceil(ns);
    }
    return 0;
}

int
corolla_core_now(corolla_core *core, int64_t *now)
{
    if (!(core->overridden & COROLLA_OWN_TIME)) {
        *now = corolla_clock();
        return 0;
    }
    PyObject *time = PyObject_CallMethodNoArgs(core->loop, core->state->s.time);
    if (time == NULL) {
        return -1;
    }
    double seconds = PyFloat_AsDouble(time);
    Py_DECREF(time);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    return corolla_deadline(seconds, now);
}

/* logger.warning("Executing %s took %.3f seconds", shown, took); steals shown, which may be NULL. 0 or -1. */
static int
warn_slow(corolla_core *core, PyObject *shown, int64_t took)
{
    if (shown == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethod(core->state->logger, "warning", "sNd", "Executing %s took %.3f seconds", shown,
                                         (double)took / 1e9);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
corolla_core_report_slow(corolla_core *core, PyObject *what, int64_t took)
{
    return corolla_core_is_slow(core, took) ? warn_slow(core, PyObject_Repr(what), took) : 0;
}

int
corolla_core_report_slow_call(corolla_core *core, PyObject *callable, PyObject *owner, int64_t took)
{
    if (!corolla_core_is_slow(core, took)) {
        return 0;
    }
    PyObject *call = PyObject_CallFunction(core->state->format_callback_source, "O()", callable);
    PyObject *shown = call == NULL ? NULL : PyUnicode_FromFormat("%S of %R", call, owner);
    Py_XDECREF(call);
    return warn_slow(core, shown, took);
}
