/* StreamWriter.start_tls(), Stream.start_tls(), and what a reader holds when TLS begins. */
#include "stream.h"

/* ---- What was read in clear text ------------------------------------------------------------ */

/* Takes what a reader, ours or asyncio's, holds unread: a new reference in *unread, or NULL for nothing. 0 or -1. */
static int
take_unread(corolla_state *state, PyObject *reader, PyObject **unread)
{
    if (PyObject_TypeCheck(reader, state->stream_reader_type)) {
        corolla_buffer *buffer = &((StreamReader *)reader)->buffer;
        if (buffer_len(buffer) > 0) {
            *unread = buffer_take(buffer, buffer_len(buffer));
        }
        return buffer_len(buffer) > 0 ? -1 : 0;
    }
    PyObject *buffer = NULL;
    if (PyObject_GetOptionalAttr(reader, state->s._buffer, &buffer) < 0) {
        return -1;
    }
    int rc = 0;
    if (buffer != NULL && PyByteArray_Check(buffer) && PyByteArray_GET_SIZE(buffer) > 0) {
        *unread = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer));
        rc = *unread == NULL ? -1 : PyByteArray_Resize(buffer, 0);
        if (rc < 0) {
            Py_CLEAR(*unread);
        }
    }
    Py_XDECREF(buffer);
    return rc;
}

/* The reader of a protocol, ours or asyncio's. 1 with a new reference, 0 or -1. */
static int
reader_of(corolla_state *state, PyObject *protocol, PyObject **reader)
{
    *reader = NULL;
    if (PyObject_TypeCheck(protocol, state->stream_protocol_type)) {
        *reader = protocol_reader((StreamProtocol *)protocol);
    }
    else if (PyObject_GetOptionalAttr(protocol, state->s._stream_reader, reader) < 0) {
        return -1;
    }
    if (*reader == Py_None) {
        Py_CLEAR(*reader);
    }
    return *reader != NULL;
}

int
stream_hand_over(corolla_state *state, PyObject *protocol, PyObject *transport, PyObject **unread)
{
    PyObject *reader;
    *unread = NULL;
    int rc = reader_of(state, protocol, &reader);
    if (rc <= 0) {
        return rc;
    }
    rc = take_unread(state, reader, unread);
    if (rc == 0 && *unread != NULL && PyObject_TypeCheck(reader, state->stream_reader_type)) {
        /* Who waits for a line has looked through what was taken, and is to begin anew with what follows. */
        rc = reader_wake((StreamReader *)reader);
        if (rc < 0) {
            Py_CLEAR(*unread);
        }
    }
    if (rc == 0 && PyObject_TypeCheck(reader, state->stream_reader_type) &&
        ((StreamReader *)reader)->transport != NULL) {
        /* From the first decrypted byte on, too much of them pauses TLS, which then is what has to go on. */
        ((StreamReader *)reader)->paused = false;
        Py_SETREF(((StreamReader *)reader)->transport, Py_NewRef(transport));
    }
    if (rc == 0 && PyObject_TypeCheck(protocol, state->stream_protocol_type)) {
        ((StreamProtocol *)protocol)->over_tls = true; /* the end may come with the peer's last flight */
    }
    Py_DECREF(reader);
    return rc;
}

/* ---- start_tls() ------------------------------------------------------------------------------- */

enum { CONTEXT, SERVER_HOSTNAME, HANDSHAKE_TIMEOUT, SHUTDOWN_TIMEOUT, OPTIONS };

static const char *const names[OPTIONS + 1] = {"sslcontext", "server_hostname", "ssl_handshake_timeout",
                                               "ssl_shutdown_timeout", NULL};

typedef struct {
    StreamWriter *writer;       /* owned */
    PyObject *waiter;           /* owned: what is awaited */
    PyObject *options[OPTIONS]; /* owned, or NULL */
    bool server_side;
    bool writing; /* it is a Stream, whose flag is ours */
} TlsState;

static int
tls_traverse(void *data, visitproc visit, void *arg)
{
    TlsState *st = data;
    Py_VISIT(st->writer);
    Py_VISIT(st->waiter);
    for (int i = 0; i < OPTIONS; i++) {
        Py_VISIT(st->options[i]);
    }
    return 0;
}

static void
tls_clear(void *data)
{
    TlsState *st = data;
    if (st->writing) {
        st->writing = false;
        ((Stream *)st->writer)->writing = false;
    }
    Py_CLEAR(st->writer);
    Py_CLEAR(st->waiter);
    for (int i = 0; i < OPTIONS; i++) {
        Py_CLEAR(st->options[i]);
    }
}

static int
is_server_side(StreamWriter *writer)
{
    if (Py_IS_TYPE((PyObject *)writer, writer->state->stream_type)) {
        return ((Stream *)writer)->server_side;
    }
    if (protocol_is_plain(writer->state, writer->protocol)) {
        return ((StreamProtocol *)writer->protocol)->connected_cb != NULL;
    }
    PyObject *callback = PyObject_GetAttr(writer->protocol, writer->state->s._client_connected_cb);
    int server_side = callback == NULL ? -1 : callback != Py_None;
    Py_XDECREF(callback);
    return server_side;
}

/* A Stream is nobody else's meanwhile. 0 or -1. */
static int
claim_stream(TlsState *st)
{
    Stream *stream = (Stream *)st->writer;
    if (stream_check(stream, STREAM_READ) < 0) {
        return -1;
    }
    if (stream_reader(stream)->waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "start_tls() called while another coroutine is already waiting for incoming data");
        return -1;
    }
    if (stream_begin_writing(stream, "start_tls") < 0) {
        return -1;
    }
    st->writing = true;
    return 0;
}

/* What was written has to be on its way first: st->waiter is the coroutine. 0 or -1. */
static int
begin(TlsState *st)
{
    StreamWriter *writer = st->writer;
    if (writer_check(writer) < 0) {
        return -1;
    }
    bool is_stream = Py_IS_TYPE((PyObject *)writer, writer->state->stream_type);
    int server_side = is_stream && claim_stream(st) < 0 ? -1 : is_server_side(writer);
    if (server_side < 0) {
        return -1;
    }
    st->server_side = server_side;
    st->waiter =
        is_stream ? writer_drain((PyObject *)writer, NULL) : PyObject_CallMethod((PyObject *)writer, "drain", NULL);
    return st->waiter == NULL ? -1 : 0;
}

/* Our loop gives the handshake what is unread. Another one would leave it where the application takes it for a part of the
 * session, with whatever an attacker has put there. 0 or -1. */
static int
check_unread(StreamWriter *writer)
{
    corolla_state *state = writer->state;
    PyObject *reader = writer->reader;
    if (corolla_core_of(state, writer->loop) != NULL || reader == NULL ||
        !PyObject_TypeCheck(reader, state->stream_reader_type)) {
        return 0;
    }
    size_t unread = buffer_len(&((StreamReader *)reader)->buffer);
    if (unread > 0) {
        PyErr_Format(PyExc_RuntimeError, "start_tls() called with %zu bytes unread, which this loop cannot give to TLS",
                     unread);
    }
    return unread > 0 ? -1 : 0;
}

/* loop.start_tls(transport, protocol, sslcontext, ...): the coroutine, in st->waiter. 0 or -1. */
static int
call_start_tls(TlsState *st)
{
    StreamWriter *writer = st->writer;
    PyObject *args = NULL, *kwargs = NULL, *coro = NULL;
    if (writer_check(writer) < 0 || check_unread(writer) < 0) {
        return -1;
    }
    PyObject *method = PyObject_GetAttr(writer->loop, writer->state->s.start_tls);
    args = method == NULL ? NULL : PyTuple_Pack(3, writer->transport, writer->protocol, st->options[CONTEXT]);
    kwargs = args == NULL ? NULL : Py_BuildValue("{s:O}", "server_side", st->server_side ? Py_True : Py_False);
    if (kwargs == NULL) {
        goto fail;
    }
    for (int i = CONTEXT + 1; i < OPTIONS; i++) {
        PyObject *option = st->options[i] != NULL ? st->options[i] : Py_None;
        if (PyDict_SetItemString(kwargs, names[i], option) < 0) {
            goto fail;
        }
    }
    coro = PyObject_Call(method, args, kwargs);
    Py_XSETREF(st->waiter, coro);
fail:
    Py_XDECREF(method);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return coro == NULL ? -1 : 0;
}

/* The connection goes on over that transport. 0 or -1. */
static int
replace_transport(StreamWriter *writer, PyObject *transport)
{
    if (writer_check(writer) < 0) {
        return -1;
    }
    Py_XSETREF(writer->transport, Py_NewRef(transport));
    PyObject *protocol = Py_NewRef(writer->protocol);
    PyObject *method = NULL, *done = NULL;
    int found = PyObject_GetOptionalAttr(protocol, writer->state->s._replace_transport, &method);
    if (found > 0) {
        done = PyObject_CallOneArg(method, transport);
    }
    else if (found == 0) {
        done = PyObject_CallMethod(protocol, "_replace_writer", "O", writer); /* asyncio's, up to 3.12 */
    }
    Py_XDECREF(method);
    Py_XDECREF(done);
    Py_DECREF(protocol);
    return done == NULL ? -1 : 0;
}

static corolla_step
start_tls_step(corolla_coro *co, PyObject *value)
{
    TlsState *st = corolla_coro_state(co);

    COROLLA_BEGIN(co);

    if (begin(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL || call_start_tls(st) < 0) {
        return COROLLA_RAISE;
    }
    COROLLA_AWAIT(co, st->waiter);
    if (value == NULL || replace_transport(st->writer, value) < 0) {
        return COROLLA_RAISE;
    }
    return corolla_return(co, Py_NewRef(Py_None));

    COROLLA_END(co);
}

#define START_TLS_SPEC(name_, qualname_)     \
    static const corolla_coro_spec name_ = { \
        .name = "start_tls",                 \
        .qualname = qualname_,               \
        .size = sizeof(TlsState),            \
        .step = start_tls_step,              \
        .traverse = tls_traverse,            \
        .clear = tls_clear,                  \
    }

START_TLS_SPEC(writer_spec, "StreamWriter.start_tls");
START_TLS_SPEC(stream_spec, "Stream.start_tls");

static PyObject *
start_tls(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const corolla_signature sig = {"start_tls", names, 1, 1, NULL};
    corolla_state *state = ((StreamWriter *)self)->state;
    PyObject *given[OPTIONS];
    if (corolla_unpack(&sig, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    corolla_coro *co = corolla_coro_new(state, Py_IS_TYPE(self, state->stream_type) ? &stream_spec : &writer_spec);
    if (co != NULL) {
        TlsState *st = corolla_coro_state(co);
        st->writer = (StreamWriter *)Py_NewRef(self);
        for (int i = 0; i < OPTIONS; i++) {
            st->options[i] = Py_XNewRef(given[i]);
        }
    }
    return (PyObject *)co;
}

PyDoc_STRVAR(writer_doc,
             "start_tls($self, /, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None,\n"
             "          ssl_shutdown_timeout=None)\n--\n\n"
             "Coroutine: send what was written, then go on over TLS.\n\n"
             "sslcontext: an ssl.SSLContext. server_hostname: str, the name that a server's certificate must hold.\n"
             "ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 unless given. What the reader holds\n"
             "unread goes to the handshake: nothing that came in clear text is read afterwards. The connection is\n"
             "closed if the handshake fails or is cancelled. Raises what drain() and loop.start_tls() do. Specified\n"
             "by asyncio.StreamWriter.start_tls().");
PyDoc_STRVAR(stream_doc,
             "start_tls($self, /, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None,\n"
             "          ssl_shutdown_timeout=None)\n--\n\n"
             "Coroutine: send what was written, then go on over TLS.\n\n"
             "sslcontext: an ssl.SSLContext. server_hostname: str, the name that a server's certificate must hold.\n"
             "ssl_handshake_timeout, ssl_shutdown_timeout: seconds, 60 and 30 unless given. What is unread goes to\n"
             "the handshake: nothing that came in clear text is read afterwards. The connection is closed if the\n"
             "handshake fails or is cancelled. Raises what write() and loop.start_tls() do, and RuntimeError while\n"
             "another coroutine reads or writes.");

PyMethodDef writer_tls_methods[] = {
    {"start_tls", (PyCFunction)(void (*)(void))start_tls, METH_FASTCALL | METH_KEYWORDS, writer_doc},
    {NULL, NULL, 0, NULL},
};

PyMethodDef stream_tls_methods[] = {
    {"start_tls", (PyCFunction)(void (*)(void))start_tls, METH_FASTCALL | METH_KEYWORDS, stream_doc},
    {NULL, NULL, 0, NULL},
};
