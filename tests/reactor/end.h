/* One end of a connection under a stream, which logs what it is told, and its peer in the test's hands. */
#ifndef COROLLA_TESTS_END_H
#define COROLLA_TESTS_END_H

#include "support.h"

/* What the log says: */
enum { CAME = 1, END, BROKEN, FAILED, PRESSED, EASED, FLUSHED, LEFT };

typedef struct End {
    corolla_stream stream; /* first: a stream is its end */
    int fd, peer;          /* owned */
    char in[1 << 16];
    size_t in_len, room;
    size_t hint;
    int error;
    int came_rc, pressure_rc;
    size_t bytes_in_all; /* of byte_at(), which peer_read() must not read past; 0: no end */
    void (*react)(struct End *end, int what);
} End;

extern const corolla_stream_ops end_ops;

/* Allocated, so that a sanitizer catches a stream that looks at a closed one's memory. */
End *end_new(corolla_reactor *r, void (*make_pair)(int fds[2]));
void end_close(End *end);
void close_at_once(End *end, int what);
/* Little room in the kernel, so that it refuses soon. */
void narrow_pair(int fds[2]);
void narrow_tcp_pair(int fds[2]);
char byte_at(size_t i);
char *make_bytes(size_t from, size_t len);
int write_bytes(End *end, const void *bytes, size_t len);
/* Reads all that has arrived at the peer; the bytes must be those from *at on. What recv said last. */
ssize_t peer_read(End *end, size_t *at);
/* The count of bytes got so far. */
size_t recv_more(End *end, char *buf, size_t *got);
void peer_expect(End *end, const char *text);
void peer_expect_nothing(End *end);
void reset_peer(End *end);

/* Drains the peer while turning, until the condition holds. */
#define drain_until(r, end, at, condition) turn_until((r), (peer_read((end), (at)), (condition)))

#endif
