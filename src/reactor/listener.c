/* A listening socket: accepts in batches, and waits when the process is out of descriptors. */
#include "internal.h"

#include <errno.h>
#include <netinet/in.h>

static bool
is_shortage(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

/* Errors of a connection that was lost before it was accepted: accept(2) hands them on. */
static bool
is_of_the_peer(int err)
{
    switch (err) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

static int
accept_failed(corolla_listener *l, int err)
{
    corolla_reactor *r = l->watch.reactor;
    /* Whatever it is, it would be reported again at once, for ever. */
    int rc = corolla_watch_modify(&l->watch, 0);
    if (rc >= 0 && is_shortage(err)) {
        int64_t now;
        rc = corolla_reactor_now(r, &now);
        if (rc >= 0) {
            rc = corolla_timer_start(r, &l->retry, now + COROLLA_ACCEPT_RETRY);
        }
    }
    if (rc < 0) {
        return rc;
    }
    return l->failed(l, -err);
}

static int
listener_ready(corolla_watch *watch, unsigned events)
{
    corolla_listener *l = container_of(watch, corolla_listener, watch);
    bool stopped = false;
    (void)events;
    for (int i = 0; i < l->batch; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) {
                return 0;
            }
            if (is_of_the_peer(errno)) {
                continue;
            }
            return accept_failed(l, errno);
        }
        l->stopped = &stopped;
        int rc = l->accepted(l, fd, (struct sockaddr *)&peer, len);
        if (stopped) {
            return rc;
        }
        l->stopped = NULL;
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int
listener_retry(void *arg)
{
    corolla_listener *l = arg;
    corolla_timer_fired(&l->retry);
    int rc = corolla_watch_modify(&l->watch, COROLLA_READABLE);
    return rc < 0 ? l->failed(l, rc) : 0;
}

void
corolla_listener_init(corolla_listener *l)
{
    l->fd = -1;
    l->stopped = NULL;
    corolla_watch_init(&l->watch, listener_ready);
    corolla_timer_init(&l->retry, listener_retry, l);
}

int
corolla_listener_start(corolla_reactor *r, corolla_listener *l, int fd, int batch)
{
    int err = corolla_watch_start(r, &l->watch, fd, COROLLA_READABLE);
    if (err < 0) {
        return err;
    }
    l->fd = fd;
    l->batch = batch > 0 ? batch : 1;
    return 0;
}

void
corolla_listener_stop(corolla_listener *l)
{
    corolla_reactor *r = l->watch.reactor;
    if (r == NULL) {
        return;
    }
    if (l->stopped != NULL) {
        *l->stopped = true;
        l->stopped = NULL;
    }
    (void)corolla_timer_stop(r, &l->retry);
    corolla_watch_stop(&l->watch);
    l->fd = -1;
}
