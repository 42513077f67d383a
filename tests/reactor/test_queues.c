/* ring.c and timers.c */
#include "model.h"
#include "support.h"

#include <errno.h>

/* A generator of our own: the same sequence everywhere. */
static uint32_t
next_random(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

static int
pop(corolla_ring *ring)
{
    assert_true(corolla_ring_count(ring) > 0);
    corolla_job job = ring->jobs[ring->head++ & ring->mask];
    return job.fn(job.arg);
}

static void
test_ring_keeps_order_while_it_grows(void **state)
{
    (void)state;
    corolla_ring ring;
    ok(corolla_ring_init(&ring, 3));
    intptr_t pushed = 0, popped = 0;
    log_clear();
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < round % 17; i++) {
            ok(corolla_ring_push(&ring, log_job, (void *)pushed++));
        }
        for (int i = 0; i < round % 11 && popped < pushed; i++) {
            pop(&ring);
            assert_int_equal(logged.entries[logged.count - 1], popped++);
        }
        assert_int_equal(corolla_ring_count(&ring), pushed - popped);
    }
    assert_true(ring.mask > 64); /* it has grown, with its head anywhere */
    while (corolla_ring_count(&ring) > 0) {
        pop(&ring);
        assert_int_equal(logged.entries[logged.count - 1], popped++);
    }
    corolla_ring_free(&ring);
}

static void
test_ring_has_the_capacity_asked_for(void **state)
{
    (void)state;
    corolla_ring ring;
    ok(corolla_ring_init(&ring, 1000));
    corolla_job *jobs = ring.jobs;
    for (intptr_t i = 0; i < 1000; i++) {
        ok(corolla_ring_push(&ring, log_job, (void *)i));
    }
    assert_ptr_equal(ring.jobs, jobs);
    corolla_ring_free(&ring);
    assert_int_equal(corolla_ring_init(&ring, SIZE_MAX), -ENOMEM);
}

static void
test_ring_revoke(void **state)
{
    (void)state;
    corolla_ring ring;
    ok(corolla_ring_init(&ring, 0));
    log_clear();
    for (intptr_t i = 0; i < 4; i++) {
        ok(corolla_ring_push(&ring, log_job, (void *)i));
    }
    pop(&ring);
    corolla_ring_revoke(&ring, 0); /* has run */
    corolla_ring_revoke(&ring, 2);
    corolla_ring_revoke(&ring, 99); /* not there yet */
    while (corolla_ring_count(&ring) > 0) {
        pop(&ring);
    }
    expect_log(0, 1, 3);
    /* Growing moves jobs; their numbers still name them. */
    for (intptr_t i = 0; i < 100; i++) {
        ok(corolla_ring_push(&ring, log_job, (void *)i));
    }
    for (uint64_t seq = 4; seq < 102; seq++) {
        corolla_ring_revoke(&ring, seq);
    }
    while (corolla_ring_count(&ring) > 0) {
        pop(&ring);
    }
    expect_log(98, 99);
    corolla_ring_free(&ring);
}

static void
test_timers_come_in_order_of_deadline_then_start(void **state)
{
    corolla_reactor *r = *state;
    static const int64_t deadlines[] = {30, 10, 20, 10, 30, 10};
    corolla_timer timers[6];
    for (intptr_t i = 0; i < 6; i++) {
        corolla_timer_init(&timers[i], log_job, (void *)i);
        ok(corolla_timer_start(r, &timers[i], deadlines[i]));
    }
    ok(corolla_reactor_turn(r));
    expect_log(1, 3, 5, 2, 0, 4);
}

static void
test_timer_stop_tells_whether_it_was_pending(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer timer;
    corolla_timer_init(&timer, log_job, (void *)1);
    assert_false(corolla_timer_stop(r, &timer)); /* never started */
    ok(corolla_timer_start(r, &timer, COROLLA_NEVER));
    assert_true(corolla_timer_stop(r, &timer));
    assert_false(corolla_timer_stop(r, &timer));
    ok(corolla_timer_start(r, &timer, 0));
    ok(corolla_reactor_turn(r));
    expect_log(1);
    assert_false(corolla_timer_stop(r, &timer)); /* has run */
}

static void
test_timer_that_is_due_can_still_be_stopped(void **state)
{
    corolla_reactor *r = *state;
    corolla_timer first, second;
    corolla_timer_init(&first, leaving_job, (void *)1);
    corolla_timer_init(&second, log_job, (void *)2);
    ok(corolla_timer_start(r, &first, 0));
    ok(corolla_timer_start(r, &second, 0));
    assert_int_equal(corolla_reactor_turn(r), -1000);
    assert_true(corolla_timer_stop(r, &second)); /* its job is queued */
    assert_false(corolla_timer_stop(r, &second));
    post_number(r, 3);
    ok(corolla_reactor_turn(r));
    expect_log(1, 3);
}

static void
test_timers_insert_and_remove_like_a_sorted_list(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static corolla_timer all[COUNT];
    corolla_timers timers;
    uint32_t seed = 1;
    size_t pending = 0;
    corolla_timers_init(&timers);
    assert_null(corolla_timers_first(&timers));
    for (int i = 0; i < COUNT; i++) {
        corolla_timer_init(&all[i], log_job, NULL);
    }
    for (int step = 0; step < 20000; step++) {
        corolla_timer *timer = &all[next_random(&seed) % COUNT];
        if (timer->index == COROLLA_TIMER_IDLE) {
            timer->deadline = next_random(&seed) % 64;
            ok(corolla_timers_insert(&timers, timer));
            pending++;
        }
        else {
            corolla_timers_remove(&timers, timer);
            pending--;
        }
        assert_int_equal(timers.count, pending);
    }
    int64_t deadline = -1;
    uint64_t order = 0;
    for (corolla_timer *timer; (timer = corolla_timers_first(&timers)) != NULL; pending--) {
        assert_true(timer->deadline > deadline || (timer->deadline == deadline && timer->order > order));
        deadline = timer->deadline;
        order = timer->order;
        corolla_timers_remove(&timers, timer);
    }
    assert_int_equal(pending, 0);
    corolla_timers_free(&timers);
}

static void
test_random_strings_against_the_model(void **state)
{
    (void)state;
    uint8_t data[900];
    for (uint32_t seed = 1; seed <= 300; seed++) {
        uint32_t random = seed;
        for (size_t i = 0; i < sizeof data; i++) {
            data[i] = (uint8_t)next_random(&random);
        }
        model_compare(data, sizeof data);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_keeps_order_while_it_grows),
        cmocka_unit_test(test_ring_has_the_capacity_asked_for),
        cmocka_unit_test(test_ring_revoke),
        reactor_test(test_timers_come_in_order_of_deadline_then_start),
        reactor_test(test_timer_stop_tells_whether_it_was_pending),
        reactor_test(test_timer_that_is_due_can_still_be_stopped),
        cmocka_unit_test(test_timers_insert_and_remove_like_a_sorted_list),
        cmocka_unit_test(test_random_strings_against_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
