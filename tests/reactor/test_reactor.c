/* reactor.c: the turn */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Order ---------------------------------------------------------------------------------- */

static corolla_reactor *current;

static int
posting_job(void *arg)
{
    log_add((int)(intptr_t)arg);
    post_number(current, (int)(intptr_t)arg + 100);
    return 0;
}

static void
test_a_turn_runs_what_is_ready_and_not_what_that_adds(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, posting_job, (void *)1));
    post_number(r, 2);
    ok(corolla_reactor_turn(r));
    expect_log(1, 2);
    ok(corolla_reactor_turn(r));
    expect_log(101);
}

static int
flooding_job(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        post_number(current, i);
    }
    return 0;
}

static void
test_the_ring_may_grow_under_a_running_job(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, flooding_job, NULL));
    post_number(r, -1);
    ok(corolla_reactor_turn(r));
    expect_log(-1);
    ok(corolla_reactor_turn(r));
    assert_int_equal(logged.count, 1000);
    assert_int_equal(logged.entries[999], 999);
}

static void
test_a_negative_value_leaves_the_rest_queued_in_order(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer timer;
    post_number(r, 1);
    ok(corolla_reactor_post(r, leaving_job, (void *)2));
    post_number(r, 3);
    corolla_timer_init(&timer, log_job, (void *)4);
    ok(corolla_timer_start(r, &timer, 0));
    assert_int_equal(corolla_reactor_turn(r), -1000);
    assert_false(r->in_turn);
    expect_log(1, 2);
    post_number(r, 5);
    ok(corolla_reactor_turn(r));
    expect_log(3, 4, 5);
}

static int
nested_turn(void *arg)
{
    (void)arg;
    log_add(corolla_reactor_turn(current));
    return 0;
}

static void
test_turns_do_not_nest(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, nested_turn, NULL));
    ok(corolla_reactor_turn(r));
    expect_log(-EBUSY);
}

/* ---- Running and stopping --------------------------------------------------------------------- */

static int
stopping_job(void *arg)
{
    log_add((int)(intptr_t)arg);
    corolla_reactor_stop(current);
    return 0;
}

static void
test_stop_ends_a_run_after_the_batch(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, stopping_job, (void *)1));
    ok(corolla_reactor_post(r, posting_job, (void *)2));
    ok(corolla_reactor_run(r));
    expect_log(1, 2);
    assert_false(r->stopping);
    /* Stopped before it runs: one turn, which does not sleep. */
    corolla_reactor_stop(r);
    ok(corolla_reactor_run(r));
    expect_log(102);
}

static void
test_a_negative_value_ends_a_run(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, stopping_job, (void *)1));
    ok(corolla_reactor_post(r, leaving_job, (void *)2));
    assert_int_equal(corolla_reactor_run(r), -1000);
    assert_false(r->stopping);
}

/* ---- Deferred ------------------------------------------------------------------------------------ */

typedef struct Later {
    corolla_deferred deferred;
    int number;
    int rc;
    bool again;
} Later;

static int
run_later(corolla_deferred *deferred)
{
    Later *later = (Later *)(void *)deferred;
    log_add(later->number);
    if (later->again) {
        later->again = false;
        corolla_reactor_defer(current, deferred);
    }
    return later->rc;
}

static void
test_deferred_run_once_after_the_jobs_in_order(void **state)
{
    corolla_reactor *r = current = *state;
    Later a = {.deferred.fn = run_later, .number = 10};
    Later b = {.deferred.fn = run_later, .number = 11, .again = true};
    Later c = {.deferred.fn = run_later, .number = 12};
    corolla_reactor_defer(r, &a.deferred);
    corolla_reactor_defer(r, &b.deferred);
    corolla_reactor_defer(r, &c.deferred);
    corolla_reactor_defer(r, &a.deferred); /* queued already: keeps its place */
    corolla_reactor_undefer(r, &c.deferred);
    corolla_reactor_undefer(r, &c.deferred);
    post_number(r, 1);
    ok(corolla_reactor_turn(r));
    expect_log(1, 10, 11);
    /* What is deferred keeps the poll from sleeping. */
    ok(corolla_reactor_turn(r));
    expect_log(11);
    ok(turn_at_once(r));
    expect_nothing();
}

static void
test_deferred_wait_when_the_turn_is_left(void **state)
{
    corolla_reactor *r = current = *state;
    Later a = {.deferred.fn = run_later, .number = 10, .rc = -5};
    Later b = {.deferred.fn = run_later, .number = 11};
    Later c = {.deferred.fn = run_later, .number = 12};
    corolla_reactor_defer(r, &a.deferred);
    corolla_reactor_defer(r, &b.deferred);
    ok(corolla_reactor_post(r, leaving_job, (void *)1));
    assert_int_equal(corolla_reactor_turn(r), -1000);
    expect_log(1);
    assert_int_equal(corolla_reactor_turn(r), -5);
    expect_log(10);
    corolla_reactor_defer(r, &c.deferred);
    ok(corolla_reactor_turn(r));
    expect_log(11, 12);
}

/* ---- Time and hooks ----------------------------------------------------------------------------- */

typedef struct Hooks {
    int before, after, last_rc;
    int after_result, clock_result;
    int64_t now;
} Hooks;

static void
before_poll(void *ctx)
{
    ((Hooks *)ctx)->before++;
}

static int
after_poll(void *ctx, int rc)
{
    Hooks *hooks = ctx;
    hooks->after++;
    hooks->last_rc = rc;
    return hooks->after_result;
}

static int
virtual_clock(void *ctx, int64_t *now)
{
    Hooks *hooks = ctx;
    *now = hooks->now;
    return hooks->clock_result;
}

static void
test_timers_are_due_when_the_deadline_is_reached(void **state)
{
    corolla_reactor *r = *state;
    Hooks hooks = {.now = 99};
    corolla_timer timer;
    r->hooks = (corolla_hooks){.clock = virtual_clock, .ctx = &hooks};
    corolla_timer_init(&timer, log_job, (void *)1);
    ok(corolla_timer_start(r, &timer, 100));
    ok(turn_at_once(r));
    expect_nothing();
    hooks.now = 100;
    ok(turn_at_once(r));
    expect_log(1);
}

static void
test_a_clock_that_fails_leaves_the_turn(void **state)
{
    corolla_reactor *r = *state;
    Hooks hooks = {.clock_result = -7};
    corolla_timer timer;
    r->hooks = (corolla_hooks){.clock = virtual_clock, .ctx = &hooks};
    corolla_timer_init(&timer, log_job, (void *)1);
    ok(corolla_timer_start(r, &timer, 100));
    post_number(r, 2);
    assert_int_equal(corolla_reactor_turn(r), -7); /* with jobs ready */
    hooks.clock_result = 0;
    ok(turn_at_once(r));
    expect_log(2);
    hooks.clock_result = -8;
    assert_int_equal(corolla_reactor_turn(r), -8); /* before it sleeps */
    hooks.clock_result = 0;
    hooks.now = 1000;
    ok(corolla_reactor_turn(r));
    expect_log(1);
}

static int
make_time_pass(void *arg)
{
    Hooks *hooks = arg;
    hooks->now += 1000;
    return 0;
}

static void
test_a_timer_overdue_while_jobs_ran_does_not_let_the_poll_sleep(void **state)
{
    corolla_reactor *r = *state;
    Hooks hooks = {0};
    corolla_timer timer;
    r->hooks = (corolla_hooks){.clock = virtual_clock, .ctx = &hooks};
    corolla_timer_init(&timer, log_job, (void *)1);
    ok(corolla_timer_start(r, &timer, 500));
    ok(corolla_reactor_post(r, make_time_pass, &hooks));
    ok(turn_at_once(r));
    ok(corolla_reactor_turn(r)); /* would never return */
    expect_log(1);
}

static void
test_a_sleep_ends_at_the_deadline_and_not_before(void **state)
{
    corolla_reactor *r = *state;
    Hooks hooks = {0};
    corolla_timer timer;
    r->hooks = (corolla_hooks){.before_poll = before_poll, .after_poll = after_poll, .ctx = &hooks};
    corolla_timer_init(&timer, log_job, (void *)1);
    for (int i = 0; i < 20; i++) {
        int64_t deadline = corolla_clock() + 300000 + i * 1000;
        ok(corolla_timer_start(r, &timer, deadline));
        hooks.after = 0;
        while (logged.count == 0) {
            ok(corolla_reactor_turn(r));
        }
        assert_true(corolla_clock() >= deadline);
        assert_int_equal(hooks.after, 1); /* nanoseconds: no second poll for a rest */
        log_clear();
    }
}

static void
test_far_and_odd_deadlines(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer never, far, past, now;
    corolla_timer_init(&never, log_job, (void *)1);
    corolla_timer_init(&far, log_job, (void *)2);
    corolla_timer_init(&past, log_job, (void *)3);
    corolla_timer_init(&now, log_job, (void *)4);
    ok(corolla_timer_start(r, &never, COROLLA_NEVER));
    ok(corolla_timer_start(r, &far, COROLLA_NEVER - 1));
    ok(corolla_timer_start(r, &past, INT64_MIN));
    ok(corolla_reactor_turn(r));
    expect_log(3);
    ok(corolla_timer_start(r, &now, corolla_clock() + 1000000));
    while (logged.count == 0) {
        ok(corolla_reactor_turn(r));
    }
    expect_log(4);
    /* A clock before zero, and a sleep longer than any: ended by a wake-up. */
    Hooks hooks = {.now = INT64_MIN + 5};
    r->hooks = (corolla_hooks){.clock = virtual_clock, .ctx = &hooks};
    ok(corolla_reactor_wake(r));
    ok(corolla_reactor_turn(r));
    hooks.now = COROLLA_NEVER;
    ok(corolla_reactor_turn(r));
    expect_log(2);
    assert_true(corolla_timer_stop(r, &never));
}

static void
test_hooks_go_around_every_poll(void **state)
{
    corolla_reactor *r = *state;
    Hooks hooks = {0};
    r->hooks = (corolla_hooks){.before_poll = before_poll, .after_poll = after_poll, .ctx = &hooks};
    post_number(r, 1);
    ok(corolla_reactor_turn(r));
    assert_int_equal(hooks.before, 1);
    assert_int_equal(hooks.after, 1);
    assert_int_equal(hooks.last_rc, 0);
    hooks.after_result = -9;
    post_number(r, 2);
    corolla_reactor_stop(r); /* not to skip it */
    assert_int_equal(corolla_reactor_turn(r), -9);
    r->stopping = false;
    expect_log(1);
    hooks.after_result = 0;
    ok(corolla_reactor_turn(r));
    expect_log(2);
}

static void
interrupt_soon(void *ctx)
{
    struct itimerval soon = {.it_value.tv_usec = 1000};
    before_poll(ctx);
    setitimer(ITIMER_REAL, &soon, NULL);
}

static void
nothing_to_handle(int signum)
{
    (void)signum;
}

static void
test_an_interrupted_poll_is_told_and_the_turn_goes_on(void **state)
{
    corolla_reactor *r = *state;
    struct sigaction action = {.sa_handler = nothing_to_handle}, before;
    Hooks hooks = {0};
    sigaction(SIGALRM, &action, &before);
    r->hooks = (corolla_hooks){.before_poll = interrupt_soon, .after_poll = after_poll, .ctx = &hooks};
    ok(corolla_reactor_turn(r));
    assert_int_equal(hooks.last_rc, -EINTR);
    sigaction(SIGALRM, &before, NULL);
}

static int
post_self(void *arg)
{
    (void)arg;
    log_clear();
    ok(corolla_reactor_post(current, post_self, NULL));
    return 0;
}

static void
drop_nothing(corolla_job_fn fn, void *arg, void *ctx)
{
    (void)fn;
    (void)arg;
    (void)ctx;
}

static void
test_polls_are_skipped_for_a_bounded_number_of_turns(void **state)
{
    corolla_reactor *r = current = *state;
    Hooks hooks = {0};
    r->hooks = (corolla_hooks){.before_poll = before_poll, .ctx = &hooks};
    ok(corolla_reactor_post(r, post_self, NULL));
    unsigned most = 0;
    for (int i = 0; i < 10000; i++) {
        ok(corolla_reactor_turn(r));
        most = r->unpolled > most ? r->unpolled : most;
    }
    assert_in_range(most, 1, 64);
    assert_in_range(hooks.before, 10000 / 65, 9999);
    corolla_reactor_drain(r, drop_nothing, NULL);
}

static int
spend_time(void *arg)
{
    int64_t end = corolla_clock() + 200000;
    while (corolla_clock() < end) {
    }
    return post_self(arg);
}

static void
test_polls_are_skipped_for_a_bounded_time(void **state)
{
    corolla_reactor *r = current = *state;
    Hooks hooks = {0};
    r->hooks = (corolla_hooks){.before_poll = before_poll, .ctx = &hooks};
    ok(corolla_reactor_post(r, spend_time, NULL));
    for (int i = 0; i < 5; i++) {
        hooks.before = 0;
        corolla_reactor_drain(r, drop_nothing, NULL);
        ok(corolla_reactor_post(r, spend_time, NULL));
        ok(corolla_reactor_turn(r));
        ok(corolla_reactor_turn(r));
        assert_true(hooks.before >= 1); /* each turn takes four times the limit */
    }
    corolla_reactor_drain(r, drop_nothing, NULL);
}

static int
count_turns(void *arg)
{
    ++*(int *)arg;
    ok(corolla_reactor_post(current, count_turns, arg));
    return 0;
}

static void
test_timers_come_in_time_between_polls(void **state)
{
    corolla_reactor *r = current = *state;
    corolla_timer far, soon;
    int turns = 0;
    corolla_timer_init(&far, log_job, (void *)1);
    corolla_timer_init(&soon, log_job, (void *)2);
    ok(corolla_timer_start(r, &far, corolla_clock() + INT64_C(3600) * 1000000000));
    ok(corolla_reactor_post(r, count_turns, &turns));
    for (int i = 0; i < 200; i++) { /* at every place between two polls */
        ok(corolla_timer_start(r, &soon, corolla_clock()));
        ok(corolla_reactor_turn(r));
        expect_log(2); /* due at once, in the very next turn */
        ok(corolla_reactor_turn(r));
    }
    int64_t deadline = corolla_clock() + 2000000;
    ok(corolla_timer_start(r, &soon, deadline));
    while (logged.count == 0) {
        ok(corolla_reactor_turn(r));
    }
    assert_true(corolla_clock() >= deadline);
    corolla_timer_stop(r, &far);
    corolla_reactor_drain(r, drop_nothing, NULL);
}

/* ---- What is queued ------------------------------------------------------------------------------- */

static void
log_visit(corolla_job_fn fn, void *arg, void *ctx)
{
    assert_true(fn == log_job);
    assert_ptr_equal(ctx, &logged);
    log_add((int)(intptr_t)arg);
}

static void
log_drop(corolla_job_fn fn, void *arg, void *ctx)
{
    int number = (int)(intptr_t)arg;
    log_visit(fn, arg, ctx);
    if (number < 100) { /* a finaliser that posts again, each way */
        post_number(current, number + 100);
        ok(corolla_inbox_post(current->inbox, log_job, (void *)(intptr_t)(number + 200)));
    }
}

static void
test_visit_and_drain_show_what_users_posted(void **state)
{
    corolla_reactor *r = current = *state;
    corolla_timer timer;
    corolla_timer_init(&timer, log_job, (void *)2);
    post_number(r, 1);
    post_number(r, 99);
    corolla_ring_revoke(&r->ring, r->ring.tail - 1);
    ok(corolla_timer_start(r, &timer, COROLLA_NEVER));
    ok(corolla_inbox_post(r->inbox, log_job, (void *)3));
    corolla_reactor_visit(r, log_visit, &logged);
    expect_log(1, 2, 3);
    corolla_reactor_drain(r, log_drop, &logged);
    assert_int_equal(logged.count, 9);
    assert_int_equal(corolla_ring_count(&r->ring), 0);
    assert_int_equal(timer.index, COROLLA_TIMER_IDLE);
    log_clear();
    corolla_reactor_visit(r, log_visit, &logged);
    expect_nothing();
}

static int
drain_from_inside(void *arg)
{
    (void)arg;
    corolla_reactor_drain(current, drop_nothing, NULL);
    post_number(current, 7);
    return 0;
}

static void
test_a_job_may_drain_the_ring_it_runs_from(void **state)
{
    corolla_reactor *r = current = *state;
    ok(corolla_reactor_post(r, drain_from_inside, NULL));
    post_number(r, 1);
    post_number(r, 2);
    ok(corolla_reactor_turn(r));
    ok(corolla_reactor_turn(r));
    expect_log(7);
}

/* ---- Life ------------------------------------------------------------------------------------------- */

static int
log_watch(corolla_watch *watch, unsigned events)
{
    char byte;
    (void)events;
    log_add((int)read(watch->fd, &byte, 1));
    return 0;
}

static void
test_a_forked_child_abandons_and_the_parent_goes_on(void **state)
{
    corolla_reactor *r = *state;
    corolla_watch watch;
    int fds[2];
    socket_pair(fds);
    corolla_watch_init(&watch, log_watch);
    ok(corolla_watch_start(r, &watch, fds[0], COROLLA_READABLE));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        size_t before = open_descriptors();
        corolla_reactor_abandon(r);
        corolla_watch_stop(&watch); /* there is nothing to stop any more */
        bool closed = open_descriptors() == before - 2;
        corolla_reactor fresh;
        bool works = corolla_reactor_init(&fresh) == 0 && corolla_reactor_post(&fresh, log_job, (void *)1) == 0 &&
                     corolla_reactor_turn(&fresh) == 0 && logged.count == 1;
        corolla_reactor_close(&fresh);
        _exit(closed && works ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    ok(corolla_reactor_turn(r));
    expect_log(1);
    corolla_watch_stop(&watch);
    close(fds[0]);
    close(fds[1]);
}

static pid_t forked;

static int
fork_job(void *arg)
{
    (void)arg;
    forked = fork();
    return 0;
}

static int
log_deferred(corolla_deferred *deferred)
{
    (void)deferred;
    log_add(9);
    return 0;
}

static void
test_a_child_forked_in_a_turn_runs_no_more_of_it(void **state)
{
    corolla_reactor *r = *state;
    corolla_deferred deferred = {.fn = log_deferred};
    corolla_reactor_defer(r, &deferred);
    ok(corolla_reactor_post(r, fork_job, NULL));
    post_number(r, 1);
    int rc = corolla_reactor_turn(r);
    assert_true(forked >= 0);
    if (forked == 0) {
        _exit(rc == -ECHILD && corolla_reactor_turn(r) == -ECHILD && logged.count == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(rc, 0);
    assert_int_equal(waitpid(forked, &status, 0), forked);
    assert_int_equal(status, 0);
    expect_log(1, 9);
}

static void
test_close_gives_back_every_descriptor(void **state)
{
    (void)state;
    corolla_reactor r;
    size_t before = open_descriptors();
    ok(corolla_reactor_init(&r));
    post_number(&r, 1);
    ok(corolla_reactor_turn(&r));
    assert_non_null(corolla_reactor_scratch(&r));
    corolla_reactor_close(&r);
    assert_int_equal(open_descriptors(), before);
    assert_null(corolla_reactor_scratch(&r)); /* nobody would free it */
    memset(&r, 0, sizeof r);
    corolla_reactor_close(&r); /* never initialised */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_a_turn_runs_what_is_ready_and_not_what_that_adds),
        reactor_test(test_the_ring_may_grow_under_a_running_job),
        reactor_test(test_a_negative_value_leaves_the_rest_queued_in_order),
        reactor_test(test_turns_do_not_nest),
        reactor_test(test_stop_ends_a_run_after_the_batch),
        reactor_test(test_a_negative_value_ends_a_run),
        reactor_test(test_deferred_run_once_after_the_jobs_in_order),
        reactor_test(test_deferred_wait_when_the_turn_is_left),
        reactor_test(test_timers_are_due_when_the_deadline_is_reached),
        reactor_test(test_a_clock_that_fails_leaves_the_turn),
        reactor_test(test_a_timer_overdue_while_jobs_ran_does_not_let_the_poll_sleep),
        reactor_test(test_a_sleep_ends_at_the_deadline_and_not_before),
        reactor_test(test_far_and_odd_deadlines),
        reactor_test(test_hooks_go_around_every_poll),
        reactor_test(test_an_interrupted_poll_is_told_and_the_turn_goes_on),
        reactor_test(test_polls_are_skipped_for_a_bounded_number_of_turns),
        reactor_test(test_polls_are_skipped_for_a_bounded_time),
        reactor_test(test_timers_come_in_time_between_polls),
        reactor_test(test_visit_and_drain_show_what_users_posted),
        reactor_test(test_a_job_may_drain_the_ring_it_runs_from),
        reactor_test(test_a_forked_child_abandons_and_the_parent_goes_on),
        reactor_test(test_a_child_forked_in_a_turn_runs_no_more_of_it),
        cmocka_unit_test(test_close_gives_back_every_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
