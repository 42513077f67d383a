/* The smallest web server on libcorolla alone: "hello" to every GET, connections kept alive, an idle one closed after
 * a minute. It reads requests without bodies, which is all that a benchmark sends.
 *
 *     http_hello PORT        (0: any free port; the one it got is printed)
 */
#include <netinet/in.h>
#include <reactor.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_TIMEOUT (INT64_C(60) * 1000000000)

typedef struct Connection {
    corolla_stream stream;
    corolla_timer idle;
    int fd; /* owned */
    size_t len;
    char request[8192]; /* what has come and is not answered */
    struct Connection *next, *prev;
} Connection;

static corolla_reactor reactor;
static corolla_listener listener;
static Connection connections = {.next = &connections, .prev = &connections};

static const char answer[] = "HTTP/1.1 200 OK\r\n"
                             "Content-Type: text/plain\r\n"
                             "Content-Length: 6\r\n"
                             "\r\n"
                             "hello\n";

static Connection *
connection_of(corolla_stream *s)
{
    return (Connection *)(void *)((char *)s - offsetof(Connection, stream));
}

static int
connection_close(Connection *c)
{
    corolla_timer_stop(&reactor, &c->idle);
    corolla_stream_close(&c->stream);
    close(c->fd);
    c->prev->next = c->next;
    c->next->prev = c->prev;
    free(c);
    return 0;
}

static int
idle_too_long(void *arg)
{
    Connection *c = arg;
    corolla_timer_fired(&c->idle);
    return connection_close(c);
}

static int
http_where(corolla_stream *s, size_t hint, void **buf, size_t *len)
{
    Connection *c = connection_of(s);
    (void)hint;
    *buf = c->request + c->len;
    *len = sizeof c->request - c->len;
    return 0;
}

/* Answers every complete request in the buffer. One write each: when they are pipelined, the stream learns to send
 * the answers together. */
static int
http_came(corolla_stream *s, void *buf, ssize_t n)
{
    static const corolla_chunk chunk = {.data = answer, .len = sizeof answer - 1};
    Connection *c = connection_of(s);
    (void)buf;
    if (n <= 0) {
        return connection_close(c);
    }
    c->len += (size_t)n;
    char *rest = c->request, *end;
    while ((end = memmem(rest, c->len, "\r\n\r\n", 4)) != NULL) {
        c->len -= (size_t)(end + 4 - rest);
        rest = end + 4;
        if (corolla_stream_write(s, &chunk, 1) < 0) {
            return connection_close(c);
        }
    }
    if (c->len == sizeof c->request) {
        return connection_close(c); /* a request that long is none of ours */
    }
    if (rest != c->request) {
        memmove(c->request, rest, c->len);
        corolla_timer_stop(&reactor, &c->idle);
        corolla_timer_start(&reactor, &c->idle, corolla_clock() + IDLE_TIMEOUT);
    }
    return 0;
}

static int
http_failed(corolla_stream *s, int err)
{
    (void)err;
    return connection_close(connection_of(s));
}

static int
http_pressure(corolla_stream *s, bool on)
{
    (void)corolla_stream_read(s, !on);
    return 0;
}

static const corolla_stream_ops http_ops = {
    .where = http_where,
    .came = http_came,
    .failed = http_failed,
    .pressure = http_pressure,
};

static int
accepted(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    (void)l;
    (void)peer;
    (void)len;
    Connection *c = malloc(sizeof *c);
    if (c == NULL) {
        close(fd);
        return 0;
    }
    c->fd = fd;
    c->len = 0;
    c->next = connections.next;
    c->prev = &connections;
    c->next->prev = c->prev->next = c;
    corolla_stream_init(&c->stream, &http_ops);
    corolla_timer_init(&c->idle, idle_too_long, c);
    if (corolla_stream_open(&reactor, &c->stream, fd) < 0 || corolla_stream_read(&c->stream, true) < 0 ||
        corolla_timer_start(&reactor, &c->idle, corolla_clock() + IDLE_TIMEOUT) < 0) {
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
