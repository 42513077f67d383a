/* What the files of this room share and nobody outside it sees. */
#ifndef COROLLA_INTERNAL_H
#define COROLLA_INTERNAL_H

#include "reactor.h"

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ring.c: what a revoked job does. */
int corolla_job_nothing(void *arg);

/* True while the job with this number plus one waits in the ring. */
static inline bool
job_is_queued(const corolla_ring *ring, uint64_t job)
{
    return job > ring->head;
}

/* fork.c: has corolla_fork_count() kept. */
void corolla_watch_forks(void);

/* reactor.c: the time for timers, on the owner's clock if it has one. <0: the hook's. */
int corolla_reactor_now(corolla_reactor *r, int64_t *now);
/* Shows a job that a user posted; passes over the room's own. */
void corolla_visit_job(corolla_job job, corolla_visit_fn visit, void *ctx);
/* Frees what a job of the room's own carries, when it will not run. */
void corolla_forget_job(corolla_job job);

/* watch.c */
int corolla_watch_run(void *arg); /* the job of a watch with something ready */
/* An event of the kernel; false when the registration it was made for is no more. */
bool corolla_watch_report(corolla_reactor *r, int fd, uint32_t generation, unsigned ready);

/* wakeup.c: how another thread, or a signal handler, ends a sleeping poll. */
typedef struct corolla_wakeup {
    _Atomic int fd; /* owned eventfd, -1 when closed */
} corolla_wakeup;

int corolla_wakeup_open(corolla_wakeup *wakeup);
int corolla_wakeup_signal(corolla_wakeup *wakeup); /* any thread, async-signal-safe */
void corolla_wakeup_close(corolla_wakeup *wakeup);

/* inbox.c: the owner's side */
struct corolla_inbox {
    atomic_size_t refs;
    atomic_bool nonempty; /* something in `in`, or wake_lost: read every turn, without the lock */
    atomic_bool sleeping; /* the owner is in, or about to enter, a poll that may block */
    pthread_mutex_t lock; /* guards in, in_*, closed, wake_lost */
    corolla_job *in;      /* owned; what others posted */
    size_t in_count, in_capacity;
    bool closed;
    bool wake_lost; /* a wake-up failed: the channel is to be made anew */
    /* the owner's thread only */
    corolla_job *out; /* owned; taken, on the way to the ring */
    size_t out_next, out_count, out_capacity;
    unsigned forks;   /* when it was made: in a forked child it takes nothing any more */
    unsigned checked; /* the last fork after which the lock was looked at */
    corolla_wakeup wakeup;
};

corolla_inbox *corolla_inbox_new(void);              /* NULL: errno tells why */
void corolla_inbox_close(corolla_inbox *inbox);      /* posts fail from here on; the jobs left are forgotten */
void corolla_inbox_check_fork(corolla_inbox *inbox); /* before its lock is taken where a fork may lie between */
/* Moves what was posted to the ring. 0, or -ENOMEM with the rest kept for the next time. */
int corolla_inbox_take(corolla_reactor *r);
void corolla_inbox_visit(corolla_inbox *inbox, corolla_visit_fn visit, void *ctx);

static inline bool
inbox_has_jobs(const corolla_inbox *inbox)
{
    return atomic_load_explicit(&inbox->nonempty, memory_order_acquire);
}

/* quiet.c: writev() without SIGPIPE, which says EPIPE all the same. -1 and errno. */
struct iovec;
ssize_t corolla_writev_quietly(corolla_reactor *r, int fd, const struct iovec *iov, int count);

/* signals.c */
extern atomic_bool corolla_signals_noticed;
int corolla_signal_run(void *arg);
void corolla_signals_deliver(corolla_reactor *r);
void corolla_signals_forget(corolla_reactor *r);

/* child.c */
int corolla_child_waited(void *arg);    /* the job that tells of a thread's child */
void corolla_child_unwaited(void *arg); /* the same job, drained instead of run */

/* resolver.c */
int corolla_resolver_answer(void *arg);   /* the job that ends a look-up */
void corolla_resolver_discard(void *arg); /* the same job, drained instead of run */
void corolla_resolver_close(corolla_reactor *r);
void corolla_resolver_abandon(corolla_reactor *r);

#endif
