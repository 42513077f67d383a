/* stream.c: pressure, and writes held back to the end of the turn */
#include "end.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Pressure ---------------------------------------------------------------------------------------- */

static void
test_pressure_alternates(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 18);
    corolla_stream_limits(&end->stream, 1 << 16, 1 << 14);
    size_t at = 0, written = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            char *more = make_bytes(written, 1 << 18);
            ok(write_bytes(end, more, 1 << 18));
            free(more);
            written += 1 << 18;
        }
        expect_log(PRESSED);
        drain_until(r, end, &at, at == written);
        turn_until(r, end->stream.queued == 0);
        assert_true(logged.count == 2);
        expect_log(EASED, FLUSHED);
    }
    free(bytes);
    end_close(end);
}

static void
test_limits_of_zero_still_drain(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 20);
    corolla_stream_limits(&end->stream, 0, 0);
    ok(write_bytes(end, bytes, 10));
    expect_nothing(); /* it was taken */
    size_t at = 0;
    drain_until(r, end, &at, at == 10);
    ok(write_bytes(end, bytes, 1 << 20));
    expect_log(PRESSED);
    at = 0;
    drain_until(r, end, &at, at == 1 << 20);
    turn_until(r, end->stream.queued == 0);
    expect_log(EASED, FLUSHED);
    free(bytes);
    end_close(end);
}

static void
test_new_limits_are_looked_at_at_once(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 20);
    corolla_stream_limits(&end->stream, 1 << 21, 0);
    ok(write_bytes(end, bytes, 1 << 20));
    expect_nothing();
    corolla_stream_limits(&end->stream, 1 << 10, 1 << 12);
    expect_log(PRESSED);
    assert_int_equal(end->stream.low, 1 << 10);
    free(bytes);
    end_close(end);
}

static void
write_when_eased(End *end, int what)
{
    if (what == EASED) {
        end->react = NULL;
        ok(write_bytes(end, "again", 5));
    }
}

static void
test_a_writer_that_waited_may_write_from_inside(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 20);
    ok(write_bytes(end, bytes, 1 << 20));
    expect_log(PRESSED);
    end->react = write_when_eased;
    end->bytes_in_all = 1 << 20;
    size_t at = 0, got = 0;
    char rest[64];
    drain_until(r, end, &at, at == 1 << 20);
    turn_until(r, recv_more(end, rest, &got) == 5);
    assert_memory_equal(rest, "again", 5);
    free(bytes);
    end_close(end);
}

static void
test_flushed_is_told_after_a_negative_pressure(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 18);
    corolla_stream_limits(&end->stream, 1, 0);
    ok(write_bytes(end, bytes, 1 << 18));
    expect_log(PRESSED);
    end->pressure_rc = -6;
    size_t at = 0;
    int rc = 0;
    Watchdog dog;
    watchdog_start(r, &dog);
    while (rc == 0) {
        peer_read(end, &at);
        rc = turn_at_once(r);
        assert_false(dog.bitten);
    }
    watchdog_stop(&dog);
    assert_int_equal(rc, -6);
    expect_log(EASED);
    ok(corolla_reactor_turn(r)); /* does not sleep */
    expect_log(FLUSHED);
    free(bytes);
    end_close(end);
}

/* ---- Holding back -------------------------------------------------------------------------------------- */

typedef struct Writes {
    End *end;
    int count;
    const char *expected; /* of the peer, while still in the job */
    int number;
} Writes;

static int
write_often(void *arg)
{
    Writes *writes = arg;
    for (int i = 0; i < writes->count; i++) {
        char byte = (char)('a' + writes->number++ % 26);
        ok(write_bytes(writes->end, &byte, 1));
    }
    if (writes->expected != NULL) {
        peer_expect(writes->end, writes->expected);
    }
    else {
        peer_expect_nothing(writes->end);
    }
    return 0;
}

static void
turn_with_writes(corolla_reactor *r, Writes *writes, int count, const char *expected)
{
    writes->count = count;
    writes->expected = expected;
    ok(corolla_reactor_post(r, write_often, writes));
    ok(corolla_reactor_turn(r));
}

static void
test_a_stream_learns_to_hold_back_and_unlearns(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    Writes writes = {.end = end};
    turn_with_writes(r, &writes, 2, "ab");
    turn_with_writes(r, &writes, 1, "c"); /* a single write: it starts again from nothing */
    turn_with_writes(r, &writes, 2, "de");
    turn_with_writes(r, &writes, 3, "fgh");
    turn_with_writes(r, &writes, 2, NULL); /* two such turns behind it: held */
    peer_expect(end, "ij");                /* and out at the end of the turn */
    expect_log(FLUSHED);
    post_number(r, 0);
    ok(corolla_reactor_turn(r)); /* a turn without writes says nothing */
    log_clear();
    turn_with_writes(r, &writes, 1, NULL);
    peer_expect(end, "k");
    expect_log(FLUSHED);
    turn_with_writes(r, &writes, 1, "l"); /* unlearned */
    expect_nothing();
    assert_int_equal(end->stream.watch.interest, 0);
    end_close(end);
}

static End *
holding_end(corolla_reactor *r, Writes *writes, void (*make_pair)(int fds[2]))
{
    End *end = end_new(r, make_pair);
    *writes = (Writes){.end = end};
    int keep = writes->number;
    turn_with_writes(r, writes, 2, "ab");
    writes->number = keep;
    turn_with_writes(r, writes, 2, "ab");
    writes->number = keep;
    writes->expected = NULL;
    return end;
}

static void
test_held_bytes_are_never_pressure(void **state)
{
    corolla_reactor *r = *state;
    Writes writes;
    End *end = holding_end(r, &writes, socket_pair);
    corolla_stream_limits(&end->stream, 3, 1);
    turn_with_writes(r, &writes, 4, "abcd"); /* the fourth is one too many: sent at once */
    expect_log(FLUSHED);
    corolla_stream_limits(&end->stream, 0, 0);
    turn_with_writes(r, &writes, 2, "ef"); /* no room to hold */
    expect_nothing();
    end_close(end);
}

static int
write_and_change_limits(void *arg)
{
    Writes *writes = arg;
    writes->count = 2;
    write_often(writes);
    corolla_stream_limits(&writes->end->stream, 0, 0);
    peer_expect(writes->end, "ab");
    return 0;
}

static int
write_and_flush(void *arg)
{
    Writes *writes = arg;
    writes->count = 2;
    write_often(writes);
    assert_int_equal(writes->end->stream.queued, 2);
    ok(corolla_stream_flush(&writes->end->stream));
    assert_int_equal(writes->end->stream.queued, 0);
    peer_expect(writes->end, "ab");
    expect_nothing(); /* not from in here */
    return 0;
}

static int
write_and_shut(void *arg)
{
    Writes *writes = arg;
    writes->count = 2;
    write_often(writes);
    ok(corolla_stream_shutdown(&writes->end->stream));
    assert_false(writes->end->stream.fin_sent);
    return 0;
}

static int
write_and_close(void *arg)
{
    Writes *writes = arg;
    writes->count = 2;
    write_often(writes);
    end_close(writes->end);
    return 0;
}

static int
write_and_leave(void *arg)
{
    Writes *writes = arg;
    writes->count = 2;
    write_often(writes);
    return -11;
}

static void
test_held_bytes_and_everything_else(void **state)
{
    corolla_reactor *r = *state;
    Writes writes;
    End *end = holding_end(r, &writes, socket_pair);
    ok(corolla_reactor_post(r, write_and_change_limits, &writes));
    ok(corolla_reactor_turn(r));
    expect_log(FLUSHED);
    end_close(end);

    end = holding_end(r, &writes, socket_pair);
    ok(corolla_reactor_post(r, write_and_flush, &writes));
    ok(corolla_reactor_turn(r));
    expect_log(FLUSHED);
    end_close(end);

    end = holding_end(r, &writes, socket_pair);
    ok(corolla_reactor_post(r, write_and_shut, &writes));
    ok(corolla_reactor_turn(r));
    expect_log(FLUSHED);
    peer_expect(end, "ab");
    char byte;
    assert_int_equal(recv(end->peer, &byte, 1, 0), 0);
    end_close(end);

    end = holding_end(r, &writes, socket_pair);
    ok(corolla_reactor_post(r, write_and_close, &writes));
    ok(corolla_reactor_turn(r));
    expect_nothing();

    end = holding_end(r, &writes, socket_pair);
    ok(corolla_reactor_post(r, write_and_leave, &writes));
    assert_int_equal(corolla_reactor_turn(r), -11);
    ok(corolla_reactor_turn(r)); /* the end of this one */
    expect_log(FLUSHED);
    peer_expect(end, "ab");
    /* Outside a turn nothing is held. */
    ok(write_bytes(end, "x", 1));
    peer_expect(end, "x");
    end_close(end);
}

static int
write_two(void *arg)
{
    ok(write_bytes(arg, "x", 1));
    ok(write_bytes(arg, "y", 1));
    return 0;
}

static void
test_a_held_write_that_fails_is_told(void **state)
{
    corolla_reactor *r = *state;
    Writes writes;
    End *end = holding_end(r, &writes, socket_pair);
    close(end->peer);
    end->peer = -1;
    ok(corolla_reactor_post(r, write_two, end));
    ok(corolla_reactor_turn(r));
    expect_log(FAILED);
    assert_int_equal(end->error, -EPIPE);
    end_close(end);
}

static int
write_kilobytes(void *arg)
{
    Writes *writes = arg;
    for (int i = 0; i < writes->count; i++) {
        char *bytes = make_bytes((size_t)writes->number, 1000);
        ok(write_bytes(writes->end, bytes, 1000));
        free(bytes);
        writes->number += 1000;
    }
    return 0;
}

static void
test_held_bytes_that_the_kernel_refuses_keep_their_order(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    Writes writes = {.end = end, .count = 60};
    size_t at = 0;
    for (int i = 0; i < 10; i++) {
        ok(corolla_reactor_post(r, write_kilobytes, &writes));
        ok(corolla_reactor_turn(r));
        peer_read(end, &at);
    }
    drain_until(r, end, &at, at == (size_t)writes.number);
    turn_until(r, end->stream.queued == 0);
    end_close(end);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_pressure_alternates),
        reactor_test(test_limits_of_zero_still_drain),
        reactor_test(test_new_limits_are_looked_at_at_once),
        reactor_test(test_a_writer_that_waited_may_write_from_inside),
        reactor_test(test_flushed_is_told_after_a_negative_pressure),
        reactor_test(test_a_stream_learns_to_hold_back_and_unlearns),
        reactor_test(test_held_bytes_are_never_pressure),
        reactor_test(test_held_bytes_and_everything_else),
        reactor_test(test_a_held_write_that_fails_is_told),
        reactor_test(test_held_bytes_that_the_kernel_refuses_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
