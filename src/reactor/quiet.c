/* Writing where nobody reads any more is an error, EPIPE, and also a signal whose default is to end the process. send() has
 * a flag against it; writev() and sendfile() have not, so the signal is held off around them. */
#include "internal.h"

#include <errno.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <time.h>

/* Most programs, Python among them, ignore the signal. It is asked once a turn. */
static bool
sigpipe_is_ignored(corolla_reactor *r)
{
    if (r->sigpipe_turn != r->turns + 1) {
        struct sigaction action;
        r->sigpipe_turn = r->turns + 1;
        r->sigpipe_ignored = sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
    }
    return r->sigpipe_ignored;
}

typedef struct Quiet {
    sigset_t before, pending;
} Quiet;

static void
sigpipe_only(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
}

static void
hold_sigpipe(Quiet *quiet)
{
    sigset_t sigpipe;
    sigpipe_only(&sigpipe);
    sigemptyset(&quiet->pending);
    sigpending(&quiet->pending);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &quiet->before);
}

/* The signal of a write is sent to the thread that writes, so it is here by now: taken back, unless one was pending
 * before, which is not ours. n: what the call returned. */
static void
let_sigpipe_go(const Quiet *quiet, ssize_t n)
{
    const struct timespec now = {0, 0};
    sigset_t sigpipe;
    int err = errno;
    if (n < 0 && err == EPIPE && !sigismember(&quiet->pending, SIGPIPE)) {
        sigpipe_only(&sigpipe);
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    errno = err;
}

ssize_t
corolla_writev_quietly(corolla_reactor *r, int fd, const struct iovec *iov, int count)
{
    if (sigpipe_is_ignored(r)) {
        return writev(fd, iov, count);
    }
    Quiet quiet;
    hold_sigpipe(&quiet);
    ssize_t n = writev(fd, iov, count);
    let_sigpipe_go(&quiet, n);
    return n;
}

ssize_t
corolla_sendfile(int fd, int file, off_t *offset, size_t count)
{
    Quiet quiet;
    hold_sigpipe(&quiet); /* always: beside what it sends, three system calls are nothing */
    ssize_t n = sendfile(fd, file, offset, count);
    let_sigpipe_go(&quiet, n);
    return n < 0 ? -errno : n;
}
