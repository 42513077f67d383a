/* The room's names in the module. */
#include "primitives.h"

int
corolla_primitives_init(PyObject *module, corolla_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, corolla_sleep_functions);
}
