/* listener.c */
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct Server {
    corolla_listener listener; /* first: a listener is its server */
    struct sockaddr_storage addr;
    socklen_t len;
    int fd;
    int64_t now;
    bool stops;
    int rc;
} Server;

static int
accepted(corolla_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    Server *server = (Server *)(void *)l;
    assert_int_equal(peer->sa_family, AF_INET);
    assert_int_equal(len, sizeof(struct sockaddr_in));
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1); /* non-blocking */
    assert_int_equal(errno, EAGAIN);
    close(fd);
    log_add(1);
    if (server->stops) {
        corolla_listener_stop(l);
    }
    return server->rc;
}

static int
failed(corolla_listener *l, int err)
{
    (void)l;
    log_add(err);
    return 0;
}

static int
server_clock(void *ctx, int64_t *now)
{
    *now = ((Server *)ctx)->now;
    return 0;
}

static void
server_start(corolla_reactor *r, Server *server, int batch)
{
    *server = (Server){0};
    server->fd = listening_socket(16, &server->addr, &server->len);
    server->listener.accepted = accepted;
    server->listener.failed = failed;
    corolla_listener_init(&server->listener); /* leaves what the owner has set */
    ok(corolla_listener_start(r, &server->listener, server->fd, batch));
}

static void
server_stop(Server *server)
{
    corolla_listener_stop(&server->listener);
    corolla_listener_stop(&server->listener);
    close(server->fd);
}

static void
connect_some(Server *server, int *clients, int count)
{
    for (int i = 0; i < count; i++) {
        clients[i] = connect_to(&server->addr, server->len);
    }
}

static void
close_some(int *clients, int count)
{
    for (int i = 0; i < count; i++) {
        close(clients[i]);
    }
}

static void
test_connections_are_accepted_in_batches(void **state)
{
    corolla_reactor *r = *state;
    Server server;
    int clients[5];
    server_start(r, &server, 3);
    connect_some(&server, clients, 5);
    ok(corolla_reactor_turn(r));
    expect_log(1, 1, 1);
    ok(corolla_reactor_turn(r));
    expect_log(1, 1);
    ok(turn_at_once(r));
    expect_nothing();
    server_stop(&server);
    close_some(clients, 5);
}

static void
test_stopping_and_leaving_from_inside(void **state)
{
    corolla_reactor *r = *state;
    Server server;
    int clients[4];
    server_start(r, &server, 10);
    connect_some(&server, clients, 4);
    server.rc = -5;
    assert_int_equal(corolla_reactor_turn(r), -5);
    expect_log(1);
    server.rc = 0;
    server.stops = true;
    ok(corolla_reactor_turn(r));
    expect_log(1);
    ok(turn_at_once(r));
    expect_nothing();
    ok(corolla_listener_start(r, &server.listener, server.fd, 10)); /* and again */
    server.stops = false;
    ok(corolla_reactor_turn(r));
    expect_log(1, 1);
    server_stop(&server);
    close_some(clients, 4);
}

static int polled;

static int
count_polled(void *ctx, int rc)
{
    (void)ctx;
    polled = rc;
    return 0;
}

static void
test_out_of_descriptors_it_waits_and_goes_on(void **state)
{
    corolla_reactor *r = *state;
    Server server;
    int clients[3];
    struct rlimit limit, tight;
    server_start(r, &server, 10);
    connect_some(&server, clients, 3);
    r->hooks = (corolla_hooks){.after_poll = count_polled, .clock = server_clock, .ctx = &server};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = (rlim_t)server.fd; /* no number is free below the listener's */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_int_equal(polled, 0); /* no spin */
    server.now = COROLLA_ACCEPT_RETRY;
    ok(turn_at_once(r)); /* the retry is due; accept fails in the turn after it */
    ok(turn_at_once(r));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_log(-EMFILE, -EMFILE); /* one report a second */
    ok(turn_at_once(r));
    expect_nothing();
    server.now = 2 * COROLLA_ACCEPT_RETRY;
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    expect_log(1, 1, 1);
    server_stop(&server);
    close_some(clients, 3);
}

static void
test_stopping_while_it_waits_cancels_the_retry(void **state)
{
    corolla_reactor *r = *state;
    Server server;
    int client;
    struct rlimit limit, tight;
    server_start(r, &server, 10);
    connect_some(&server, &client, 1);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = (rlim_t)server.fd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    ok(turn_at_once(r));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_log(-EMFILE);
    assert_int_equal(r->timers.count, 1);
    server_stop(&server);
    assert_int_equal(r->timers.count, 0);
    close(client);
}

static void
test_a_socket_that_does_not_listen_is_told_once(void **state)
{
    corolla_reactor *r = *state;
    Server server;
    server_start(r, &server, 10);
    r->hooks.after_poll = count_polled;
    shutdown(server.fd, SHUT_RD);
    ok(corolla_reactor_turn(r));
    expect_log(-EINVAL);
    ok(turn_at_once(r));
    assert_int_equal(polled, 0);
    expect_nothing();
    server_stop(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_connections_are_accepted_in_batches),
        reactor_test(test_stopping_and_leaving_from_inside),
        reactor_test(test_out_of_descriptors_it_waits_and_goes_on),
        reactor_test(test_stopping_while_it_waits_cancels_the_retry),
        reactor_test(test_a_socket_that_does_not_listen_is_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
