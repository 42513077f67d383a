/* The room's names in the module. */
#include "primitives.h"

int
corolla_primitives_init(PyObject *module, corolla_state *state)
{
    int (*const types[])(PyObject *, corolla_state *) = {
        corolla_gather_init,    corolla_queue_init,        corolla_sync_init, corolla_timeout_init,
        corolla_taskgroup_init, corolla_as_completed_init, corolla_link_init,
    };
    PyMethodDef *const functions[] = {
        corolla_sleep_functions,         corolla_gather_functions,       corolla_create_task_functions,
        corolla_ensure_future_functions, corolla_timeout_functions,      corolla_wait_for_functions,
        corolla_wait_functions,          corolla_as_completed_functions, corolla_shield_functions,
        corolla_chain_functions,         corolla_threadsafe_functions,   corolla_to_thread_functions,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (types[i](module, state) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        if (PyModule_AddFunctions(module, functions[i]) < 0) {
            return -1;
        }
    }
    return 0;
}
