/* Handles of call_soon_threadsafe(): a thread that cancels one while it runs waits until it has run, as from CPython 3.14
 * on. Whoever has cancelled it may take away what the callback uses. */
#include "scheduler.h"

/* One cancel() that waits. The interpreter's lock guards the list. Not on the stack of its thread: in a forked child that
 * is gone, and the list still has it. */
struct corolla_cancel_wait {
    corolla_handle *handle;           /* borrowed: the canceller holds it */
    PyThread_type_lock lock;          /* owned; held until the handle has run */
    struct corolla_cancel_wait *next; /* borrowed */
};

/* Takes one out of the list, if it is still there. */
static bool
wait_unlink(corolla_state *state, struct corolla_cancel_wait *wait)
{
    for (struct corolla_cancel_wait **link = &state->cancel_waits; *link != NULL; link = &(*link)->next) {
        if (*link == wait) {
            *link = wait->next;
            return true;
        }
    }
    return false;
}

int
corolla_handle_run_threadsafe(corolla_handle *h)
{
    corolla_state *state = h->state;
    h->running = true;
    int rc = corolla_handle_run(h);
    h->running = false;
    struct corolla_cancel_wait *wait = state->cancel_waits;
    while (wait != NULL) {
        struct corolla_cancel_wait *next = wait->next;
        if (wait->handle == h && wait_unlink(state, wait)) {
            PyThread_release_lock(wait->lock); /* from here on the wait is its thread's again */
        }
        wait = next;
    }
    return rc;
}

int
corolla_handle_wait(corolla_handle *h)
{
    corolla_state *state = h->state;
    corolla_core *core = corolla_core_of(state, h->loop);
    if (!h->running || core == NULL || core->thread == PyThread_get_thread_ident() || !corolla_core_is_running(core)) {
        return 0;
    }
    struct corolla_cancel_wait *wait = PyMem_Malloc(sizeof *wait);
    PyThread_type_lock lock = wait == NULL ? NULL : PyThread_allocate_lock();
    if (lock == NULL) {
        PyMem_Free(wait);
        PyErr_NoMemory();
        return -1;
    }
    int rc = 0;
    PyLockStatus got = PY_LOCK_FAILURE;
    (void)PyThread_acquire_lock(lock, NOWAIT_LOCK);
    *wait = (struct corolla_cancel_wait){.handle = h, .lock = lock, .next = state->cancel_waits};
    state->cancel_waits = wait;
    do {
        /* clang-format off */
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(lock, -1, 1);
        Py_END_ALLOW_THREADS
        /* clang-format on */
        rc = got == PY_LOCK_INTR ? PyErr_CheckSignals() : 0;
    } while (got == PY_LOCK_INTR && rc == 0);
    (void)wait_unlink(state, wait); /* it is still there only after an interrupt */
    if (got == PY_LOCK_ACQUIRED) {
        PyThread_release_lock(lock);
    }
    PyThread_free_lock(lock);
    PyMem_Free(wait);
    return rc;
}
