/* Task factories whose tasks start at once: create_eager_task_factory() and eager_task_factory. */
#include "eager.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    corolla_state *state;  /* borrowed */
    PyObject *constructor; /* owned: makes the tasks; NULL once the collector has been here */
} EagerTaskFactory;

bool
corolla_is_eager_factory(corolla_state *state, PyObject *factory)
{
    return Py_IS_TYPE(factory, state->eager_factory_type) &&
           ((EagerTaskFactory *)factory)->constructor == (PyObject *)state->task_type;
}

/* What a factory was called with. Borrowed, but for others. */
typedef struct {
    PyObject *loop, *coro, *name, *context;
    PyObject *eager;  /* NULL: not given */
    PyObject *others; /* owned: a dict of further keywords, or NULL */
} FactoryCall;

static int
take_keyword(FactoryCall *call, PyObject *key, PyObject *value)
{
    static const char *const names[] = {"loop", "coro", "name", "context", "eager_start"};
    PyObject **const places[] = {&call->loop, &call->coro, &call->name, &call->context, &call->eager};
    for (int i = 0; i < 5; i++) {
        if (PyUnicode_CompareWithASCIIString(key, names[i]) != 0) {
            continue;
        }
        if (*places[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "factory() got multiple values for argument '%U'", key);
            return -1;
        }
        *places[i] = value;
        return 0;
    }
    if (call->others == NULL && (call->others = PyDict_New()) == NULL) {
        return -1;
    }
    return PyDict_SetItem(call->others, key, value);
}

static int
take_arguments(FactoryCall *call, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 2) {
        PyErr_Format(PyExc_TypeError, "factory() takes 2 positional arguments but %zd were given", nargs);
        return -1;
    }
    call->loop = nargs > 0 ? args[0] : NULL;
    call->coro = nargs > 1 ? args[1] : NULL;
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        if (take_keyword(call, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0) {
            return -1;
        }
    }
    if (call->loop == NULL || call->coro == NULL) {
        PyErr_Format(PyExc_TypeError, "factory() missing required argument: '%s'",
                     call->loop == NULL ? "loop" : "coro");
        return -1;
    }
    return 0;
}

/* constructor(coro, loop=loop, eager_start=True, ...): what is not given is not passed, but for the start. */
static PyObject *
construct(corolla_state *state, PyObject *constructor, FactoryCall *call)
{
    PyObject *kwargs = call->others != NULL ? Py_NewRef(call->others) : PyDict_New();
    PyObject *task = NULL;
    if (kwargs == NULL || PyDict_SetItem(kwargs, state->s.loop, call->loop) < 0 ||
        PyDict_SetItem(kwargs, state->s.eager_start, call->eager != NULL ? call->eager : Py_True) < 0 ||
        (call->name != NULL && PyDict_SetItem(kwargs, state->s.name, call->name) < 0) ||
        (call->context != NULL && PyDict_SetItem(kwargs, state->s.context, call->context) < 0)) {
        goto fail;
    }
    task = PyObject_VectorcallDict(constructor, &call->coro, 1, kwargs);
fail:
    Py_XDECREF(kwargs);
    return task;
}

static PyObject *
factory_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    EagerTaskFactory *factory = (EagerTaskFactory *)self;
    corolla_state *state = factory->state;
    FactoryCall call = {0};
    PyObject *task = NULL;
    if (factory->constructor == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this task factory has been cleared by the garbage collector");
        return NULL;
    }
    PyObject *constructor = Py_NewRef(factory->constructor);
    if (take_arguments(&call, args, PyVectorcall_NARGS(nargsf), kwnames) < 0) {
        goto fail;
    }
    corolla_core *core = corolla_core_of(state, call.loop);
    if (constructor == (PyObject *)state->task_type && core != NULL && call.others == NULL) {
        int eager = call.eager == NULL ? 1 : PyObject_IsTrue(call.eager);
        task = eager < 0 ? NULL : corolla_task_new(core, call.coro, call.name, call.context, eager);
    }
    else {
        task = construct(state, constructor, &call);
    }
fail:
    Py_XDECREF(call.others);
    Py_DECREF(constructor);
    return task;
}

/* ---- The type ------------------------------------------------------------------------------ */

static PyObject *
factory_new(corolla_state *state, PyObject *constructor)
{
    PyTypeObject *type = state->eager_factory_type;
    EagerTaskFactory *factory = (EagerTaskFactory *)type->tp_alloc(type, 0);
    if (factory == NULL) {
        return NULL;
    }
    corolla_state_hold(state);
    factory->state = state;
    factory->vectorcall = factory_vectorcall;
    factory->constructor = Py_NewRef(constructor);
    return (PyObject *)factory;
}

static int
factory_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((EagerTaskFactory *)self)->constructor);
    return 0;
}

static int
factory_clear(PyObject *self)
{
    Py_CLEAR(((EagerTaskFactory *)self)->constructor);
    return 0;
}

static void
factory_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    corolla_state *state = ((EagerTaskFactory *)self)->state;
    PyObject_GC_UnTrack(self);
    factory_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    corolla_state_drop(state);
}

static PyObject *
factory_repr(PyObject *self)
{
    PyObject *constructor = ((EagerTaskFactory *)self)->constructor;
    return PyUnicode_FromFormat("<eager task factory of %R>", constructor != NULL ? constructor : Py_None);
}

PyDoc_STRVAR(factory_doc,
             "A task factory: called with (loop, coro, *, eager_start=True, **kwargs), it makes a task that has\n"
             "run its first step already, if this is the thread that runs the loop.\n\n"
             "Made by create_eager_task_factory(). For loop.set_task_factory().");

static PyMemberDef factory_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(EagerTaskFactory, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot factory_slots[] = {
    {Py_tp_doc, (void *)factory_doc},   {Py_tp_call, PyVectorcall_Call},
    {Py_tp_repr, factory_repr},         {Py_tp_dealloc, factory_dealloc},
    {Py_tp_traverse, factory_traverse}, {Py_tp_clear, factory_clear},
    {Py_tp_members, factory_members},   {0, NULL},
};

static PyType_Spec factory_spec = {
    .name = "corolla.EagerTaskFactory",
    .basicsize = sizeof(EagerTaskFactory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = factory_slots,
};

/* ---- The module's names -------------------------------------------------------------------- */

PyDoc_STRVAR(create_eager_task_factory_doc,
             "create_eager_task_factory($module, /, custom_task_constructor)\n--\n\n"
             "Return a task factory whose tasks run their first step while they are created.\n\n"
             "custom_task_constructor: called as Task is, custom_task_constructor(coro, loop=loop, eager_start=True,\n"
             "**kwargs), with the keywords create_task() was given. Specified by\n"
             "asyncio.create_eager_task_factory() of CPython 3.14.");

static PyObject *
module_create_eager_task_factory(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"custom_task_constructor", NULL};
    static const corolla_signature sig = {"create_eager_task_factory", names, 1, 1, NULL};
    PyObject *constructor;
    if (corolla_unpack(&sig, args, nargs, kwnames, &constructor) < 0) {
        return NULL;
    }
    return factory_new(corolla_state_of_module(module), constructor);
}

static PyMethodDef functions[] = {
    {"create_eager_task_factory", (PyCFunction)(void (*)(void))module_create_eager_task_factory,
     METH_FASTCALL | METH_KEYWORDS, create_eager_task_factory_doc},
    {NULL, NULL, 0, NULL},
};

int
corolla_eager_init(PyObject *module, corolla_state *state)
{
    state->eager_factory_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &factory_spec, NULL);
    if (state->eager_factory_type == NULL || PyModule_AddType(module, state->eager_factory_type) < 0) {
        return -1;
    }
    PyObject *factory = factory_new(state, (PyObject *)state->task_type);
    if (factory == NULL) {
        return -1;
    }
    int rc = PyModule_AddObjectRef(module, "eager_task_factory", factory);
    Py_DECREF(factory);
    return rc < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
