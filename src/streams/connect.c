/* open_connection(), start_server() and their Unix forms: loop methods with a protocol factory that makes streams. */
#include "stream.h"

/* ---- Factories ------------------------------------------------------------------------------- */

/* A client's factory gives the one protocol there is: this function's self. */
static PyObject *
give_protocol(PyObject *self, PyObject *unused)
{
    return Py_NewRef(self);
}

static PyMethodDef give_protocol_def = {"stream_protocol_factory", give_protocol, METH_NOARGS, NULL};

/* A server's makes a reader and a protocol for each connection. self: (loop, callback, limit, a type of ours). */
static PyObject *
make_protocol(PyObject *self, PyObject *unused)
{
    corolla_state *state = corolla_state_of_type((PyTypeObject *)PyTuple_GET_ITEM(self, 3));
    PyObject *loop = PyTuple_GET_ITEM(self, 0);
    if (state == NULL) {
        return NULL;
    }
    PyObject *reader = reader_new(state, loop, PyLong_AsSize_t(PyTuple_GET_ITEM(self, 2)));
    if (reader == NULL) {
        return NULL;
    }
    PyObject *protocol = protocol_new(state, loop, reader, PyTuple_GET_ITEM(self, 1));
    Py_DECREF(reader);
    return protocol;
}

static PyMethodDef make_protocol_def = {"stream_protocol_factory", make_protocol, METH_NOARGS, NULL};

/* ---- The coroutines ---------------------------------------------------------------------------- */

typedef struct {
    PyObject *args;     /* owned: what the loop's method gets behind the factory, a tuple */
    PyObject *kwargs;   /* owned: a dict, or NULL */
    PyObject *callback; /* owned: client_connected_cb of a server, NULL for a client */
    PyObject *loop;     /* owned */
    PyObject *reader;   /* owned: a client's */
    PyObject *protocol; /* owned: a client's */
    PyObject *awaited;  /* owned */
    size_t limit;       /* bytes */
    unsigned mode;      /* of the Stream that a client gets; 0: it gets a reader and a writer */
} ConnectState;

static int
connect_traverse(void *data, visitproc visit, void *arg)
{
    ConnectState *st = data;
    Py_VISIT(st->args);
    Py_VISIT(st->kwargs);
    Py_VISIT(st->callback);
    Py_VISIT(st->loop);
    Py_VISIT(st->reader);
    Py_VISIT(st->protocol);
    Py_VISIT(st->awaited);
    return 0;
}

static void
connect_clear(void *data)
{
    ConnectState *st = data;
    Py_CLEAR(st->args);
    Py_CLEAR(st->kwargs);
    Py_CLEAR(st->callback);
    Py_CLEAR(st->loop);
    Py_CLEAR(st->reader);
    Py_CLEAR(st->protocol);
    Py_CLEAR(st->awaited);
}

static PyObject *
client_factory(ConnectState *st, corolla_state *state)
{
    st->reader = reader_new(state, st->loop, st->limit);
    st->protocol = st->reader == NULL ? NULL : protocol_new(state, st->loop, st->reader, NULL);
    return st->protocol == NULL ? NULL : PyCFunction_New(&give_protocol_def, st->protocol);
}

static PyObject *
server_factory(ConnectState *st, corolla_state *state)
{
    PyObject *self = Py_BuildValue("(OOnO)", st->loop, st->callback, (Py_ssize_t)st->limit, state->stream_reader_type);
    PyObject *factory = self == NULL ? NULL : PyCFunction_New(&make_protocol_def, self);
    Py_XDECREF(self);
    return factory;
}

/* loop.name(factory, *args, **kwargs) of the running loop: what is to be awaited, in st->awaited. 0 or -1. */
static int
call_loop(ConnectState *st, corolla_state *state, const char *name)
{
    PyObject *method = NULL, *factory = NULL, *args = NULL;
    st->loop = corolla_running_loop(state);
    if (st->loop == NULL) {
        return -1;
    }
    factory = st->callback == NULL ? client_factory(st, state) : server_factory(st, state);
    method = factory == NULL ? NULL : PyObject_GetAttrString(st->loop, name);
    args = method == NULL ? NULL : PyTuple_New(1 + PyTuple_GET_SIZE(st->args));
    if (args == NULL) {
        goto fail;
    }
    PyTuple_SET_ITEM(args, 0, Py_NewRef(factory));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(st->args); i++) {
        PyTuple_SET_ITEM(args, i + 1, Py_NewRef(PyTuple_GET_ITEM(st->args, i)));
    }
    st->awaited = PyObject_Call(method, args, st->kwargs);
fail:
    Py_XDECREF(args);
    Py_XDECREF(method);
    Py_XDECREF(factory);
    return st->awaited == NULL ? -1 : 0;
}

/* A client's Stream, or its reader and writer. New reference or NULL. */
static PyObject *
client_streams(ConnectState *st, corolla_state *state, PyObject *transport)
{
    if (st->mode != 0) {
        return stream_new(state, transport, st->protocol, st->reader, st->loop, st->mode, false);
    }
    PyObject *writer = writer_new(state, transport, st->protocol, st->reader, st->loop);
    PyObject *pair = writer == NULL ? NULL : PyTuple_Pack(2, st->reader, writer);
    Py_XDECREF(writer);
    return pair;
}

/* The same from (transport, protocol). */
static PyObject *
client_result(ConnectState *st, corolla_state *state, PyObject *made)
{
    PyObject *pair = PySequence_Fast(made, "a loop's connection coroutine gives (transport, protocol)");
    if (pair == NULL) {
        return NULL;
    }
    PyObject *streams = NULL;
    if (PySequence_Fast_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_ValueError, "a loop's connection coroutine gives (transport, protocol)");
    }
    else {
        PyObject *transport = PySequence_Fast_GET_ITEM(pair, 0);
        streams = client_streams(st, state, transport);
    }
    Py_DECREF(pair);
    return streams;
}

static corolla_step
call_step(corolla_coro *co, PyObject *value, const char *method)
{
    ConnectState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (call_loop(st, co->state, method) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->awaited);
    if (value == NULL) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, st->callback == NULL ? client_result(st, co->state, value) : Py_NewRef(value));

    COROLLA_END(co);
}

#define CONNECT_SPEC(name_, method)                                     \
    static corolla_step name_##_step(corolla_coro *co, PyObject *value) \
    {                                                                   \
        return call_step(co, value, method);                            \
    }                                                                   \
    static const corolla_coro_spec name_##_spec = {                     \
        .name = #name_,                                                 \
        .qualname = #name_,                                             \
        .size = sizeof(ConnectState),                                   \
        .step = name_##_step,                                           \
        .traverse = connect_traverse,                                   \
        .clear = connect_clear,                                         \
    }

CONNECT_SPEC(open_connection, "create_connection");
CONNECT_SPEC(start_server, "create_server");
CONNECT_SPEC(open_unix_connection, "create_unix_connection");
CONNECT_SPEC(start_unix_server, "create_unix_server");
CONNECT_SPEC(connect, "create_connection");
CONNECT_SPEC(connect_unix, "create_unix_connection");
CONNECT_SPEC(connect_read_pipe, "connect_read_pipe");
CONNECT_SPEC(connect_write_pipe, "connect_write_pipe");

/* ---- The functions ------------------------------------------------------------------------------- */

/* What a function takes by position or name before it passes the rest on. */
typedef struct {
    const corolla_coro_spec *spec;
    const char *const *names; /* NULL-terminated */
    bool server;              /* the first one is client_connected_cb */
    bool needs_first;         /* the first one has to be there */
    unsigned mode;            /* as the state's */
} Form;

static int
place(const Form *form, PyObject *name, PyObject *value, PyObject **given, PyObject *kwargs, size_t *limit)
{
    for (int i = 0; form->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, form->names[i]) == 0) {
            if (given[i] != NULL) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", form->spec->name, name);
                return -1;
            }
            given[i] = value;
            return 0;
        }
    }
    if (PyUnicode_CompareWithASCIIString(name, "limit") == 0) {
        return reader_parse_limit(value, limit);
    }
    return PyDict_SetItem(kwargs, name, value);
}

/* The arguments for the loop's method: what was not given is None, as asyncio passes it. New reference or NULL. */
static PyObject *
positional(const Form *form, PyObject **given)
{
    int first = form->server ? 1 : 0, count = 0;
    while (form->names[first + count] != NULL) {
        count++;
    }
    PyObject *args = PyTuple_New(count);
    for (int i = 0; args != NULL && i < count; i++) {
        PyObject *value = given[first + i];
        PyTuple_SET_ITEM(args, i, Py_NewRef(value != NULL ? value : Py_None));
    }
    return args;
}

static PyObject *
connect_function(PyObject *module, const Form *form, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[3] = {NULL, NULL, NULL};
    size_t limit = STREAM_LIMIT;
    Py_ssize_t most = 0;
    while (form->names[most] != NULL) {
        most++;
    }
    if (nargs > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd positional arguments (%zd given)", form->spec->name, most,
                     nargs);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        given[i] = args[i];
    }
    PyObject *kwargs = PyDict_New();
    corolla_coro *co = NULL;
    if (kwargs == NULL) {
        return NULL;
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        if (place(form, PyTuple_GET_ITEM(kwnames, i), args[nargs + i], given, kwargs, &limit) < 0) {
            goto fail;
        }
    }
    if (form->needs_first && given[0] == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", form->spec->name,
                     form->names[0]);
        goto fail;
    }
    PyObject *rest = positional(form, given);
    co = rest == NULL ? NULL : corolla_coro_new(corolla_state_of_module(module), form->spec);
    if (co == NULL) {
        Py_XDECREF(rest);
        goto fail;
    }
    ConnectState *st = corolla_coro_state(co);
    st->args = rest;
    st->kwargs = Py_NewRef(kwargs);
    st->callback = form->server ? Py_NewRef(given[0]) : NULL;
    st->limit = limit;
    st->mode = form->mode;
fail:
    Py_DECREF(kwargs);
    return (PyObject *)co;
}

static PyObject *
module_open_connection(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"host", "port", NULL};
    static const Form form = {&open_connection_spec, names, false, false, 0};
    return connect_function(module, &form, args, nargs, kwnames);
}

static PyObject *
module_start_server(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"client_connected_cb", "host", "port", NULL};
    static const Form form = {&start_server_spec, names, true, true, 0};
    return connect_function(module, &form, args, nargs, kwnames);
}

static PyObject *
module_open_unix_connection(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"path", NULL};
    static const Form form = {&open_unix_connection_spec, names, false, false, 0};
    return connect_function(module, &form, args, nargs, kwnames);
}

static PyObject *
module_start_unix_server(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"client_connected_cb", "path", NULL};
    static const Form form = {&start_unix_server_spec, names, true, true, 0};
    return connect_function(module, &form, args, nargs, kwnames);
}

/* ---- The same for Stream -------------------------------------------------------------------------- */

static PyObject *
connect_stream(PyObject *module, const Form *form, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return connecting_new(corolla_state_of_module(module), connect_function(module, form, args, nargs, kwnames));
}

static PyObject *
module_connect(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"host", "port", NULL};
    static const Form form = {&connect_spec, names, false, false, STREAM_READ | STREAM_WRITE};
    return connect_stream(module, &form, args, nargs, kwnames);
}

static PyObject *
module_connect_unix(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"path", NULL};
    static const Form form = {&connect_unix_spec, names, false, false, STREAM_READ | STREAM_WRITE};
    return connect_stream(module, &form, args, nargs, kwnames);
}

static PyObject *
module_connect_read_pipe(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"pipe", NULL};
    static const Form form = {&connect_read_pipe_spec, names, false, true, STREAM_READ};
    return connect_stream(module, &form, args, nargs, kwnames);
}

static PyObject *
module_connect_write_pipe(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"pipe", NULL};
    static const Form form = {&connect_write_pipe_spec, names, false, true, STREAM_WRITE};
    return connect_stream(module, &form, args, nargs, kwnames);
}

PyDoc_STRVAR(
    connect_doc,
    "connect($module, /, host=None, port=None, *, limit=65536, **kwds)\n--\n\n"
    "Connect. `async with connect(...) as stream` closes the Stream at the end; `await connect(...)` gives it.\n\n"
    "limit: bytes, of a line. The rest is loop.create_connection()'s, and so is what it raises; ValueError for a\n"
    "limit <= 0. See docs/streams.md.");
PyDoc_STRVAR(connect_unix_doc, "connect_unix($module, /, path=None, *, limit=65536, **kwds)\n--\n\n"
                               "As connect(), to a Unix socket; the rest is loop.create_unix_connection()'s.");
PyDoc_STRVAR(connect_read_pipe_doc,
             "connect_read_pipe($module, /, pipe, *, limit=65536)\n--\n\n"
             "As connect(), for the reading end of a pipe: a file object that the stream then owns. See\n"
             "loop.connect_read_pipe().");
PyDoc_STRVAR(connect_write_pipe_doc,
             "connect_write_pipe($module, /, pipe, *, limit=65536)\n--\n\n"
             "As connect(), for the writing end of a pipe: a file object that the stream then owns. See\n"
             "loop.connect_write_pipe().");

PyDoc_STRVAR(
    open_connection_doc,
    "open_connection($module, /, host=None, port=None, *, limit=65536, **kwds)\n--\n\n"
    "Coroutine: connect and return (StreamReader, StreamWriter).\n\n"
    "limit: bytes, the reader's. The rest is loop.create_connection()'s, and so is what it raises; ValueError\n"
    "for a limit <= 0. Specified by asyncio.open_connection().");
PyDoc_STRVAR(start_server_doc,
             "start_server($module, /, client_connected_cb, host=None, port=None, *, limit=65536, **kwds)\n--\n\n"
             "Coroutine: listen, call client_connected_cb(reader, writer) for each connection, return the Server.\n\n"
             "client_connected_cb: a function, or a coroutine function, which runs as a task. limit: bytes, of each\n"
             "reader. The rest is loop.create_server()'s, and so is what it raises; ValueError for a limit <= 0.\n"
             "Specified by asyncio.start_server().");
PyDoc_STRVAR(open_unix_connection_doc,
             "open_unix_connection($module, /, path=None, *, limit=65536, **kwds)\n--\n\n"
             "Coroutine: as open_connection(), to a Unix socket. Specified by asyncio.open_unix_connection().");
PyDoc_STRVAR(start_unix_server_doc,
             "start_unix_server($module, /, client_connected_cb, path=None, *, limit=65536, **kwds)\n--\n\n"
             "Coroutine: as start_server(), on a Unix socket. Specified by asyncio.start_unix_server().");

PyMethodDef streams_connect_functions[] = {
    {"open_connection", (PyCFunction)(void (*)(void))module_open_connection, METH_FASTCALL | METH_KEYWORDS,
     open_connection_doc},
    {"start_server", (PyCFunction)(void (*)(void))module_start_server, METH_FASTCALL | METH_KEYWORDS, start_server_doc},
    {"open_unix_connection", (PyCFunction)(void (*)(void))module_open_unix_connection, METH_FASTCALL | METH_KEYWORDS,
     open_unix_connection_doc},
    {"start_unix_server", (PyCFunction)(void (*)(void))module_start_unix_server, METH_FASTCALL | METH_KEYWORDS,
     start_unix_server_doc},
    {"connect", (PyCFunction)(void (*)(void))module_connect, METH_FASTCALL | METH_KEYWORDS, connect_doc},
    {"connect_unix", (PyCFunction)(void (*)(void))module_connect_unix, METH_FASTCALL | METH_KEYWORDS, connect_unix_doc},
    {"connect_read_pipe", (PyCFunction)(void (*)(void))module_connect_read_pipe, METH_FASTCALL | METH_KEYWORDS,
     connect_read_pipe_doc},
    {"connect_write_pipe", (PyCFunction)(void (*)(void))module_connect_write_pipe, METH_FASTCALL | METH_KEYWORDS,
     connect_write_pipe_doc},
    {NULL, NULL, 0, NULL},
};
