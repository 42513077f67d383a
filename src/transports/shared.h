/* What every transport does, whatever its type; for this room only. */
#ifndef COROLLA_TRANSPORTS_SHARED_H
#define COROLLA_TRANSPORTS_SHARED_H

#include "transports.h"

enum {
    TRANSPORT_HIGH_WATER = 64 * 1024,
    /* From this much on, reads go straight into the bytes object that the protocol gets. Below it, one copy
     * out of a warm buffer is cheaper than an object of the right size that nobody knows yet. */
    TRANSPORT_DIRECT = 32 * 1024,
};

/* protocol.name(arg); arg may be NULL. With a context: as a job, in it and with no task current. Without: in the caller's.
 * New reference or NULL. */
PyObject *transport_call(corolla_core *core, PyObject *transport, PyObject *protocol, PyObject *context, PyObject *name,
                         PyObject *arg);
/* The same with two arguments, as a job. */
PyObject *transport_call_pair(corolla_core *core, PyObject *transport, PyObject *protocol, PyObject *context,
                              PyObject *name, PyObject *first, PyObject *second);
/* Takes the exception being raised and gives it to the loop's exception handler with the transport and the protocol (NULL
 * for None). 0, or -1 with KeyboardInterrupt or SystemExit. */
int transport_report(corolla_state *state, PyObject *loop, PyObject *transport, PyObject *protocol,
                     const char *message);
/* In debug mode: logger.level(format, transport). core may be NULL. */
void transport_log(corolla_core *core, PyObject *transport, const char *level, const char *format);
/* The same of a failure that is not reported otherwise, with its traceback. No exception may be raised. */
void transport_log_failure(corolla_core *core, PyObject *transport, const char *message, PyObject *exc);
/* In debug mode, after a call of protocol.name(), or with name NULL of protocol() itself, that took that long (ns): warns
 * if that is slow. owner: the transport or server it was called for. Keeps an exception being raised. */
void transport_report_slow(corolla_core *core, PyObject *protocol, PyObject *name, PyObject *owner, int64_t took);

/* Large reads go straight into the bytes object that the protocol gets: *landing, owned, NULL until there is one. Small
 * ones into the reactor's scratch memory. 0, or -1 with MemoryError. */
int transport_land(corolla_core *core, PyObject **landing, size_t hint, void **buf, size_t *len);
/* The n bytes at buf, where transport_land() put them, as an object of their own. New reference or NULL. */
PyObject *transport_take(PyObject **landing, const void *buf, ssize_t n);

/* set_write_buffer_limits(high, low): asyncio's defaults and its ValueError. 0 or -1. */
int transport_parse_limits(PyObject *high_arg, PyObject *low_arg, Py_ssize_t *high, Py_ssize_t *low);
/* The same with another default for high, in bytes. */
int transport_parse_limits_of(PyObject *high_arg, PyObject *low_arg, Py_ssize_t standard, Py_ssize_t *high,
                              Py_ssize_t *low);
/* A write by reference, and one that is copied if it must be queued. */
corolla_chunk transport_bytes_chunk(PyObject *bytes);
corolla_chunk transport_view_chunk(const Py_buffer *view);

/* Sets the OSError, or MemoryError, of a -errno. */
void transport_set_errno(ssize_t err);
/* The dict behind get_extra_info(), in asyncio's slot, which programs may write and delete: a new one where there is none.
 * Borrowed, or NULL. */
PyObject *transport_extra(PyObject **slot);
/* What it has under a name, which may be anything: 1 and a new reference, 0 or -1. */
int transport_find_extra(PyObject **slot, PyObject *name, PyObject **value);

#endif
