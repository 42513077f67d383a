/* Methods of AbstractEventLoop that are not built yet: coroutines that raise NotImplementedError with their name. */
#include "loop.h"

static corolla_step
later_step(corolla_coro *co, PyObject *value)
{
    PyErr_SetString(PyExc_NotImplementedError, co->spec->name);
    return COROLLA_RAISE;
}

static PyObject *
later_coroutine(PyObject *loop, const corolla_coro_spec *spec)
{
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    return (PyObject *)corolla_coro_new(loop_core(loop)->state, spec);
}

#define EACH_LATER(X) X(start_tls)

#define X(call)                                                                    \
    static const corolla_coro_spec call##_spec = {                                 \
        .name = #call,                                                             \
        .qualname = "EventLoop." #call,                                            \
        .step = later_step,                                                        \
    };                                                                             \
    static PyObject *loop_##call(PyObject *loop, PyObject *args, PyObject *kwargs) \
    {                                                                              \
        return later_coroutine(loop, &call##_spec);                                \
    }
EACH_LATER(X)
#undef X

PyMethodDef corolla_loop_later_methods[] = {
#define X(call)                                                                     \
    {#call, (PyCFunction)(void (*)(void))loop_##call, METH_VARARGS | METH_KEYWORDS, \
     #call "($self, *args, **kwargs)\n--\n\nNot built yet: raises NotImplementedError."},
    EACH_LATER(X)
#undef X
        {NULL, NULL, 0, NULL},
};
