/* What the files of the socket calls share. */
#ifndef COROLLA_LOOP_SOCK_H
#define COROLLA_LOOP_SOCK_H

#include "loop.h"

typedef enum { FAILED = -1, DONE, AGAIN } Attempt;

typedef struct SockState {
    loop_wait wait;
    PyObject *loop; /* owned */
    PyObject *sock; /* owned */
    PyObject *arg;  /* owned: size, buffer, data or address; NULL for sock_accept() */
    PyObject *
        rest; /* owned: of sock_sendall(), a memoryview of data, once some of it has to wait; of sock_connect(), a look-up; of
                     * sock_recvfrom_into(), nbytes; of sock_sendto(), the address; or NULL */
    Py_ssize_t sent;
    int fd;     /* what sock_fileno() last gave */
    bool plain; /* sock is a socket.socket and nothing more */
    bool connecting;
} SockState; /* small enough for a coroutine of the free list */

/* sock.c */

/* The descriptor as it is now: the user may have closed the socket meanwhile, and the number may be another's. -1 for a
 * closed socket; -2 with an exception. */
int sock_fileno(corolla_state *state, SockState *st);
/* What became of a method that raised: AGAIN if it was only too early. */
Attempt sock_method_failed(void);
/* The same for a system call. EINTR does not happen to a call that never sleeps, but may be said all the same. */
Attempt sock_call_failed(void);

/* sock_connect.c */

/* Makes st->arg a numeric address, or st->rest what has to be awaited to get one. 0 or -1. */
int sock_connect_resolve(corolla_state *state, SockState *st);
/* Makes st->arg the first address that a look-up found. 0 or -1. */
int sock_connect_resolved(SockState *st, PyObject *infos);

/* Each tries once. DONE: *result is a new reference. */
typedef Attempt (*attempt_fn)(corolla_state *state, SockState *st, PyObject **result);

Attempt sock_connect_attempt(corolla_state *state, SockState *st, PyObject **result);

/* sock_datagram.c */
Attempt sock_recvfrom_attempt(corolla_state *state, SockState *st, PyObject **result);
Attempt sock_recvfrom_into_attempt(corolla_state *state, SockState *st, PyObject **result);
Attempt sock_sendto_attempt(corolla_state *state, SockState *st, PyObject **result);

#endif
