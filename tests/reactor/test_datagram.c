/* datagram.c: datagram endpoints, on real sockets */
#include "support.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { CAME = 100000, FAILED = 200000, PRESSED = 1, EASED, FLUSHED }; /* CAME + length, FAILED + errno */

typedef struct Endpoint Endpoint;

struct Endpoint {
    corolla_datagram d;
    char last[65536];
    struct sockaddr_storage from;
    socklen_t from_len;
    void (*react)(Endpoint *e, int what);
    int rc;         /* of the next callback */
    bool log_came;  /* log each */
    unsigned count; /* that came */
    Endpoint *other;
};

static int
told(Endpoint *e, int what)
{
    int rc = e->rc;
    e->rc = 0;
    if (what < CAME || what >= FAILED || e->log_came) {
        log_add(what);
    }
    if (e->react != NULL) {
        e->react(e, what);
    }
    return rc;
}

static int
came(corolla_datagram *d, const void *data, ssize_t n, const struct sockaddr *from, socklen_t len)
{
    Endpoint *e = (Endpoint *)(void *)d;
    if (n < 0) {
        return told(e, FAILED + (int)-n);
    }
    assert_true((size_t)n <= sizeof e->last);
    memcpy(e->last, data, (size_t)n);
    memcpy(&e->from, from, len);
    e->from_len = len;
    e->count++;
    return told(e, CAME + (int)n);
}

static int
failed(corolla_datagram *d, int err)
{
    return told((Endpoint *)(void *)d, FAILED - err);
}

static int
pressure(corolla_datagram *d, bool on)
{
    return told((Endpoint *)(void *)d, on ? PRESSED : EASED);
}

static int
flushed(corolla_datagram *d)
{
    return told((Endpoint *)(void *)d, FLUSHED);
}

static const corolla_datagram_ops ops = {.came = came, .failed = failed, .pressure = pressure, .flushed = flushed};

static Endpoint *
endpoint(corolla_reactor *r, int fd)
{
    Endpoint *e = calloc(1, sizeof *e);
    assert_non_null(e);
    e->log_came = true;
    corolla_datagram_init(&e->d, &ops);
    ok(corolla_datagram_open(r, &e->d, fd));
    ok(corolla_datagram_read(&e->d, true));
    return e;
}

static void
end(Endpoint *e)
{
    int fd = e->d.fd;
    corolla_datagram_close(&e->d);
    corolla_datagram_close(&e->d); /* harmless twice */
    close(fd);
    free(e);
}

static int
udp_socket(struct sockaddr_in *addr)
{
    socklen_t len = sizeof *addr;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

static void
unix_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static int
send_text(Endpoint *e, const char *text)
{
    corolla_chunk chunk = {.data = text, .len = strlen(text)};
    return corolla_datagram_send(&e->d, &chunk, NULL, 0);
}

/* Sends until one is queued; how many the kernel took. */
static unsigned
fill(Endpoint *e)
{
    unsigned taken = 0;
    for (;;) {
        ok(send_text(e, "fill"));
        if (e->d.queued > 0) {
            return taken;
        }
        taken++;
    }
}

static ssize_t
take(int fd, char *buf, size_t len)
{
    return recv(fd, buf, len, MSG_DONTWAIT);
}

/* ---- Receiving ---------------------------------------------------------------------------------------- */

static void
test_a_datagram_comes_with_its_sender(void **state)
{
    corolla_reactor *r = *state;
    struct sockaddr_in here, there;
    Endpoint *e = endpoint(r, udp_socket(&here));
    int peer = udp_socket(&there);
    assert_int_equal(sendto(peer, "hello", 5, 0, (struct sockaddr *)&here, sizeof here), 5);
    assert_int_equal(sendto(peer, "", 0, 0, (struct sockaddr *)&here, sizeof here), 0);
    turn_until(r, e->count == 2);
    assert_memory_equal(e->last, "hello", 5);
    assert_int_equal(e->from_len, sizeof there);
    assert_memory_equal(&e->from, &there, sizeof there);
    expect_log(CAME + 5, CAME + 0);
    corolla_chunk chunk = {.data = "back", .len = 4};
    ok(corolla_datagram_send(&e->d, &chunk, (struct sockaddr *)&e->from, e->from_len));
    char buf[16];
    assert_int_equal(take(peer, buf, sizeof buf), 4);
    chunk.len = 0;
    ok(corolla_datagram_send(&e->d, &chunk, (struct sockaddr *)&e->from, e->from_len));
    assert_int_equal(take(peer, buf, sizeof buf), 0);
    assert_ptr_equal(corolla_datagram_at(r, e->d.fd), &e->d);
    assert_null(corolla_datagram_at(r, peer));
    assert_null(corolla_datagram_at(r, -1));
    close(peer);
    end(e);
}

static void
test_an_unnamed_sender_has_no_address(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    assert_int_equal(send(fds[1], "x", 1, 0), 1);
    turn_until(r, e->count == 1);
    assert_int_equal(e->from_len, 0);
    close(fds[1]);
    end(e);
}

static void
test_a_flood_leaves_others_their_turn(void **state)
{
    corolla_reactor *r = *state;
    struct sockaddr_in here, there;
    Endpoint *e = endpoint(r, udp_socket(&here));
    int peer = udp_socket(&there);
    e->log_came = false;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sendto(peer, "x", 1, 0, (struct sockaddr *)&here, sizeof here), 1);
    }
    ok(turn_at_once(r));
    assert_int_equal(e->count, 32);
    ok(turn_at_once(r));
    assert_int_equal(e->count, 50);
    close(peer);
    end(e);
}

static void
test_nothing_comes_while_reading_is_off(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    ok(corolla_datagram_read(&e->d, false));
    assert_int_equal(send(fds[1], "x", 1, 0), 1);
    ok(turn_at_once(r));
    expect_nothing();
    ok(corolla_datagram_read(&e->d, true));
    turn_until(r, e->count == 1);
    expect_log(CAME + 1);
    close(fds[1]);
    end(e);
}

static void
test_a_callback_that_leaves_the_turn_loses_nothing(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    assert_int_equal(send(fds[1], "1", 1, 0), 1);
    assert_int_equal(send(fds[1], "22", 2, 0), 2);
    e->rc = -7;
    assert_int_equal(corolla_reactor_turn(r), -7);
    expect_log(CAME + 1);
    turn_until(r, e->count == 2);
    expect_log(CAME + 2);
    close(fds[1]);
    end(e);
}

static void
close_when_told(Endpoint *e, int what)
{
    (void)what;
    corolla_datagram_close(&e->d);
}

static void
test_nothing_comes_after_a_close_from_inside(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    assert_int_equal(send(fds[1], "1", 1, 0), 1);
    assert_int_equal(send(fds[1], "22", 2, 0), 2);
    e->react = close_when_told;
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    expect_log(CAME + 1);
    assert_int_equal(send_text(e, "x"), -EBADF);
    assert_int_equal(corolla_datagram_read(&e->d, true), -EBADF);
    close(fds[1]);
    end(e);
}

/* Two endpoints ready in one poll; the first closes the second, whose number goes to a new one. */
static void
replace_other(Endpoint *e, int what)
{
    (void)what;
    if (e->other == NULL) {
        return;
    }
    int fds[2], fd = e->other->d.fd;
    corolla_reactor *r = e->d.watch.reactor;
    corolla_datagram_close(&e->other->d);
    close(fd);
    unix_pair(fds);
    assert_int_equal(fds[0], fd);
    corolla_datagram_init(&e->other->d, &ops);
    ok(corolla_datagram_open(r, &e->other->d, fd));
    ok(corolla_datagram_read(&e->other->d, true));
    e->other = NULL;
    close(fds[1]);
}

static void
test_a_stale_event_is_not_for_the_numbers_new_owner(void **state)
{
    corolla_reactor *r = *state;
    int one[2], two[2];
    unix_pair(one);
    unix_pair(two);
    Endpoint *first = endpoint(r, one[0]), *second = endpoint(r, two[0]);
    first->other = second;
    second->other = NULL;
    first->react = replace_other;
    assert_int_equal(send(one[1], "1", 1, 0), 1);
    assert_int_equal(send(two[1], "22", 2, 0), 2);
    ok(turn_at_once(r));
    expect_log(CAME + 1);
    close(one[1]);
    close(two[1]);
    end(first);
    end(second);
}

/* ---- Errors ------------------------------------------------------------------------------------------- */

static void
test_an_error_leaves_the_endpoint_working(void **state)
{
    corolla_reactor *r = *state;
    struct sockaddr_in here, there;
    int peer = udp_socket(&there);
    Endpoint *e = endpoint(r, udp_socket(&here));
    assert_int_equal(connect(e->d.fd, (struct sockaddr *)&there, sizeof there), 0);
    close(peer);
    ok(send_text(e, "nobody is there"));
    turn_until(r, logged.count == 1); /* a port unreachable came back */
    expect_log(FAILED + ECONNREFUSED);
    ok(send_text(e, "nobody is there"));
    assert_int_equal(send_text(e, "refused by the error that waits"), -ECONNREFUSED);
    ok(turn_at_once(r));
    expect_nothing();
    peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer, (struct sockaddr *)&there, sizeof there), 0);
    ok(send_text(e, "there again"));
    assert_int_equal(sendto(peer, "x", 1, 0, (struct sockaddr *)&here, sizeof here), 1);
    turn_until(r, e->count == 1);
    expect_log(CAME + 1);
    close(peer);
    end(e);
}

static void
test_too_long_is_refused_at_once(void **state)
{
    corolla_reactor *r = *state;
    struct sockaddr_in here;
    Endpoint *e = endpoint(r, udp_socket(&here));
    static char data[70000];
    corolla_chunk chunk = {.data = data, .len = sizeof data};
    assert_int_equal(corolla_datagram_send(&e->d, &chunk, (struct sockaddr *)&here, sizeof here), -EMSGSIZE);
    assert_int_equal(e->d.queued, 0);
    end(e);
}

static void
test_what_is_queued_for_a_peer_that_goes_fails_one_by_one(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    fill(e);
    ok(send_text(e, "two"));
    corolla_datagram_limits(&e->d, 1, 0);
    expect_log(PRESSED);
    close(fds[1]);
    turn_until(r, e->d.queued == 0);
    /* How often a reset is told is the kernel's matter: here once to reading, and each send is refused. */
    assert_true(logged.count >= 4);
    assert_int_equal(logged.entries[logged.count - 1], FLUSHED);
    assert_int_equal(logged.entries[logged.count - 2], EASED);
    assert_true(logged.entries[logged.count - 3] > FAILED);
    assert_true(logged.entries[logged.count - 4] > FAILED);
    log_clear();
    end(e);
}

/* ---- The queue ----------------------------------------------------------------------------------------- */

static void
test_what_does_not_fit_waits_in_order(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    unsigned taken = fill(e);
    char text[] = "changes later";
    ok(send_text(e, text));
    memset(text, '-', 7);
    ok(send_text(e, ""));
    assert_int_equal(e->d.queued, 4 + 13 + 3 * COROLLA_PARCEL_COST);
    char buf[64];
    for (unsigned i = 0; i < taken; i++) {
        assert_int_equal(take(fds[1], buf, sizeof buf), 4);
    }
    turn_until(r, e->d.queued == 0);
    expect_log(FLUSHED);
    assert_int_equal(take(fds[1], buf, sizeof buf), 4);
    assert_int_equal(take(fds[1], buf, sizeof buf), 13);
    assert_memory_equal(buf, "changes later", 13);
    assert_int_equal(take(fds[1], buf, sizeof buf), 0);
    close(fds[1]);
    end(e);
}

static int retained, released;

static void
count_retain(void *owner)
{
    (void)owner;
    retained++;
}

static void
count_release(void *owner)
{
    (void)owner;
    released++;
}

static void
test_kept_by_reference_and_released_once(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    retained = released = 0;
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    corolla_chunk chunk = {.data = "owned", .len = 5, .owner = e, .retain = count_retain, .release = count_release};
    ok(corolla_datagram_send(&e->d, &chunk, NULL, 0));
    assert_int_equal(retained, 0); /* it was taken */
    unsigned taken = fill(e) + 1;
    ok(corolla_datagram_send(&e->d, &chunk, NULL, 0));
    ok(corolla_datagram_send(&e->d, &chunk, NULL, 0));
    assert_int_equal(retained, 2);
    assert_int_equal(released, 0);
    char buf[64];
    for (unsigned i = 0; i < taken; i++) {
        assert_true(take(fds[1], buf, sizeof buf) > 0);
    }
    turn_until(r, e->d.queued == 0);
    assert_int_equal(released, 2);
    fill(e);
    ok(corolla_datagram_send(&e->d, &chunk, NULL, 0));
    corolla_datagram_close(&e->d);
    assert_int_equal(retained, 3);
    assert_int_equal(released, 3);
    close(fds[1]);
    end(e);
    log_clear();
}

static void
test_pressure_alternates(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    corolla_datagram_limits(&e->d, 40, 20);
    char buf[64];
    for (int round = 0; round < 3; round++) {
        fill(e);
        for (int i = 0; i < 10; i++) {
            ok(send_text(e, "more"));
        }
        expect_log(PRESSED);
        while (e->d.queued > 0) {
            (void)take(fds[1], buf, sizeof buf);
            ok(turn_at_once(r));
        }
        expect_log(EASED, FLUSHED);
        while (take(fds[1], buf, sizeof buf) >= 0) {
        }
    }
    close(fds[1]);
    end(e);
}

static void
send_when_eased(Endpoint *e, int what)
{
    if (what == EASED) {
        e->react = NULL;
        ok(send_text(e, "again"));
    }
}

static void
test_limits_of_zero_and_sending_from_inside(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    corolla_datagram_limits(&e->d, 0, 0);
    e->react = send_when_eased;
    fill(e);
    expect_log(PRESSED);
    char buf[64];
    while (take(fds[1], buf, sizeof buf) >= 0) {
    }
    turn_until(r, logged.count == 2);
    expect_log(EASED, FLUSHED);
    assert_int_equal(take(fds[1], buf, sizeof buf), 4);
    assert_int_equal(take(fds[1], buf, sizeof buf), 5);
    close(fds[1]);
    end(e);
}

static void
test_closing_from_pressure_is_the_end(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    unix_pair(fds);
    Endpoint *e = endpoint(r, fds[0]);
    corolla_datagram_limits(&e->d, 0, 0);
    fill(e);
    expect_log(PRESSED);
    e->react = close_when_told;
    char buf[64];
    while (take(fds[1], buf, sizeof buf) >= 0) {
    }
    turn_until(r, logged.count == 1);
    ok(turn_at_once(r));
    expect_log(EASED);
    close(fds[1]);
    end(e);
}

/* Poll says that a Unix socket without a peer is writable, however full the receiver is. */
static void
test_a_full_receiver_is_waited_for_without_spinning(void **state)
{
    corolla_reactor *r = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    socklen_t len = sizeof addr.sun_family; /* an abstract name of the kernel's choice */
    int receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(receiver, (struct sockaddr *)&addr, len), 0);
    len = sizeof addr;
    assert_int_equal(getsockname(receiver, (struct sockaddr *)&addr, &len), 0);
    Endpoint *e = endpoint(r, socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    corolla_chunk chunk = {.data = "x", .len = 1};
    while (e->d.queued == 0) {
        ok(corolla_datagram_send(&e->d, &chunk, (struct sockaddr *)&addr, len));
    }
    unsigned turns = 0;
    int64_t until = corolla_clock() + 30000000;
    while (corolla_clock() < until) {
        ok(corolla_reactor_turn(r));
        turns++;
    }
    assert_in_range(turns, 1, 100);
    char buf[4];
    while (take(receiver, buf, sizeof buf) >= 0) {
    }
    turn_until(r, e->d.queued == 0);
    expect_log(FLUSHED);
    assert_int_equal(take(receiver, buf, sizeof buf), 1);
    /* Closed while it waits to try again. */
    while (e->d.queued == 0) {
        ok(corolla_datagram_send(&e->d, &chunk, (struct sockaddr *)&addr, len));
    }
    while (e->d.retry.index == COROLLA_TIMER_IDLE) {
        ok(turn_at_once(r));
    }
    close(receiver);
    end(e);
    assert_int_equal(r->timers.count, 0);
}

static void
test_an_abandoned_endpoint_does_nothing(void **state)
{
    (void)state;
    int fds[2];
    corolla_reactor r;
    ok(corolla_reactor_init(&r));
    unix_pair(fds);
    Endpoint *e = endpoint(&r, fds[0]);
    fill(e);
    corolla_reactor_abandon(&r);
    assert_int_equal(send_text(e, "x"), -EBADF);
    assert_int_equal(corolla_datagram_read(&e->d, false), -EBADF);
    close(fds[1]);
    end(e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_a_datagram_comes_with_its_sender),
        reactor_test(test_an_unnamed_sender_has_no_address),
        reactor_test(test_a_flood_leaves_others_their_turn),
        reactor_test(test_nothing_comes_while_reading_is_off),
        reactor_test(test_a_callback_that_leaves_the_turn_loses_nothing),
        reactor_test(test_nothing_comes_after_a_close_from_inside),
        reactor_test(test_a_stale_event_is_not_for_the_numbers_new_owner),
        reactor_test(test_an_error_leaves_the_endpoint_working),
        reactor_test(test_too_long_is_refused_at_once),
        reactor_test(test_what_is_queued_for_a_peer_that_goes_fails_one_by_one),
        reactor_test(test_what_does_not_fit_waits_in_order),
        reactor_test(test_kept_by_reference_and_released_once),
        reactor_test(test_pressure_alternates),
        reactor_test(test_limits_of_zero_and_sending_from_inside),
        reactor_test(test_closing_from_pressure_is_the_end),
        reactor_test(test_a_full_receiver_is_waited_for_without_spinning),
        cmocka_unit_test(test_an_abandoned_endpoint_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
