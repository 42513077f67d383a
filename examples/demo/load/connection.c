/* A connection's life. Each is a closed loop: the next request goes out when the last response is in. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FAILURES_SHOWN = 10, FAILURES_HOPELESS = 100 };

uint64_t
now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- closing and failing ---- */

static void
close_connection(Load *load, Connection *c)
{
    if (c->state == CLOSED)
        return;
    close(c->fd); /* and with it out of the epoll set: nobody else has this descriptor */
    c->fd = -1;
    c->state = CLOSED;
    c->in_flight = false;
    load->open--;
}

static void
reset_connection(Load *load, Connection *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close_connection(load, c);
}

static uint64_t
count_failures(const Load *load)
{
    uint64_t count = 0;
    for (size_t i = 0; i < load->route_count; i++)
        count += load->routes[i].errors + load->routes[i].lost;
    return count;
}

/* Counts it as an error or as a lost response, says why, closes, and goes on with a fresh connection. */
static void
fail(Load *load, Connection *c, bool lost, const char *why)
{
    Route *route = c->route ? c->route : c->own ? c->own : load->routes;

    if (lost)
        route->lost++;
    else
        route->errors++;
    uint64_t failures = count_failures(load);
    if (failures <= FAILURES_SHOWN)
        fprintf(stderr, "load: %s, request %016llx: %s%s\n", route->name, (unsigned long long)c->id,
                lost ? "lost: " : "", why);
    load->hopeless = failures >= FAILURES_HOPELESS;
    close_connection(load, c);
    if (!load->stopping && !load->hopeless)
        connection_open(load, c);
}

void
connection_give_up(Load *load, Connection *c, const char *why)
{
    /* Where the run was broken off, what was under way is nobody's fault. */
    if (!load->hopeless && (c->in_flight || c->state == CONNECTING))
        fail(load, c, true, why);
    else
        close_connection(load, c);
}

/* ---- sending ---- */

static bool
watch(Load *load, Connection *c, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? (uint32_t)EPOLLOUT : 0u), .data.ptr = c};
    c->wants_write = write;
    return !epoll_ctl(load->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* Sends what the kernel takes of head and body, and has epoll say when it takes more. */
static void
flush(Load *load, Connection *c)
{
    size_t total = c->head_len + c->body_len;

    while (c->sent < total) {
        struct iovec parts[2];
        struct msghdr message = {.msg_iov = parts};
        if (c->sent < c->head_len)
            parts[message.msg_iovlen++] = (struct iovec){c->head + c->sent, c->head_len - c->sent};
        size_t of_body = c->sent > c->head_len ? c->sent - c->head_len : 0;
        if (of_body < c->body_len)
            parts[message.msg_iovlen++] = (struct iovec){(char *)c->body + of_body, c->body_len - of_body};

        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            fail(load, c, true, strerror(errno));
            return;
        }
        c->sent += (size_t)sent;
    }
    bool more = c->sent < total;
    if (more != c->wants_write && !watch(load, c, more))
        fail(load, c, true, strerror(errno));
}

static void
begin(Load *load, Connection *c, const char *body, size_t body_len)
{
    c->body = body;
    c->body_len = body_len;
    c->sent = 0;
    c->in_flight = true;
    flush(load, c);
}

static Route *
pick_route(Load *load)
{
    load->random ^= load->random << 13;
    load->random ^= load->random >> 7;
    load->random ^= load->random << 17;
    unsigned left = (unsigned)(load->random % load->total_weight);
    Route *route = load->routes;
    while (route->kind != KIND_HTTP || left >= route->weight) {
        if (route->kind == KIND_HTTP)
            left -= route->weight;
        route++;
    }
    return route;
}

static void
begin_request(Load *load, Connection *c)
{
    Route *route = c->own ? c->own : pick_route(load);
    int at;

    c->route = route;
    c->id = load->next_id++;
    /* A request that is to be hung up on began with its connect: that is part of what it costs. */
    if (route->kind != KIND_DISCONNECT)
        c->since = now_ns();
    at = snprintf(c->head, sizeof c->head,
                  "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-Request-Id: %016llx\r\nAccept: */*\r\n", route->method,
                  route->path, load->port, (unsigned long long)c->id);
    if (route->body.len)
        at += snprintf(c->head + at, sizeof c->head - (size_t)at,
                       "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n", route->body.len);
    memcpy(c->head + at, "\r\n", 2);
    c->head_len = (size_t)at + 2;
    response_begin(&c->response);
    begin(load, c, route->body.data, route->body.len);
}

static void
begin_upgrade(Load *load, Connection *c)
{
    c->state = UPGRADING;
    c->route = c->own;
    c->id = load->next_id++;
    c->ws.closing = false;
    c->head_len =
        (size_t)snprintf(c->head, sizeof c->head,
                         "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " WEBSOCKET_KEY "\r\n\r\n",
                         c->own->path, load->port);
    response_begin(&c->response);
    begin(load, c, NULL, 0);
}

/* The next message, or the goodbye. */
static void
begin_message(Load *load, Connection *c)
{
    c->head_len = 0;
    c->id = load->next_id++;
    c->since = now_ns();
    if (load->stopping)
        websocket_make_close(&c->ws);
    else
        websocket_make_text(&c->ws, c->id);
    begin(load, c, c->ws.frame, c->ws.frame_len);
}

static void
connected(Load *load, Connection *c)
{
    int error = 0;
    socklen_t len = sizeof error;

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error || !watch(load, c, false)) {
        fail(load, c, false, strerror(error ? error : errno));
        return;
    }
    c->state = OPEN;
    if (load->stopping)
        close_connection(load, c);
    else if (c->own && c->own->kind == KIND_WEBSOCKET)
        begin_upgrade(load, c);
    else
        begin_request(load, c);
}

void
connection_open(Load *load, Connection *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(load->port)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int on = 1;

    c->route = NULL;
    c->id = 0;
    c->in_flight = false;
    c->wants_write = true;
    c->since = now_ns();
    c->state = CONNECTING;
    load->open++;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        goto fail;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        goto fail;
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event))
        goto fail;
    return;
fail:
    perror("load: cannot connect");
    (c->own ? c->own : load->routes)->errors++;
    load->hopeless = true; /* a matter of this machine, not of the server */
    close_connection(load, c);
}

/* ---- receiving ---- */

static void
count(Load *load, Connection *c)
{
    uint64_t now = now_ns();
    c->in_flight = false;
    c->route->checked++;
    if (now >= load->clock_from && now < load->clock_to)
        samples_add(&c->route->samples, now - c->since);
}

/* The response is whole and right: what comes next on this connection? */
static void
response_done(Load *load, Connection *c)
{
    if (c->sent < c->head_len + c->body_len) {
        fail(load, c, false, "a response before the request was all sent");
        return;
    }
    switch (c->route->kind) {
    case KIND_HTTP:
        count(load, c);
        if (load->stopping)
            close_connection(load, c);
        else
            begin_request(load, c);
        return;
    case KIND_DISCONNECT:
        count(load, c);
        /* In turn the two ways a peer can go: a FIN, a RST. */
        if (load->disconnects++ % 2)
            reset_connection(load, c);
        else
            close_connection(load, c);
        if (!load->stopping)
            connection_open(load, c);
        return;
    case KIND_WEBSOCKET:
        if (c->state == UPGRADING) {
            c->state = OPEN;
            begin_message(load, c);
        }
        else if (c->ws.closing) {
            close_connection(load, c);
        }
        else {
            count(load, c);
            begin_message(load, c);
        }
        return;
    }
}

/* Checks what arrived. */
static void
received(Load *load, Connection *c, const char *data, size_t len)
{
    ParseResult result;
    size_t used;
    bool ws = c->route->kind == KIND_WEBSOCKET && c->state == OPEN;

    if (ws)
        result = websocket_feed(&c->ws, data, len, &used);
    else if (c->state == UPGRADING)
        result = upgrade_feed(&c->response, data, len, &used);
    else
        result = response_feed(&c->response, c->route, c->id, data, len, &used);

    if (result == PARSE_WRONG)
        fail(load, c, false, ws ? c->ws.why : c->response.why);
    else if (result == PARSE_DONE && used < len && c->route->kind != KIND_DISCONNECT)
        fail(load, c, false, "more bytes than the response has");
    else if (result == PARSE_DONE)
        response_done(load, c);
}

static void
readable(Load *load, Connection *c)
{
    static char buffer[256 * 1024];
    ssize_t len = recv(c->fd, buffer, sizeof buffer, 0);

    if (len > 0)
        received(load, c, buffer, (size_t)len);
    else if (len == 0)
        fail(load, c, true, "the server closed the connection");
    else if (errno != EAGAIN && errno != EINTR)
        fail(load, c, true, strerror(errno));
}

void
connection_event(Load *load, Connection *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        connected(load, c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        readable(load, c);
    else if (events & EPOLLOUT)
        flush(load, c);
}
