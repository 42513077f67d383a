/* Stream: a reader and a writer in one object, which asyncio's authors announced in 2018. For this room only. */
#ifndef COROLLA_STREAMS_STREAM_H
#define COROLLA_STREAMS_STREAM_H

#include "streams.h"

enum { STREAM_READ = 1, STREAM_WRITE = 2 }; /* the values of StreamMode */

/* Begins as a StreamWriter does, whose functions serve it too. The reader is always a plain one. */
typedef struct Stream {
    StreamWriter writer;
    unsigned mode;    /* STREAM_ bits */
    bool writing;     /* a coroutine writes, and waits */
    bool server_side; /* the connection was accepted */
} Stream;

static inline StreamReader *
stream_reader(Stream *stream)
{
    return (StreamReader *)stream->writer.reader;
}

/* A Stream over a transport that is connected. New reference or NULL. */
PyObject *stream_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *reader, PyObject *loop,
                     unsigned mode, bool server_side);
/* -1 with RuntimeError unless it is initialised and open for that direction. */
int stream_check(Stream *stream, unsigned mode);
/* The coroutine of stream.close(), or, with abort, one that does not wait for what is queued. */
PyObject *stream_closing(PyObject *self, bool abort);

extern PyMethodDef stream_read_methods[];  /* stream_read.c */
extern PyMethodDef stream_write_methods[]; /* stream_write.c */
extern PyMethodDef stream_tls_methods[];   /* start_tls.c */
/* Sets stream->writing, which is the caller's to unset. 0, or -1 with RuntimeError while somebody else writes,
 * ConnectionResetError once it is closing ...; stream_write.c */
int stream_begin_writing(Stream *stream, const char *function);

int stream_init(PyObject *module, corolla_state *state);

/* acceptor.c: what makes the streams of a server. */

/* protocol->acceptor's part of connection_made(): a Stream, and the handler's task. 0 or -1. */
int acceptor_connected(PyObject *acceptor, StreamProtocol *protocol, PyObject *reader, PyObject *transport);
/* connecting.c: what connect() and the like give, to be awaited or entered. Steals coro (NULL: fails). */
PyObject *connecting_new(corolla_state *state, PyObject *coro);
int connecting_init(PyObject *module, corolla_state *state);

int acceptor_init(PyObject *module, corolla_state *state);

#endif
