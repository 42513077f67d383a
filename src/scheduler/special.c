/* __aenter__ and __aexit__, bound cheaply.
 *
 * Up to 3.13 the interpreter binds both for every `async with`, and a bound builtin method costs about what entering a
 * free lock does: it is allocated, counted by the collector and freed each time. So the types of the state have, in
 * place of the method descriptor, a Special that stands for it and whose bound form comes from a free list. In all but
 * that, both are what they stand for: whatever is asked of them they pass on. */
#include "special.h"

#include <stddef.h>

#include "freelist.h"

PyObject *
corolla_bound_plain(corolla_bound *bound)
{
    PyObject *descriptor = bound->special->descriptor;
    return Py_TYPE(descriptor)->tp_descr_get(descriptor, bound->self, (PyObject *)Py_TYPE(bound->self));
}

/* ---- Bound ------------------------------------------------------------------------------- */

PyObject *
corolla_bound_call_plain(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *plain = corolla_bound_plain((corolla_bound *)callable);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(plain, args, nargsf, kwnames);
    Py_DECREF(plain);
    return result;
}

static PyObject *
bound_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    corolla_bound *bound = (corolla_bound *)callable;
    PyMethodDef *def = bound->special->def;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
#if COROLLA_CALLER_COUNTS
    if (bound->special->quick != NULL && Py_REFCNT(callable) == 1 && kwnames == NULL &&
        nargs == (def->ml_flags == METH_NOARGS ? 0 : 3)) {
        return corolla_with_coroutine_become(bound);
    }
#endif
    if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0) {
        if (def->ml_flags == METH_FASTCALL) {
            return ((PyObject * (*)(PyObject *, PyObject *const *, Py_ssize_t))(void (*)(void))def->ml_meth)(
                bound->self, args, nargs);
        }
        if (def->ml_flags == METH_NOARGS && nargs == 0) {
            return def->ml_meth(bound->self, NULL);
        }
    }
    if (def->ml_flags == (METH_FASTCALL | METH_KEYWORDS)) {
        return ((PyObject * (*)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *))(void (*)(void))def->ml_meth)(
            bound->self, args, nargs, kwnames);
    }
    return corolla_bound_call_plain(callable, args, nargsf, kwnames);
}

static PyObject *
bound_getattro(PyObject *self, PyObject *name)
{
    PyObject *plain = corolla_bound_plain((corolla_bound *)self);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_GetAttr(plain, name);
    Py_DECREF(plain);
    return value;
}

static PyObject *
bound_repr(PyObject *self)
{
    PyObject *plain = corolla_bound_plain((corolla_bound *)self);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *text = PyObject_Repr(plain);
    Py_DECREF(plain);
    return text;
}

static Py_hash_t
bound_hash(PyObject *self)
{
    PyObject *plain = corolla_bound_plain((corolla_bound *)self);
    if (plain == NULL) {
        return -1;
    }
    Py_hash_t hash = PyObject_Hash(plain);
    Py_DECREF(plain);
    return hash;
}

static PyObject *
bound_richcompare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    corolla_bound *x = (corolla_bound *)a, *y = (corolla_bound *)b;
    bool same = x->special == y->special && x->self == y->self;
    return PyBool_FromLong(same == (op == Py_EQ));
}

int
corolla_bound_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((corolla_bound *)self)->inner);
    Py_VISIT(((corolla_bound *)self)->special);
    Py_VISIT(((corolla_bound *)self)->self);
    return 0;
}

/* No tp_clear, as a builtin method has none: what it binds breaks the cycle. */
void
corolla_bound_dealloc(PyObject *self)
{
    corolla_bound *bound = (corolla_bound *)self;
    corolla_state *state = bound->special->state;
    PyObject_GC_UnTrack(self);
    if (bound->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    if (!Py_IS_TYPE(self, state->bound_type)) {
        corolla_with_coroutine_end(bound);
    }
    Py_DECREF(bound->self);
    Py_DECREF(bound->special);
    freelist_drop(state, &state->freelists->bounds, state->bound_type, self, false);
}

PyMemberDef corolla_bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(corolla_bound, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(corolla_bound, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_dealloc, corolla_bound_dealloc},
    {Py_tp_traverse, corolla_bound_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, bound_getattro},
    {Py_tp_repr, bound_repr},
    {Py_tp_hash, bound_hash},
    {Py_tp_richcompare, bound_richcompare},
    {Py_tp_members, corolla_bound_members},
    {0, NULL},
};

PyType_Spec corolla_bound_spec = {
    .name = "corolla._core.bound_special",
    .basicsize = sizeof(corolla_bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = bound_slots,
};

/* ---- Special ----------------------------------------------------------------------------- */

static PyObject *
special_descr_get(PyObject *self, PyObject *obj, PyObject *type)
{
    corolla_special *special = (corolla_special *)self;
    PyTypeObject *owner = ((PyMethodDescrObject *)special->descriptor)->d_common.d_type;
    if (obj == NULL || !PyObject_TypeCheck(obj, owner)) {
        if (obj == NULL || obj == Py_None) {
            return Py_NewRef(self);
        }
        return Py_TYPE(special->descriptor)->tp_descr_get(special->descriptor, obj, type); /* its TypeError */
    }
    corolla_state *state = special->state;
    PyObject *made = freelist_new(state, &state->freelists->bounds, state->bound_type);
    if (made == NULL) {
        return NULL;
    }
    corolla_bound *bound = (corolla_bound *)made;
    bound->special = (corolla_special *)Py_NewRef(self);
    bound->self = Py_NewRef(obj);
    bound->vectorcall = bound_vectorcall;
    bound->weakrefs = NULL;
    bound->inner = NULL;
    bound->status = COROLLA_WITH_FRESH;
    PyObject_GC_Track(made);
    return made;
}

static PyObject *
special_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return PyObject_Vectorcall(((corolla_special *)callable)->descriptor, args, nargsf, kwnames);
}

static PyObject *
special_getattro(PyObject *self, PyObject *name)
{
    return PyObject_GetAttr(((corolla_special *)self)->descriptor, name);
}

static PyObject *
special_repr(PyObject *self)
{
    return PyObject_Repr(((corolla_special *)self)->descriptor);
}

static int
special_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((corolla_special *)self)->descriptor);
    return 0;
}

static void
special_dealloc(PyObject *self)
{
    corolla_special *special = (corolla_special *)self;
    corolla_state *state = special->state;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(special->descriptor);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyMemberDef special_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(corolla_special, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* No tp_clear: the descriptor's type breaks the cycle. */
static PyType_Slot special_slots[] = {
    {Py_tp_dealloc, special_dealloc},   {Py_tp_traverse, special_traverse},
    {Py_tp_call, PyVectorcall_Call},    {Py_tp_descr_get, special_descr_get},
    {Py_tp_getattro, special_getattro}, {Py_tp_repr, special_repr},
    {Py_tp_members, special_members},   {0, NULL},
};

PyType_Spec corolla_special_spec = {
    .name = "corolla._core.special_method",
    .basicsize = sizeof(corolla_special),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = special_slots,
};

static int
quicken(corolla_state *state, PyTypeObject *type, PyObject *name)
{
    PyObject *descriptor = PyDict_GetItemWithError(type->tp_dict, name);
    if (descriptor == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!Py_IS_TYPE(descriptor, &PyMethodDescr_Type)) {
        return 0;
    }
    corolla_special *special = PyObject_GC_New(corolla_special, state->special_type);
    if (special == NULL) {
        return -1;
    }
    corolla_state_hold(state);
    special->state = state;
    special->descriptor = Py_NewRef(descriptor);
    special->def = ((PyMethodDescrObject *)descriptor)->d_method;
    special->vectorcall = special_vectorcall;
    special->quick = NULL;
    PyObject_GC_Track(special);
    int rc = PyDict_SetItem(type->tp_dict, name, (PyObject *)special);
    Py_DECREF(special);
    PyType_Modified(type);
    return rc;
}

int
corolla_quicken_type(corolla_state *state, PyTypeObject *type)
{
    if (quicken(state, type, state->s.__aenter__) < 0 || quicken(state, type, state->s.__aexit__) < 0) {
        return -1;
    }
    return 0;
}

static void
set_quick(corolla_state *state, PyTypeObject *type, PyObject *name, int flags, corolla_quick quick)
{
    PyObject *special = PyDict_GetItemWithError(type->tp_dict, name); /* borrowed */
    if (special != NULL && Py_IS_TYPE(special, state->special_type) &&
        ((corolla_special *)special)->def->ml_flags == flags) {
        ((corolla_special *)special)->quick = quick;
    }
}

int
corolla_quick_with(corolla_state *state, PyTypeObject *type, corolla_quick enter, corolla_quick leave)
{
    if (corolla_quicken_type(state, type) < 0) {
        return -1;
    }
    set_quick(state, type, state->s.__aenter__, METH_NOARGS, enter);
    set_quick(state, type, state->s.__aexit__, METH_FASTCALL, leave);
    return PyErr_Occurred() ? -1 : 0;
}
