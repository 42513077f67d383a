/* What the files of the TCP transport and its server share; for this room only. */
#ifndef COROLLA_TRANSPORTS_TCP_H
#define COROLLA_TRANSPORTS_TCP_H

#include "../args.h"
#include "shared.h"

#include <netinet/in.h>

typedef struct Server Server;
typedef struct TcpTransport TcpTransport;

/* ---- The registry: registry.c --------------------------------------------------------------- */

typedef struct corolla_registry {
    TcpTransport **by_fd; /* owned table; an entry is borrowed, or owned while its transport is held */
    size_t size;
    Server *servers;      /* head of the list of those that serve; each owned */
    corolla_guest guests; /* head of a ring of borrowed ones */
} corolla_registry;

/* 0 or -1 with MemoryError. */
int registry_add(corolla_core *core, TcpTransport *t);
void registry_remove(corolla_core *core, TcpTransport *t);
int registry_add_server(corolla_core *core, Server *server);
void registry_remove_server(corolla_core *core, Server *server);

/* ---- The transport --------------------------------------------------------------------------- */

/* family is AF_UNSPEC while the address is unknown. */
typedef union corolla_inet_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} corolla_inet_address;

struct TcpTransport {
    PyObject_HEAD
    PyObject *extra; /* owned: the slot of asyncio.BaseTransport, a dict made when it is asked for */
    PyObject *dict;  /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    corolla_core *core;   /* borrowed from loop; NULL with it */
    PyObject *loop;       /* owned; NULL once the connection is lost */
    PyObject *protocol;   /* owned; NULL once the connection is lost */
    PyObject *context;    /* owned: what the protocol's methods run in */
    PyObject *sock;       /* owned: the socket object that owns the descriptor; NULL while we own it */
    PyObject *waiter;     /* owned: told once connection_made() has run, or NULL */
    PyObject *reason;     /* owned: what connection_lost() will be given; NULL for None */
    PyObject *landing;    /* owned: the bytes object that a large read goes into, or NULL */
    PyObject *room;       /* owned: while a file is sent, the future that is told when there is room, or NULL */
    Py_buffer *view;      /* owned: the buffer a BufferedProtocol gave for the read going on; NULL until used */
    Server *server;       /* owned, or NULL */
    TcpTransport *next_client, *prev_client; /* borrowed: the server's list of its connections */
    const corolla_native_protocol *native;   /* borrowed: static; NULL unless the protocol may take bytes in C */
    corolla_stream stream;
    corolla_inet_address peer, local;
    int fd;               /* whose it is, sock says; stays for repr() when closed */
    unsigned lost;        /* connection_lost() has been queued; then counts writes into the void */
    unsigned in_method;   /* depth of stream calls made for a caller of ours: callbacks run in its context */
    bool closed;          /* the descriptor is closed, or was never ours */
    bool buffered;        /* the protocol is a BufferedProtocol */
    bool by_method;       /* a native protocol wants what comes by data_received() for now */
    bool switched;        /* set_protocol() was called, for a get_buffer() that it happens in */
    bool made;            /* connection_made() was called */
    bool closing;         /* close() or abort() was called, or the connection failed */
    bool paused;          /* pause_reading() */
    bool eof;             /* write_eof() */
    bool protocol_paused; /* pause_writing() was the last of the two that was called */
    bool held;            /* the loop owns a reference: there is something to read or write */
    bool sending_file;    /* loop.sendfile() is under way */
    bool resume_after;    /* and paused reading for that time */
    bool registered;      /* in the registry */
};

/* tcp.c */

/* transport.close() and transport.abort(), the latter with a reason (NULL for None). 0 or -1. */
int tcp_close(TcpTransport *t);
int tcp_force_close(TcpTransport *t, PyObject *exc);
/* Takes the exception being raised, reports it unless it is an OSError, and closes the connection with
 * it, as asyncio's _fatal_error(). 0, or -1 with KeyboardInterrupt or SystemExit. */
int tcp_fatal(TcpTransport *t, const char *message);
int tcp_fatal_errno(TcpTransport *t, ssize_t err, const char *message); /* err: -errno */
/* Takes the exception being raised and gives it to the exception handler with the transport and the
 * protocol. 0, or -1 with KeyboardInterrupt or SystemExit. */
int tcp_report(TcpTransport *t, const char *message);
/* protocol.name(arg) in the connection's context, or in the caller's from inside a method. arg may be
 * NULL. New reference or NULL. */
PyObject *tcp_call(TcpTransport *t, PyObject *name, PyObject *arg);
/* The loop holds the transport while there is something to read or write. May drop the last reference,
 * unless the caller has one. */
void tcp_update_hold(TcpTransport *t);
/* In debug mode: logger.debug(format, t). */
void tcp_debug(TcpTransport *t, const char *format);

/* read.c: pause_reading() and resume_reading(); the latter 0, or -1 with an exception */
void tcp_pause(TcpTransport *t);
int tcp_resume(TcpTransport *t);
/* sendfile.c: tells whoever waits to send a file that there is room, or that there will be none. 0 or -1. */
int tcp_tell_room(TcpTransport *t);
int tcp_fail_room(TcpTransport *t, PyObject *exc); /* exc may be NULL */

/* read.c and write.c: the stream's callbacks */
int tcp_where(corolla_stream *s, size_t hint, void **buf, size_t *len);
int tcp_came(corolla_stream *s, void *buf, ssize_t n);
int tcp_failed(corolla_stream *s, int err);
int tcp_pressure(corolla_stream *s, bool on);
int tcp_flushed(corolla_stream *s);
void tcp_read_clear(TcpTransport *t); /* drops what a read left behind */

static inline TcpTransport *
tcp_of(corolla_stream *s)
{
    return (TcpTransport *)(void *)((char *)s - offsetof(TcpTransport, stream));
}

extern PyMethodDef tcp_read_methods[];  /* read.c */
extern PyMethodDef tcp_write_methods[]; /* write.c */
extern PyMethodDef tcp_extra_methods[]; /* extra.c */
extern PyGetSetDef tcp_getset[];        /* extra.c */
/* extra.c: what must be known of the addresses before anybody asks, at creation and before the
 * descriptor is closed. 0 or -1. */
int tcp_learn_addresses(TcpTransport *t, const struct sockaddr *peer, socklen_t len);
void tcp_keep_addresses(TcpTransport *t);

/* ---- The server ------------------------------------------------------------------------------ */

typedef struct ServerListener {
    corolla_listener listener;
    Server *server; /* borrowed: it embeds us */
    PyObject *sock; /* owned: the socket object that owns the descriptor */
} ServerListener;

struct Server {
    PyObject_HEAD
    corolla_state *state;      /* borrowed */
    PyObject *loop;            /* owned */
    corolla_core *core;        /* borrowed from loop */
    PyObject *sockets;         /* owned: list of socket objects; NULL once closed */
    PyObject *factory;         /* owned */
    PyObject *context;         /* owned: the one it was made in, copied for each connection */
    PyObject *sslcontext;      /* owned: connections are TLS by it; or NULL */
    corolla_tls_options tls;   /* with sslcontext: the timeouts, and nothing owned */
    PyObject *waiters;         /* owned: list of futures of wait_closed(); NULL once woken */
    PyObject *forever;         /* owned: the future of serve_forever(), or NULL */
    ServerListener *listeners; /* owned table */
    size_t listener_count;
    struct unix_path *path; /* owned: what close() removes, or NULL; unix_path.c */
    TcpTransport *clients;  /* borrowed: head of the list of its connections */
    size_t client_count;
    Server *next, *prev; /* the registry's list */
    int backlog;
    bool serving;
    bool held; /* in the registry, which owns a reference */
};

/* server.c */
void server_attach(Server *server, TcpTransport *t);
void server_detach(Server *server, TcpTransport *t); /* keeps an exception being raised */
void server_stop_listening(Server *server);

/* unix_path.c: removes the path of the server's socket if it is still that; what goes wrong is logged. Once. */
void server_remove_path(Server *server);

/* accept.c */
int server_accepted(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len);
int server_accept_failed(corolla_listener *l, int err);

/* server_async.c */
extern PyMethodDef server_async_methods[];

/* The jobs of this room, for the registry. */
int tcp_made_job(void *arg);
int tcp_lost_job(void *arg);

/* Each adds its type to the module. 0 or -1. */
int tcp_init(PyObject *module, corolla_state *state);
int server_init(PyObject *module, corolla_state *state);

#endif
