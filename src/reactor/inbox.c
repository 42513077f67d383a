/* Jobs from other threads. A poster appends under a lock; the owner swaps the whole array out. One flag tells
 * the owner every turn, without the lock, whether to look; another tells posters whether the owner sleeps, so
 * that a burst costs one wake-up and a busy loop none.
 *
 * The two flags are set and read crosswise, each side writing its own before it reads the other's, in
 * sequentially consistent order: the owner says "sleeping", then looks for jobs; the poster says "nonempty",
 * then looks whether to wake. Whatever the interleaving, at least one of them sees the other. */
#include "internal.h"
#include "poller.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 64, KEPT_CAPACITY = 16384 };

corolla_inbox *
corolla_inbox_new(void)
{
    corolla_inbox *inbox = calloc(1, sizeof *inbox);
    if (inbox == NULL) {
        return NULL;
    }
    atomic_init(&inbox->refs, 1);
    inbox->forks = inbox->checked = corolla_fork_count();
    int err = corolla_wakeup_open(&inbox->wakeup);
    if (err < 0) {
        free(inbox);
        errno = -err;
        return NULL;
    }
    pthread_mutex_init(&inbox->lock, NULL);
    return inbox;
}

corolla_inbox *
corolla_inbox_ref(corolla_inbox *inbox)
{
    atomic_fetch_add_explicit(&inbox->refs, 1, memory_order_relaxed);
    return inbox;
}

void
corolla_inbox_unref(corolla_inbox *inbox)
{
    if (inbox == NULL || atomic_fetch_sub_explicit(&inbox->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    corolla_wakeup_close(&inbox->wakeup);
    pthread_mutex_destroy(&inbox->lock);
    free(inbox->in);
    free(inbox->out);
    free(inbox);
}

/* In a forked child, a thread of the parent may have held the lock and is gone; what it was doing to the array
 * is unknown, so that is left alone for good. */
void
corolla_inbox_check_fork(corolla_inbox *inbox)
{
    unsigned forks = corolla_fork_count();
    if (likely(inbox->checked == forks)) {
        return;
    }
    inbox->checked = forks;
    if (pthread_mutex_trylock(&inbox->lock) == 0) {
        pthread_mutex_unlock(&inbox->lock);
        return;
    }
    pthread_mutex_init(&inbox->lock, NULL);
    inbox->in = NULL;
    inbox->in_count = inbox->in_capacity = 0;
}

void
corolla_inbox_close(corolla_inbox *inbox)
{
    corolla_inbox_check_fork(inbox);
    pthread_mutex_lock(&inbox->lock);
    inbox->closed = true;
    /* Under the lock: a poster that is about to wake us must not write to a number already reused. */
    corolla_wakeup_close(&inbox->wakeup);
    pthread_mutex_unlock(&inbox->lock);
    /* Nobody appends any more. */
    for (; inbox->out_next < inbox->out_count; inbox->out_next++) {
        corolla_forget_job(inbox->out[inbox->out_next]);
    }
    for (size_t i = 0; i < inbox->in_count; i++) {
        corolla_forget_job(inbox->in[i]);
    }
    inbox->in_count = 0;
}

static int
append(corolla_inbox *inbox, corolla_job_fn fn, void *arg)
{
    if (inbox->in_count == inbox->in_capacity) {
        size_t capacity = inbox->in_capacity ? inbox->in_capacity * 2 : FIRST_CAPACITY;
        corolla_job *in = realloc(inbox->in, capacity * sizeof *in);
        if (in == NULL) {
            return -ENOMEM;
        }
        inbox->in = in;
        inbox->in_capacity = capacity;
    }
    inbox->in[inbox->in_count++] = (corolla_job){fn, arg};
    return 0;
}

int
corolla_inbox_post(corolla_inbox *inbox, corolla_job_fn fn, void *arg)
{
    int err;
    if (unlikely(inbox->forks != corolla_fork_count())) {
        return -ECHILD; /* whom it would wake is the parent */
    }
    pthread_mutex_lock(&inbox->lock);
    if (inbox->closed) {
        err = -ESHUTDOWN;
        goto done;
    }
    err = append(inbox, fn, arg);
    if (err < 0) {
        goto done;
    }
    atomic_store(&inbox->nonempty, true);
    if (atomic_load(&inbox->sleeping) && atomic_exchange(&inbox->sleeping, false)) {
        err = corolla_wakeup_signal(&inbox->wakeup);
        if (err < 0) {
            /* Nobody would run the job in time: fail loudly, and let the next poster try again. */
            inbox->in_count--;
            inbox->wake_lost = true;
            atomic_store(&inbox->sleeping, true);
        }
    }
done:
    pthread_mutex_unlock(&inbox->lock);
    return err;
}

/* The wake-up channel was closed behind our back. Its number is not ours any more, so it is not closed. */
static void
renew_wakeup(corolla_reactor *r)
{
    corolla_inbox *inbox = r->inbox;
    if (corolla_wakeup_open(&inbox->wakeup) == 0) {
        inbox->wake_lost = corolla_poller_add_wakeup(r->poller, inbox->wakeup.fd) < 0;
    }
}

/* Moves what was taken to the ring. */
static int
pour(corolla_reactor *r)
{
    corolla_inbox *inbox = r->inbox;
    while (inbox->out_next < inbox->out_count) {
        corolla_job *job = &inbox->out[inbox->out_next];
        int err = corolla_ring_push(&r->ring, job->fn, job->arg);
        if (err < 0) {
            atomic_store_explicit(&inbox->nonempty, true, memory_order_relaxed);
            return err;
        }
        inbox->out_next++;
    }
    if (inbox->out_capacity > KEPT_CAPACITY) {
        free(inbox->out);
        inbox->out = NULL;
        inbox->out_capacity = 0;
    }
    inbox->out_next = inbox->out_count = 0;
    return 0;
}

int
corolla_inbox_take(corolla_reactor *r)
{
    corolla_inbox *inbox = r->inbox;
    int err = pour(r); /* what did not fit the last time */
    if (err < 0) {
        return err;
    }
    corolla_inbox_check_fork(inbox);
    pthread_mutex_lock(&inbox->lock);
    corolla_job *empty = inbox->out;
    size_t empty_capacity = inbox->out_capacity;
    inbox->out = inbox->in;
    inbox->out_count = inbox->in_count;
    inbox->out_capacity = inbox->in_capacity;
    inbox->in = empty;
    inbox->in_count = 0;
    inbox->in_capacity = empty_capacity;
    if (unlikely(inbox->wake_lost)) {
        renew_wakeup(r);
    }
    atomic_store_explicit(&inbox->nonempty, inbox->wake_lost, memory_order_relaxed);
    pthread_mutex_unlock(&inbox->lock);
    return pour(r);
}

void
corolla_inbox_visit(corolla_inbox *inbox, corolla_visit_fn visit, void *ctx)
{
    corolla_inbox_check_fork(inbox);
    for (size_t i = inbox->out_next; i < inbox->out_count; i++) {
        corolla_visit_job(inbox->out[i], visit, ctx);
    }
    pthread_mutex_lock(&inbox->lock);
    for (size_t i = 0; i < inbox->in_count; i++) {
        corolla_visit_job(inbox->in[i], visit, ctx);
    }
    pthread_mutex_unlock(&inbox->lock);
}
