/* The end of a child process: by its pidfd in the poller, or, where the kernel gives none, by a thread that waits for it and
 * tells through the inbox. Either only says that the child has ended; it is reaped on the reactor's thread, in the same
 * breath in which `reaped` is set. So whoever signals a child there never meets a number that is somebody else's. */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* What a thread does once its child has ended. */
enum { TELL, REAP, LEAVE };

/* A thread that waits for one child. */
typedef struct corolla_waiter {
    atomic_size_t refs; /* the thread's and the owner's, and one for its job */
    corolla_inbox *inbox;
    corolla_child *child; /* borrowed; NULL once the owner has gone. The reactor's thread only */
    pid_t pid;
    pthread_mutex_t lock; /* guards the rest */
    int then;             /* TELL, REAP or LEAVE */
} corolla_waiter;

static _Atomic bool without_pidfd; /* for tests */

void
corolla_child_force_threads(bool on)
{
    atomic_store(&without_pidfd, on);
}

/* ---- System calls -------------------------------------------------------------------------- */

static int
open_pidfd(pid_t pid)
{
    if (atomic_load_explicit(&without_pidfd, memory_order_relaxed)) {
        return -ENOSYS;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

/* By pidfd if there is one, and the kernel knows how (5.4). 1: it has ended; 0: not yet; -errno. */
static int
wait_for(pid_t pid, int pidfd, int options, siginfo_t *info)
{
    for (;;) {
        info->si_pid = 0;
        int rc = pidfd >= 0 ? waitid((idtype_t)P_PIDFD, (id_t)pidfd, info, options)
                            : waitid(P_PID, (id_t)pid, info, options);
        if (rc == 0) {
            return info->si_pid != 0;
        }
        if (errno == EINVAL && pidfd >= 0) {
            pidfd = -1;
        }
        else if (errno != EINTR) {
            return -errno;
        }
    }
}

/* ---- The waiting thread ----------------------------------------------------------------------- */

static void
waiter_drop(corolla_waiter *waiter)
{
    if (waiter != NULL && atomic_fetch_sub_explicit(&waiter->refs, 1, memory_order_acq_rel) == 1) {
        corolla_inbox_unref(waiter->inbox);
        pthread_mutex_destroy(&waiter->lock);
        free(waiter);
    }
}

static void *
waiter_main(void *arg)
{
    corolla_waiter *waiter = arg;
    siginfo_t info;
    (void)wait_for(waiter->pid, -1, WEXITED | WNOWAIT, &info);
    pthread_mutex_lock(&waiter->lock);
    if (waiter->then == REAP) {
        (void)wait_for(waiter->pid, -1, WEXITED | WNOHANG, &info);
    }
    else if (waiter->then == TELL) {
        atomic_fetch_add_explicit(&waiter->refs, 1, memory_order_relaxed);
        if (corolla_inbox_post(waiter->inbox, corolla_child_waited, waiter) < 0) {
            /* The reactor is closed, or out of memory: the owner reaps when it lets go. */
            (void)atomic_fetch_sub_explicit(&waiter->refs, 1, memory_order_relaxed);
        }
    }
    pthread_mutex_unlock(&waiter->lock);
    waiter_drop(waiter);
    return NULL;
}

/* A detached thread that no signal is delivered to. 0 or -errno. */
static int
start_thread(void *(*body)(void *), void *arg)
{
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err != 0) {
        return -err;
    }
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    err = pthread_create(&thread, &attr, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -err;
}

/* inbox: NULL for a thread that waits for a child of nobody. New, with its thread running, or NULL and *err. */
static corolla_waiter *
waiter_start(pid_t pid, corolla_inbox *inbox, corolla_child *child, int *err)
{
    corolla_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL) {
        *err = -ENOMEM;
        return NULL;
    }
    atomic_init(&waiter->refs, 2);
    waiter->inbox = inbox == NULL ? NULL : corolla_inbox_ref(inbox);
    waiter->child = child;
    waiter->pid = pid;
    waiter->then = inbox == NULL ? REAP : TELL;
    pthread_mutex_init(&waiter->lock, NULL);
    *err = start_thread(waiter_main, waiter);
    if (*err < 0) {
        atomic_store_explicit(&waiter->refs, 1, memory_order_relaxed);
        waiter_drop(waiter);
        return NULL;
    }
    return waiter;
}

/* ---- The end ------------------------------------------------------------------------------------ */

static void
close_pidfd(corolla_child *child)
{
    if (child->pidfd >= 0) {
        close(child->pidfd);
        child->pidfd = -1;
    }
}

static void
leave_waiter(corolla_child *child)
{
    if (child->waiter != NULL) {
        child->waiter->child = NULL;
        waiter_drop(child->waiter);
        child->waiter = NULL;
    }
}

/* It can be reaped, or somebody else has done it. */
static int
reap(corolla_child *child)
{
    siginfo_t info;
    int rc = wait_for(child->pid, child->pidfd, WEXITED | WNOHANG, &info);
    if (rc == 0) {
        return 0; /* not yet */
    }
    child->reaped = true;
    corolla_watch_stop(&child->watch);
    leave_waiter(child);
    close_pidfd(child);
    child->reactor = NULL;
    if (rc < 0) {
        return child->done(child, 0, rc);
    }
    return child->done(child, info.si_code == CLD_EXITED ? info.si_status : -info.si_status, 0);
}

static int
pidfd_ready(corolla_watch *watch, unsigned events)
{
    (void)events;
    return reap(container_of(watch, corolla_child, watch));
}

int
corolla_child_waited(void *arg)
{
    corolla_waiter *waiter = arg;
    corolla_child *child = waiter->child;
    waiter_drop(waiter);
    return child == NULL ? 0 : reap(child);
}

void
corolla_child_unwaited(void *arg)
{
    waiter_drop(arg);
}

/* ---- For the owner --------------------------------------------------------------------------------- */

void
corolla_child_init(corolla_child *child, pid_t pid)
{
    *child = (corolla_child){.pid = pid, .pidfd = -1};
    corolla_watch_init(&child->watch, pidfd_ready);
}

int
corolla_child_start(corolla_reactor *r, corolla_child *child)
{
    int err;
    child->reactor = r;
    child->pidfd = open_pidfd(child->pid);
    if (child->pidfd >= 0) {
        if (corolla_watch_start(r, &child->watch, child->pidfd, COROLLA_READABLE) == 0) {
            return 0;
        }
        close_pidfd(child);
    }
    child->pidfd = -1;
    child->waiter = waiter_start(child->pid, r->inbox, child, &err);
    if (child->waiter == NULL) {
        child->reactor = NULL;
        return err;
    }
    return 0;
}

int
corolla_child_signal(corolla_child *child, int signum)
{
    if (child->reaped) {
        return -ESRCH;
    }
    if (child->pidfd >= 0) {
        if (syscall(SYS_pidfd_send_signal, child->pidfd, signum, NULL, 0) == 0) {
            return 0;
        }
        if (errno != ENOSYS && errno != EPERM) {
            return -errno;
        }
    }
    return kill(child->pid, signum) < 0 ? -errno : 0;
}

bool
corolla_child_ended(const corolla_child *child)
{
    siginfo_t info;
    return child->reaped || wait_for(child->pid, child->pidfd, WEXITED | WNOHANG | WNOWAIT, &info) != 0;
}

void
corolla_child_stop(corolla_child *child)
{
    corolla_watch_stop(&child->watch);
    child->reactor = NULL;
    if (child->waiter != NULL) {
        child->waiter->child = NULL;
    }
}

/* The thread that is there reaps it, or we do; one of us, since the number may be another child's behind that. */
static void
leave_to_thread(corolla_child *child)
{
    siginfo_t info;
    int err;
    if (child->waiter == NULL) {
        child->waiter = waiter_start(child->pid, NULL, NULL, &err);
        return; /* without memory for a thread: a zombie until we end */
    }
    pthread_mutex_lock(&child->waiter->lock);
    bool ended = wait_for(child->pid, -1, WEXITED | WNOHANG, &info) != 0;
    child->waiter->then = ended ? LEAVE : REAP;
    pthread_mutex_unlock(&child->waiter->lock);
}

void
corolla_child_disown(corolla_child *child)
{
    siginfo_t info;
    corolla_child_stop(child);
    if (!child->reaped &&
        (child->waiter != NULL || wait_for(child->pid, child->pidfd, WEXITED | WNOHANG, &info) == 0)) {
        leave_to_thread(child);
    }
    child->reaped = true;
    leave_waiter(child);
    close_pidfd(child);
}

void
corolla_child_forget(corolla_child *child)
{
    corolla_watch_stop(&child->watch);
    child->reactor = NULL;
    leave_waiter(child);
    close_pidfd(child);
}
