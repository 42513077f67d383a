/* Deadlines: a heap of pointers to the callers' timers, four children to a node. Wide and shallow:
 * most timers are cancelled before they rise, so what counts is a short way up on insertion. */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { CHILDREN = 4, FIRST_CAPACITY = 64 };

static inline bool
is_before(const corolla_timer *a, const corolla_timer *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->order < b->order);
}

static inline void
put(corolla_timers *timers, size_t index, corolla_timer *timer)
{
    timers->heap[index] = timer;
    timer->index = index;
}

/* Moves timer from the hole at index up to where its parent is not later. */
static void
sift_up(corolla_timers *timers, size_t index, corolla_timer *timer)
{
    while (index > 0) {
        size_t parent = (index - 1) / CHILDREN;
        if (!is_before(timer, timers->heap[parent])) {
            break;
        }
        put(timers, index, timers->heap[parent]);
        index = parent;
    }
    put(timers, index, timer);
}

/* Moves timer from the hole at index down to where no child is earlier. */
static void
sift_down(corolla_timers *timers, size_t index, corolla_timer *timer)
{
    for (;;) {
        size_t child = index * CHILDREN + 1;
        if (child >= timers->count) {
            break;
        }
        size_t end = child + CHILDREN < timers->count ? child + CHILDREN : timers->count;
        size_t first = child;
        while (++child < end) {
            if (is_before(timers->heap[child], timers->heap[first])) {
                first = child;
            }
        }
        if (!is_before(timers->heap[first], timer)) {
            break;
        }
        put(timers, index, timers->heap[first]);
        index = first;
    }
    put(timers, index, timer);
}

void
corolla_timers_init(corolla_timers *timers)
{
    *timers = (corolla_timers){0};
}

void
corolla_timers_free(corolla_timers *timers)
{
    free(timers->heap);
    *timers = (corolla_timers){0};
}

int
corolla_timers_insert(corolla_timers *timers, corolla_timer *timer)
{
    assert(timer->index == COROLLA_TIMER_IDLE);
    if (timers->count == timers->capacity) {
        size_t capacity = timers->capacity ? timers->capacity * 2 : FIRST_CAPACITY;
        corolla_timer **heap = realloc(timers->heap, capacity * sizeof *heap);
        if (heap == NULL) {
            return -ENOMEM;
        }
        timers->heap = heap;
        timers->capacity = capacity;
    }
    timer->order = timers->order++;
    sift_up(timers, timers->count++, timer);
    return 0;
}

void
corolla_timers_remove(corolla_timers *timers, corolla_timer *timer)
{
    size_t index = timer->index;
    assert(index < timers->count && timers->heap[index] == timer);
    timer->index = COROLLA_TIMER_IDLE;
    corolla_timer *last = timers->heap[--timers->count];
    if (last == timer) {
        return;
    }
    if (index > 0 && is_before(last, timers->heap[(index - 1) / CHILDREN])) {
        sift_up(timers, index, last);
    }
    else {
        sift_down(timers, index, last);
    }
}

void
corolla_timer_init(corolla_timer *timer, corolla_job_fn fn, void *arg)
{
    *timer = (corolla_timer){.deadline = COROLLA_NEVER, .index = COROLLA_TIMER_IDLE, .fn = fn, .arg = arg};
}

int
corolla_timer_start(corolla_reactor *r, corolla_timer *timer, int64_t deadline)
{
    assert(!job_is_queued(&r->ring, timer->job));
    timer->job = 0;
    timer->deadline = deadline;
    return corolla_timers_insert(&r->timers, timer);
}

int
corolla_timer_queue(corolla_reactor *r, corolla_timer *timer)
{
    assert(timer->index == COROLLA_TIMER_IDLE && !job_is_queued(&r->ring, timer->job));
    int err = corolla_reactor_post(r, timer->fn, timer->arg);
    if (err == 0) {
        timer->job = r->ring.tail;
    }
    return err;
}

bool
corolla_timer_stop(corolla_reactor *r, corolla_timer *timer)
{
    if (timer->index != COROLLA_TIMER_IDLE) {
        corolla_timers_remove(&r->timers, timer);
        return true;
    }
    uint64_t job = timer->job;
    timer->job = 0;
    if (!job_is_queued(&r->ring, job)) {
        return false;
    }
    corolla_ring_revoke(&r->ring, job - 1);
    return true;
}
