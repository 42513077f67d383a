/* getaddrinfo() and getnameinfo() on the reactor's own threads, with the results and the exceptions of the socket module.
 *
 * What the socket module would refuse, or reads in some way of its own, is left to it: such arguments go to
 * socket.getaddrinfo() in the default executor, as in asyncio. So does everything when a program has put a function of
 * its own in that one's place. */
#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

/* ---- Look-ups -------------------------------------------------------------------------------- */

/* One look-up, embedded in its coroutine's state. While it is on the loop's list the loop owns the future, and through it
 * the task that waits. */
typedef struct loop_lookup {
    struct loop_lookup *prev, *next;
    LoopObject *loop; /* borrowed; NULL when not on the list */
    PyObject *future; /* owned by the loop while on the list */
    corolla_resolve query;
} Lookup;

/* Takes a look-up off the list; the future is the caller's. */
static PyObject *
lookup_unlink(Lookup *lookup)
{
    PyObject *future = lookup->future;
    if (lookup->prev != NULL) {
        lookup->prev->next = lookup->next;
    }
    else {
        lookup->loop->lookups = lookup->next;
    }
    if (lookup->next != NULL) {
        lookup->next->prev = lookup->prev;
    }
    lookup->prev = lookup->next = NULL;
    lookup->loop = NULL;
    lookup->future = NULL;
    return future;
}

static int
lookup_done(corolla_resolve *query)
{
    Lookup *lookup = (Lookup *)((char *)query - offsetof(Lookup, query));
    LoopObject *self = lookup->loop;
    PyObject *future = lookup_unlink(lookup);
    int rc = corolla_future_complete(future, Py_None);
    if (rc < 0) {
        rc = corolla_report_raised(self->head.core.state, (PyObject *)self, "Exception while handing in an address",
                                   NULL, NULL);
    }
    Py_DECREF(future);
    return rc;
}

/* Puts a look-up that the reactor has taken on the list. Steals future. */
static void
lookup_link(LoopObject *self, Lookup *lookup, PyObject *future)
{
    lookup->loop = self;
    lookup->future = future;
    lookup->prev = NULL;
    lookup->next = self->lookups;
    if (lookup->next != NULL) {
        lookup->next->prev = lookup;
    }
    self->lookups = lookup;
}

/* The answer, if there still is to be one, is dropped. Keeps what is being raised. */
static void
lookup_stop(Lookup *lookup)
{
    if (lookup->loop != NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        corolla_resolve_cancel(&lookup->query);
        PyObject *future = lookup_unlink(lookup);
        Py_DECREF(future);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    if (lookup->query.result != NULL) {
        freeaddrinfo(lookup->query.result);
        lookup->query.result = NULL;
    }
}

void
loop_names_close(LoopObject *self)
{
    while (self->lookups != NULL) {
        corolla_resolve_cancel(&self->lookups->query);
        Py_DECREF(lookup_unlink(self->lookups));
    }
}

int
loop_names_traverse(LoopObject *self, visitproc visit, void *arg)
{
    for (Lookup *lookup = self->lookups; lookup != NULL; lookup = lookup->next) {
        Py_VISIT(lookup->future);
    }
    return 0;
}

/* The exception the socket module has for an EAI_ code. */
static void
raise_lookup_error(corolla_state *state, const corolla_resolve *query)
{
    if (query->error == EAI_SYSTEM) {
        errno = query->sys_errno;
        PyErr_SetFromErrno(PyExc_OSError);
        return;
    }
    PyObject *args = Py_BuildValue("(is)", query->error, gai_strerror(query->error));
    if (args != NULL) {
        PyErr_SetObject(state->gaierror, args);
        Py_DECREF(args);
    }
}

static int
raise_errno(int error)
{
    if (error == -ENOMEM) {
        PyErr_NoMemory();
    }
    else {
        errno = -error;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return -1;
}

/* ---- The state of both coroutines --------------------------------------------------------------- */

enum { HOST, PORT, FAMILY, TYPE, PROTO, FLAGS, MOST_ARGS };

typedef struct NameState {
    Lookup lookup;
    PyObject *loop;            /* owned */
    PyObject *args[MOST_ARGS]; /* owned: those of getaddrinfo(); sockaddr and flags of getnameinfo() */
    PyObject *future;          /* owned: of the executor, or NULL */
    PyObject *result;          /* owned */
    PyObject *message;         /* owned: in debug mode, what is logged */
    PyObject *function;        /* owned: what has been put in the socket module's place, or NULL */
    double begin;              /* in debug mode, loop time */
} NameState;

static int
name_traverse(void *state, visitproc visit, void *arg)
{
    NameState *st = state;
    Py_VISIT(st->loop);
    for (int i = 0; i < MOST_ARGS; i++) {
        Py_VISIT(st->args[i]);
    }
    Py_VISIT(st->future);
    Py_VISIT(st->result);
    Py_VISIT(st->function);
    return 0;
}

static void
name_clear(void *state)
{
    NameState *st = state;
    lookup_stop(&st->lookup);
    for (int i = 0; i < MOST_ARGS; i++) {
        Py_CLEAR(st->args[i]);
    }
    Py_CLEAR(st->future);
    Py_CLEAR(st->result);
    Py_CLEAR(st->message);
    Py_CLEAR(st->function);
    Py_CLEAR(st->loop);
}

/* Sets st->function to what the socket module has under that name. 1 if it is the original, 0 if not, -1 on error. */
static int
find_function(NameState *st, PyObject *name, PyObject *original)
{
    PyObject *module = PyImport_ImportModule("socket");
    Py_XSETREF(st->function, module == NULL ? NULL : PyObject_GetAttr(module, name));
    Py_XDECREF(module);
    return st->function == NULL ? -1 : st->function == original;
}

/* loop.run_in_executor(None, function, *args) into st->future. 0 or -1. */
static int
run_function(NameState *st, int count)
{
    PyObject *run = PyObject_GetAttrString(st->loop, "run_in_executor");
    if (run == NULL) {
        return -1;
    }
    PyObject *stack[MOST_ARGS + 3] = {NULL, Py_None, st->function};
    for (int i = 0; i < count; i++) {
        stack[i + 3] = st->args[i];
    }
    st->future = PyObject_Vectorcall(run, stack + 1, (size_t)(count + 2) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(run);
    return st->future == NULL ? -1 : 0;
}

/* ---- getaddrinfo() ------------------------------------------------------------------------------ */

/* A C int as the socket module would take it. 1, or 0 when that has to be left to it. */
static int
small_int(PyObject *obj, int *out)
{
    if (!PyLong_Check(obj)) {
        return 0;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(obj, &overflow);
    if (overflow || value < INT_MIN || value > INT_MAX) {
        return 0;
    }
    *out = (int)value;
    return 1;
}

/* The host as bytes in *held (a new reference, or NULL for none). 1; 0 to leave it to the socket module; -1. */
static int
host_bytes(PyObject *host, PyObject **held)
{
    *held = NULL;
    if (host == Py_None) {
        return 1;
    }
    if (PyBytes_CheckExact(host)) {
        *held = Py_NewRef(host);
        return 1;
    }
    if (!PyUnicode_CheckExact(host)) {
        return 0;
    }
    *held = PyUnicode_AsEncodedString(host, "idna", NULL);
    return *held == NULL ? -1 : 1;
}

/* The service as text that lives as long as port and room do (NULL for none). As above. */
static int
service_text(PyObject *port, char *room, size_t size, const char **text)
{
    *text = NULL;
    if (port == Py_None) {
        return 1;
    }
    if (PyLong_CheckExact(port)) {
        int overflow;
        long value = PyLong_AsLongAndOverflow(port, &overflow);
        if (overflow) {
            return 0;
        }
        snprintf(room, size, "%ld", value);
        *text = room;
        return 1;
    }
    if (PyBytes_CheckExact(port)) {
        *text = PyBytes_AS_STRING(port);
        return 1;
    }
    if (!PyUnicode_CheckExact(port)) {
        return 0;
    }
    *text = PyUnicode_AsUTF8(port);
    return *text == NULL ? -1 : 1;
}

/* Hands the question to the reactor: 1; 0 when it is one for the socket module; -1. */
static int
ask_address(NameState *st)
{
    corolla_core *core = loop_core(st->loop);
    struct addrinfo hints = {0};
    PyObject *host = NULL, *future = NULL;
    const char *service;
    char room[32];
    int ok = find_function(st, core->state->s.getaddrinfo, core->state->socket_getaddrinfo);
    if (ok <= 0) {
        return ok;
    }
    if (!small_int(st->args[FAMILY], &hints.ai_family) || !small_int(st->args[TYPE], &hints.ai_socktype) ||
        !small_int(st->args[PROTO], &hints.ai_protocol) || !small_int(st->args[FLAGS], &hints.ai_flags)) {
        return 0;
    }
    if ((ok = host_bytes(st->args[HOST], &host)) <= 0 ||
        (ok = service_text(st->args[PORT], room, sizeof room, &service)) <= 0) {
        goto fail;
    }
    ok = -1;
    if (PySys_Audit("socket.getaddrinfo", "OOiii", st->args[HOST], st->args[PORT], hints.ai_family, hints.ai_socktype,
                    hints.ai_protocol) < 0) {
        goto fail;
    }
    future = corolla_future_new(core);
    if (future == NULL || corolla_core_check_closed(core) < 0) {
        Py_XDECREF(future); /* encoding a name, or an audit hook, may have run anybody's code */
        goto fail;
    }
    st->lookup.query.done = lookup_done;
    int rc = corolla_resolve_address(&core->reactor, &st->lookup.query, host == NULL ? NULL : PyBytes_AS_STRING(host),
                                     service, &hints);
    if (rc < 0) {
        raise_errno(rc);
        Py_DECREF(future);
        goto fail;
    }
    lookup_link((LoopObject *)st->loop, &st->lookup, future);
    ok = 1;
fail:
    Py_XDECREF(host);
    return ok;
}

/* number as a member of an enum, or as it is when there is none. New reference or NULL. */
static PyObject *
as_member(PyObject *type, int number)
{
    PyObject *plain = PyLong_FromLong(number);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *member = PyObject_CallOneArg(type, plain);
    if (member == NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        return plain;
    }
    Py_DECREF(plain);
    return member;
}

/* (family, type, proto, canonname, sockaddr). New reference or NULL. */
static PyObject *
address_tuple(corolla_state *state, const struct addrinfo *info)
{
    PyObject *tuple = NULL;
    PyObject *family = as_member(state->AddressFamily, info->ai_family);
    PyObject *type = family == NULL ? NULL : as_member(state->SocketKind, info->ai_socktype);
    PyObject *address = type == NULL ? NULL : corolla_address_to_python(info->ai_addr, info->ai_addrlen);
    if (address != NULL) {
        tuple = Py_BuildValue("OOisO", family, type, info->ai_protocol,
                              info->ai_canonname != NULL ? info->ai_canonname : "", address);
    }
    Py_XDECREF(family);
    Py_XDECREF(type);
    Py_XDECREF(address);
    return tuple;
}

/* What the socket module would return or raise. New reference or NULL. */
static PyObject *
address_answer(corolla_state *state, corolla_resolve *query)
{
    if (query->error != 0) {
        raise_lookup_error(state, query);
        return NULL;
    }
    PyObject *list = PyList_New(0);
    for (const struct addrinfo *info = query->result; list != NULL && info != NULL; info = info->ai_next) {
        PyObject *tuple = address_tuple(state, info);
        if (tuple == NULL || PyList_Append(list, tuple) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(tuple);
    }
    return list;
}

/* ---- Debug mode's log ----------------------------------------------------------------------------- */

static int
log_line(corolla_state *state, bool info, PyObject *line)
{
    PyObject *done = PyObject_CallMethodOneArg(state->logger, info ? state->s.info : state->s.debug, line);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
loop_seconds(corolla_core *core, double *seconds)
{
    int64_t now;
    if (corolla_core_now(core, &now) < 0) {
        return -1;
    }
    *seconds = (double)now / 1e9;
    return 0;
}

static int
log_question(corolla_core *core, NameState *st)
{
    static const char *const names[] = {"family", "type", "proto", "flags"};
    st->message = PyUnicode_FromFormat("%S:%R", st->args[HOST], st->args[PORT]);
    for (int i = FAMILY; st->message != NULL && i <= FLAGS; i++) {
        int given = PyObject_IsTrue(st->args[i]);
        if (given != 0) {
            PyObject *more =
                given < 0 ? NULL : PyUnicode_FromFormat("%U, %s=%R", st->message, names[i - FAMILY], st->args[i]);
            Py_SETREF(st->message, more);
        }
    }
    PyObject *line = st->message == NULL ? NULL : PyUnicode_FromFormat("Get address info %U", st->message);
    int rc = line == NULL ? -1 : log_line(core->state, false, line);
    Py_XDECREF(line);
    return rc < 0 ? -1 : loop_seconds(core, &st->begin);
}

static int
log_answer(corolla_core *core, NameState *st)
{
    double end;
    if (st->message == NULL) {
        return 0;
    }
    if (loop_seconds(core, &end) < 0) {
        return -1;
    }
    char took[64];
    snprintf(took, sizeof took, "%.3f", (end - st->begin) * 1e3);
    PyObject *line = PyUnicode_FromFormat("Getting address info %U took %sms: %R", st->message, took, st->result);
    int rc = line == NULL ? -1 : log_line(core->state, end - st->begin >= core->slow_callback, line);
    Py_XDECREF(line);
    return rc;
}

static corolla_step
getaddrinfo_step(corolla_coro *co, PyObject *value)
{
    NameState *st = corolla_coro_state(co);
    int asked;
    COROLLA_BEGIN(co);
    if (loop_check(st->loop) < 0 || (loop_core(st->loop)->debug && log_question(loop_core(st->loop), st) < 0)) {
        return COROLLA_RAISE;
    }
    asked = ask_address(st);
    if (asked < 0 || (asked == 0 && run_function(st, MOST_ARGS) < 0)) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future != NULL ? st->future : st->lookup.future);
    if (value == NULL) {
        lookup_stop(&st->lookup);
        return COROLLA_RAISE;
    }
    st->result = st->future != NULL ? Py_NewRef(value) : address_answer(co->state, &st->lookup.query);
    if (st->result == NULL || log_answer(loop_core(st->loop), st) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(st->result));
    COROLLA_END(co);
}

static const corolla_coro_spec getaddrinfo_spec = {
    .name = "getaddrinfo",
    .qualname = "EventLoop.getaddrinfo",
    .size = sizeof(NameState),
    .step = getaddrinfo_step,
    .traverse = name_traverse,
    .clear = name_clear,
};

/* ---- getnameinfo() -------------------------------------------------------------------------------- */

/* The C form of (host, port[, flowinfo, scope_id]) with a numeric host. 1, or 0 to leave it to the socket module. */
static int
numeric_sockaddr(PyObject *sockaddr, struct sockaddr_storage *out, socklen_t *len)
{
    if (!PyTuple_CheckExact(sockaddr) || PyTuple_GET_SIZE(sockaddr) < 2 || PyTuple_GET_SIZE(sockaddr) > 4) {
        return 0;
    }
    PyObject *host = PyTuple_GET_ITEM(sockaddr, 0);
    int port, more[2] = {0, 0};
    if (!PyUnicode_CheckExact(host) || !PyUnicode_IS_ASCII(host) || !small_int(PyTuple_GET_ITEM(sockaddr, 1), &port) ||
        port < 0 || port > 0xffff) {
        return 0;
    }
    const char *text = (const char *)PyUnicode_DATA(host);
    if (strlen(text) != (size_t)PyUnicode_GET_LENGTH(host)) {
        return 0;
    }
    for (Py_ssize_t i = 2; i < PyTuple_GET_SIZE(sockaddr); i++) {
        if (!small_int(PyTuple_GET_ITEM(sockaddr, i), &more[i - 2]) || more[i - 2] < 0) {
            return 0;
        }
    }
    memset(out, 0, sizeof *out);
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    if (PyTuple_GET_SIZE(sockaddr) == 2 && inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *len = sizeof *in;
        return 1;
    }
    if (more[0] <= 0xfffff && inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        in6->sin6_flowinfo = htonl((uint32_t)more[0]);
        in6->sin6_scope_id = (uint32_t)more[1];
        *len = sizeof *in6;
        return 1;
    }
    return 0;
}

/* As ask_address(). */
static int
ask_name(NameState *st)
{
    corolla_core *core = loop_core(st->loop);
    struct sockaddr_storage addr;
    socklen_t len;
    int flags;
    int ok = find_function(st, core->state->s.getnameinfo, core->state->socket_getnameinfo);
    if (ok <= 0) {
        return ok;
    }
    if (!small_int(st->args[1], &flags) || !numeric_sockaddr(st->args[0], &addr, &len)) {
        return 0;
    }
    if (PySys_Audit("socket.getnameinfo", "(O)", st->args[0]) < 0) {
        return -1;
    }
    PyObject *future = corolla_future_new(core);
    if (future == NULL || corolla_core_check_closed(core) < 0) {
        Py_XDECREF(future);
        return -1;
    }
    st->lookup.query.done = lookup_done;
    int rc = corolla_resolve_name(&core->reactor, &st->lookup.query, (struct sockaddr *)&addr, len, flags);
    if (rc < 0) {
        Py_DECREF(future);
        return raise_errno(rc);
    }
    lookup_link((LoopObject *)st->loop, &st->lookup, future);
    return 1;
}

static PyObject *
name_answer(corolla_state *state, corolla_resolve *query)
{
    if (query->error != 0) {
        raise_lookup_error(state, query);
        return NULL;
    }
    PyObject *host = PyUnicode_DecodeFSDefault(query->host);
    return host == NULL ? NULL : Py_BuildValue("Ns", host, query->service);
}

static corolla_step
getnameinfo_step(corolla_coro *co, PyObject *value)
{
    NameState *st = corolla_coro_state(co);
    int asked;
    COROLLA_BEGIN(co);
    if (loop_check(st->loop) < 0) {
        return COROLLA_RAISE;
    }
    asked = ask_name(st);
    if (asked < 0 || (asked == 0 && run_function(st, 2) < 0)) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->future != NULL ? st->future : st->lookup.future);
    if (value == NULL) {
        lookup_stop(&st->lookup);
        return COROLLA_RAISE;
    }
    return corolla_return(co, st->future != NULL ? Py_NewRef(value) : name_answer(co->state, &st->lookup.query));
    COROLLA_END(co);
}

static const corolla_coro_spec getnameinfo_spec = {
    .name = "getnameinfo",
    .qualname = "EventLoop.getnameinfo",
    .size = sizeof(NameState),
    .step = getnameinfo_step,
    .traverse = name_traverse,
    .clear = name_clear,
};

/* ---- Methods -------------------------------------------------------------------------------------- */

/* A coroutine over those arguments; what was not given is 0. */
static PyObject *
name_coroutine(PyObject *loop, const corolla_coro_spec *spec, PyObject *const *args, int count)
{
    if (!loop_core(loop)->ready) {
        loop_check(loop);
        return NULL;
    }
    PyObject *zero = PyLong_FromLong(0);
    corolla_coro *co = zero == NULL ? NULL : corolla_coro_new(loop_core(loop)->state, spec);
    if (co != NULL) {
        NameState *st = corolla_coro_state(co);
        st->loop = Py_NewRef(loop);
        for (int i = 0; i < count; i++) {
            st->args[i] = Py_NewRef(args[i] != NULL ? args[i] : zero);
        }
    }
    Py_XDECREF(zero);
    return (PyObject *)co;
}

static const char *const address_names[] = {"host", "port", "family", "type", "proto", "flags", NULL};
static const corolla_signature address_sig = {"getaddrinfo", address_names, 2, 2, NULL};

PyDoc_STRVAR(getaddrinfo_doc, "getaddrinfo($self, host, port, *, family=0, type=0, proto=0, flags=0)\n--\n\n"
                              "socket.getaddrinfo(), without blocking the loop.");

static PyObject *
loop_getaddrinfo_method(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *out[MOST_ARGS];
    if (corolla_unpack(&address_sig, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return name_coroutine(loop, &getaddrinfo_spec, out, MOST_ARGS);
}

static const char *const name_names[] = {"sockaddr", "flags", NULL};
static const corolla_signature name_sig = {"getnameinfo", name_names, 1, 2, NULL};

PyDoc_STRVAR(getnameinfo_doc, "getnameinfo($self, sockaddr, flags=0)\n--\n\n"
                              "socket.getnameinfo(), without blocking the loop.");

static PyObject *
loop_getnameinfo_method(PyObject *loop, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *out[2];
    if (corolla_unpack(&name_sig, args, nargs, kwnames, out) < 0) {
        return NULL;
    }
    return name_coroutine(loop, &getnameinfo_spec, out, 2);
}

PyMethodDef corolla_loop_name_methods[] = {
    {"getaddrinfo", (PyCFunction)(void (*)(void))loop_getaddrinfo_method, METH_FASTCALL | METH_KEYWORDS,
     getaddrinfo_doc},
    {"getnameinfo", (PyCFunction)(void (*)(void))loop_getnameinfo_method, METH_FASTCALL | METH_KEYWORDS,
     getnameinfo_doc},
    {NULL, NULL, 0, NULL},
};

/* ---- For connect.c and serve.c ---------------------------------------------------------------------- */

PyObject *
loop_getaddrinfo(PyObject *loop, PyObject *host, PyObject *port, int family, int type, int proto, int flags)
{
    corolla_state *state = loop_core(loop)->state;
    const int numbers[4] = {family, type, proto, flags};
    PyObject *stack[8] = {NULL, loop, host, port};
    PyObject *awaitable = NULL;
    PyObject *names = PyTuple_Pack(4, state->s.family, state->s.type, state->s.proto, state->s.flags);
    if (names == NULL) {
        return NULL;
    }
    int made = 0;
    while (made < 4 && (stack[4 + made] = PyLong_FromLong(numbers[made])) != NULL) {
        made++;
    }
    if (made == 4) {
        awaitable =
            PyObject_VectorcallMethod(state->s.getaddrinfo, stack + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    }
    while (made > 0) {
        Py_DECREF(stack[4 + --made]);
    }
    Py_DECREF(names);
    return awaitable;
}

/* The port as a number. 1; 0 when it has to be looked up; -1. */
static int
port_number(PyObject *port, PyObject **number)
{
    if (port == Py_None || (PyUnicode_Check(port) && PyUnicode_GET_LENGTH(port) == 0) ||
        (PyBytes_Check(port) && PyBytes_GET_SIZE(port) == 0)) {
        *number = PyLong_FromLong(0);
    }
    else {
        *number = PyNumber_Long(port);
        if (*number == NULL && (PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError))) {
            PyErr_Clear();
            return 0;
        }
    }
    return *number == NULL ? -1 : 1;
}

/* The family of an address literal, among those allowed; 0 when it is none. */
static int
literal_family(const char *text, int family)
{
    unsigned char room[sizeof(struct in6_addr)];
    if ((family == AF_UNSPEC || family == AF_INET) && inet_pton(AF_INET, text, room) == 1) {
        return AF_INET;
    }
    if ((family == AF_UNSPEC || family == AF_INET6) && inet_pton(AF_INET6, text, room) == 1) {
        return AF_INET6;
    }
    return 0;
}

PyObject *
loop_ipaddr_info(PyObject *host, PyObject *port, int family, int type, int proto, long flowinfo, long scope_id)
{
    if ((proto != 0 && proto != IPPROTO_TCP && proto != IPPROTO_UDP) || (type != SOCK_STREAM && type != SOCK_DGRAM)) {
        Py_RETURN_NONE;
    }
    proto = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    PyObject *text = NULL, *number = NULL, *info = NULL;
    if (PyUnicode_Check(host)) {
        text = Py_NewRef(host);
    }
    else if (PyBytes_Check(host)) {
        text = PyUnicode_FromEncodedObject(host, "idna", NULL);
        if (text == NULL) {
            return NULL;
        }
    }
    /* A zone (fe80::1%eth0) is for the resolver, which knows its number. */
    if (text == NULL || !PyUnicode_IS_ASCII(text)) {
        info = Py_NewRef(Py_None);
        goto done;
    }
    const char *literal = (const char *)PyUnicode_DATA(text);
    int found = strlen(literal) == (size_t)PyUnicode_GET_LENGTH(text) ? literal_family(literal, family) : 0;
    int numeric = found == 0 ? 0 : port_number(port, &number);
    if (numeric == 0) {
        info = Py_NewRef(Py_None);
    }
    else if (numeric > 0 && found == AF_INET6) {
        info = Py_BuildValue("iiis(OOll)", found, type, proto, "", text, number, flowinfo, scope_id);
    }
    else if (numeric > 0) {
        info = Py_BuildValue("iiis(OO)", found, type, proto, "", text, number);
    }
done:
    Py_XDECREF(text);
    Py_XDECREF(number);
    return info;
}
