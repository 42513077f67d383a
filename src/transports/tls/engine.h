/* A TLS engine: bytes from the wire in, plain bytes out, and the other way round. It knows no transport and no protocol.
 * The first one, engine_ssl_object.c, drives what the ssl module's wrap_bio() makes. */
#ifndef COROLLA_TRANSPORTS_TLS_ENGINE_H
#define COROLLA_TRANSPORTS_TLS_ENGINE_H

#include "../transports.h"

typedef struct tls_engine tls_engine;

enum {
    TLS_CLOSED = 0,  /* the peer's close_notify; for handshake() and shutdown(): done */
    TLS_AGAIN = -1,  /* more has to come from the wire first */
    TLS_FAILED = -2, /* with an exception */
};

typedef struct tls_engine_ops {
    /* From the wire: of n bytes (> 0) as many as are best read before more come, copied. How many (> 0), or TLS_FAILED. */
    ssize_t (*feed)(tls_engine *engine, const void *buf, size_t n);
    /* For the wire: all there is, as new reference in *data, or NULL for nothing. 0, or TLS_FAILED. */
    int (*take)(tls_engine *engine, PyObject **data);
    int (*handshake)(tls_engine *engine);
    /* False where read() is known to give nothing. */
    bool (*readable)(const tls_engine *engine);
    /* Behind a feed(): once all of it is read, no memory is to be kept for what may come next. */
    void (*thrift)(tls_engine *engine);
    /* Plain bytes: how many, or TLS_CLOSED, TLS_AGAIN, TLS_FAILED. len > 0. */
    ssize_t (*read)(tls_engine *engine, void *buf, size_t len);
    /* How many of len (> 0) plain bytes were sealed; TLS_AGAIN or TLS_FAILED. owner: the bytes object whose whole value
     * they are, or NULL. */
    ssize_t (*write)(tls_engine *engine, PyObject *owner, const void *data, size_t len);
    /* Says close_notify and takes the peer's. */
    int (*shutdown)(tls_engine *engine);
    /* Bytes from the wire that are not read yet; or -1 with an exception. */
    ssize_t (*unread)(tls_engine *engine);
    int (*traverse)(tls_engine *engine, visitproc visit, void *arg);
    void (*free)(tls_engine *engine);
} tls_engine_ops;

/* Every engine begins like this. */
struct tls_engine {
    const tls_engine_ops *ops; /* borrowed: static */
    PyObject *object;          /* owned: what get_extra_info('ssl_object') gives */
    bool plain;                /* object is an ssl.SSLObject, and no subclass */
    bool stirred;              /* reading may have left something for the wire; cleared by whoever takes it */
};

/* wrap_bio() is called here. New, or NULL with an exception. server_hostname: NULL for none. */
tls_engine *tls_ssl_object_new(corolla_state *state, PyObject *sslcontext, bool server_side, PyObject *server_hostname);

/* options.c: what is needed of the ssl module, imported at the first use. 0, or -1 with ImportError. */
int tls_import_ssl(corolla_state *state);

/* ---- window.c: memory of ours as a Python object ------------------------------------------------ */

/* Lends memory to one call of a C function that takes it at once and keeps no view: nobody else may see it. Between calls it
 * has none, for whoever finds it all the same. */
typedef struct tls_window {
    PyObject_HEAD
    void *buf; /* borrowed */
    Py_ssize_t len;
} tls_window;

tls_window *tls_window_new(corolla_state *state);
int tls_window_init(PyObject *module, corolla_state *state);

/* ---- records.c: whole records in what came from the wire ------------------------------------------- */

/* Asking for a record that is not there costs an exception. Headers are in clear text: who counts them knows. */
typedef struct tls_records {
    size_t whole;      /* complete, and not known to have been read */
    uint32_t missing;  /* of the record that is coming */
    uint8_t header[5]; /* of the one that is coming */
    uint8_t have;      /* so many of them */
    bool odd;          /* not TLS as we know it: whatever comes may be whole */
} tls_records;

void tls_records_feed(tls_records *records, const void *buf, size_t n);

#endif
