/* stream.c: bytes in and out */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the log says: */
enum { CAME = 1, END, BROKEN, FAILED, PRESSED, EASED, FLUSHED, RELEASED, RETAINED };

typedef struct End {
    corolla_stream stream; /* first: a stream is its end */
    int fd, peer;          /* owned */
    char in[1 << 16];
    size_t in_len, room;
    size_t hint;
    int error;
    int came_rc, pressure_rc;
    size_t bytes_in_all;     /* of byte_at(), which peer_read() must not read past; 0: no end */
    void (*react)(struct End *end, int what);
} End;

static void
react(End *end, int what)
{
    log_add(what);
    if (end->react != NULL) {
        end->react(end, what);
    }
}

static int
end_where(corolla_stream *s, size_t hint, void **buf, size_t *len)
{
    End *end = (End *)(void *)s;
    end->hint = hint;
    *buf = end->in + end->in_len;
    *len = end->room;
    return 0;
}

static int
end_came(corolla_stream *s, void *buf, ssize_t n)
{
    End *end = (End *)(void *)s;
    int rc = end->came_rc;
    assert_ptr_equal(buf, end->in + end->in_len);
    if (n <= 0) {
        assert_false(s->reading);
        end->error = (int)n;
    }
    else {
        end->in_len += (size_t)n;
    }
    react(end, n > 0 ? CAME : n == 0 ? END : BROKEN);
    return rc;
}

static int
end_failed(corolla_stream *s, int err)
{
    End *end = (End *)(void *)s;
    assert_int_equal(s->queued, 0);
    assert_false(s->reading);
    end->error = err;
    react(end, FAILED);
    return 0;
}

static int
end_pressure(corolla_stream *s, bool on)
{
    End *end = (End *)(void *)s;
    int rc = end->pressure_rc;
    assert_true(on ? s->queued > s->high : s->queued <= s->low);
    react(end, on ? PRESSED : EASED);
    return rc;
}

static int
end_flushed(corolla_stream *s)
{
    assert_int_equal(s->queued, 0);
    react((End *)(void *)s, FLUSHED);
    return 0;
}

static const corolla_stream_ops ops = {end_where, end_came, end_failed, end_pressure, end_flushed};

/* On its own page of the heap, so that a stream that looks at a closed one's memory is caught by a sanitizer. */
static End *
end_new(corolla_reactor *r, void (*make_pair)(int fds[2]))
{
    End *end = calloc(1, sizeof *end);
    int fds[2];
    make_pair(fds);
    end->fd = fds[0];
    end->peer = fds[1];
    end->room = 4096;
    corolla_stream_init(&end->stream, &ops);
    ok(corolla_stream_open(r, &end->stream, end->fd));
    return end;
}

static void
end_close(End *end)
{
    corolla_stream_close(&end->stream);
    corolla_stream_close(&end->stream);
    close(end->fd);
    close(end->peer);
    free(end);
}

static void
close_at_once(End *end, int what)
{
    (void)what;
    end_close(end);
}

/* Little room in the kernel, so that it refuses soon. */
static void
narrow_pair(int fds[2])
{
    int size = 1; /* the least there is */
    socket_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void
narrow_tcp_pair(int fds[2])
{
    int size = 1;
    tcp_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static char
byte_at(size_t i)
{
    return (char)(i * 31 + i / 251);
}

static char *
make_bytes(size_t from, size_t len)
{
    char *bytes = malloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(from + i);
    }
    return bytes;
}

static int
write_bytes(End *end, const void *bytes, size_t len)
{
    corolla_chunk chunk = {.data = bytes, .len = len};
    return corolla_stream_write(&end->stream, &chunk, 1);
}

/* Reads all that has arrived at the peer; the bytes must be those from *at on. What recv said last. */
static ssize_t
peer_read(End *end, size_t *at)
{
    char buf[4096];
    ssize_t n;
    size_t most = end->bytes_in_all > 0 ? end->bytes_in_all - *at : sizeof buf;
    while ((n = recv(end->peer, buf, most < sizeof buf ? most : sizeof buf, MSG_DONTWAIT)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (buf[i] != byte_at(*at)) {
                fail_msg("byte %zu is not what was written there", *at);
            }
            ++*at;
        }
        most = end->bytes_in_all > 0 ? end->bytes_in_all - *at : sizeof buf;
    }
    return n < 0 ? -errno : n;
}

static void
peer_expect(End *end, const char *text)
{
    char buf[256];
    ssize_t n = recv(end->peer, buf, sizeof buf, MSG_DONTWAIT);
    assert_int_equal(n, (ssize_t)strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

static void
peer_expect_nothing(End *end)
{
    char byte;
    assert_int_equal(recv(end->peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

/* The count of bytes got so far. */
static size_t
recv_more(End *end, char *buf, size_t *got)
{
    ssize_t n = recv(end->peer, buf + *got, 16, MSG_DONTWAIT);
    *got += n > 0 ? (size_t)n : 0;
    return *got;
}

/* Drains the peer while turning, until the condition holds. */
#define drain_until(r, end, at, condition) turn_until((r), (peer_read((end), (at)), (condition)))

static void
reset_peer(End *end)
{
    struct linger linger = {1, 0};
    setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* RST instead of FIN, where there is one */
    close(end->peer);
    end->peer = -1;
}

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
    expect_nothing(); /* once */
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
    corolla_chunk chunks[] = {{.data = "", .len = 0}, {.data = "he", .len = 2}, {.data = "", .len = 0},
                              {.data = "llo", .len = 3}};
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
    corolla_stream_init(&never, &ops);
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
    corolla_stream_init(&in->stream, &ops);
    corolla_stream_init(&out->stream, &ops);
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
    signal(SIGPIPE, SIG_IGN);
    end_close(in);
    turn_until(r, logged.count > 0);
    expect_log(FAILED);
    assert_int_equal(out->error, -EPIPE);
    signal(SIGPIPE, SIG_DFL);
    free(bytes);
    end_close(out);
}

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
        reactor_test(test_a_failed_write_is_told_where_it_happens),
        reactor_test(test_shutdown_sends_fin_behind_what_is_queued),
        reactor_test(test_a_closed_stream_refuses),
        reactor_test(test_pipes_are_streams_too),
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
