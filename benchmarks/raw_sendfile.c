/* raw_sendfile FILE [PORT]: the floor of the sendfile cases. Sends the file to each connection, one after the other, in a
 * loop on sendfile(2) over a blocking socket, and closes it. Prints "listening on PORT". */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static _Noreturn void
fail(const char *what)
{
    perror(what);
    exit(1);
}

static int
listen_on(int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 16) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        fail("listen");
    }
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void
send_all(int descriptor, int file, off_t size)
{
    off_t offset = 0;

    while (offset < size) {
        ssize_t sent = sendfile(descriptor, file, &offset, (size_t)(size - offset));
        if (sent < 0 && errno != EINTR) {
            perror("sendfile"); /* the client has gone */
            return;
        }
        if (sent == 0) {
            return;
        }
    }
}

int
main(int argc, char **argv)
{
    int on = 1;
    struct stat status;
    int file = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

    if (file < 0 || fstat(file, &status) < 0) {
        fail("open");
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_on(argc > 2 ? atoi(argv[2]) : 0);
    for (;;) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (descriptor < 0) {
            fail("accept4");
        }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        send_all(descriptor, file, status.st_size);
        close(descriptor);
    }
}
