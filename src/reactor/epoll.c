/* The poller on epoll, level-triggered where a watch does not ask for edges. */
#include "internal.h"
#include "poller.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same on every architecture */
#endif

enum { FIRST_EVENTS = 256, MOST_EVENTS = 4096 };

/* No descriptor has this number and generation. */
#define WAKEUP UINT64_MAX

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

struct corolla_poller {
    int fd;         /* owned */
    int wakeup_fd;  /* borrowed, -1 when there is none */
    bool coarse;    /* no epoll_pwait2: milliseconds */
    unsigned forks; /* when it was made: a forked child shares the set with its parent, and must not change it */
    size_t capacity;
    struct epoll_event *events; /* owned */
};

static inline uint64_t
registration(int fd, uint32_t generation)
{
    return (uint64_t)generation << 32 | (uint32_t)fd;
}

static inline struct epoll_event
epoll_event_of(int fd, uint32_t generation, unsigned interest)
{
    struct epoll_event event = {.data.u64 = registration(fd, generation)};
    if (interest & COROLLA_READABLE) {
        event.events |= EPOLLIN;
    }
    if (interest & COROLLA_WRITABLE) {
        event.events |= EPOLLOUT;
    }
    if (interest & COROLLA_EDGE) {
        event.events |= EPOLLET;
    }
    return event;
}

int
corolla_poller_create(corolla_poller **result)
{
    int err = -ENOMEM;
    corolla_poller *poller = calloc(1, sizeof *poller);
    if (poller == NULL) {
        return err;
    }
    poller->wakeup_fd = -1;
    poller->forks = corolla_fork_count();
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fd < 0) {
        err = -errno;
        goto fail;
    }
    err = corolla_poller_resize(poller, FIRST_EVENTS);
    if (err < 0) {
        goto fail;
    }
    *result = poller;
    return 0;

fail:
    corolla_poller_free(poller);
    return err;
}

void
corolla_poller_free(corolla_poller *poller)
{
    if (poller == NULL) {
        return;
    }
    if (poller->fd >= 0) {
        close(poller->fd);
    }
    free(poller->events);
    free(poller);
}

int
corolla_poller_resize(corolla_poller *poller, size_t events)
{
    struct epoll_event *table = realloc(poller->events, events * sizeof *table);
    if (table == NULL) {
        return -ENOMEM;
    }
    poller->events = table;
    poller->capacity = events;
    return 0;
}

/* Adds or modifies, whichever is asked for first; the other one when the kernel knows better: it may have
 * dropped a registration with its file, or kept one that a dup keeps alive. */
static int
control(int epoll_fd, int op, int fd, struct epoll_event event)
{
    if (epoll_ctl(epoll_fd, op, fd, &event) == 0) {
        return 0;
    }
    if (op == EPOLL_CTL_ADD && errno == EEXIST) {
        op = EPOLL_CTL_MOD;
    }
    else if (op == EPOLL_CTL_MOD && errno == ENOENT) {
        op = EPOLL_CTL_ADD;
    }
    else {
        return -errno;
    }
    return epoll_ctl(epoll_fd, op, fd, &event) == 0 ? 0 : -errno;
}

int
corolla_poller_add(corolla_poller *poller, int fd, uint32_t generation, unsigned interest)
{
    if (poller->forks != corolla_fork_count()) {
        return -EBADF;
    }
    return control(poller->fd, EPOLL_CTL_ADD, fd, epoll_event_of(fd, generation, interest));
}

int
corolla_poller_modify(corolla_poller *poller, int fd, uint32_t generation, unsigned interest)
{
    if (poller->forks != corolla_fork_count()) {
        return -EBADF;
    }
    return control(poller->fd, EPOLL_CTL_MOD, fd, epoll_event_of(fd, generation, interest));
}

void
corolla_poller_del(corolla_poller *poller, int fd)
{
    /* EBADF and ENOENT: it was closed behind our back. Mostly the registration went with it; where a
     * dup keeps it alive, its first event tells, and report() rebuilds the set. Nothing else can fail. */
    if (poller->forks == corolla_fork_count()) {
        (void)epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, NULL);
    }
}

bool
corolla_poller_has(corolla_poller *poller, int fd, uint32_t generation, unsigned interest)
{
    struct epoll_event event = epoll_event_of(fd, generation, interest);
    if (poller->forks != corolla_fork_count()) {
        return false;
    }
    /* EPERM: the number is that of a file by now, for which there is no polling. */
    return epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event) == 0 ||
           (errno != ENOENT && errno != EBADF && errno != EPERM);
}

int
corolla_poller_add_wakeup(corolla_poller *poller, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = WAKEUP};
    int err = control(poller->fd, EPOLL_CTL_ADD, fd, event);
    if (err == 0) {
        poller->wakeup_fd = fd;
    }
    return err;
}

/* A fresh epoll descriptor with what the slots say: the only way to be rid of a registration whose number
 * has been closed. The old one stays in use when that fails. */
static int
rebuild(corolla_reactor *r)
{
    corolla_poller *poller = r->poller;
    int err;
    int old = poller->fd;
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    for (size_t i = 0; i < r->slot_count; i++) {
        corolla_watch *watch = r->slots[i].watch;
        if (watch == NULL || watch->interest == 0) {
            continue;
        }
        err = control(fd, EPOLL_CTL_ADD, watch->fd, epoll_event_of(watch->fd, r->slots[i].generation, watch->interest));
        /* Closed behind our back, perhaps replaced by a file: forgotten, as the kernel forgets it. */
        if (err < 0 && err != -EBADF && err != -EPERM) {
            goto fail;
        }
    }
    poller->fd = fd;
    if (poller->wakeup_fd >= 0) {
        err = corolla_poller_add_wakeup(poller, poller->wakeup_fd);
        if (err < 0 && err != -EBADF && err != -EPERM) {
            poller->fd = old;
            goto fail;
        }
    }
    close(old);
    return 0;

fail:
    close(fd);
    return err;
}

/* An event of a registration that is no more: it must leave the kernel's set, or it would come again for
 * ever. True when only a rebuild can do that. */
static bool
forget_stale(corolla_reactor *r, int fd)
{
    corolla_slot *slot = (size_t)fd < r->slot_count ? &r->slots[fd] : NULL;
    if (slot != NULL && slot->watch != NULL && slot->watch->interest != 0) {
        /* The number has a new owner, and by this number only that one's registration can be deleted. */
        return true;
    }
    return epoll_ctl(r->poller->fd, EPOLL_CTL_DEL, fd, NULL) < 0;
}

int
corolla_poller_poll(corolla_poller *poller, int64_t timeout)
{
    int capacity = (int)poller->capacity;
    long n;
    if (timeout > 0 && !poller->coarse) {
        struct timespec limit = {.tv_sec = (time_t)(timeout / NS_PER_S), .tv_nsec = (long)(timeout % NS_PER_S)};
        n = syscall(SYS_epoll_pwait2, poller->fd, poller->events, capacity, &limit, NULL, (size_t)0);
        if (n >= 0) {
            return (int)n;
        }
        /* EPERM: how a sandbox refuses a system call it does not know. */
        if (errno != ENOSYS && errno != EPERM) {
            return -errno;
        }
        poller->coarse = true;
    }
    int ms = -1;
    if (timeout >= 0) {
        /* Rounded up: a poll that returns before the deadline would have to be repeated. */
        int64_t rounded = timeout / NS_PER_MS + (timeout % NS_PER_MS != 0);
        ms = rounded < INT_MAX ? (int)rounded : INT_MAX;
    }
    n = epoll_wait(poller->fd, poller->events, capacity, ms);
    return n < 0 ? -errno : (int)n;
}

int
corolla_poller_report(corolla_reactor *r, int count)
{
    corolla_poller *poller = r->poller;
    bool stale = false;
    for (int i = 0; i < count; i++) {
        uint64_t data = poller->events[i].data.u64;
        uint32_t events = poller->events[i].events;
        if (data == WAKEUP) {
            continue;
        }
        unsigned ready = 0;
        if (events & EPOLLIN) {
            ready |= COROLLA_READABLE;
        }
        if (events & EPOLLOUT) {
            ready |= COROLLA_WRITABLE;
        }
        if (unlikely(events & (EPOLLERR | EPOLLHUP))) {
            /* Whoever reads or writes next finds out what it is. */
            ready = COROLLA_READABLE | COROLLA_WRITABLE | COROLLA_HANGUP;
        }
        int fd = (int)(uint32_t)data;
        if (unlikely(!corolla_watch_report(r, fd, (uint32_t)(data >> 32), ready))) {
            stale |= forget_stale(r, fd);
        }
    }
    if (unlikely((size_t)count == poller->capacity && count < MOST_EVENTS)) {
        (void)corolla_poller_resize(poller, poller->capacity * 2); /* the rest comes with the next poll */
    }
    return stale ? rebuild(r) : 0;
}
