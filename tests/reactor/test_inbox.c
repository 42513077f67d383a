/* inbox.c and wakeup.c: jobs from other threads */
#include "support.h"

#include <errno.h>
#include <internal.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, JOBS = 5000 };

/* One poster's jobs, each of which says whether it came in its turn. */
typedef struct Poster {
    corolla_inbox *inbox;
    uint32_t seed; /* 0: without pauses */
    size_t jobs;
    atomic_size_t ran; /* read by the poster, where it waits for each */
    bool wait;
    bool disordered;
    struct Item {
        struct Poster *poster;
        size_t number;
    } * items;
    pthread_t thread;
} Poster;

static int
item_job(void *arg)
{
    struct Item *item = arg;
    Poster *poster = item->poster;
    poster->disordered |= item->number != atomic_load(&poster->ran);
    atomic_fetch_add(&poster->ran, 1);
    return 0;
}

static void
pause_at_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    uint32_t spins = (*seed >> 8) % 4000;
    for (volatile uint32_t i = 0; i < spins; i++) {
    }
    if (spins % 7 == 0) {
        sched_yield();
    }
}

static void *
post_all(void *arg)
{
    Poster *poster = arg;
    for (size_t i = 0; i < poster->jobs; i++) {
        if (poster->seed != 0) {
            pause_at_random(&poster->seed);
        }
        if (corolla_inbox_post(poster->inbox, item_job, &poster->items[i]) < 0) {
            break;
        }
        while (poster->wait && atomic_load(&poster->ran) <= i) {
            sched_yield();
        }
    }
    return NULL;
}

static void
poster_start(Poster *poster, corolla_inbox *inbox)
{
    poster->inbox = inbox;
    poster->items = calloc(poster->jobs, sizeof *poster->items);
    for (size_t i = 0; i < poster->jobs; i++) {
        poster->items[i].poster = poster;
        poster->items[i].number = i;
    }
    assert_int_equal(pthread_create(&poster->thread, NULL, post_all, poster), 0);
}

static void
poster_finish(Poster *poster)
{
    pthread_join(poster->thread, NULL);
    free(poster->items);
    assert_false(poster->disordered);
}

static void
test_jobs_of_each_thread_keep_their_order(void **state)
{
    corolla_reactor *r = *state;
    Poster posters[THREADS] = {0};
    for (uint32_t i = 0; i < THREADS; i++) {
        posters[i].jobs = JOBS;
        posters[i].seed = i % 2 ? i : 0;
        poster_start(&posters[i], r->inbox);
    }
    for (int i = 0; i < THREADS; i++) {
        turn_until(r, atomic_load(&posters[i].ran) == JOBS);
        poster_finish(&posters[i]);
    }
}

/* Each job is posted when the one before has run, so the loop goes to sleep between them and a lost wake-up would
 * leave it there: nothing else comes. */
static void
test_a_post_around_the_park_point_always_wakes(void **state)
{
    corolla_reactor *r = *state;
    Poster poster = {.jobs = JOBS, .wait = true, .seed = 12345};
    poster_start(&poster, r->inbox);
    turn_until(r, atomic_load(&poster.ran) == JOBS);
    poster_finish(&poster);
}

/* ---- Wake-ups, told apart by what is posted while the loop is about to sleep -------------------------- */

typedef struct Sleeper {
    corolla_reactor *r;
    int polls, events;
    int posts; /* to make from inside before_poll */
    int result;
} Sleeper;

static void
post_before_poll(void *ctx)
{
    Sleeper *sleeper = ctx;
    sleeper->polls++;
    for (int i = 0; i < sleeper->posts; i++) {
        sleeper->result = corolla_inbox_post(sleeper->r->inbox, log_job, (void *)(intptr_t)i);
    }
}

static int
count_events(void *ctx, int rc)
{
    Sleeper *sleeper = ctx;
    sleeper->events += rc;
    return 0;
}

static void
test_a_burst_costs_one_wake_up(void **state)
{
    corolla_reactor *r = *state;
    Sleeper sleeper = {.r = r, .posts = 3};
    r->hooks = (corolla_hooks){.before_poll = post_before_poll, .after_poll = count_events, .ctx = &sleeper};
    ok(corolla_reactor_turn(r));
    assert_int_equal(sleeper.events, 1);
    assert_false(atomic_load(&r->inbox->sleeping));
    expect_log(0, 1, 2);
    /* And the channel does not stay readable. */
    sleeper.posts = 0;
    ok(turn_at_once(r));
    assert_int_equal(sleeper.events, 1);
}

static void
test_a_busy_loop_is_not_woken(void **state)
{
    corolla_reactor *r = *state;
    Sleeper sleeper = {.r = r};
    r->hooks = (corolla_hooks){.before_poll = post_before_poll, .after_poll = count_events, .ctx = &sleeper};
    ok(corolla_inbox_post(r->inbox, log_job, (void *)1));
    ok(corolla_reactor_turn(r));
    expect_log(1);
    /* Posted while the poll is not going to sleep. */
    sleeper.posts = 1;
    ok(turn_at_once(r));
    expect_log(0);
    assert_int_equal(sleeper.events, 0);
}

static int
post_from_job(void *arg)
{
    corolla_reactor *r = arg;
    post_number(r, 1); /* first: it would take what is in the inbox with it */
    ok(corolla_inbox_post(r->inbox, log_job, (void *)2));
    return 0;
}

static void
test_posts_are_noticed_when_the_poll_is_skipped(void **state)
{
    corolla_reactor *r = *state;
    Sleeper sleeper = {.r = r};
    r->hooks = (corolla_hooks){.before_poll = post_before_poll, .ctx = &sleeper};
    /* Until a turn has come without a poll: one that loses the processor for long does poll. */
    do {
        ok(corolla_reactor_post(r, post_from_job, r));
        ok(corolla_reactor_turn(r));
        sleeper.polls = 0;
        ok(corolla_reactor_turn(r));
        expect_log(1, 2);
    } while (sleeper.polls > 0);
}

static void
test_wake_ends_a_sleep(void **state)
{
    corolla_reactor *r = *state;
    ok(corolla_reactor_wake(r));
    ok(corolla_reactor_wake(r));
    ok(corolla_reactor_turn(r)); /* would sleep for ever */
    Sleeper sleeper = {.r = r};
    r->hooks = (corolla_hooks){.after_poll = count_events, .ctx = &sleeper};
    ok(turn_at_once(r));
    assert_int_equal(sleeper.events, 0);
}

static void
lose_channel(void *ctx)
{
    Sleeper *sleeper = ctx;
    if (sleeper->polls++ == 0) {
        close(sleeper->r->inbox->wakeup.fd);
    }
    sleeper->result = corolla_inbox_post(sleeper->r->inbox, log_job, (void *)(intptr_t)sleeper->polls);
}

static void
test_a_lost_channel_fails_loudly_and_is_made_anew(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer timer;
    Sleeper sleeper = {.r = r};
    r->hooks = (corolla_hooks){.before_poll = lose_channel, .ctx = &sleeper};
    corolla_timer_init(&timer, log_job, (void *)100);
    ok(corolla_timer_start(r, &timer, corolla_clock() + 1000000));
    ok(corolla_reactor_turn(r));
    assert_int_equal(sleeper.result, -EBADF);
    expect_log(100); /* what failed is not queued */
    corolla_reactor_stop(r);
    ok(corolla_reactor_run(r));
    assert_int_equal(sleeper.result, 0);
    expect_log(2);
    ok(corolla_reactor_turn(r)); /* sleeps, and is woken through the new channel */
    expect_log(3);
}

static int
post_from_clock(void *ctx, int64_t *now)
{
    Sleeper *sleeper = ctx;
    *now = 0;
    if (sleeper->posts-- > 0) {
        sleeper->result = corolla_inbox_post(sleeper->r->inbox, log_job, (void *)1);
    }
    return 0;
}

static void
test_a_post_before_the_loop_says_that_it_sleeps(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer far;
    Sleeper sleeper = {.r = r, .posts = 1};
    corolla_timer_init(&far, log_job, (void *)2);
    ok(corolla_timer_start(r, &far, COROLLA_NEVER - 1));
    r->hooks = (corolla_hooks){.clock = post_from_clock, .ctx = &sleeper};
    ok(corolla_reactor_turn(r)); /* would sleep for a day */
    ok(sleeper.result);
    expect_log(1);
    corolla_timer_stop(r, &far);
}

/* ---- Life ------------------------------------------------------------------------------------------------ */

static void
test_posts_after_close_are_refused(void **state)
{
    (void)state;
    corolla_reactor r;
    size_t before = open_descriptors();
    ok(corolla_reactor_init(&r));
    corolla_inbox *inbox = corolla_inbox_ref(r.inbox);
    corolla_reactor_close(&r);
    assert_int_equal(open_descriptors(), before); /* also while somebody holds the inbox */
    assert_int_equal(corolla_inbox_post(inbox, log_job, (void *)1), -ESHUTDOWN);
    corolla_inbox_unref(inbox);
}

static void
test_threads_race_with_close(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        corolla_reactor r;
        Poster poster = {.jobs = 1000, .seed = (uint32_t)round + 1};
        ok(corolla_reactor_init(&r));
        corolla_inbox *inbox = corolla_inbox_ref(r.inbox);
        poster_start(&poster, inbox);
        while (atomic_load(&poster.ran) < 10) {
            ok(corolla_reactor_turn(&r));
        }
        corolla_reactor_close(&r);
        poster_finish(&poster);
        corolla_inbox_unref(inbox);
    }
}

static void
test_a_fork_under_a_held_lock_does_not_hang_the_child(void **state)
{
    corolla_reactor *r = *state;
    ok(corolla_inbox_post(r->inbox, log_job, (void *)1));
    pthread_mutex_lock(&r->inbox->lock); /* as a thread might that is not in the child */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(10);
        corolla_inbox *inbox = corolla_inbox_ref(r->inbox);
        bool refuses = corolla_inbox_post(inbox, log_job, (void *)2) == -ECHILD && corolla_reactor_wake(r) == -ECHILD;
        corolla_reactor_abandon(r);
        _exit(refuses && corolla_inbox_post(inbox, log_job, (void *)2) == -ECHILD ? 0 : 1);
    }
    pthread_mutex_unlock(&r->inbox->lock);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    ok(corolla_reactor_turn(r));
    expect_log(1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_jobs_of_each_thread_keep_their_order),
        reactor_test(test_a_post_around_the_park_point_always_wakes),
        reactor_test(test_a_burst_costs_one_wake_up),
        reactor_test(test_a_busy_loop_is_not_woken),
        reactor_test(test_posts_are_noticed_when_the_poll_is_skipped),
        reactor_test(test_wake_ends_a_sleep),
        reactor_test(test_a_post_before_the_loop_says_that_it_sleeps),
        reactor_test(test_a_lost_channel_fails_loudly_and_is_made_anew),
        cmocka_unit_test(test_posts_after_close_are_refused),
        cmocka_unit_test(test_threads_race_with_close),
        reactor_test(test_a_fork_under_a_held_lock_does_not_hang_the_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
