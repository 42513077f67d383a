/* What the methods that make connections and servers have in common. */
#include "endpoint.h"

#include <errno.h>

int
endpoint_refuse_ssl_socket(PyObject *sock)
{
    /* Whoever has one has imported the module. */
    PyObject *name = PyUnicode_FromString("ssl");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (module == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *type = PyObject_GetAttrString(module, "SSLSocket");
    Py_DECREF(module);
    if (type == NULL) {
        return -1;
    }
    int rc = PyObject_IsInstance(sock, type);
    Py_DECREF(type);
    if (rc > 0) {
        PyErr_SetString(PyExc_TypeError, "Socket cannot be of type SSLSocket");
    }
    return rc == 0 ? 0 : -1;
}

/* 1 if the attribute is that number, 0 if not, -1 with an exception. */
static int
attribute_is(PyObject *sock, const char *name, long number)
{
    PyObject *value = PyObject_GetAttrString(sock, name);
    if (value == NULL) {
        return -1;
    }
    long found = PyLong_AsLong(value);
    Py_DECREF(value);
    return found == -1 && PyErr_Occurred() ? -1 : found == number;
}

int
endpoint_check_stream(PyObject *sock)
{
    int stream = attribute_is(sock, "type", SOCK_STREAM);
    if (stream == 0) {
        PyErr_Format(PyExc_ValueError, "A Stream Socket was expected, got %R", sock);
    }
    return stream > 0 ? 0 : -1;
}

int
endpoint_check_unix_stream(PyObject *sock)
{
    int fits = attribute_is(sock, "family", AF_UNIX);
    if (fits > 0) {
        fits = attribute_is(sock, "type", SOCK_STREAM);
    }
    if (fits == 0) {
        PyErr_Format(PyExc_ValueError, "A UNIX Domain Stream Socket was expected, got %R", sock);
    }
    return fits > 0 ? 0 : -1;
}

int
endpoint_set_nonblocking(PyObject *sock)
{
    PyObject *done = PyObject_CallMethod(sock, "setblocking", "O", Py_False);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
endpoint_parse_int(PyObject *value, int otherwise, int *out)
{
    if (value == NULL) {
        *out = otherwise;
        return 0;
    }
    long number = PyLong_AsLong(value);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "Python int too large to convert to C int");
        return -1;
    }
    *out = (int)number;
    return 0;
}

int
endpoint_parse_bool(PyObject *value, bool otherwise, bool *out)
{
    int truth = value == NULL ? otherwise : PyObject_IsTrue(value);
    *out = truth > 0;
    return truth < 0 ? -1 : 0;
}

int
endpoint_check_ssl_options(PyObject *ssl, PyObject *server_hostname, PyObject *handshake_timeout,
                           PyObject *shutdown_timeout)
{
    int wanted = ssl == NULL ? 0 : PyObject_IsTrue(ssl);
    if (wanted != 0) {
        return wanted;
    }
    const char *misplaced = server_hostname != NULL     ? "server_hostname"
                            : handshake_timeout != NULL ? "ssl_handshake_timeout"
                            : shutdown_timeout != NULL  ? "ssl_shutdown_timeout"
                                                        : NULL;
    if (misplaced != NULL) {
        PyErr_Format(PyExc_ValueError, "%s is only meaningful with ssl", misplaced);
        return -1;
    }
    return 0;
}

int
endpoint_tls_parse(endpoint_tls *tls, PyObject *loop, PyObject *ssl, bool server_side, PyObject *server_hostname,
                   PyObject *handshake_timeout, PyObject *shutdown_timeout)
{
    /* An empty name asks for no check of the name. */
    int named = server_hostname == NULL ? 0 : PyObject_IsTrue(server_hostname);
    if (named < 0) {
        return -1;
    }
    return corolla_tls_parse(loop_core(loop)->state, ssl, server_side, named ? server_hostname : NULL,
                             handshake_timeout, shutdown_timeout, &tls->options, &tls->context);
}

int
endpoint_tls_serve(const endpoint_tls *tls, PyObject *server)
{
    return tls->context == NULL ? 0 : corolla_server_set_tls(server, &tls->options);
}

static int
parse_more(PyObject *more, Py_ssize_t i, long *out)
{
    *out = 0;
    if (more == NULL || i >= PyTuple_GET_SIZE(more)) {
        return 0;
    }
    *out = PyLong_AsLong(PyTuple_GET_ITEM(more, i));
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

int
endpoint_resolve(PyObject *loop, PyObject *host, PyObject *port, PyObject *more, int family, int proto, int flags,
                 PyObject **found)
{
    long flowinfo, scope;
    if (parse_more(more, 0, &flowinfo) < 0 || parse_more(more, 1, &scope) < 0) {
        return -1;
    }
    PyObject *info = loop_ipaddr_info(host, port, family, SOCK_STREAM, proto, flowinfo, scope);
    if (info == NULL) {
        return -1;
    }
    if (info == Py_None) {
        Py_DECREF(info);
        *found = loop_getaddrinfo(loop, host, port, family, SOCK_STREAM, proto, flags);
        return *found == NULL ? -1 : 0;
    }
    *found = PyList_New(1);
    if (*found == NULL) {
        Py_DECREF(info);
        return -1;
    }
    PyList_SET_ITEM(*found, 0, info);
    return 1;
}

/* ---- From a connection to a transport -------------------------------------------------------- */

int
endpoint_take_socket(PyObject *loop, PyObject *sock)
{
    if (endpoint_set_nonblocking(sock) < 0) {
        return -1;
    }
    int fd = loop_fileno(sock);
    if (fd < 0 || loop_check_no_transport((LoopObject *)loop, fd, sock) < 0) {
        return -1;
    }
    return fd;
}

/* Makes link->tls, which is to be the protocol of the socket's transport, and link->transport. 0 or -1. */
static int
make_tls(endpoint_link *link, corolla_core *core, const endpoint_tls *tls, PyObject *context)
{
    corolla_tls_options options = tls->options;
    options.call_made = true;
    options.protocol = link->protocol;
    options.context = context;
    options.waiter = link->waiter;
    link->tls = corolla_tls_new(core, &options);
    if (link->tls == NULL) {
        return -1;
    }
    link->transport = Py_NewRef(corolla_tls_transport(link->tls));
    return 0;
}

int
endpoint_link_make(endpoint_link *link, PyObject *loop, PyObject *factory, PyObject *sock, int fd,
                   const endpoint_tls *tls)
{
    corolla_core *core = loop_core(loop);
    PyObject *context = NULL;
    link->protocol = PyObject_CallNoArgs(factory);
    if (link->protocol != NULL && (link->waiter = corolla_future_new(core)) != NULL) {
        context = PyContext_CopyCurrent();
    }
    if (context == NULL) {
        return -1;
    }
    bool secured = tls->context != NULL;
    PyObject *transport = NULL;
    if (!secured || make_tls(link, core, tls, context) == 0) {
        corolla_tcp_options options = {
            .fd = fd,
            .sock = sock,
            .protocol = secured ? link->tls : link->protocol,
            .context = context,
            .waiter = secured ? NULL : link->waiter, /* TLS tells it when the handshake is over */
        };
        transport = corolla_tcp_new(core, &options);
    }
    Py_DECREF(context);
    if (transport == NULL) {
        if (link->tls != NULL) {
            corolla_tls_discard(link->tls);
        }
        return -1;
    }
    if (secured) {
        Py_DECREF(transport); /* the loop holds it, and TLS will */
    }
    else {
        link->transport = transport;
    }
    return 0;
}

int
endpoint_link_traverse(endpoint_link *link, visitproc visit, void *arg)
{
    Py_VISIT(link->protocol);
    Py_VISIT(link->transport);
    Py_VISIT(link->tls);
    Py_VISIT(link->waiter);
    return 0;
}

void
endpoint_link_clear(endpoint_link *link)
{
    Py_CLEAR(link->protocol);
    Py_CLEAR(link->transport);
    Py_CLEAR(link->tls);
    Py_CLEAR(link->waiter);
}

corolla_step
endpoint_link_return(corolla_coro *co, endpoint_link *link, PyObject *value)
{
    if (value == NULL) {
        if (link->tls != NULL) {
            corolla_tls_discard(link->tls);
        }
        else {
            corolla_tcp_discard(link->transport);
        }
        return COROLLA_RAISE;
    }
    return corolla_return(co, PyTuple_Pack(2, link->transport, link->protocol));
}

void
endpoint_log(corolla_core *core, const char *level, const char *message_format, PyObject *args)
{
    PyObject *done = NULL;
    PyObject *method = args == NULL ? NULL : PyObject_GetAttrString(core->state->logger, level);
    if (method != NULL) {
        PyObject *format = Py_BuildValue("(s)", message_format);
        PyObject *all = format == NULL ? NULL : PySequence_Concat(format, args);
        done = all == NULL ? NULL : PyObject_CallObject(method, all);
        Py_XDECREF(format);
        Py_XDECREF(all);
        Py_DECREF(method);
    }
    if (done == NULL) {
        PyErr_WriteUnraisable(core->loop);
    }
    Py_XDECREF(done);
    Py_XDECREF(args);
}
