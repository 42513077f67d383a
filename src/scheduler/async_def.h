/* Functions and methods in C that inspect.iscoroutinefunction() knows for what they are. */
#ifndef COROLLA_ASYNC_DEF_H
#define COROLLA_ASYNC_DEF_H

#include "scheduler.h"

int corolla_async_def_init(PyObject *module, corolla_state *state); /* 0 or -1 */
/* Puts such an object in the place of a method of a type of ours, or of its C base. 0 (also when there is no such
 * method) or -1. */
int corolla_async_method(corolla_state *state, PyTypeObject *type, const char *name);
/* The same for a function of the module. */
int corolla_async_function(corolla_state *state, PyObject *module, const char *name);

#endif
