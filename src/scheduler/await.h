/* C coroutines: how an async function is written in C.
 *
 * A coroutine is an object of collections.abc.Coroutine whose body is a step function over a state
 * struct of its own. The body is a switch on where it left off, written with the macros below:
 *
 *     typedef struct { PyObject *loop, *waiter; int fd; } RecvState;
 *
 *     static corolla_step recv_step(corolla_coro *co, PyObject *value)
 *     {
 *         RecvState *st = corolla_coro_state(co);
 *         COROLLA_BEGIN(co);
 *         st->waiter = corolla_future_new(...);
 *         if (st->waiter == NULL) return COROLLA_RAISE;
 *         COROLLA_AWAIT(co, st->waiter);        // back here when it is done
 *         if (value == NULL) { ...clean up...; return COROLLA_RAISE; }   // it raised, or was thrown into
 *         return corolla_return(co, Py_NewRef(value));
 *         COROLLA_END(co);
 *     }
 *
 * Locals do not live across an await: what must, is in the state. `value` after an await is what the
 * awaited thing returned (borrowed), or NULL with the exception set that it raised, or that cancel,
 * throw() or close() threw in: GeneratorExit too, so every await has a path that cleans up.
 * When the awaited future is done already, the body goes on at once: nothing is queued.
 */
#ifndef COROLLA_AWAIT_H
#define COROLLA_AWAIT_H

#include "scheduler.h"

typedef struct corolla_coro corolla_coro;

typedef enum {
    COROLLA_RAISE = -1,  /* an exception is set */
    COROLLA_RETURN = 0,  /* through corolla_return() */
    COROLLA_SUSPEND = 1, /* through COROLLA_AWAIT */
    COROLLA_YIELD = 2,   /* a bare yield: back on the loop's next turn */
} corolla_step;

typedef struct corolla_coro_spec {
    const char *name;     /* "sock_recv" */
    const char *qualname; /* "EventLoop.sock_recv" */
    size_t size;          /* of the state, bytes; it starts zeroed */
    corolla_step (*step)(corolla_coro *co, PyObject *value);
    /* Objects the state owns, for the collector. clear must be harmless twice; it is also what runs when
     * the body has returned, raised or is dropped. Both may be NULL. */
    int (*traverse)(void *state, visitproc visit, void *arg);
    void (*clear)(void *state);
} corolla_coro_spec;

struct corolla_coro {
    PyObject_VAR_HEAD
    PyObject *weakrefs;
    const corolla_coro_spec *spec; /* borrowed: static */
    corolla_state *state;          /* borrowed */
    PyObject *awaiting;            /* owned: a future of ours, or an iterator that is delegated to */
    PyObject *origin;              /* owned: cr_origin, or NULL */
    PyObject *outcome;             /* owned: what corolla_return() was given, or what is to be awaited */
    int where;                     /* 0: not begun */
    bool started, running, finished;
    bool direct;    /* awaiting is a future of ours */
    bool finalized; /* its finalizer has run */
    void *data[];   /* the state */
};

/* A new coroutine that has not begun. New reference or NULL. */
corolla_coro *corolla_coro_new(corolla_state *state, const corolla_coro_spec *spec);

static inline void *
corolla_coro_state(corolla_coro *co)
{
    return co->data;
}

/* Ends the body with a value; steals it (NULL: raises). */
corolla_step corolla_return(corolla_coro *co, PyObject *value);
/* For COROLLA_AWAIT: remembers what is awaited (any awaitable; not stolen). */
void corolla_coro_await(corolla_coro *co, PyObject *awaitable);

#define COROLLA_BEGIN(co)  \
    switch ((co)->where) { \
    case 0:

#define COROLLA_AWAIT(co, awaitable)           \
    do {                                       \
        corolla_coro_await((co), (awaitable)); \
        (co)->where = __LINE__;                \
        return COROLLA_SUSPEND;                \
    case __LINE__:;                            \
    } while (0)

#define COROLLA_PAUSE(co)       \
    do {                        \
        (co)->where = __LINE__; \
        return COROLLA_YIELD;   \
    case __LINE__:;             \
    } while (0)

#define COROLLA_END(co)   \
    default:              \
        Py_UNREACHABLE(); \
        }

#endif
