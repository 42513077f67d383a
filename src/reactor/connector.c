/* Connecting to the first of several addresses that answers: Happy Eyeballs, RFC 8305. An attempt that has not
 * succeeded after a delay gets the next one beside it; when the latest attempt fails, the next one starts at once. */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

static int connector_go_on(void *arg);

static void
target_close(corolla_target *target)
{
    corolla_watch_stop(&target->watch);
    if (target->fd >= 0) {
        close(target->fd);
        target->fd = -1;
    }
}

static int
target_fail(corolla_target *target, int stage, int err)
{
    target_close(target);
    target->stage = stage;
    target->error = err;
    return err;
}

/* Binds to the first local address of the target's family that can be bound to. */
static int
target_bind(corolla_target *target, const struct addrinfo *local)
{
    int err = -EADDRNOTAVAIL; /* no address of that family */
    target->bind_index = -1;
    for (int i = 0; local != NULL; local = local->ai_next, i++) {
        if (local->ai_family != target->family) {
            continue;
        }
        if (bind(target->fd, local->ai_addr, local->ai_addrlen) == 0) {
            return 0;
        }
        err = -errno;
        target->bind_index = i;
        if (target->bind_errors != NULL) {
            target->bind_errors[i] = err;
        }
    }
    return err;
}

/* Ends it: every other attempt is closed before the owner hears of it. */
static int
connector_finish(corolla_connector *c, corolla_target *winner)
{
    int fd = -1;
    size_t index = 0;
    if (winner != NULL) {
        index = (size_t)(winner - c->targets);
        corolla_watch_stop(&winner->watch);
        fd = winner->fd;
        winner->fd = -1;
        winner->error = 0;
    }
    corolla_connector_cancel(c);
    return c->done(c, fd, index);
}

static int
target_ready(corolla_watch *watch, unsigned events)
{
    corolla_target *target = container_of(watch, corolla_target, watch);
    corolla_connector *c = target->connector;
    (void)events;
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(target->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
        err = errno;
    }
    if (err == 0) {
        return connector_finish(c, target);
    }
    target_fail(target, COROLLA_AT_CONNECT, -err);
    c->running--;
    /* An attempt that others have been started beside leaves the time of the next one as it is. */
    if (target != &c->targets[c->next - 1] && c->running > 0) {
        return 0;
    }
    (void)corolla_timer_stop(c->reactor, &c->timer);
    return connector_go_on(c);
}

/* 1: connected; 0: under way; or -errno, which the target remembers. */
static int
target_start(corolla_connector *c, corolla_target *target)
{
    target->fd = socket(target->family, target->type | SOCK_NONBLOCK | SOCK_CLOEXEC, target->protocol);
    if (target->fd < 0) {
        return target_fail(target, COROLLA_AT_SOCKET, -errno);
    }
    if (c->local != NULL) {
        int err = target_bind(target, c->local);
        if (err < 0) {
            return target_fail(target, COROLLA_AT_BIND, err);
        }
    }
    if (connect(target->fd, (const struct sockaddr *)&target->addr, target->addrlen) == 0) {
        return 1;
    }
    /* EINTR: it goes on by itself, and connecting again would be an error. */
    if (errno != EINPROGRESS && errno != EINTR) {
        return target_fail(target, COROLLA_AT_CONNECT, -errno);
    }
    int err = corolla_watch_start(c->reactor, &target->watch, target->fd, COROLLA_WRITABLE);
    if (err < 0) {
        return target_fail(target, COROLLA_AT_CONNECT, err);
    }
    c->running++;
    return 0;
}

/* Starts attempts until one is under way, and sees to the time of the one after it. */
static int
connector_go_on(void *arg)
{
    corolla_connector *c = arg;
    corolla_timer_fired(&c->timer);
    while (c->next < c->count) {
        corolla_target *target = &c->targets[c->next++];
        int rc = target_start(c, target);
        if (rc > 0) {
            return connector_finish(c, target);
        }
        if (rc == 0) {
            break;
        }
    }
    if (c->running == 0) {
        return connector_finish(c, NULL);
    }
    if (c->next < c->count && c->delay >= 0) {
        int64_t now;
        int rc = corolla_reactor_now(c->reactor, &now);
        if (rc < 0) {
            return rc;
        }
        int64_t deadline;
        if (__builtin_add_overflow(now, c->delay, &deadline)) {
            deadline = COROLLA_NEVER;
        }
        /* Without memory for the timer the attempts just come one after another. */
        (void)corolla_timer_start(c->reactor, &c->timer, deadline);
    }
    return 0;
}

void
corolla_connector_init(corolla_connector *c)
{
    c->reactor = NULL;
    c->next = c->running = 0;
    c->active = false;
    corolla_timer_init(&c->timer, connector_go_on, c);
}

int
corolla_connector_start(corolla_reactor *r, corolla_connector *c)
{
    assert(!c->active);
    for (size_t i = 0; i < c->count; i++) {
        corolla_target *target = &c->targets[i];
        target->error = target->stage = 0;
        target->bind_index = -1;
        target->connector = c;
        target->fd = -1;
        corolla_watch_init(&target->watch, target_ready);
    }
    c->reactor = r;
    c->next = c->running = 0;
    /* From a job of its own, as done must not be called from in here. */
    int err = corolla_timer_start(r, &c->timer, INT64_MIN);
    if (err == 0) {
        c->active = true;
    }
    return err;
}

void
corolla_connector_cancel(corolla_connector *c)
{
    if (!c->active) {
        return;
    }
    c->active = false;
    (void)corolla_timer_stop(c->reactor, &c->timer);
    for (size_t i = 0; i < c->next; i++) {
        target_close(&c->targets[i]);
    }
}
