/* stream.c: bytes in and out */
#include "end.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Reading ------------------------------------------------------------------------------------- */

static void
test_bytes_come_where_the_owner_wants_them(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    assert_int_equal(write(end->peer, "abc", 3), 3);
    ok(turn_at_once(r));
    expect_nothing(); /* not asked to read yet */
    ok(corolla_stream_read(&end->stream, true));
    ok(corolla_stream_read(&end->stream, true));
    ok(corolla_reactor_turn(r));
    expect_log(CAME);
    assert_memory_equal(end->in, "abc", 3);
    assert_int_equal(write(end->peer, "de", 2), 2);
    ok(corolla_stream_read(&end->stream, false));
    ok(turn_at_once(r));
    expect_nothing();
    ok(corolla_stream_read(&end->stream, true));
    ok(corolla_reactor_turn(r));
    expect_log(CAME);
    assert_memory_equal(end->in, "abcde", 5);
    assert_non_null(r->scratch);
    end_close(end);
}

static void
stop_reading(End *end, int what)
{
    if (what == CAME) {
        ok(corolla_stream_read(&end->stream, false));
    }
}

static void
test_one_recv_an_event(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    end->room = 2;
    end->react = stop_reading;
    assert_int_equal(write(end->peer, "abcde", 5), 5);
    for (size_t i = 0; i < 2; i++) {
        ok(corolla_stream_read(&end->stream, true));
        ok(corolla_reactor_turn(r));
        ok(turn_at_once(r));
        expect_log(CAME); /* a full buffer, and stopped from inside: nothing more comes */
    }
    ok(corolla_stream_read(&end->stream, true));
    ok(corolla_reactor_turn(r));
    assert_memory_equal(end->in, "abcde", 5);
    end_close(end);
}

static void
test_the_hint_follows_what_comes(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    char *bytes = make_bytes(0, 2000);
    ok(corolla_stream_read(&end->stream, true));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(end->peer, bytes, 2000), 2000);
        ok(corolla_reactor_turn(r));
    }
    assert_int_equal(end->hint, 2000);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(write(end->peer, bytes, 10), 10);
        ok(corolla_reactor_turn(r));
    }
    assert_in_range(end->hint, 10, 30);
    end->room = 100;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(write(end->peer, bytes, 100), 100);
        ok(corolla_reactor_turn(r));
    }
    assert_int_equal(end->hint, 200); /* it filled the buffer: there was more */
    free(bytes);
    end_close(end);
}

static void
test_end_of_file_and_reset(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, tcp_pair);
    ok(corolla_stream_read(&end->stream, true));
    shutdown(end->peer, SHUT_WR);
    turn_until(r, logged.count > 0);
    expect_log(END);
    ok(turn_at_once(r));
    expect_nothing();             /* once */
    ok(write_bytes(end, "x", 1)); /* half closed: the other way is open */
    end_close(end);

    end = end_new(r, tcp_pair);
    ok(corolla_stream_read(&end->stream, true));
    reset_peer(end);
    turn_until(r, logged.count > 0);
    expect_log(BROKEN);
    assert_int_equal(end->error, -ECONNRESET);
    ok(turn_at_once(r));
    expect_nothing();
    end_close(end);
}

static void
test_closing_from_every_callback(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    end->react = close_at_once;
    ok(corolla_stream_read(&end->stream, true));
    assert_int_equal(write(end->peer, "abc", 3), 3);
    ok(corolla_reactor_turn(r));
    expect_log(CAME);

    end = end_new(r, socket_pair);
    end->react = close_at_once;
    ok(corolla_stream_read(&end->stream, true));
    shutdown(end->peer, SHUT_WR);
    ok(corolla_reactor_turn(r));
    expect_log(END);

    char *bytes = make_bytes(0, 1 << 20);
    end = end_new(r, narrow_pair);
    end->react = close_at_once;
    ok(write_bytes(end, bytes, 1 << 20));
    expect_log(PRESSED);

    end = end_new(r, narrow_pair);
    ok(write_bytes(end, bytes, 1 << 20));
    expect_log(PRESSED);
    end->react = close_at_once;
    size_t at = 0;
    turn_until(r, logged.count > 0 || (peer_read(end, &at), false));
    expect_log(EASED);

    end = end_new(r, narrow_pair);
    corolla_stream_limits(&end->stream, 1 << 20, 1 << 20);
    ok(write_bytes(end, bytes, 1 << 20));
    end->react = close_at_once;
    at = 0;
    turn_until(r, logged.count > 0 || (peer_read(end, &at), false));
    expect_log(FLUSHED);

    end = end_new(r, narrow_pair);
    ok(write_bytes(end, bytes, 1 << 20));
    log_clear();
    end->react = close_at_once;
    reset_peer(end);
    turn_until(r, logged.count > 0);
    expect_log(FAILED);
    free(bytes);
}

static void
test_a_negative_value_leaves_the_turn(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    end->came_rc = -42;
    ok(corolla_stream_read(&end->stream, true));
    assert_int_equal(write(end->peer, "abc", 3), 3);
    assert_int_equal(corolla_reactor_turn(r), -42);
    end_close(end);
}

/* ---- Writing --------------------------------------------------------------------------------------- */

static void
test_a_write_is_in_the_kernel_when_it_returns(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    corolla_chunk chunks[] = {
        {.data = "", .len = 0}, {.data = "he", .len = 2}, {.data = "", .len = 0}, {.data = "llo", .len = 3}};
    ok(corolla_stream_write(&end->stream, chunks, 4));
    assert_int_equal(end->stream.queued, 0);
    peer_expect(end, "hello");
    ok(corolla_stream_write(&end->stream, chunks, 1)); /* nothing at all */
    ok(corolla_stream_write(&end->stream, NULL, 0));
    peer_expect_nothing(end);
    ok(turn_at_once(r));
    expect_nothing();
    end_close(end);
}

static void
test_more_chunks_than_one_call_takes(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    enum { COUNT = 1000 };
    static corolla_chunk chunks[COUNT];
    char *bytes = make_bytes(0, 3 * COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        chunks[i] = (corolla_chunk){.data = bytes + 3 * i, .len = 3};
    }
    ok(corolla_stream_write(&end->stream, chunks, COUNT));
    size_t at = 0;
    drain_until(r, end, &at, at == 3 * COUNT);
    free(bytes);
    end_close(end);
}

static void
write_more_than_the_kernel_takes(corolla_reactor *r, void (*make_pair)(int fds[2]))
{
    End *end = end_new(r, make_pair);
    size_t written = 0, at = 0, kept = 0;
    for (size_t i = 0; i < 300; i++) {
        size_t len = i * 37 % 5000;
        char *bytes = make_bytes(written, len);
        corolla_chunk chunks[3] = {{.data = bytes, .len = len / 3},
                                   {.data = bytes + len / 3, .len = len / 7},
                                   {.data = bytes + len / 3 + len / 7, .len = len - len / 3 - len / 7}};
        ok(corolla_stream_write(&end->stream, chunks, 3));
        memset(bytes, 0, len); /* what was queued was copied */
        free(bytes);
        written += len;
        kept = end->stream.queued > kept ? end->stream.queued : kept;
        if (i % 5 == 0) {
            peer_read(end, &at);
            ok(turn_at_once(r));
        }
    }
    assert_true(kept > 0);
    drain_until(r, end, &at, at == written);
    turn_until(r, end->stream.queued == 0);
    assert_int_equal(end->stream.watch.interest, 0);
    assert_int_equal(logged.entries[logged.count - 1], FLUSHED);
    end_close(end);
}

static void
test_what_the_kernel_refuses_goes_out_later_whole_and_in_order(void **state)
{
    write_more_than_the_kernel_takes(*state, narrow_pair);
    log_clear();
    write_more_than_the_kernel_takes(*state, narrow_tcp_pair);
}

typedef struct Shared {
    int retained, released;
    char *bytes;
    End *writes_to; /* from inside release */
    End *closes;
} Shared;

static void
shared_retain(void *owner)
{
    ((Shared *)owner)->retained++;
}

static void
shared_release(void *owner)
{
    Shared *shared = owner;
    shared->released++;
    if (shared->closes != NULL) {
        End *end = shared->closes;
        shared->closes = NULL;
        end_close(end);
    }
    else if (shared->writes_to != NULL) {
        ok(write_bytes(shared->writes_to, "!", 1));
    }
}

static corolla_chunk
shared_chunk(Shared *shared, size_t from, size_t len)
{
    return (corolla_chunk){shared->bytes + from, len, shared, shared_retain, shared_release};
}

static void
test_references_are_kept_as_long_as_needed(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    Shared shared = {.bytes = make_bytes(0, 1 << 20)};
    corolla_chunk whole = shared_chunk(&shared, 0, 1 << 20), little = shared_chunk(&shared, 0, 5);
    /* Taken at once: never retained. */
    ok(corolla_stream_write(&end->stream, &little, 1));
    assert_int_equal(shared.retained, 0);
    char sent[5];
    turn_until(r, recv(end->peer, sent, 5, MSG_DONTWAIT) == 5);
    ok(corolla_stream_write(&end->stream, &whole, 1));
    assert_int_equal(shared.retained, 1);
    assert_int_equal(shared.released, 0);
    size_t at = 0;
    drain_until(r, end, &at, at == 1 << 20);
    turn_until(r, end->stream.queued == 0);
    assert_int_equal(shared.released, 1);
    /* Dropped with the queue. */
    ok(corolla_stream_write(&end->stream, &whole, 1));
    ok(corolla_stream_write(&end->stream, &whole, 1));
    end_close(end);
    assert_int_equal(shared.retained, 3);
    assert_int_equal(shared.released, 3);
    free(shared.bytes);
}

static void
test_release_may_write_again_or_close(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    Shared shared = {.bytes = make_bytes(0, 1 << 20), .writes_to = end};
    corolla_chunk chunks[3] = {shared_chunk(&shared, 0, 1 << 19), shared_chunk(&shared, 1 << 19, 1 << 18),
                               shared_chunk(&shared, 3 << 18, 1 << 18)};
    ok(corolla_stream_write(&end->stream, chunks, 3));
    size_t at = 0;
    end->bytes_in_all = 1 << 20;
    drain_until(r, end, &at, at == 1 << 20);
    /* Each release wrote "!" behind everything: the bytes before are unharmed. */
    char rest[64];
    size_t got = 0;
    turn_until(r, recv_more(end, rest, &got) == 3);
    assert_memory_equal(rest, "!!!", 3);
    /* Closing from inside a release, with more pieces behind. */
    shared = (Shared){.bytes = shared.bytes, .closes = end};
    ok(corolla_stream_write(&end->stream, chunks, 3));
    char *sink = malloc(1 << 16);
    turn_until(r, shared.released > 0 || (recv(end->peer, sink, 1 << 16, MSG_DONTWAIT), false));
    assert_int_equal(shared.released, shared.retained);
    free(sink);
    free(shared.bytes);
}

static void
flush_when_bytes_come(End *end, int what)
{
    if (what == CAME) {
        ok(corolla_stream_flush(&end->stream)); /* the end is gone when this returns */
    }
}

static void
drain_peer(End *end)
{
    char sink[4096];
    while (recv(end->peer, sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
}

static void
test_closing_from_a_release_inside_a_flush_inside_a_callback(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 12);
    Shared shared = {.bytes = bytes, .closes = end};
    corolla_chunk chunk = shared_chunk(&shared, 0, 10);
    while (end->stream.queued == 0) {
        ok(write_bytes(end, bytes, 1 << 12));
    }
    ok(corolla_stream_write(&end->stream, &chunk, 1));
    ok(corolla_stream_write(&end->stream, &chunk, 1));
    ok(corolla_stream_read(&end->stream, true));
    end->react = flush_when_bytes_come;
    drain_peer(end);
    assert_int_equal(write(end->peer, "x", 1), 1);
    ok(corolla_reactor_turn(r)); /* readable and writable */
    expect_log(CAME);
    assert_int_equal(shared.released, 2);
    free(bytes);
}

static void
test_closing_from_a_release_with_more_than_one_call_to_send(void **state)
{
    enum { COUNT = 100 };
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 12);
    Shared shared = {.bytes = bytes, .closes = end};
    corolla_chunk chunk = shared_chunk(&shared, 0, 1);
    while (end->stream.queued == 0) {
        ok(write_bytes(end, bytes, 1 << 12));
    }
    for (int i = 0; i < COUNT; i++) {
        ok(corolla_stream_write(&end->stream, &chunk, 1));
    }
    drain_peer(end);
    ok(corolla_reactor_turn(r));
    assert_int_equal(shared.released, COUNT);
    free(bytes);
}

static void
test_a_failed_write_is_told_where_it_happens(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, tcp_pair);
    reset_peer(end);
    int rc = 0;
    Watchdog dog;
    watchdog_start(r, &dog);
    while ((rc = write_bytes(end, "x", 1)) == 0) {
        assert_false(dog.bitten);
        ok(turn_at_once(r));
    }
    watchdog_stop(&dog);
    assert_int_equal(rc, -ECONNRESET); /* which the kernel says once, and EPIPE ever after */
    expect_nothing();
    end_close(end);

    /* A queued one: told, everything dropped, reading stopped. */
    end = end_new(r, narrow_pair);
    Shared shared = {.bytes = make_bytes(0, 1 << 20)};
    corolla_chunk whole = shared_chunk(&shared, 0, 1 << 20);
    ok(corolla_stream_write(&end->stream, &whole, 1));
    ok(corolla_stream_write(&end->stream, &whole, 1));
    expect_log(PRESSED);
    reset_peer(end);
    turn_until(r, logged.count > 0);
    expect_log(FAILED);
    assert_int_equal(shared.released, 2);
    assert_int_equal(end->stream.watch.interest, 0);
    free(shared.bytes);
    end_close(end);
}

static void
test_shutdown_sends_fin_behind_what_is_queued(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, tcp_pair);
    char byte;
    ok(write_bytes(end, "bye", 3));
    ok(corolla_stream_shutdown(&end->stream));
    ok(corolla_stream_shutdown(&end->stream));
    assert_true(end->stream.fin_sent);
    assert_int_equal(write_bytes(end, "x", 1), -ESHUTDOWN);
    assert_int_equal(write_bytes(end, "", 0), -ESHUTDOWN);
    peer_expect(end, "bye");
    assert_int_equal(recv(end->peer, &byte, 1, 0), 0);
    end_close(end);

    end = end_new(r, narrow_pair);
    char *bytes = make_bytes(0, 1 << 20);
    corolla_stream_limits(&end->stream, 1 << 20, 0);
    ok(write_bytes(end, bytes, 1 << 20));
    ok(corolla_stream_shutdown(&end->stream));
    assert_false(end->stream.fin_sent);
    size_t at = 0;
    drain_until(r, end, &at, at == 1 << 20);
    turn_until(r, peer_read(end, &at) == 0);
    turn_until(r, logged.count > 0);
    expect_log(FLUSHED);
    free(bytes);
    end_close(end);
}

static void
test_a_closed_stream_refuses(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    corolla_stream never;
    corolla_stream_init(&never, &end_ops);
    assert_int_equal(corolla_stream_read(&never, true), -EBADF);
    corolla_stream_close(&never);
    assert_int_equal(corolla_stream_open(r, &never, end->fd), -EEXIST);
    corolla_stream_close(&end->stream);
    assert_int_equal(write_bytes(end, "x", 1), -EBADF);
    assert_int_equal(corolla_stream_read(&end->stream, true), -EBADF);
    assert_int_equal(corolla_stream_flush(&end->stream), -EBADF);
    assert_int_equal(corolla_stream_shutdown(&end->stream), -EBADF);
    corolla_stream_limits(&end->stream, 0, 0);
    end_close(end);
}

static void
test_pipes_are_streams_too(void **state)
{
    corolla_reactor *r = *state;
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    End *in = calloc(1, sizeof *in), *out = calloc(1, sizeof *out);
    in->room = 100;
    in->fd = fds[0];
    out->fd = fds[1];
    in->peer = out->peer = -1;
    corolla_stream_init(&in->stream, &end_ops);
    corolla_stream_init(&out->stream, &end_ops);
    ok(corolla_stream_open(r, &in->stream, fds[0]));
    ok(corolla_stream_open(r, &out->stream, fds[1]));
    ok(corolla_stream_read(&in->stream, true));
    ok(write_bytes(out, "abc", 3));
    ok(corolla_reactor_turn(r));
    expect_log(CAME);
    assert_memory_equal(in->in, "abc", 3);
    /* The last reader goes: a writer that watches hears of it. */
    char *bytes = make_bytes(0, 1 << 20);
    ok(write_bytes(out, bytes, 1 << 20));
    expect_log(PRESSED);
    end_close(in);
    turn_until(r, logged.count > 0);
    expect_log(FAILED);
    assert_int_equal(out->error, -EPIPE);
    free(bytes);
    end_close(out);
}

/* The writing end of a pipe; its reader is the peer. */
static void
writing_end(int fds[2])
{
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
    fds[0] = pipe_fds[1];
    fds[1] = pipe_fds[0];
}

static void
test_a_writer_hears_that_the_last_reader_has_gone(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, writing_end);
    ok(corolla_stream_mind(&end->stream, COROLLA_HANGUP));
    ok(write_bytes(end, "abc", 3));
    ok(turn_at_once(r));
    expect_nothing(); /* writable is not what was asked for */
    close(end->peer);
    end->peer = -1;
    turn_until(r, logged.count > 0);
    expect_log(LEFT);
    assert_int_equal(end->stream.watch.interest, 0);
    ok(turn_at_once(r));
    expect_nothing(); /* once */
    end_close(end);

    end = end_new(r, socket_pair);
    ok(corolla_stream_mind(&end->stream, COROLLA_READABLE | COROLLA_HANGUP));
    shutdown(end->peer, SHUT_WR);
    turn_until(r, logged.count > 0);
    expect_log(LEFT);
    end_close(end);

    end = end_new(r, writing_end);
    end->react = close_at_once;
    ok(corolla_stream_mind(&end->stream, COROLLA_HANGUP));
    close(end->peer);
    end->peer = -1;
    turn_until(r, logged.count > 0);
    expect_log(LEFT);
}

static void
test_what_is_queued_is_still_there_when_the_reader_has_gone(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, writing_end);
    char *bytes = make_bytes(0, 1 << 20);
    ok(corolla_stream_mind(&end->stream, COROLLA_HANGUP));
    ok(write_bytes(end, bytes, 1 << 20));
    expect_log(PRESSED);
    close(end->peer);
    end->peer = -1;
    turn_until(r, logged.count > 0);
    expect_log(LEFT, FAILED); /* one event says both */
    assert_int_equal(end->error, -EPIPE);
    free(bytes);
    end_close(end);
}

static void
test_minding_can_be_ended(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, writing_end);
    ok(corolla_stream_mind(&end->stream, COROLLA_HANGUP));
    ok(corolla_stream_mind(&end->stream, 0));
    close(end->peer);
    end->peer = -1;
    ok(turn_at_once(r));
    expect_nothing();
    end_close(end);
}

/* Neither the default action of the signal, which would end this program, nor one that was pending before. */
static void
test_a_write_to_nobody_raises_no_signal(void **state)
{
    corolla_reactor *r = *state;
    sigset_t sigpipe, pending, before;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    for (int waiting = 0; waiting < 2; waiting++) {
        End *end = end_new(r, writing_end);
        close(end->peer);
        end->peer = -1;
        if (waiting) {
            pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
            raise(SIGPIPE);
        }
        assert_int_equal(write_bytes(end, "abc", 3), -EPIPE);
        if (waiting) {
            sigpending(&pending);
            assert_true(sigismember(&pending, SIGPIPE));
            signal(SIGPIPE, SIG_IGN); /* forgets it */
            signal(SIGPIPE, SIG_DFL);
            pthread_sigmask(SIG_SETMASK, &before, NULL);
        }
        end_close(end);
    }
}

static void
test_room_is_told_of_when_it_is_wanted(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, socket_pair);
    ok(corolla_stream_want(&end->stream, true));
    turn_until(r, logged.count > 0);
    expect_log(FLUSHED);
    ok(turn_at_once(r));
    expect_nothing(); /* once */
    ok(corolla_stream_want(&end->stream, true));
    ok(corolla_stream_want(&end->stream, false));
    ok(turn_at_once(r));
    expect_nothing();
    ok(corolla_stream_want(&end->stream, true));
    end->react = close_at_once;
    turn_until(r, logged.count > 0);
    expect_log(FLUSHED);
}

static void
test_a_file_goes_past_an_empty_queue(void **state)
{
    corolla_reactor *r = *state;
    End *end = end_new(r, narrow_pair);
    FILE *file = tmpfile();
    int fd = fileno(file);
    size_t size = 1 << 20, at = 0;
    char *bytes = make_bytes(0, size);
    off_t offset = 0;
    assert_int_equal(write(fd, bytes, size), size);
    while ((size_t)offset < size) {
        ssize_t n = corolla_stream_sendfile(&end->stream, fd, &offset, size);
        if (n == -EAGAIN) {
            ok(corolla_stream_want(&end->stream, true));
            drain_until(r, end, &at, logged.count > 0);
            expect_log(FLUSHED);
        }
        else {
            assert_true(n > 0);
        }
    }
    assert_int_equal(corolla_stream_sendfile(&end->stream, fd, &offset, size), 0);
    drain_until(r, end, &at, at == size);
    /* Not past what is queued. */
    ok(write_bytes(end, bytes, size));
    expect_log(PRESSED);
    offset = 0;
    assert_int_equal(corolla_stream_sendfile(&end->stream, fd, &offset, size), -EAGAIN);
    free(bytes);
    end_close(end);
    /* Nor with a signal, when the peer has gone. */
    end = end_new(r, socket_pair);
    close(end->peer);
    end->peer = -1;
    assert_int_equal(corolla_stream_sendfile(&end->stream, fd, &offset, size), -EPIPE);
    end_close(end);
    fclose(file);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_bytes_come_where_the_owner_wants_them),
        reactor_test(test_one_recv_an_event),
        reactor_test(test_the_hint_follows_what_comes),
        reactor_test(test_end_of_file_and_reset),
        reactor_test(test_closing_from_every_callback),
        reactor_test(test_a_negative_value_leaves_the_turn),
        reactor_test(test_a_write_is_in_the_kernel_when_it_returns),
        reactor_test(test_more_chunks_than_one_call_takes),
        reactor_test(test_what_the_kernel_refuses_goes_out_later_whole_and_in_order),
        reactor_test(test_references_are_kept_as_long_as_needed),
        reactor_test(test_release_may_write_again_or_close),
        reactor_test(test_closing_from_a_release_inside_a_flush_inside_a_callback),
        reactor_test(test_closing_from_a_release_with_more_than_one_call_to_send),
        reactor_test(test_a_failed_write_is_told_where_it_happens),
        reactor_test(test_shutdown_sends_fin_behind_what_is_queued),
        reactor_test(test_a_closed_stream_refuses),
        reactor_test(test_pipes_are_streams_too),
        reactor_test(test_a_writer_hears_that_the_last_reader_has_gone),
        reactor_test(test_what_is_queued_is_still_there_when_the_reader_has_gone),
        reactor_test(test_minding_can_be_ended),
        reactor_test(test_a_write_to_nobody_raises_no_signal),
        reactor_test(test_room_is_told_of_when_it_is_wanted),
        reactor_test(test_a_file_goes_past_an_empty_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
