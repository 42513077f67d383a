/* Bytes in and out of a descriptor. Reading: where does the owner want them, one recv, so many came. Writing: at
 * once if nothing is queued; what the kernel refuses waits in a queue of pieces until it takes more.
 *
 * Holding back: a peer that is sent a header and then a body in two packets costs both sides twice. A stream that has
 * been written to several times in each of its last turns with writes is likely to be again, so its writes wait for the
 * end of the turn and leave in one sendmsg. One turn with a single write, and the stream sends at once again. */
#include "internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    HOLD_AFTER = 2,   /* turns with several writes */
    MOST_PIECES = 64, /* a system call */
    FIRST_PIECES = 8,
    KEPT_PIECES = 64,
    BLOCK_SIZE = 4096,
    DEFAULT_HIGH = 64 * 1024,
    DEFAULT_LOW = 16 * 1024,
};

/* ---- Callbacks that may close ------------------------------------------------------------ */

/* On the stack around calls of the owner, who may close the stream and free it: says whether it did. */
typedef struct Guard {
    bool closed;
    bool *outer;
} Guard;

static inline void
guard_enter(corolla_stream *s, Guard *guard)
{
    guard->closed = false;
    guard->outer = s->gone;
    s->gone = &guard->closed;
}

static inline void
guard_leave(corolla_stream *s, Guard *guard)
{
    if (likely(!guard->closed)) {
        s->gone = guard->outer;
    }
    else if (guard->outer != NULL) {
        *guard->outer = true;
    }
}

static inline bool
is_open(const corolla_stream *s)
{
    /* No reactor: abandoned in a forked child, or the descriptor was closed behind our back and its number taken. */
    return !s->closed && s->watch.reactor != NULL;
}

/* ---- The queue --------------------------------------------------------------------------- */

/* Where copies go. Only the last piece's block still grows, so one piece owns one block. */
typedef struct Block {
    size_t used, capacity;
    char data[];
} Block;

static void
free_block(void *owner)
{
    free(owner);
}

static inline corolla_piece *
piece_at(corolla_stream *s, unsigned i)
{
    return &s->pieces[(s->piece_head + i) & (s->piece_capacity - 1)];
}

static int
reserve_pieces(corolla_stream *s, size_t more)
{
    size_t capacity = s->piece_capacity ? s->piece_capacity : FIRST_PIECES;
    while (capacity - s->piece_count < more) {
        capacity *= 2;
        if (capacity > UINT_MAX / 2) {
            return -ENOMEM;
        }
    }
    if (capacity == s->piece_capacity) {
        return 0;
    }
    corolla_piece *pieces = malloc(capacity * sizeof *pieces);
    if (pieces == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < s->piece_count; i++) {
        pieces[i] = *piece_at(s, i);
    }
    free(s->pieces);
    s->pieces = pieces;
    s->piece_head = 0;
    s->piece_capacity = (unsigned)capacity;
    return 0;
}

static void
append_piece(corolla_stream *s, corolla_piece piece)
{
    *piece_at(s, s->piece_count) = piece;
    s->piece_count++;
    s->queued += piece.len;
}

static int
append_copy(corolla_stream *s, const char *data, size_t len)
{
    corolla_piece *last = s->piece_count ? piece_at(s, s->piece_count - 1) : NULL;
    if (last != NULL && last->release == free_block) {
        Block *block = last->owner;
        if (block->capacity - block->used >= len) {
            memcpy(block->data + block->used, data, len);
            block->used += len;
            last->len += len;
            s->queued += len;
            return 0;
        }
    }
    size_t capacity = len > BLOCK_SIZE - sizeof(Block) ? len : BLOCK_SIZE - sizeof(Block);
    Block *block = malloc(sizeof *block + capacity);
    if (block == NULL) {
        return -ENOMEM;
    }
    memcpy(block->data, data, len);
    block->used = len;
    block->capacity = capacity;
    append_piece(s, (corolla_piece){block->data, len, block, free_block});
    return 0;
}

/* Where in an array of chunks. */
typedef struct Position {
    size_t chunk;
    size_t offset;
} Position;

/* Appends the chunks from a position on: all of them or, without memory, none. */
static int
append_chunks(corolla_stream *s, const corolla_chunk *chunks, size_t count, Position at)
{
    int err = reserve_pieces(s, count - at.chunk);
    if (err < 0) {
        return err;
    }
    const unsigned count_before = s->piece_count;
    const size_t queued_before = s->queued;
    const size_t last_len = count_before ? piece_at(s, count_before - 1)->len : 0;
    for (; at.chunk < count; at.chunk++, at.offset = 0) {
        const corolla_chunk *chunk = &chunks[at.chunk];
        const char *data = (const char *)chunk->data + at.offset;
        size_t len = chunk->len - at.offset;
        if (len == 0) {
            continue;
        }
        if (chunk->retain != NULL) {
            chunk->retain(chunk->owner);
            append_piece(s, (corolla_piece){data, len, chunk->owner, chunk->release});
        }
        else {
            err = append_copy(s, data, len);
            if (err < 0) {
                goto fail;
            }
        }
    }
    return 0;

fail:
    if (count_before > 0) {
        corolla_piece *last = piece_at(s, count_before - 1);
        if (last->len != last_len) {
            ((Block *)last->owner)->used -= last->len - last_len;
            last->len = last_len;
        }
    }
    s->queued = queued_before;
    while (s->piece_count > count_before) {
        corolla_piece piece = *piece_at(s, --s->piece_count);
        piece.release(piece.owner);
    }
    return err;
}

/* Releases all that is queued. The stream may be gone afterwards. */
static void
drop_queue(corolla_stream *s)
{
    corolla_piece *pieces = s->pieces;
    unsigned head = s->piece_head, count = s->piece_count, capacity = s->piece_capacity;
    s->pieces = NULL;
    s->piece_head = s->piece_count = s->piece_capacity = 0;
    s->queued = 0;
    for (unsigned i = 0; i < count; i++) {
        corolla_piece *piece = &pieces[(head + i) & (capacity - 1)];
        piece->release(piece->owner);
    }
    free(pieces);
}

/* Takes n sent bytes, of at most MOST_PIECES pieces, off the queue. */
static void
consume(corolla_stream *s, size_t n)
{
    corolla_piece done[MOST_PIECES];
    unsigned done_count = 0;
    s->queued -= n;
    while (n > 0) {
        corolla_piece *piece = piece_at(s, 0);
        if (n < piece->len) {
            piece->data += n;
            piece->len -= n;
            break;
        }
        n -= piece->len;
        done[done_count++] = *piece;
        s->piece_head = (s->piece_head + 1) & (s->piece_capacity - 1);
        s->piece_count--;
    }
    if (s->piece_count == 0 && s->piece_capacity > KEPT_PIECES) {
        free(s->pieces);
        s->pieces = NULL;
        s->piece_head = s->piece_capacity = 0;
    }
    /* Last: whoever is released may write again, or close. */
    for (unsigned i = 0; i < done_count; i++) {
        done[i].release(done[i].owner);
    }
}

/* ---- System calls ------------------------------------------------------------------------ */

static ssize_t
receive(corolla_stream *s, void *buf, size_t len)
{
    for (;;) {
        ssize_t n = s->socket ? recv(s->fd, buf, len, MSG_DONTWAIT) : read(s->fd, buf, len);
        if (n >= 0) {
            return n;
        }
        if (errno == ENOTSOCK && s->socket) {
            s->socket = false; /* asked here, once, instead of at every opening */
        }
        else if (errno != EINTR) {
            return -errno;
        }
    }
}

static ssize_t
transmit(corolla_stream *s, struct iovec *iov, size_t count)
{
    for (;;) {
        ssize_t n;
        if (!s->socket) {
            n = corolla_writev_quietly(s->watch.reactor, s->fd, iov, (int)count);
        }
        else if (count == 1) {
            n = send(s->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        else {
            struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
            n = sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        if (n >= 0) {
            return n;
        }
        if (errno == ENOTSOCK && s->socket) {
            s->socket = false;
        }
        else if (errno != EINTR) {
            return -errno;
        }
    }
}

/* Sends chunks until the kernel takes no more. 1: all is sent; 0: from *at on it is not; or -errno. */
static int
send_chunks(corolla_stream *s, const corolla_chunk *chunks, size_t count, Position *at)
{
    for (;;) {
        struct iovec iov[MOST_PIECES];
        size_t used = 0, asked = 0;
        size_t offset = at->offset;
        for (size_t i = at->chunk; i < count && used < MOST_PIECES; i++, offset = 0) {
            size_t len = chunks[i].len - offset;
            if (len > 0) {
                iov[used++] = (struct iovec){(char *)(uintptr_t)chunks[i].data + offset, len};
                asked += len;
            }
        }
        if (used == 0) {
            return 1;
        }
        ssize_t n = transmit(s, iov, used);
        if (n < 0) {
            return n == -EAGAIN ? 0 : (int)n;
        }
        size_t sent = (size_t)n;
        while (at->chunk < count && sent >= chunks[at->chunk].len - at->offset) {
            sent -= chunks[at->chunk].len - at->offset;
            at->chunk++;
            at->offset = 0;
        }
        at->offset += sent;
        if (at->chunk == count) {
            return 1;
        }
        if ((size_t)n < asked) {
            return 0;
        }
    }
}

/* Sends what is queued as far as the kernel takes it. -errno, or 0: look at the guard first. */
static int
send_queue(corolla_stream *s, Guard *guard)
{
    while (s->piece_count > 0) {
        struct iovec iov[MOST_PIECES];
        size_t asked = 0;
        unsigned count = s->piece_count < MOST_PIECES ? s->piece_count : MOST_PIECES;
        for (unsigned i = 0; i < count; i++) {
            corolla_piece *piece = piece_at(s, i);
            iov[i] = (struct iovec){(char *)(uintptr_t)piece->data, piece->len};
            asked += piece->len;
        }
        ssize_t n = transmit(s, iov, count);
        if (n < 0) {
            return n == -EAGAIN ? 0 : (int)n;
        }
        consume(s, (size_t)n);
        if (guard->closed || (size_t)n < asked) {
            return 0;
        }
    }
    return 0;
}

static int
send_fin(corolla_stream *s)
{
    s->fin_sent = true;
    if (s->socket && shutdown(s->fd, SHUT_WR) < 0) {
        return -errno;
    }
    return 0;
}

/* ---- What follows from a change ------------------------------------------------------------ */

/* Held-back bytes need no event: the end of the turn comes by itself. */
static int
update_interest(corolla_stream *s)
{
    unsigned interest = s->reading ? COROLLA_READABLE : 0;
    if (s->piece_count > 0 ? s->flush.next == NULL : s->wanted) {
        interest |= COROLLA_WRITABLE;
    }
    interest |= s->minded;
    return corolla_watch_modify(&s->watch, interest);
}

/* To be called last, as it calls the owner. */
static int
raise_pressure(corolla_stream *s)
{
    if (s->pressed || s->queued <= s->high) {
        return 0;
    }
    s->pressed = true;
    return s->ops->pressure != NULL ? s->ops->pressure(s, true) : 0;
}

static int
ease_pressure(corolla_stream *s)
{
    if (!s->pressed || s->queued > s->low) {
        return 0;
    }
    s->pressed = false;
    return s->ops->pressure != NULL ? s->ops->pressure(s, false) : 0;
}

/* After queued bytes were sent, from an event or at the end of a turn. */
static int
settle(corolla_stream *s, Guard *guard)
{
    int rc = ease_pressure(s); /* before the interest: a writer that was waiting mostly writes again */
    if (guard->closed || !is_open(s)) {
        return rc;
    }
    int err = update_interest(s);
    if (rc < 0) {
        if (s->piece_count == 0) {
            corolla_reactor_defer(s->watch.reactor, &s->flush); /* flushed is still to be told */
        }
        return rc;
    }
    if (err < 0) {
        drop_queue(s);
        return guard->closed ? 0 : s->ops->failed(s, err);
    }
    if (s->piece_count > 0) {
        return 0;
    }
    if (s->shut && !s->fin_sent) {
        (void)send_fin(s); /* fails where the peer has reset, and that is told by reading */
    }
    return s->ops->flushed != NULL ? s->ops->flushed(s) : 0;
}

static int
send_and_settle(corolla_stream *s, Guard *guard)
{
    int err = send_queue(s, guard);
    if (guard->closed) {
        return 0;
    }
    if (err == 0) {
        return settle(s, guard);
    }
    s->reading = s->wanted = false;
    s->minded = 0;
    (void)corolla_watch_modify(&s->watch, 0);
    drop_queue(s);
    return guard->closed ? 0 : s->ops->failed(s, err);
}

static int
end_of_turn(corolla_deferred *deferred)
{
    corolla_stream *s = container_of(deferred, corolla_stream, flush);
    Guard guard;
    if (!is_open(s)) {
        return 0;
    }
    guard_enter(s, &guard);
    int rc = send_and_settle(s, &guard);
    guard_leave(s, &guard);
    return rc;
}

/* ---- Events -------------------------------------------------------------------------------- */

static void
learn_read_size(corolla_stream *s, size_t n, size_t len)
{
    if (n == len) {
        s->hint = len < COROLLA_SCRATCH / 2 ? len * 2 : COROLLA_SCRATCH;
    }
    else if (n >= s->hint) {
        s->hint = n;
    }
    else {
        s->hint -= (s->hint - n) / 4;
    }
}

static int
read_once(corolla_stream *s, Guard *guard)
{
    void *buf = NULL;
    size_t len = 0;
    int rc = s->ops->where(s, s->hint, &buf, &len);
    if (unlikely(rc < 0 || guard->closed || !s->reading)) {
        return rc;
    }
    assert(len > 0);
    ssize_t n = receive(s, buf, len);
    if (likely(n > 0)) {
        learn_read_size(s, (size_t)n, len);
        return s->ops->came(s, buf, n);
    }
    if (n == -EAGAIN) {
        return 0;
    }
    s->reading = false;
    (void)update_interest(s); /* it shrinks, which does not fail */
    return s->ops->came(s, buf, n);
}

static int
stream_ready(corolla_watch *watch, unsigned events)
{
    corolla_stream *s = container_of(watch, corolla_stream, watch);
    Guard guard;
    int rc = 0;
    guard_enter(s, &guard);
    if (unlikely(events & s->minded)) {
        s->minded = 0;
        (void)update_interest(s);
        rc = s->ops->left(s);
    }
    else if (events & COROLLA_READABLE) {
        rc = read_once(s, &guard);
    }
    if (unlikely(events & COROLLA_WRITABLE) && rc >= 0 && !guard.closed) {
        if (s->piece_count > 0) {
            rc = send_and_settle(s, &guard);
        }
        else if (s->wanted) {
            s->wanted = false;
            (void)update_interest(s);
            rc = s->ops->flushed(s);
        }
    }
    guard_leave(s, &guard);
    return rc;
}

/* ---- What the owner calls -------------------------------------------------------------------- */

void
corolla_stream_init(corolla_stream *s, const corolla_stream_ops *ops)
{
    *s = (corolla_stream){.ops = ops, .fd = -1, .closed = true, .high = DEFAULT_HIGH, .low = DEFAULT_LOW};
    s->flush.fn = end_of_turn;
    corolla_watch_init(&s->watch, stream_ready);
}

int
corolla_stream_open(corolla_reactor *r, corolla_stream *s, int fd)
{
    if (corolla_reactor_scratch(r) == NULL) {
        return -ENOMEM;
    }
    int err = corolla_watch_start(r, &s->watch, fd, 0);
    if (err < 0) {
        return err;
    }
    s->fd = fd;
    s->closed = false;
    s->socket = true;
    return 0;
}

int
corolla_stream_read(corolla_stream *s, bool on)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    if (s->reading == on) {
        return 0;
    }
    s->reading = on;
    int err = update_interest(s);
    if (err < 0) {
        s->reading = !on;
    }
    return err;
}

int
corolla_stream_mind(corolla_stream *s, unsigned events)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    s->minded = (uint8_t)events;
    return update_interest(s);
}

int
corolla_stream_want(corolla_stream *s, bool on)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    s->wanted = on;
    return update_interest(s);
}

ssize_t
corolla_stream_sendfile(corolla_stream *s, int file, off_t *offset, size_t count)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    if (s->piece_count > 0) {
        return -EAGAIN;
    }
    return corolla_sendfile(s->fd, file, offset, count);
}

/* Counts this write and says whether it should wait for others of its turn. */
static inline bool
learn_to_hold(corolla_stream *s)
{
    corolla_reactor *r = s->watch.reactor;
    if (!r->in_turn) {
        return false;
    }
    if (s->write_turn != r->turns) {
        if (s->writes <= 1) {
            s->hold = 0;
        }
        else if (s->hold < HOLD_AFTER) {
            s->hold++;
        }
        s->write_turn = r->turns;
        s->writes = 0;
    }
    s->writes++;
    return s->hold == HOLD_AFTER && s->high > 0;
}

/* A write from at on, where the simplest case does not do. refused: by the kernel, just now. Apart, to keep its large
 * frame off the path that nearly all writes take. */
static __attribute__((noinline)) int
write_slowly(corolla_stream *s, const corolla_chunk *chunks, size_t count, Position at, bool hold, bool refused)
{
    if (s->piece_count > 0) {
        hold = s->flush.next != NULL;
    }
    else if (!hold) {
        int rc = refused ? 0 : send_chunks(s, chunks, count, &at);
        if (rc != 0) {
            return rc < 0 ? rc : 0;
        }
        corolla_reactor_undefer(s->watch.reactor, &s->flush);
    }
    int err = append_chunks(s, chunks, count, at);
    if (err < 0 || s->piece_count == 0) {
        return err;
    }
    if (hold) {
        corolla_reactor_defer(s->watch.reactor, &s->flush);
        return s->queued > s->high ? corolla_stream_flush(s) : 0;
    }
    err = update_interest(s);
    if (err < 0) {
        drop_queue(s);
        return err;
    }
    (void)raise_pressure(s);
    return 0;
}

int
corolla_stream_write(corolla_stream *s, const corolla_chunk *chunks, size_t count)
{
    if (unlikely(!is_open(s))) {
        return -EBADF;
    }
    if (unlikely(s->shut)) {
        return -ESHUTDOWN;
    }
    Position at = {0, 0};
    bool hold = learn_to_hold(s), refused = false;
    if (likely(count == 1 && !hold && s->piece_count == 0 && s->socket && chunks->len > 0)) {
        ssize_t n = send(s->fd, chunks->data, chunks->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (likely(n == (ssize_t)chunks->len)) {
            return 0;
        }
        if (n >= 0 || errno == EAGAIN) {
            at.offset = n > 0 ? (size_t)n : 0;
            refused = true;
        }
        else if (errno != EINTR && errno != ENOTSOCK) {
            return -errno; /* told only once by the kernel, so not to be asked for again */
        }
    }
    return write_slowly(s, chunks, count, at, hold, refused);
}

int
corolla_stream_flush(corolla_stream *s)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    if (s->piece_count == 0) {
        return 0;
    }
    Guard guard;
    guard_enter(s, &guard);
    corolla_reactor_undefer(s->watch.reactor, &s->flush);
    int err = send_queue(s, &guard);
    if (guard.closed) {
        err = 0;
        goto done;
    }
    if (err == 0) {
        err = update_interest(s);
    }
    if (err < 0) {
        drop_queue(s);
        goto done;
    }
    if (s->piece_count == 0) {
        corolla_reactor_defer(s->watch.reactor, &s->flush); /* FIN and flushed come from there */
    }
    if (s->queued > s->high) {
        (void)raise_pressure(s);
    }
    else {
        (void)ease_pressure(s);
    }
done:
    guard_leave(s, &guard);
    return err;
}

int
corolla_stream_shutdown(corolla_stream *s)
{
    if (!is_open(s)) {
        return -EBADF;
    }
    if (s->shut) {
        return 0;
    }
    s->shut = true;
    return s->piece_count > 0 ? 0 : send_fin(s);
}

void
corolla_stream_limits(corolla_stream *s, size_t high, size_t low)
{
    s->high = high;
    s->low = low < high ? low : high;
    if (!is_open(s) || s->queued <= high) {
        return;
    }
    if (s->flush.next != NULL) {
        (void)corolla_stream_flush(s); /* bytes held back by choice are no pressure */
    }
    else {
        (void)raise_pressure(s);
    }
}

void
corolla_stream_close(corolla_stream *s)
{
    if (s->closed) {
        return;
    }
    s->closed = true;
    s->reading = s->wanted = false;
    s->minded = 0;
    if (s->gone != NULL) {
        *s->gone = true;
        s->gone = NULL;
    }
    corolla_reactor_undefer(s->watch.reactor, &s->flush);
    corolla_watch_stop(&s->watch);
    s->fd = -1;
    drop_queue(s);
}
