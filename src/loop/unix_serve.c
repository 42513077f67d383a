/* EventLoop.create_unix_server() */
#include "endpoint.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FACTORY,
    PATH,
    SOCK,
    BACKLOG,
    SSL,
    HANDSHAKE_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    START_SERVING,
    CLEANUP_SOCKET,
    ARGUMENTS,
};

static const char *const names[ARGUMENTS + 1] = {
    "protocol_factory",     "path",          "sock",           "backlog", "ssl", "ssl_handshake_timeout",
    "ssl_shutdown_timeout", "start_serving", "cleanup_socket", NULL,
};
static const corolla_signature signature = {"create_unix_server", names, 1, 2, NULL};

typedef struct {
    PyObject *loop;            /* owned */
    PyObject *args[ARGUMENTS]; /* owned, each; NULL where nothing or None was given */
    PyObject *sock;            /* owned: the caller's, or ours while made */
    PyObject *server;          /* owned */
    endpoint_tls tls;          /* owned */
    int backlog;
    bool start, cleanup;
    bool made; /* sock is ours to close, as long as there is no server over it */
} ServeState;

static int
serve_traverse(void *data, visitproc visit, void *arg)
{
    ServeState *st = data;
    Py_VISIT(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->sock);
    Py_VISIT(st->server);
    Py_VISIT(st->tls.context);
    return 0;
}

static void
serve_clear(void *data)
{
    ServeState *st = data;
    Py_CLEAR(st->loop);
    for (int i = 0; i < ARGUMENTS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->sock);
    Py_CLEAR(st->server);
    Py_CLEAR(st->tls.context);
}

/* ---- Arguments ----------------------------------------------------------------------------- */

static int
check_place(PyObject **args)
{
    if (args[PATH] != NULL) {
        if (args[SOCK] != NULL) {
            PyErr_SetString(PyExc_ValueError, "path and sock can not be specified at the same time");
            return -1;
        }
        PyObject *path = PyOS_FSPath(args[PATH]);
        if (path == NULL) {
            return -1;
        }
        Py_SETREF(args[PATH], path);
        return 0;
    }
    if (args[SOCK] == NULL) {
        PyErr_SetString(PyExc_ValueError, "path was not specified, and no sock specified");
        return -1;
    }
    return endpoint_check_unix_stream(args[SOCK]);
}

static int
check_arguments(ServeState *st)
{
    PyObject **args = st->args;
    if (args[SSL] != NULL && PyBool_Check(args[SSL])) {
        PyErr_SetString(PyExc_TypeError, "ssl argument must be an SSLContext or None");
        return -1;
    }
    int ssl = endpoint_check_ssl_options(args[SSL], NULL, args[HANDSHAKE_TIMEOUT], args[SHUTDOWN_TIMEOUT]);
    if (ssl < 0 || check_place(args) < 0) {
        return -1;
    }
    if (ssl > 0 && endpoint_tls_parse(&st->tls, st->loop, args[SSL], true, NULL, args[HANDSHAKE_TIMEOUT],
                                      args[SHUTDOWN_TIMEOUT]) < 0) {
        return -1;
    }
    if (endpoint_parse_int(args[BACKLOG], 100, &st->backlog) < 0 ||
        endpoint_parse_bool(args[CLEANUP_SOCKET], true, &st->cleanup) < 0) {
        return -1;
    }
    return endpoint_parse_bool(args[START_SERVING], true, &st->start);
}

/* ---- The path ------------------------------------------------------------------------------- */

/* 1: a name without a file, which begins with a NUL; 0; or -1 with asyncio's IndexError for an empty path. */
static int
is_abstract(PyObject *path)
{
    PyObject *first = PySequence_GetItem(path, 0);
    if (first == NULL) {
        return -1;
    }
    bool abstract = PyUnicode_Check(first) ? PyUnicode_READ_CHAR(first, 0) == 0 : PyLong_AsLong(first) == 0;
    Py_DECREF(first);
    return abstract;
}

/* Removes what stands at path if it is a socket. 0 or errno. */
static int
remove_socket(const char *path)
{
    struct stat found;
    int err = 0;
    Py_BEGIN_ALLOW_THREADS
    if (stat(path, &found) < 0 || (S_ISSOCK(found.st_mode) && unlink(path) < 0)) {
        err = errno;
    }
    Py_END_ALLOW_THREADS
    return err == ENOENT ? 0 : err;
}

/* Makes room for a socket at path. What goes wrong is logged: binding will tell whether it matters. 0 or -1. */
static int
remove_stale(ServeState *st, PyObject *path)
{
    PyObject *encoded = NULL;
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return -1;
    }
    int err = remove_socket(PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    if (err != 0) {
        errno = err;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
        PyObject *exc = PyErr_GetRaisedException();
        endpoint_log(loop_core(st->loop), "error", "Unable to check or remove stale UNIX socket %r: %r",
                     PyTuple_Pack(2, path, exc));
        Py_DECREF(exc);
    }
    return 0;
}

/* Puts the path into the words of the OSError being raised. */
static void
explain_bind(PyObject *path)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (!PyErr_GivenExceptionMatches(exc, PyExc_OSError) || ((PyOSErrorObject *)exc)->myerrno == NULL ||
        PyLong_AsLong(((PyOSErrorObject *)exc)->myerrno) != EADDRINUSE) {
        PyErr_Clear(); /* an errno that is no number */
        PyErr_SetRaisedException(exc);
        return;
    }
    Py_DECREF(exc);
    PyObject *text = PyUnicode_FromFormat("Address %R is already in use", path);
    PyObject *args = text == NULL ? NULL : Py_BuildValue("(iN)", EADDRINUSE, text);
    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args);
        Py_DECREF(args);
    }
}

/* Makes st->sock, bound to the path. 0 or -1. */
static int
bind_path(ServeState *st)
{
    PyObject *path = st->args[PATH];
    st->sock = PyObject_CallFunction(loop_core(st->loop)->state->socket_type, "ii", AF_UNIX, (int)SOCK_STREAM);
    if (st->sock == NULL) {
        return -1;
    }
    st->made = true;
    int abstract = is_abstract(path);
    if (abstract < 0 || (!abstract && remove_stale(st, path) < 0)) {
        return -1;
    }
    PyObject *done = PyObject_CallMethod(st->sock, "bind", "(O)", path);
    if (done == NULL) {
        explain_bind(path);
        return -1;
    }
    Py_DECREF(done);
    return 0;
}

/* ---- The server ------------------------------------------------------------------------------ */

static int
make_server(ServeState *st)
{
    if (endpoint_set_nonblocking(st->sock) < 0) {
        return -1;
    }
    PyObject *sockets = PyList_New(1);
    if (sockets == NULL) {
        return -1;
    }
    PyList_SET_ITEM(sockets, 0, Py_NewRef(st->sock));
    st->server = corolla_server_new(loop_core(st->loop), sockets, st->args[FACTORY], st->backlog);
    if (st->server == NULL || endpoint_tls_serve(&st->tls, st->server) < 0 ||
        (st->cleanup && corolla_server_own_path(st->server, st->sock) < 0)) {
        return -1;
    }
    return st->start ? corolla_server_start(st->server) : 0;
}

/* Nobody will ever get the server: it and the socket that we made are closed. Keeps the exception being raised. */
static void
give_up(ServeState *st)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (st->server != NULL) {
        if (corolla_server_close(st->server) < 0) {
            PyErr_WriteUnraisable(st->server);
        }
    }
    else {
        PyObject *done = PyObject_CallMethod(st->sock, "close", NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable(st->sock);
        }
        Py_XDECREF(done);
    }
    PyErr_SetRaisedException(exc);
}

/* 0, or -1 with a socket of the caller's as it was. */
static int
begin(ServeState *st)
{
    if (check_arguments(st) < 0) {
        return -1;
    }
    if (st->args[PATH] == NULL) {
        st->sock = Py_NewRef(st->args[SOCK]);
    }
    if ((st->sock == NULL && bind_path(st) < 0) || make_server(st) < 0) {
        if (st->made) {
            give_up(st);
        }
        return -1;
    }
    return 0;
}

static corolla_step
serve_step(corolla_coro *co, PyObject *value)
{
    ServeState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (begin(st) < 0) {
        return COROLLA_RAISE;
    }
    if (st->start) {
        COROLLA_PAUSE(co);
        if (value == NULL) {
            give_up(st);
            return COROLLA_RAISE;
        }
    }
    if (loop_core(st->loop)->debug) {
        endpoint_log(loop_core(st->loop), "info", "%r is serving", Py_BuildValue("(O)", st->server));
    }
    return corolla_return(co, Py_NewRef(st->server));
    COROLLA_END(co);
}

static const corolla_coro_spec serve_spec = {
    .name = "create_unix_server",
    .qualname = "EventLoop.create_unix_server",
    .size = sizeof(ServeState),
    .step = serve_step,
    .traverse = serve_traverse,
    .clear = serve_clear,
};

static PyObject *
create_unix_server(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *given[ARGUMENTS];
    if (loop_check(self) < 0 || corolla_unpack(&signature, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(loop_core(self)->state, &serve_spec);
    if (co == NULL) {
        return NULL;
    }
    ServeState *st = corolla_coro_state(co);
    st->loop = Py_NewRef(self);
    for (int i = 0; i < ARGUMENTS; i++) {
        bool kept = i == FACTORY || i == START_SERVING || i == CLEANUP_SOCKET; /* None is false there */
        st->args[i] = given[i] == Py_None && !kept ? NULL : Py_XNewRef(given[i]);
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(
    create_unix_server_doc,
    "create_unix_server($self, protocol_factory, path=None, *, sock=None, backlog=100, ssl=None,\n"
    "                   ssl_handshake_timeout=None, ssl_shutdown_timeout=None, start_serving=True,\n"
    "                   cleanup_socket=True)\n--\n\n"
    "Create a server on a Unix stream socket; a Server. A coroutine.\n\n"
    "protocol_factory: called without arguments, for the protocol of each connection. path: str, bytes or\n"
    "path-like; an abstract name begins with a NUL. A socket that stands there is removed first. sock: a bound\n"
    "AF_UNIX stream socket instead of path, which the server closes. backlog: connections that may wait to be\n"
    "accepted. start_serving: false to begin with Server.start_serving() later. cleanup_socket: whether the path\n"
    "is removed when the server closes, if it is still that socket's then. ssl: an ssl.SSLContext:\n"
    "connections are encrypted. ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 unless given.\n\n"
    "OSError when the path cannot be bound to; ValueError for neither or both of path and sock, for a socket of\n"
    "another kind, and for a timeout without ssl; TypeError for ssl=True. Specified by\n"
    "asyncio.loop.create_unix_server().");

PyMethodDef corolla_loop_unix_serve_methods[] = {
    {"create_unix_server", (PyCFunction)(void (*)(void))create_unix_server, METH_FASTCALL | METH_KEYWORDS,
     create_unix_server_doc},
    {NULL, NULL, 0, NULL},
};
