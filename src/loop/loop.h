/* loop/: the EventLoop type. The methods of AbstractEventLoop, each a few lines over the rooms. */
#ifndef COROLLA_LOOP_H
#define COROLLA_LOOP_H

#include "../args.h"
#include "../scheduler/await.h"
#include "../scheduler/scheduler.h"
#include "../transports/transports.h"

typedef struct LoopObject {
    corolla_loop_head head;
    PyObject *exception_handler; /* owned, or NULL */
    PyObject *task_factory;      /* owned, or NULL */
    PyObject *default_executor;  /* owned, or NULL */
    bool executor_shutdown;      /* shutdown_default_executor() was called */
    PyObject *asyncgens;         /* owned: WeakSet, or NULL until one is seen */
    bool asyncgens_shutdown;
    PyThreadState *unlocked; /* while a poll runs without the interpreter's lock */

    /* run.c: what run_forever() restores */
    PyObject *old_firstiter, *old_finalizer; /* owned */
    int old_origin_depth;

    /* readers.c: descriptors given to add_reader() and add_writer() */
    struct corolla_reader **readers; /* owned table by descriptor, of owned entries */
    size_t reader_count;
    struct corolla_reader *doubts; /* borrowed: head of a list of those whose watch is taken on trust */
    corolla_watch doubts_watch;    /* of doubts_fd */
    int doubts_fd;                 /* owned timerfd, -1 until used */
    bool doubts_armed;             /* it will tell */

    /* names.c: look-ups not answered yet */
    struct loop_lookup *lookups; /* borrowed: head of a list through the states of their coroutines */

    /* signals.c */
    PyObject *signal_handlers; /* owned: dict of number to Handle, or NULL */
    PyObject *signal_receiver; /* owned: what signal.signal() is given, or NULL; refers to the loop weakly */
    int wake_read, wake_write; /* owned pair for signal.set_wakeup_fd(), both -1 while wake_made is unset */
    bool wake_made;
    bool wake_installed; /* the interpreter writes to wake_write */
    corolla_watch wake_watch;
} LoopObject;

static inline corolla_core *
loop_core(PyObject *self)
{
    return &((LoopObject *)self)->head.core;
}

/* RuntimeError if __init__ has not run or the loop is closed. 0 or -1. To be called first by methods. */
int loop_check(PyObject *self);

/* Methods of each file, joined to the type in loop.c. Each ends with {NULL}. */
extern PyMethodDef corolla_loop_run_methods[];      /* run.c: run_forever run_until_complete stop ... */
extern PyMethodDef corolla_loop_call_methods[];     /* calls.c: call_soon call_later call_at time create_* */
extern PyMethodDef corolla_loop_error_methods[];    /* errors.c: exception handlers */
extern PyMethodDef corolla_loop_executor_methods[]; /* executor.c: run_in_executor set_default_executor ... */
extern PyMethodDef corolla_loop_asyncgen_methods[]; /* asyncgens.c: shutdown_asyncgens */
extern PyMethodDef corolla_loop_reader_methods[];   /* readers.c: add_reader add_writer remove_* */
extern PyMethodDef corolla_loop_signal_methods[];   /* signals.c */
extern PyMethodDef corolla_loop_name_methods[];     /* names.c: getaddrinfo getnameinfo */
extern PyMethodDef
    corolla_loop_sock_methods[]; /* sock.c: sock_recv sock_recv_into sock_sendall sock_connect sock_accept */
extern PyMethodDef corolla_loop_connect_methods[];      /* connect.c: create_connection */
extern PyMethodDef corolla_loop_serve_methods[];        /* serve.c: create_server */
extern PyMethodDef corolla_loop_sendfile_methods[];     /* sendfile.c: sock_sendfile sendfile */
extern PyMethodDef corolla_loop_unix_connect_methods[]; /* unix_connect.c: create_unix_connection */
extern PyMethodDef corolla_loop_unix_serve_methods[];   /* unix_serve.c: create_unix_server */
extern PyMethodDef corolla_loop_accepted_methods[];     /* accepted.c: connect_accepted_socket */
extern PyMethodDef corolla_loop_pipe_methods[];         /* pipes.c: connect_read_pipe connect_write_pipe */
extern PyMethodDef corolla_loop_datagram_methods[];     /* datagram.c: create_datagram_endpoint */
extern PyMethodDef corolla_loop_subprocess_methods[];   /* subprocess.c: subprocess_exec subprocess_shell */
extern PyMethodDef corolla_loop_start_tls_methods[];    /* start_tls.c */

/* Each file's part of close(), tp_traverse and tp_clear, harmless twice. The close parts run in this order, all
 * before corolla_reactor_close(). */
int loop_signals_close(LoopObject *self); /* 0, or -1 with an exception; closed either way */
void loop_names_close(LoopObject *self);
void loop_readers_close(LoopObject *self);
/* Shuts the default executor down without waiting. inherited: in a forked child, which has none of its threads. */
void loop_executor_close(LoopObject *self, bool inherited);
int loop_names_traverse(LoopObject *self, visitproc visit, void *arg);
int loop_readers_traverse(LoopObject *self, visitproc visit, void *arg);
/* signals.c, called by run.c around run_forever in the main thread: sets and restores the wakeup fd. */
int loop_signals_enter(LoopObject *self);
void loop_signals_leave(LoopObject *self);

/* forks.c: which loop runs on this thread, and what it was before. */
corolla_core *loop_forks_enter(corolla_core *core);
void loop_forks_leave(corolla_core *before);
/* To be called when a run begins in debug mode, or debug mode in a run. 0 or -1. */
int loop_forks_refuse(void);

/* sock.c: what is looked up once. 0 or -1. */
int sock_init(corolla_state *state);

/* readers.c, for sock.c: one C caller that waits for a descriptor, embedded in its coroutine's state. While it waits
 * the loop owns the future, and through it the task that waits. */
typedef struct loop_wait {
    struct corolla_reader *entry; /* borrowed; NULL when not waiting */
    struct loop_wait *prev, *next;
    PyObject *future; /* owned by the loop while waiting; done (with None) when fd is ready */
    unsigned side;
} loop_wait;

/* event: COROLLA_READABLE or COROLLA_WRITABLE. Told once. owner: the socket.socket whose fileno() gave fd just now, or
 * NULL: while it lives the descriptor can only be its own, and so the watch is kept from one wait for reading to the
 * next. 0, or -1 with RuntimeError for the descriptor of a transport, OSError ... */
int loop_wait_start(LoopObject *self, loop_wait *wait, int fd, unsigned event, PyObject *owner);
/* Where sock.c remembers how much a read lately brought: borrowed, or NULL for a descriptor nobody has waited for. */
size_t *loop_read_hint(LoopObject *self, int fd);
/* When it returns the descriptor is not watched for this caller any more. Keeps an exception that is being raised.
 * Harmless when not waiting. */
void loop_wait_stop(loop_wait *wait);

/* RuntimeError if a transport of the loop uses the descriptor; shown: what the caller was given. 0 or -1. */
int loop_check_no_transport(LoopObject *self, int fd, PyObject *shown);
/* The descriptor of an int or of an object with fileno(). -1 with ValueError. */
int loop_fileno(PyObject *obj);

/* executor.c: the arguments of f(first, callback, *args), of which the first two may come by name. rest is what
 * follows them. 0, or -1 with TypeError. */
int loop_unpack_call(const corolla_signature *sig, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                     PyObject *out[2], PyObject *const **rest, Py_ssize_t *count);
/* 1 if obj is a coroutine or a coroutine function, 0 if not, -1 with an exception. */
int loop_is_coroutine(corolla_state *state, PyObject *obj);
/* sendfile_fallback.c: what the module needs of it. 0 or -1. */
int loop_sendfile_init(PyObject *module, corolla_state *state);
/* asyncgens.c: the hooks that run.c sets around run_forever(). Each a METH_O function. */
PyObject *loop_asyncgen_firstiter(PyObject *loop, PyObject *agen);
PyObject *loop_asyncgen_finalizer(PyObject *loop, PyObject *agen);

/* names.c: a coroutine or future for getaddrinfo, for connect.c and serve.c: calls the loop's own
 * getaddrinfo method (a subclass may override it). New reference to an awaitable, or NULL. */
PyObject *loop_getaddrinfo(PyObject *loop, PyObject *host, PyObject *port, int family, int type, int proto, int flags);
/* asyncio's _ipaddr_info: an address literal as (family, type, proto, '', sockaddr) without a look-up.
 * New reference; Py_None when a look-up is needed; NULL on error. */
PyObject *loop_ipaddr_info(PyObject *host, PyObject *port, int family, int type, int proto, long flowinfo,
                           long scope_id);
#endif
