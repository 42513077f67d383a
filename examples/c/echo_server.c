/* An echo server on libcorolla alone.
 *
 *     corolla_echo PORT        (0: any free port; the one it got is printed)
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <reactor.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Connection {
    corolla_stream stream;
    int fd; /* owned */
    struct Connection *next, *prev;
} Connection;

static corolla_reactor reactor;
static corolla_listener listener;
static Connection connections = {.next = &connections, .prev = &connections};

static Connection *
connection_of(corolla_stream *s)
{
    return (Connection *)(void *)((char *)s - offsetof(Connection, stream));
}

static int
connection_close(Connection *c)
{
    corolla_stream_close(&c->stream);
    close(c->fd);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    free(c);
    return 0;
}

static int
echo_where(corolla_stream *s, size_t hint, void **buf, size_t *len)
{
    (void)hint;
    *buf = s->watch.reactor->scratch; /* what is not sent at once is copied, so it is free again after came */
    *len = COROLLA_SCRATCH;
    return 0;
}

static int
echo_came(corolla_stream *s, void *buf, ssize_t n)
{
    if (n > 0) {
        corolla_chunk chunk = {.data = buf, .len = (size_t)n};
        return corolla_stream_write(s, &chunk, 1) < 0 ? connection_close(connection_of(s)) : 0;
    }
    /* The peer has said all it will; close once the rest of the echo has gone out. */
    return n < 0 || s->queued == 0 ? connection_close(connection_of(s)) : 0;
}

static int
echo_pressure(corolla_stream *s, bool on)
{
    (void)corolla_stream_read(s, !on); /* a peer that does not read is not read from */
    return 0;
}

static int
echo_failed(corolla_stream *s, int err)
{
    (void)err;
    return connection_close(connection_of(s));
}

static int
echo_flushed(corolla_stream *s)
{
    return s->reading ? 0 : connection_close(connection_of(s));
}

static const corolla_stream_ops echo_ops = {
    .where = echo_where,
    .came = echo_came,
    .failed = echo_failed,
    .pressure = echo_pressure,
    .flushed = echo_flushed,
};

static int
accepted(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    (void)peer;
    (void)len;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Connection *c = malloc(sizeof *c);
    if (c == NULL) {
        close(fd);
        return 0;
    }
    c->fd = fd;
    c->next = connections.next;
    c->prev = &connections;
    c->next->prev = c->prev->next = c;
    corolla_stream_init(&c->stream, &echo_ops);
    if (corolla_stream_open(l->watch.reactor, &c->stream, fd) < 0 || corolla_stream_read(&c->stream, true) < 0) {
        connection_close(c);
    }
    return 0;
}

static int
accept_failed(corolla_listener *l, int err)
{
    (void)l;
    fprintf(stderr, "accept: %s\n", strerror(-err));
    return 0;
}

static int
stop(corolla_signal *s)
{
    corolla_reactor_stop(s->reactor);
    return 0;
}

static int
listen_on(unsigned short port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        perror("listen");
        exit(EXIT_FAILURE);
    }
    printf("listening on %d\n", ntohs(addr.sin_port));
    fflush(stdout);
    return fd;
}

int
main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return EXIT_FAILURE;
    }
    int err = corolla_reactor_init(&reactor);
    if (err < 0) {
        fprintf(stderr, "reactor: %s\n", strerror(-err));
        return EXIT_FAILURE;
    }
    corolla_signal interrupt = {.fn = stop}, terminate = {.fn = stop};
    corolla_signal_start(&reactor, &interrupt, SIGINT);
    corolla_signal_start(&reactor, &terminate, SIGTERM);

    int fd = listen_on((unsigned short)atoi(argv[1]));
    corolla_listener_init(&listener);
    listener.accepted = accepted;
    listener.failed = accept_failed;
    err = corolla_listener_start(&reactor, &listener, fd, 128);
    if (err == 0) {
        err = corolla_reactor_run(&reactor);
    }
    corolla_listener_stop(&listener);
    close(fd);
    while (connections.next != &connections) {
        connection_close(connections.next);
    }
    corolla_signal_stop(&interrupt);
    corolla_signal_stop(&terminate);
    corolla_reactor_close(&reactor);
    return err < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
