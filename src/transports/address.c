/* Socket addresses between C and Python, as the socket module shows them. No names are looked up here. */
#include "transports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

/* ---- From C ------------------------------------------------------------------------------ */

/* As inet_ntop(), which is printf() inside. */
static size_t
format_inet(struct in_addr addr, char *text)
{
    uint32_t number = ntohl(addr.s_addr);
    char *end = text;
    for (int shift = 24; shift >= 0; shift -= 8) {
        unsigned byte = number >> shift & 0xff;
        if (byte >= 100) {
            *end++ = (char)('0' + byte / 100);
        }
        if (byte >= 10) {
            *end++ = (char)('0' + byte / 10 % 10);
        }
        *end++ = (char)('0' + byte % 10);
        *end++ = '.';
    }
    return (size_t)(end - text) - 1;
}

static PyObject *
inet_to_python(const struct sockaddr_in *addr)
{
    char text[INET_ADDRSTRLEN];
    PyObject *host = PyUnicode_FromStringAndSize(text, (Py_ssize_t)format_inet(addr->sin_addr, text));
    PyObject *port = host == NULL ? NULL : PyLong_FromLong(ntohs(addr->sin_port));
    PyObject *tuple = port == NULL ? NULL : PyTuple_Pack(2, host, port);
    Py_XDECREF(host);
    Py_XDECREF(port);
    return tuple;
}

static PyObject *
inet6_to_python(const struct sockaddr_in6 *addr)
{
    char host[INET6_ADDRSTRLEN];
    if (inet_ntop(AF_INET6, &addr->sin6_addr, host, sizeof host) == NULL) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("siII", host, (int)ntohs(addr->sin6_port), (unsigned int)ntohl(addr->sin6_flowinfo),
                         (unsigned int)addr->sin6_scope_id);
}

static PyObject *
unix_to_python(const struct sockaddr_un *addr, socklen_t len)
{
    const size_t start = offsetof(struct sockaddr_un, sun_path);
    if (len > start && addr->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(addr->sun_path, (Py_ssize_t)(len - start)); /* abstract: NULs belong to it */
    }
    size_t room = len > start ? len - start : 0;
    return PyUnicode_DecodeFSDefaultAndSize(addr->sun_path, (Py_ssize_t)strnlen(addr->sun_path, room));
}

PyObject *
corolla_address_to_python(const struct sockaddr *addr, socklen_t len)
{
    if (len < sizeof(sa_family_t)) {
        Py_RETURN_NONE; /* the kernel had none to give */
    }
    switch (addr->sa_family) {
    case AF_INET:
        return inet_to_python((const struct sockaddr_in *)(const void *)addr);
    case AF_INET6:
        return inet6_to_python((const struct sockaddr_in6 *)(const void *)addr);
    case AF_UNIX:
        return unix_to_python((const struct sockaddr_un *)(const void *)addr, len);
    default:
        return Py_BuildValue("iy#", (int)addr->sa_family, addr->sa_data, (Py_ssize_t)(len - sizeof(sa_family_t)));
    }
}

/* ---- From Python ------------------------------------------------------------------------- */

/* The host as the resolver would get it: a new reference to bytes, IDNA for what is not ASCII. */
static PyObject *
host_bytes(PyObject *host)
{
    PyObject *bytes;
    if (PyUnicode_Check(host)) {
        bytes =
            PyUnicode_IS_ASCII(host) ? PyUnicode_AsASCIIString(host) : PyUnicode_AsEncodedString(host, "idna", NULL);
    }
    else if (PyBytes_Check(host) || PyByteArray_Check(host)) {
        bytes = PyBytes_FromObject(host);
    }
    else {
        PyErr_Format(PyExc_TypeError, "str, bytes or bytearray expected, not %.100s", Py_TYPE(host)->tp_name);
        return NULL;
    }
    if (bytes != NULL && strlen(PyBytes_AS_STRING(bytes)) != (size_t)PyBytes_GET_SIZE(bytes)) {
        PyErr_SetString(PyExc_TypeError, "host name must not contain null character");
        Py_CLEAR(bytes);
    }
    return bytes;
}

static void
raise_unresolved(int error)
{
    PyObject *gaierror = PyImport_ImportModuleAttrString("socket", "gaierror");
    if (gaierror == NULL) {
        return;
    }
    PyObject *args = Py_BuildValue("is", error, gai_strerror(error));
    if (args != NULL) {
        PyErr_SetObject(gaierror, args);
        Py_DECREF(args);
    }
    Py_DECREF(gaierror);
}

/* Where the bytes of an address of a family stand. */
static void *
host_room(int family, struct sockaddr_storage *out)
{
    return family == AF_INET ? (void *)&((struct sockaddr_in *)(void *)out)->sin_addr
                             : (void *)&((struct sockaddr_in6 *)(void *)out)->sin6_addr;
}

/* A numeric host into out, its port left 0. getaddrinfo() because it knows zones (fe80::1%eth0), and short forms. */
static int
parse_host(PyObject *host, int family, struct sockaddr_storage *out)
{
    PyObject *bytes = host_bytes(host);
    if (bytes == NULL) {
        return -1;
    }
    const char *text = PyBytes_AS_STRING(bytes);
    memset(out, 0, sizeof *out);
    out->ss_family = (sa_family_t)family;
    int rc = 0;
    if (text[0] == '\0') {
        /* the wildcard, which is all zeros in both families */
    }
    else if (family == AF_INET && strcmp(text, "<broadcast>") == 0) {
        ((struct sockaddr_in *)(void *)out)->sin_addr.s_addr = htonl(INADDR_BROADCAST);
    }
    else if (inet_pton(family, text, host_room(family, out)) != 1) {
        struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
        struct addrinfo *found = NULL;
        int error = getaddrinfo(text, NULL, &hints, &found);
        if (error == 0) {
            memcpy(out, found->ai_addr, found->ai_addrlen);
            freeaddrinfo(found);
        }
        else {
            raise_unresolved(error);
            rc = -1;
        }
    }
    Py_DECREF(bytes);
    return rc;
}

static int
parse_port(PyObject *port, in_port_t *out)
{
    int overflow;
    long value = PyLong_AsLongAndOverflow(port, &overflow);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow || value < 0 || value > 0xffff) {
        PyErr_SetString(PyExc_OverflowError, "port must be 0-65535.");
        return -1;
    }
    *out = htons((uint16_t)value);
    return 0;
}

static int
check_tuple(PyObject *address, const char *family, Py_ssize_t most)
{
    if (!PyTuple_Check(address)) {
        PyErr_Format(PyExc_TypeError, "%s address must be tuple, not %.500s", family, Py_TYPE(address)->tp_name);
        return -1;
    }
    if (PyTuple_GET_SIZE(address) < 2 || PyTuple_GET_SIZE(address) > most) {
        PyErr_Format(PyExc_TypeError, "%s address must be a tuple of host and port%s", family,
                     most > 2 ? " (and flowinfo, scopeid)" : "");
        return -1;
    }
    return 0;
}

static int
inet_from_python(PyObject *address, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_in *addr = (struct sockaddr_in *)(void *)out;
    in_port_t port;
    if (check_tuple(address, "AF_INET", 2) < 0 || parse_port(PyTuple_GET_ITEM(address, 1), &port) < 0 ||
        parse_host(PyTuple_GET_ITEM(address, 0), AF_INET, out) < 0) {
        return -1;
    }
    addr->sin_port = port;
    *len = sizeof *addr;
    return 0;
}

static int
parse_u32(PyObject *value, uint32_t max, const char *what, uint32_t *out)
{
    unsigned long number = PyLong_AsUnsignedLong(value);
    if (number == (unsigned long)-1 && PyErr_Occurred()) {
        return -1;
    }
    if (number > max) {
        PyErr_Format(PyExc_OverflowError, "%s must be 0-%lu.", what, (unsigned long)max);
        return -1;
    }
    *out = (uint32_t)number;
    return 0;
}

static int
inet6_from_python(PyObject *address, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_in6 *addr = (struct sockaddr_in6 *)(void *)out;
    in_port_t port;
    uint32_t flowinfo = 0, scope = 0;
    if (check_tuple(address, "AF_INET6", 4) < 0 || parse_port(PyTuple_GET_ITEM(address, 1), &port) < 0) {
        return -1;
    }
    Py_ssize_t size = PyTuple_GET_SIZE(address);
    if ((size > 2 && parse_u32(PyTuple_GET_ITEM(address, 2), 0xfffff, "flowinfo", &flowinfo) < 0) ||
        (size > 3 && parse_u32(PyTuple_GET_ITEM(address, 3), UINT32_MAX, "scopeid", &scope) < 0) ||
        parse_host(PyTuple_GET_ITEM(address, 0), AF_INET6, out) < 0) {
        return -1;
    }
    addr->sin6_port = port;
    addr->sin6_flowinfo = htonl(flowinfo);
    if (size > 3 && scope != 0) {
        addr->sin6_scope_id = scope; /* else the zone in the host, if it had one, stands */
    }
    *len = sizeof *addr;
    return 0;
}

static int
unix_from_python(PyObject *address, struct sockaddr_storage *out, socklen_t *len)
{
    struct sockaddr_un *addr = (struct sockaddr_un *)(void *)out;
    PyObject *path = NULL;
    if (PyUnicode_Check(address)) {
        path = PyUnicode_EncodeFSDefault(address);
    }
    else if (PyObject_CheckBuffer(address)) {
        path = PyBytes_FromObject(address);
    }
    else {
        PyObject *name = PyOS_FSPath(address);
        if (name != NULL) {
            path = PyUnicode_Check(name) ? PyUnicode_EncodeFSDefault(name) : Py_NewRef(name);
            Py_DECREF(name);
        }
    }
    if (path == NULL) {
        return -1;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(path);
    const char *text = PyBytes_AS_STRING(path);
    bool abstract = size == 0 || text[0] == '\0'; /* no bytes at all: the kernel's to choose or to refuse */
    int rc = -1;
    if (size + (abstract ? 0 : 1) > sizeof addr->sun_path) {
        PyErr_SetString(PyExc_OSError, "AF_UNIX path too long");
    }
    else {
        memset(out, 0, sizeof *out);
        addr->sun_family = AF_UNIX;
        memcpy(addr->sun_path, text, size);
        *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + (abstract ? 0 : 1));
        rc = 0;
    }
    Py_DECREF(path);
    return rc;
}

int
corolla_address_from_python(PyObject *address, int family, struct sockaddr_storage *out, socklen_t *len)
{
    switch (family) {
    case AF_INET:
        return inet_from_python(address, out, len);
    case AF_INET6:
        return inet6_from_python(address, out, len);
    case AF_UNIX:
        return unix_from_python(address, out, len);
    default:
        PyErr_Format(PyExc_OSError, "bad family %d", family);
        return -1;
    }
}

/* ---- Names ----------------------------------------------------------------------------------- */

/* (host, port ...) with what a look-up found for host, and its scope where none is given. New reference or NULL. */
static PyObject *
with_host(PyObject *address, PyObject *found)
{
    Py_ssize_t size = PyTuple_GET_SIZE(address);
    PyObject *host = PySequence_GetItem(found, 0), *result = NULL;
    if (host == NULL) {
        return NULL;
    }
    if (PySequence_Size(found) == 4 && size < 4) {
        PyObject *scope = PySequence_GetItem(found, 3);
        PyObject *flowinfo = size > 2 ? Py_NewRef(PyTuple_GET_ITEM(address, 2)) : PyLong_FromLong(0);
        if (scope != NULL && flowinfo != NULL) {
            result = PyTuple_Pack(4, host, PyTuple_GET_ITEM(address, 1), flowinfo, scope);
        }
        Py_XDECREF(scope);
        Py_XDECREF(flowinfo);
    }
    else {
        PyObject *first = PyTuple_Pack(1, host), *rest = PyTuple_GetSlice(address, 1, size);
        result = first == NULL || rest == NULL ? NULL : PySequence_Concat(first, rest);
        Py_XDECREF(first);
        Py_XDECREF(rest);
    }
    Py_DECREF(host);
    return result;
}

int
corolla_address_resolve(corolla_state *state, PyObject *address, int family, struct sockaddr_storage *out,
                        socklen_t *len)
{
    /* Who gets here has a tuple: only a host can fail to be numeric. */
    PyObject *info = NULL, *found = NULL, *numeric = NULL;
    int rc = -1;
    PyObject *infos = PyObject_CallFunction(state->socket_getaddrinfo, "OOii", PyTuple_GET_ITEM(address, 0), Py_None,
                                            family, (int)SOCK_DGRAM);
    if (infos != NULL && (info = PySequence_GetItem(infos, 0)) != NULL &&
        (found = PySequence_GetItem(info, 4)) != NULL && (numeric = with_host(address, found)) != NULL) {
        rc = corolla_address_from_python(numeric, family, out, len);
    }
    Py_XDECREF(infos);
    Py_XDECREF(info);
    Py_XDECREF(found);
    Py_XDECREF(numeric);
    return rc;
}
