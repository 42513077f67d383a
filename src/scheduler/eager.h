/* Task factories whose tasks start at once. */
#ifndef COROLLA_EAGER_H
#define COROLLA_EAGER_H

#include "../args.h"
#include "scheduler.h"

/* Whether it is a factory of ours that makes corolla.Task: then a loop of ours need not call it. */
bool corolla_is_eager_factory(corolla_state *state, PyObject *factory);
int corolla_eager_init(PyObject *module, corolla_state *state); /* 0 or -1 */

#endif
