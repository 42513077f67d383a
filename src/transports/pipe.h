/* What the two pipe transports share; for this room only. */
#ifndef COROLLA_TRANSPORTS_PIPE_H
#define COROLLA_TRANSPORTS_PIPE_H

#include "../args.h"
#include "shared.h"

typedef struct PipeTransport PipeTransport;

/* What is different where one reads and the other writes. */
typedef struct PipeKind {
    const char *refusal;                               /* of what is neither pipe, socket nor character device */
    int (*start)(PipeTransport *t);                    /* after connection_made(): 0, or -errno */
    bool (*is_quiet)(PipeTransport *t, PyObject *exc); /* whether a failure is ordinary, and not to be reported */
    const char *start_failed;                          /* what is said when start does */
} PipeKind;

struct PipeTransport {
    PyObject_HEAD
    PyObject *extra; /* owned: the slot of asyncio.BaseTransport, a dict */
    PyObject *dict;  /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    corolla_core *core;   /* borrowed from loop; NULL with it */
    PyObject *loop;       /* owned; NULL once the connection is lost */
    PyObject *protocol;   /* owned; NULL once the connection is lost */
    PyObject *context;    /* owned: what the protocol's methods run in */
    PyObject *pipe;       /* owned: the object that owns the descriptor; NULL while we own it, and once closed */
    PyObject *waiter;     /* owned: told once connection_made() has run, or NULL */
    PyObject *reason;     /* owned: what connection_lost() will be given; NULL for None */
    PyObject *landing;    /* owned: the bytes object that a large read goes into, or NULL */
    const PipeKind *kind; /* borrowed: static */
    corolla_stream stream;
    corolla_guest guest;
    int fd;               /* whose it is, pipe says; stays for repr() when closed */
    int watched;          /* the stream's: fd, or a copy of it that we own */
    unsigned minded;      /* what a writer is to be told of: COROLLA_ events */
    unsigned lost_writes; /* since it is closing */
    unsigned in_method;   /* depth of stream calls made for a caller of ours: callbacks run in its context */
    bool closed;          /* the descriptor is closed, or was never ours */
    bool made;            /* connection_made() was called */
    bool closing;         /* close() or abort() was called, or the connection failed */
    bool lost;            /* connection_lost() has been queued */
    bool paused;          /* pause_reading() */
    bool by_method;       /* a native protocol wants what comes by data_received() for now */
    bool protocol_paused; /* pause_writing() was the last of the two that was called */
    bool grown;           /* pipe_grow() has been here */
};

static inline PipeTransport *
pipe_of(corolla_stream *s)
{
    return (PipeTransport *)(void *)((char *)s - offsetof(PipeTransport, stream));
}

/* pipe.c */

/* A transport whose connection_made() is queued. New reference, or NULL with pipe and descriptor untouched. */
PyObject *pipe_new(corolla_core *core, PyTypeObject *type, const PipeKind *kind, const corolla_stream_ops *ops,
                   const corolla_pipe_options *options);
/* protocol.name(arg) in the connection's context, or in the caller's from inside a method. New reference or NULL. */
PyObject *pipe_call(PipeTransport *t, PyObject *name, PyObject *arg);
/* As transport_report(). */
int pipe_report(PipeTransport *t, const char *message);
/* Takes the exception being raised, reports it unless it is ordinary, and closes with it. 0, or -1 with KeyboardInterrupt
 * or SystemExit. */
int pipe_fatal(PipeTransport *t, const char *message);
enum { PIPE_HOLDS = 64 * 1024 }; /* bytes, unless somebody has asked for more: pipe(7) */
/* More goes through a child's pipe than it holds: it is to hold more. */
void pipe_grow(PipeTransport *t);
int pipe_fatal_errno(PipeTransport *t, ssize_t err, const char *message); /* err: -errno */
/* Nothing is read or written from here on, and connection_lost(exc) is queued; exc may be NULL. Once. 0 or -1. */
int pipe_force_close(PipeTransport *t, PyObject *exc);
/* In debug mode: RuntimeError from another thread than the loop's. 0 or -1. */
int pipe_check_thread(PipeTransport *t);
/* The loop holds the transport while there is something to read, write or mind. May drop the last reference, unless the
 * caller has one. */
void pipe_update_hold(PipeTransport *t);
/* <Name closing fd=7, to which more is added. New reference or NULL. */
PyObject *pipe_repr(PipeTransport *t, const char *name, const char *polling);

/* The jobs of this room. */
int pipe_made_job(void *arg);
int pipe_eof_job(void *arg); /* pipe_read.c */
int pipe_lost_job(void *arg);

/* The slots of both types. */
int pipe_traverse(PyObject *self, visitproc visit, void *arg);
int pipe_clear(PyObject *self);
void pipe_finalize(PyObject *self);
void pipe_dealloc(PyObject *self);
extern PyMethodDef pipe_methods[];
extern PyGetSetDef pipe_getset[];
extern PyMemberDef pipe_members[];

int pipe_read_init(PyObject *module, corolla_state *state);
int pipe_write_init(PyObject *module, corolla_state *state);

#endif
