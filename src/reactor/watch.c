/* A descriptor somebody wants to hear of: its slot, its registration with the kernel, its job. */
#include "internal.h"
#include "poller.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 64 };

/* Makes room for fd in the table. */
static int
reserve_slot(corolla_reactor *r, int fd)
{
    size_t count = r->slot_count ? r->slot_count : FIRST_SLOTS;
    while (count <= (size_t)fd) {
        count *= 2;
    }
    if (count == r->slot_count) {
        return 0;
    }
    corolla_slot *slots = realloc(r->slots, count * sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    memset(slots + r->slot_count, 0, (count - r->slot_count) * sizeof *slots);
    r->slots = slots;
    r->slot_count = count;
    return 0;
}

void
corolla_watch_init(corolla_watch *watch, corolla_watch_fn fn)
{
    *watch = (corolla_watch){.fd = -1, .fn = fn};
}

int
corolla_watch_start(corolla_reactor *r, corolla_watch *watch, int fd, unsigned interest)
{
    assert(watch->reactor == NULL);
    if (fd < 0) {
        return -EBADF;
    }
    int err = reserve_slot(r, fd);
    if (err < 0) {
        return err;
    }
    corolla_slot *slot = &r->slots[fd];
    if (slot->watch != NULL) {
        if (!slot->watch->idle && corolla_watch_alive(slot->watch)) {
            return -EEXIST;
        }
        corolla_watch_stop(slot->watch);
    }
    slot->generation++;
    if (interest != 0) {
        err = corolla_poller_add(r->poller, fd, slot->generation, interest);
        if (err < 0) {
            return err;
        }
    }
    slot->watch = watch;
    watch->reactor = r;
    watch->fd = fd;
    watch->interest = interest;
    watch->ready = 0;
    watch->job = 0;
    r->watch_count++;
    return 0;
}

int
corolla_watch_modify(corolla_watch *watch, unsigned interest)
{
    corolla_reactor *r = watch->reactor;
    if (unlikely(r == NULL)) {
        return -EBADF;
    }
    if (interest == watch->interest) {
        return 0;
    }
    /* With no interest the descriptor leaves the kernel's set: a hang-up is reported to whoever is in
     * it, asked for or not, and would keep the poll from ever sleeping. */
    if (interest == 0) {
        corolla_poller_del(r->poller, watch->fd);
    }
    else {
        uint32_t generation = r->slots[watch->fd].generation;
        int err = watch->interest == 0 ? corolla_poller_add(r->poller, watch->fd, generation, interest)
                                       : corolla_poller_modify(r->poller, watch->fd, generation, interest);
        if (err < 0) {
            return err;
        }
    }
    watch->interest = interest;
    return 0;
}

void
corolla_watch_stop(corolla_watch *watch)
{
    corolla_reactor *r = watch->reactor;
    if (r == NULL) {
        return;
    }
    if (job_is_queued(&r->ring, watch->job)) {
        corolla_ring_revoke(&r->ring, watch->job - 1);
    }
    if (watch->interest != 0) {
        corolla_poller_del(r->poller, watch->fd);
    }
    assert(r->slots[watch->fd].watch == watch);
    r->slots[watch->fd].watch = NULL;
    r->watch_count--;
    watch->reactor = NULL;
    watch->fd = -1;
    watch->interest = watch->ready = 0;
    watch->job = 0;
}

bool
corolla_watch_alive(const corolla_watch *watch)
{
    const corolla_reactor *r = watch->reactor;
    if (r == NULL) {
        return false;
    }
    return watch->interest == 0 ||
           corolla_poller_has(r->poller, watch->fd, r->slots[watch->fd].generation, watch->interest);
}

corolla_watch *
corolla_watch_find(const corolla_reactor *r, int fd)
{
    return fd >= 0 && (size_t)fd < r->slot_count ? r->slots[fd].watch : NULL;
}

bool
corolla_watch_report(corolla_reactor *r, int fd, uint32_t generation, unsigned ready)
{
    if (unlikely((size_t)fd >= r->slot_count)) {
        return false;
    }
    corolla_slot *slot = &r->slots[fd];
    corolla_watch *watch = slot->watch;
    if (unlikely(watch == NULL || slot->generation != generation || watch->interest == 0)) {
        return false;
    }
    watch->ready |= ready;
    if (unlikely(job_is_queued(&r->ring, watch->job))) {
        return true;
    }
    if (likely(corolla_ring_push(&r->ring, corolla_watch_run, watch) == 0)) {
        watch->job = r->ring.tail;
    }
    else if (watch->interest & COROLLA_EDGE) {
        /* No memory for the job. The kernel says it again by itself only where it is not asked for changes. */
        (void)corolla_poller_modify(r->poller, fd, generation, watch->interest);
    }
    return true;
}

int
corolla_watch_run(void *arg)
{
    corolla_watch *watch = arg;
    unsigned ready = watch->ready;
    unsigned events = ready & watch->interest;
    watch->ready = 0;
    watch->job = 0;
    if (unlikely(events == 0)) {
        return 0;
    }
    return watch->fn(watch, events | (ready & COROLLA_HANGUP));
}
