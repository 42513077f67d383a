#include "end.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static int
end_left(corolla_stream *s)
{
    assert_int_equal(s->minded, 0);
    react((End *)(void *)s, LEFT);
    return 0;
}

const corolla_stream_ops end_ops = {end_where, end_came, end_failed, end_pressure, end_flushed, end_left};

End *
end_new(corolla_reactor *r, void (*make_pair)(int fds[2]))
{
    End *end = calloc(1, sizeof *end);
    int fds[2];
    make_pair(fds);
    end->fd = fds[0];
    end->peer = fds[1];
    end->room = 4096;
    corolla_stream_init(&end->stream, &end_ops);
    ok(corolla_stream_open(r, &end->stream, end->fd));
    return end;
}

void
end_close(End *end)
{
    corolla_stream_close(&end->stream);
    corolla_stream_close(&end->stream);
    close(end->fd);
    close(end->peer);
    free(end);
}

void
close_at_once(End *end, int what)
{
    (void)what;
    end_close(end);
}

void
narrow_pair(int fds[2])
{
    int size = 1; /* the least there is */
    socket_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

void
narrow_tcp_pair(int fds[2])
{
    int size = 1;
    tcp_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

char
byte_at(size_t i)
{
    return (char)(i * 31 + i / 251);
}

char *
make_bytes(size_t from, size_t len)
{
    char *bytes = malloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(from + i);
    }
    return bytes;
}

int
write_bytes(End *end, const void *bytes, size_t len)
{
    corolla_chunk chunk = {.data = bytes, .len = len};
    return corolla_stream_write(&end->stream, &chunk, 1);
}

ssize_t
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

void
peer_expect(End *end, const char *text)
{
    char buf[256];
    ssize_t n = recv(end->peer, buf, sizeof buf, MSG_DONTWAIT);
    assert_int_equal(n, (ssize_t)strlen(text));
    assert_memory_equal(buf, text, strlen(text));
}

void
peer_expect_nothing(End *end)
{
    char byte;
    assert_int_equal(recv(end->peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

size_t
recv_more(End *end, char *buf, size_t *got)
{
    ssize_t n = recv(end->peer, buf + *got, 16, MSG_DONTWAIT);
    *got += n > 0 ? (size_t)n : 0;
    return *got;
}

void
reset_peer(End *end)
{
    struct linger linger = {1, 0};
    setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* RST instead of FIN, where there is one */
    close(end->peer);
    end->peer = -1;
}
