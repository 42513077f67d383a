/* streams/: readers and writers over a transport. */
#ifndef COROLLA_STREAMS_H
#define COROLLA_STREAMS_H

#include "../args.h"
#include "../scheduler/await.h"
#include "../scheduler/scheduler.h"
#include "../transports/transports.h"
#include "../scheduler/waiters.h"
#include "buffer.h"

enum { STREAM_LIMIT = 64 * 1024 }; /* bytes; asyncio's default */

/* A new future of that loop, whichever it is. New reference or NULL; flow.c. */
PyObject *stream_future(corolla_state *state, PyObject *loop);

/* The debug mode of that loop, whichever it is: 1, 0 or -1; flow.c. */
int stream_debug(corolla_state *state, PyObject *loop);

/* Result None or, with exc not NULL, that exception, unless it is done. 0 or -1; flow.c. */
int stream_settle(corolla_state *state, PyObject *future, PyObject *exc);

/* The same for everyone who waits there; each takes itself out. 0 or -1; flow.c. */
int stream_wake_all(corolla_state *state, corolla_waiters *waiters, PyObject *exc);

/* A task of a coroutine on that loop, likewise. New reference or NULL; connected.c. */
PyObject *stream_task(corolla_state *state, PyObject *loop, PyObject *coro);

/* ---- StreamReader: reader.c, reader_async.c -------------------------------------------------- */

typedef struct StreamReader {
    PyObject_HEAD
    PyObject *dict; /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state;       /* borrowed */
    PyObject *loop;             /* owned; NULL until __init__ has run */
    PyObject *waiter;           /* owned: the future of the one call that waits for bytes, or NULL */
    PyObject *exception;        /* owned: what set_exception() was given, or NULL */
    PyObject *transport;        /* owned, or NULL */
    PyObject *source_traceback; /* owned, or NULL */
    corolla_buffer buffer;
    size_t wanted; /* unread bytes below which the one that waits is not to be woken; SIZE_MAX: before the end */
    size_t limit;  /* bytes */
    bool eof;
    bool paused; /* we have paused the transport */
} StreamReader;

/* Whether a program has given an object of ours attributes of its own, which may stand in place of methods. */
static inline bool
stream_has_own(PyObject *dict)
{
    return dict != NULL && PyDict_GET_SIZE(dict) > 0;
}

/* Whether it is exactly ours, and nobody has replaced its methods. */
static inline bool
reader_is_plain(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->stream_reader_type) && !stream_has_own(((StreamReader *)obj)->dict);
}

/* New reference or NULL. limit > 0. */
PyObject *reader_new(corolla_state *state, PyObject *loop, size_t limit);
/* A limit as the constructors take it: 0, or -1 with ValueError or TypeError. */
int reader_parse_limit(PyObject *given, size_t *limit);
/* -1 with RuntimeError if __init__ has not run. */
int reader_check(StreamReader *reader);
int reader_wake(StreamReader *reader); /* the one that waits looks again. 0 or -1 */
int reader_feed_eof(StreamReader *reader);
int reader_set_exception(StreamReader *reader, PyObject *exc);
/* After bytes were added: wakes, and pauses the transport if there are too many. 0 or -1. */
int reader_fed(StreamReader *reader);
/* After bytes were taken: reads on if there are few again. 0 or -1. */
int reader_resume(StreamReader *reader);
int reader_resume_now(StreamReader *reader); /* 0 or -1 */
/* Makes the future that the next bytes, or their end, wake, in *mine (owned): 0 or -1. However the wait ended,
 * reader_end_wait() comes next. wanted: as the reader's field. */
int reader_begin_wait(StreamReader *reader, PyObject **mine, const char *function, size_t wanted);
void reader_end_wait(StreamReader *reader, PyObject **mine);
/* The same for a future that waits for something else, too; and when that wait is over. */
int reader_wait_on(StreamReader *reader, PyObject *waiter, const char *function, size_t wanted); /* 0 or -1 */
void reader_wait_over(StreamReader *reader, PyObject *waiter);
int reader_check_exception(StreamReader *reader); /* raises what set_exception() was given: 0 or -1 */
/* As `raise exc`, whatever that is. */
void stream_raise(PyObject *exc);
/* The first len unread bytes, and reads on if there are few now. New reference or NULL. */
PyObject *reader_take(StreamReader *reader, size_t len);
PyObject *reader_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *reader_readexactly(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *reader_readuntil(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *reader_readline(PyObject *self, PyObject *unused);
/* A coroutine of one of these, or of reader_anext(), becomes a call of a Stream's, which it holds: an error of the connection
 * is raised only where the unread bytes do not do. Steals coro (NULL: passes it on) and returns it. */
PyObject *reader_call_of(PyObject *coro, PyObject *stream);
extern PyMethodDef reader_async_methods[]; /* reader_async.c */
PyObject *reader_anext(PyObject *self);    /* reader_async.c */

/* ---- The writing side of a protocol: flow.c ----------------------------------------------------- */

/* What the protocols of this room begin with, as asyncio's have FlowControlMixin. */
typedef struct StreamFlow {
    PyObject_HEAD
    PyObject *dict; /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state;     /* borrowed */
    PyObject *loop;           /* owned; NULL until __init__ has run */
    PyObject *closed;         /* owned: a future, done once the connection is lost; made when it is asked for */
    PyObject *lost_with;      /* owned: the exception it was lost with; NULL for none */
    corolla_waiters drainers; /* who waits in drain() */
    corolla_waiters closers;  /* who waits for the end of the connection */
    bool paused;
    bool lost;
} StreamFlow;

int flow_check(StreamFlow *flow); /* -1 with RuntimeError if __init__ has not run */
int flow_traverse(StreamFlow *flow, visitproc visit, void *arg);
void flow_clear(StreamFlow *flow);
void flow_hush(StreamFlow *flow); /* nobody need have waited for the end: an exception there is not reported */
/* The future of _get_close_waiter(): new reference or NULL. */
PyObject *flow_close_waiter(StreamFlow *flow);
/* What drain() waits for: 1 with a future (new reference) in *waiter, 0 when there is nothing to wait for, or -1 with
 * ConnectionResetError and the like. */
int flow_drain(StreamFlow *flow, PyObject **waiter);
/* The same for the end of the connection: 0 when it has come, -1 with what it was lost with. */
int flow_ended(StreamFlow *flow, PyObject **waiter);
void flow_waited(StreamFlow *flow, PyObject *waiter); /* takes it off either queue */
void flow_set_lost(StreamFlow *flow, PyObject *exc);  /* the first time only; exc may be NULL */
int flow_wake_lost(StreamFlow *flow);                 /* tells everyone who waits. 0 or -1 */
extern PyMethodDef flow_methods[];

/* ---- StreamReaderProtocol: protocol.c -------------------------------------------------------- */

typedef struct StreamProtocol {
    StreamFlow flow;
    PyObject *reader_ref;       /* owned: weak reference to the reader, or NULL */
    PyObject *strong_reader;    /* owned: until the connection is there, or NULL */
    PyObject *connected_cb;     /* owned, or NULL */
    PyObject *transport;        /* owned, or NULL */
    PyObject *task;             /* owned: connected_cb's, or NULL */
    PyObject *source_traceback; /* owned, or NULL */
    PyObject *acceptor;         /* owned: makes a Stream of the connection in connected_cb's place, or NULL */
    bool over_tls;
    bool reject; /* _reject_connection */
} StreamProtocol;

/* Whether its type is exactly ours. */
static inline bool
protocol_is_plain(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->stream_protocol_type);
}

/* New reference or NULL; connected_cb may be NULL. */
PyObject *protocol_new(corolla_state *state, PyObject *loop, PyObject *reader, PyObject *connected_cb);
/* The reader, if anybody still has it: new reference or NULL, with no exception. */
PyObject *protocol_reader(StreamProtocol *protocol);
/* Whether the transport encrypts, from its 'sslcontext'. 0 or -1. */
int protocol_learn_tls(StreamProtocol *protocol, PyObject *transport);
PyObject *protocol_connection_made(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* feed.c: for a protocol, and for a plain reader in its place. */
extern const corolla_native_protocol stream_native_ops, reader_native_ops;

/* ---- StreamWriter: writer.c ------------------------------------------------------------------ */

typedef struct StreamWriter {
    PyObject_HEAD
    PyObject *dict; /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *transport;  /* owned; NULL until __init__ has run */
    PyObject *protocol;   /* owned, likewise */
    PyObject *reader;     /* owned, or NULL */
    PyObject *loop;       /* owned; NULL until __init__ has run */
} StreamWriter;

/* New reference or NULL; reader may be NULL. */
PyObject *writer_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *reader, PyObject *loop);
int writer_check(StreamWriter *writer);                /* -1 with RuntimeError if __init__ has not run */
int writer_closing(StreamWriter *writer);              /* transport.is_closing(), of whatever kind: 1, 0 or -1 */
int writer_send(StreamWriter *writer, PyObject *data); /* transport.write(data), likewise: 0 or -1 */
int writer_check_reader(StreamWriter *writer);         /* raises the reader's exception, if it has one: 0 or -1 */
/* What drain() waits for: as protocol_drain(), of whatever protocol; *waiter is an awaitable. */
int writer_begin_drain(StreamWriter *writer, PyObject **waiter);
int writer_begin_end(StreamWriter *writer, PyObject **waiter); /* the same for the end of the connection */
/* What Stream, which begins as a StreamWriter does, has of it. */
int writer_traverse(PyObject *self, visitproc visit, void *arg);
int writer_clear(PyObject *self);
void writer_finalize(PyObject *self);
void writer_dealloc(PyObject *self);
PyObject *writer_is_closing(PyObject *self, PyObject *unused);
PyObject *writer_can_write_eof(PyObject *self, PyObject *unused);
PyObject *writer_get_extra_info(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *writer_drain(PyObject *self, PyObject *unused);
extern PyMethodDef writer_async_methods[]; /* writer_async.c */

/* ---- TLS: start_tls.c ------------------------------------------------------------------------- */

extern PyMethodDef writer_tls_methods[];
/* A protocol's connection is being upgraded to TLS, transport being what its reader is to pause from now on. What the reader
 * (ours or asyncio's) holds unread is taken away from it: a bytes object in *unread (new reference), or NULL. 0 or -1. Nothing
 * happens for a protocol that has no reader. */
int stream_hand_over(corolla_state *state, PyObject *protocol, PyObject *transport, PyObject **unread);

/* ---- The room -------------------------------------------------------------------------------- */

/* connect.c: open_connection() and the others. */
extern PyMethodDef streams_connect_functions[];

/* Each adds its type to the module. 0 or -1. */
int reader_init(PyObject *module, corolla_state *state);
int protocol_init(PyObject *module, corolla_state *state);
int writer_init(PyObject *module, corolla_state *state);

#endif
