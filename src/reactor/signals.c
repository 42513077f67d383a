/* Signals for programs without an interpreter: the handler sets a flag for its signal and wakes the loop; the turn
 * makes a job of each flag. Deliveries merge in the flag, so none is lost to a full pipe. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

struct corolla_sigstate {
    struct sigaction previous;
};

/* Signal dispositions belong to the process, and so does this. The handler may run on any thread. */
static _Atomic(corolla_reactor *) owner;
static corolla_signal *started; /* the owner's, touched by its thread only */
static atomic_bool noticed[NSIG];
atomic_bool corolla_signals_noticed; /* any of the above */

static void
handle(int signum)
{
    corolla_reactor *r = atomic_load(&owner);
    if (r == NULL) {
        return;
    }
    atomic_store(&noticed[signum], true);
    atomic_store(&corolla_signals_noticed, true);
    (void)corolla_reactor_wake(r);
}

int
corolla_signal_run(void *arg)
{
    corolla_signal *s = arg;
    s->job = 0;
    return s->fn(s);
}

void
corolla_signals_deliver(corolla_reactor *r)
{
    if (atomic_load(&owner) != r) {
        return;
    }
    atomic_store(&corolla_signals_noticed, false);
    for (corolla_signal *s = started; s != NULL; s = s->next) {
        if (!atomic_exchange(&noticed[s->signum], false) || job_is_queued(&r->ring, s->job)) {
            continue;
        }
        if (corolla_ring_push(&r->ring, corolla_signal_run, s) == 0) {
            s->job = r->ring.tail;
        }
        else {
            atomic_store(&noticed[s->signum], true);
            atomic_store(&corolla_signals_noticed, true);
        }
    }
}

int
corolla_signal_start(corolla_reactor *r, corolla_signal *s, int signum)
{
    int err;
    if (signum <= 0 || signum >= NSIG) {
        return -EINVAL;
    }
    corolla_reactor *nobody = NULL;
    if (!atomic_compare_exchange_strong(&owner, &nobody, r) && nobody != r) {
        return -EBUSY;
    }
    for (corolla_signal *other = started; other != NULL; other = other->next) {
        if (other->signum == signum) {
            return -EEXIST;
        }
    }
    s->saved = malloc(sizeof *s->saved);
    if (s->saved == NULL) {
        err = -ENOMEM;
        goto fail;
    }
    atomic_store(&noticed[signum], false);
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(signum, &action, &s->saved->previous) < 0) {
        err = -errno;
        goto fail;
    }
    s->reactor = r;
    s->signum = signum;
    s->job = 0;
    s->next = started;
    started = s;
    return 0;

fail:
    free(s->saved);
    s->saved = NULL;
    if (started == NULL) {
        atomic_store(&owner, NULL);
    }
    return err;
}

void
corolla_signal_stop(corolla_signal *s)
{
    corolla_reactor *r = s->reactor;
    if (r == NULL) {
        return;
    }
    for (corolla_signal **link = &started; *link != NULL; link = &(*link)->next) {
        if (*link == s) {
            *link = s->next;
            break;
        }
    }
    (void)sigaction(s->signum, &s->saved->previous, NULL);
    if (job_is_queued(&r->ring, s->job)) {
        corolla_ring_revoke(&r->ring, s->job - 1);
    }
    free(s->saved);
    s->saved = NULL;
    s->reactor = NULL;
    s->next = NULL;
    s->job = 0;
    if (started == NULL) {
        atomic_store(&owner, NULL);
    }
}

void
corolla_signals_forget(corolla_reactor *r)
{
    if (atomic_load(&owner) != r) {
        return;
    }
    while (started != NULL) {
        corolla_signal_stop(started);
    }
}
