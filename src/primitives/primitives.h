/* primitives/: what a coroutine waits on. */
#ifndef COROLLA_PRIMITIVES_H
#define COROLLA_PRIMITIVES_H

#include "../args.h"
#include "../scheduler/await.h"
#include "../scheduler/scheduler.h"

/* Module functions of each file. */
extern PyMethodDef corolla_sleep_functions[], corolla_gather_functions[], corolla_create_task_functions[],
    corolla_ensure_future_functions[], corolla_timeout_functions[], corolla_wait_for_functions[],
    corolla_wait_functions[], corolla_as_completed_functions[], corolla_shield_functions[], corolla_chain_functions[],
    corolla_threadsafe_functions[], corolla_to_thread_functions[];

/* Types of each file. 0 or -1. */
int corolla_gather_init(PyObject *module, corolla_state *state);
int corolla_queue_init(PyObject *module, corolla_state *state);
int corolla_timeout_init(PyObject *module, corolla_state *state);
int corolla_taskgroup_init(PyObject *module, corolla_state *state);
int corolla_as_completed_init(PyObject *module, corolla_state *state);
int corolla_link_init(PyObject *module, corolla_state *state);
int corolla_sync_init(PyObject *module, corolla_state *state);

/* asyncio.ensure_future(arg, loop=loop); loop NULL: the running one. New reference or NULL. */
PyObject *corolla_ensure_future(corolla_state *state, PyObject *arg, PyObject *loop);
/* TypeError("<wanted>, not <type of obj>"). */
void corolla_refuse_type(const char *wanted, PyObject *obj);

#endif
