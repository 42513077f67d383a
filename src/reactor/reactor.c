/* The turn: poll, due timers, the jobs that are ready, what was put off to the end. */
#include "internal.h"
#include "poller.h"
#include "ticks.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* With jobs ready the poll is a system call for little: it is left out for so many turns and so long. */
enum { MOST_UNPOLLED = 64 };
#define LONGEST_UNPOLLED INT64_C(50000)

static _Atomic uint64_t longest_unpolled; /* the same in ticks; measured once in the process */

/* Some kernels overflow on long timeouts, and none sleeps worse for waking up once a day. */
#define LONGEST_POLL (INT64_C(24) * 3600 * 1000000000)

int64_t
corolla_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int
corolla_reactor_now(corolla_reactor *r, int64_t *now)
{
    if (r->hooks.clock != NULL) {
        return r->hooks.clock(r->hooks.ctx, now);
    }
    *now = corolla_clock();
    return 0;
}

/* ---- Life ------------------------------------------------------------------------------ */

/* True in a forked child, where it belongs to the parent; abandoned or not. */
static inline bool
is_inherited(const corolla_reactor *r)
{
    return r->forks != corolla_fork_count();
}

static void
list_init(corolla_deferred *head)
{
    head->next = head->prev = head;
}

static inline bool
list_is_empty(const corolla_deferred *head)
{
    return head->next == head;
}

int
corolla_reactor_init(corolla_reactor *r)
{
    memset(r, 0, sizeof *r);
    list_init(&r->deferred);
    corolla_timers_init(&r->timers);
    corolla_watch_forks();
    r->forks = corolla_fork_count();
    r->unpolled = MOST_UNPOLLED;
    if (atomic_load(&longest_unpolled) == 0) {
        atomic_store(&longest_unpolled, ticks_in(LONGEST_UNPOLLED));
    }
    int err = corolla_ring_init(&r->ring, 0);
    if (err < 0) {
        goto fail;
    }
    err = corolla_poller_create(&r->poller);
    if (err < 0) {
        goto fail;
    }
    r->inbox = corolla_inbox_new();
    if (r->inbox == NULL) {
        err = -errno;
        goto fail;
    }
    r->posted = &r->inbox->nonempty;
    err = corolla_poller_add_wakeup(r->poller, r->inbox->wakeup.fd);
    if (err < 0) {
        goto fail;
    }
    return 0;

fail:
    corolla_reactor_close(r);
    return err;
}

/* What close and abandon have in common; neither changes anything that another process shares. */
static void
free_tables(corolla_reactor *r)
{
    while (r->deferred.next != NULL && !list_is_empty(&r->deferred)) {
        corolla_reactor_undefer(r, r->deferred.next);
    }
    while (r->ring.head != r->ring.tail) {
        corolla_forget_job(r->ring.jobs[r->ring.head++ & r->ring.mask]);
    }
    if (r->inbox != NULL) {
        corolla_inbox_close(r->inbox);
        corolla_inbox_unref(r->inbox);
    }
    corolla_poller_free(r->poller);
    corolla_ring_free(&r->ring);
    corolla_timers_free(&r->timers);
    free(r->slots);
    free(r->scratch);
    memset(r, 0, sizeof *r);
    list_init(&r->deferred);
}

void
corolla_reactor_close(corolla_reactor *r)
{
    assert(!r->in_turn);
    corolla_signals_forget(r);
    corolla_resolver_close(r);
    free_tables(r);
}

void
corolla_reactor_abandon(corolla_reactor *r)
{
    corolla_signals_forget(r);
    corolla_resolver_abandon(r);
    /* Watches that the child still stops later must find nothing to stop. */
    for (size_t i = 0; i < r->slot_count; i++) {
        if (r->slots[i].watch != NULL) {
            r->slots[i].watch->reactor = NULL;
            r->slots[i].watch->job = 0;
        }
    }
    free_tables(r);
}

void *
corolla_reactor_scratch(corolla_reactor *r)
{
    if (unlikely(r->scratch == NULL) && r->poller != NULL) { /* once closed, nobody would free it */
        r->scratch = malloc(COROLLA_SCRATCH);
    }
    return r->scratch;
}

/* ---- The end of the turn ----------------------------------------------------------------- */

void
corolla_reactor_defer(corolla_reactor *r, corolla_deferred *deferred)
{
    if (deferred->next != NULL) {
        return;
    }
    corolla_deferred *head = &r->deferred;
    deferred->prev = head->prev;
    deferred->next = head;
    head->prev->next = deferred;
    head->prev = deferred;
}

void
corolla_reactor_undefer(corolla_reactor *r, corolla_deferred *deferred)
{
    (void)r;
    if (deferred->next == NULL) {
        return;
    }
    deferred->prev->next = deferred->next;
    deferred->next->prev = deferred->prev;
    deferred->next = deferred->prev = NULL;
}

/* Puts all of from, in order, before what is in to. */
static void
list_splice(corolla_deferred *to, corolla_deferred *from)
{
    if (list_is_empty(from)) {
        return;
    }
    from->prev->next = to->next;
    to->next->prev = from->prev;
    from->next->prev = to;
    to->next = from->next;
    list_init(from);
}

static int
run_deferred(corolla_reactor *r)
{
    /* Apart from the list that fn may add to: that is for the next turn. */
    corolla_deferred now;
    int rc = 0;
    list_init(&now);
    list_splice(&now, &r->deferred);
    while (rc >= 0 && !list_is_empty(&now)) {
        corolla_deferred *deferred = now.next;
        corolla_reactor_undefer(r, deferred);
        rc = deferred->fn(deferred);
    }
    list_splice(&r->deferred, &now);
    return rc < 0 ? rc : 0;
}

/* ---- The poll ---------------------------------------------------------------------------- */

/* How long the poll may sleep: ns, or -1 for ever. */
static int
time_to_sleep(corolla_reactor *r, int64_t *timeout)
{
    corolla_timer *first = corolla_timers_first(&r->timers);
    if (first == NULL || first->deadline == COROLLA_NEVER) {
        *timeout = -1;
        return 0;
    }
    int64_t now;
    int rc = corolla_reactor_now(r, &now);
    if (rc < 0) {
        return rc;
    }
    first = corolla_timers_first(&r->timers); /* the owner's clock is code that may have changed them */
    if (first == NULL || first->deadline <= now || r->ring.head != r->ring.tail) {
        *timeout = 0; /* or there is something else to do now */
    }
    else if (__builtin_sub_overflow(first->deadline, now, timeout) || *timeout > LONGEST_POLL) {
        *timeout = LONGEST_POLL;
    }
    return 0;
}

/* Asks the kernel what is ready and queues it, behind what other threads have posted. */
static int
poll_kernel(corolla_reactor *r, int64_t timeout)
{
    corolla_inbox *inbox = r->inbox;
    if (timeout != 0) {
        atomic_store(&inbox->sleeping, true);
        if (atomic_load(&inbox->nonempty) || atomic_load(&corolla_signals_noticed)) {
            timeout = 0;
        }
    }
    if (r->hooks.before_poll != NULL) {
        r->hooks.before_poll(r->hooks.ctx);
    }
    int count = corolla_poller_poll(r->poller, timeout);
    int rc = 0;
    if (r->hooks.after_poll != NULL) {
        rc = r->hooks.after_poll(r->hooks.ctx, count);
        if (unlikely(rc >= 0 && is_inherited(r))) {
            return -ECHILD; /* a signal handler has forked: what was ready is the parent's to see */
        }
    }
    atomic_store_explicit(&inbox->sleeping, false, memory_order_relaxed);
    r->unpolled = 0;
    r->polled_at = ticks_now();
    r->clock_read = 0;
    if (rc < 0) {
        return rc; /* what was ready still is, and the next poll says so */
    }
    if (count < 0) {
        return count == -EINTR ? 0 : count;
    }
    if (inbox_has_jobs(inbox)) {
        (void)corolla_inbox_take(r);
    }
    return count > 0 ? corolla_poller_report(r, count) : 0;
}

/* Fills the ring: from other threads, from signals, from the kernel. */
static int
gather(corolla_reactor *r)
{
    if (inbox_has_jobs(r->inbox)) {
        (void)corolla_inbox_take(r); /* what does not fit now will when the jobs before it have run */
    }
    if (atomic_load_explicit(&corolla_signals_noticed, memory_order_relaxed)) {
        corolla_signals_deliver(r);
    }
    int64_t timeout = 0;
    if (r->ring.head != r->ring.tail) {
        if (r->unpolled < MOST_UNPOLLED && !r->stopping &&
            ticks_now() - r->polled_at < atomic_load_explicit(&longest_unpolled, memory_order_relaxed)) {
            r->unpolled++;
            return 0;
        }
    }
    else if (!r->stopping && list_is_empty(&r->deferred)) {
        int rc = time_to_sleep(r, &timeout);
        if (rc < 0) {
            return rc;
        }
    }
    int rc = poll_kernel(r, timeout);
    if (rc >= 0 && atomic_load_explicit(&corolla_signals_noticed, memory_order_relaxed)) {
        corolla_signals_deliver(r);
    }
    return rc;
}

/* ---- The turn ---------------------------------------------------------------------------- */

static int
queue_due_timers(corolla_reactor *r)
{
    corolla_timer *timer = corolla_timers_first(&r->timers);
    if (timer == NULL || timer->deadline == COROLLA_NEVER) {
        return 0;
    }
    /* Since the poll no more than LONGEST_UNPOLLED has gone by, give or take what ticks are worth; so once the clock
     * has been read behind it, timers far away need no second look. */
    if (r->clock_read != 0 && timer->deadline > r->clock_read + 2 * LONGEST_UNPOLLED) {
        return 0;
    }
    int64_t now;
    int rc = corolla_reactor_now(r, &now);
    if (rc < 0) {
        return rc;
    }
    if (r->hooks.clock == NULL) {
        r->clock_read = now;
    }
    timer = corolla_timers_first(&r->timers); /* the owner's clock is code that may have changed them */
    while (timer != NULL && timer->deadline <= now && timer->deadline != COROLLA_NEVER) {
        if (corolla_ring_push(&r->ring, timer->fn, timer->arg) < 0) {
            break; /* there is room when the jobs before it have run */
        }
        corolla_timers_remove(&r->timers, timer);
        timer->job = r->ring.tail;
        timer = corolla_timers_first(&r->timers);
    }
    return 0;
}

static int
run_ready(corolla_reactor *r)
{
    corolla_ring *ring = &r->ring;
    const uint64_t end = ring->tail; /* what the jobs add is for the next turn */
    /* As a difference: a job may drain the ring, and then the head is past the end; or abandon the reactor, in a forked
     * child, and then there is no ring. */
    while ((int64_t)(end - ring->head) > 0 && likely(ring->head != ring->tail)) {
        corolla_job job = ring->jobs[ring->head & ring->mask];
        ring->head++;
        int rc = job.fn(job.arg);
        if (unlikely(rc < 0)) {
            return rc;
        }
        if (unlikely(is_inherited(r))) {
            return -ECHILD; /* that job came back in a forked child: the others are its parent's */
        }
    }
    return 0;
}

int
corolla_reactor_turn(corolla_reactor *r)
{
    if (unlikely(r->in_turn)) {
        return -EBUSY;
    }
    if (unlikely(is_inherited(r))) {
        return -ECHILD;
    }
    r->in_turn = true;
    r->turns++;
    int rc = gather(r);
    if (likely(rc >= 0)) {
        rc = queue_due_timers(r);
    }
    if (likely(rc >= 0)) {
        rc = run_ready(r);
    }
    if (likely(rc >= 0) && !list_is_empty(&r->deferred)) {
        rc = run_deferred(r);
    }
    r->in_turn = false;
    return rc < 0 ? rc : 0;
}

int
corolla_reactor_run(corolla_reactor *r)
{
    int rc;
    r->unpolled = MOST_UNPOLLED; /* the first turn looks at the world */
    do {
        rc = corolla_reactor_turn(r);
    } while (rc >= 0 && !r->stopping);
    r->stopping = false;
    return rc;
}

void
corolla_reactor_stop(corolla_reactor *r)
{
    r->stopping = true;
}

void
corolla_reactor_collect(corolla_reactor *r)
{
    (void)corolla_inbox_take(r); /* what does not fit now will when the jobs before it have run */
}

int
corolla_reactor_wake(corolla_reactor *r)
{
    return r->inbox->forks == corolla_fork_count() ? corolla_wakeup_signal(&r->inbox->wakeup) : -ECHILD;
}

/* ---- What is queued ---------------------------------------------------------------------- */

void
corolla_visit_job(corolla_job job, corolla_visit_fn visit, void *ctx)
{
    if (job.fn != corolla_job_nothing && job.fn != corolla_watch_run && job.fn != corolla_signal_run &&
        job.fn != corolla_resolver_answer && job.fn != corolla_child_waited) {
        visit(job.fn, job.arg, ctx);
    }
}

void
corolla_reactor_visit(corolla_reactor *r, corolla_visit_fn visit, void *ctx)
{
    for (uint64_t seq = r->ring.head; seq != r->ring.tail; seq++) {
        corolla_visit_job(r->ring.jobs[seq & r->ring.mask], visit, ctx);
    }
    for (size_t i = 0; i < r->timers.count; i++) {
        visit(r->timers.heap[i]->fn, r->timers.heap[i]->arg, ctx);
    }
    if (r->inbox != NULL) {
        corolla_inbox_visit(r->inbox, visit, ctx);
    }
}

void
corolla_forget_job(corolla_job job)
{
    if (job.fn == corolla_resolver_answer) {
        corolla_resolver_discard(job.arg);
    }
    else if (job.fn == corolla_child_waited) {
        corolla_child_unwaited(job.arg);
    }
}

static void
drain_ring(corolla_reactor *r, corolla_visit_fn drop, void *ctx)
{
    while (r->ring.head != r->ring.tail) {
        corolla_job job = r->ring.jobs[r->ring.head++ & r->ring.mask];
        corolla_forget_job(job);
        corolla_visit_job(job, drop, ctx);
    }
}

void
corolla_reactor_drain(corolla_reactor *r, corolla_visit_fn drop, void *ctx)
{
    if (r->inbox == NULL) {
        return;
    }
    corolla_inbox_check_fork(r->inbox);
    for (;;) {
        drain_ring(r, drop, ctx);
        corolla_timer *timer = corolla_timers_first(&r->timers);
        if (timer != NULL) {
            corolla_timers_remove(&r->timers, timer);
            drop(timer->fn, timer->arg, ctx);
        }
        else if (inbox_has_jobs(r->inbox)) {
            (void)corolla_inbox_take(r);
            if (r->ring.head == r->ring.tail) {
                return;
            }
        }
        else {
            return;
        }
    }
}
