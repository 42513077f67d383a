/* A window on memory of ours, for C functions that want an object with a buffer. */
#include "engine.h"

static int
window_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    tls_window *window = (tls_window *)self;
    if (window->buf == NULL) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "memory that is lent to no one");
        return -1;
    }
    return PyBuffer_FillInfo(view, self, window->buf, window->len, 0, flags);
}

static void
window_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(window_doc, "Memory of a TLS connection's, for the length of a call.");

static PyType_Slot window_slots[] = {
    {Py_tp_doc, (void *)window_doc},
    {Py_tp_dealloc, window_dealloc},
    {Py_bf_getbuffer, window_getbuffer},
    {0, NULL},
};

static PyType_Spec window_spec = {
    .name = "corolla._core.TlsWindow",
    .basicsize = sizeof(tls_window),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = window_slots,
};

tls_window *
tls_window_new(corolla_state *state)
{
    return (tls_window *)state->tls_window_type->tp_alloc(state->tls_window_type, 0);
}

int
tls_window_init(PyObject *module, corolla_state *state)
{
    state->tls_window_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &window_spec, NULL);
    return state->tls_window_type == NULL ? -1 : 0;
}
