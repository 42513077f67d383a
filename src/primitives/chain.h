/* Futures of concurrent.futures and of asyncio, each completing or cancelling the other, across threads. */
#ifndef COROLLA_CHAIN_H
#define COROLLA_CHAIN_H

#include "primitives.h"

/* Has call(self, arg), a static METH_O, run on the thread of a loop. Any thread, any loop; no effect once the loop is
 * closed. 0 or -1. */
int corolla_chain_post(corolla_state *state, PyObject *loop, PyMethodDef *call, PyObject *self, PyObject *arg);
/* Has a future raise what a concurrent one did, or whatever is being raised if exc is NULL: the one who waits has to
 * wake. Steals exc. 0 or -1. */
int corolla_chain_fail(corolla_state *state, PyObject *future, PyObject *exc);
/* asyncio.wrap_future(): a future of that loop for a concurrent one (work); one of asyncio's as it is. loop NULL: the
 * running one. New reference or NULL. */
PyObject *corolla_wrap_future(corolla_state *state, PyObject *work, PyObject *loop);
/* A concurrent future becomes what future does, and cancels it. On the thread of future's loop. 0 or -1. */
int corolla_chain_to_work(corolla_state *state, PyObject *future, PyObject *work);

#endif
