/* What the methods that make connections and servers have in common. */
#ifndef COROLLA_LOOP_ENDPOINT_H
#define COROLLA_LOOP_ENDPOINT_H

#include "loop.h"

/* TypeError for an ssl.SSLSocket. 0 or -1. */
int endpoint_refuse_ssl_socket(PyObject *sock);
/* ValueError for what is not a stream socket. 0 or -1. */
int endpoint_check_stream(PyObject *sock);
/* ValueError for what is not an AF_UNIX stream socket. 0 or -1. */
int endpoint_check_unix_stream(PyObject *sock);
/* sock.setblocking(False). 0 or -1. */
int endpoint_set_nonblocking(PyObject *sock);
/* A C int out of an argument that may be missing. 0 or -1. */
int endpoint_parse_int(PyObject *value, int otherwise, int *out);
/* 1 if ssl asks for TLS, 0 if not; -1 with ValueError for what is only meaningful with it. Each NULL where nothing or None
 * was given. */
int endpoint_check_ssl_options(PyObject *ssl, PyObject *server_hostname, PyObject *handshake_timeout,
                               PyObject *shutdown_timeout);
/* True unless value is NULL, which means otherwise. 0 or -1. */
int endpoint_parse_bool(PyObject *value, bool otherwise, bool *out);
/* TLS as it was asked for. All zero bytes is none. */
typedef struct endpoint_tls {
    corolla_tls_options options; /* borrows from context and from the arguments it was parsed from */
    PyObject *context;           /* owned: the ssl.SSLContext; NULL: the connection is in clear text */
} endpoint_tls;

/* From the arguments of a method, NULL where nothing or None was given; server_hostname: a client's. 0, or -1 with nothing to
 * clear. */
int endpoint_tls_parse(endpoint_tls *tls, PyObject *loop, PyObject *ssl, bool server_side, PyObject *server_hostname,
                       PyObject *handshake_timeout, PyObject *shutdown_timeout);
/* A server that has not begun gives it to its connections. 0 or -1. */
int endpoint_tls_serve(const endpoint_tls *tls, PyObject *server);

/* The stream addresses of a host and port. 1: *found is the list of them; 0: *found is to be awaited for
 * it (a new reference, either way); -1 on error. more: flowinfo and scope id, in a tuple, or NULL. */
int endpoint_resolve(PyObject *loop, PyObject *host, PyObject *port, PyObject *more, int family, int proto, int flags,
                     PyObject **found);

/* A connection that is there and is to get a transport. Each owned, NULL until made. */
typedef struct endpoint_link {
    PyObject *protocol, *transport; /* the application's */
    PyObject *tls;                  /* what stands between the transport and the socket's; NULL in clear text */
    PyObject *waiter;               /* a Future: done once connection_made() has run; to be awaited */
} endpoint_link;

/* The non-blocking descriptor of a caller's socket, which no transport uses. -1 with an exception. */
int endpoint_take_socket(PyObject *loop, PyObject *sock);
/* Makes all of them, with a protocol of the factory's. sock: the socket object that owns fd, or NULL: then fd is the
 * transport's on success. 0, or -1 with fd and sock untouched. */
int endpoint_link_make(endpoint_link *link, PyObject *loop, PyObject *factory, PyObject *sock, int fd,
                       const endpoint_tls *tls);
int endpoint_link_traverse(endpoint_link *link, visitproc visit, void *arg);
void endpoint_link_clear(endpoint_link *link);
/* The waiter was awaited, and gave value. Ends the coroutine: with the pair; or, value being NULL, with what was raised and
 * without the transport. */
corolla_step endpoint_link_return(corolla_coro *co, endpoint_link *link, PyObject *value);

/* logger.level(format, *args); steals args, a tuple (NULL: the exception being raised is told instead).
 * What goes wrong is not raised. */
void endpoint_log(corolla_core *core, const char *level, const char *message_format, PyObject *args);

#endif
