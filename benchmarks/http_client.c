/* http_client --port PORT [options]: keep-alive GET requests a second, every response checked.
 *
 * A response must have status 200, a Content-Length, and (with --expect) exactly the body that is expected; anything
 * else, and anything after the body, ends the program with status 1.
 */
#include "load.h"

#include <strings.h>

#define RESPONSE_SIZE 65536

struct connection {
    int descriptor; /* owned */
    unsigned number;
    bool connected;
    bool waiting; /* a response is awaited */
    uint64_t started;
    size_t received;
    size_t whole;   /* head and body together, once the head is read; 0 until then */
    char *response; /* owned: RESPONSE_SIZE bytes and a NUL */
};

struct http_load {
    struct load load;
    const char *path;
    const char *expected; /* borrowed; NULL: any body */

    char request[1024];
    size_t request_size;
    struct connection *all; /* owned */
    unsigned connected;
    unsigned waiting;
};

static void
request_send(struct http_load *http, struct connection *connection)
{
    ssize_t sent = send(connection->descriptor, http->request, http->request_size, MSG_NOSIGNAL);

    if (sent != (ssize_t)http->request_size) {
        die("connection %u: send: %s", connection->number, sent < 0 ? strerror(errno) : "cut short");
    }
    connection->received = 0;
    connection->whole = 0;
    connection->waiting = true;
    connection->started = now_ns();
    http->waiting++;
}

/* Reads the head, if it is all there, and sets how long the whole response is. */
static void
head_parse(const struct http_load *http, struct connection *connection)
{
    char *response = connection->response;
    char *end = strstr(response, "\r\n\r\n");
    size_t head;
    char *line;
    long length = -1;

    if (end == NULL) {
        return;
    }
    head = (size_t)(end - response) + 4;
    if (strncmp(response, "HTTP/1.1 200 ", 13) != 0) {
        die("connection %u: %.*s", connection->number, (int)strcspn(response, "\r\n"), response);
    }
    for (line = strstr(response, "\r\n"); line != NULL && line < end; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "content-length:", 15) == 0) {
            length = strtol(line + 17, NULL, 10);
        }
    }
    if (length < 0 || head + (size_t)length > RESPONSE_SIZE) {
        die("connection %u: no Content-Length, or one too large", connection->number);
    }
    if (http->expected != NULL && (size_t)length != strlen(http->expected)) {
        die("connection %u: a body of %ld bytes", connection->number, length);
    }
    connection->whole = head + (size_t)length;
}

static void
response_finished(struct http_load *http, struct connection *connection)
{
    if (http->expected != NULL) {
        size_t length = strlen(http->expected);
        if (memcmp(connection->response + connection->whole - length, http->expected, length) != 0) {
            die("connection %u: another body than expected", connection->number);
        }
    }
    connection->waiting = false;
    http->waiting--;
    load_finished(&http->load, connection->started, now_ns(), connection->whole);
    if (!http->load.stopping) {
        request_send(http, connection);
    }
}

static void
response_receive(struct http_load *http, struct connection *connection)
{
    ssize_t received = recv(connection->descriptor, connection->response + connection->received,
                            RESPONSE_SIZE - connection->received, 0);

    if (received < 0 && errno == EAGAIN) {
        return;
    }
    if (received <= 0 || !connection->waiting) {
        die("connection %u: %s", connection->number,
            received < 0    ? strerror(errno)
            : received == 0 ? "closed by the server"
                            : "bytes nobody asked for");
    }
    connection->received += (size_t)received;
    connection->response[connection->received] = '\0';
    if (connection->whole == 0) {
        head_parse(http, connection);
    }
    if (connection->whole != 0 && connection->received > connection->whole) {
        die("connection %u: more than one response", connection->number);
    }
    if (connection->whole != 0 && connection->received == connection->whole) {
        response_finished(http, connection);
    }
}

static void
connection_event(struct load *load, void *owner, uint32_t events)
{
    struct http_load *http = (struct http_load *)load;
    struct connection *connection = owner;

    if (!connection->connected && (events & EPOLLOUT)) {
        connection->connected = true;
        http->connected++;
        request_send(http, connection);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        response_receive(http, connection);
    }
}

static void
open_connections(struct http_load *http)
{
    int size = snprintf(http->request, sizeof(http->request),
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n", http->path, http->load.port);

    if (size < 0 || (size_t)size >= sizeof(http->request)) {
        die("--path is too long");
    }
    http->request_size = (size_t)size;
    http->all = allocate(http->load.connections, sizeof(*http->all));
    for (unsigned number = 0; number < http->load.connections; number++) {
        struct connection *connection = &http->all[number];
        connection->number = number;
        connection->response = allocate(1, RESPONSE_SIZE + 1);
        connection->descriptor = start_connection(http->load.port, 0);
        poll_add(&http->load, connection->descriptor, connection);
    }
}

static void
parse_options(struct http_load *http, int argc, char **argv)
{
    static const struct option options[] = {
        LOAD_OPTIONS,
        {"path", required_argument, NULL, 'u'},
        {"expect", required_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (load_option(&http->load, option, optarg)) {
            continue;
        }
        switch (option) {
        case 'u':
            http->path = optarg;
            break;
        case 'e':
            http->expected = optarg;
            break;
        default:
            exit(2);
        }
    }
}

int
main(int argc, char **argv)
{
    static struct http_load http = {
        .load = {LOAD_DEFAULTS, .turn = poll_turn, .event = connection_event},
        .path = "/",
    };

    parse_options(&http, argc, argv);
    load_begin(&http.load);
    open_connections(&http);
    load_wait(&http.load, &http.connected, http.load.connections, "connections open");
    load_measure(&http.load);
    http.load.stopping = true;
    load_wait(&http.load, &http.waiting, 0, "requests on their way");
    load_report(&http.load, "request");
    return 0;
}
