/* transports/: the Python faces of the reactor's streams. */
#ifndef COROLLA_TRANSPORTS_H
#define COROLLA_TRANSPORTS_H

#include "../scheduler/scheduler.h"

/* ---- address.c ---------------------------------------------------------------------------- */

/* What socket.getsockname() would give for a C address: (host, port), (host, port, flowinfo, scope_id),
 * a path (str, or bytes for abstract names). New reference or NULL. */
PyObject *corolla_address_to_python(const struct sockaddr *addr, socklen_t len);
/* The C form of a numeric address tuple (AF_INET, AF_INET6) or of a path (AF_UNIX). 0, or -1 with the
 * exception the socket module would raise: OverflowError for bad ports, ValueError/TypeError ... */
int corolla_address_from_python(PyObject *address, int family, struct sockaddr_storage *out, socklen_t *len);
/* The same, and a host that is a name is looked up, now: blocks, as socket.sendto() does. */
int corolla_address_resolve(corolla_state *state, PyObject *address, int family, struct sockaddr_storage *out,
                            socklen_t *len);

/* ---- registry.c: what a loop knows of its transports and servers ---------------------------- */

/* The open transport that uses a descriptor, borrowed; NULL when none does. */
PyObject *corolla_transport_at(corolla_core *core, int fd);
/* The loop's part of tp_traverse: transports it reads from or writes for, servers that serve. */
int corolla_transports_traverse(corolla_core *core, visitproc visit, void *arg);
/* The loop is closing or being cleared: every watch of a transport or server is stopped and the loop's
 * references to them are given up. Descriptors stay with their owners. Harmless twice. */
void corolla_transports_close(corolla_core *core);
/* Something in C that uses the loop's reactor and must let go of it before the loop closes. */
typedef struct corolla_guest {
    struct corolla_guest *next, *prev;         /* both NULL when not added */
    void (*leave)(struct corolla_guest *self); /* set by the owner; the guest has been removed */
    PyObject *held; /* owned by the loop while set, and shown to the collector: set and cleared by the owner; or NULL */
} corolla_guest;

int corolla_guest_add(corolla_core *core, corolla_guest *guest); /* 0 or -1 with MemoryError */
void corolla_guest_remove(corolla_guest *guest);                 /* harmless when not added */
/* Whether fn is a job of this room, all of which own the Python object that is their arg. */
bool corolla_transports_own_job(corolla_job_fn fn);

/* ---- Protocols written in C ------------------------------------------------------------------ */

/* What a protocol of a type of ours takes bytes with, instead of data_received(). None runs a user's code before it has put
 * its own structures in order; 0 or -1 with an exception. */
typedef struct corolla_native_protocol {
    /* Where bytes go: sets *buf and *len, or leaves *buf NULL: into memory of the transport's. hint: bytes that a read
     * has lately been giving. 1, with *buf NULL: data_received() is to be called, as takes() says. */
    int (*where)(PyObject *protocol, size_t hint, void **buf, size_t *len);
    /* n (> 0) came, to what where() said or into memory of the transport's, which is valid during the call. */
    int (*came)(PyObject *protocol, const void *buf, size_t n);
    /* Whether it takes bytes so at the moment: not where a program has put something in place of a method that would have
     * been called. NULL: always. A transport that asks where() need not ask this. */
    bool (*takes)(PyObject *protocol);
} corolla_native_protocol;

/* Those of a protocol's type, borrowed; NULL for one that is always to be called by method. */
static inline const corolla_native_protocol *
corolla_native_of_type(const corolla_state *state, PyObject *protocol)
{
    return Py_IS_TYPE(protocol, state->stream_protocol_type) ? state->stream_protocol_ops
           : Py_IS_TYPE(protocol, state->tls_protocol_type)  ? state->tls_protocol_ops
                                                             : NULL;
}

/* Those for the protocol of a child's pipe, at the moment: what of the process's protocol takes its bytes, borrowed, in
 * *taker. process_pipe.c */
const corolla_native_protocol *corolla_native_of_pipe(const corolla_state *state, PyObject *protocol, PyObject **taker);

/* ---- tcp.c: TcpTransport and UnixTransport ------------------------------------------------------ */

typedef struct corolla_tcp_options {
    int fd;                      /* non-blocking; stolen on success when sock is NULL, borrowed otherwise */
    PyObject *sock;              /* borrowed: the socket object that owns fd, or NULL */
    PyObject *protocol;          /* borrowed */
    PyObject *context;           /* borrowed: what the protocol's methods run in; nobody else enters it */
    PyObject *waiter;            /* borrowed: a Future of ours told once connection_made() has run, or NULL */
    PyObject *server;            /* borrowed: the Server that accepted it, or NULL */
    const struct sockaddr *peer; /* borrowed, or NULL: to be asked for */
    socklen_t peer_len;
} corolla_tcp_options;

/* A transport, of the type that the socket's family asks for, whose connection_made() is queued. New reference or NULL; on
 * failure fd and sock are untouched and the caller's. */
PyObject *corolla_tcp_new(corolla_core *core, const corolla_tcp_options *options);
/* Whether obj is a TcpTransport or a UnixTransport: what the corolla_tcp_ functions take. */
static inline bool
corolla_tcp_check(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->tcp_transport_type) || Py_IS_TYPE(obj, state->unix_transport_type);
}

/* Whoever asked for it no longer wants it: closed at once if connection_made() has not been called (it
 * will not be), else by transport.close(). Keeps an exception being raised. */
void corolla_tcp_discard(PyObject *transport);
/* transport.write(data): 0 or -1. */
int corolla_tcp_write(PyObject *transport, PyObject *data);
/* transport.writelines() of up to COROLLA_TCP_MOST bytes objects, none of them empty: 0 or -1. */
enum { COROLLA_TCP_MOST = 16 };
int corolla_tcp_write_all(PyObject *transport, PyObject *const *items, size_t count);
bool corolla_tcp_is_closing(PyObject *transport);

/* ---- tls/: TLS over any stream transport ------------------------------------------------------- */

typedef struct corolla_tls_options {
    PyObject *sslcontext;      /* borrowed: an ssl.SSLContext, or anything with its wrap_bio() */
    PyObject *server_hostname; /* borrowed: str, or NULL */
    double handshake_timeout;  /* seconds */
    double shutdown_timeout;   /* seconds */
    bool whole_seconds;        /* handshake_timeout was given as an int, and is told as one */
    bool server_side;
    bool call_made;     /* the protocol's connection_made() is to be called: not for start_tls */
    PyObject *protocol; /* borrowed: the application's */
    PyObject *context;  /* borrowed: the protocol's methods run in a copy of it */
    PyObject
        *waiter; /* borrowed: a Future of ours, done once the handshake is over and failed with its error; or NULL */
    PyObject *server; /* borrowed: the Server that accepted it, or NULL */
} corolla_tls_options;

/* Fills in sslcontext, server_hostname, server_side and the timeouts. ssl: a context; or True, or None, for the default one,
 * which only clients have. Timeouts: positive numbers of seconds, NULL or None for asyncio's. *made: the context, new
 * reference. 0, or -1 with asyncio's ValueErrors, or ImportError where there is no ssl module. */
int corolla_tls_parse(corolla_state *state, PyObject *ssl, bool server_side, PyObject *server_hostname,
                      PyObject *handshake_timeout, PyObject *shutdown_timeout, corolla_tls_options *out,
                      PyObject **made);
/* The lower side, a protocol for a stream transport that is made or upgraded. Calls wrap_bio(), so that its errors come at
 * once. New reference or NULL. */
PyObject *corolla_tls_new(corolla_core *core, const corolla_tls_options *options);
/* The upper side, the application's transport. Borrowed; NULL once the connection is lost. */
PyObject *corolla_tls_transport(PyObject *tls);
/* The application's protocol of a TlsTransport. Borrowed; NULL once the connection is lost. */
PyObject *corolla_tls_protocol(PyObject *transport);
/* tls becomes the protocol of an open transport (of ours, or one with _start_tls_compatible) and the handshake begins.
 * unread: bytes already taken off the transport that belong to the handshake, or NULL. 0 or -1. What goes wrong with the
 * connection is told to the waiter. */
int corolla_tls_upgrade(corolla_core *core, PyObject *transport, PyObject *tls, PyObject *unread);
/* Whoever asked for it no longer wants it: the connection below, if it is made already, is closed at once. Keeps an exception
 * being raised. */
void corolla_tls_discard(PyObject *tls);
/* Whether obj is a TlsTransport. */
bool corolla_tls_check(const corolla_state *state, PyObject *obj);

/* ---- sendfile.c ----------------------------------------------------------------------------- */

/* Whether it is a transport that the functions below are for. */
bool corolla_transport_sends_files(corolla_state *state, PyObject *transport);
/* From here to the end nothing is read and nobody writes. 0, or -1 with RuntimeError while another file is sent. */
int corolla_sendfile_begin(PyObject *transport);
void corolla_sendfile_end(PyObject *transport);       /* keeps an exception being raised; harmless twice */
int corolla_sendfile_descriptor(PyObject *transport); /* -1 once it is closed */
bool corolla_sendfile_may_go(PyObject *transport);    /* nothing that was written before is still queued */
/* The exception being raised, which stays, is a connection that has broken: closes the transport with it. */
void corolla_sendfile_broken(PyObject *transport);
/* A future that is done when it may go and the kernel takes bytes, or fails with the connection. New reference or NULL. */
PyObject *corolla_sendfile_room(PyObject *transport);

/* ---- pipe.c, pipe_read.c, pipe_write.c --------------------------------------------------------- */

typedef struct corolla_pipe_options {
    int fd;             /* made non-blocking; stolen on success when pipe is NULL, borrowed otherwise */
    PyObject *pipe;     /* borrowed: the object that owns fd and whose close() closes it, or NULL */
    PyObject *protocol; /* borrowed */
    PyObject *context;  /* borrowed: what the protocol's methods run in; nobody else enters it */
    PyObject *waiter;   /* borrowed: a Future of ours told once connection_made() has run, or NULL */
} corolla_pipe_options;

/* A transport whose connection_made() is queued. New reference or NULL, with ValueError for what is not a pipe, a socket
 * or a character device; then fd and pipe are the caller's. */
PyObject *corolla_read_pipe_new(corolla_core *core, const corolla_pipe_options *options);
PyObject *corolla_write_pipe_new(corolla_core *core, const corolla_pipe_options *options);
/* As corolla_tcp_discard(). */
void corolla_pipe_discard(PyObject *transport);

/* ---- process.c, process_pipe.c, process_spawn.c, process_type.c --------------------------------- */

typedef struct corolla_process_options {
    PyObject *args; /* borrowed: what Popen gets: a tuple of program and arguments, or a shell's command */
    bool shell;
    PyObject *stdio[3]; /* borrowed: stdin, stdout and stderr, as Popen takes them */
    PyObject *more;     /* borrowed: a dict of other arguments for Popen, or NULL */
    PyObject *protocol; /* borrowed */
    PyObject *context;  /* borrowed: what the protocol's methods run in; nobody else enters it */
    PyObject *waiter;   /* borrowed: a Future of ours told once connection_made() has run */
} corolla_process_options;

/* Starts a child: a transport whose connection_made() is queued. New reference, or NULL with what Popen raises; then
 * nothing was started and nothing is open. */
PyObject *corolla_process_new(corolla_core *core, const corolla_process_options *options);
/* transport.close(), from where nothing can be raised. Keeps an exception being raised. */
void corolla_process_discard(PyObject *transport);
/* transport._wait(): a coroutine, new reference, or NULL. */
PyObject *corolla_process_wait(PyObject *transport);

/* ---- datagram.c ---------------------------------------------------------------------------- */

typedef struct corolla_datagram_options {
    int fd;             /* of sock, non-blocking */
    PyObject *sock;     /* borrowed: the socket object, the transport's on success */
    PyObject *address;  /* borrowed: where all is sent, for a socket that is not connected; or NULL */
    PyObject *given;    /* borrowed: another name of the peer, or NULL */
    PyObject *protocol; /* borrowed */
    PyObject *context;  /* borrowed: what the protocol's methods run in; nobody else enters it */
    PyObject *waiter;   /* borrowed: a Future of ours told once connection_made() has run, or NULL */
} corolla_datagram_options;

/* A transport whose connection_made() is queued. New reference or NULL; then sock is the caller's. */
PyObject *corolla_datagram_endpoint_new(corolla_core *core, const corolla_datagram_options *options);
/* As corolla_tcp_discard(). */
void corolla_datagram_endpoint_discard(PyObject *transport);
/* For corolla_transport_at(). Borrowed, or NULL. */
PyObject *corolla_datagram_endpoint_at(corolla_core *core, int fd);

/* ---- server.c ------------------------------------------------------------------------------ */

/* A Server over a list of listening socket objects (stolen), in a copy of the current context, not yet
 * serving. New reference or NULL. */
PyObject *corolla_server_new(corolla_core *core, PyObject *sockets, PyObject *factory, int backlog);
/* From now on, close() removes the path that the server's Unix socket is bound to, if it is still the same file then.
 * Nothing happens for an abstract name, or for a path that is not there. 0 or -1. */
int corolla_server_own_path(PyObject *server, PyObject *sock);
/* What it accepts from now on is TLS: context, timeouts and server_side are taken from options, nothing else. 0 or -1. */
int corolla_server_set_tls(PyObject *server, const corolla_tls_options *options);
/* 0, or -1 with nothing left listening that was not before. */
int corolla_server_start(PyObject *server);
/* server.close(). 0 or -1. */
int corolla_server_close(PyObject *server);

#endif
