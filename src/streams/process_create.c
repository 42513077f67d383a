/* create_subprocess_exec() and create_subprocess_shell(): loop methods with a protocol that makes streams. */
#include "process.h"

typedef struct {
    PyObject *args;    /* owned: (None or the factory, program, its arguments ...) */
    PyObject *kwargs;  /* owned: a dict */
    PyObject *loop;    /* owned */
    PyObject *awaited; /* owned */
    size_t limit;      /* bytes */
} CreateState;

static int
create_traverse(void *data, visitproc visit, void *arg)
{
    CreateState *st = data;
    Py_VISIT(st->args);
    Py_VISIT(st->kwargs);
    Py_VISIT(st->loop);
    Py_VISIT(st->awaited);
    return 0;
}

static void
create_clear(void *data)
{
    CreateState *st = data;
    Py_CLEAR(st->args);
    Py_CLEAR(st->kwargs);
    Py_CLEAR(st->loop);
    Py_CLEAR(st->awaited);
}

/* ---- The coroutine ------------------------------------------------------------------------------ */

/* The factory gives the one protocol there is: this function's self. */
static PyObject *
give_protocol(PyObject *self, PyObject *unused)
{
    return Py_NewRef(self);
}

static PyMethodDef give_protocol_def = {"subprocess_protocol_factory", give_protocol, METH_NOARGS, NULL};

/* loop.name(factory, *args, **kwargs) of the running loop: what is to be awaited, in st->awaited. 0 or -1. */
static int
call_loop(CreateState *st, corolla_state *state, const char *name)
{
    PyObject *protocol = NULL, *factory = NULL, *method = NULL;
    st->loop = corolla_running_loop(state);
    if (st->loop == NULL) {
        return -1;
    }
    protocol = subprocess_protocol_new(state, st->loop, st->limit);
    factory = protocol == NULL ? NULL : PyCFunction_New(&give_protocol_def, protocol);
    method = factory == NULL ? NULL : PyObject_GetAttrString(st->loop, name);
    if (method != NULL) {
        Py_SETREF(PyTuple_GET_ITEM(st->args, 0), Py_NewRef(factory)); /* nobody else has seen the tuple */
        st->awaited = PyObject_Call(method, st->args, st->kwargs);
    }
    Py_XDECREF(method);
    Py_XDECREF(factory);
    Py_XDECREF(protocol);
    return st->awaited == NULL ? -1 : 0;
}

/* A Process of (transport, protocol). New reference or NULL. */
static PyObject *
process_of(CreateState *st, corolla_state *state, PyObject *made)
{
    PyObject *pair = PySequence_Tuple(made); /* a list could change under us */
    PyObject *process = NULL;
    if (pair == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_ValueError, "a loop's subprocess coroutine gives (transport, protocol)");
    }
    else {
        process = child_new(state, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1), st->loop);
    }
    Py_DECREF(pair);
    return process;
}

static corolla_step
create_step(corolla_coro *co, PyObject *value, const char *method)
{
    CreateState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (call_loop(st, co->state, method) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->awaited);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, process_of(st, co->state, value));

    COROLLA_END(co);
}

#define CREATE_SPEC(name_, method)                                      \
    static corolla_step name_##_step(corolla_coro *co, PyObject *value) \
    {                                                                   \
        return create_step(co, value, method);                          \
    }                                                                   \
    static const corolla_coro_spec name_##_spec = {                     \
        .name = #name_,                                                 \
        .qualname = #name_,                                             \
        .size = sizeof(CreateState),                                    \
        .step = name_##_step,                                           \
        .traverse = create_traverse,                                    \
        .clear = create_clear,                                          \
    }

CREATE_SPEC(create_subprocess_exec, "subprocess_exec");
CREATE_SPEC(create_subprocess_shell, "subprocess_shell");

/* ---- The functions ------------------------------------------------------------------------------- */

/* What a function takes before it passes the rest on. */
typedef struct {
    const corolla_coro_spec *spec;
    const char *const *names; /* by position, NULL-terminated; the first has to be there */
    bool more;                /* positional arguments behind the first are the program's */
} Form;

static const char *const exec_names[] = {"program", NULL};
static const char *const shell_names[] = {"cmd", "stdin", "stdout", "stderr", "limit", NULL};
static const Form exec_form = {&create_subprocess_exec_spec, exec_names, true};
static const Form shell_form = {&create_subprocess_shell_spec, shell_names, false};

/* Puts a keyword argument where it belongs. 0 or -1. */
static int
place(const Form *form, PyObject *name, PyObject *value, PyObject **first, PyObject *kwargs, size_t *limit)
{
    if (PyUnicode_CompareWithASCIIString(name, "limit") == 0) {
        return reader_parse_limit(value, limit);
    }
    if (PyUnicode_CompareWithASCIIString(name, form->names[0]) == 0) {
        *first = value;
        return 0;
    }
    return PyDict_SetItem(kwargs, name, value);
}

/* A shell's positional arguments behind the first, by their names. 0 or -1. */
static int
place_positional(const Form *form, PyObject *const *args, Py_ssize_t nargs, PyObject *kwargs, size_t *limit)
{
    PyObject *first;
    for (Py_ssize_t i = 1; i < nargs; i++) {
        if (form->names[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() takes from 1 to %zd positional arguments but %zd were given",
                         form->spec->name, i, nargs);
            return -1;
        }
        PyObject *name = PyUnicode_FromString(form->names[i]);
        int rc = name == NULL ? -1 : place(form, name, args[i], &first, kwargs, limit);
        Py_XDECREF(name);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* Whether a keyword argument was given by position, too. */
static bool
given_twice(const Form *form, Py_ssize_t nargs, PyObject *name)
{
    for (Py_ssize_t i = 0; i < nargs && form->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, form->names[i]) == 0) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", form->spec->name, name);
            return true;
        }
    }
    return false;
}

/* What was not given is None: the loop's methods make pipes otherwise. 0 or -1. */
static int
add_defaults(PyObject *kwargs)
{
    static const char *const names[3] = {"stdin", "stdout", "stderr"};
    for (int fd = 0; fd < 3; fd++) {
        PyObject *name = PyUnicode_InternFromString(names[fd]);
        PyObject *there = name == NULL ? NULL : PyDict_SetDefault(kwargs, name, Py_None); /* borrowed */
        Py_XDECREF(name);
        if (there == NULL) {
            return -1;
        }
    }
    return 0;
}

/* (None, first, *rest): new reference or NULL. */
static PyObject *
program_args(PyObject *first, PyObject *const *rest, Py_ssize_t count)
{
    PyObject *args = PyTuple_New(2 + count);
    if (args == NULL) {
        return NULL;
    }
    PyTuple_SET_ITEM(args, 0, Py_NewRef(Py_None));
    PyTuple_SET_ITEM(args, 1, Py_NewRef(first));
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTuple_SET_ITEM(args, 2 + i, Py_NewRef(rest[i]));
    }
    return args;
}

static PyObject *
create_function(PyObject *module, const Form *form, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *first = nargs > 0 ? args[0] : NULL, *rest = NULL;
    size_t limit = STREAM_LIMIT;
    corolla_coro *co = NULL;
    PyObject *kwargs = PyDict_New();
    if (kwargs == NULL || (!form->more && place_positional(form, args, nargs, kwargs, &limit) < 0)) {
        goto fail;
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (given_twice(form, nargs, name) || place(form, name, args[nargs + i], &first, kwargs, &limit) < 0) {
            goto fail;
        }
    }
    if (first == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", form->spec->name,
                     form->names[0]);
        goto fail;
    }
    rest = add_defaults(kwargs) < 0 ? NULL : program_args(first, args + 1, form->more && nargs > 1 ? nargs - 1 : 0);
    co = rest == NULL ? NULL : corolla_coro_new(corolla_state_of_module(module), form->spec);
    if (co != NULL) {
        CreateState *st = corolla_coro_state(co);
        st->args = Py_NewRef(rest);
        st->kwargs = Py_NewRef(kwargs);
        st->limit = limit;
    }
fail:
    Py_XDECREF(rest);
    Py_XDECREF(kwargs);
    return (PyObject *)co;
}

static PyObject *
module_exec(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return create_function(module, &exec_form, args, nargs, kwnames);
}

static PyObject *
module_shell(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return create_function(module, &shell_form, args, nargs, kwnames);
}

PyDoc_STRVAR(
    exec_doc,
    "create_subprocess_exec($module, /, program, *args, stdin=None, stdout=None, stderr=None, limit=65536,\n"
    "                       **kwds)\n--\n\n"
    "Coroutine: start a program. Return a Process.\n\n"
    "program and args: str, bytes or path-like. stdin, stdout, stderr: PIPE for a stream, DEVNULL, a file, a\n"
    "descriptor, None for what this process has, or (stderr) STDOUT. limit: bytes, of the readers. The rest is\n"
    "loop.subprocess_exec()'s, and so is what it raises; ValueError for a limit <= 0. Specified by\n"
    "asyncio.create_subprocess_exec().");
PyDoc_STRVAR(shell_doc,
             "create_subprocess_shell($module, /, cmd, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)\n"
             "--\n\n"
             "Coroutine: run a command, str or bytes, in a shell. Return a Process. Arguments in cmd are the caller's\n"
             "to quote: see shlex.quote().\n\n"
             "Otherwise as create_subprocess_exec(). Specified by asyncio.create_subprocess_shell().");

PyMethodDef child_functions[] = {
    {"create_subprocess_exec", (PyCFunction)(void (*)(void))module_exec, METH_FASTCALL | METH_KEYWORDS, exec_doc},
    {"create_subprocess_shell", (PyCFunction)(void (*)(void))module_shell, METH_FASTCALL | METH_KEYWORDS, shell_doc},
    {NULL, NULL, 0, NULL},
};
