/* The object behind link.h. Not visible from Python but as what a callback is bound to. */
#include "link.h"

static int
link_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < COROLLA_LINKED; i++) {
        Py_VISIT(((corolla_link *)self)->objects[i]);
    }
    return 0;
}

static int
link_tp_clear(PyObject *self)
{
    for (int i = 0; i < COROLLA_LINKED; i++) {
        Py_CLEAR(((corolla_link *)self)->objects[i]);
    }
    return 0;
}

void
corolla_link_clear(corolla_link *link)
{
    (void)link_tp_clear((PyObject *)link);
}

static void
link_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = ((corolla_link *)self)->state;
    PyObject_GC_UnTrack(self);
    (void)link_tp_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

corolla_link *
corolla_link_new(corolla_state *state, PyObject *first, PyObject *second, PyObject *third)
{
    corolla_link *link = PyObject_GC_New(corolla_link, state->link_type);
    if (link != NULL) {
        corolla_state_hold(state);
        link->state = state;
        link->objects[0] = Py_XNewRef(first);
        link->objects[1] = Py_XNewRef(second);
        link->objects[2] = Py_XNewRef(third);
        link->objects[3] = NULL;
        PyObject_GC_Track(link);
    }
    return link;
}

static PyType_Slot link_slots[] = {
    {Py_tp_dealloc, link_dealloc},
    {Py_tp_traverse, link_traverse},
    {Py_tp_clear, link_tp_clear},
    {0, NULL},
};

static PyType_Spec link_spec = {
    .name = "corolla._core.Link",
    .basicsize = sizeof(corolla_link),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = link_slots,
};

int
corolla_link_init(PyObject *module, corolla_state *state)
{
    state->link_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &link_spec, NULL);
    return state->link_type == NULL ? -1 : 0;
}
