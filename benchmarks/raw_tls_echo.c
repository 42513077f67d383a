/* raw_tls_echo CERTIFICATE [PORT]: the floor under TLS. The least a C program must do with OpenSSL on epoll to echo.
 *
 * raw_echo.c with tls.h between: level-triggered, one recv and one send for each event, buffers that all connections
 * share. Only what the kernel did not take is kept, and while there is some nothing more is read from that peer.
 * CERTIFICATE is a PEM file with the certificate and its key.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls.h"

#define MAX_EVENTS 256

struct connection {
    int descriptor;
    bool closing; /* as soon as all has gone out */
    SSL *ssl;     /* owned */
    char *unsent; /* owned; NULL when all has gone out */
    size_t unsent_begin;
    size_t unsent_end;
};

static char plain[TLS_INBOUND];

static void
fail(const char *what)
{
    perror(what);
    exit(1);
}

static void
watch(int poller, int operation, int descriptor, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};

    if (epoll_ctl(poller, operation, descriptor, &event) < 0) {
        fail("epoll_ctl");
    }
}

static void
connection_close(struct connection *connection)
{
    close(connection->descriptor);
    SSL_free(connection->ssl);
    free(connection->unsent);
    free(connection);
}

/* Sends; false: the connection is gone. */
static bool
connection_send(int poller, struct connection *connection)
{
    ssize_t sent = send(connection->descriptor, tls_wire.outbound, tls_wire.filled, MSG_NOSIGNAL);
    size_t left;

    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            connection_close(connection);
            return false;
        }
        sent = 0;
    }
    left = tls_wire.filled - (size_t)sent;
    if (left > 0) {
        connection->unsent = malloc(left);
        if (connection->unsent == NULL) {
            fail("malloc");
        }
        memcpy(connection->unsent, tls_wire.outbound + sent, left);
        connection->unsent_begin = 0;
        connection->unsent_end = left;
        watch(poller, EPOLL_CTL_MOD, connection->descriptor, EPOLLOUT, connection);
    }
    return true;
}

/* Opens what came in and seals it again; handshakes on the way. */
static void
connection_echo(struct connection *connection)
{
    int count;

    while ((count = SSL_read(connection->ssl, plain, sizeof(plain))) > 0) {
        int sealed = 0;
        while (sealed < count) {
            int done = SSL_write(connection->ssl, plain + sealed, count - sealed);
            if (done <= 0) {
                connection->closing = true;
                return;
            }
            sealed += done;
        }
    }
    if (SSL_get_error(connection->ssl, count) != SSL_ERROR_WANT_READ) {
        connection->closing = true;
        if (SSL_is_init_finished(connection->ssl)) {
            SSL_shutdown(connection->ssl);
        }
        ERR_clear_error();
    }
}

static void
connection_readable(int poller, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, tls_wire.inbound, sizeof(tls_wire.inbound), 0);

    if (received <= 0) {
        if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
            connection_close(connection);
        }
        return;
    }
    tls_wire.begin = 0;
    tls_wire.end = (size_t)received;
    tls_wire.filled = 0;
    connection_echo(connection);
    if (tls_wire.filled > 0 && !connection_send(poller, connection)) {
        return;
    }
    if (connection->closing && connection->unsent == NULL) {
        connection_close(connection);
    }
}

static void
connection_writable(int poller, struct connection *connection)
{
    ssize_t sent = send(connection->descriptor, connection->unsent + connection->unsent_begin,
                        connection->unsent_end - connection->unsent_begin, MSG_NOSIGNAL);

    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            connection_close(connection);
        }
        return;
    }
    connection->unsent_begin += (size_t)sent;
    if (connection->unsent_begin < connection->unsent_end) {
        return;
    }
    free(connection->unsent);
    connection->unsent = NULL;
    if (connection->closing) {
        connection_close(connection);
        return;
    }
    watch(poller, EPOLL_CTL_MOD, connection->descriptor, EPOLLIN, connection);
}

static void
accept_all(int poller, int listener, SSL_CTX *context, BIO_METHOD *method)
{
    int on = 1;
    int descriptor;

    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof(*connection));
        if (connection == NULL || (connection->ssl = tls_open(context, method, true)) == NULL) {
            fail("out of memory");
        }
        connection->descriptor = descriptor;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        watch(poller, EPOLL_CTL_ADD, descriptor, EPOLLIN, connection);
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        fail("accept4");
    }
}

static int
listen_on(int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        fail("listen");
    }
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static SSL_CTX *
server_context(const char *certificate)
{
    SSL_CTX *context = tls_context(TLS_server_method());

    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_session_id_context(context, (const unsigned char *)"echo", 4) != 1) {
        fprintf(stderr, "%s: %s\n", certificate, tls_reason());
        exit(1);
    }
    return context;
}

static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int
main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS];
    SSL_CTX *context;
    BIO_METHOD *method = tls_wire_method();
    int listener;
    int poller = epoll_create1(EPOLL_CLOEXEC);

    if (argc < 2) {
        fprintf(stderr, "usage: raw_tls_echo CERTIFICATE [PORT]\n");
        return 2;
    }
    context = server_context(argv[1]);
    raise_descriptor_limit();
    listener = listen_on(argc > 2 ? atoi(argv[2]) : 0);
    if (poller < 0 || method == NULL) {
        fail("epoll_create1");
    }
    watch(poller, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int count = epoll_wait(poller, events, MAX_EVENTS, -1);
        if (count < 0 && errno != EINTR) {
            fail("epoll_wait");
        }
        for (int index = 0; index < count; index++) {
            struct connection *connection = events[index].data.ptr;
            if (connection == NULL) {
                accept_all(poller, listener, context, method);
            }
            else if (connection->unsent != NULL) {
                connection_writable(poller, connection);
            }
            else {
                connection_readable(poller, connection);
            }
        }
    }
}
