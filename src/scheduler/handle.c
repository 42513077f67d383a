/* Handles: a callback that somebody asked for and may want to cancel. The Python types are in handle_type.c. */
#include "callback.h"
#include "freelist.h"

#include <math.h>
#include <string.h>

/* ---- Making and running ------------------------------------------------------------------ */

static PyObject *
get_source_traceback(corolla_core *core)
{
    PyObject *stack = PyObject_CallNoArgs(core->state->extract_stack);
    return stack;
}

/* Fills a fresh handle; on failure it is whole enough to be dropped. 0 or -1. */
static int
handle_fill(corolla_handle *h, corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
            PyObject *context)
{
    h->weakrefs = NULL;
    h->state = core->state;
    h->loop = Py_NewRef(core->loop);
    h->callback = Py_NewRef(callback);
    h->more = NULL;
    h->source_traceback = NULL;
    h->shown = NULL;
    h->nargs = 0;
    h->cancelled = h->threadsafe = h->running = false;
    h->untracked = true;
    if (context != NULL) {
        h->queued = (corolla_queued){Py_NewRef(context), false};
    }
    else if (corolla_queue_context(core, &h->queued) < 0) {
        return -1;
    }
    if (nargs <= COROLLA_INLINE_ARGS) {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            h->args[i] = Py_NewRef(args[i]);
        }
        h->nargs = (uint8_t)nargs;
    }
    else {
        h->more = PyTuple_New(nargs);
        if (h->more == NULL) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(h->more, i, Py_NewRef(args[i]));
        }
    }
    if (core->debug) {
        h->source_traceback = get_source_traceback(core);
        if (h->source_traceback == NULL) {
            return -1;
        }
    }
    return 0;
}

static void
handle_track(corolla_handle *h)
{
    if (h->untracked) {
        h->untracked = false;
        PyObject_GC_Track(h);
    }
}

corolla_handle *
corolla_handle_new_untracked(corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *context)
{
    corolla_state *state = core->state;
    PyObject *self = freelist_new(state, &state->freelists->handles, state->handle_type);
    if (self == NULL) {
        return NULL;
    }
    corolla_handle *h = (corolla_handle *)self;
    h->timer = false;
    if (handle_fill(h, core, callback, args, nargs, context) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return h;
}

void
corolla_handle_queued(corolla_core *core, corolla_handle *h)
{
    if (!core->running) {
        handle_track(h);
    }
}

void
corolla_track_job(corolla_job_fn fn, void *arg, void *unused)
{
    (void)unused;
    if (fn == corolla_handle_job) {
        handle_track(arg);
    }
    else if (fn == corolla_task_step_job) {
        corolla_task_track(arg);
    }
}

PyObject *
corolla_handle_new(corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    corolla_handle *h = corolla_handle_new_untracked(core, callback, args, nargs, context);
    if (h != NULL) {
        handle_track(h);
    }
    return (PyObject *)h;
}

PyObject *
corolla_call_soon(corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs, PyObject *context)
{
    corolla_handle *h = corolla_handle_new_untracked(core, callback, args, nargs, context);
    if (h == NULL) {
        return NULL;
    }
    if (corolla_core_post(core, corolla_handle_job, Py_NewRef((PyObject *)h)) < 0) {
        Py_DECREF(h);
        return NULL;
    }
    corolla_handle_queued(core, h);
    return (PyObject *)h;
}

PyObject *
corolla_call_at(corolla_core *core, double when, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                PyObject *context)
{
    corolla_state *state = core->state;
    int64_t deadline;
    if (corolla_deadline(when, &deadline) < 0) {
        return NULL;
    }
    PyObject *self = freelist_new(state, &state->freelists->timers, state->timer_handle_type);
    if (self == NULL) {
        return NULL;
    }
    corolla_timer_handle *th = (corolla_timer_handle *)self;
    th->handle.timer = true;
    th->when = when;
    th->given = NULL;
    th->scheduled = false;
    corolla_timer_init(&th->timer, corolla_handle_job, self);
    int rc = handle_fill(&th->handle, core, callback, args, nargs, context);
    if (rc == 0) {
        rc = corolla_core_check_closed(core); /* making the handle may have run code of others */
    }
    if (rc == 0 && (rc = corolla_timer_start(&core->reactor, &th->timer, deadline)) < 0) {
        PyErr_NoMemory();
    }
    if (rc < 0) {
        Py_DECREF(self);
        return NULL;
    }
    Py_INCREF(self); /* the heap's */
    th->scheduled = true;
    corolla_handle_queued(core, &th->handle);
    return self;
}

/* Drops what a handle would call. Takes everything out before the first decref. */
static void
handle_drop_call(corolla_handle *h)
{
    PyObject *callback = h->callback, *more = h->more;
    PyObject *args[COROLLA_INLINE_ARGS];
    uint8_t nargs = h->nargs;
    memcpy(args, h->args, nargs * sizeof *args);
    h->callback = NULL;
    h->more = NULL;
    h->nargs = 0;
    Py_XDECREF(callback);
    Py_XDECREF(more);
    for (uint8_t i = 0; i < nargs; i++) {
        Py_DECREF(args[i]);
    }
}

PyObject *
corolla_handle_args(corolla_handle *h)
{
    if (h->more != NULL) {
        return Py_NewRef(h->more);
    }
    /* Making the tuple may start a collection, and that may cancel the handle. */
    PyObject *held[COROLLA_INLINE_ARGS];
    uint8_t nargs = h->nargs;
    for (uint8_t i = 0; i < nargs; i++) {
        held[i] = Py_NewRef(h->args[i]);
    }
    PyObject *tuple = PyTuple_New(nargs);
    for (uint8_t i = 0; i < nargs; i++) {
        if (tuple != NULL) {
            PyTuple_SET_ITEM(tuple, i, held[i]);
        }
        else {
            Py_DECREF(held[i]);
        }
    }
    return tuple;
}

/* The callback as asyncio shows it, with its arguments only in debug mode where the standard library is new enough
 * to make that difference. */
PyObject *
corolla_handle_format(corolla_handle *h)
{
    PyObject *callback = Py_NewRef(h->callback);
    PyObject *args = corolla_handle_args(h);
    if (args == NULL) {
        Py_DECREF(callback);
        return NULL;
    }
    PyObject *text = NULL;
    if (!h->state->format_takes_debug) {
        text = PyObject_CallFunctionObjArgs(h->state->format_callback_source, callback, args, NULL);
    }
    else {
        PyObject *debug = PyObject_CallMethodNoArgs(h->loop, h->state->s.get_debug);
        PyObject *names = debug == NULL ? NULL : PyTuple_Pack(1, h->state->s.debug);
        if (names != NULL) {
            PyObject *stack[3] = {callback, args, debug};
            text = PyObject_Vectorcall(h->state->format_callback_source, stack, 2, names);
        }
        Py_XDECREF(names);
        Py_XDECREF(debug);
    }
    Py_DECREF(callback);
    Py_DECREF(args);
    return text;
}

int
corolla_handle_report(corolla_handle *h)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    int rc = 0;
    corolla_state *state = h->state;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = NULL, *message = NULL, *context = PyDict_New();
    text = h->callback != NULL ? corolla_handle_format(h) : PyObject_Repr((PyObject *)h);
    if (text != NULL) {
        message = PyUnicode_FromFormat("Exception in callback %U", text);
    }
    if (context == NULL || message == NULL || PyDict_SetItem(context, state->s.message, message) < 0 ||
        PyDict_SetItem(context, state->s.exception, exc) < 0 ||
        PyDict_SetItem(context, state->s.handle, (PyObject *)h) < 0 ||
        (h->source_traceback != NULL && PyDict_SetItem(context, state->s.source_traceback, h->source_traceback) < 0)) {
        PyErr_WriteUnraisable((PyObject *)h);
    }
    else {
        rc = corolla_report_context(state, h->loop, context);
    }
    Py_XDECREF(context);
    Py_XDECREF(message);
    Py_XDECREF(text);
    Py_XDECREF(exc);
    return rc;
}

/* Calls a handle that the caller holds a reference to. */
static int
handle_call(corolla_handle *h, corolla_core *core)
{
    /* The callback may cancel its own handle: what is called has references of its own. */
    PyObject *callback = Py_NewRef(h->callback);
    PyObject *result;
    if (h->more == NULL) {
        PyObject *stack[COROLLA_INLINE_ARGS + 1];
        uint8_t nargs = h->nargs;
        for (uint8_t i = 0; i < nargs; i++) {
            stack[i + 1] = Py_NewRef(h->args[i]);
        }
        result = corolla_call_queued(core, &h->queued, callback, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET);
        for (uint8_t i = 0; i < nargs; i++) {
            Py_DECREF(stack[i + 1]);
        }
    }
    else {
        PyObject *more = Py_NewRef(h->more);
        result =
            corolla_call_queued(core, &h->queued, callback, &PyTuple_GET_ITEM(more, 0), (size_t)PyTuple_GET_SIZE(more));
        Py_DECREF(more);
    }
    int rc = 0;
    if (result == NULL) {
        rc = corolla_handle_report(h);
    }
    else {
        Py_DECREF(result);
    }
    Py_DECREF(callback);
    return rc;
}

/* What a report of a slow callback is to name, as asyncio: the task if it was a step of one, else the handle. New
 * reference or NULL. */
static PyObject *
handle_subject(corolla_handle *h)
{
    PyObject *owner = NULL;
    if (h->callback == NULL) {
        return Py_NewRef((PyObject *)h);
    }
    PyObject *callback = Py_NewRef(h->callback);
    int is_task = PyObject_GetOptionalAttr(callback, h->state->s.__self__, &owner);
    if (is_task > 0) {
        is_task = PyObject_IsInstance(owner, h->state->asyncio_Task);
    }
    Py_DECREF(callback);
    if (is_task > 0) {
        return owner;
    }
    Py_XDECREF(owner);
    return is_task < 0 ? NULL : Py_NewRef((PyObject *)h);
}

/* 0 or -1. */
static int
handle_report_slow(corolla_handle *h, corolla_core *core, int64_t took)
{
    if (!corolla_core_is_slow(core, took)) {
        return 0;
    }
    PyObject *subject = handle_subject(h);
    int rc = subject == NULL ? -1 : corolla_core_report_slow(core, subject, took);
    Py_XDECREF(subject);
    return rc;
}

/* 0, or -1 with what leaves the loop. */
int
corolla_handle_run_timed(corolla_handle *h, corolla_core *core)
{
    if (h->callback == NULL) {
        return 0;
    }
    Py_INCREF(h);
    int rc;
    if (core != NULL && core->debug) {
        PyObject *outer = core->current_handle;
        int64_t begin = corolla_clock();
        core->current_handle = (PyObject *)h;
        rc = handle_call(h, core);
        core->current_handle = outer;
        if (rc == 0) {
            int64_t took = corolla_clock() - begin;
            corolla_core_leave_task(core); /* a task's step may be what was called */
            rc = handle_report_slow(h, core, took);
        }
    }
    else {
        rc = handle_call(h, core);
    }
    Py_DECREF(h);
    return rc;
}

int
corolla_handle_run(corolla_handle *h)
{
    corolla_core *core = corolla_core_of(h->state, h->loop);
    if (core != NULL && h->nargs == 1 && !core->debug && corolla_is_plain_set_result(h->state, h->callback)) {
        corolla_future *fut = (corolla_future *)PyCFunction_GET_SELF(h->callback);
        /* Whatever runs code of others, such as the repr() in an error, has to find no task entered. */
        if (fut->status == COROLLA_PENDING && fut->core == core && !(core->overridden & COROLLA_OWN_CALL_SOON)) {
            if (corolla_future_set_result((PyObject *)fut, h->args[0]) == 0) {
                return 0;
            }
            corolla_core_leave_task(core);
            Py_INCREF(h);
            int rc = corolla_handle_report(h);
            Py_DECREF(h);
            return rc;
        }
    }
    if (core != NULL) {
        corolla_core_leave_task(core);
    }
    return corolla_handle_run_timed(h, core);
}

/* Drops the queue's reference. */
static void
handle_release(corolla_handle *h)
{
    if (Py_REFCNT(h) > 1) {
        handle_track(h); /* nothing holds it for sure any more */
    }
    Py_DECREF(h);
}

int
corolla_handle_job(void *arg)
{
    corolla_handle *h = arg;
    if (h->timer) {
        corolla_timer_handle *th = (corolla_timer_handle *)h;
        corolla_timer_fired(&th->timer);
        th->scheduled = false;
    }
    int rc = h->threadsafe ? corolla_handle_run_threadsafe(h) : corolla_handle_run(h);
    handle_release(h);
    return rc;
}

/* asyncio's own loop, which has set _scheduled, counts the timers in its heap that were cancelled. */
static void
tell_foreign_loop(corolla_handle *h)
{
    PyObject *raised = PyErr_GetRaisedException();
    PyObject *told = PyObject_CallMethodOneArg(h->loop, h->state->s._timer_handle_cancelled, (PyObject *)h);
    if (told == NULL) {
        PyErr_WriteUnraisable((PyObject *)h);
    }
    Py_XDECREF(told);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

/* For reports such as "Executing <Handle cancelled f()> took 2.5 seconds". Keeps an exception being raised. */
static void
handle_remember(corolla_handle *h)
{
    PyObject *raised = PyErr_GetRaisedException();
    Py_INCREF(h);
    PyObject *shown = PyObject_Repr((PyObject *)h);
    if (shown == NULL) {
        PyErr_WriteUnraisable((PyObject *)h->loop);
    }
    Py_XSETREF(h->shown, shown);
    Py_DECREF(h);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
    }
}

void
corolla_handle_cancel(corolla_handle *h)
{
    if (h->cancelled) {
        return;
    }
    bool owed = false;
    corolla_core *core = corolla_core_of(h->state, h->loop);
    h->cancelled = true;
    if (core != NULL && core->debug && h->callback != NULL) {
        handle_remember(h);
    }
    if (h->timer) {
        corolla_timer_handle *th = (corolla_timer_handle *)h;
        if (core != NULL) {
            owed = corolla_timer_stop(&core->reactor, &th->timer); /* the heap's reference, or the queued job's */
        }
        else if (th->scheduled) {
            tell_foreign_loop(h);
        }
        th->scheduled = false;
    }
    handle_drop_call(h);
    if (owed) {
        handle_release(h);
    }
}

/* ---- Life -------------------------------------------------------------------------------- */

int
corolla_handle_traverse(PyObject *self, visitproc visit, void *arg)
{
    corolla_handle *h = (corolla_handle *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->loop);
    Py_VISIT(h->callback);
    Py_VISIT(h->queued.context);
    Py_VISIT(h->more);
    Py_VISIT(h->source_traceback);
    for (uint8_t i = 0; i < h->nargs; i++) {
        Py_VISIT(h->args[i]);
    }
    return 0;
}

int
corolla_handle_clear(PyObject *self)
{
    corolla_handle *h = (corolla_handle *)self;
    handle_drop_call(h);
    Py_CLEAR(h->queued.context);
    Py_CLEAR(h->source_traceback);
    Py_CLEAR(h->shown);
    return 0;
}

static void
handle_clear_all(corolla_handle *h)
{
    corolla_handle_clear((PyObject *)h);
    Py_CLEAR(h->loop);
    if (h->timer) {
        Py_CLEAR(((corolla_timer_handle *)h)->given);
    }
}

static void
handle_drop(corolla_handle *h)
{
    corolla_state *state = h->state;
    if (h->timer) {
        freelist_drop(state, &state->freelists->timers, state->timer_handle_type, (PyObject *)h, false);
    }
    else {
        freelist_drop(state, &state->freelists->handles, state->handle_type, (PyObject *)h, false);
    }
}

/* A pending timer is held by the heap, so what is freed here is in no structure. A handle may be an argument of a
 * handle: the deepest wait, as futures do (corolla_future_bury()). */
void
corolla_handle_dealloc(PyObject *self)
{
    corolla_handle *h = (corolla_handle *)self;
    nest *dying = &h->state->freelists->dying_handles;
    PyObject_GC_UnTrack(self);
    if (h->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    if (dying->depth == NEST_DEEPEST) {
        h->weakrefs = dying->late;
        dying->late = self;
        return;
    }
    dying->depth++;
    handle_clear_all(h);
    while (dying->depth == 1 && dying->late != NULL) {
        corolla_handle *late = (corolla_handle *)dying->late;
        dying->late = late->weakrefs;
        late->weakrefs = NULL;
        handle_clear_all(late);
        handle_drop(late);
    }
    dying->depth--;
    handle_drop(h); /* last of all: the state may go with it */
}
