/* Task as Python sees it. What it does is in task.c. */
#include "../args.h"
#include "callback.h"
#include "freelist.h"

/* ---- Life -------------------------------------------------------------------------------- */

static PyObject *
task_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    corolla_state *state = corolla_state_of_type(type);
    if (state == NULL) {
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    corolla_future *fut = (corolla_future *)self;
    fut->state = state;
    fut->is_task = true;
    corolla_state_hold(state);
    return self;
}

static int
task_tp_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"coro", "loop", "name", "context", "eager_start", NULL};
    PyObject *coro, *loop = NULL, *name = NULL, *context = NULL;
    int eager = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOOp:Task", names, &coro, &loop, &name, &context, &eager)) {
        return -1;
    }
    corolla_task *task = (corolla_task *)self;
    if (corolla_future_init(&task->future, loop) < 0) {
        return -1;
    }
    return corolla_task_setup(task, coro, name, context, eager);
}

static void
report_destroyed(corolla_task *task)
{
    corolla_future *fut = &task->future;
    corolla_state *state = fut->state;
    PyObject *message = PyUnicode_FromString("Task was destroyed but it is pending!");
    PyObject *context = PyDict_New();
    if (context == NULL || message == NULL || PyDict_SetItem(context, state->s.task, (PyObject *)task) < 0 ||
        PyDict_SetItem(context, state->s.message, message) < 0 ||
        (fut->source_traceback != NULL &&
         PyDict_SetItem(context, state->s.source_traceback, fut->source_traceback) < 0) ||
        corolla_report_context(state, fut->loop, context) < 0) {
        PyErr_WriteUnraisable((PyObject *)task);
    }
    Py_XDECREF(message);
    Py_XDECREF(context);
}

static void
task_tp_finalize(PyObject *self)
{
    corolla_task *task = (corolla_task *)self;
    task->future.finalized = true;
    corolla_task_unlink(task);
    if (task->future.loop == NULL) {
        return;
    }
    PyObject *raised = PyErr_GetRaisedException();
    /* In a forked child it is but a copy of the parent's that goes. */
    bool inherited = task->future.core != NULL && corolla_core_is_inherited(task->future.core);
    if (task->future.status == COROLLA_PENDING && task->log_destroy_pending && !inherited) {
        report_destroyed(task);
    }
    if (task->future.log_traceback) {
        corolla_future_report_unretrieved(&task->future);
    }
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

static int
task_tp_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_task *task = (corolla_task *)self;
    Py_VISIT(task->coro);
    Py_VISIT(task->queued.context);
    Py_VISIT(task->name);
    Py_VISIT(task->fut_waiter);
    return corolla_future_traverse(self, visit, arg);
}

int
corolla_task_clear(PyObject *self)
{
    corolla_task *task = (corolla_task *)self;
    Py_CLEAR(task->coro);
    Py_CLEAR(task->queued.context);
    Py_CLEAR(task->name);
    Py_CLEAR(task->fut_waiter);
    return corolla_future_clear(self);
}

static void
task_tp_dealloc(PyObject *self)
{
    corolla_task *task = (corolla_task *)self;
    corolla_state *state = task->future.state;
    /* Whatever a finaliser of a subclass does, the dead are not on the list. */
    corolla_task_unlink(task);
    if (task->future.log_traceback || task->future.status == COROLLA_PENDING || Py_TYPE(self) != state->task_type) {
        corolla_task_track(task); /* an exception handler may keep it */
        if (PyObject_CallFinalizerFromDealloc(self) < 0) {
            return; /* resurrected */
        }
    }
    PyObject_GC_UnTrack(self);
    if (task->future.weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    corolla_future_bury(self);
}

#if PY_VERSION_HEX < 0x030C0000
/* 3.11 knows no eager tasks: its own function asserts that there is a coroutine. */
static PyObject *
repr_without_coroutine(corolla_task *task)
{
    PyObject *text = NULL, *shown = NULL;
    PyObject *info = PyObject_CallOneArg(task->future.state->future_repr_info, (PyObject *)task);
    PyObject *name = corolla_task_name(task);
    PyObject *space = PyUnicode_FromString(" ");
    if (info != NULL && name != NULL && space != NULL) {
        shown = PyUnicode_FromFormat("name=%R", name);
    }
    if (shown != NULL && PyList_Insert(info, 1, shown) == 0) {
        Py_SETREF(shown, PyUnicode_Join(space, info));
        text = shown == NULL ? NULL : PyUnicode_FromFormat("<Task %U>", shown);
    }
    Py_XDECREF(shown);
    Py_XDECREF(space);
    Py_XDECREF(name);
    Py_XDECREF(info);
    return text;
}
#endif

static PyObject *
task_tp_repr(PyObject *self)
{
    corolla_future *fut = (corolla_future *)self;
    if (fut->loop == NULL) {
        return PyUnicode_FromString("<Task not initialized>");
    }
#if PY_VERSION_HEX < 0x030C0000
    if (((corolla_task *)self)->coro == NULL) {
        return repr_without_coroutine((corolla_task *)self);
    }
#endif
    return PyObject_CallOneArg(fut->state->task_repr, self);
}

/* ---- Methods ----------------------------------------------------------------------------- */

PyDoc_STRVAR(set_result_doc, "set_result($self, result, /)\n--\n\nRaise RuntimeError: the coroutine sets it.");

static PyObject *
task_set_result(PyObject *self, PyObject *result)
{
    (void)self;
    (void)result;
    PyErr_SetString(PyExc_RuntimeError, "Task does not support set_result operation");
    return NULL;
}

PyDoc_STRVAR(set_exception_doc, "set_exception($self, exception, /)\n--\n\nRaise RuntimeError: the coroutine sets it.");

static PyObject *
task_set_exception(PyObject *self, PyObject *exc)
{
    (void)self;
    (void)exc;
    PyErr_SetString(PyExc_RuntimeError, "Task does not support set_exception operation");
    return NULL;
}

PyDoc_STRVAR(
    cancel_doc,
    "cancel($self, /, msg=None)\n--\n\n"
    "Ask the task to end: CancelledError is raised in its coroutine on the loop's next turn.\n\n"
    "Return False if it is done already. The coroutine may clean up, and may refuse. msg: what the CancelledError\n"
    "carries. Specified by asyncio.Task.cancel().");

static PyObject *
task_cancel(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"msg", NULL};
    static const corolla_signature sig = {"cancel", names, 0, 1, NULL};
    PyObject *msg;
    corolla_task *task = (corolla_task *)self;
    if (corolla_unpack(&sig, args, nargs, kwnames, &msg) < 0 || corolla_future_check(&task->future) < 0) {
        return NULL;
    }
    int rc = corolla_task_cancel(task, msg);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

PyDoc_STRVAR(cancelling_doc,
             "cancelling($self, /)\n--\n\n"
             "Return how many cancellation requests are pending: calls to cancel() less those to uncancel().");

static PyObject *
task_cancelling(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLongLong(((corolla_task *)self)->cancel_requests);
}

int64_t
corolla_task_uncancel(corolla_task *task)
{
    if (task->cancel_requests > 0 && --task->cancel_requests == 0) {
        task->must_cancel = false;
    }
    return task->cancel_requests;
}

PyDoc_STRVAR(uncancel_doc,
             "uncancel($self, /)\n--\n\n"
             "Take back one call to cancel(). Return how many requests remain.\n\n"
             "At none, a CancelledError not raised yet is not raised any more. Specified by asyncio.Task.uncancel().");

static PyObject *
task_uncancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLongLong(corolla_task_uncancel((corolla_task *)self));
}

PyDoc_STRVAR(get_name_doc, "get_name($self, /)\n--\n\nReturn the task's name.");

static PyObject *
task_get_name(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_task *task = (corolla_task *)self;
    if (corolla_future_check(&task->future) < 0) {
        return NULL;
    }
    return corolla_task_name(task);
}

PyDoc_STRVAR(set_name_doc, "set_name($self, value, /)\n--\n\nSet the task's name to str(value).");

static PyObject *
task_set_name(PyObject *self, PyObject *value)
{
    PyObject *text = PyUnicode_CheckExact(value) ? Py_NewRef(value) : PyObject_Str(value);
    if (text == NULL) {
        return NULL;
    }
    Py_XSETREF(((corolla_task *)self)->name, text);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_coro_doc,
             "get_coro($self, /)\n--\n\n"
             "Return the coroutine, or None for a task that started eagerly and ended in its first step.");

static PyObject *
task_get_coro(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_task *task = (corolla_task *)self;
    return Py_NewRef(task->coro != NULL ? task->coro : Py_None);
}

PyDoc_STRVAR(get_context_doc, "get_context($self, /)\n--\n\n"
                              "Return the contextvars.Context the task runs in (PEP 567).");

static PyObject *
task_get_context(PyObject *self, PyObject *unused)
{
    (void)unused;
    corolla_task *task = (corolla_task *)self;
    return task->queued.context == NULL ? Py_NewRef(Py_None) : Py_XNewRef(corolla_own_context(&task->queued));
}

PyDoc_STRVAR(
    get_stack_doc,
    "get_stack($self, /, *, limit=None)\n--\n\n"
    "Return the frames of the coroutine where it is suspended, or of the traceback it ended with, oldest first.\n\n"
    "limit: how many at most, all if None. Specified by asyncio.Task.get_stack().");

static PyObject *
task_get_stack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"limit", NULL};
    static const corolla_signature sig = {"get_stack", names, 0, 0, NULL};
    PyObject *limit;
    corolla_future *fut = (corolla_future *)self;
    if (corolla_unpack(&sig, args, nargs, kwnames, &limit) < 0 || corolla_future_check(fut) < 0) {
        return NULL;
    }
    PyObject *stack[2] = {self, limit != NULL ? limit : Py_None};
    return PyObject_Vectorcall(fut->state->task_get_stack, stack, 2, NULL);
}

PyDoc_STRVAR(print_stack_doc, "print_stack($self, /, *, limit=None, file=None)\n--\n\n"
                              "Print the frames of get_stack(), or the traceback.\n\n"
                              "file: a text stream, sys.stderr if None. Specified by asyncio.Task.print_stack().");

static PyObject *
task_print_stack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"limit", "file", NULL};
    static const corolla_signature sig = {"print_stack", names, 0, 0, NULL};
    PyObject *given[2];
    corolla_future *fut = (corolla_future *)self;
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0 || corolla_future_check(fut) < 0) {
        return NULL;
    }
    PyObject *stack[3] = {self, given[0] != NULL ? given[0] : Py_None, given[1] != NULL ? given[1] : Py_None};
    return PyObject_Vectorcall(fut->state->task_print_stack, stack, 3, NULL);
}

/* ---- Attributes -------------------------------------------------------------------------- */

static PyObject *
get_log_destroy_pending(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_task *)self)->log_destroy_pending);
}

static int
set_log_destroy_pending(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "cannot delete attribute");
        return -1;
    }
    int truth = PyObject_IsTrue(value);
    if (truth < 0) {
        return -1;
    }
    ((corolla_task *)self)->log_destroy_pending = truth;
    return 0;
}

static PyObject *
get_must_cancel(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((corolla_task *)self)->must_cancel);
}

static PyObject *
get_coro_attr(PyObject *self, void *unused)
{
    (void)unused;
    return task_get_coro(self, NULL);
}

static PyObject *
get_fut_waiter(PyObject *self, void *unused)
{
    (void)unused;
    corolla_task *task = (corolla_task *)self;
    return Py_NewRef(task->fut_waiter != NULL ? task->fut_waiter : Py_None);
}

static PyObject *
get_cancel_requests(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLongLong(((corolla_task *)self)->cancel_requests);
}

static PyMethodDef task_methods[] = {
    {"set_result", task_set_result, METH_O, set_result_doc},
    {"set_exception", task_set_exception, METH_O, set_exception_doc},
    {"cancel", (PyCFunction)(void (*)(void))task_cancel, METH_FASTCALL | METH_KEYWORDS, cancel_doc},
    {"cancelling", task_cancelling, METH_NOARGS, cancelling_doc},
    {"uncancel", task_uncancel, METH_NOARGS, uncancel_doc},
    {"get_name", task_get_name, METH_NOARGS, get_name_doc},
    {"set_name", task_set_name, METH_O, set_name_doc},
    {"get_coro", task_get_coro, METH_NOARGS, get_coro_doc},
    {"get_context", task_get_context, METH_NOARGS, get_context_doc},
    {"get_stack", (PyCFunction)(void (*)(void))task_get_stack, METH_FASTCALL | METH_KEYWORDS, get_stack_doc},
    {"print_stack", (PyCFunction)(void (*)(void))task_print_stack, METH_FASTCALL | METH_KEYWORDS, print_stack_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef task_getset[] = {
    {"_log_destroy_pending", get_log_destroy_pending, set_log_destroy_pending, NULL, NULL},
    {"_must_cancel", get_must_cancel, NULL, NULL, NULL},
    {"_coro", get_coro_attr, NULL, NULL, NULL},
    {"_fut_waiter", get_fut_waiter, NULL, NULL, NULL},
    {"_num_cancels_requested", get_cancel_requests, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    task_doc,
    "Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\n"
    "A coroutine that runs on an event loop, wrapped in a Future.\n\n"
    "coro: a coroutine; TypeError for anything else. loop: the event loop, the current one if None. name: str() of it\n"
    "is the task's name, Task-<number> if None. context: the contextvars.Context it runs in, a copy of the current one\n"
    "if None. eager_start: run the first step at once, if this is the thread that runs the loop. Specified by\n"
    "asyncio.Task and PEP 3156.");

static PyType_Slot task_slots[] = {
    {Py_tp_doc, (void *)task_doc},
    {Py_tp_new, task_tp_new},
    {Py_tp_init, task_tp_init},
    {Py_tp_dealloc, task_tp_dealloc},
    {Py_tp_finalize, task_tp_finalize},
    {Py_tp_traverse, task_tp_traverse},
    {Py_tp_clear, corolla_task_clear},
    {Py_tp_repr, task_tp_repr},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {0, NULL},
};

PyType_Spec corolla_task_spec = {
    .name = "corolla.Task",
    .basicsize = sizeof(corolla_task),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = task_slots,
};
