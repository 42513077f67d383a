/* connector.c */
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TARGETS = 4 };
#define SECOND INT64_C(1000000000)

typedef struct Attempt {
    corolla_connector connector; /* first: a connector is its attempt */
    corolla_target targets[MOST_TARGETS];
    int64_t now;
    bool done;
    int fd;
    size_t winner;
    int rc;
} Attempt;

static int
attempt_done(corolla_connector *c, int fd, size_t winner)
{
    Attempt *attempt = (Attempt *)(void *)c;
    assert_false(attempt->done);
    attempt->done = true;
    attempt->fd = fd;
    attempt->winner = winner;
    memset(c, 0xff, sizeof *c); /* it is the owner's again, who may have freed it */
    return attempt->rc;
}

static int
attempt_clock(void *ctx, int64_t *now)
{
    *now = ((Attempt *)ctx)->now;
    return 0;
}

static void
attempt_init(Attempt *attempt, int64_t delay)
{
    memset(attempt, 0, sizeof *attempt);
    attempt->connector.targets = attempt->targets;
    attempt->connector.delay = delay;
    attempt->connector.done = attempt_done;
}

static void
attempt_start(corolla_reactor *r, Attempt *attempt)
{
    corolla_connector_init(&attempt->connector); /* leaves what the owner has set */
    ok(corolla_connector_start(r, &attempt->connector));
    assert_false(attempt->done);
}

static corolla_target *
add_target(Attempt *attempt, const struct sockaddr_storage *addr, socklen_t len)
{
    corolla_target *target = &attempt->targets[attempt->connector.count++];
    *target = (corolla_target){.family = addr->ss_family, .type = SOCK_STREAM, .addr = *addr, .addrlen = len};
    return target;
}

/* An address where nobody listens: bound, so that nobody else gets it either. */
static int
refusing(struct sockaddr_storage *addr, socklen_t *len)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    *len = sizeof *addr;
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, len), 0);
    return fd;
}

/* An address that never answers: a listener whose backlog is full drops what knocks. */
typedef struct Silent {
    int listener, clients[4];
    struct sockaddr_storage addr;
    socklen_t len;
} Silent;

static void
silent_start(Silent *silent)
{
    silent->listener = listening_socket(0, &silent->addr, &silent->len);
    for (int i = 0; i < 4; i++) {
        silent->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(silent->clients[i], (struct sockaddr *)&silent->addr, silent->len);
    }
}

static void
silent_stop(Silent *silent)
{
    for (int i = 0; i < 4; i++) {
        close(silent->clients[i]);
    }
    close(silent->listener);
}

static void
test_the_first_that_answers(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    struct sockaddr_storage addr, bad;
    socklen_t len, bad_len;
    int listener = listening_socket(4, &addr, &len);
    int nobody = refusing(&bad, &bad_len);
    attempt_init(&attempt, -1);
    add_target(&attempt, &bad, bad_len);
    add_target(&attempt, &addr, len);
    add_target(&attempt, &addr, len);
    attempt_start(r, &attempt);
    turn_until(r, attempt.done);
    assert_int_equal(attempt.winner, 1);
    assert_int_equal(attempt.targets[0].error, -ECONNREFUSED);
    assert_int_equal(attempt.targets[0].stage, COROLLA_AT_CONNECT);
    assert_int_equal(attempt.targets[1].error, 0);
    assert_int_equal(r->watch_count, 0);
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(write(attempt.fd, "x", 1), 1);
    char byte;
    assert_int_equal(read(peer, &byte, 1), 1);
    assert_int_equal(accept4(listener, NULL, NULL, SOCK_CLOEXEC), -1); /* the third was not tried */
    close(peer);
    close(attempt.fd);
    close(listener);
    close(nobody);
}

static void
test_all_fail(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    struct sockaddr_storage bad;
    socklen_t bad_len;
    int nobody = refusing(&bad, &bad_len);
    size_t before = open_descriptors();
    attempt_init(&attempt, SECOND);
    add_target(&attempt, &bad, bad_len);
    add_target(&attempt, &bad, bad_len)->family = -1;
    add_target(&attempt, &bad, bad_len);
    attempt.rc = -99; /* leaves the turn, like every callback's */
    attempt_start(r, &attempt);
    int rc = 0;
    Watchdog dog;
    watchdog_start(r, &dog);
    while (rc == 0) {
        rc = corolla_reactor_turn(r); /* no delay between them: a failure starts the next at once */
        assert_false(dog.bitten);
    }
    watchdog_stop(&dog);
    assert_int_equal(rc, -99);
    assert_true(attempt.done);
    assert_int_equal(attempt.fd, -1);
    assert_int_equal(attempt.targets[0].error, -ECONNREFUSED);
    assert_int_equal(attempt.targets[1].error, -EAFNOSUPPORT);
    assert_int_equal(attempt.targets[1].stage, COROLLA_AT_SOCKET);
    assert_int_equal(attempt.targets[2].error, -ECONNREFUSED);
    assert_int_equal(open_descriptors(), before);
    close(nobody);
}

static void
test_nothing_to_try(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    attempt_init(&attempt, -1);
    attempt_start(r, &attempt);
    turn_until(r, attempt.done);
    assert_int_equal(attempt.fd, -1);
}

static void
test_a_silent_address_gets_company_after_the_delay(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    Silent silent;
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = listening_socket(4, &addr, &len);
    silent_start(&silent);
    size_t before = open_descriptors();
    attempt_init(&attempt, SECOND / 4);
    add_target(&attempt, &silent.addr, silent.len);
    add_target(&attempt, &addr, len);
    r->hooks = (corolla_hooks){.clock = attempt_clock, .ctx = &attempt};
    attempt_start(r, &attempt);
    ok(turn_at_once(r));
    attempt.now = SECOND / 4 - 1;
    ok(turn_at_once(r));
    assert_int_equal(open_descriptors(), before + 1); /* one attempt so far */
    attempt.now = SECOND / 4;
    while (!attempt.done) {
        ok(turn_at_once(r));
    }
    assert_int_equal(attempt.winner, 1);
    assert_int_equal(open_descriptors(), before + 1); /* the silent one's is closed */
    close(attempt.fd);
    silent_stop(&silent);
    close(listener);
}

/* Refused not at once but when the kernel knocks again, a second later: the listener has gone by then. */
static void
test_a_late_failure_starts_the_next_at_once(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    Silent silent;
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = listening_socket(4, &addr, &len);
    silent_start(&silent);
    attempt_init(&attempt, 100 * SECOND);
    add_target(&attempt, &silent.addr, silent.len);
    add_target(&attempt, &addr, len);
    add_target(&attempt, &addr, len);
    attempt_start(r, &attempt);
    ok(turn_at_once(r));
    assert_int_equal(r->watch_count, 1);
    silent_stop(&silent);
    turn_until(r, attempt.done);
    assert_int_equal(attempt.winner, 1);
    assert_int_equal(attempt.targets[0].error, -ECONNREFUSED);
    close(attempt.fd);
    close(listener);
}

/* Two attempts are under way when the older one is refused: the third has to wait for its time all the same. */
static void
test_an_older_failure_brings_nothing_forward(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    Silent older, latest;
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = listening_socket(4, &addr, &len);
    silent_start(&older);
    silent_start(&latest);
    attempt_init(&attempt, SECOND);
    add_target(&attempt, &older.addr, older.len);
    add_target(&attempt, &latest.addr, latest.len);
    add_target(&attempt, &addr, len);
    r->hooks = (corolla_hooks){.clock = attempt_clock, .ctx = &attempt};
    attempt_start(r, &attempt);
    ok(turn_at_once(r));
    attempt.now = SECOND;
    ok(turn_at_once(r));
    assert_int_equal(r->watch_count, 2);
    silent_stop(&older);
    while (attempt.targets[0].error == 0) { /* the kernel knocks again after a second */
        ok(turn_at_once(r));
    }
    assert_int_equal(attempt.targets[0].error, -ECONNREFUSED);
    attempt.now = 2 * SECOND - 1;
    ok(turn_at_once(r));
    assert_int_equal(r->watch_count, 1);
    assert_int_equal(attempt.targets[2].fd, -1);
    attempt.now = 2 * SECOND;
    while (!attempt.done) {
        ok(turn_at_once(r));
    }
    assert_int_equal(attempt.winner, 2);
    close(attempt.fd);
    silent_stop(&latest);
    close(listener);
}

static void
test_cancel_closes_what_was_opened(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    Silent silent;
    silent_start(&silent);
    size_t before = open_descriptors();
    attempt_init(&attempt, 0);
    for (int i = 0; i < 3; i++) {
        add_target(&attempt, &silent.addr, silent.len);
    }
    attempt_start(r, &attempt);
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_int_equal(open_descriptors(), before + 3);
    assert_int_equal(r->watch_count, 3);
    corolla_connector_cancel(&attempt.connector);
    corolla_connector_cancel(&attempt.connector);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(r->watch_count, 0);
    /* Also before it has begun. */
    attempt_start(r, &attempt);
    corolla_connector_cancel(&attempt.connector);
    ok(turn_at_once(r));
    assert_false(attempt.done);
    silent_stop(&silent);
}

static void
test_local_addresses_are_tried_in_order(void **state)
{
    corolla_reactor *r = *state;
    Attempt attempt;
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = listening_socket(4, &addr, &len);
    struct sockaddr_in foreign = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201)}; /* 192.0.2.1 */
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002)};
    struct addrinfo other = {.ai_family = AF_INET6};
    struct addrinfo last = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&loopback, .ai_addrlen = sizeof loopback};
    struct addrinfo second = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&foreign, .ai_addrlen = sizeof foreign, .ai_next = &last};
    struct addrinfo first = {.ai_family = AF_INET6, .ai_next = &second};

    attempt_init(&attempt, -1);
    add_target(&attempt, &addr, len);
    attempt.connector.local = &first;
    attempt_start(r, &attempt);
    turn_until(r, attempt.done);
    assert_true(attempt.fd >= 0);
    struct sockaddr_in mine;
    socklen_t mine_len = sizeof mine;
    assert_int_equal(getsockname(attempt.fd, (struct sockaddr *)&mine, &mine_len), 0);
    assert_int_equal(mine.sin_addr.s_addr, loopback.sin_addr.s_addr);
    close(attempt.fd);

    second.ai_next = NULL;
    int errors[2] = {0, 0};
    attempt_init(&attempt, -1);
    add_target(&attempt, &addr, len)->bind_errors = errors;
    attempt.connector.local = &first;
    attempt_start(r, &attempt);
    turn_until(r, attempt.done);
    assert_int_equal(attempt.fd, -1);
    assert_int_equal(attempt.targets[0].stage, COROLLA_AT_BIND);
    assert_int_equal(attempt.targets[0].error, -EADDRNOTAVAIL);
    assert_int_equal(attempt.targets[0].bind_index, 1);
    assert_int_equal(errors[0], 0); /* of another family: not tried */
    assert_int_equal(errors[1], -EADDRNOTAVAIL);

    attempt_init(&attempt, -1);
    add_target(&attempt, &addr, len);
    attempt.connector.local = &other; /* none of the target's family */
    attempt_start(r, &attempt);
    turn_until(r, attempt.done);
    assert_int_equal(attempt.targets[0].stage, COROLLA_AT_BIND);
    assert_int_equal(attempt.targets[0].bind_index, -1);
    close(listener);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_the_first_that_answers),
        reactor_test(test_all_fail),
        reactor_test(test_nothing_to_try),
        reactor_test(test_a_silent_address_gets_company_after_the_delay),
        reactor_test(test_a_late_failure_starts_the_next_at_once),
        reactor_test(test_an_older_failure_brings_nothing_forward),
        reactor_test(test_cancel_closes_what_was_opened),
        reactor_test(test_local_addresses_are_tried_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
