/* tls_client --port PORT [options]: echo_client.c over TLS. N connections, each sending a message and waiting for all of it.
 *
 * The same messages and checks as there, but every byte has to be opened, so none is dropped in the kernel. What a turn
 * costs is one recv, OpenSSL's work and one send (see tls.h): what raw_tls_echo.c does, and less than any loop can.
 * The server's certificate is not looked at, its signature in the handshake is.
 *
 * --idle: one message on each connection, then print "ready" and wait until standard input closes, then one more each.
 */
#include "load.h"
#include "tls.h"

#define VARIANTS 13

struct connection {
    int descriptor;
    bool waiting;      /* a message is on its way */
    unsigned number;   /* which connection this is */
    uint64_t sequence; /* which message is on its way */
    uint64_t started;  /* when it was begun */
    size_t received;
    SSL *ssl;     /* owned */
    char *unsent; /* owned; sealed bytes that the kernel did not take; NULL when all has gone out */
    size_t unsent_begin;
    size_t unsent_end;
};

struct tls_load {
    struct load load;
    size_t size;
    unsigned verify_every;
    bool idle;

    SSL_CTX *context;       /* owned */
    BIO_METHOD *method;     /* owned */
    struct connection *all; /* owned */
    char *messages;         /* owned: VARIANTS messages of size bytes */
    char *inbound;          /* owned: where messages are opened, size bytes */
    unsigned connected;     /* how many handshakes are over */
    unsigned waiting;       /* how many messages are on their way */
};

static const char *
message_of(const struct tls_load *echo, const struct connection *connection)
{
    return echo->messages + (connection->number * 5 + connection->sequence) % VARIANTS * echo->size;
}

static void
make_messages(struct tls_load *echo)
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

/* Sends what OpenSSL has sealed in this turn. */
static void
connection_flush(struct connection *connection)
{
    ssize_t sent;
    size_t left;

    if (tls_wire.filled == 0) {
        return;
    }
    if (connection->unsent != NULL) {
        die("connection %u: sealed more while some was unsent", connection->number);
    }
    sent = send(connection->descriptor, tls_wire.outbound, tls_wire.filled, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        die("connection %u: send: %s", connection->number, strerror(errno));
    }
    sent = sent < 0 ? 0 : sent;
    left = tls_wire.filled - (size_t)sent;
    if (left > 0) {
        connection->unsent = allocate(1, left);
        memcpy(connection->unsent, tls_wire.outbound + sent, left);
        connection->unsent_begin = 0;
        connection->unsent_end = left;
    }
    tls_wire.filled = 0;
}

static void
connection_send_rest(struct connection *connection)
{
    ssize_t sent;

    while (connection->unsent != NULL) {
        sent = send(connection->descriptor, connection->unsent + connection->unsent_begin,
                    connection->unsent_end - connection->unsent_begin, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) {
                return;
            }
            die("connection %u: send: %s", connection->number, strerror(errno));
        }
        connection->unsent_begin += (size_t)sent;
        if (connection->unsent_begin == connection->unsent_end) {
            free(connection->unsent);
            connection->unsent = NULL;
        }
    }
}

static void
message_begin(struct tls_load *echo, struct connection *connection, uint64_t now)
{
    const char *message;
    size_t sealed = 0;

    connection->sequence++;
    connection->received = 0;
    connection->started = now;
    connection->waiting = true;
    echo->waiting++;
    message = message_of(echo, connection);
    while (sealed < echo->size) {
        int done = SSL_write(connection->ssl, message + sealed, (int)(echo->size - sealed));
        if (done <= 0) {
            die("connection %u: SSL_write: %s", connection->number, tls_reason());
        }
        sealed += (size_t)done;
    }
}

static void
message_finished(struct tls_load *echo, struct connection *connection)
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
message_opened(struct tls_load *echo, struct connection *connection, size_t count)
{
    bool compare = connection->sequence % echo->verify_every == 0;

    if (!connection->waiting || connection->received + count > echo->size) {
        die("connection %u: bytes nobody sent", connection->number);
    }
    if (compare && memcmp(echo->inbound, message_of(echo, connection) + connection->received, count) != 0) {
        die("connection %u: message %" PRIu64 " came back changed", connection->number, connection->sequence);
    }
    connection->received += count;
    if (connection->received == echo->size) {
        message_finished(echo, connection);
    }
}

/* Opens what came in; the handshake, too, as long as it is not over. */
static void
connection_open_records(struct tls_load *echo, struct connection *connection)
{
    bool shaking = !SSL_is_init_finished(connection->ssl);
    int count = -1;

    if (shaking) {
        count = SSL_do_handshake(connection->ssl);
        if (count == 1) {
            echo->connected++;
            if (!echo->load.stopping) {
                message_begin(echo, connection, now_ns());
            }
        }
    }
    if (!shaking || count == 1) {
        while ((count = SSL_read(connection->ssl, echo->inbound, (int)echo->size)) > 0) {
            message_opened(echo, connection, (size_t)count);
        }
    }
    if (SSL_get_error(connection->ssl, count) != SSL_ERROR_WANT_READ) {
        die("connection %u: SSL_read in message %" PRIu64 ": %s", connection->number, connection->sequence,
            tls_reason());
    }
}

static void
connection_receive(struct tls_load *echo, struct connection *connection)
{
    ssize_t received;

    /* Edge-triggered: until a recv is short. */
    do {
        received = recv(connection->descriptor, tls_wire.inbound, sizeof(tls_wire.inbound), 0);
        if (received < 0 && errno == EAGAIN) {
            return;
        }
        if (received <= 0) {
            die("connection %u: recv: %s", connection->number, received == 0 ? "closed" : strerror(errno));
        }
        tls_wire.begin = 0;
        tls_wire.end = (size_t)received;
        connection_open_records(echo, connection);
        connection_flush(connection);
    } while (received == (ssize_t)sizeof(tls_wire.inbound));
}

static void
connection_event(struct load *load, void *owner, uint32_t events)
{
    struct tls_load *echo = (struct tls_load *)load;
    struct connection *connection = owner;

    if (connection->ssl == NULL) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            die("connection %u: connect: %s", connection->number, strerror(error));
        }
        if (!(events & EPOLLOUT)) {
            return;
        }
        connection->ssl = tls_open(echo->context, echo->method, false);
        if (connection->ssl == NULL) {
            die("out of memory");
        }
        SSL_do_handshake(connection->ssl);
        connection_flush(connection);
        return;
    }
    connection_send_rest(connection);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        connection_receive(echo, connection);
    }
}

static void
open_connections(struct tls_load *echo)
{
    echo->context = tls_context(TLS_client_method());
    echo->method = tls_wire_method();
    if (echo->context == NULL || echo->method == NULL) {
        die("OpenSSL: %s", tls_reason());
    }
    echo->all = allocate(echo->load.connections, sizeof(*echo->all));
    for (unsigned number = 0; number < echo->load.connections; number++) {
        struct connection *connection = &echo->all[number];
        connection->number = number;
        connection->descriptor = start_connection(echo->load.port, number / 16384);
        poll_add(&echo->load, connection->descriptor, connection);
        if (echo->idle && number % 16 == 15) {
            /* A few at a time: it is not the memory of handshakes that is to be measured. */
            load_wait(&echo->load, &echo->connected, number + 1, "handshakes");
        }
    }
}

static void
check_nothing_left(const struct tls_load *echo)
{
    char byte;

    for (unsigned number = 0; number < echo->load.connections; number++) {
        if (recv(echo->all[number].descriptor, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
            die("connection %u: closed, or bytes nobody sent", number);
        }
    }
}

static void
run_load(struct tls_load *echo)
{
    load_wait(&echo->load, &echo->connected, echo->load.connections, "handshakes");
    load_measure(&echo->load);
    echo->load.stopping = true;
    load_wait(&echo->load, &echo->waiting, 0, "messages on their way");
    check_nothing_left(echo);
}

static void
message_on_each(struct tls_load *echo)
{
    uint64_t now = now_ns();

    for (unsigned number = 0; number < echo->load.connections; number++) {
        message_begin(echo, &echo->all[number], now);
        connection_flush(&echo->all[number]);
    }
    load_wait(&echo->load, &echo->waiting, 0, "messages on their way");
    check_nothing_left(echo);
}

static void
run_idle(struct tls_load *echo)
{
    char discarded[256];

    load_wait(&echo->load, &echo->connected, echo->load.connections, "handshakes");
    message_on_each(echo);
    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, discarded, sizeof(discarded)) > 0) {
    }
    message_on_each(echo);
}

static void
parse_options(struct tls_load *echo, int argc, char **argv)
{
    static const struct option options[] = {
        LOAD_OPTIONS,
        {"size", required_argument, NULL, 's'},
        {"verify-every", required_argument, NULL, 'v'},
        {"idle", no_argument, NULL, 'i'},
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
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct tls_load echo = {
        .load = {LOAD_DEFAULTS, .turn = poll_turn, .event = connection_event},
        .size = 1024,
        .verify_every = 8,
    };

    parse_options(&echo, argc, argv);
    load_begin(&echo.load);
    make_messages(&echo);
    echo.load.stopping = echo.idle;
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
