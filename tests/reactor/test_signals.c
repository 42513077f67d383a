/* signals.c */
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int
log_signal(corolla_signal *self)
{
    log_add(self->signum);
    return 0;
}

static int
stop_self(corolla_signal *self)
{
    log_add(self->signum);
    corolla_signal_stop(self);
    return 0;
}

static int earlier;

static void
handle_earlier(int signum)
{
    (void)signum;
    earlier++;
}

static void
test_deliveries_merge_and_none_is_lost(void **state)
{
    corolla_reactor *r = *state;
    corolla_signal usr1 = {.fn = log_signal}, usr2 = {.fn = log_signal};
    ok(corolla_signal_start(r, &usr1, SIGUSR1));
    ok(corolla_signal_start(r, &usr2, SIGUSR2));
    for (int i = 0; i < 1000; i++) {
        raise(SIGUSR1);
        ok(corolla_reactor_wake(r));
    }
    raise(SIGUSR2);
    ok(corolla_reactor_turn(r));
    assert_int_equal(logged.count, 2);
    assert_int_equal(logged.entries[0] + logged.entries[1], SIGUSR1 + SIGUSR2);
    log_clear();
    ok(turn_at_once(r));
    expect_nothing();
    corolla_signal_stop(&usr1);
    corolla_signal_stop(&usr2);
}

static void
raise_before_poll(void *ctx)
{
    if (*(int *)ctx > 0) {
        raise(SIGUSR1);
        --*(int *)ctx;
    }
}

static void
test_a_signal_wakes_a_sleeping_loop(void **state)
{
    corolla_reactor *r = *state;
    corolla_signal usr1 = {.fn = log_signal};
    int times = 1;
    ok(corolla_signal_start(r, &usr1, SIGUSR1));
    r->hooks = (corolla_hooks){.before_poll = raise_before_poll, .ctx = &times};
    ok(corolla_reactor_turn(r)); /* would sleep for ever */
    expect_log(SIGUSR1);
    /* From another process, whenever it comes. */
    pid_t child = fork();
    if (child == 0) {
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    turn_until(r, logged.count > 0);
    expect_log(SIGUSR1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    corolla_signal_stop(&usr1);
}

static void
test_stop_restores_and_takes_back(void **state)
{
    corolla_reactor *r = *state;
    struct sigaction before = {.sa_handler = handle_earlier}, now;
    corolla_signal usr1 = {.fn = log_signal}, usr2 = {.fn = stop_self};
    sigaction(SIGUSR1, &before, NULL);
    ok(corolla_signal_start(r, &usr1, SIGUSR1));
    ok(corolla_signal_start(r, &usr2, SIGUSR2));
    raise(SIGUSR1);
    ok(corolla_reactor_post(r, leaving_job, (void *)1));
    assert_int_equal(turn_at_once(r), -1000);
    log_clear();
    raise(SIGUSR1);
    corolla_signal_stop(&usr1);
    corolla_signal_stop(&usr1);
    raise(SIGUSR1);
    assert_int_equal(earlier, 1);
    raise(SIGUSR2);
    ok(corolla_reactor_turn(r));
    expect_log(SIGUSR2); /* stopped from inside */
    sigaction(SIGUSR1, NULL, &now);
    assert_true(now.sa_handler == handle_earlier);
    sigaction(SIGUSR2, NULL, &now);
    assert_true(now.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
}

static void
test_what_is_refused(void **state)
{
    corolla_reactor *r = *state;
    corolla_reactor other;
    corolla_signal first = {.fn = log_signal}, second = {.fn = log_signal};
    ok(corolla_reactor_init(&other));
    assert_int_equal(corolla_signal_start(r, &first, 0), -EINVAL);
    assert_int_equal(corolla_signal_start(r, &first, 1000), -EINVAL);
    assert_int_equal(corolla_signal_start(r, &first, SIGKILL), -EINVAL);
    ok(corolla_signal_start(&other, &first, SIGUSR1)); /* nobody owns them after a failure */
    assert_int_equal(corolla_signal_start(r, &second, SIGUSR2), -EBUSY);
    assert_int_equal(corolla_signal_start(&other, &second, SIGUSR1), -EEXIST);
    corolla_reactor_close(&other); /* stops what was not */
    assert_null(first.reactor);
    ok(corolla_signal_start(r, &second, SIGUSR2));
    corolla_signal_stop(&second);
}

static void
test_a_forked_child_lets_go(void **state)
{
    corolla_reactor *r = *state;
    corolla_signal usr1 = {.fn = log_signal};
    ok(corolla_signal_start(r, &usr1, SIGUSR1));
    pid_t child = fork();
    if (child == 0) {
        struct sigaction now;
        corolla_reactor_abandon(r);
        sigaction(SIGUSR1, NULL, &now);
        _exit(now.sa_handler == SIG_DFL && usr1.reactor == NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    raise(SIGUSR1);
    ok(corolla_reactor_turn(r));
    expect_log(SIGUSR1);
    corolla_signal_stop(&usr1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_deliveries_merge_and_none_is_lost),
        reactor_test(test_a_signal_wakes_a_sleeping_loop),
        reactor_test(test_stop_restores_and_takes_back),
        reactor_test(test_what_is_refused),
        reactor_test(test_a_forked_child_lets_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
