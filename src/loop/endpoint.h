/* What create_server() and create_connection() have in common. */
#ifndef COROLLA_LOOP_ENDPOINT_H
#define COROLLA_LOOP_ENDPOINT_H

#include "loop.h"

/* TypeError for an ssl.SSLSocket. 0 or -1. */
int endpoint_refuse_ssl_socket(PyObject *sock);
/* ValueError for what is not a stream socket. 0 or -1. */
int endpoint_check_stream(PyObject *sock);
/* sock.setblocking(False). 0 or -1. */
int endpoint_set_nonblocking(PyObject *sock);
/* A C int out of an argument that may be missing. 0 or -1. */
int endpoint_parse_int(PyObject *value, int otherwise, int *out);
/* NotImplementedError(method + "() with ssl is not implemented yet"). */
void endpoint_refuse_ssl(const char *method);

/* The stream addresses of a host and port. 1: *found is the list of them; 0: *found is to be awaited for
 * it (a new reference, either way); -1 on error. more: flowinfo and scope id, in a tuple, or NULL. */
int endpoint_resolve(PyObject *loop, PyObject *host, PyObject *port, PyObject *more, int family, int proto, int flags,
                     PyObject **found);

/* logger.level(format, *args); steals args, a tuple (NULL: the exception being raised is told instead).
 * What goes wrong is not raised. */
void endpoint_log(corolla_core *core, const char *level, const char *message_format, PyObject *args);

#endif
