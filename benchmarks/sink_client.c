/* sink_client --port PORT --size BYTES --transfers COUNT [--server-pid PID]: how fast a server sends.
 *
 * Opens a connection, takes what comes to its end, and opens the next: one transfer unmeasured, then COUNT of them. The
 * bytes are dropped in the kernel (MSG_TRUNC), without a copy, so that the client is cheaper than any server; they are
 * counted, and a transfer of another size ends it with status 1. */
#include "load.h"

enum { PIECE = 1 << 20 };

static void
transfer(const struct load *load, uint64_t size)
{
    uint64_t got = 0;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->port)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&server, sizeof(server)) < 0) {
        die("connect: %s", strerror(errno));
    }
    for (;;) {
        ssize_t n = recv(descriptor, NULL, PIECE, MSG_TRUNC);
        if (n < 0 && errno != EINTR) {
            die("recv: %s", strerror(errno));
        }
        if (n == 0) {
            break;
        }
        got += n > 0 ? (uint64_t)n : 0;
    }
    if (got != size) {
        die("%" PRIu64 " bytes came in place of %" PRIu64, got, size);
    }
    close(descriptor);
}

int
main(int argc, char **argv)
{
    static const struct option options[] = {{"size", required_argument, NULL, 's'},
                                            {"transfers", required_argument, NULL, 'n'},
                                            LOAD_OPTIONS,
                                            {NULL, 0, NULL, 0}};
    struct load load = {LOAD_DEFAULTS};
    long size = 1 << 30, transfers = 3;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's') {
            size = parse_number(optarg, 1, "size");
        }
        else if (option == 'n') {
            transfers = parse_number(optarg, 1, "transfers");
        }
        else if (!load_option(&load, option, optarg)) {
            return 2;
        }
    }
    if (load.port == 0) {
        die("--port is wanted");
    }
    transfer(&load, (uint64_t)size);
    uint64_t cpu = process_cpu_ns(load.server), began = now_ns();
    for (long i = 0; i < transfers; i++) {
        transfer(&load, (uint64_t)size);
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    double server = (double)(process_cpu_ns(load.server) - cpu) / 1e9 / seconds;
    printf(
        "{\"unit\": \"transfer\", \"count\": %ld, \"per_second\": %.6f, \"mib_per_second\": %.1f, \"server_cpu\": %.4f}\n",
        transfers, (double)transfers / seconds, (double)transfers * (double)size / seconds / (1 << 20), server);
    return 0;
}
