/* scheduler/: Python objects that run. Handles, futures, tasks, and what they need of a loop. */
#ifndef COROLLA_SCHEDULER_H
#define COROLLA_SCHEDULER_H

#include "../compat.h"
#include "../reactor/reactor.h"
#include "../state.h"

/* ---- What the scheduler needs of a loop of ours ------------------------------------------ */

/* Methods that a Python subclass, or an attribute set on the instance, may have replaced. While a
 * bit is set, that method is called; otherwise the C below it is. */
enum {
    COROLLA_OWN_CALL_SOON = 1,
    COROLLA_OWN_CALL_AT = 2,
    COROLLA_OWN_CREATE_TASK = 4,
    COROLLA_OWN_TIME = 8,
    COROLLA_OWN_EXCEPTION_HANDLER = 16,
    COROLLA_OWN_CREATE_FUTURE = 32,
    COROLLA_OWN_CALL_LATER = 64,
    /* Debug mode: steps and callbacks are queued by call_soon(), as Handles that know where they were made. */
    COROLLA_DEBUG_HANDLES = 128,
};

typedef struct corolla_core {
    corolla_reactor reactor;
    corolla_state *state; /* borrowed: the loop's type keeps the module alive */
    PyObject *loop;       /* borrowed: the loop that embeds this */
    unsigned overridden;  /* COROLLA_OWN_ bits */
    bool ready;           /* __init__ has run */
    bool debug;
    bool factory; /* set_task_factory() has set one */
    bool closed;
    bool running;
    bool opening;     /* code of others may run while a TLS connection's bytes are in the reactor's scratch memory */
    PyObject *shown;  /* owned: the task of ours that was made this loop's entry in asyncio's current-task dict,
                               where a program may get at it; NULL when none is (task.c) */
    PyObject *holder; /* owned, while it runs: what asyncio says so by (any_loop.c) */
    PyObject *current_handle;          /* borrowed: in debug mode, the Handle that runs, or NULL */
    PyObject *entered;                 /* owned: the context of the last task step, still entered; or NULL */
    PyObject *snapshot;                /* owned, or NULL: context.c */
    void *snapshot_mapping;            /* borrowed from snapshot */
    PyObject *scratch;                 /* owned, or NULL: a copy of snapshot */
    bool spare;                        /* entered is another one, and nobody's */
    unsigned long thread;              /* PyThread_get_thread_ident() of the thread that runs it, 0 when none does */
    unsigned forks;                    /* corolla_fork_count() of the process that made it */
    double slow_callback;              /* seconds; in debug mode, callbacks that take this long are reported */
    struct corolla_registry *registry; /* owned: its transports and servers, transports/registry.c; NULL until used */
} corolla_core;

/* Every loop of ours begins like this. */
typedef struct corolla_loop_head {
    PyObject_HEAD
    corolla_core core;
} corolla_loop_head;

/* The core of a loop of ours that has been initialised; NULL, without an exception, for any other. */
static inline corolla_core *
corolla_core_of(corolla_state *state, PyObject *loop)
{
    if (Py_TYPE(loop) == state->loop_type ||
        (state->loop_base_type != NULL && PyObject_TypeCheck(loop, state->loop_base_type))) {
        corolla_core *core = &((corolla_loop_head *)loop)->core;
        return core->ready ? core : NULL;
    }
    return NULL;
}

/* The Python object that a job owns (borrowed), for the collector; NULL for none. */
PyObject *corolla_job_object(corolla_job_fn fn, void *arg);
/* Drops what a job owns that will not run. */
void corolla_job_drop(corolla_job_fn fn, void *arg);
/* A handle or a new task that a running loop has queued lives until it has run, whatever refers to it: the run holds
 * the loop. So the collector need not walk it; most are gone before it would have. It is told of those that outlive
 * their job, and, by this (a corolla_visit_fn), of those that are left when the run ends. */
void corolla_track_job(corolla_job_fn fn, void *arg, void *unused);
/* Posts {fn, arg}; steals arg, also on failure. 0, or -1 with RuntimeError('Event loop is closed') or
 * MemoryError. */
int corolla_core_post(corolla_core *core, corolla_job_fn fn, PyObject *arg);
/* The loop time that call_at() counts in, ns. Runs the loop's time() when that is overridden. */
int corolla_core_now(corolla_core *core, int64_t *now);
/* Seconds of the loop's clock as a deadline; clamps, never wraps. NaN is ValueError. 0 or -1. */
int corolla_deadline(double seconds, int64_t *deadline);

/* In a child that was forked from the loop's process: the loop there is for nothing but to be closed. */
static inline bool
corolla_core_is_inherited(const corolla_core *core)
{
    return core->forks != corolla_fork_count();
}

/* Whether tasks and futures may queue bare jobs on it, past its call_soon(). */
static inline bool
corolla_core_takes_jobs(const corolla_core *core)
{
    return !(core->overridden & (COROLLA_OWN_CALL_SOON | COROLLA_DEBUG_HANDLES));
}

static inline void
corolla_core_set_debug(corolla_core *core, bool debug)
{
    core->debug = debug;
    core->overridden =
        debug ? core->overridden | COROLLA_DEBUG_HANDLES : core->overridden & ~(unsigned)COROLLA_DEBUG_HANDLES;
}

/* Whether run_forever() is under way, in this process. */
bool corolla_core_is_running(corolla_core *core);
/* In debug mode: whether a callback that took that long (ns) is to be reported. */
static inline bool
corolla_core_is_slow(const corolla_core *core, int64_t took)
{
    return (double)took / 1e9 >= core->slow_callback;
}

/* In debug mode, after a callback that took that long (ns): warns if that is slow, showing repr(what). 0 or -1. */
int corolla_core_report_slow(corolla_core *core, PyObject *what, int64_t took);
/* The same for what is no object: a callable, and whose it is. */
int corolla_core_report_slow_call(corolla_core *core, PyObject *callable, PyObject *owner, int64_t took);
/* In debug mode: RuntimeError for a call from a thread that does not run the loop. 0 or -1. */
int corolla_core_check_thread(corolla_core *core);
/* RuntimeError('Event loop is closed') if it is, or another in a forked child that inherited it. 0 or -1. */
int corolla_core_check_closed(corolla_core *core);

/* ---- Contexts ---------------------------------------------------------------------------- */

/* What something that is queued will run in. */
typedef struct corolla_queued {
    PyObject *context; /* owned */
    bool shared;       /* it is a snapshot, which nobody may enter or see */
} corolla_queued;

/* Sets *queued to the current context as it is now. core may be NULL. 0 or -1. */
int corolla_queue_context(corolla_core *core, corolla_queued *queued);
/* The context to be seen: no longer shared. Borrowed, or NULL with an exception. */
PyObject *corolla_own_context(corolla_queued *queued);
/* Calls callback in it, as corolla_call_in() does. The owner of queued must outlive the call. core may be NULL. */
PyObject *corolla_call_queued(corolla_core *core, corolla_queued *queued, PyObject *callback, PyObject *const *args,
                              size_t nargs);
/* Calls callback in context; nargs as PyObject_Vectorcall() has it. Result, new reference, or NULL. */
PyObject *corolla_call_in(PyObject *context, PyObject *callback, PyObject *const *args, size_t nargs);
/* What is in queued will be entered and kept: it is shared no longer. 0 or -1. */
int corolla_borrow_context(corolla_core *core, corolla_queued *queued);
/* The context that is entered on the loop is done with by its task: it may be lent again. */
void corolla_give_back_entered(corolla_core *core, corolla_queued *queued);
/* Leaves the context that is entered. 0 or -1. */
int corolla_core_exit_context(corolla_core *core);
/* Before anything that may wait, and when the run ends: what was kept for the next that is queued or run is dropped. */
void corolla_core_forget_contexts_slow(corolla_core *core);
static inline void
corolla_core_forget_contexts(corolla_core *core)
{
    if (core->snapshot != NULL) {
        corolla_core_forget_contexts_slow(core);
    }
}

/* ---- Handles ----------------------------------------------------------------------------- */

enum { COROLLA_INLINE_ARGS = 4 };

typedef struct corolla_handle {
    PyObject_HEAD
    PyObject *weakrefs;
    corolla_state *state;                /* borrowed */
    PyObject *loop;                      /* owned */
    PyObject *callback;                  /* owned; NULL once cancelled */
    corolla_queued queued;               /* owns its context */
    PyObject *more;                      /* owned: tuple of the arguments when there are more than fit inline */
    PyObject *args[COROLLA_INLINE_ARGS]; /* owned, each */
    PyObject *source_traceback;          /* owned, or NULL */
    PyObject *shown;                     /* owned: in debug mode, the repr it had when it was cancelled */
    uint8_t nargs;                       /* inline ones */
    bool untracked;                      /* the collector does not know it: corolla_track_job() */
    bool cancelled;
    bool timer;      /* a TimerHandle */
    bool threadsafe; /* of call_soon_threadsafe(): handle_wait.c */
    bool running;    /* it is, and its callback runs */
} corolla_handle;

typedef struct corolla_timer_handle {
    corolla_handle handle;
    corolla_timer timer; /* pending: the heap owns a reference to this handle */
    double when;         /* seconds of the loop's clock */
    PyObject *given;     /* owned: the int that __init__ was given for it, to be shown as such; or NULL */
    bool scheduled;
} corolla_timer_handle;

/* A new handle, not queued. context NULL: a copy of the current one. New reference or NULL. */
PyObject *corolla_handle_new(corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *context);
/* The same, unknown to the collector: the caller queues it and then calls the second. */
corolla_handle *corolla_handle_new_untracked(corolla_core *core, PyObject *callback, PyObject *const *args,
                                             Py_ssize_t nargs, PyObject *context);
void corolla_handle_queued(corolla_core *core, corolla_handle *handle);
/* call_soon without its checks: makes the handle and queues it. New reference or NULL. */
PyObject *corolla_call_soon(corolla_core *core, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *context);
/* call_at without its checks. New reference or NULL. */
PyObject *corolla_call_at(corolla_core *core, double when, PyObject *callback, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *context);
/* The job that runs a handle; steals arg. */
int corolla_handle_job(void *arg);
/* Runs a handle that stays (a reader's, a signal's): 0, or -1 with KeyboardInterrupt or SystemExit. */
int corolla_handle_run(corolla_handle *handle);
void corolla_handle_cancel(corolla_handle *handle);
/* handle_wait.c: runs one that another thread may cancel meanwhile. As corolla_handle_run(). */
int corolla_handle_run_threadsafe(corolla_handle *handle);
/* Before such a one is cancelled: waits until its callback has run, if it is running on another thread. 0, or -1 with what
 * a signal handler has raised. */
int corolla_handle_wait(corolla_handle *handle);
/* Raises what a job was not taken for: the result of corolla_inbox_post() and its like. */
void corolla_raise_post(int err);

/* ---- Futures ----------------------------------------------------------------------------- */

typedef enum { COROLLA_PENDING, COROLLA_CANCELLED, COROLLA_FINISHED } corolla_future_status;

typedef struct corolla_future {
    PyObject_HEAD
    PyObject *dict;
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *loop;       /* owned; NULL until __init__ has run */
    corolla_core *core;   /* borrowed from loop; NULL when it is not one of ours */
    PyObject *waiter;     /* owned: the first to be told: a Task to wake, or a callback object */
    PyObject **more;      /* owned table of owned references: the others, in order */
    uint32_t more_count, more_capacity;
    PyObject *result;           /* owned */
    PyObject *exception;        /* owned */
    PyObject *exception_tb;     /* owned: the traceback it had when it was set */
    PyObject *cancel_message;   /* owned */
    PyObject *cancelled_exc;    /* owned: a CancelledError made once, until taken */
    PyObject *source_traceback; /* owned, or NULL */
    uint8_t status;             /* corolla_future_status */
    bool blocking;              /* _asyncio_future_blocking */
    bool log_traceback;
    bool is_task;
    bool finalized; /* its finalizer has run */
} corolla_future;

static inline bool
corolla_is_future(corolla_state *state, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    return type == state->future_type || type == state->task_type || PyType_IsSubtype(type, state->future_type);
}

/* A Future or Task of ours, not a subclass: nobody has replaced its methods. */
static inline bool
corolla_is_plain_future(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->future_type) || Py_IS_TYPE(obj, state->task_type);
}

/* A new pending Future of that loop. New reference or NULL. */
PyObject *corolla_future_new(corolla_core *core);
/* 0, or -1 with InvalidStateError. */
int corolla_future_set_result(PyObject *future, PyObject *result);
/* exc: an instance. Checks as set_exception() does. */
int corolla_future_set_exception(PyObject *future, PyObject *exc);
/* Takes the exception being raised and sets it; KeyboardInterrupt and SystemExit are set too. */
int corolla_future_set_raised(PyObject *future);
/* 1 if it was pending, 0 if not, -1 with an exception. */
int corolla_future_cancel(PyObject *future, PyObject *msg);
static inline bool
corolla_future_done(PyObject *future)
{
    return ((corolla_future *)future)->status != COROLLA_PENDING;
}
/* The value (new reference), or NULL with what the future holds raised, as result() would. */
PyObject *corolla_future_result(PyObject *future);
/* Sets a result (or, with value NULL, the raised exception) unless the future is done already: for
 * completions that may race with cancel(). 0 or -1. */
int corolla_future_complete(PyObject *future, PyObject *value);
/* Makes a waiting task the next to be told. 0 or -1 (MemoryError). */
int corolla_future_add_waiter(corolla_future *fut, PyObject *waiter);
/* Tells fn(future, arg) by a job when the future is done: a callback without a Python function. arg is
 * an owned object (stolen). Used by C code that watches a future. 0 or -1. */
typedef int (*corolla_done_fn)(PyObject *future, PyObject *arg);
int corolla_future_on_done(PyObject *future, corolla_done_fn fn, PyObject *arg);

/* ---- Any future: ours, a subclass of it, or another library's; any.c ----------------------- */

/* A coroutine of Python's or of ours. */
static inline bool
corolla_is_native_coroutine(const corolla_state *state, PyObject *obj)
{
    return PyCoro_CheckExact(obj) || Py_IS_TYPE(obj, state->coroutine_type);
}
int corolla_any_isfuture(corolla_state *state, PyObject *obj);    /* asyncio.isfuture(): 1, 0 or -1 */
int corolla_any_iscoroutine(corolla_state *state, PyObject *obj); /* asyncio.iscoroutine(): 1, 0 or -1 */

/* Each goes through the future's public methods unless it is a plain one of ours. */
int corolla_any_done(corolla_state *state, PyObject *future);      /* 1, 0 or -1 */
int corolla_any_cancelled(corolla_state *state, PyObject *future); /* 1, 0 or -1 */
/* exception() of one that is done and not cancelled; it counts as retrieved. New reference, None for none, or NULL. */
PyObject *corolla_any_exception(corolla_state *state, PyObject *future);
/* result(): new reference, or NULL with what it raises. */
PyObject *corolla_any_result(corolla_state *state, PyObject *future);
/* cancel(msg=msg); msg may be NULL. 1, 0 or -1. */
int corolla_any_cancel(corolla_state *state, PyObject *future, PyObject *msg);
int corolla_any_set_result(corolla_state *state, PyObject *future, PyObject *result); /* 0 or -1 */
int corolla_any_set_exception(corolla_state *state, PyObject *future, PyObject *exc); /* 0 or -1; not stolen */
PyObject *corolla_any_loop(corolla_state *state, PyObject *future);                   /* new reference or NULL */
/* Has fn(future, arg) called, by a job of the loop, once the future is done; arg (owned, stolen also on failure) may be
 * NULL. Gives the callback, a new reference that corolla_any_unwatch() takes it back with, or NULL. */
PyObject *corolla_any_watch(corolla_state *state, PyObject *future, corolla_done_fn fn, PyObject *arg);
/* Takes it out of a future that is not done yet; harmless otherwise. Keeps an exception being raised. 0 or -1. */
int corolla_any_unwatch(corolla_state *state, PyObject *future, PyObject *callback);

/* ---- Tasks ------------------------------------------------------------------------------- */

typedef struct corolla_task {
    corolla_future future;
    PyObject *coro;                   /* owned; NULL once finished */
    corolla_queued queued;            /* owns its context; shared before the first step, and after the last if it can */
    PyObject *name;                   /* owned; NULL while it is Task-<number> */
    PyObject *fut_waiter;             /* owned: what it waits on */
    struct corolla_task *prev, *next; /* borrowed: the interpreter's list of tasks that are not done */
    uint64_t number;
    int64_t cancel_requests;
    bool must_cancel;
    bool log_destroy_pending;
    bool linked;
    bool untracked; /* the collector does not know it: corolla_track_job() */
} corolla_task;

/* A new Task, its first step queued. name and context may be NULL. New reference or NULL. */
PyObject *corolla_task_new(corolla_core *core, PyObject *coro, PyObject *name, PyObject *context, bool eager);
/* Any job of a task; steals arg. */
int corolla_task_step_job(void *arg);
int corolla_task_wakeup_job(void *arg);
/* After a task's step its context stays entered and it stays the loop's current task, since the next step most
 * often is of the same task, or else replaces both. Whatever else runs on the loop calls this first. */
void corolla_core_leave_task_slow(corolla_core *core);
static inline void
corolla_core_leave_task(corolla_core *core)
{
    if (core->shown != NULL || core->entered != NULL) {
        corolla_core_leave_task_slow(core);
    }
}

/* asyncio.get_running_loop(): new reference, or NULL with RuntimeError. */
PyObject *corolla_running_loop(corolla_state *state);
/* The loop that runs, or else asyncio.get_event_loop()'s. New reference or NULL. */
PyObject *corolla_default_loop(corolla_state *state);
/* A loop of ours has been made the running one of this thread, or is no more. */
void corolla_core_entered(corolla_core *core);
void corolla_core_left(corolla_core *core);
/* The task that runs on a loop, any loop: new reference; NULL for none, and with an exception set. */
PyObject *corolla_current_task(corolla_state *state, PyObject *loop);
/* A new future of any loop, by its create_future() unless that is ours. New reference or NULL. */
PyObject *corolla_loop_future(corolla_state *state, PyObject *loop);
/* cancelling() of any task. 0 or -1. */
int corolla_any_cancelling(corolla_state *state, PyObject *task, int64_t *requests);
/* uncancel() of any task; what is left in *requests. 0 or -1. */
int corolla_any_uncancel(corolla_state *state, PyObject *task, int64_t *requests);
/* Task.uncancel(): what is left. */
int64_t corolla_task_uncancel(corolla_task *task);

/* ---- Alarms: timers of C code, alarm.c ----------------------------------------------------- */

/* Embedded in the object that waits, which owns the loop meanwhile and calls corolla_alarm_clear() before it goes. All
 * zero bytes is one that is not set. */
typedef struct corolla_alarm {
    corolla_timer timer;
    corolla_core *core; /* borrowed */
    PyMethodDef *call;  /* static: METH_NOARGS, called with target as self */
    PyObject *target;   /* owned by the loop while the timer is pending, else NULL */
    PyObject *handle;   /* owned: what the loop's own call_at(), call_later() or call_soon() gave */
} corolla_alarm;

/* Has call(target) run at that loop time, after so many seconds, or on the next turn. A call that runs code of others
 * begins with corolla_core_leave_task(). 0 or -1. */
int corolla_alarm_at(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double when, PyMethodDef *call,
                     PyObject *target);
int corolla_alarm_after(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double delay, PyMethodDef *call,
                        PyObject *target);
int corolla_alarm_soon(corolla_alarm *alarm, corolla_state *state, PyObject *loop, PyMethodDef *call, PyObject *target);
/* Sets the result None of a future of that loop after so many seconds, unless it is cancelled. It has to be stopped
 * before anyone else sets the future. 0 or -1. */
int corolla_alarm_wake(corolla_alarm *alarm, corolla_state *state, PyObject *loop, double delay, PyObject *future);
/* Keeps an exception being raised; harmless when not set. 0, or -1 with what a foreign handle's cancel() raises. */
int corolla_alarm_stop(corolla_alarm *alarm, corolla_state *state);
/* The same for where nothing can be raised. */
void corolla_alarm_clear(corolla_alarm *alarm, corolla_state *state);
static inline bool
corolla_alarm_is_set(const corolla_alarm *alarm)
{
    return alarm->target != NULL || alarm->handle != NULL;
}
/* For the collector: target is the loop's. */
static inline int
corolla_alarm_traverse(corolla_alarm *alarm, visitproc visit, void *arg)
{
    Py_VISIT(alarm->handle);
    return 0;
}
/* The job of an alarm that is due; and what is done with one whose loop closes instead. */
int corolla_alarm_job(void *arg);
void corolla_alarm_forget(corolla_alarm *alarm);

/* ---- Reports ----------------------------------------------------------------------------- */

/* Takes the exception being raised. An ordinary one is reported through loop.call_exception_handler() as
 * {message, exception, key: value}: 0. KeyboardInterrupt or SystemExit stays raised: -1. key and value may be
 * NULL. */
int corolla_report_raised(corolla_state *state, PyObject *loop, const char *message, PyObject *key, PyObject *value);
/* The same with a dict that is whole but for 'exception', which is added if one is being raised. */
int corolla_report_context(corolla_state *state, PyObject *loop, PyObject *context);

#endif
