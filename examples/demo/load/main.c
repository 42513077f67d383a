/* load: the demo's load client. Its options, its loop and its report; load.h says what is where. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_ROUTES = 16, GRACE_SECONDS = 10 };

static const char usage[] =
    "load --port P [--seconds S] [--warmup S] [--connections N] [--core C] --route NAME ... [--route ...]\n"
    "  after each --route, about that route:\n"
    "  --path /PATH  --method GET  --kind http|websocket|disconnect  --type CONTENT-TYPE  --chunked\n"
    "  --weight N (of kind http, which share the N connections; the other kinds have --own N each)\n"
    "  --body FILE (what to send)  --expect FILE (what must come back)\n";

typedef struct {
    Load load;
    double seconds, warmup;
    unsigned connections;
    int core; /* -1: any */
} Run;

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(2);
}

/* ---- options ---- */

static Bytes
read_file(const char *path)
{
    Bytes bytes = {NULL, 0};
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        die(path, strerror(errno));
    long size = ftell(file);
    rewind(file);
    if (size > 0) {
        bytes.len = (size_t)size;
        bytes.data = malloc(bytes.len);
        if (!bytes.data || fread(bytes.data, 1, bytes.len, file) != bytes.len)
            die(path, "cannot be read");
    }
    fclose(file);
    return bytes;
}

static double
number(const char *text, double least, double most)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most))
        die(text, "not a number, or out of bounds");
    return value;
}

static RouteKind
kind(const char *text)
{
    if (!strcmp(text, "http"))
        return KIND_HTTP;
    if (!strcmp(text, "websocket"))
        return KIND_WEBSOCKET;
    if (strcmp(text, "disconnect"))
        die(text, "no such kind of route");
    return KIND_DISCONNECT;
}

static Route *
new_route(Load *load, const char *name)
{
    if (load->route_count == MAX_ROUTES)
        die(name, "too many routes");
    Route *route = &load->routes[load->route_count++];
    *route = (Route){
        .name = name, .method = "GET", .path = "/", .type = "application/octet-stream", .weight = 1, .connections = 1};
    return route;
}

static void
route_option(Route *route, int option, const char *value)
{
    if (!route)
        die("an option about a route", "before any --route");
    switch (option) {
    case 'k':
        route->kind = kind(value);
        break;
    case 'm':
        route->method = value;
        break;
    case 'p':
        route->path = value;
        break;
    case 't':
        route->type = value;
        break;
    case 'w':
        route->weight = (unsigned)number(value, 1, 1000);
        break;
    case 'o':
        route->connections = (unsigned)number(value, 1, 10000);
        break;
    case 'h':
        route->chunked = true;
        break;
    case 'b':
        route->body = read_file(value);
        break;
    case 'e':
        route->expect = read_file(value);
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void
parse_options(Run *run, int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, 0, 'P'},   {"seconds", required_argument, 0, 'S'},
        {"warmup", required_argument, 0, 'W'}, {"connections", required_argument, 0, 'C'},
        {"core", required_argument, 0, 'A'},   {"route", required_argument, 0, 'R'},
        {"kind", required_argument, 0, 'k'},   {"method", required_argument, 0, 'm'},
        {"path", required_argument, 0, 'p'},   {"type", required_argument, 0, 't'},
        {"weight", required_argument, 0, 'w'}, {"own", required_argument, 0, 'o'},
        {"chunked", no_argument, 0, 'h'},      {"body", required_argument, 0, 'b'},
        {"expect", required_argument, 0, 'e'}, {0, 0, 0, 0},
    };
    Route *route = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'P':
            run->load.port = (uint16_t)number(optarg, 1, 65535);
            break;
        case 'S':
            run->seconds = number(optarg, 0.1, 3600);
            break;
        case 'W':
            run->warmup = number(optarg, 0, 60);
            break;
        case 'C':
            run->connections = (unsigned)number(optarg, 1, 10000);
            break;
        case 'A':
            run->core = (int)number(optarg, 0, CPU_SETSIZE - 1);
            break;
        case 'R':
            route = new_route(&run->load, optarg);
            break;
        default:
            route_option(route, option, optarg);
        }
    }
    if (!run->load.port || !route || optind < argc) {
        fputs(usage, stderr);
        exit(2);
    }
}

/* ---- the run ---- */

static size_t
count_connections(Run *run)
{
    size_t count = 0;
    for (size_t i = 0; i < run->load.route_count; i++) {
        Route *route = &run->load.routes[i];
        if (route->kind == KIND_HTTP)
            run->load.total_weight += route->weight;
        else
            count += route->connections;
    }
    return count + (run->load.total_weight ? run->connections : 0);
}

static Connection *
open_connections(Run *run, size_t count)
{
    Connection *connections = calloc(count, sizeof *connections);
    size_t at = 0;

    if (!connections)
        die("connections", strerror(errno));
    for (size_t i = 0; i < run->load.route_count; i++) {
        Route *route = &run->load.routes[i];
        for (unsigned n = 0; route->kind != KIND_HTTP && n < route->connections; n++) {
            connections[at].own = route;
            if (route->kind == KIND_WEBSOCKET && !websocket_init(&connections[at].ws))
                die("connections", strerror(errno));
            at++;
        }
    }
    for (size_t i = 0; i < count && !run->load.hopeless; i++)
        connection_open(&run->load, &connections[i]);
    return connections;
}

static void
run_load(Load *load)
{
    struct epoll_event events[256];
    uint64_t grace_to = load->clock_to + GRACE_SECONDS * 1000000000ull, now;

    while (load->open && !load->hopeless && (now = now_ns()) < grace_to) {
        load->stopping = now >= load->clock_to;
        int ready = epoll_wait(load->epoll, events, 256, 20);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait", strerror(errno));
        for (int i = 0; i < ready; i++)
            connection_event(load, events[i].data.ptr, events[i].events);
    }
}

/* ---- the report ---- */

static double
cpu_seconds(void)
{
    struct rusage usage_now;
    getrusage(RUSAGE_SELF, &usage_now);
    return (double)(usage_now.ru_utime.tv_sec + usage_now.ru_stime.tv_sec) +
           (double)(usage_now.ru_utime.tv_usec + usage_now.ru_stime.tv_usec) / 1e6;
}

static void
report(const Run *run, double busy)
{
    printf("{\"seconds\": %.3f, \"busy\": %.3f, \"disconnects\": %llu, \"routes\": [", run->seconds, busy,
           (unsigned long long)run->load.disconnects);
    for (size_t i = 0; i < run->load.route_count; i++) {
        Route *route = &run->load.routes[i];
        samples_sort(&route->samples);
        printf("%s\n  {\"name\": \"%s\", \"rate\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
               "\"p999_us\": %.1f, \"checked\": %llu, \"errors\": %llu, \"lost\": %llu}",
               i ? "," : "", route->name, (double)route->samples.count / run->seconds,
               samples_percentile(&route->samples, 50), samples_percentile(&route->samples, 99),
               samples_percentile(&route->samples, 99.9), (unsigned long long)route->checked,
               (unsigned long long)route->errors, (unsigned long long)route->lost);
    }
    puts("]}");
}

static void
pin(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET((size_t)core, &cores);
    if (sched_setaffinity(0, sizeof cores, &cores))
        die("--core", strerror(errno));
}

int
main(int argc, char **argv)
{
    Run run = {.seconds = 5, .warmup = 0.5, .connections = 64, .core = -1};
    Load *load = &run.load;

    load->routes = calloc(MAX_ROUTES, sizeof *load->routes);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->routes || load->epoll < 0)
        die("start", strerror(errno));
    load->random = 88172645463325252ull;
    load->next_id = 1;
    parse_options(&run, argc, argv);
    if (run.core >= 0)
        pin(run.core);
    /* Whatever happens, this process ends. */
    alarm((unsigned)(run.warmup + run.seconds) + GRACE_SECONDS + 10);

    size_t count = count_connections(&run);
    uint64_t began = now_ns();
    load->clock_from = began + (uint64_t)(run.warmup * 1e9);
    load->clock_to = load->clock_from + (uint64_t)(run.seconds * 1e9);
    Connection *connections = open_connections(&run, count);
    run_load(load);

    load->stopping = true;
    for (size_t i = 0; i < count; i++) {
        connection_give_up(load, &connections[i], "no response in time");
        websocket_free(&connections[i].ws);
    }
    report(&run, cpu_seconds() / ((double)(now_ns() - began) / 1e9));

    uint64_t failures = 0;
    for (size_t i = 0; i < load->route_count; i++) {
        Route *route = &load->routes[i];
        failures += route->errors + route->lost;
        free(route->samples.at);
        free(route->body.data);
        free(route->expect.data);
    }
    free(connections);
    free(load->routes);
    close(load->epoll);
    return failures ? 1 : 0;
}
