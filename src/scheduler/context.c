/* Running things in a context (PEP 567). */
#include "scheduler.h"

PyObject *
corolla_call_in(PyObject *context, PyObject *callback, PyObject *const *args, size_t nargs)
{
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(callback, args, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}
