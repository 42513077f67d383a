/* What every transport does: calling its protocol, reporting, landing what is read, limits. */
#include "shared.h"

#include <errno.h>

/* ---- Calling the protocol ------------------------------------------------------------------ */

void
transport_report_slow(corolla_core *core, PyObject *protocol, PyObject *name, PyObject *owner, int64_t took)
{
    /* What a process's pipe calls has been reported by itself. */
    if (!corolla_core_is_slow(core, took) || Py_IS_TYPE(protocol, core->state->process_pipe_type)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *method = name == NULL ? Py_NewRef(protocol) : PyObject_GetAttr(protocol, name);
    if (method == NULL || corolla_core_report_slow_call(core, method, owner, took) < 0) {
        PyErr_WriteUnraisable(owner);
    }
    Py_XDECREF(method);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static PyObject *
call_as_job(corolla_core *core, PyObject *transport, PyObject *context, PyObject *name, PyObject *const *args,
            size_t nargs)
{
    corolla_core_leave_task(core);
    if (PyContext_Enter(context) < 0) {
        return NULL;
    }
    int64_t began = core->debug ? corolla_clock() : 0;
    PyObject *result = PyObject_VectorcallMethod(name, args, nargs, NULL);
    if (began != 0) {
        transport_report_slow(core, args[0], name, transport, corolla_clock() - began);
    }
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
transport_call(corolla_core *core, PyObject *transport, PyObject *protocol, PyObject *context, PyObject *name,
               PyObject *arg)
{
    PyObject *args[3] = {NULL, Py_NewRef(protocol), arg}; /* owned for the call: set_protocol() may drop it */
    size_t nargs = (arg == NULL ? 1 : 2) | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *result = context == NULL ? PyObject_VectorcallMethod(name, args + 1, nargs, NULL)
                                       : call_as_job(core, transport, context, name, args + 1, nargs);
    Py_DECREF(protocol);
    return result;
}

PyObject *
transport_call_pair(corolla_core *core, PyObject *transport, PyObject *protocol, PyObject *context, PyObject *name,
                    PyObject *first, PyObject *second)
{
    PyObject *args[4] = {NULL, Py_NewRef(protocol), first, second};
    PyObject *result = call_as_job(core, transport, context, name, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET);
    Py_DECREF(protocol);
    return result;
}

/* ---- Telling ------------------------------------------------------------------------------- */

void
transport_log(corolla_core *core, PyObject *transport, const char *level, const char *format)
{
    if (core == NULL || !core->debug) {
        return;
    }
    PyObject *done = PyObject_CallMethod(core->state->logger, level, "sO", format, transport);
    if (done == NULL) {
        PyErr_WriteUnraisable(transport);
    }
    Py_XDECREF(done);
}

void
transport_log_failure(corolla_core *core, PyObject *transport, const char *message, PyObject *exc)
{
    if (core == NULL || !core->debug) {
        return;
    }
    PyObject *debug = PyObject_GetAttr(core->state->logger, core->state->s.debug);
    PyObject *args = Py_BuildValue("sOs", "%r: %s", transport, message);
    PyObject *kwargs = Py_BuildValue("{s:O}", "exc_info", exc);
    PyObject *done = debug == NULL || args == NULL || kwargs == NULL ? NULL : PyObject_Call(debug, args, kwargs);
    if (done == NULL) {
        PyErr_WriteUnraisable(transport);
    }
    Py_XDECREF(done);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(debug);
}

int
transport_report(corolla_state *state, PyObject *loop, PyObject *transport, PyObject *protocol, const char *message)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *context = PyDict_New();
    PyObject *text = PyUnicode_FromString(message);
    if (context == NULL || text == NULL || PyDict_SetItem(context, state->s.message, text) < 0 ||
        PyDict_SetItem(context, state->s.transport, transport) < 0 ||
        PyDict_SetItem(context, state->s.protocol, protocol == NULL ? Py_None : protocol) < 0) {
        PyErr_WriteUnraisable(transport);
    }
    Py_XDECREF(text);
    PyErr_SetRaisedException(exc);
    if (context == NULL) {
        return -1;
    }
    Py_INCREF(loop);
    int rc = corolla_report_context(state, loop, context);
    Py_DECREF(loop);
    Py_DECREF(context);
    return rc;
}

void
transport_set_errno(ssize_t err)
{
    if (err == -ENOMEM) {
        PyErr_NoMemory();
    }
    else {
        errno = (int)-err;
        PyErr_SetFromErrno(PyExc_OSError);
    }
}

PyObject *
transport_extra(PyObject **slot)
{
    if (*slot == NULL || !PyDict_Check(*slot)) {
        PyObject *fresh = PyDict_New();
        if (fresh == NULL) {
            return NULL;
        }
        Py_XSETREF(*slot, fresh);
    }
    return *slot;
}

int
transport_find_extra(PyObject **slot, PyObject *name, PyObject **value)
{
    *value = NULL;
    PyObject *extra = Py_XNewRef(transport_extra(slot)); /* a name's __eq__() may put another one into the slot */
    int found = extra == NULL ? -1 : PyDict_GetItemRef(extra, name, value);
    Py_XDECREF(extra);
    return found;
}

/* ---- Reading ------------------------------------------------------------------------------- */

int
transport_land(corolla_core *core, PyObject **landing, size_t hint, void **buf, size_t *len)
{
    if (hint < TRANSPORT_DIRECT) {
        *buf = core->reactor.scratch;
        *len = COROLLA_SCRATCH;
        return 0;
    }
    if (*landing == NULL) {
        /* A quarter more than usual: a read that fills its buffer says nothing of what is waiting. */
        size_t size = hint + hint / 4;
        *landing = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size < COROLLA_SCRATCH ? size : COROLLA_SCRATCH));
        if (*landing == NULL) {
            return -1;
        }
    }
    *buf = PyBytes_AS_STRING(*landing);
    *len = (size_t)PyBytes_GET_SIZE(*landing);
    return 0;
}

PyObject *
transport_take(PyObject **landing, const void *buf, ssize_t n)
{
    if (*landing == NULL || buf != PyBytes_AS_STRING(*landing)) {
        return PyBytes_FromStringAndSize(buf, n);
    }
    PyObject *data = *landing;
    *landing = NULL;
    if (n != PyBytes_GET_SIZE(data)) {
        (void)_PyBytes_Resize(&data, n);
    }
    return data;
}

/* ---- Writing ------------------------------------------------------------------------------- */

static void
retain_object(void *owner)
{
    Py_INCREF((PyObject *)owner);
}

static void
release_object(void *owner)
{
    Py_DECREF((PyObject *)owner);
}

corolla_chunk
transport_bytes_chunk(PyObject *bytes)
{
    return (corolla_chunk){
        .data = PyBytes_AS_STRING(bytes),
        .len = (size_t)PyBytes_GET_SIZE(bytes),
        .owner = bytes,
        .retain = retain_object,
        .release = release_object,
    };
}

corolla_chunk
transport_view_chunk(const Py_buffer *view)
{
    return (corolla_chunk){.data = view->buf, .len = (size_t)view->len};
}

static int
parse_limit(PyObject *value, Py_ssize_t *out)
{
    PyObject *whole = PyFloat_Check(value) ? PyNumber_Long(value) : Py_NewRef(value);
    if (whole == NULL) {
        return -1;
    }
    *out = PyNumber_AsSsize_t(whole, NULL); /* clipped: nobody has that much */
    Py_DECREF(whole);
    return *out == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Either follows from the other. */
int
transport_parse_limits_of(PyObject *high_arg, PyObject *low_arg, Py_ssize_t standard, Py_ssize_t *high, Py_ssize_t *low)
{
    bool has_high = high_arg != NULL && high_arg != Py_None, has_low = low_arg != NULL && low_arg != Py_None;
    if ((has_high && parse_limit(high_arg, high) < 0) || (has_low && parse_limit(low_arg, low) < 0)) {
        return -1;
    }
    if (!has_high && !has_low) {
        *high = standard;
    }
    else if (!has_high) {
        *high = *low > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX : 4 * *low;
    }
    if (!has_low) {
        *low = *high / 4;
    }
    if (*high >= *low && *low >= 0) {
        return 0;
    }
    PyObject *shown_high = has_high ? Py_NewRef(high_arg) : PyLong_FromSsize_t(*high);
    PyObject *shown_low = has_low ? Py_NewRef(low_arg) : PyLong_FromSsize_t(*low);
    if (shown_high != NULL && shown_low != NULL) {
        PyErr_Format(PyExc_ValueError, "high (%R) must be >= low (%R) must be >= 0", shown_high, shown_low);
    }
    Py_XDECREF(shown_high);
    Py_XDECREF(shown_low);
    return -1;
}

int
transport_parse_limits(PyObject *high_arg, PyObject *low_arg, Py_ssize_t *high, Py_ssize_t *low)
{
    return transport_parse_limits_of(high_arg, low_arg, TRANSPORT_HIGH_WATER, high, low);
}
