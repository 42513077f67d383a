/* connect_client --port PORT [options]: whole connections a second.
 *
 * Opens a connection, sends one short line on it, waits for its echo, closes and opens the next, with --connections of
 * them at a time. A wrong echo or a refused connection ends it with status 1.
 *
 * On loopback the handshake runs inside the client's connect(), so this client has more to do than any C server. It
 * saves what it can: no poller, as connections are served in about the order they came in, so it asks the oldest one
 * until that has answered; and source ports it counts out itself. The client closes first, so TIME_WAIT is its own, and
 * 64 source addresses give millions of four-tuples. Where the server still waits for it, look at the server's CPU time.
 */
#include "load.h"

#define MESSAGE_SIZE 16
#define FIRST_SOURCE 0x7f010001U /* 127.1.0.1: nobody else's */
#define SOURCES 64
#define FIRST_PORT 16384
#define PORTS 49152

struct connection {
    int descriptor; /* owned */
    uint64_t started;
    char message[MESSAGE_SIZE + 1];
};

struct connect_load {
    struct load load;
    struct connection *all; /* owned: a ring of the open ones */
    uint64_t opened;        /* all[opened % connections] is the next to open */
    uint64_t closed;        /* all[closed % connections] is the oldest that is open */
    unsigned open;
    uint64_t four_tuple; /* the source address and port of the next connection */
};

/* A source address and port that are in no use and in no TIME_WAIT. */
static void
bind_next_source(struct connect_load *ring, int descriptor)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    for (unsigned tries = 0; tries < PORTS; tries++) {
        uint64_t number = ring->four_tuple++;
        address.sin_addr.s_addr = htonl(FIRST_SOURCE + (uint32_t)(number % SOURCES));
        address.sin_port = htons((uint16_t)(FIRST_PORT + number / SOURCES % PORTS));
        if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)) == 0) {
            return;
        }
        if (errno != EADDRINUSE) {
            break;
        }
    }
    die("bind: %s", strerror(errno));
}

static void
connection_open(struct connect_load *ring)
{
    struct connection *connection = &ring->all[ring->opened % ring->load.connections];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ring->load.port)};
    ssize_t sent;

    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(connection->message, sizeof(connection->message), "%015" PRIu64 "\n", ring->opened);
    connection->started = now_ns();
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0) {
        die("socket: %s", strerror(errno));
    }
    bind_next_source(ring, connection->descriptor);
    /* Blocks only if the server's accept queue overflows. */
    if (connect(connection->descriptor, (struct sockaddr *)&server, sizeof(server)) < 0) {
        die("connect: %s", strerror(errno));
    }
    sent = send(connection->descriptor, connection->message, MESSAGE_SIZE, MSG_NOSIGNAL);
    if (sent != MESSAGE_SIZE) {
        die("send: %s", sent < 0 ? strerror(errno) : "cut short");
    }
    ring->opened++;
    ring->open++;
}

/* Closes the oldest connection if its echo is there. */
static bool
connection_close_oldest(struct connect_load *ring)
{
    struct connection *connection = &ring->all[ring->closed % ring->load.connections];
    char inbound[MESSAGE_SIZE + 1];
    ssize_t received = recv(connection->descriptor, inbound, sizeof(inbound), MSG_DONTWAIT);

    if (received < 0 && errno == EAGAIN) {
        return false;
    }
    if (received != MESSAGE_SIZE || memcmp(inbound, connection->message, MESSAGE_SIZE) != 0) {
        die("connection %" PRIu64 ": %s", ring->closed, received < 0 ? strerror(errno) : "a wrong echo");
    }
    close(connection->descriptor);
    ring->closed++;
    ring->open--;
    load_finished(&ring->load, connection->started, now_ns(), MESSAGE_SIZE);
    return true;
}

static void
turn(struct load *load, uint64_t *now)
{
    struct connect_load *ring = (struct connect_load *)load;
    uint64_t before = *now;
    bool closed = connection_close_oldest(ring);

    if (closed && !load->stopping) {
        connection_open(ring);
    }
    *now = now_ns();
    if (!closed && load->measuring) {
        load->idle += *now - before;
    }
}

static void
parse_options(struct connect_load *ring, int argc, char **argv)
{
    static const struct option options[] = {LOAD_OPTIONS, {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!load_option(&ring->load, option, optarg)) {
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct connect_load ring = {.load = {LOAD_DEFAULTS, .turn = turn}};

    parse_options(&ring, argc, argv);
    load_begin(&ring.load);
    ring.all = allocate(ring.load.connections, sizeof(*ring.all));
    ring.four_tuple = now_ns() % ((uint64_t)SOURCES * PORTS);
    while (ring.open < ring.load.connections) {
        connection_open(&ring);
    }
    load_measure(&ring.load);
    ring.load.stopping = true;
    load_wait(&ring.load, &ring.open, 0, "connections without an echo");
    load_report(&ring.load, "connection");
    return 0;
}
