/* Subprocesses with streams: what process*.c share. */
#ifndef COROLLA_STREAMS_PROCESS_H
#define COROLLA_STREAMS_PROCESS_H

#include "streams.h"

/* ---- SubprocessStreamProtocol: process_protocol.c ---------------------------------------------- */

typedef struct SubprocessProtocol {
    StreamFlow flow;          /* of stdin; its closers wait for the end of stdin */
    PyObject *transport;      /* owned: until the process and its output have ended, or NULL */
    PyObject *streams[3];     /* owned: the writer of stdin, the readers of stdout and stderr; or NULL */
    corolla_waiters watchers; /* who waits for the process to end */
    size_t limit;             /* bytes, of each reader */
    bool reading[3];          /* the end of that output has not come yet */
    bool exited;
} SubprocessProtocol;

static inline bool
subprocess_protocol_is_plain(const corolla_state *state, PyObject *obj)
{
    return Py_IS_TYPE(obj, state->subprocess_protocol_type);
}

/* New reference or NULL. */
PyObject *subprocess_protocol_new(corolla_state *state, PyObject *loop, size_t limit);
int subprocess_protocol_init(PyObject *module, corolla_state *state);

/* ---- Process: process.c ------------------------------------------------------------------------- */

typedef struct Process {
    PyObject_HEAD
    PyObject *dict; /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *transport;  /* owned; NULL until __init__ has run, and so are the next two */
    PyObject *protocol;   /* owned */
    PyObject *loop;       /* owned */
    PyObject *streams[3]; /* owned: stdin, stdout, stderr; None or NULL for none */
    PyObject *pid;        /* owned */
} Process;

/* New reference or NULL. */
PyObject *child_new(corolla_state *state, PyObject *transport, PyObject *protocol, PyObject *loop);
int child_check(Process *process); /* -1 with RuntimeError if __init__ has not run */
/* transport.get_returncode(): new reference, None while it runs, or NULL. */
PyObject *child_returncode(Process *process);
/* One of its streams, borrowed; NULL for none. */
static inline PyObject *
child_stream(const Process *process, int fd)
{
    PyObject *stream = process->streams[fd];
    return stream == Py_None ? NULL : stream;
}
int child_init(PyObject *module, corolla_state *state);

PyObject *child_wait(PyObject *self, PyObject *unused); /* child_wait.c */
/* child_communicate.c: */
PyObject *child_communicate(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
/* In debug mode: logger.debug(format, process), and one more argument unless arg is NULL. 0 or -1. */
int child_debug(Process *process, const char *format, PyObject *arg);
/* stdin.write(input); what that raises because nobody reads is passed over. 0 or -1. */
int child_feed(Process *process, PyObject *input);
/* The exception being raised may be that nobody reads stdin: then it is passed over, and 1. 0: it stays; -1: another. */
int child_unread(Process *process);
int child_close_stdin(Process *process);
int child_read_output(Process *process, int fd);  /* says so in debug mode. 0 or -1 */
int child_close_output(Process *process, int fd); /* closes the pipe of stdout or stderr, whose end has come */
/* child_gather.c: the same for streams of others. A future of [None, stdout, stderr]; new reference or NULL. */
PyObject *child_gather(Process *process, PyObject *input);

extern PyMethodDef child_functions[]; /* process_create.c */

#endif
