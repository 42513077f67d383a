/* The eventfd that ends a sleeping poll. It is watched edge-triggered: every write is an event of its
 * own, so nobody ever has to read it, and a channel that stays readable cannot make the loop spin. */
#include "internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
corolla_wakeup_open(corolla_wakeup *wakeup)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    atomic_store(&wakeup->fd, fd);
    return 0;
}

int
corolla_wakeup_signal(corolla_wakeup *wakeup)
{
    int saved = errno;
    int err = 0;
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(atomic_load(&wakeup->fd), &one, sizeof one);
    } while (n < 0 && errno == EINTR);
    /* EAGAIN: the counter is full, so an event is pending already. */
    if (n < 0 && errno != EAGAIN) {
        err = -errno;
    }
    errno = saved;
    return err;
}

void
corolla_wakeup_close(corolla_wakeup *wakeup)
{
    int fd = atomic_exchange(&wakeup->fd, -1);
    if (fd >= 0) {
        close(fd);
    }
}
