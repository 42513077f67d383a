/* Out of memory at every place in turn: an error is returned, nothing is broken, nothing leaks (which a sanitizer
 * tells). Linked with --wrap for the allocation functions. */
#include "support.h"

#include <errno.h>
#include <internal.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
char *__wrap_strdup(const char *text);

static long until_failure = -1; /* allocations; negative: never */
static bool failed_one;

static bool
fails(void)
{
    if (until_failure < 0 || until_failure-- > 0) {
        return false;
    }
    failed_one = true;
    return true;
}

void *
__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *ptr, size_t size)
{
    return fails() ? NULL : __real_realloc(ptr, size);
}

char *
__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* Runs the scenario with its first allocation failing, then its second, until none does. */
static void
fail_at_each(void (*scenario)(corolla_reactor *r), corolla_reactor *r, long least)
{
    long count = 0;
    for (;; count++) {
        failed_one = false;
        until_failure = count;
        scenario(r);
        until_failure = -1;
        if (!failed_one) {
            break;
        }
    }
    assert_true(count >= least); /* or the scenario misses what it is for */
}

/* rc is 0, or -ENOMEM because of us. */
static bool
worked(int rc)
{
    if (rc < 0) {
        assert_int_equal(rc, -ENOMEM);
        assert_true(failed_one);
    }
    return rc == 0;
}

static void
init_and_close(corolla_reactor *r)
{
    corolla_reactor own;
    (void)r;
    size_t before = open_descriptors();
    if (worked(corolla_reactor_init(&own))) {
        corolla_reactor_close(&own);
    }
    assert_int_equal(open_descriptors(), before);
}

static void
test_init(void **state)
{
    (void)state;
    fail_at_each(init_and_close, NULL, 4);
}

static void
post_many(corolla_reactor *r)
{
    int lost = 0, posted = 0;
    for (int i = 0; i < 1000; i++) {
        if (worked(corolla_reactor_post(r, log_job, (void *)(intptr_t)posted))) {
            posted++;
        }
        else {
            lost++;
        }
    }
    assert_in_range(lost, 0, 1); /* the next one finds memory */
    ok(turn_at_once(r));
    assert_int_equal(logged.count, posted);
    for (int i = 0; i < posted; i++) {
        assert_int_equal(logged.entries[i], i);
    }
    log_clear();
    /* Small again, for the next round. */
    corolla_ring_free(&r->ring);
    until_failure = -1;
    ok(corolla_ring_init(&r->ring, 0));
}

static void
test_ring(void **state)
{
    fail_at_each(post_many, *state, 4);
}

static void
post_many_to_inbox(corolla_reactor *r)
{
    int posted = 0;
    for (int i = 0; i < 1000; i++) {
        posted += worked(corolla_inbox_post(r->inbox, log_job, (void *)(intptr_t)posted));
    }
    assert_in_range(posted, 999, 1000);
    for (int i = 0; i < 3; i++) {
        ok(turn_at_once(r)); /* what the ring has no room for comes a turn later */
    }
    assert_int_equal(logged.count, posted);
    for (int i = 0; i < posted; i++) {
        assert_int_equal(logged.entries[i], i);
    }
    log_clear();
    until_failure = -1;
    corolla_ring_free(&r->ring);
    ok(corolla_ring_init(&r->ring, 0));
    free(r->inbox->in);
    free(r->inbox->out);
    r->inbox->in = r->inbox->out = NULL;
    r->inbox->in_capacity = r->inbox->out_capacity = 0;
}

static void
test_inbox(void **state)
{
    fail_at_each(post_many_to_inbox, *state, 8);
}

static void
start_many_timers(corolla_reactor *r)
{
    enum { COUNT = 200 };
    static corolla_timer timers[COUNT];
    int started = 0;
    for (int i = 0; i < COUNT; i++) {
        corolla_timer_init(&timers[i], log_job, (void *)(intptr_t)i);
        started += worked(corolla_timer_start(r, &timers[i], COUNT - i));
    }
    for (int i = 0; i < 3; i++) {
        ok(turn_at_once(r));
    }
    assert_int_equal(logged.count, started);
    for (int i = 1; i < started; i++) {
        assert_true(logged.entries[i - 1] > logged.entries[i]);
    }
    log_clear();
    until_failure = -1;
    corolla_timers_free(&r->timers);
    corolla_ring_free(&r->ring);
    ok(corolla_ring_init(&r->ring, 0));
}

static void
test_timers(void **state)
{
    fail_at_each(start_many_timers, *state, 4);
}

/* ---- Streams ----------------------------------------------------------------------------------------- */

static int retained;

static void
retain(void *owner)
{
    (void)owner;
    retained++;
}

static void
release(void *owner)
{
    (void)owner;
    retained--;
}

static int
never_called(corolla_stream *s, int err)
{
    (void)s;
    (void)err;
    fail();
    return 0;
}

static void
write_to_stream(corolla_reactor *r)
{
    static const corolla_stream_ops ops = {.failed = never_called};
    static char bytes[40000];
    corolla_stream s;
    int fds[2], size = 1;
    socket_pair(fds);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    corolla_stream_init(&s, &ops);
    retained = 0;
    if (worked(corolla_stream_open(r, &s, fds[0]))) {
        corolla_chunk chunks[12];
        for (int i = 0; i < 12; i++) {
            chunks[i] = (corolla_chunk){.data = bytes, .len = i % 2 ? 100 : 6000};
            if (i % 3 == 0) {
                chunks[i].retain = retain;
                chunks[i].release = release;
            }
        }
        size_t expected = 0;
        for (size_t i = 0; i < 12; i++) {
            size_t queued = s.queued;
            unsigned count = s.piece_count;
            int before = retained;
            if (worked(corolla_stream_write(&s, chunks + i, 12 - i))) {
                for (size_t j = i; j < 12; j++) {
                    expected += chunks[j].len;
                }
            }
            else if (count > 0) {
                assert_int_equal(s.queued, queued); /* as it was */
                assert_int_equal(s.piece_count, count);
                assert_int_equal(retained, before);
            }
            size_t sum = 0;
            for (unsigned j = 0; j < s.piece_count; j++) {
                sum += s.pieces[(s.piece_head + j) & (s.piece_capacity - 1)].len;
            }
            assert_int_equal(sum, s.queued);
        }
        assert_true(s.queued <= expected);
        corolla_stream_close(&s);
    }
    assert_int_equal(retained, 0);
    until_failure = -1;
    free(r->scratch);
    r->scratch = NULL;
    close(fds[0]);
    close(fds[1]);
}

static void
test_stream(void **state)
{
    fail_at_each(write_to_stream, *state, 10);
}

/* ---- The rest ------------------------------------------------------------------------------------------ */

static int
log_done(corolla_resolve *q)
{
    if (q->error == 0) {
        freeaddrinfo(q->result);
    }
    log_add(1);
    return 0;
}

static void
look_up(corolla_reactor *r)
{
    corolla_resolve q = {.done = log_done};
    if (worked(corolla_resolve_address(r, &q, "127.0.0.1", "80", NULL))) {
        ok(turn_at_once(r));
        expect_log(1);
    }
    else {
        assert_null(q.query);
    }
    until_failure = -1;
    corolla_resolver_close(r);
}

static void
test_resolver(void **state)
{
    fail_at_each(look_up, *state, 4);
}

static int
log_signal(corolla_signal *self)
{
    log_add(self->signum);
    return 0;
}

static void
start_signal(corolla_reactor *r)
{
    corolla_signal s = {.fn = log_signal};
    if (worked(corolla_signal_start(r, &s, SIGUSR1))) {
        raise(SIGUSR1);
        ok(turn_at_once(r));
        expect_log(SIGUSR1);
        corolla_signal_stop(&s);
    }
}

static void
test_signal(void **state)
{
    fail_at_each(start_signal, *state, 1);
}

static int
log_watch(corolla_watch *watch, unsigned events)
{
    (void)watch;
    log_add((int)events);
    return 0;
}

static unsigned edge; /* of the watches: COROLLA_EDGE or 0 */

static void
watch_many(corolla_reactor *r)
{
    enum { COUNT = 150 };
    static corolla_watch watches[COUNT];
    static int fds[COUNT][2];
    int started = 0;
    for (int i = 0; i < COUNT; i++) {
        socket_pair(fds[i]);
        corolla_watch_init(&watches[i], log_watch);
        started += worked(corolla_watch_start(r, &watches[i], fds[i][0], COROLLA_WRITABLE | edge));
    }
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_true(logged.count >= (size_t)started);
    log_clear();
    for (int i = 0; i < COUNT; i++) {
        corolla_watch_stop(&watches[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    until_failure = -1;
    free(r->slots);
    r->slots = NULL;
    r->slot_count = 0;
    corolla_ring_free(&r->ring);
    ok(corolla_ring_init(&r->ring, 0));
}

static void
test_watches(void **state)
{
    edge = 0;
    fail_at_each(watch_many, *state, 3);
}

/* The kernel tells of a change once: what there was no memory for is asked for again. */
static void
test_edges(void **state)
{
    edge = COROLLA_EDGE;
    fail_at_each(watch_many, *state, 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init), reactor_test(test_ring),    reactor_test(test_inbox),
        reactor_test(test_timers),   reactor_test(test_stream),  reactor_test(test_resolver),
        reactor_test(test_signal),   reactor_test(test_watches), reactor_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
