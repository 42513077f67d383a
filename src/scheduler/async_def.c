/* Functions and methods in C that inspect.iscoroutinefunction() knows for what they are.
 *
 * Programs ask that of asyncio.sleep or queue.put before they call it: unittest.mock, to put an AsyncMock in its
 * place; web frameworks, to await it and not to run it in a thread. Of a function in C the answer is always no. So what
 * returns a coroutine is wrapped in an object that has what inspect looks for in a Python function, with a code object
 * that says `async def`. It calls the C function itself, at the price of a call through a pointer. */
#include "async_def.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *weakrefs;
    corolla_state *state; /* borrowed */
    PyObject *original;   /* owned: the function or method descriptor, which has the name, the text and the signature */
    PyMethodDef *def;     /* borrowed: static */
    PyObject *module;     /* owned: for a function, what it gets as self; or NULL */
    PyTypeObject *owner;  /* owned: for a method, the type it belongs to; or NULL */
} AsyncFunction;

/* ---- Calling ------------------------------------------------------------------------------- */

typedef PyObject *(*fast_function)(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* The original checks everything, and says what is wrong. */
static PyObject *
call_original(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return PyObject_Vectorcall(((AsyncFunction *)callable)->original, args, nargsf, kwnames);
}

static PyObject *
call_function(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    AsyncFunction *f = (AsyncFunction *)callable;
    return ((fast_function)(void (*)(void))f->def->ml_meth)(f->module, args, PyVectorcall_NARGS(nargsf), kwnames);
}

static PyObject *
call_method(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    AsyncFunction *f = (AsyncFunction *)callable;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if (nargs < 1 || !PyObject_TypeCheck(args[0], f->owner)) {
        return call_original(callable, args, nargsf, kwnames);
    }
    return ((fast_function)(void (*)(void))f->def->ml_meth)(args[0], args + 1, nargs - 1, kwnames);
}

static PyObject *
call_method_without_arguments(PyObject *callable, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    AsyncFunction *f = (AsyncFunction *)callable;
    if (PyVectorcall_NARGS(nargsf) != 1 || kwnames != NULL || !PyObject_TypeCheck(args[0], f->owner)) {
        return call_original(callable, args, nargsf, kwnames);
    }
    return f->def->ml_meth(args[0], NULL);
}

static vectorcallfunc
find_call(PyMethodDef *def, bool is_method)
{
    switch (def->ml_flags) {
    case METH_FASTCALL | METH_KEYWORDS:
        return is_method ? call_method : call_function;
    case METH_NOARGS:
        return is_method ? call_method_without_arguments : call_original;
    default:
        return call_original;
    }
}

static PyObject *
async_get(PyObject *self, PyObject *instance, PyObject *type)
{
    (void)type;
    return instance == NULL || instance == Py_None ? Py_NewRef(self) : PyMethod_New(self, instance);
}

/* ---- Looking like a function --------------------------------------------------------------- */

static PyObject *
get_of_original(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((AsyncFunction *)self)->original, name);
}

static PyObject *
get_code(PyObject *self, void *unused)
{
    (void)unused;
    return Py_NewRef(((AsyncFunction *)self)->state->async_code);
}

static PyObject *
get_none(PyObject *self, void *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *
get_annotations(PyObject *self, void *unused)
{
    (void)self;
    (void)unused;
    return PyDict_New();
}

/* Before inspect takes it from the code object, which knows no parameters. */
static PyObject *
get_signature(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *signature = PyImport_ImportModuleAttrString("inspect", "signature");
    PyObject *result = signature == NULL ? NULL : PyObject_CallOneArg(signature, ((AsyncFunction *)self)->original);
    Py_XDECREF(signature);
    return result;
}

static PyObject *
async_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_CallMethod(((AsyncFunction *)self)->original, "__reduce__", NULL);
}

static PyObject *
async_repr(PyObject *self)
{
    AsyncFunction *f = (AsyncFunction *)self;
    if (f->owner != NULL) {
        return PyUnicode_FromFormat("<coroutine method '%s' of '%s' objects>", f->def->ml_name, f->owner->tp_name);
    }
    return PyUnicode_FromFormat("<coroutine function %s>", f->def->ml_name);
}

static PyMethodDef async_methods[] = {
    {"__reduce__", async_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define OF_ORIGINAL(name)                         \
    {                                             \
        name, get_of_original, NULL, NULL, (name) \
    }

static PyGetSetDef async_getset[] = {
    OF_ORIGINAL("__name__"),
    OF_ORIGINAL("__qualname__"),
    OF_ORIGINAL("__doc__"),
    OF_ORIGINAL("__text_signature__"),
    OF_ORIGINAL("__module__"),
    OF_ORIGINAL("__objclass__"),
    {"__code__", get_code, NULL, NULL, NULL},
    {"__defaults__", get_none, NULL, NULL, NULL},
    {"__kwdefaults__", get_none, NULL, NULL, NULL},
    {"__annotations__", get_annotations, NULL, NULL, NULL},
    {"__signature__", get_signature, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- The type ------------------------------------------------------------------------------ */

static int
async_traverse(PyObject *self, visitproc visit, void *arg)
{
    AsyncFunction *f = (AsyncFunction *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(f->original);
    Py_VISIT(f->module);
    Py_VISIT(f->owner);
    return 0;
}

/* No tp_clear: it never changes, and the cycles it is part of are broken at the type or the module. */
static void
async_dealloc(PyObject *self)
{
    AsyncFunction *f = (AsyncFunction *)self;
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = f->state;
    PyObject_GC_UnTrack(self);
    if (f->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    Py_XDECREF(f->original);
    Py_XDECREF(f->module);
    Py_XDECREF(f->owner);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyMemberDef async_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(AsyncFunction, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AsyncFunction, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot async_slots[] = {
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_descr_get, async_get},     {Py_tp_repr, async_repr},
    {Py_tp_dealloc, async_dealloc},  {Py_tp_traverse, async_traverse}, {Py_tp_methods, async_methods},
    {Py_tp_getset, async_getset},    {Py_tp_members, async_members},   {0, NULL},
};

static PyType_Spec async_spec = {
    .name = "corolla.coroutine_function",
    .basicsize = sizeof(AsyncFunction),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = async_slots,
};

static PyObject *
async_new(corolla_state *state, PyObject *original, PyMethodDef *def, PyObject *module, PyTypeObject *owner)
{
    PyTypeObject *type = state->async_function_type;
    AsyncFunction *f = (AsyncFunction *)type->tp_alloc(type, 0);
    if (f == NULL) {
        return NULL;
    }
    corolla_state_hold(state);
    f->vectorcall = find_call(def, owner != NULL);
    f->state = state;
    f->original = Py_NewRef(original);
    f->def = def;
    f->module = Py_XNewRef(module);
    f->owner = (PyTypeObject *)Py_XNewRef((PyObject *)owner);
    return (PyObject *)f;
}

/* The code object of an `async def` that takes anything. */
static int
make_code(corolla_state *state)
{
    PyObject *code = Py_CompileString("async def coroutine(*args, **kwargs): pass", "<corolla>", Py_file_input);
    if (code == NULL) {
        return -1;
    }
    PyObject *names = PyDict_New();
    PyObject *done = names == NULL ? NULL : PyEval_EvalCode(code, names, names);
    PyObject *function = done == NULL ? NULL : PyDict_GetItemString(names, "coroutine"); /* borrowed */
    state->async_code = function == NULL ? NULL : PyObject_GetAttrString(function, "__code__");
    Py_DECREF(code);
    Py_XDECREF(names);
    Py_XDECREF(done);
    return state->async_code == NULL ? -1 : 0;
}

int
corolla_async_def_init(PyObject *module, corolla_state *state)
{
    state->async_function_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &async_spec, NULL);
    return state->async_function_type == NULL ? -1 : make_code(state);
}

int
corolla_async_method(corolla_state *state, PyTypeObject *type, const char *name)
{
    PyObject *original = NULL;
    for (; type != NULL && (type->tp_flags & Py_TPFLAGS_HEAPTYPE); type = type->tp_base) {
        original = PyDict_GetItemString(type->tp_dict, name); /* borrowed */
        if (original != NULL) {
            break;
        }
    }
    if (original == NULL || !Py_IS_TYPE(original, &PyMethodDescr_Type)) {
        return 0;
    }
    PyObject *function = async_new(state, original, ((PyMethodDescrObject *)original)->d_method, NULL, type);
    if (function == NULL) {
        return -1;
    }
    /* Not by the type's own setattr, which an immutable type refuses. */
    int rc = PyDict_SetItemString(type->tp_dict, name, function);
    Py_DECREF(function);
    PyType_Modified(type);
    return rc;
}

int
corolla_async_function(corolla_state *state, PyObject *module, const char *name)
{
    PyObject *names = PyModule_GetDict(module);             /* borrowed */
    PyObject *original = PyDict_GetItemString(names, name); /* borrowed */
    if (original == NULL || !PyCFunction_CheckExact(original)) {
        return 0;
    }
    PyObject *function = async_new(state, original, ((PyCFunctionObject *)original)->m_ml, module, NULL);
    if (function == NULL) {
        return -1;
    }
    int rc = PyDict_SetItemString(names, name, function);
    Py_DECREF(function);
    return rc;
}
