/* Entering and leaving a TaskGroup: the coroutines of async with. */
#include "taskgroup.h"

/* ---- __aenter__() -------------------------------------------------------------------------- */

static int
enter_traverse(void *data, visitproc visit, void *arg)
{
    Py_VISIT(((group_enter_state *)data)->group);
    return 0;
}

static void
enter_clear(void *data)
{
    Py_CLEAR(((group_enter_state *)data)->group);
}

/* The running loop, and the task that is to be cancelled with the group. 0 or -1. */
static int
find_parent(corolla_group *group)
{
    corolla_state *state = group->state;
    if (group->loop == NULL) {
        PyObject *loop = corolla_running_loop(state);
        if (loop == NULL) {
            return -1;
        }
        Py_XSETREF(group->loop, loop);
        group->core = corolla_core_of(state, loop);
    }
    PyObject *parent = corolla_current_task(state, group->loop);
    if (parent == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_RuntimeError, "TaskGroup %R cannot determine the parent task", group);
        }
        return -1;
    }
    Py_XSETREF(group->parent, parent);
    return 0;
}

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    corolla_group *group = ((group_enter_state *)corolla_coro_state(co))->group;
    if (group->entered) {
        PyErr_Format(PyExc_RuntimeError, "TaskGroup %R has already been entered", group);
        return COROLLA_RAISE;
    }
    if (find_parent(group) < 0) {
        return COROLLA_RAISE;
    }
    group->entered = true;
    if (group->cancel_on_enter) {
        PyObject *done = PyObject_CallMethodNoArgs((PyObject *)group, group->state->s.cancel);
        if (done == NULL) {
            return COROLLA_RAISE;
        }
        Py_DECREF(done);
    }
    return corolla_return(co, Py_NewRef((PyObject *)group));
}

const corolla_coro_spec corolla_group_enter_spec = {
    .name = "__aenter__",
    .qualname = "TaskGroup.__aenter__",
    .size = sizeof(group_enter_state),
    .step = enter_step,
    .traverse = enter_traverse,
    .clear = enter_clear,
};

/* ---- __aexit__(): the beginning ------------------------------------------------------------ */

static int
exit_traverse(void *data, visitproc visit, void *arg)
{
    group_exit_state *st = data;
    Py_VISIT(st->group);
    Py_VISIT(st->type);
    Py_VISIT(st->exc);
    Py_VISIT(st->propagate);
    Py_VISIT(st->pending);
    return 0;
}

static void
exit_clear(void *data)
{
    group_exit_state *st = data;
    Py_CLEAR(st->type);
    Py_CLEAR(st->exc);
    Py_CLEAR(st->propagate);
    Py_CLEAR(st->pending);
    Py_CLEAR(st->group);
}

/* The body is over, by what st->type and st->exc say. 0 or -1. */
static int
begin_exit(group_exit_state *st)
{
    corolla_group *group = st->group;
    group->exiting = true;
    if (st->exc != NULL && corolla_group_note_base_error(group, st->exc) < 0) {
        return -1;
    }
    if (st->type == NULL) {
        return 0;
    }
    int cancelled = PyObject_IsSubclass(st->type, group->state->CancelledError);
    if (cancelled < 0) {
        return -1;
    }
    st->cancelled = cancelled;
    if (cancelled) {
        st->propagate = Py_XNewRef(st->exc);
    }
    return group->aborting ? 0 : corolla_group_abort(group);
}

/* The wait for the tasks was broken off by the exception being raised. A cancellation is kept for later, since the
 * tasks have to end first: 0. Or -1. */
static int
keep_cancellation(group_exit_state *st)
{
    corolla_group *group = st->group;
    if (!PyErr_ExceptionMatches(group->state->CancelledError)) {
        return -1;
    }
    Py_XSETREF(st->pending, PyErr_GetRaisedException());
    if (group->aborting) {
        return 0;
    }
    Py_XSETREF(st->propagate, Py_NewRef(st->pending));
    return corolla_group_abort(group);
}

/* ---- __aexit__(): the end ------------------------------------------------------------------ */

/* As `raise exc`: what is being handled becomes its context. */
static int
raise_again(PyObject *exc)
{
    if (!PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
        return -1;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    return -1;
}

static int
report_suppressed(corolla_group *group, PyObject *exc)
{
    corolla_state *state = group->state;
    PyObject *message = PyUnicode_FromString("TaskGroup task exception was not propagated because the TaskGroup body "
                                             "is being closed with a BaseException");
    PyObject *context = PyDict_New();
    int rc = -1;
    if (message != NULL && context != NULL && PyDict_SetItem(context, state->s.message, message) == 0 &&
        PyDict_SetItem(context, state->s.exception, exc) == 0 &&
        PyDict_SetItem(context, state->s.task_group, (PyObject *)group) == 0) {
        rc = corolla_report_context(state, group->loop, context);
    }
    Py_XDECREF(message);
    Py_XDECREF(context);
    return rc;
}

/* KeyboardInterrupt and SystemExit come out as they are; what else was raised is reported, or it would be lost. */
static int
raise_base_error(corolla_group *group)
{
    PyObject *base_error = Py_NewRef(group->base_error);
    PyObject *errors = group->errors == NULL ? PyList_New(0) : PySequence_List(group->errors);
    int rc = errors == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(errors); i++) {
        PyObject *exc = PyList_GET_ITEM(errors, i);
        rc = exc == base_error || group->loop == NULL ? 0 : report_suppressed(group, exc);
    }
    if (rc == 0) {
        rc = raise_again(base_error);
    }
    Py_XDECREF(errors);
    Py_DECREF(base_error);
    return rc;
}

/* Takes back our own cancellation of the parent. What is left is somebody else's and has to be raised. 0 or -1. */
static int
take_back_cancellation(group_exit_state *st)
{
    corolla_group *group = st->group;
    if (!group->parent_cancel_requested || group->parent == NULL) {
        return 0;
    }
    int64_t left;
    if (corolla_any_uncancel(group->state, group->parent, &left) < 0) {
        return -1;
    }
    if (left == 0) {
        Py_CLEAR(st->propagate);
    }
    else if (st->propagate == NULL) {
        st->propagate = Py_XNewRef(st->pending);
    }
    return 0;
}

/* The errors are raised, and so a cancellation from outside is not: the task is cancelled again, for its next await. The
 * count of requests stays what it was. 0 or -1. */
static int
renew_cancellation(corolla_group *group)
{
    int64_t requests = 0;
    if (group->parent == NULL) {
        return 0;
    }
    if (corolla_any_cancelling(group->state, group->parent, &requests) < 0) {
        return -1;
    }
    if (requests == 0) {
        return 0;
    }
    if (corolla_any_uncancel(group->state, group->parent, &requests) < 0) {
        return -1;
    }
    return corolla_any_cancel(group->state, group->parent, NULL) < 0 ? -1 : 0;
}

/* Always -1, with the errors raised as a group. Alone, the GeneratorExit of the body is raised as it is: an asynchronous
 * generator that is closed has to end with that. */
static int
raise_errors(group_exit_state *st)
{
    corolla_group *group = st->group;
    if (renew_cancellation(group) < 0) {
        return -1;
    }
    if (st->type != NULL && st->exc != NULL && corolla_group_error_count(group) == 1) {
        int closing = PyObject_IsSubclass(st->type, PyExc_GeneratorExit);
        if (closing != 0) {
            return closing < 0 ? -1 : raise_again(st->exc);
        }
    }
    PyObject *exc =
        PyObject_CallFunction(PyExc_BaseExceptionGroup, "sO", "unhandled errors in a TaskGroup", group->errors);
    if (exc != NULL) {
        PyException_SetCause(exc, NULL); /* from None */
        raise_again(exc);
        Py_DECREF(exc);
    }
    return -1;
}

/* All tasks are done. 0 if nothing is to be raised, or -1. */
static int
end_exit(group_exit_state *st)
{
    corolla_group *group = st->group;
    if (group->base_error != NULL) {
        return raise_base_error(group);
    }
    if (take_back_cancellation(st) < 0) {
        return -1;
    }
    if (st->propagate != NULL && corolla_group_error_count(group) == 0) {
        return raise_again(st->propagate);
    }
    if (st->type != NULL && !st->cancelled) {
        if (group->errors == NULL && (group->errors = PyList_New(0)) == NULL) {
            return -1;
        }
        if (PyList_Append(group->errors, st->exc != NULL ? st->exc : Py_None) < 0) {
            return -1;
        }
    }
    return corolla_group_error_count(group) > 0 ? raise_errors(st) : 0;
}

/* However it ends: exceptions hold frames, which hold the group. */
static void
forget(corolla_group *group)
{
    PyObject *raised = PyErr_GetRaisedException();
    Py_CLEAR(group->parent);
    Py_CLEAR(group->errors);
    Py_CLEAR(group->base_error);
    Py_CLEAR(group->on_completed);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* What to await until the last task is done. 0 or -1. */
static int
prepare_wait(corolla_group *group)
{
    if (group->on_completed != NULL) {
        return 0;
    }
    if (group->loop == NULL) {
        PyErr_Format(PyExc_RuntimeError, "TaskGroup %R has not been entered", group);
        return -1;
    }
    PyObject *future = corolla_loop_future(group->state, group->loop);
    Py_XSETREF(group->on_completed, future);
    return future == NULL ? -1 : 0;
}

static corolla_step
exit_body(corolla_coro *co, PyObject *value)
{
    group_exit_state *st = corolla_coro_state(co);
    corolla_group *group = st->group;
    COROLLA_BEGIN(co);
    if (begin_exit(st) < 0) {
        return COROLLA_RAISE;
    }
    while (corolla_group_count(group) > 0) {
        if (prepare_wait(group) < 0) {
            return COROLLA_RAISE;
        }
        /* Broken off, it is done: each round has its own. */
        COROLLA_AWAIT(co, group->on_completed);
        if (value == NULL && keep_cancellation(st) < 0) {
            return COROLLA_RAISE;
        }
        Py_CLEAR(group->on_completed);
    }
    return end_exit(st) < 0 ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_True));
    COROLLA_END(co);
}

static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    corolla_step step = exit_body(co, value);
    if (step != COROLLA_SUSPEND) {
        forget(((group_exit_state *)corolla_coro_state(co))->group);
    }
    return step;
}

const corolla_coro_spec corolla_group_exit_spec = {
    .name = "__aexit__",
    .qualname = "TaskGroup.__aexit__",
    .size = sizeof(group_exit_state),
    .step = exit_step,
    .traverse = exit_traverse,
    .clear = exit_clear,
};
