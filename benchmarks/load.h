/* What the load clients share: a clock, a latency histogram, connecting, and the account of whose core was busy.
 *
 * Each client is one thread with one epoll. It never sleeps while it measures: it polls with a zero timeout, so that
 * its own wakeup is no part of a latency and the time it finds nothing to do is known. That idle share is what shows
 * that the server, and not the client, sets the figure.
 */
#ifndef COROLLA_BENCHMARKS_LOAD_H
#define COROLLA_BENCHMARKS_LOAD_H

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ULL

/* A client that cannot go on says why and leaves with status 1: a benchmark with a lost byte has no figure. */
static inline _Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline _Noreturn void
die(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t
now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

/* CPU time the server has used, all its threads together; 0 when no server pid was given. */
static inline uint64_t
process_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec time;

    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) {
        return 0;
    }
    return (uint64_t)time.tv_sec * SECOND_NS + (uint64_t)time.tv_nsec;
}

/* A histogram of nanoseconds with 32 steps to each power of two: an error of at most 3 %, in 8 KiB. */
#define HISTOGRAM_STEP_BITS 5
#define HISTOGRAM_STEPS (1U << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t total;
    uint64_t counts[64 * HISTOGRAM_STEPS];
};

static inline void
histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned slot = (unsigned)value;

    if (value >= HISTOGRAM_STEPS) {
        unsigned shift = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
        slot = (shift << HISTOGRAM_STEP_BITS) + (unsigned)(value >> shift);
    }
    histogram->counts[slot]++;
    histogram->total++;
}

/* The upper edge of the slot that holds the given quantile, in microseconds. */
static inline double
histogram_quantile_us(const struct histogram *histogram, double quantile)
{
    uint64_t wanted = (uint64_t)(quantile * (double)histogram->total);
    uint64_t seen = 0;

    for (unsigned slot = 0; slot < 64 * HISTOGRAM_STEPS; slot++) {
        seen += histogram->counts[slot];
        if (seen > wanted) {
            unsigned shift = slot < HISTOGRAM_STEPS ? 0 : (slot >> HISTOGRAM_STEP_BITS) - 1;
            uint64_t base = slot - ((uint64_t)shift << HISTOGRAM_STEP_BITS);
            return (double)((base + 1) << shift) / 1000.0;
        }
    }
    return 0.0;
}

/* What every client has: what it was told, and what it measures. A client's own struct begins with this one. */
struct load {
    int port;
    unsigned connections;
    uint64_t warmup;
    uint64_t duration;
    uint64_t timeout; /* for connecting, and for what is on its way at the end */
    pid_t server;     /* whose CPU time is told; 0: nobody's */

    /* One turn of the client; sets now to the time after it. */
    void (*turn)(struct load *, uint64_t *now);
    /* An event of a connection, for clients whose turn is poll_turn. */
    void (*event)(struct load *, void *connection, uint32_t events);
    int poller;

    bool stopping;  /* what is on its way is finished, nothing new is begun */
    bool measuring; /* the window is open */
    uint64_t count; /* operations finished in the window */
    uint64_t bytes; /* received with them */
    uint64_t idle;  /* how long of the window there was nothing to do */
    uint64_t begin;
    uint64_t end;
    uint64_t server_cpu;
    struct histogram latency;
};

static inline void
load_finished(struct load *load, uint64_t started, uint64_t now, size_t bytes)
{
    if (load->measuring) {
        load->count++;
        load->bytes += bytes;
        histogram_add(&load->latency, now - started);
    }
}

/* Warms up and measures. */
static inline void
load_measure(struct load *load)
{
    uint64_t now = now_ns();

    for (uint64_t end = now + load->warmup; now < end;) {
        load->turn(load, &now);
    }
    load->begin = now;
    load->server_cpu = process_cpu_ns(load->server);
    load->measuring = true;
    for (uint64_t end = now + load->duration; now < end;) {
        load->turn(load, &now);
    }
    load->measuring = false;
    load->end = now;
    load->server_cpu = process_cpu_ns(load->server) - load->server_cpu;
}

/* Turns until the two counts are equal, or the timeout. */
static inline void
load_wait(struct load *load, const unsigned *count, unsigned wanted, const char *what)
{
    uint64_t now = now_ns();
    uint64_t deadline = now + load->timeout;

    while (*count != wanted) {
        load->turn(load, &now);
        if (now > deadline) {
            die("%s: %u instead of %u after %.0f s", what, *count, wanted, (double)load->timeout / 1e9);
        }
    }
}

/* One turn of a client with a poller. Edge-triggered for both directions: no epoll_ctl after the first, and no recv
 * that finds nothing, as a short recv has left nothing behind and what comes later is an edge of its own. */
static inline void
poll_turn(struct load *load, uint64_t *now)
{
    struct epoll_event events[256];
    int count = epoll_wait(load->poller, events, 256, 0);
    uint64_t before = *now;

    if (count < 0 && errno != EINTR) {
        die("epoll_wait: %s", strerror(errno));
    }
    for (int index = 0; index < count; index++) {
        load->event(load, events[index].data.ptr, events[index].events);
    }
    *now = now_ns();
    if (count == 0 && load->measuring) {
        load->idle += *now - before;
    }
}

static inline void
poll_add(struct load *load, int descriptor, void *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};

    if (epoll_ctl(load->poller, EPOLL_CTL_ADD, descriptor, &event) < 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

/* What was measured, as one JSON object on a line. */
static inline void
load_report(const struct load *load, const char *unit)
{
    double seconds = (double)(load->end - load->begin) / 1e9;

    printf("{\"unit\": \"%s\", \"connections\": %u, \"count\": %" PRIu64 ", \"seconds\": %.6f, \"per_second\": %.3f, ",
           unit, load->connections, load->count, seconds, (double)load->count / seconds);
    printf("\"bytes_per_second\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f, ", (double)load->bytes / seconds,
           histogram_quantile_us(&load->latency, 0.50), histogram_quantile_us(&load->latency, 0.99));
    printf("\"server_cpu\": %.4f, \"client_idle\": %.4f}\n", (double)load->server_cpu / 1e9 / seconds,
           (double)load->idle / 1e9 / seconds);
}

static inline void *
allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        die("out of memory");
    }
    return memory;
}

/* Binds to 127.0.0.1, 127.0.0.2 ... so that no source address runs out of ports, or waits for one in TIME_WAIT.
 * The port is chosen at connect, when the kernel knows the whole four-tuple. */
static inline void
bind_source(int descriptor, unsigned number)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};

    address.sin_addr.s_addr = htonl(0x7f000001U + number);
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)) < 0) {
        die("bind: %s", strerror(errno));
    }
}

/* Starts a connection to 127.0.0.1:port; on loopback the handshake is as a rule over when this returns. */
static inline int
start_connection(int port, unsigned source)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (descriptor < 0) {
        die("socket: %s", strerror(errno));
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bind_source(descriptor, source);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
        die("connect: %s", strerror(errno));
    }
    return descriptor;
}

/* Connects to a Unix socket: the abstract name that suite/sockets.py gives to a number. */
static inline int
start_local_connection(int number)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "corolla-benchmark-%d", number);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, size) < 0) {
        die("connect: %s", strerror(errno));
    }
    return descriptor;
}

static inline long
parse_number(const char *text, long least, const char *name)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || number < least) {
        die("%s: %s is not a number of at least %ld", name, text, least);
    }
    return number;
}

static inline uint64_t
parse_seconds(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || !(seconds >= 0.0 && seconds < 1e6)) {
        die("%s is not a number of seconds", text);
    }
    return (uint64_t)(seconds * 1e9);
}

static inline void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

#define LOAD_OPTIONS                                                                          \
    {"port", required_argument, NULL, 'p'}, {"connections", required_argument, NULL, 'c'},    \
        {"duration", required_argument, NULL, 'd'}, {"warmup", required_argument, NULL, 'w'}, \
        {"timeout", required_argument, NULL, 't'},                                            \
    {                                                                                         \
        "server-pid", required_argument, NULL, 'P'                                            \
    }

/* An option that every client has; false: it is none of them. */
static inline bool
load_option(struct load *load, int option, const char *value)
{
    switch (option) {
    case 'p':
        load->port = (int)parse_number(value, 1, "port");
        return true;
    case 'c':
        load->connections = (unsigned)parse_number(value, 1, "connections");
        return true;
    case 'd':
        load->duration = parse_seconds(value);
        return true;
    case 'w':
        load->warmup = parse_seconds(value);
        return true;
    case 't':
        load->timeout = parse_seconds(value);
        return true;
    case 'P':
        load->server = (pid_t)parse_number(value, 1, "server-pid");
        return true;
    default:
        return false;
    }
}

/* Once the options are read. */
static inline void
load_begin(struct load *load)
{
    if (load->port == 0) {
        die("--port is wanted");
    }
    raise_descriptor_limit();
    load->poller = epoll_create1(EPOLL_CLOEXEC);
    if (load->poller < 0) {
        die("epoll_create1: %s", strerror(errno));
    }
}

#define LOAD_DEFAULTS .connections = 64, .warmup = SECOND_NS / 5, .duration = SECOND_NS, .timeout = 30 * SECOND_NS

#endif
