/* echo_client --port PORT [options]: N connections, each sending a message and waiting for all of it to come back.
 *
 * Every message is one line of letters that ends in a newline, so the same load serves servers that echo bytes and
 * servers that echo lines. Which letters it has depends on the connection and on the message's number, so an echo of
 * another message, or of another connection's, is noticed. The count of bytes is checked for every message. The bytes
 * themselves are compared in one message of --verify-every; in the others the kernel drops them unread (MSG_TRUNC),
 * which keeps a client of large messages cheaper than any server. A mismatch, a lost or a surplus byte or a closed
 * connection ends the program with status 1.
 * --unix: PORT is the number of a Unix socket, where MSG_TRUNC means nothing and all bytes are received.
 *
 * --idle: one message on each connection, then print "ready" and wait until standard input closes, then one more each.
 */
#include "load.h"

#define VARIANTS 13

struct connection {
    int descriptor;
    bool connected;
    bool waiting;      /* a message is on its way */
    unsigned number;   /* which connection this is */
    uint64_t sequence; /* which message is on its way */
    uint64_t started;  /* when it was begun */
    size_t sent;
    size_t received;
};

struct echo_load {
    struct load load;
    size_t size;
    unsigned verify_every;
    bool idle;
    bool local;

    struct connection *all; /* owned */
    char *messages;         /* owned: VARIANTS messages of size bytes */
    char *inbound;          /* owned: where a message that is compared is received, size bytes */
    unsigned connected;     /* how many connections are established */
    unsigned waiting;       /* how many messages are on their way */
};

static const char *
message_of(const struct echo_load *echo, const struct connection *connection)
{
    return echo->messages + (connection->number * 5 + connection->sequence) % VARIANTS * echo->size;
}

static void
make_messages(struct echo_load *echo)
{
    uint32_t random = 2463534242U;

    echo->messages = allocate(VARIANTS, echo->size);
    echo->inbound = allocate(1, echo->size);
    for (size_t index = 0; index < VARIANTS * echo->size; index++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        echo->messages[index] = (char)('a' + random % 26);
    }
    for (unsigned variant = 1; variant <= VARIANTS; variant++) {
        echo->messages[variant * echo->size - 1] = '\n';
    }
}

static void
message_send(struct echo_load *echo, struct connection *connection)
{
    while (connection->sent < echo->size) {
        ssize_t sent = send(connection->descriptor, message_of(echo, connection) + connection->sent,
                            echo->size - connection->sent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) {
                return;
            }
            die("connection %u: send: %s", connection->number, strerror(errno));
        }
        connection->sent += (size_t)sent;
    }
}

static void
message_begin(struct echo_load *echo, struct connection *connection, uint64_t now)
{
    connection->sequence++;
    connection->sent = 0;
    connection->received = 0;
    connection->started = now;
    connection->waiting = true;
    echo->waiting++;
    message_send(echo, connection);
}

static void
message_finished(struct echo_load *echo, struct connection *connection)
{
    uint64_t now = now_ns();

    connection->waiting = false;
    echo->waiting--;
    load_finished(&echo->load, connection->started, now, echo->size);
    if (!echo->load.stopping) {
        message_begin(echo, connection, now);
    }
}

static void
message_receive(struct echo_load *echo, struct connection *connection)
{
    size_t wanted = echo->size - connection->received;
    bool compare = connection->sequence % echo->verify_every == 0;
    ssize_t received;

    received = compare || echo->local ? recv(connection->descriptor, echo->inbound, wanted, 0)
                                      : recv(connection->descriptor, NULL, wanted, MSG_TRUNC);
    if (received < 0) {
        if (errno == EAGAIN) {
            return;
        }
        die("connection %u: recv: %s", connection->number, strerror(errno));
    }
    if (received == 0) {
        die("connection %u: closed by the server in message %" PRIu64, connection->number, connection->sequence);
    }
    if (connection->received + (size_t)received > connection->sent) {
        die("connection %u: more came back than was sent", connection->number);
    }
    if (compare && memcmp(echo->inbound, message_of(echo, connection) + connection->received, (size_t)received) != 0) {
        die("connection %u: message %" PRIu64 " came back changed", connection->number, connection->sequence);
    }
    connection->received += (size_t)received;
    if (connection->received == echo->size) {
        message_finished(echo, connection);
    }
}

static void
connection_event(struct load *load, void *owner, uint32_t events)
{
    struct echo_load *echo = (struct echo_load *)load;
    struct connection *connection = owner;

    if (!connection->connected) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            die("connection %u: connect: %s", connection->number, strerror(error));
        }
        if (!(events & EPOLLOUT)) {
            return;
        }
        connection->connected = true;
        echo->connected++;
        if (!echo->load.stopping) {
            message_begin(echo, connection, now_ns());
        }
        return;
    }
    if (!connection->waiting) {
        /* A writable report for a connection at rest is no concern of ours; anything to read is one. */
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            die("connection %u: closed, or bytes nobody sent", connection->number);
        }
        return;
    }
    if (connection->sent < echo->size) {
        message_send(echo, connection);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        message_receive(echo, connection);
    }
}

static void
open_connections(struct echo_load *echo)
{
    echo->all = allocate(echo->load.connections, sizeof(*echo->all));
    for (unsigned number = 0; number < echo->load.connections; number++) {
        struct connection *connection = &echo->all[number];
        connection->number = number;
        connection->descriptor =
            echo->local ? start_local_connection(echo->load.port) : start_connection(echo->load.port, number / 16384);
        poll_add(&echo->load, connection->descriptor, connection);
    }
}

static void
check_nothing_left(const struct echo_load *echo)
{
    char byte;

    for (unsigned number = 0; number < echo->load.connections; number++) {
        if (recv(echo->all[number].descriptor, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
            die("connection %u: closed, or bytes nobody sent", number);
        }
    }
}

static void
run_load(struct echo_load *echo)
{
    load_wait(&echo->load, &echo->connected, echo->load.connections, "connections open");
    load_measure(&echo->load);
    echo->load.stopping = true;
    load_wait(&echo->load, &echo->waiting, 0, "messages on their way");
    check_nothing_left(echo);
}

static void
message_on_each(struct echo_load *echo)
{
    uint64_t now = now_ns();

    for (unsigned number = 0; number < echo->load.connections; number++) {
        message_begin(echo, &echo->all[number], now);
    }
    load_wait(&echo->load, &echo->waiting, 0, "messages on their way");
    check_nothing_left(echo);
}

static void
run_idle(struct echo_load *echo)
{
    char discarded[256];

    echo->load.stopping = true;
    load_wait(&echo->load, &echo->connected, echo->load.connections, "connections open");
    message_on_each(echo);
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, discarded, sizeof(discarded)) > 0) {
    }
    message_on_each(echo);
}

static void
parse_options(struct echo_load *echo, int argc, char **argv)
{
    static const struct option options[] = {
        LOAD_OPTIONS,
        {"size", required_argument, NULL, 's'},
        {"verify-every", required_argument, NULL, 'v'},
        {"idle", no_argument, NULL, 'i'},
        {"unix", no_argument, NULL, 'u'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (load_option(&echo->load, option, optarg)) {
            continue;
        }
        switch (option) {
        case 's':
            echo->size = (size_t)parse_number(optarg, 1, "size");
            break;
        case 'v':
            echo->verify_every = (unsigned)parse_number(optarg, 1, "verify-every");
            break;
        case 'i':
            echo->idle = true;
            break;
        case 'u':
            echo->local = true;
            break;
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct echo_load echo = {
        .load = {LOAD_DEFAULTS, .turn = poll_turn, .event = connection_event},
        .size = 1024,
        .verify_every = 8,
    };

    parse_options(&echo, argc, argv);
    load_begin(&echo.load);
    make_messages(&echo);
    open_connections(&echo);
    if (echo.idle) {
        run_idle(&echo);
    }
    else {
        run_load(&echo);
        load_report(&echo.load, "message");
    }
    return 0;
}
