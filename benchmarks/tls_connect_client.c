/* tls_connect_client --port PORT [options]: handshakes a second; with --cut, connections that end as they should not.
 *
 * Opens a connection, shakes hands, sends one short line, waits for its echo, says close_notify, closes and opens the next,
 * with --connections of them at a time. A wrong echo, a refused connection or a failed handshake ends it with status 1.
 *
 * --resume: every handshake but the first few takes up an earlier session; one that does not ends it with status 1.
 *
 * --cut: no figure. For each number read from standard input it goes on until so many connections, from the beginning,
 * have been opened and closed again, and prints the number. Every other one is cut: see enum fate.
 */
#include "load.h"
#include "tls.h"

#define LINE_SIZE 16
#define SOURCES 64

/* How a connection ends. */
enum fate {
    WHOLE,         /* as it should */
    SILENT,        /* closed before it said anything */
    HALF_HELLO,    /* closed in the middle of the ClientHello */
    HELLO,         /* closed behind the ClientHello, its answer unread */
    GARBAGE,       /* something that is not TLS, then closed */
    UNFINISHED,    /* reset once the server's side of the handshake is there */
    NO_NOTIFY,     /* echoed on, then closed without close_notify */
    RESET,         /* echoed on, then reset */
    HALF_A_RECORD, /* echoed on, then closed in the middle of a record */
    FATES,
};

struct connection {
    int descriptor; /* owned; -1: at rest */
    enum fate fate;
    uint64_t started;
    SSL *ssl; /* owned */
    bool asked;
    bool resuming; /* it offered a session */
    unsigned received;
    char line[LINE_SIZE + 1];
    char inbound[LINE_SIZE];
};

struct connect_load {
    struct load load;
    bool resume;
    bool cut;

    SSL_CTX *context;       /* owned */
    BIO_METHOD *method;     /* owned */
    struct connection *all; /* owned */
    uint64_t opened;
    uint64_t limit; /* no more are opened than so many */
    unsigned open;
};

/* The newest session; owned. Not in the load, as OpenSSL's callback has no other way to it. */
static SSL_SESSION *session;

static int
keep_session(SSL *ssl, SSL_SESSION *newest)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = newest;
    return 1;
}

static void
connection_open(struct connect_load *all, struct connection *connection)
{
    uint64_t number = all->opened++;

    *connection = (struct connection){.started = now_ns(), .fate = WHOLE};
    if (all->cut && number % 2 == 1) {
        connection->fate = (enum fate)(1 + number / 2 % (FATES - 1));
    }
    snprintf(connection->line, sizeof(connection->line), "%015" PRIu64 "\n", number);
    connection->ssl = tls_open(all->context, all->method, false);
    if (connection->ssl == NULL) {
        die("out of memory");
    }
    if (all->resume && session != NULL) {
        connection->resuming = SSL_set_session(connection->ssl, session) == 1;
    }
    connection->descriptor = start_connection(all->load.port, 256 + (unsigned)(number % SOURCES));
    poll_add(&all->load, connection->descriptor, connection);
    all->open++;
}

static void
connection_close(struct connect_load *all, struct connection *connection, bool reset)
{
    struct linger linger = {.l_onoff = 1};

    if (reset) {
        setsockopt(connection->descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    close(connection->descriptor);
    connection->descriptor = -1;
    /* What was not said is not to spoil the session. */
    SSL_set_shutdown(connection->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(connection->ssl);
    connection->ssl = NULL;
    all->open--;
    if (!all->load.stopping && all->opened < all->limit) {
        connection_open(all, connection);
    }
}

/* These are small: on a new connection the kernel takes all at once. */
static void
connection_send(const struct connection *connection, const char *bytes, size_t count)
{
    ssize_t sent = send(connection->descriptor, bytes, count, MSG_NOSIGNAL);

    if (sent != (ssize_t)count) {
        die("send: %s", sent < 0 ? strerror(errno) : "cut short");
    }
}

static void
connection_flush(const struct connection *connection)
{
    if (tls_wire.filled > 0) {
        connection_send(connection, tls_wire.outbound, tls_wire.filled);
        tls_wire.filled = 0;
    }
}

/* The first thing said; false: it was also the last. */
static bool
connection_greet(struct connect_load *all, struct connection *connection)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    size_t hello;

    SSL_do_handshake(connection->ssl);
    hello = tls_wire.filled;
    tls_wire.filled = 0;
    switch (connection->fate) {
    case SILENT:
        break;
    case HALF_HELLO:
        connection_send(connection, tls_wire.outbound, 1 + all->opened % (hello - 1));
        break;
    case HELLO:
        connection_send(connection, tls_wire.outbound, hello);
        break;
    case GARBAGE:
        connection_send(connection, garbage, sizeof(garbage) - 1);
        break;
    default:
        connection_send(connection, tls_wire.outbound, hello);
        return true;
    }
    connection_close(all, connection, false);
    return false;
}

static void
connection_ask(struct connection *connection)
{
    if (connection->resuming && !SSL_session_reused(connection->ssl)) {
        die("a session was not resumed");
    }
    if (SSL_write(connection->ssl, connection->line, LINE_SIZE) != LINE_SIZE) {
        die("SSL_write: %s", tls_reason());
    }
    connection->asked = true;
}

/* The line is back. */
static void
connection_finish(struct connect_load *all, struct connection *connection)
{
    if (memcmp(connection->inbound, connection->line, LINE_SIZE) != 0) {
        die("the line came back changed");
    }
    load_finished(&all->load, connection->started, now_ns(), LINE_SIZE);
    if (connection->fate == WHOLE) {
        SSL_shutdown(connection->ssl);
        connection_flush(connection);
    }
    if (connection->fate == HALF_A_RECORD) {
        SSL_write(connection->ssl, connection->line, LINE_SIZE);
        tls_wire.filled /= 2;
        connection_flush(connection);
    }
    connection_close(all, connection, connection->fate == RESET);
}

static void
connection_receive(struct connect_load *all, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, tls_wire.inbound, sizeof(tls_wire.inbound), 0);
    int count = -1;

    if (received < 0 && errno == EAGAIN) {
        return;
    }
    if (received <= 0) {
        die("recv: %s", received == 0 ? "closed by the server" : strerror(errno));
    }
    if (connection->fate == UNFINISHED) {
        connection_close(all, connection, true);
        return;
    }
    tls_wire.begin = 0;
    tls_wire.end = (size_t)received;
    if (!connection->asked) {
        count = SSL_do_handshake(connection->ssl);
        if (count == 1) {
            connection_ask(connection);
        }
        connection_flush(connection);
    }
    if (connection->asked) {
        while ((count = SSL_read(connection->ssl, connection->inbound + connection->received,
                                 (int)(LINE_SIZE - connection->received))) > 0) {
            connection->received += (unsigned)count;
            if (connection->received == LINE_SIZE) {
                connection_finish(all, connection);
                return;
            }
        }
    }
    if (SSL_get_error(connection->ssl, count) != SSL_ERROR_WANT_READ) {
        die("handshake or SSL_read: %s", tls_reason());
    }
}

static void
connection_event(struct load *load, void *owner, uint32_t events)
{
    struct connect_load *all = (struct connect_load *)load;
    struct connection *connection = owner;

    if (connection->descriptor < 0) {
        return;
    }
    if (SSL_get_state(connection->ssl) == TLS_ST_BEFORE) {
        if ((events & EPOLLOUT) && !connection_greet(all, connection)) {
            return;
        }
    }
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        connection_receive(all, connection);
    }
}

static void
begin(struct connect_load *all)
{
    all->context = tls_context(TLS_client_method());
    all->method = tls_wire_method();
    if (all->context == NULL || all->method == NULL) {
        die("OpenSSL: %s", tls_reason());
    }
    if (all->resume) {
        SSL_CTX_set_session_cache_mode(all->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(all->context, keep_session);
    }
    all->all = allocate(all->load.connections, sizeof(*all->all));
}

static void
open_all(struct connect_load *all)
{
    for (unsigned number = 0; number < all->load.connections && all->opened < all->limit; number++) {
        connection_open(all, &all->all[number]);
    }
}

static void
run_cut(struct connect_load *all)
{
    char line[32];

    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        all->limit = (uint64_t)parse_number(line, 1, "connections");
        open_all(all);
        for (uint64_t now = now_ns(); all->open > 0;) {
            all->load.turn(&all->load, &now);
        }
        printf("%" PRIu64 "\n", all->opened);
        fflush(stdout);
    }
}

static void
parse_options(struct connect_load *all, int argc, char **argv)
{
    static const struct option options[] = {
        LOAD_OPTIONS,
        {"resume", no_argument, NULL, 'r'},
        {"cut", no_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (load_option(&all->load, option, optarg)) {
            continue;
        }
        switch (option) {
        case 'r':
            all->resume = true;
            break;
        case 'x':
            all->cut = true;
            break;
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct connect_load all = {
        .load = {LOAD_DEFAULTS, .turn = poll_turn, .event = connection_event},
        .limit = UINT64_MAX,
    };

    parse_options(&all, argc, argv);
    load_begin(&all.load);
    begin(&all);
    if (all.cut) {
        run_cut(&all);
        return 0;
    }
    open_all(&all);
    load_measure(&all.load);
    all.load.stopping = true;
    load_wait(&all.load, &all.open, 0, "connections without an echo");
    load_report(&all.load, "handshake");
    return 0;
}
