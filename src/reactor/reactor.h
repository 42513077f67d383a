/* libcorolla: a reactor. What is ready, what is due.
 *
 * This is the only public header of the room, and all of it. Nothing here knows Python.
 *
 * One thread owns a reactor and runs its turns; only corolla_inbox_post() and corolla_reactor_wake()
 * may be called from other threads. Structs named here belong to the caller, who embeds them in
 * something of its own; the reactor allocates only its tables. Fields are to be read, not written,
 * unless their comment says "set by the owner".
 *
 * Functions return 0 or a count on success and -errno on failure, unless they say otherwise.
 * A callback returns 0 to go on; a negative value leaves the turn at once: what has not run stays
 * queued, in order, and corolla_reactor_turn() returns that value.
 */
#ifndef COROLLA_REACTOR_H
#define COROLLA_REACTOR_H

#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef struct corolla_reactor corolla_reactor;
typedef struct corolla_watch corolla_watch;
typedef struct corolla_timer corolla_timer;
typedef struct corolla_stream corolla_stream;
typedef struct corolla_datagram corolla_datagram;
typedef struct corolla_listener corolla_listener;
typedef struct corolla_connector corolla_connector;
typedef struct corolla_signal corolla_signal;
typedef struct corolla_resolve corolla_resolve;
typedef struct corolla_child corolla_child;

/* ---- Jobs: the ready queue ------------------------------------------------------------- */

typedef int (*corolla_job_fn)(void *arg);
typedef void (*corolla_visit_fn)(corolla_job_fn fn, void *arg, void *ctx);

typedef struct corolla_job {
    corolla_job_fn fn;
    void *arg; /* what it owns is between the poster and fn */
} corolla_job;

/* A growing power-of-two ring. head and tail only ever grow: a job's sequence number is the tail
 * it was pushed at, and names it until it has run. */
typedef struct corolla_ring {
    corolla_job *jobs; /* owned */
    uint64_t mask;
    uint64_t head; /* the next to run */
    uint64_t tail; /* the next free */
} corolla_ring;

int corolla_ring_init(corolla_ring *ring, size_t capacity);
void corolla_ring_free(corolla_ring *ring); /* frees the table, runs nothing */
int corolla_ring_grow(corolla_ring *ring);

static inline size_t
corolla_ring_count(const corolla_ring *ring)
{
    return (size_t)(ring->tail - ring->head);
}

/* 0, or -ENOMEM with nothing changed. */
static inline int
corolla_ring_push(corolla_ring *ring, corolla_job_fn fn, void *arg)
{
    if (__builtin_expect(ring->tail - ring->head > ring->mask, 0)) {
        int err = corolla_ring_grow(ring);
        if (err < 0) {
            return err;
        }
    }
    corolla_job *job = &ring->jobs[ring->tail & ring->mask];
    job->fn = fn;
    job->arg = arg;
    ring->tail++;
    return 0;
}

/* Turns a job that has not run yet into one that does nothing; its arg is the caller's again. */
void corolla_ring_revoke(corolla_ring *ring, uint64_t seq);

/* ---- Deadlines ------------------------------------------------------------------------- */

#define COROLLA_NEVER INT64_MAX
#define COROLLA_TIMER_IDLE SIZE_MAX

/* When due, a timer becomes the job {fn, arg}, behind those that are ready already. */
struct corolla_timer {
    int64_t deadline; /* nanoseconds on the reactor's clock; COROLLA_NEVER never comes */
    uint64_t order;   /* equal deadlines: first started, first due */
    size_t index;     /* in the heap, or COROLLA_TIMER_IDLE */
    uint64_t job;     /* sequence number of its job plus one while that is queued, else 0 */
    corolla_job_fn fn;
    void *arg;
};

typedef struct corolla_timers {
    corolla_timer **heap; /* owned table of borrowed timers */
    size_t count;
    size_t capacity;
    uint64_t order;
} corolla_timers;

void corolla_timers_init(corolla_timers *timers);
void corolla_timers_free(corolla_timers *timers);
int corolla_timers_insert(corolla_timers *timers, corolla_timer *timer); /* -ENOMEM */
void corolla_timers_remove(corolla_timers *timers, corolla_timer *timer);

static inline corolla_timer *
corolla_timers_first(const corolla_timers *timers)
{
    return timers->count ? timers->heap[0] : NULL;
}

void corolla_timer_init(corolla_timer *timer, corolla_job_fn fn, void *arg);
/* Starts an idle timer. 0 or -ENOMEM. */
int corolla_timer_start(corolla_reactor *r, corolla_timer *timer, int64_t deadline);
/* Queues the job of an idle timer now, as if it were due. 0 or -ENOMEM. */
int corolla_timer_queue(corolla_reactor *r, corolla_timer *timer);
/* True if the timer was pending (its arg is the caller's again); its job, if queued, is revoked. */
bool corolla_timer_stop(corolla_reactor *r, corolla_timer *timer);
/* To be called first in fn by a timer that may be stopped or started again: the job is running. */
static inline void
corolla_timer_fired(corolla_timer *timer)
{
    timer->job = 0;
}

/* ---- Descriptors ----------------------------------------------------------------------- */

enum {
    COROLLA_READABLE = 1,
    COROLLA_WRITABLE = 2,
    COROLLA_HANGUP = 4, /* delivered with whichever of the two is asked for; alone where only it is asked for */
    COROLLA_EDGE = 8,   /* besides others: what stays ready is not told again, only what has become so since */
};

/* events: what is ready, masked by what is still asked for when the job runs. */
typedef int (*corolla_watch_fn)(corolla_watch *watch, unsigned events);

struct corolla_watch {
    corolla_reactor *reactor; /* borrowed; NULL when not started */
    int fd;                   /* borrowed */
    unsigned interest;        /* COROLLA_READABLE | COROLLA_WRITABLE | COROLLA_HANGUP | COROLLA_EDGE, or 0 */
    unsigned ready;           /* reported, not yet delivered */
    uint64_t job;             /* sequence number of its job plus one while that is queued, else 0 */
    corolla_watch_fn fn;      /* set by the owner through init */
    bool idle;                /* set by the owner: kept for the next time; whoever wants the descriptor stops it */
};

void corolla_watch_init(corolla_watch *watch, corolla_watch_fn fn);
/* One watch a descriptor: -EEXIST for a second, but one that is idle, or whose descriptor was closed behind our back, is
 * stopped.
 * -EBADF, -EPERM (a regular file) from the kernel. */
int corolla_watch_start(corolla_reactor *r, corolla_watch *watch, int fd, unsigned interest);
int corolla_watch_modify(corolla_watch *watch, unsigned interest);
/* When this returns the kernel's set is clean and nothing queued will be delivered. A descriptor
 * that was closed behind our back is forgotten without an error. Harmless when not started. */
void corolla_watch_stop(corolla_watch *watch);
/* False if the descriptor of a started watch was closed behind our back, even if its number is in use again. Asks the
 * kernel; one that asks for nothing is taken to be alive. */
bool corolla_watch_alive(const corolla_watch *watch);
/* The watch registered for a descriptor, or NULL. */
corolla_watch *corolla_watch_find(const corolla_reactor *r, int fd);

/* ---- The turn -------------------------------------------------------------------------- */

/* How an owner steps in around a poll, and what time it is for it. Each may be NULL. */
typedef struct corolla_hooks {
    void (*before_poll)(void *ctx);        /* e.g. release a lock */
    int (*after_poll)(void *ctx, int rc);  /* rc: count or -errno (-EINTR is ordinary); <0 leaves the turn */
    int (*clock)(void *ctx, int64_t *now); /* instead of CLOCK_MONOTONIC; <0 leaves the turn */
    void *ctx;
} corolla_hooks;

/* Something to do after the turn's jobs have run, once: an intrusive list in order of adding. */
typedef struct corolla_deferred {
    struct corolla_deferred *next, *prev; /* both NULL when not queued */
    int (*fn)(struct corolla_deferred *self);
} corolla_deferred;

typedef struct corolla_poller corolla_poller;     /* poller.h */
typedef struct corolla_inbox corolla_inbox;       /* inbox.c */
typedef struct corolla_resolver corolla_resolver; /* resolver.c */

typedef struct corolla_slot {
    corolla_watch *watch; /* borrowed */
    uint32_t generation;  /* of the registration: events of an older one are not delivered */
} corolla_slot;

struct corolla_reactor {
    corolla_ring ring;
    corolla_timers timers;
    corolla_hooks hooks; /* set by the owner */
    bool stopping;       /* no blocking; corolla_reactor_run() returns after this turn */
    bool in_turn;
    unsigned forks;            /* corolla_fork_count() when it was made */
    uint64_t turns;            /* number of this turn */
    unsigned unpolled;         /* turns since the last poll */
    uint64_t polled_at;        /* in ticks of the processor's counter */
    int64_t clock_read;        /* ns; first reading for the timers since the last poll, 0 before it */
    corolla_deferred deferred; /* list head */
    corolla_slot *slots;       /* owned table, by descriptor */
    size_t slot_count;
    size_t watch_count;
    corolla_poller *poller;     /* owned */
    corolla_inbox *inbox;       /* owned */
    const atomic_bool *posted;  /* borrowed from the inbox: there is something in it */
    corolla_resolver *resolver; /* owned, NULL until used; outlives the reactor while a worker is in it */
    void *scratch;              /* owned: COROLLA_SCRATCH bytes for short reads, NULL until used */
    uint64_t sigpipe_turn;      /* when the disposition of SIGPIPE was asked for last, plus one */
    bool sigpipe_ignored;       /* and what it was */
};

#define COROLLA_SCRATCH (256 * 1024)
/* The scratch memory, made if need be; NULL without memory. What is in it lasts until the next callback. */
void *corolla_reactor_scratch(corolla_reactor *r);

int corolla_reactor_init(corolla_reactor *r);
/* Closes descriptors of its own and frees its tables. Queued jobs and timers must have been drained
 * and watches stopped by their owners. Harmless twice. After a fork, in the child, use _abandon. */
void corolla_reactor_close(corolla_reactor *r);
/* In a forked child: frees memory and closes this process's copies of the reactor's own descriptors
 * without touching the kernel's shared state (no epoll_ctl, no eventfd write). */
void corolla_reactor_abandon(corolla_reactor *r);

int64_t corolla_clock(void); /* CLOCK_MONOTONIC, ns */
/* How often this process, and those it came from, were forked since the first reactor was made. Who keeps the number it
 * had can tell in a child that it was inherited. */
extern atomic_uint corolla_forks;

static inline unsigned
corolla_fork_count(void)
{
    return atomic_load_explicit(&corolla_forks, memory_order_relaxed);
}

/* One turn: poll, due timers, then the jobs that are ready at that moment and none that they add.
 * Blocks no longer than the next deadline, and not at all when jobs are ready or stopping is set;
 * with jobs ready the poll itself is skipped for a bounded number of turns and time.
 * 0, or the first negative value of a callback. -ECHILD in a child that was forked from this process: of a turn that was
 * under way there, not a job more is run. */
int corolla_reactor_turn(corolla_reactor *r);
/* Turns until corolla_reactor_stop(); clears stopping on the way out. */
int corolla_reactor_run(corolla_reactor *r);
void corolla_reactor_stop(corolla_reactor *r);

/* Moves what other threads have posted so far to the ready queue. Owner's thread only. */
void corolla_reactor_collect(corolla_reactor *r);

/* Appends a job, behind what other threads posted before. 0 or -ENOMEM. Owner's thread only. */
static inline int
corolla_reactor_post(corolla_reactor *r, corolla_job_fn fn, void *arg)
{
    if (__builtin_expect(atomic_load_explicit(r->posted, memory_order_acquire), 0)) {
        corolla_reactor_collect(r);
    }
    return corolla_ring_push(&r->ring, fn, arg);
}

/* Queues fn for the end of the turn (or of the next, outside one); no effect if queued already. */
void corolla_reactor_defer(corolla_reactor *r, corolla_deferred *deferred);
void corolla_reactor_undefer(corolla_reactor *r, corolla_deferred *deferred);

/* Visits each queued job that a user posted, each pending timer as (timer->fn, timer->arg) and
 * what waits in the inbox (under its lock). The reactor's own jobs are not shown. */
void corolla_reactor_visit(corolla_reactor *r, corolla_visit_fn visit, void *ctx);
/* Empties all three, calling drop for each: the queues are whole before every call, which may post
 * again (that is drained too). */
void corolla_reactor_drain(corolla_reactor *r, corolla_visit_fn drop, void *ctx);

/* Any thread: appends a job to the reactor's inbox and wakes it if it sleeps. Jobs of one thread
 * keep their order. 0, -ENOMEM, -ESHUTDOWN after corolla_inbox_close(), or -ECHILD in a forked child. */
int corolla_inbox_post(corolla_inbox *inbox, corolla_job_fn fn, void *arg);
/* The inbox is counted: a thread that may outlive the reactor holds its own reference. */
corolla_inbox *corolla_inbox_ref(corolla_inbox *inbox);
void corolla_inbox_unref(corolla_inbox *inbox);
/* Any thread: makes a sleeping poll return. */
int corolla_reactor_wake(corolla_reactor *r);

/* ---- Signals (for programs without an interpreter) --------------------------------------- */

/* fn runs as a job for each delivery noticed; deliveries of one signal may be merged. One reactor
 * in a process owns signals at a time: -EBUSY for another. The previous disposition is restored by
 * stop. Nothing depends on one byte in a pipe for each signal. */
struct corolla_signal {
    corolla_reactor *reactor; /* borrowed; NULL when not started */
    int signum;
    int (*fn)(corolla_signal *self); /* set by the owner */
    corolla_signal *next;
    struct corolla_sigstate *saved; /* owned: the previous disposition */
    uint64_t job;
};

int corolla_signal_start(corolla_reactor *r, corolla_signal *s, int signum);
void corolla_signal_stop(corolla_signal *s);

/* ---- Children ---------------------------------------------------------------------------- */

/* One child process, whose end is told once. Nothing is done about SIGCHLD: it may be ignored, blocked or handled. All but
 * corolla_child_signal() belong to the reactor's thread. */
struct corolla_child {
    corolla_watch watch;
    corolla_reactor *reactor; /* borrowed; NULL while nobody is told */
    pid_t pid;
    int pidfd;                     /* owned, -1 where there is none */
    struct corolla_waiter *waiter; /* owned: the thread that waits in its place, or NULL */
    bool reaped;                   /* the number may be another process's by now */
    /* Set by the owner. code: what it gave exit(), or the negative number of the signal that ended it; err: 0, or -errno
     * where that is unknown: -ECHILD when somebody else has reaped it. reaped is set before. May free the child. */
    int (*done)(corolla_child *child, int code, int err);
};

void corolla_child_init(corolla_child *child, pid_t pid);
/* 0, or -errno with nobody waiting for it. done is never called from inside. */
int corolla_child_start(corolla_reactor *r, corolla_child *child);
/* 0 or -errno: -ESRCH once it is reaped. */
int corolla_child_signal(corolla_child *child, int signum);
/* Whether it has ended, or cannot be waited for. */
bool corolla_child_ended(const corolla_child *child);
/* Nobody is told any more. It can still be signalled, and is still to be reaped. Harmless twice. */
void corolla_child_stop(corolla_child *child);
/* The same, and the end of it: reaped now if it has ended, else by a thread that waits for it. Harmless twice. */
void corolla_child_disown(corolla_child *child);
/* The same, without: for a child of another process, that is after a fork, or one that its owner will reap. */
void corolla_child_forget(corolla_child *child);
/* As if the kernel had no pidfds, from here on: for tests, and for sandboxes that only pretend to have them. */
void corolla_child_force_threads(bool on);

/* ---- Streams ---------------------------------------------------------------------------- */

/* What a stream asks of its owner. All run on the reactor's thread, as (part of) a job, except
 * pressure, which may come from inside corolla_stream_write(). Any of them may close the stream;
 * the stream looks at nothing of its own after a callback that closed it. The owner keeps the
 * memory alive during a callback. */
typedef struct corolla_stream_ops {
    /* Where do bytes go? Sets *buf and *len (> 0). hint: bytes recv has lately been giving, 0 at first. No came
     * follows where reading is stopped from inside, or the event turns out to be none. The reactor's scratch memory is
     * there as soon as a stream is open. */
    int (*where)(corolla_stream *s, size_t hint, void **buf, size_t *len);
    /* n > 0: so many came into buf; 0: end of file; < 0: -errno of a failed read. Reading has been
     * stopped before n <= 0 is told. */
    int (*came)(corolla_stream *s, void *buf, ssize_t n);
    /* A queued write failed (-errno). The queue has been dropped and reading is stopped. */
    int (*failed)(corolla_stream *s, int err);
    /* on: the queue rose above high; off: it fell to low or below. Strictly alternating. May be NULL. */
    int (*pressure)(corolla_stream *s, bool on);
    /* The queue has become empty after it was not (also after a shutdown's FIN was sent). Never from inside
     * a function of the stream's: at the end of the turn instead. Also told, from an event, once there is the room that
     * corolla_stream_want() asked for. May be NULL. */
    int (*flushed)(corolla_stream *s);
    /* What corolla_stream_mind() asked for has happened; minding is over. What is queued still is. NULL: never asked. */
    int (*left)(corolla_stream *s);
} corolla_stream_ops;

/* Bytes to write. What the kernel does not take at once is kept by reference when retain is set
 * (retain(owner) is called once, release(owner) when the last byte has gone or the queue is dropped)
 * and copied otherwise. */
typedef struct corolla_chunk {
    const void *data;
    size_t len;
    void *owner;
    void (*retain)(void *owner);
    void (*release)(void *owner);
} corolla_chunk;

typedef struct corolla_piece { /* of the write queue, stream.c */
    const char *data;
    size_t len;
    void *owner;
    void (*release)(void *owner);
} corolla_piece;

struct corolla_stream {
    corolla_watch watch;
    const corolla_stream_ops *ops; /* borrowed; set through init */
    int fd;                        /* borrowed: the owner closes it after corolla_stream_close() */
    bool reading;
    bool closed;
    bool shut; /* shutdown(SHUT_WR) asked for */
    bool fin_sent;
    bool pressed;    /* pressure(on) was told last */
    bool socket;     /* send/recv, else write/read */
    bool wanted;     /* flushed is to be told when there is room */
    uint8_t minded;  /* events that left is to be told of */
    uint8_t hold;    /* learned: turns with several writes, in a row; at 2 writes wait for the end of the turn */
    unsigned writes; /* in the turn numbered write_turn */
    uint64_t write_turn;
    size_t hint; /* learned read size, bytes */
    bool *gone;  /* borrowed flag on the stack of a running callback, or NULL */
    unsigned piece_head, piece_count, piece_capacity;
    size_t high, low;       /* set through corolla_stream_limits() */
    size_t queued;          /* bytes not yet in the kernel */
    corolla_piece *pieces;  /* owned ring of the write queue, NULL until used */
    corolla_deferred flush; /* while writes are held back, or flushed is still to be told */
};

void corolla_stream_init(corolla_stream *s, const corolla_stream_ops *ops);
/* fd is non-blocking. Neither reads nor watches until corolla_stream_read(). */
int corolla_stream_open(corolla_reactor *r, corolla_stream *s, int fd);
int corolla_stream_read(corolla_stream *s, bool on); /* start and stop reading */
/* 0: all bytes are accepted (in the kernel or queued); -errno: a write failed, nothing is queued and
 * what was queued is dropped; -ESHUTDOWN after corolla_stream_shutdown(); -ENOMEM: nothing changed
 * beyond what was sent. Positive values of pressure() are not passed on; a negative one is stored
 * nowhere: pressure is called last. */
int corolla_stream_write(corolla_stream *s, const corolla_chunk *chunks, size_t count);
/* Sends what is held back or queued, as far as the kernel takes it: for an owner about to say how much is queued. Like a
 * write it may call pressure, either way. -errno: the queue has been dropped. */
int corolla_stream_flush(corolla_stream *s);
int corolla_stream_shutdown(corolla_stream *s); /* FIN behind what is queued */
/* Has left told once the other end goes, for an owner that only writes. events: COROLLA_HANGUP for a pipe, whose last
 * reader's going is an error the kernel reports unasked; COROLLA_READABLE, too, for a socket, where it is an end of file.
 * 0 ends it. */
int corolla_stream_mind(corolla_stream *s, unsigned events);
/* Has flushed told once: when the queue is empty and the kernel takes bytes again. For an owner that sends past the
 * queue, as sendfile(2) does. */
int corolla_stream_want(corolla_stream *s, bool on);
/* sendfile(2), past an empty queue: the bytes sent, 0 at the file's end, or -errno. No event follows by itself. */
ssize_t corolla_stream_sendfile(corolla_stream *s, int file, off_t *offset, size_t count);
/* sendfile(2) without SIGPIPE: the bytes sent, or -errno. Any thread. */
ssize_t corolla_sendfile(int fd, int file, off_t *offset, size_t count);
void corolla_stream_limits(corolla_stream *s, size_t high, size_t low);
/* Stops watching and drops the queue; calls nothing but release. Harmless twice. */
void corolla_stream_close(corolla_stream *s);

/* ---- Datagram endpoints -------------------------------------------------------------------- */

/* What an endpoint asks of its owner. All run as (part of) a job, except pressure, which may come from inside
 * corolla_datagram_send(). Any of them may close the endpoint, which then looks at nothing of its own. An error, told or
 * returned, is one datagram's: the endpoint goes on. */
typedef struct corolla_datagram_ops {
    /* n >= 0: a datagram of so many bytes at data, the reactor's scratch memory, to be taken before this returns.
     * from: its sender; len is 0 where it has no address. n < 0: -errno of a failed receive. */
    int (*came)(corolla_datagram *d, const void *data, ssize_t n, const struct sockaddr *from, socklen_t len);
    int (*failed)(corolla_datagram *d, int err); /* -errno: a queued datagram could not be sent, and is dropped */
    /* on: the queue rose above high; off: it fell to low or below. Strictly alternating. May be NULL. */
    int (*pressure)(corolla_datagram *d, bool on);
    int (*flushed)(corolla_datagram *d); /* the queue has become empty after it was not. May be NULL. */
} corolla_datagram_ops;

typedef struct corolla_parcel corolla_parcel; /* datagram.c */

struct corolla_datagram {
    corolla_watch watch;
    const corolla_datagram_ops *ops; /* borrowed; set through init */
    int fd;                          /* borrowed: the owner closes it after corolla_datagram_close() */
    bool reading;
    bool closed;
    bool pressed;                 /* pressure(on) was told last */
    bool *gone;                   /* borrowed flag on the stack of a running callback, or NULL */
    size_t high, low;             /* set through corolla_datagram_limits() */
    size_t queued;                /* bytes not yet in the kernel, and COROLLA_PARCEL_COST for each datagram */
    corolla_parcel *first, *last; /* owned queue */
    corolla_timer retry;          /* while poll says that there is room and the kernel that there is none */
};

#define COROLLA_PARCEL_COST 8 /* a UDP header: so that empty datagrams count, too */

void corolla_datagram_init(corolla_datagram *d, const corolla_datagram_ops *ops);
/* fd is non-blocking. Neither reads nor watches until corolla_datagram_read(). */
int corolla_datagram_open(corolla_reactor *r, corolla_datagram *d, int fd);
int corolla_datagram_read(corolla_datagram *d, bool on); /* start and stop receiving */
/* One datagram; to may be NULL for a connected socket. What the kernel does not take now is queued, by reference or copied
 * as by corolla_stream_write(). 0: sent or queued; -errno: it was not, and nothing else has changed. */
int corolla_datagram_send(corolla_datagram *d, const corolla_chunk *chunk, const struct sockaddr *to, socklen_t len);
void corolla_datagram_limits(corolla_datagram *d, size_t high, size_t low);
/* Stops watching and drops the queue; calls nothing but release. Harmless twice. */
void corolla_datagram_close(corolla_datagram *d);
/* The open endpoint on a descriptor, or NULL. */
corolla_datagram *corolla_datagram_at(const corolla_reactor *r, int fd);

/* ---- Listeners -------------------------------------------------------------------------- */

/* Accepts up to batch connections an event. Out of descriptors or memory: failed is told once, and
 * the listener sleeps for COROLLA_ACCEPT_RETRY before it goes on. After another error of the listening socket itself
 * failed is told and nothing is accepted any more. */
#define COROLLA_ACCEPT_RETRY INT64_C(1000000000)

struct corolla_listener {
    corolla_watch watch;
    corolla_timer retry;
    int fd; /* borrowed */
    int batch;
    /* fd is the callee's: non-blocking, close-on-exec. */
    int (*accepted)(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len);
    int (*failed)(corolla_listener *l, int err); /* -errno */
    /* private */
    bool *stopped; /* borrowed flag on the stack of a running callback, or NULL */
};

void corolla_listener_init(corolla_listener *l); /* accepted and failed are set before or after */
int corolla_listener_start(corolla_reactor *r, corolla_listener *l, int fd, int batch);
void corolla_listener_stop(corolla_listener *l); /* from inside accepted, too */

/* ---- Connectors: Happy Eyeballs, RFC 8305 -------------------------------------------------- */

enum { COROLLA_AT_SOCKET = 1, COROLLA_AT_BIND, COROLLA_AT_CONNECT };

/* One address to try; an array of them belongs to the caller until done or cancel. */
typedef struct corolla_target {
    int family, type, protocol;
    struct sockaddr_storage addr;
    socklen_t addrlen;
    /* results */
    int error;        /* -errno, 0 while not tried */
    int stage;        /* where it failed */
    int bind_index;   /* which local address failed last */
    int *bind_errors; /* set by the owner: one for each local address, 0 or the -errno of its bind; or NULL */
    /* private */
    corolla_connector *connector;
    corolla_watch watch;
    int fd; /* owned while connecting, else -1 */
} corolla_target;

struct corolla_connector {
    corolla_reactor *reactor;
    corolla_target *targets; /* borrowed */
    size_t count;
    const struct addrinfo *local; /* borrowed: addresses to bind to, tried in order, or NULL */
    int64_t delay;                /* ns until the next attempt starts beside the last; < 0: one after another */
    /* fd: the callee's, connected; or -1 when every target failed. winner: its index. Never called
     * from inside start. */
    int (*done)(corolla_connector *c, int fd, size_t winner);
    /* private */
    size_t next, running;
    corolla_timer timer;
    bool active;
};

void corolla_connector_init(corolla_connector *c); /* the fields above "private" are set before or after */
int corolla_connector_start(corolla_reactor *r, corolla_connector *c);
void corolla_connector_cancel(corolla_connector *c); /* closes what it opened; done is not called */

/* ---- Names ------------------------------------------------------------------------------ */

/* getaddrinfo(3) and getnameinfo(3) on a small pool of threads. Numeric hosts (AI_NUMERICHOST is
 * tried first) are answered without a thread. done runs as a job, never from inside start. */
struct corolla_resolve {
    /* results */
    int error;                                  /* 0 or an EAI_ code */
    int sys_errno;                              /* with EAI_SYSTEM */
    struct addrinfo *result;                    /* owned: freeaddrinfo() by the owner */
    char host[NI_MAXHOST], service[NI_MAXSERV]; /* of a getnameinfo */
    int (*done)(corolla_resolve *q);            /* set by the owner */
    /* private */
    struct corolla_query *query;
};

int corolla_resolve_address(corolla_reactor *r, corolla_resolve *q, const char *host, const char *service,
                            const struct addrinfo *hints);
int corolla_resolve_name(corolla_reactor *r, corolla_resolve *q, const struct sockaddr *addr, socklen_t len, int flags);
/* The answer, if it still comes, is dropped; q is free at once. */
void corolla_resolve_cancel(corolla_resolve *q);

#endif
