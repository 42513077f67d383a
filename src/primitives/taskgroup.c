/* TaskGroup: its tasks, what becomes of them, and the type. Entering and leaving it are in taskgroup_exit.c. */
#include <stddef.h>

#include "taskgroup.h"

static corolla_group *
group_of(PyObject *self)
{
    return (corolla_group *)self;
}

Py_ssize_t
corolla_group_count(const corolla_group *group)
{
    return group->tasks == NULL ? 0 : PySet_GET_SIZE(group->tasks);
}

Py_ssize_t
corolla_group_error_count(const corolla_group *group)
{
    return group->errors == NULL ? 0 : PyList_GET_SIZE(group->errors);
}

/* ---- Which methods are somebody else's ----------------------------------------------------- */

static const struct {
    size_t name; /* offset into corolla_state.s */
    unsigned bit;
} hooks[] = {
    {offsetof(corolla_state, s._abort), GROUP_OWN_ABORT},
    {offsetof(corolla_state, s._on_task_done), GROUP_OWN_TASK_DONE},
    {offsetof(corolla_state, s._is_base_error), GROUP_OWN_BASE_ERROR},
};

static int
find_overrides(corolla_group *group, PyTypeObject *type)
{
    corolla_state *state = group->state;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(hooks); i++) {
        PyObject *name = *(PyObject **)((char *)state + hooks[i].name);
        PyObject *theirs = PyObject_GetAttr((PyObject *)type, name);
        PyObject *ours = PyObject_GetAttr((PyObject *)state->task_group_type, name);
        bool known = theirs != NULL && ours != NULL;
        if (known && theirs != ours) {
            group->own |= hooks[i].bit;
        }
        Py_XDECREF(theirs);
        Py_XDECREF(ours);
        if (!known) {
            return -1;
        }
    }
    return 0;
}

/* ---- Errors -------------------------------------------------------------------------------- */

static bool
is_base_error(PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, PyExc_SystemExit) ||
           PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt);
}

int
corolla_group_is_base_error(corolla_group *group, PyObject *exc)
{
    if (!(group->own & GROUP_OWN_BASE_ERROR)) {
        return is_base_error(exc);
    }
    PyObject *answer = PyObject_CallMethodOneArg((PyObject *)group, group->state->s._is_base_error, exc);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return truth;
}

int
corolla_group_note_base_error(corolla_group *group, PyObject *exc)
{
    int is = corolla_group_is_base_error(group, exc);
    if (is > 0 && group->base_error == NULL) {
        group->base_error = Py_NewRef(exc);
    }
    return is < 0 ? -1 : 0;
}

/* ---- Aborting ------------------------------------------------------------------------------ */

static int
cancel_unless_done(corolla_state *state, PyObject *task)
{
    int done = corolla_any_done(state, task);
    return done != 0 ? (done < 0 ? -1 : 0) : corolla_any_cancel(state, task, NULL) < 0 ? -1 : 0;
}

/* Cancels all of them; the first error is raised after the last. 0 or -1. */
static int
abort_tasks(corolla_group *group)
{
    PyObject *failure = NULL;
    group->aborting = true;
    if (corolla_group_count(group) == 0) {
        return 0;
    }
    PyObject *tasks = PySequence_List(group->tasks); /* cancel() of a task that is not ours runs code of others */
    if (tasks == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tasks); i++) {
        if (cancel_unless_done(group->state, PyList_GET_ITEM(tasks, i)) == 0) {
            continue;
        }
        if (failure == NULL) {
            failure = PyErr_GetRaisedException();
        }
        else {
            PyErr_Clear();
        }
    }
    Py_DECREF(tasks);
    if (failure != NULL) {
        PyErr_SetRaisedException(failure);
        return -1;
    }
    return 0;
}

int
corolla_group_abort(corolla_group *group)
{
    if (!(group->own & GROUP_OWN_ABORT)) {
        return abort_tasks(group);
    }
    PyObject *done = PyObject_CallMethodNoArgs((PyObject *)group, group->state->s._abort);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Aborts, and breaks off the body by cancelling the task it runs in, which __aexit__() takes back. 0 or -1. */
static int
abort_with_parent(corolla_group *group)
{
    if (corolla_group_abort(group) < 0) {
        return -1;
    }
    if (group->parent == NULL || group->parent_cancel_requested) {
        return 0;
    }
    group->parent_cancel_requested = true;
    PyObject *parent = Py_NewRef(group->parent);
    int cancelled = corolla_any_cancel(group->state, parent, NULL);
    Py_DECREF(parent);
    return cancelled < 0 ? -1 : 0;
}

/* ---- A task is done ------------------------------------------------------------------------ */

static int
report_orphan(corolla_group *group, PyObject *task, PyObject *exc)
{
    corolla_state *state = group->state;
    PyObject *message = PyUnicode_FromFormat("Task %R has errored out but its parent task %S is already completed",
                                             task, group->parent != NULL ? group->parent : Py_None);
    PyObject *context = PyDict_New();
    int rc = -1;
    if (message != NULL && context != NULL && PyDict_SetItem(context, state->s.message, message) == 0 &&
        PyDict_SetItem(context, state->s.exception, exc) == 0 && PyDict_SetItem(context, state->s.task, task) == 0) {
        rc = group->loop == NULL ? 0 : corolla_report_context(state, group->loop, context);
    }
    Py_XDECREF(message);
    Py_XDECREF(context);
    return rc;
}

/* The last one is: what __aexit__() waits on, if it does, is set. 0 or -1. */
static int
tell_completed(corolla_group *group)
{
    if (group->on_completed == NULL || corolla_group_count(group) > 0) {
        return 0;
    }
    PyObject *future = Py_NewRef(group->on_completed);
    int done = corolla_any_done(group->state, future);
    int rc = done == 0 ? corolla_any_set_result(group->state, future, Py_True) : done < 0 ? -1 : 0;
    Py_DECREF(future);
    return rc;
}

static int
task_failed(corolla_group *group, PyObject *task, PyObject *exc)
{
    corolla_state *state = group->state;
    if (group->errors == NULL || group->parent == NULL) {
        return report_orphan(group, task, exc); /* __aexit__() was broken off, and is over */
    }
    if (PyList_Append(group->errors, exc) < 0 || corolla_group_note_base_error(group, exc) < 0) {
        return -1;
    }
    int over = corolla_any_done(state, group->parent);
    if (over != 0) {
        return over < 0 ? -1 : report_orphan(group, task, exc);
    }
    return group->aborting || group->parent_cancel_requested ? 0 : abort_with_parent(group);
}

static int
task_done(PyObject *task, PyObject *arg)
{
    corolla_group *group = (corolla_group *)arg;
    corolla_state *state = group->state;
    if (group->tasks != NULL && PySet_Discard(group->tasks, task) < 0) {
        return -1;
    }
    if (tell_completed(group) < 0) {
        return -1;
    }
    int cancelled = corolla_any_cancelled(state, task);
    if (cancelled != 0) {
        return cancelled < 0 ? -1 : 0;
    }
    PyObject *exc = corolla_any_exception(state, task);
    if (exc == NULL) {
        return -1;
    }
    int rc = exc == Py_None ? 0 : task_failed(group, task, exc);
    Py_DECREF(exc);
    return rc;
}

/* Has the group told when a task is done. 0 or -1. */
static int
watch(corolla_group *group, PyObject *task)
{
    corolla_state *state = group->state;
    if (!(group->own & GROUP_OWN_TASK_DONE)) {
        PyObject *callback = corolla_any_watch(state, task, task_done, Py_NewRef((PyObject *)group));
        Py_XDECREF(callback);
        return callback == NULL ? -1 : 0;
    }
    PyObject *method = PyObject_GetAttr((PyObject *)group, state->s._on_task_done);
    PyObject *done = method == NULL ? NULL : PyObject_CallMethodOneArg(task, state->s.add_done_callback, method);
    Py_XDECREF(method);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* ---- create_task() ------------------------------------------------------------------------- */

/* RuntimeError, and the coroutine closed, if no task can be added now. 0 or -1. */
static int
check_open(corolla_group *group, PyObject *coro)
{
    const char *what = NULL;
    if (!group->entered || group->tasks == NULL) {
        what = "has not been entered";
    }
    else if (group->exiting && corolla_group_count(group) == 0) {
        what = "is finished";
    }
    else if (group->aborting) {
        what = "is shutting down";
    }
    if (what == NULL) {
        return 0;
    }
    PyObject *closed = PyObject_CallMethodNoArgs(coro, group->state->s.close);
    if (closed != NULL) {
        Py_DECREF(closed);
        PyErr_Format(PyExc_RuntimeError, "TaskGroup %R %s", group, what);
    }
    return -1;
}

/* What create_task() was given beside the coroutine, as far as we know it. Borrowed. */
typedef struct {
    PyObject *name, *context;
    bool eager;
} TaskOptions;

/* 1, 0 for a keyword that only the loop may know, or -1. */
static int
take_options(PyObject *const *values, PyObject *kwnames, TaskOptions *o)
{
    *o = (TaskOptions){NULL, NULL, false};
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(key, "name") == 0) {
            o->name = values[i] == Py_None ? NULL : values[i];
        }
        else if (PyUnicode_CompareWithASCIIString(key, "context") == 0) {
            o->context = values[i] == Py_None ? NULL : values[i];
        }
        else if (PyUnicode_CompareWithASCIIString(key, "eager_start") == 0) {
            int eager = PyObject_IsTrue(values[i]);
            if (eager < 0) {
                return -1;
            }
            o->eager = eager;
        }
        else {
            return 0;
        }
    }
    return 1;
}

/* loop.create_task(coro, **others): new reference or NULL. */
static PyObject *
ask_loop(corolla_group *group, PyObject *coro, PyObject *const *values, PyObject *kwnames)
{
    PyObject *task = NULL, *args = NULL, *kwargs = NULL;
    PyObject *method = PyObject_GetAttr(group->loop, group->state->s.create_task);
    if (method == NULL || (args = PyTuple_Pack(1, coro)) == NULL || (kwargs = PyDict_New()) == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *key = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(key, "coro") != 0 && PyDict_SetItem(kwargs, key, values[i]) < 0) {
            goto done;
        }
    }
    task = PyObject_Call(method, args, kwargs);
done:
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return task;
}

static PyObject *
new_task(corolla_group *group, PyObject *coro, PyObject *const *values, PyObject *kwnames)
{
    corolla_core *core = group->core;
    if (core != NULL && !(core->overridden & COROLLA_OWN_CREATE_TASK) && !core->factory) {
        TaskOptions o;
        int known = take_options(values, kwnames, &o);
        if (known < 0 || (known > 0 && corolla_core_check_closed(core) < 0)) {
            return NULL;
        }
        if (known) {
            return corolla_task_new(core, coro, o.name, o.context, o.eager);
        }
    }
    return ask_loop(group, coro, values, kwnames);
}

/* The coroutine among the arguments, borrowed; NULL with TypeError. */
static PyObject *
find_coroutine(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1) {
        return args[0];
    }
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "create_task() takes exactly one positional argument (%zd given)", nargs);
        return NULL;
    }
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), "coro") == 0) {
            return args[i];
        }
    }
    PyErr_SetString(PyExc_TypeError, "create_task() missing required argument: 'coro'");
    return NULL;
}

PyDoc_STRVAR(
    create_task_doc,
    "create_task($self, /, coro, **kwargs)\n--\n\n"
    "Run a coroutine as a task of this group. Return the Task.\n\n"
    "kwargs: what loop.create_task() takes: name, context, eager_start. Raises RuntimeError, and closes the coroutine,\n"
    "if the group has not been entered, is finished or is shutting down. Specified by\n"
    "asyncio.TaskGroup.create_task() of CPython 3.14.");

static PyObject *
group_create_task(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    corolla_group *group = group_of(self);
    PyObject *coro = find_coroutine(args, nargs, kwnames);
    if (coro == NULL || check_open(group, coro) < 0) {
        return NULL;
    }
    PyObject *task = new_task(group, coro, args + nargs, kwnames);
    if (task == NULL) {
        return NULL;
    }
    /* One that is done already, having started eagerly, too: if it failed, that is to break off the body at its next
     * await, not here (python/cpython issues 128550 and 128588). */
    if (group->tasks == NULL || PySet_Add(group->tasks, task) < 0) {
        goto fail;
    }
    if (watch(group, task) < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        if (group->tasks != NULL && PySet_Discard(group->tasks, task) < 0) {
            PyErr_Clear();
        }
        PyErr_SetRaisedException(exc);
        goto fail;
    }
    /* In its first step it may have had the group cancelled, which did not know of it. */
    if (group->aborting && cancel_unless_done(group->state, task) < 0) {
        goto fail;
    }
    return task;
fail:
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_RuntimeError, "TaskGroup %R is finished", group);
    }
    Py_DECREF(task);
    return NULL;
}

/* ---- Other methods ------------------------------------------------------------------------- */

PyDoc_STRVAR(
    cancel_doc,
    "cancel($self, /)\n--\n\n"
    "Cancel the tasks of the group and the body that runs in it; async with then ends without an exception.\n\n"
    "Before the group is entered, it is cancelled as soon as it is; once it has ended, nothing happens.\n"
    "Specified by asyncio.TaskGroup.cancel() of CPython 3.15.");

PyObject *
corolla_group_cancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_group *group = group_of(self);
    if (!group->entered) {
        group->cancel_on_enter = true;
        Py_RETURN_NONE;
    }
    bool over = group->exiting && corolla_group_count(group) == 0;
    if (!over && !group->aborting && abort_with_parent(group) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* A new coroutine of the group. */
static PyObject *
group_aenter(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_coro *co = corolla_coro_new(group_of(self)->state, &corolla_group_enter_spec);
    if (co != NULL) {
        ((group_enter_state *)corolla_coro_state(co))->group = (corolla_group *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

static PyObject *
group_aexit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "__aexit__() takes exactly 3 arguments (%zd given)", nargs);
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(group_of(self)->state, &corolla_group_exit_spec);
    if (co == NULL) {
        return NULL;
    }
    group_exit_state *st = corolla_coro_state(co);
    st->group = (corolla_group *)Py_NewRef(self);
    st->type = args[0] == Py_None ? NULL : Py_NewRef(args[0]);
    st->exc = args[1] == Py_None ? NULL : Py_NewRef(args[1]);
    return (PyObject *)co;
}

static PyObject *
group_abort(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (abort_tasks(group_of(self)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
group_on_task_done(PyObject *self, PyObject *task)
{
    if (task_done(task, self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
group_is_base_error(PyObject *self, PyObject *exc)
{
    (void)self;
    return PyBool_FromLong(is_base_error(exc));
}

PyMethodDef corolla_group_methods[] = {
    {"create_task", (PyCFunction)(void (*)(void))group_create_task, METH_FASTCALL | METH_KEYWORDS, create_task_doc},
    {"cancel", corolla_group_cancel, METH_NOARGS, cancel_doc},
    {"__aenter__", group_aenter, METH_NOARGS, "__aenter__($self, /)\n--\n\nCoroutine. See PEP 492."},
    {"__aexit__", (PyCFunction)(void (*)(void))group_aexit, METH_FASTCALL,
     "__aexit__($self, exc_type, exc, tb, /)\n--\n\nCoroutine: wait for the tasks. See PEP 492."},
    {"_abort", group_abort, METH_NOARGS, "_abort($self, /)\n--\n\nCancel the tasks. A subclass may replace it."},
    {"_on_task_done", group_on_task_done, METH_O,
     "_on_task_done($self, task, /)\n--\n\nCalled for each task. A subclass may replace it."},
    {"_is_base_error", group_is_base_error, METH_O,
     "_is_base_error($self, exc, /)\n--\n\n"
     "Whether an exception is raised as it is, in no group. A subclass may replace it."},
    {NULL, NULL, 0, NULL},
};

/* ---- Life ---------------------------------------------------------------------------------- */

/* As it is before it is entered. 0 or -1. */
static int
reset(corolla_group *group)
{
    PyObject *tasks = PySet_New(NULL), *errors = PyList_New(0);
    if (tasks == NULL || errors == NULL) {
        Py_XDECREF(tasks);
        Py_XDECREF(errors);
        return -1;
    }
    group->entered = group->exiting = group->aborting = false;
    group->parent_cancel_requested = group->cancel_on_enter = false;
    group->core = NULL;
    Py_XSETREF(group->tasks, tasks);
    Py_XSETREF(group->errors, errors);
    Py_CLEAR(group->loop);
    Py_CLEAR(group->parent);
    Py_CLEAR(group->base_error);
    Py_CLEAR(group->on_completed);
    return 0;
}

static PyObject *
group_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    PyObject *self = state == NULL ? NULL : type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    corolla_group *group = group_of(self);
    group->state = state;
    corolla_state_hold(state);
    bool plain = type == state->task_group_type;
    if (corolla_dict_for_cache(&group->dict) < 0 || reset(group) < 0 || (!plain && find_overrides(group, type) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static int
group_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {NULL};
    static const corolla_signature sig = {"TaskGroup", names, 0, 0, NULL};
    corolla_group *group = group_of(self);
    if (corolla_unpack_tuple(&sig, args, kwargs, NULL) < 0) {
        return -1;
    }
    bool fresh = !group->entered && !group->exiting && !group->aborting && corolla_group_count(group) == 0;
    return fresh ? 0 : reset(group);
}

static int
group_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_group *group = group_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(group->dict);
    Py_VISIT(group->loop);
    Py_VISIT(group->parent);
    Py_VISIT(group->tasks);
    Py_VISIT(group->errors);
    Py_VISIT(group->base_error);
    Py_VISIT(group->on_completed);
    return 0;
}

static int
group_clear(PyObject *self)
{
    corolla_group *group = group_of(self);
    group->core = NULL;
    Py_CLEAR(group->dict);
    Py_CLEAR(group->loop);
    Py_CLEAR(group->parent);
    Py_CLEAR(group->tasks);
    Py_CLEAR(group->errors);
    Py_CLEAR(group->base_error);
    Py_CLEAR(group->on_completed);
    return 0;
}

static void
group_dealloc(PyObject *self)
{
    corolla_group *group = group_of(self);
    corolla_state *state = group->state;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (group->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    group_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

/* ---- As Python sees it --------------------------------------------------------------------- */

static PyObject *
group_repr(PyObject *self)
{
    corolla_group *group = group_of(self);
    char tasks[40] = "", errors[40] = "";
    if (corolla_group_count(group) > 0) {
        PyOS_snprintf(tasks, sizeof tasks, " tasks=%zd", corolla_group_count(group));
    }
    if (corolla_group_error_count(group) > 0) {
        PyOS_snprintf(errors, sizeof errors, " errors=%zd", corolla_group_error_count(group));
    }
    const char *how = group->aborting ? " cancelling" : group->entered ? " entered" : "";
    return PyUnicode_FromFormat("<TaskGroup%s%s%s>", tasks, errors, how);
}

static PyGetSetDef group_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef group_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_group, weakrefs), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(corolla_group, dict), READONLY, NULL},
    {"_entered", T_BOOL, offsetof(corolla_group, entered), 0, NULL},
    {"_exiting", T_BOOL, offsetof(corolla_group, exiting), 0, NULL},
    {"_aborting", T_BOOL, offsetof(corolla_group, aborting), 0, NULL},
    {"_parent_cancel_requested", T_BOOL, offsetof(corolla_group, parent_cancel_requested), 0, NULL},
    {"_cancel_on_enter", T_BOOL, offsetof(corolla_group, cancel_on_enter), 0, NULL},
    {"_loop", T_OBJECT, offsetof(corolla_group, loop), READONLY, NULL},
    {"_parent_task", T_OBJECT, offsetof(corolla_group, parent), READONLY, NULL},
    {"_tasks", T_OBJECT, offsetof(corolla_group, tasks), READONLY, NULL},
    {"_errors", T_OBJECT, offsetof(corolla_group, errors), READONLY, NULL},
    {"_base_error", T_OBJECT, offsetof(corolla_group, base_error), READONLY, NULL},
    {"_on_completed_fut", T_OBJECT, offsetof(corolla_group, on_completed), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    group_doc,
    "TaskGroup()\n--\n\n"
    "An asynchronous context manager that holds tasks: async with ends when the last of them has.\n\n"
    "When one raises anything but CancelledError, the others and the body are cancelled, and what was raised comes out\n"
    "as an ExceptionGroup; KeyboardInterrupt and SystemExit come out as they are. Specified by asyncio.TaskGroup of\n"
    "CPython 3.15.");

static PyType_Slot group_slots[] = {
    {Py_tp_doc, (void *)group_doc},
    {Py_tp_new, group_new},
    {Py_tp_init, group_init},
    {Py_tp_dealloc, group_dealloc},
    {Py_tp_traverse, group_traverse},
    {Py_tp_clear, group_clear},
    {Py_tp_repr, group_repr},
    {Py_tp_methods, corolla_group_methods},
    {Py_tp_getset, group_getset},
    {Py_tp_members, group_members},
    {0, NULL},
};

static PyType_Spec group_spec = {
    .name = "corolla.TaskGroup",
    .basicsize = sizeof(corolla_group),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = group_slots,
};

int
corolla_taskgroup_init(PyObject *module, corolla_state *state)
{
    state->task_group_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &group_spec, NULL);
    return state->task_group_type == NULL ? -1 : PyModule_AddType(module, state->task_group_type);
}
