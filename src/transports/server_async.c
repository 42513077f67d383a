/* The coroutines of a server: start_serving(), serve_forever(), wait_closed(), async with. */
#include "../scheduler/await.h"
#include "tcp.h"

typedef struct {
    Server *server;   /* owned */
    PyObject *future; /* owned: what is awaited */
    PyObject *raised; /* owned: what serve_forever() ends with */
} ServerState;

static int
server_state_traverse(void *data, visitproc visit, void *arg)
{
    ServerState *st = data;
    Py_VISIT(st->server);
    Py_VISIT(st->future);
    Py_VISIT(st->raised);
    return 0;
}

static void
server_state_clear(void *data)
{
    ServerState *st = data;
    Py_CLEAR(st->server);
    Py_CLEAR(st->future);
    Py_CLEAR(st->raised);
}

static PyObject *
new_coroutine(PyObject *self, const corolla_coro_spec *spec)
{
    corolla_coro *co = corolla_coro_new(((Server *)self)->state, spec);
    if (co != NULL) {
        ((ServerState *)corolla_coro_state(co))->server = (Server *)Py_NewRef(self);
    }
    return (PyObject *)co;
}

/* ---- start_serving() ------------------------------------------------------------------------- */

static corolla_step
start_serving_step(corolla_coro *co, PyObject *value)
{
    ServerState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (corolla_server_start((PyObject *)st->server) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_PAUSE(co); /* as asyncio: the sockets listen when this returns */
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

static const corolla_coro_spec start_serving_spec = {
    .name = "start_serving",
    .qualname = "Server.start_serving",
    .size = sizeof(ServerState),
    .step = start_serving_step,
    .traverse = server_state_traverse,
    .clear = server_state_clear,
};

static PyObject *
server_start_serving(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &start_serving_spec);
}

/* ---- wait_closed() --------------------------------------------------------------------------- */

/* A future among the server's waiters. New reference or NULL. */
static PyObject *
add_waiter(Server *server)
{
    PyObject *waiter = corolla_future_new(server->core);
    if (waiter != NULL && PyList_Append(server->waiters, waiter) < 0) {
        Py_CLEAR(waiter);
    }
    return waiter;
}

static corolla_step
wait_closed_step(corolla_coro *co, PyObject *value)
{
    ServerState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (st->server->waiters == NULL) {
        return corolla_return(co, Py_NewRef(Py_None));
    }
    st->future = add_waiter(st->server);
    if (st->future == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

static const corolla_coro_spec wait_closed_spec = {
    .name = "wait_closed",
    .qualname = "Server.wait_closed",
    .size = sizeof(ServerState),
    .step = wait_closed_step,
    .traverse = server_state_traverse,
    .clear = server_state_clear,
};

static PyObject *
server_wait_closed(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &wait_closed_spec);
}

/* ---- async with ------------------------------------------------------------------------------ */

static corolla_step
enter_step(corolla_coro *co, PyObject *value)
{
    (void)value;
    return corolla_return(co, Py_NewRef(((ServerState *)corolla_coro_state(co))->server));
}

static const corolla_coro_spec enter_spec = {
    .name = "__aenter__",
    .qualname = "Server.__aenter__",
    .size = sizeof(ServerState),
    .step = enter_step,
    .traverse = server_state_traverse,
    .clear = server_state_clear,
};

static PyObject *
server_enter(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &enter_spec);
}

/* close() and wait_closed(), which a subclass may have replaced. */
static corolla_step
exit_step(corolla_coro *co, PyObject *value)
{
    ServerState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    PyObject *closed = PyObject_CallMethod((PyObject *)st->server, "close", NULL);
    Py_XDECREF(closed);
    st->future = closed == NULL ? NULL : PyObject_CallMethod((PyObject *)st->server, "wait_closed", NULL);
    if (st->future == NULL) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    return value == NULL ? COROLLA_RAISE : corolla_return(co, Py_NewRef(Py_None));
    COROLLA_END(co);
}

static const corolla_coro_spec exit_spec = {
    .name = "__aexit__",
    .qualname = "Server.__aexit__",
    .size = sizeof(ServerState),
    .step = exit_step,
    .traverse = server_state_traverse,
    .clear = server_state_clear,
};

static PyObject *
server_exit(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &exit_spec);
}

/* ---- serve_forever() ------------------------------------------------------------------------- */

static int
begin_forever(ServerState *st)
{
    Server *server = st->server;
    if (server->forever != NULL) {
        PyErr_Format(PyExc_RuntimeError, "server %R is already being awaited on serve_forever()", server);
        return -1;
    }
    if (server->sockets == NULL) {
        PyErr_Format(PyExc_RuntimeError, "server %R is closed", server);
        return -1;
    }
    if (corolla_server_start((PyObject *)server) < 0) {
        return -1;
    }
    st->future = corolla_future_new(server->core);
    server->forever = Py_XNewRef(st->future);
    return st->future == NULL ? -1 : 0;
}

/* Takes what was raised out of the wait, and closes the server if that was a cancellation. 1: all
 * connections are to be waited for before it is raised again. */
static int
end_forever(ServerState *st)
{
    Server *server = st->server;
    bool cancelled = PyErr_ExceptionMatches(server->state->CancelledError);
    st->raised = PyErr_GetRaisedException();
    if (server->forever == st->future) {
        Py_CLEAR(server->forever);
    }
    Py_CLEAR(st->future);
    if (!cancelled) {
        return 0;
    }
    if (corolla_server_close((PyObject *)server) < 0) {
        PyErr_Clear(); /* the cancellation goes before, as in asyncio's finally clause */
    }
    if (server->waiters == NULL) {
        return 0;
    }
    st->future = add_waiter(server);
    if (st->future == NULL) {
        PyErr_Clear();
        return 0;
    }
    return 1;
}

static corolla_step
serve_forever_step(corolla_coro *co, PyObject *value)
{
    ServerState *st = corolla_coro_state(co);
    COROLLA_BEGIN(co);
    if (begin_forever(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future);
    if (value != NULL) {
        return corolla_return(co, Py_NewRef(Py_None)); /* somebody gave the future a result: asyncio returns too */
    }
    if (end_forever(st)) {
        COROLLA_AWAIT(co, st->future);
        if (value == NULL) {
            return COROLLA_RAISE; /* cancelled a second time: that ends the waiting */
        }
    }
    PyErr_SetRaisedException(st->raised);
    st->raised = NULL;
    return COROLLA_RAISE;
    COROLLA_END(co);
}

static const corolla_coro_spec serve_forever_spec = {
    .name = "serve_forever",
    .qualname = "Server.serve_forever",
    .size = sizeof(ServerState),
    .step = serve_forever_step,
    .traverse = server_state_traverse,
    .clear = server_state_clear,
};

static PyObject *
server_serve_forever(PyObject *self, PyObject *unused)
{
    return new_coroutine(self, &serve_forever_spec);
}

PyDoc_STRVAR(start_serving_doc, "Start accepting connections. A coroutine.");
PyDoc_STRVAR(serve_forever_doc, "Accept connections until cancelled; the server is closed then. A coroutine.");
PyDoc_STRVAR(wait_closed_doc, "Wait until the server is closed and its last connection is gone. A coroutine.");
PyDoc_STRVAR(enter_doc, "The server itself. A coroutine.");
PyDoc_STRVAR(exit_doc, "close(), then wait_closed(). A coroutine.");

PyMethodDef server_async_methods[] = {
    {"start_serving", server_start_serving, METH_NOARGS, start_serving_doc},
    {"serve_forever", server_serve_forever, METH_NOARGS, serve_forever_doc},
    {"wait_closed", server_wait_closed, METH_NOARGS, wait_closed_doc},
    {"__aenter__", server_enter, METH_NOARGS, enter_doc},
    {"__aexit__", server_exit, METH_VARARGS, exit_doc},
    {NULL, NULL, 0, NULL},
};
