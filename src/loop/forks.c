/* In debug mode os.fork() is refused in the thread of a running loop (bugs.python.org issue 21998): the child gets a copy
 * of a loop that is in the middle of its work, and of every connection.
 *
 * It has to be refused before it happens. What os.register_at_fork() calls then may raise, but is not heeded; another
 * function in os.fork's place is passed by whoever has imported the real one by name. An audit hook hears of the call
 * itself, and its exception is the call's. It cannot be taken away again, so there is none before a loop first runs in
 * debug mode; it is one for the process and refers to no object of Python's, so that interpreters may come and go. */
#include "loop.h"

#include <string.h>

/* The loop that runs on this thread, in whichever interpreter: NULL when none does. Borrowed: the run holds it. */
static _Thread_local corolla_core *running_here;

static atomic_bool installed;

static int
audit(const char *event, PyObject *args, void *unused)
{
    (void)args;
    (void)unused;
    if (strcmp(event, "os.fork") != 0 && strcmp(event, "os.forkpty") != 0) {
        if (strcmp(event, "cpython._PySys_ClearAuditHooks") == 0) {
            atomic_store(&installed, false); /* a program that embeds Python may start it again */
        }
        return 0;
    }
    corolla_core *core = running_here;
    if (core == NULL || !core->debug || !corolla_core_is_running(core)) {
        return 0;
    }
    PyErr_Format(
        PyExc_RuntimeError,
        "%s() in the thread of a running event loop: the child would share its connections and its poller. Use "
        "subprocess, or multiprocessing with the start method 'spawn' or 'forkserver', or fork before the loop "
        "runs",
        event);
    return -1;
}

int
loop_forks_refuse(void)
{
    if (atomic_load_explicit(&installed, memory_order_relaxed) || atomic_exchange(&installed, true)) {
        return 0;
    }
    if (PySys_AddAuditHook(audit, NULL) == 0) {
        return 0;
    }
    atomic_store(&installed, false);
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Clear(); /* a hook of the program's own allows no others */
    return 0;
}

corolla_core *
loop_forks_enter(corolla_core *core)
{
    corolla_core *before = running_here;
    running_here = core;
    return before;
}

void
loop_forks_leave(corolla_core *before)
{
    running_here = before;
}
