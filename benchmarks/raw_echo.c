/* raw_echo PORT, or raw_echo unix: the floor. The least a C program must do on epoll to echo, and nothing besides.
 *
 * Level-triggered, one recv and one send for each event, one buffer for all connections. Only what the kernel did not
 * take is kept, in memory of the connection's own, and while there is some nothing more is read from that peer.
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
#include <sys/un.h>
#include <unistd.h>

#define BUFFER_SIZE (256 * 1024)
#define MAX_EVENTS 256

struct connection {
    int descriptor;
    char *unsent; /* owned; NULL when all has gone out */
    size_t unsent_begin;
    size_t unsent_end;
};

static char buffer[BUFFER_SIZE];

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
    free(connection->unsent);
    free(connection);
}

static void
connection_keep(int poller, struct connection *connection, const char *bytes, size_t count)
{
    connection->unsent = malloc(count);
    if (connection->unsent == NULL) {
        fail("malloc");
    }
    memcpy(connection->unsent, bytes, count);
    connection->unsent_begin = 0;
    connection->unsent_end = count;
    watch(poller, EPOLL_CTL_MOD, connection->descriptor, EPOLLOUT, connection);
}

static void
connection_readable(int poller, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, buffer, sizeof(buffer), 0);
    ssize_t sent;

    if (received <= 0) {
        if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
            connection_close(connection);
        }
        return;
    }
    sent = send(connection->descriptor, buffer, (size_t)received, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            connection_close(connection);
            return;
        }
        sent = 0;
    }
    if (sent < received) {
        connection_keep(poller, connection, buffer + sent, (size_t)(received - sent));
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
    if (connection->unsent_begin == connection->unsent_end) {
        free(connection->unsent);
        connection->unsent = NULL;
        watch(poller, EPOLL_CTL_MOD, connection->descriptor, EPOLLIN, connection);
    }
}

static void
accept_all(int poller, int listener)
{
    int on = 1;
    int descriptor;

    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof(*connection));
        if (connection == NULL) {
            fail("calloc");
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

/* On the abstract name that suite/sockets.py gives to our process. */
static int
listen_locally(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "corolla-benchmark-%d", (int)getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 4096) < 0) {
        fail("listen");
    }
    printf("listening on %d\n", (int)getpid());
    fflush(stdout);
    return listener;
}

int
main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS];
    struct rlimit limit;
    bool local = argc > 1 && strcmp(argv[1], "unix") == 0;
    int listener = local ? listen_locally() : listen_on(argc > 1 ? atoi(argv[1]) : 0);
    int poller = epoll_create1(EPOLL_CLOEXEC);

    if (poller < 0) {
        fail("epoll_create1");
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
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
                accept_all(poller, listener);
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
