/* Inside the room: the objects that stand in a future's list of waiters beside tasks. */
#ifndef COROLLA_CALLBACK_H
#define COROLLA_CALLBACK_H

#include "scheduler.h"

typedef struct corolla_callback {
    PyObject_HEAD
    corolla_state *state;  /* borrowed */
    PyObject *callable;    /* owned; NULL for a C one */
    corolla_queued queued; /* owns its context; that is NULL for a C one */
    PyObject *future;      /* owned, from the moment it is queued as a job */
    corolla_done_fn fn;    /* of a C one */
    PyObject *arg;         /* owned, or NULL */
} corolla_callback;

/* Steals queued's context, also on failure. */
PyObject *corolla_callback_new(corolla_state *state, PyObject *callable, corolla_queued queued);
/* Steals arg, also on failure. */
PyObject *corolla_callback_new_c(corolla_state *state, corolla_done_fn fn, PyObject *arg);
int corolla_callback_job(void *arg);

/* Whether a callable is a method of a Future of ours that neither looks at the context it runs in nor runs code
 * of others: set_result, which is what timers most often call. */
bool corolla_is_plain_set_result(corolla_state *state, PyObject *callable);
/* What a future that is done raises: 0 with a new reference in *exc, or with NULL for a result; -1 with an error. */
int corolla_future_take_exception(corolla_future *fut, PyObject **exc);
/* Raises exc (stolen) as `raise` does: what is being handled becomes its context. */
void corolla_raise(PyObject *exc);

/* Reports the exception being raised as that of a Handle. 0, or -1 when it leaves the loop. */
int corolla_handle_report(corolla_handle *handle);

/* ---- handle.c, for handle_type.c ----------------------------------------------------------- */

/* A new tuple of the arguments. */
PyObject *corolla_handle_args(corolla_handle *handle);
/* The callback as asyncio shows it; callback must not be NULL. New reference or NULL. */
PyObject *corolla_handle_format(corolla_handle *handle);
/* Runs it without leaving the current task. core may be NULL. 0, or -1 with what leaves the loop. */
int corolla_handle_run_timed(corolla_handle *handle, corolla_core *core);
int corolla_handle_traverse(PyObject *self, visitproc visit, void *arg);
int corolla_handle_clear(PyObject *self);
void corolla_handle_dealloc(PyObject *self);

/* A task's wakeup as a callable, for futures that are not ours. New reference or NULL. */
PyObject *corolla_task_wakeup_callable(PyObject *task);

/* A C callback whose future is set, as a callable of one argument, for loops that are not ours. */
PyObject *corolla_callback_callable(PyObject *callback);
/* loop.call_soon(callable, arg, context=context) of any loop; arg and context may be NULL. New reference to what
 * it gave, or NULL. */
PyObject *corolla_foreign_call_soon(corolla_state *state, PyObject *loop, PyObject *callable, PyObject *arg,
                                    PyObject *context);
/* Takes one waiter out by identity; whether it was there. */
bool corolla_future_drop_waiter(corolla_future *fut, PyObject *waiter);
/* Queues a waiter of a future that is done already. 0 or -1. */
int corolla_future_tell_now(corolla_future *fut, PyObject *waiter);
/* Task.cancel(): 1, 0 or -1. */
int corolla_task_cancel(corolla_task *task, PyObject *msg);

/* The stack where a future is being made, as asyncio keeps it in debug mode; None otherwise. NULL on error. */
int corolla_future_trace(corolla_future *fut);
/* What __init__ of both types does first: loop may be NULL or None. 0 or -1. */
int corolla_future_init(corolla_future *fut, PyObject *loop);
int corolla_future_traverse(PyObject *self, visitproc visit, void *arg);
int corolla_future_clear(PyObject *self);
/* How both deallocators end: self is dead, untracked, and without weak references. */
void corolla_future_bury(PyObject *self);
/* Sets the fields of fresh memory. */
void corolla_future_blank(corolla_future *fut, corolla_state *state);
/* Future.cancel() of a Task. */
int corolla_future_cancel_base(corolla_future *fut, PyObject *msg);
/* The CancelledError a cancelled future raises: new reference or NULL. */
PyObject *corolla_future_cancelled_error(corolla_future *fut);
/* -1 with RuntimeError if __init__ has not run. */
int corolla_future_check(corolla_future *fut);
/* Reports an exception that nobody retrieved; for finalizers. */
void corolla_future_report_unretrieved(corolla_future *fut);
/* KeyboardInterrupt, SystemExit and all: sets exc (stolen) as it is. */
int corolla_future_set_exception_raw(corolla_future *fut, PyObject *exc);

extern PyType_Spec corolla_handle_spec, corolla_timer_handle_spec, corolla_callback_spec;
extern PyType_Spec corolla_future_spec, corolla_future_iter_spec, corolla_task_spec, corolla_coro_type_spec,
    corolla_coro_wrapper_spec, corolla_stop_spec;
PyObject *corolla_future_iter_new(PyObject *future);

/* ---- task.c and task_type.c ---------------------------------------------------------------- */

/* coro, name, context: what __init__ was given; NULL and None mean the default. Queues or, when eager, runs the
 * first step. 0 or -1. */
int corolla_task_setup(corolla_task *task, PyObject *coro, PyObject *name, PyObject *context, bool eager);
void corolla_task_unlink(corolla_task *task);
/* Tells the collector of it, if it does not know. */
static inline void
corolla_task_track(corolla_task *task)
{
    if (task->untracked) {
        task->untracked = false;
        PyObject_GC_Track(task);
    }
}
int corolla_task_clear(PyObject *self);
/* New reference to the name. */
PyObject *corolla_task_name(corolla_task *task);

/* ---- await.c and stop_iteration.c ------------------------------------------------------------------------------- */

/* Raises StopIteration(value). Steals value. */
void corolla_set_stop_iteration(PyObject *value);
/* The same where a tp_iternext ends, which needs raise nothing for None; see stop_iteration.c. */
void corolla_end_iteration(corolla_state *state, PyObject *value);
/* Raises what throw(type, value, traceback) was given; the last two may be NULL. 0, or -1 with the TypeError it
 * deserves instead. */
int corolla_set_thrown(PyObject *type, PyObject *value, PyObject *tb);
/* Before that, for throw() with more than one argument: the DeprecationWarning of CPython 3.12. 0, or -1 when it is
 * an error. */
int corolla_warn_throw(Py_ssize_t nargs);
/* After a call that may have raised StopIteration: its value (new reference) with the indicator cleared, or NULL
 * with whatever else is raised. */
PyObject *corolla_fetch_stop_iteration(void);

#endif
