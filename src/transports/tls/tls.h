/* What the files of the TLS transport share; for this room only. */
#ifndef COROLLA_TRANSPORTS_TLS_TLS_H
#define COROLLA_TRANSPORTS_TLS_TLS_H

#include "../../args.h"
#include "../shared.h"
#include "engine.h"

/* Two Python objects are one connection. TlsProtocol is what the transport below has as its protocol; TlsTransport is what
 * the application has as its transport, and holds all there is. Below owns the protocol, that owns the transport until the
 * connection is lost, and that owns what is below. */
typedef struct TlsTransport TlsTransport;

typedef struct TlsProtocol {
    PyObject_HEAD
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    TlsTransport *tls;    /* owned; NULL once the connection is lost */
} TlsProtocol;

typedef enum tls_stage {
    TLS_UNWRAPPED, /* nothing has begun, or all is over */
    TLS_HANDSHAKE,
    TLS_WRAPPED,
    TLS_FLUSHING, /* the stream below has ended, and the application has paused before it got everything */
    TLS_SHUTDOWN, /* close_notify is said, the peer's is awaited */
} tls_stage;

/* What the application's protocol has been told. */
typedef enum tls_told { TLS_TOLD_NOTHING, TLS_TOLD_MADE, TLS_TOLD_EOF, TLS_TOLD_LOST } tls_told;

typedef enum tls_below { TLS_ON_NOTHING, TLS_ON_TCP, TLS_ON_TLS, TLS_ON_FOREIGN } tls_below;

/* What was written and is not sealed yet: bytes objects, in order. */
typedef struct tls_backlog {
    PyObject **items; /* owned table of owned references, a ring */
    size_t head, count, capacity;
    size_t offset; /* of the first: so much of it is sealed */
    size_t size;   /* bytes */
} tls_backlog;

/* What came from below and the engine has not got yet. */
typedef struct tls_wire {
    const char *at; /* borrowed */
    size_t left;    /* bytes */
    bool thrift;    /* no more is expected soon */
} tls_wire;

struct TlsTransport {
    PyObject_HEAD
    PyObject *extra; /* owned: the slot of asyncio.BaseTransport; here a dict of what was asked for once, or NULL */
    PyObject *dict;  /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    corolla_core *core;   /* borrowed from loop; NULL with it */
    PyObject *loop;       /* owned */
    PyObject *protocol;   /* owned: the application's; NULL once the connection is lost */
    PyObject *context;    /* owned: what the protocol's methods run in; nobody else enters it */
    PyObject *below;      /* owned: the transport that the records go through, or NULL */
    PyObject *waiter;     /* owned: told when the handshake is over, or NULL */
    PyObject *unread;     /* owned: bytes that came before start_tls and are the handshake's, or NULL */
    PyObject *sslcontext; /* owned */
    TlsProtocol *face;    /* borrowed: NULL once it is gone */
    tls_engine *engine;   /* owned */
    const corolla_native_protocol *native; /* borrowed: static; NULL unless the protocol may take bytes in C */
    corolla_alarm alarm;                   /* of the handshake, then of the shutdown */
    corolla_deferred flush;                /* while writes are held back for the end of the turn */
    tls_backlog backlog;
    double handshake_timeout, shutdown_timeout; /* seconds */
    int64_t heard;                              /* when something last came */
    int64_t began;                              /* in debug mode: the handshake */
    size_t write_high, write_low, read_high, read_low;
    size_t discarded;    /* bytes that came after close() */
    tls_wire *wire;      /* borrowed: what came, while plain bytes are being delivered */
    uint64_t write_turn; /* the reactor's turn of the last write */
    unsigned writes;     /* in that turn */
    unsigned hold;       /* turns in a row with several writes */
    unsigned inside; /* depth of calls of the protocol's methods, or of methods that it calls: no context is entered */
    unsigned lost_writes;
    uint8_t stage;     /* tls_stage */
    uint8_t told;      /* tls_told */
    uint8_t on;        /* tls_below */
    bool buffered;     /* the protocol is a BufferedProtocol */
    bool switched;     /* set_protocol() was called, for a get_buffer() that it happens in */
    bool accepted;     /* by a server */
    bool whole;        /* handshake_timeout is told as an int */
    bool closed;       /* close() or abort() was called, or the connection is over */
    bool shaken;       /* the handshake was completed */
    bool lost;         /* connection_lost() has come from below */
    bool given_up;     /* whoever asked for it no longer wants it */
    bool eof;          /* the stream below has ended */
    bool notified;     /* the peer has said close_notify */
    bool paused;       /* by the application: reading */
    bool below_paused; /* by us: reading */
    bool below_full;   /* it asked us to pause writing */
    bool told_pause;   /* pause_writing() was the last of the two that the protocol was told */
    bool pumping;      /* plain bytes are being delivered */
    bool resuming;     /* a job to resume is queued */
    bool sealing;      /* plain bytes are being sealed and sent */
    bool close_after;  /* close() was called meanwhile */
};

enum { TLS_WRITE_HIGH_WATER = 512 * 1024, TLS_READ_HIGH_WATER = 256 * 1024 }; /* bytes; asyncio's */

/* ---- state.c ------------------------------------------------------------------------------------ */

/* protocol.name(arg), arg may be NULL, as a job or (inside) in the caller's context. New reference or NULL. */
PyObject *tls_call(TlsTransport *t, PyObject *name, PyObject *arg);
/* Takes the exception being raised and closes the connection with it, as asyncio's _fatal_error(). 0, or -1 with
 * KeyboardInterrupt or SystemExit. */
int tls_fatal(TlsTransport *t, const char *message);
/* below is what the records go through from now on. 0, or -1 with RuntimeError for a second one. */
int tls_attach(TlsTransport *t, PyObject *below);
/* The handshake, and what comes from below. 0, or -1 with an exception that is to leave the loop. */
int tls_begin(TlsTransport *t);
int tls_came(TlsTransport *t, const void *buf, size_t n);
int tls_ended(TlsTransport *t, bool *keep_open);
int tls_lost(TlsTransport *t, PyObject *exc); /* exc may be NULL */
/* Closes at once. exc may be NULL. 0 or -1. */
int tls_abort(TlsTransport *t, PyObject *exc);
/* Leaves behind no timer, no protocol, no waiter. Keeps an exception being raised. */
void tls_finish(TlsTransport *t);

/* ---- shutdown.c ----------------------------------------------------------------------------------- */

/* transport.close(), and what follows the peer's close_notify. 0 or -1. */
int tls_close(TlsTransport *t);
/* Goes on with what tls_close() began. 0 or -1. */
int tls_shut(TlsTransport *t);
/* protocol.eof_received(), once. 0 or -1. */
int tls_tell_eof(TlsTransport *t);

/* ---- read.c ----------------------------------------------------------------------------------------- */

/* Gives the engine what came, all of it: 0 or -1. */
int tls_feed(TlsTransport *t, tls_wire *wire);
/* Gives the protocol what is there, and what came (wire may be NULL), as long as it wants it. 0 or -1. */
int tls_pump(TlsTransport *t, tls_wire *wire);
/* KeyboardInterrupt leaves the loop; what there is to be read or sealed is for whoever runs it again. Keeps the exception. */
void tls_go_on_later(TlsTransport *t);
void tls_pause(TlsTransport *t);
int tls_resume(TlsTransport *t); /* 0 or -1 */
int tls_resume_job(void *arg);
int tls_upgrade_job(void *arg); /* upgrade.c */
/* Pauses or resumes reading below, by how much is waiting. 0 or -1. */
int tls_control_reading(TlsTransport *t);
extern PyMethodDef tls_read_methods[];

/* ---- write.c ---------------------------------------------------------------------------------------- */

/* transport.write(). 0 or -1. */
int tls_write(TlsTransport *t, PyObject *data);
/* transport.writelines(), of bytes objects. 0 or -1. */
int tls_write_all(TlsTransport *t, PyObject *const *items, size_t count);
/* Seals what was written and sends it; all of it, or as much as below takes. 0 or -1. */
int tls_seal(TlsTransport *t, bool all);
/* Sends what the engine has for the wire. 0 or -1. */
int tls_send(TlsTransport *t);
/* Calls pause_writing() or resume_writing(). 0 or -1. */
int tls_control_writing(TlsTransport *t);
int tls_end_of_turn(corolla_deferred *deferred);
void tls_backlog_clear(tls_backlog *backlog);
extern PyMethodDef tls_write_methods[];

/* ---- below.c: the transport that the records go through ------------------------------------------------ */

void tls_set_below(TlsTransport *t, PyObject *below);
enum { TLS_MOST_SEALED = 8 };
/* Up to so many bytes objects, in order: 0 or -1, each. */
int tls_below_write(TlsTransport *t, PyObject *const *items, size_t count);
int tls_below_pause(TlsTransport *t);
int tls_below_resume(TlsTransport *t);
int tls_below_close(TlsTransport *t);
int tls_below_abort(TlsTransport *t, PyObject *exc); /* exc may be NULL */
int tls_below_is_closing(TlsTransport *t);           /* 1, 0 or -1 */
/* Nobody will ever call connection_lost(). False for a transport that cannot be asked. */
bool tls_below_is_gone(TlsTransport *t);

/* ---- transport.c, extra.c, protocol.c ------------------------------------------------------------------- */

TlsTransport *tls_transport_new(corolla_core *core, const corolla_tls_options *options);
int tls_set_protocol(TlsTransport *t, PyObject *protocol);
/* After the handshake, for an engine whose object is anybody's: asks at once what asyncio asks. 0 or -1. */
int tls_learn_extra(TlsTransport *t);
extern PyMethodDef tls_extra_methods[];
extern PyGetSetDef tls_getset[];
int tls_transport_init(PyObject *module, corolla_state *state);
int tls_protocol_init(PyObject *module, corolla_state *state);

/* Drops the exception being raised, if there is one. 0, or -1 with KeyboardInterrupt or SystemExit. */
static inline int
tls_drop_exception(void)
{
    if (PyErr_Occurred() == NULL) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* The loop of a connection whose last reference the collector took. RuntimeError, -1. */
static inline int
tls_check_core(const TlsTransport *t)
{
    if (t->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the transport is gone");
        return -1;
    }
    return 0;
}

#endif
