/* The room's names in the module. */
#include "process.h"
#include "stream.h"

int
corolla_streams_init(PyObject *module, corolla_state *state)
{
    if (reader_init(module, state) < 0 || protocol_init(module, state) < 0 || writer_init(module, state) < 0 ||
        stream_init(module, state) < 0 || acceptor_init(module, state) < 0 || connecting_init(module, state) < 0 ||
        subprocess_protocol_init(module, state) < 0 || child_init(module, state) < 0 ||
        PyModule_AddFunctions(module, child_functions) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, streams_connect_functions);
}
