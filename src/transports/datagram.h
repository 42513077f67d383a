/* What the files of the datagram transport share; for this room only. */
#ifndef COROLLA_TRANSPORTS_DATAGRAM_H
#define COROLLA_TRANSPORTS_DATAGRAM_H

#include "../args.h"
#include "shared.h"

#include <netinet/in.h>

/* An Internet address and the tuple it is for Python. */
typedef struct KnownAddress {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } addr;
    socklen_t len;
    PyObject *tuple; /* owned; NULL: nothing known */
} KnownAddress;

enum { FIRST_SENDERS = 16, MOST_SENDERS = 1024 };

typedef struct DatagramEndpoint {
    PyObject_HEAD
    PyObject *extra; /* owned: the slot of asyncio.BaseTransport, a dict */
    PyObject *dict;  /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    corolla_core *core;   /* borrowed from loop; NULL with it */
    PyObject *loop;       /* owned; NULL once the endpoint is lost */
    PyObject *protocol;   /* owned; NULL once the endpoint is lost */
    PyObject *context;    /* owned: what the protocol's methods run in */
    PyObject *sock;       /* owned: the socket object that owns the descriptor; NULL once closed */
    PyObject *waiter;     /* owned: told once connection_made() has run, or NULL */
    PyObject *reason;     /* owned: what connection_lost() will be given; NULL for None */
    PyObject *address;    /* owned: the peer of a connected endpoint, or where all is sent; NULL: anywhere */
    PyObject *given;      /* owned: the same as the user put it, before a name was looked up; or NULL */
    corolla_datagram datagram;
    corolla_guest guest;
    KnownAddress *senders;          /* owned: table by a hash of the address; NULL until used */
    KnownAddress *recent;           /* borrowed from senders: who sent last; or NULL */
    unsigned sender_slots, evicted; /* of senders: its size, and how many have lost their place in it */
    KnownAddress target;            /* where sendto() sent last, if it had to be worked out */
    struct sockaddr_storage peer;   /* of address */
    socklen_t peer_len;             /* 0: no address */
    int family;
    int fd;               /* sock's; stays for repr() when closed */
    unsigned lost;        /* connection_lost() has been queued; then counts datagrams into the void */
    unsigned in_method;   /* depth of engine calls made for a caller of ours: callbacks run in its context */
    bool connected;       /* the kernel knows the peer */
    bool closed;          /* the descriptor is closed, or was never ours */
    bool made;            /* connection_made() was called */
    bool closing;         /* close() or abort() was called */
    bool protocol_paused; /* pause_writing() was the last of the two that was called */
} DatagramEndpoint;

static inline DatagramEndpoint *
endpoint_of(corolla_datagram *d)
{
    return (DatagramEndpoint *)(void *)((char *)d - offsetof(DatagramEndpoint, datagram));
}

/* datagram.c */

/* protocol.name(arg), in the endpoint's context or, from inside a method, in the caller's. New reference or NULL. */
PyObject *datagram_call(DatagramEndpoint *t, PyObject *name, PyObject *arg);
/* As transport_report(). */
int datagram_report(DatagramEndpoint *t, const char *message);
/* The loop holds the endpoint while there is something to receive or send. May drop the last reference, unless the caller
 * has one. */
void datagram_update_hold(DatagramEndpoint *t);
/* Nothing is received or sent from here on, and connection_lost(exc) is queued; exc may be NULL. Once. 0 or -1. */
int datagram_force_close(DatagramEndpoint *t, PyObject *exc);

/* datagram_io.c */
extern const corolla_datagram_ops datagram_ops;
extern PyMethodDef datagram_io_methods[];
int datagram_io_traverse(DatagramEndpoint *t, visitproc visit, void *arg);
void datagram_io_clear(DatagramEndpoint *t); /* drops the addresses that are known */

/* The jobs of this room. */
int datagram_made_job(void *arg);
int datagram_lost_job(void *arg);

int datagram_init(PyObject *module, corolla_state *state);

#endif
