/* primitives/: what a coroutine waits on. */
#ifndef COROLLA_PRIMITIVES_H
#define COROLLA_PRIMITIVES_H

#include "../args.h"
#include "../scheduler/await.h"
#include "../scheduler/scheduler.h"

/* Module functions of each file. */
extern PyMethodDef corolla_sleep_functions[];

#endif
