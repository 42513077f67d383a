/* What the TLS programs share: OpenSSL between two plain buffers, so that a turn costs one recv and one send, whatever
 * number of records they hold. OpenSSL's own socket BIO would make a system call for each record and each header.
 *
 * One thread, and one connection at a time has its turn: the buffers are the program's, not the connection's. A turn
 * reads until OpenSSL wants more, so nothing of what came in is left behind; what went out is sent before the next.
 */
#ifndef COROLLA_BENCHMARKS_TLS_H
#define COROLLA_BENCHMARKS_TLS_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#define TLS_INBOUND (256 * 1024)

/* The bytes of the connection whose turn it is. */
struct tls_wire {
    char inbound[TLS_INBOUND];
    size_t begin; /* inbound[begin:end]: received, and not yet taken by OpenSSL */
    size_t end;
    char *outbound; /* owned: sealed, and not yet sent */
    size_t filled;
    size_t room;
};

static struct tls_wire tls_wire;

static inline int
tls_wire_read(BIO *bio, char *bytes, int room)
{
    size_t count = tls_wire.end - tls_wire.begin;

    BIO_clear_retry_flags(bio);
    if (count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (count > (size_t)room) {
        count = (size_t)room;
    }
    memcpy(bytes, tls_wire.inbound + tls_wire.begin, count);
    tls_wire.begin += count;
    return (int)count;
}

static inline int
tls_wire_write(BIO *bio, const char *bytes, int count)
{
    size_t wanted = tls_wire.filled + (size_t)count;

    BIO_clear_retry_flags(bio);
    if (wanted > tls_wire.room) {
        tls_wire.room = wanted * 2;
        tls_wire.outbound = realloc(tls_wire.outbound, tls_wire.room);
        if (tls_wire.outbound == NULL) {
            abort();
        }
    }
    memcpy(tls_wire.outbound + tls_wire.filled, bytes, (size_t)count);
    tls_wire.filled = wanted;
    return count;
}

static inline long
tls_wire_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static inline int
tls_wire_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static inline BIO_METHOD *
tls_wire_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");

    if (method != NULL) {
        BIO_meth_set_read(method, tls_wire_read);
        BIO_meth_set_write(method, tls_wire_write);
        BIO_meth_set_ctrl(method, tls_wire_control);
        BIO_meth_set_create(method, tls_wire_create);
    }
    return method;
}

/* A new SSL on the wire, client or server; NULL: no memory. */
static inline SSL *
tls_open(SSL_CTX *context, BIO_METHOD *method, bool server)
{
    SSL *ssl = SSL_new(context);
    BIO *bio = BIO_new(method);

    if (ssl == NULL || bio == NULL) {
        SSL_free(ssl);
        BIO_free(bio);
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    if (server) {
        SSL_set_accept_state(ssl);
    }
    else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

/* As Python's ssl module sets its contexts up; read ahead, as there is a buffer to read from and no system call. */
static inline SSL_CTX *
tls_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);

    if (context != NULL) {
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
        SSL_CTX_set_read_ahead(context, 1);
    }
    return context;
}

/* OpenSSL's oldest complaint, in words. */
static inline const char *
tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    return reason == NULL ? "no reason given" : reason;
}

#endif
