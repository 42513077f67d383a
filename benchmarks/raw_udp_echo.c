/* raw_udp_echo PORT: the floor for datagrams. The least a C program must do on epoll to echo them, and nothing besides. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BURST 32

static char buffer[65536];

static void
fail(const char *what)
{
    perror(what);
    exit(1);
}

static int
bind_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof(address);
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (descriptor < 0 || bind(descriptor, (struct sockaddr *)&address, size) < 0 ||
        getsockname(descriptor, (struct sockaddr *)&address, &size) < 0) {
        fail("bind");
    }
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return descriptor;
}

static void
echo_burst(int descriptor)
{
    for (int count = 0; count < BURST; count++) {
        struct sockaddr_in from;
        socklen_t size = sizeof(from);
        ssize_t received = recvfrom(descriptor, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size);
        if (received < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                fail("recvfrom");
            }
            return;
        }
        if (sendto(descriptor, buffer, (size_t)received, 0, (struct sockaddr *)&from, size) != received) {
            fail("sendto");
        }
    }
}

int
main(int argc, char **argv)
{
    int descriptor = bind_to(argc > 1 ? atoi(argv[1]) : 0);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};

    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        fail("epoll");
    }
    for (;;) {
        if (epoll_wait(poller, &event, 1, -1) > 0) {
            echo_burst(descriptor);
        }
    }
}
