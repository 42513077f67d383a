/* What the files of the subprocess transport share; for this room only. */
#ifndef COROLLA_TRANSPORTS_PROCESS_H
#define COROLLA_TRANSPORTS_PROCESS_H

#include "../args.h"
#include "shared.h"

typedef struct ProcessTransport ProcessTransport;

/* The protocol of one of the child's pipes, which tells the process's. */
typedef struct ProcessPipe {
    PyObject_HEAD
    PyObject *weakrefs;
    corolla_state *state;      /* borrowed */
    ProcessTransport *process; /* owned; NULL once disconnected */
    PyObject *transport;       /* owned: a ReadPipeTransport or WritePipeTransport; NULL until it is made */
    int number;                /* 0, 1 or 2: the descriptor in the child */
    bool disconnected;         /* connection_lost() was called */
} ProcessPipe;

enum { CHILD_PIPES = 3 };

struct ProcessTransport {
    PyObject_HEAD
    PyObject *extra; /* owned: the slot of asyncio.BaseTransport, a dict */
    PyObject *dict;  /* owned, or NULL */
    PyObject *weakrefs;
    corolla_state *state;            /* borrowed */
    corolla_core *core;              /* borrowed from loop; NULL with it */
    PyObject *loop;                  /* owned; NULL once connection_lost() was called */
    PyObject *protocol;              /* owned; NULL once connection_lost() was called */
    PyObject *context;               /* owned: what the protocol's methods run in */
    PyObject *args;                  /* owned: what it was started with, as Popen has it */
    PyObject *popen;                 /* owned: get_extra_info('subprocess'); NULL while nobody has asked */
    PyObject *waiter;                /* owned: told once connection_made() was called, or NULL */
    PyObject *exit_waiters;          /* owned: list of futures, or NULL */
    ProcessPipe *pipes[CHILD_PIPES]; /* owned, each, or NULL */
    corolla_child child;
    corolla_guest guest; /* while the end of the child is waited for */
    pid_t parent;        /* the process that started it: not ours after a fork */
    int returncode;      /* once exited */
    bool exited;
    bool closed;   /* close() was called */
    bool killed;   /* by close() */
    bool finished; /* connection_lost() is queued, or was called */
};

/* What became of a start. */
typedef struct Spawned {
    pid_t pid;
    PyObject *popen;              /* owned: the Popen that did it, or NULL */
    PyObject *files[CHILD_PIPES]; /* owned, each: its ends of the pipes, or NULL */
    int fds[CHILD_PIPES];         /* owned, each: the same where there is no Popen; -1 for none */
} Spawned;

/* process_spawn.c: 0, or -1 with nothing started and nothing open. */
int process_spawn(corolla_state *state, const corolla_process_options *options, Spawned *spawned);
/* A Popen of a process that was started without one. New reference or NULL. */
PyObject *process_make_popen(ProcessTransport *t);

/* process_pipe.c */
ProcessPipe *process_pipe_new(ProcessTransport *t, int number); /* new reference or NULL */
int process_pipe_init(PyObject *module, corolla_state *state);

/* process.c */

/* The job behind those that make the pipes: connection_made(). */
int process_made_job(void *arg);
int process_lost_job(void *arg);
/* A pipe was disconnected, or the child ended: connection_lost() is queued if that was the last. 0 or -1. */
int process_try_finish(ProcessTransport *t);
int process_init(PyObject *module, corolla_state *state);

/* Nobody waits for the child any more: it becomes no zombie, and its Popen does not wait for it either. */
void process_disown(ProcessTransport *t);
/* The Popen is not to wait for what has been waited for. */
void process_inform_popen(ProcessTransport *t);

/* process_type.c */
extern PyMethodDef process_methods[];
extern PyGetSetDef process_getset[];
PyObject *process_repr(PyObject *self);
/* transport.close(). 0 or -1. */
int process_close(ProcessTransport *t);

#endif
