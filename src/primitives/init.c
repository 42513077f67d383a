/* The room's names in the module. */
#include "primitives.h"

int
corolla_primitives_init(PyObject *module, corolla_state *state)
{
    if (corolla_gather_init(module, state) < 0 || corolla_queue_init(module, state) < 0 ||
        corolla_sync_init(module, state) < 0) {
        return -1;
    }
    if (PyModule_AddFunctions(module, corolla_sleep_functions) < 0) {
        return -1;
    }
    if (PyModule_AddFunctions(module, corolla_create_task_functions) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, corolla_gather_functions);
}
