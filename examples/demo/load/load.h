/* The demo's load client: plain epoll, HTTP/1.1 keep-alive and WebSockets, every byte checked.
 * It knows nothing of Python or corolla, so that what it measures is the server.
 *
 *   main.c        options, the loop, the report
 *   connection.c  a connection's life: connect, send, receive, close, connect again
 *   http.c        responses, compared with what is expected as they arrive
 *   websocket.c   messages, the same
 *   samples.c     latencies and their percentiles
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data; /* owned; NULL when len is 0 */
    size_t len;
} Bytes;

/* Latencies in nanoseconds, all of them kept: percentiles are exact. */
typedef struct {
    uint64_t *at; /* owned */
    size_t count, room;
} Samples;

void samples_add(Samples *samples, uint64_t nanoseconds);
void samples_sort(Samples *samples);
/* In microseconds; samples must be sorted. 0 when there are none. */
double samples_percentile(const Samples *samples, double percent);

typedef enum {
    KIND_HTTP,       /* request, whole response, next request on the same connection */
    KIND_WEBSOCKET,  /* one upgrade, then messages to and fro */
    KIND_DISCONNECT, /* request, first bytes of the response, hang up, connect again */
} RouteKind;

typedef struct {
    const char *name;                 /* borrowed: argv */
    const char *method, *path, *type; /* borrowed: argv */
    RouteKind kind;
    unsigned weight;      /* KIND_HTTP: its share of the requests on the shared connections */
    unsigned connections; /* the other kinds: connections of their own */
    bool chunked;         /* the response comes in chunks, else with a Content-Length */
    Bytes body;           /* owned: what a request carries */
    Bytes expect;         /* owned: what a response must carry (KIND_DISCONNECT: begin with) */

    Samples samples;  /* responses that ended while the clock ran */
    uint64_t checked; /* every response found right, warm-up and wind-down included */
    uint64_t errors;  /* wrong responses and failed connects */
    uint64_t lost;    /* requests that never got their whole response */
} Route;

/* ---- http.c ---- */

typedef enum { PARSE_MORE, PARSE_DONE, PARSE_WRONG } ParseResult;
typedef enum { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, IN_CHUNK_END, IN_TRAILER } HttpState;

typedef struct {
    HttpState state;
    char line[4096]; /* the head, later the line of a chunk's size */
    size_t line_len;
    uint64_t left;   /* of the body, or of this chunk */
    size_t got;      /* bytes of the body compared so far */
    const char *why; /* borrowed: what was wrong */
} Response;

void response_begin(Response *response);
/* Takes what it can of data and says in *used how much. With PARSE_WRONG, response->why says what is wrong. */
ParseResult response_feed(Response *response, const Route *route, uint64_t id, const char *data, size_t len,
                          size_t *used);
/* The head of an upgrade to a WebSocket. */
ParseResult upgrade_feed(Response *response, const char *data, size_t len, size_t *used);

/* ---- websocket.c ---- */

#define WEBSOCKET_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WEBSOCKET_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define WEBSOCKET_MAX (14 + 70000)

typedef struct {
    char *message; /* owned: the text sent last, WEBSOCKET_MAX bytes of room */
    char *frame;   /* owned: the same, framed and masked */
    size_t message_len, frame_len;
    unsigned char head[10]; /* of the frame that is coming in */
    size_t head_len;
    uint64_t left;   /* bytes of this frame still to come */
    size_t got;      /* bytes of the message compared so far */
    bool closing;    /* our close frame is out */
    const char *why; /* borrowed: what was wrong */
} WebSocket;

bool websocket_init(WebSocket *ws);
void websocket_free(WebSocket *ws);
/* Both leave the bytes to send in ws->frame. */
void websocket_make_text(WebSocket *ws, uint64_t id);
void websocket_make_close(WebSocket *ws);
ParseResult websocket_feed(WebSocket *ws, const char *data, size_t len, size_t *used);

/* ---- connection.c ---- */

typedef enum { CLOSED, CONNECTING, UPGRADING, OPEN } ConnectionState;

typedef struct {
    int fd; /* owned; -1 when closed */
    ConnectionState state;
    bool wants_write;
    bool in_flight; /* a request is out whose response has not ended */
    Route *own;     /* borrowed: this connection's only route; NULL: it takes from the shared ones */
    Route *route;   /* borrowed: the request in flight */
    uint64_t id;    /* of the request in flight; the server sends it back */
    uint64_t since; /* when it began */
    char head[512];
    size_t head_len;
    const char *body; /* borrowed: the route's, or ws.frame */
    size_t body_len, sent;
    Response response;
    WebSocket ws;
} Connection;

/* What the connections share. */
typedef struct {
    int epoll; /* owned */
    uint16_t port;
    Route *routes; /* owned */
    size_t route_count;
    unsigned total_weight;
    uint64_t clock_from, clock_to; /* responses that end in between are sampled */
    uint64_t next_id, random;
    uint64_t disconnects;
    size_t open;   /* connections that are not CLOSED */
    bool stopping; /* no new requests */
    bool hopeless; /* too many errors to go on */
} Load;

uint64_t now_ns(void);
void connection_open(Load *load, Connection *c);
void connection_event(Load *load, Connection *c, uint32_t events);
/* At the end of a run: what is still in flight is lost. */
void connection_give_up(Load *load, Connection *c, const char *why);

#endif
