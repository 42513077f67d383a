/* watch.c and epoll.c: descriptors, what is ready, what is stale */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <internal.h>
#include <poller.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Watcher {
    corolla_watch watch; /* first: a watch is its watcher */
    int number;
    int rc;
    corolla_watch *stops; /* when it runs */
} Watcher;

/* Logs number * 10 + events. */
static int
log_events(corolla_watch *watch, unsigned events)
{
    Watcher *watcher = (Watcher *)(void *)watch;
    log_add(watcher->number * 10 + (int)events);
    if (watcher->stops != NULL) {
        corolla_watch_stop(watcher->stops);
    }
    return watcher->rc;
}

static void
watcher_start(corolla_reactor *r, Watcher *watcher, int number, int fd, unsigned interest)
{
    *watcher = (Watcher){.number = number};
    corolla_watch_init(&watcher->watch, log_events);
    ok(corolla_watch_start(r, &watcher->watch, fd, interest));
}

static int polled; /* events of the last poll */

static int
count_polled(void *ctx, int rc)
{
    (void)ctx;
    polled = rc;
    return 0;
}

static void
close_both(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

static void
test_readiness_is_what_is_asked_for(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &w, 0, fds[0], COROLLA_READABLE);
    ok(turn_at_once(r));
    expect_nothing();
    assert_int_equal(write(fds[1], "x", 1), 1);
    ok(corolla_reactor_turn(r));
    ok(corolla_reactor_turn(r)); /* level-triggered: it has not been read */
    expect_log(COROLLA_READABLE, COROLLA_READABLE);
    ok(corolla_watch_modify(&w.watch, COROLLA_WRITABLE));
    ok(corolla_reactor_turn(r));
    expect_log(COROLLA_WRITABLE);
    ok(corolla_watch_modify(&w.watch, COROLLA_READABLE | COROLLA_WRITABLE));
    ok(corolla_reactor_turn(r));
    expect_log(COROLLA_READABLE | COROLLA_WRITABLE);
    ok(corolla_watch_modify(&w.watch, 0));
    ok(turn_at_once(r));
    expect_nothing();
    corolla_watch_stop(&w.watch);
    corolla_watch_stop(&w.watch);
    close_both(fds);
}

static void
test_what_cannot_be_watched(void **state)
{
    corolla_reactor *r = *state;
    Watcher w, second;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &w, 0, fds[0], COROLLA_READABLE);
    assert_ptr_equal(corolla_watch_find(r, fds[0]), &w.watch);
    assert_null(corolla_watch_find(r, fds[1]));
    assert_null(corolla_watch_find(r, -1));
    assert_null(corolla_watch_find(r, 1000000));
    corolla_watch_init(&second.watch, log_events);
    assert_int_equal(corolla_watch_start(r, &second.watch, fds[0], COROLLA_READABLE), -EEXIST);
    assert_int_equal(corolla_watch_start(r, &second.watch, -1, COROLLA_READABLE), -EBADF);
    corolla_watch_stop(&w.watch);
    assert_null(corolla_watch_find(r, fds[0]));
    close_both(fds);
    assert_int_equal(corolla_watch_start(r, &second.watch, fds[0], COROLLA_READABLE), -EBADF);
    FILE *file = tmpfile();
    assert_int_equal(corolla_watch_start(r, &second.watch, fileno(file), COROLLA_READABLE), -EPERM);
    fclose(file);
    assert_null(second.watch.reactor);
    assert_int_equal(r->watch_count, 0);
}

static void
test_stop_and_modify_take_back_what_is_queued(void **state)
{
    corolla_reactor *r = *state;
    Watcher first, second, third;
    int fds[2][2];
    socket_pair(fds[0]);
    socket_pair(fds[1]);
    /* All three are ready in one poll; whichever runs first stops the other, so only one of the two runs. */
    watcher_start(r, &first, 1, fds[0][0], COROLLA_WRITABLE);
    watcher_start(r, &second, 2, fds[0][1], COROLLA_WRITABLE);
    watcher_start(r, &third, 3, fds[1][0], COROLLA_WRITABLE);
    first.stops = &second.watch;
    second.stops = &first.watch;
    ok(corolla_reactor_turn(r));
    assert_int_equal(logged.count, 2);
    log_clear();
    corolla_watch_stop(&first.watch);
    corolla_watch_stop(&second.watch);
    /* Reported, then no more asked for before the job runs. */
    ok(corolla_reactor_post(r, leaving_job, (void *)7));
    assert_int_equal(turn_at_once(r), -1000);
    expect_log(7);
    assert_true(third.watch.job != 0);
    ok(corolla_watch_modify(&third.watch, COROLLA_READABLE));
    ok(turn_at_once(r));
    expect_nothing();
    /* Reported, then stopped, and its memory used for something else. */
    ok(corolla_watch_modify(&third.watch, COROLLA_WRITABLE));
    ok(corolla_reactor_post(r, leaving_job, (void *)7));
    assert_int_equal(turn_at_once(r), -1000);
    expect_log(7);
    assert_true(third.watch.job != 0);
    corolla_watch_stop(&third.watch);
    memset(&third, 0xff, sizeof third);
    ok(turn_at_once(r));
    close_both(fds[0]);
    close_both(fds[1]);
}

static void
test_a_hangup_is_told_to_who_asks_and_does_not_spin(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    socket_pair(fds);
    r->hooks.after_poll = count_polled;
    watcher_start(r, &w, 0, fds[0], COROLLA_READABLE);
    close(fds[1]);
    ok(corolla_reactor_turn(r));
    expect_log(COROLLA_READABLE | COROLLA_HANGUP);
    ok(corolla_watch_modify(&w.watch, COROLLA_WRITABLE));
    ok(corolla_reactor_turn(r));
    expect_log(COROLLA_WRITABLE | COROLLA_HANGUP);
    ok(corolla_watch_modify(&w.watch, 0));
    ok(turn_at_once(r));
    assert_int_equal(polled, 0); /* the kernel does not report it any more */
    ok(corolla_watch_modify(&w.watch, COROLLA_READABLE));
    ok(turn_at_once(r));
    expect_log(COROLLA_READABLE | COROLLA_HANGUP);
    corolla_watch_stop(&w.watch);
    close(fds[0]);
}

static void
test_events_of_a_left_turn_are_not_lost_or_doubled(void **state)
{
    corolla_reactor *r = *state;
    Watcher first, second;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &first, 1, fds[0], COROLLA_WRITABLE);
    watcher_start(r, &second, 2, fds[1], COROLLA_WRITABLE);
    first.rc = second.rc = -3;
    assert_int_equal(turn_at_once(r), -3);
    assert_int_equal(logged.count, 1);
    int other = logged.entries[0] == 12 ? 22 : 12;
    log_clear();
    /* The other's job is still queued, and the next poll reports it again: one job. Then the first's. */
    first.rc = second.rc = 0;
    ok(turn_at_once(r));
    assert_int_equal(logged.count, 2);
    assert_int_equal(logged.entries[0], other);
    corolla_watch_stop(&first.watch);
    corolla_watch_stop(&second.watch);
    close_both(fds);
}

/* ---- Numbers that are closed and used again --------------------------------------------------------------- */

static void
test_a_closed_descriptor_is_forgotten_without_an_error(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &w, 0, fds[0], COROLLA_READABLE);
    close(fds[0]);
    ok(turn_at_once(r));
    corolla_watch_stop(&w.watch);
    watcher_start(r, &w, 0, fds[1], COROLLA_READABLE);
    close(fds[1]);
    assert_int_equal(corolla_watch_modify(&w.watch, COROLLA_WRITABLE), -EBADF);
    ok(corolla_watch_modify(&w.watch, 0));
    corolla_watch_stop(&w.watch);
    ok(turn_at_once(r));
}

static void
test_a_number_in_use_again_goes_to_its_new_owner(void **state)
{
    corolla_reactor *r = *state;
    Watcher old, fresh;
    int fds[2], others[2];
    socket_pair(fds);
    socket_pair(others);
    watcher_start(r, &old, 1, fds[0], COROLLA_READABLE);
    assert_true(corolla_watch_alive(&old.watch));
    assert_int_equal(dup2(others[0], fds[0]), fds[0]); /* closes it */
    assert_false(corolla_watch_alive(&old.watch));
    watcher_start(r, &fresh, 2, fds[0], COROLLA_READABLE);
    assert_null(old.watch.reactor);
    assert_int_equal(corolla_watch_modify(&old.watch, COROLLA_WRITABLE), -EBADF);
    corolla_watch_stop(&old.watch); /* stops nobody else's */
    assert_int_equal(write(others[1], "x", 1), 1);
    ok(corolla_reactor_turn(r));
    expect_log(21);
    corolla_watch_stop(&fresh.watch);
    close_both(fds);
    close_both(others);
}

/* Closed behind our back while a dup keeps the kernel's registration alive, the number then free. */
static void
test_a_registration_that_a_dup_keeps_alive_does_not_spin(void **state)
{
    corolla_reactor *r = *state;
    Watcher w, other;
    int fds[2], others[2];
    socket_pair(fds);
    socket_pair(others);
    watcher_start(r, &w, 1, fds[0], COROLLA_READABLE);
    watcher_start(r, &other, 2, others[0], COROLLA_READABLE);
    int copy = dup(fds[0]);
    close(fds[0]);
    corolla_watch_stop(&w.watch); /* the number is not open: nothing to be deleted by */
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(write(others[1], "x", 1), 1);
    r->hooks.after_poll = count_polled;
    ok(turn_at_once(r));
    assert_int_equal(polled, 2); /* the stale one, and it leaves the set with that */
    ok(turn_at_once(r));
    assert_int_equal(polled, 1);
    expect_log(21, 21); /* the rest of the set was kept */
    ok(corolla_reactor_wake(r));
    ok(corolla_watch_modify(&other.watch, 0));
    ok(corolla_reactor_turn(r)); /* the wake-up too */
    corolla_watch_stop(&other.watch);
    close(copy);
    close(fds[1]);
    close_both(others);
}

static void
test_an_edge_is_told_once(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    char byte;
    socket_pair(fds);
    watcher_start(r, &w, 1, fds[0], COROLLA_READABLE | COROLLA_EDGE);
    assert_int_equal(write(fds[1], "x", 1), 1);
    ok(turn_at_once(r));
    expect_log(11);
    ok(turn_at_once(r));
    expect_nothing(); /* it is readable still */
    assert_int_equal(write(fds[1], "y", 1), 1);
    ok(turn_at_once(r));
    expect_log(11);
    assert_true(corolla_watch_alive(&w.watch));
    /* Asking anew, for whatever stays ready or for edges, tells what is ready now. */
    ok(turn_at_once(r));
    log_clear();
    ok(corolla_watch_modify(&w.watch, COROLLA_READABLE));
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    expect_log(11, 11);
    ok(corolla_watch_modify(&w.watch, COROLLA_READABLE | COROLLA_EDGE));
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    expect_log(11);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    corolla_watch_stop(&w.watch);
    close_both(fds);
}

/* An idle watch gives way to whoever wants its descriptor; one in use does not. */
static void
test_an_idle_watch_gives_way(void **state)
{
    corolla_reactor *r = *state;
    Watcher old, new;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &old, 1, fds[0], COROLLA_READABLE);
    corolla_watch_init(&new.watch, log_events);
    new.number = 2;
    new.rc = 0;
    new.stops = NULL;
    assert_int_equal(corolla_watch_start(r, &new.watch, fds[0], COROLLA_READABLE), -EEXIST);
    old.watch.idle = true;
    ok(corolla_watch_start(r, &new.watch, fds[0], COROLLA_READABLE));
    assert_null(old.watch.reactor);
    assert_int_equal(write(fds[1], "x", 1), 1);
    ok(turn_at_once(r));
    expect_log(21);
    corolla_watch_stop(&old.watch);
    corolla_watch_stop(&new.watch);
    close_both(fds);
}

/* The same, and the number has a new owner: its registration must survive, and it must not get the old events. */
static void
test_a_stale_event_is_not_delivered_to_the_numbers_new_owner(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2], others[2];
    socket_pair(fds);
    socket_pair(others);
    watcher_start(r, &w, 1, fds[0], COROLLA_READABLE);
    int copy = dup(fds[0]);
    assert_int_equal(dup2(others[0], fds[0]), fds[0]); /* closes it */
    corolla_watch_stop(&w.watch);
    watcher_start(r, &w, 2, fds[0], COROLLA_READABLE);
    assert_int_equal(write(fds[1], "x", 1), 1); /* the old one's */
    r->hooks.after_poll = count_polled;
    ok(turn_at_once(r));
    expect_nothing();
    ok(turn_at_once(r));
    assert_int_equal(polled, 0);
    assert_int_equal(write(others[1], "x", 1), 1);
    ok(turn_at_once(r));
    expect_log(21);
    corolla_watch_stop(&w.watch);
    close(copy);
    close_both(fds);
    close_both(others);
}

static void
test_cycles_of_add_close_dup_and_add_again(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    socket_pair(fds);
    r->hooks.after_poll = count_polled;
    assert_int_equal(write(fds[1], "x", 1), 1);
    int number = fds[0];
    for (int i = 0; i < 100; i++) {
        watcher_start(r, &w, 1, number, COROLLA_READABLE);
        int copy = dup(number);
        close(number);
        if (i % 3 == 0) {
            ok(turn_at_once(r)); /* the event of a registration whose number is closed, but not stopped */
            log_clear();
        }
        corolla_watch_stop(&w.watch);
        if (i % 2 == 0) {
            /* The very same file under the very same number: the kernel's old registration is found. */
            assert_int_equal(dup2(copy, number), number);
            close(copy);
        }
        else {
            assert_int_equal(fcntl(copy, F_DUPFD_CLOEXEC, number), number);
            ok(turn_at_once(r));
            close(copy);
        }
        expect_nothing();
    }
    watcher_start(r, &w, 1, number, COROLLA_READABLE);
    ok(turn_at_once(r));
    expect_log(11);
    corolla_watch_stop(&w.watch);
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_int_equal(polled, 0);
    close(number);
    close(fds[1]);
}

/* A callback between the poll and the reports, as a signal handler of an interpreter may be: it stops a watch whose
 * event has been fetched and starts another on the number. */
static struct {
    corolla_reactor *r;
    Watcher *watcher;
    int fresh;
} swap;

static int
swap_after_poll(void *ctx, int rc)
{
    (void)ctx;
    if (swap.watcher != NULL) {
        int fd = swap.watcher->watch.fd;
        corolla_watch_stop(&swap.watcher->watch);
        assert_int_equal(dup2(swap.fresh, fd), fd);
        watcher_start(swap.r, swap.watcher, 2, fd, COROLLA_READABLE);
        swap.watcher = NULL;
    }
    polled = rc;
    return 0;
}

static void
test_an_event_fetched_before_the_number_was_reused_is_dropped(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2], others[2];
    socket_pair(fds);
    socket_pair(others);
    watcher_start(r, &w, 1, fds[0], COROLLA_READABLE);
    assert_int_equal(write(fds[1], "x", 1), 1);
    swap.r = r;
    swap.watcher = &w;
    swap.fresh = others[0];
    r->hooks.after_poll = swap_after_poll;
    ok(turn_at_once(r));
    assert_int_equal(polled, 1);
    expect_nothing();
    assert_int_equal(write(others[1], "x", 1), 1);
    ok(turn_at_once(r));
    expect_log(21);
    corolla_watch_stop(&w.watch);
    close_both(fds);
    close_both(others);
}

static void
test_a_forked_child_does_not_change_its_parents_set(void **state)
{
    corolla_reactor *r = *state;
    Watcher w;
    int fds[2];
    socket_pair(fds);
    watcher_start(r, &w, 1, fds[0], COROLLA_READABLE);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool refused = corolla_watch_modify(&w.watch, COROLLA_WRITABLE) == -EBADF;
        corolla_watch_stop(&w.watch);
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    ok(corolla_reactor_turn(r)); /* would sleep for ever */
    expect_log(11);
    corolla_watch_stop(&w.watch);
    close_both(fds);
}

/* ---- Many ----------------------------------------------------------------------------------------------- */

static void
test_more_events_than_one_poll_fetches(void **state)
{
    enum { COUNT = 300 };
    corolla_reactor *r = *state;
    static Watcher watchers[COUNT];
    static int fds[COUNT][2];
    for (int i = 0; i < COUNT; i++) {
        socket_pair(fds[i]);
        watcher_start(r, &watchers[i], 0, fds[i][0], COROLLA_WRITABLE);
    }
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_true(logged.count > 2 * COUNT); /* the table of events has grown to all of them */
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(watchers[i].watch.interest, COROLLA_WRITABLE);
        corolla_watch_stop(&watchers[i].watch);
        close_both(fds[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_readiness_is_what_is_asked_for),
        reactor_test(test_what_cannot_be_watched),
        reactor_test(test_stop_and_modify_take_back_what_is_queued),
        reactor_test(test_a_hangup_is_told_to_who_asks_and_does_not_spin),
        reactor_test(test_events_of_a_left_turn_are_not_lost_or_doubled),
        reactor_test(test_a_closed_descriptor_is_forgotten_without_an_error),
        reactor_test(test_a_number_in_use_again_goes_to_its_new_owner),
        reactor_test(test_a_registration_that_a_dup_keeps_alive_does_not_spin),
        reactor_test(test_an_edge_is_told_once),
        reactor_test(test_an_idle_watch_gives_way),
        reactor_test(test_a_stale_event_is_not_delivered_to_the_numbers_new_owner),
        reactor_test(test_cycles_of_add_close_dup_and_add_again),
        reactor_test(test_an_event_fetched_before_the_number_was_reused_is_dropped),
        reactor_test(test_a_forked_child_does_not_change_its_parents_set),
        reactor_test(test_more_events_than_one_poll_fetches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
