/* child.c: real children. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Child {
    corolla_child child;
    int gate; /* closing it lets the child go on */
    int code, err;
    unsigned told;
    bool reaped; /* as done() found it */
} Child;

static int
note_end(corolla_child *child, int code, int err)
{
    Child *c = (Child *)(void *)child;
    c->code = code;
    c->err = err;
    c->told++;
    c->reaped = child->reaped;
    return 0;
}

/* A child that ends as it is told once its gate is closed. */
static void
spawn(Child *c, void (*body)(void))
{
    int gate[2];
    ok(pipe2(gate, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        close(gate[1]);
        while (read(gate[0], &byte, 1) < 0) {
        }
        body();
        _exit(99);
    }
    assert_true(pid > 0);
    close(gate[0]);
    *c = (Child){.gate = gate[1]};
    corolla_child_init(&c->child, pid);
    c->child.done = note_end;
}

static void
let_go(Child *c)
{
    close(c->gate);
}

static void
exit_7(void)
{
    _exit(7);
}

static void
kill_self(void)
{
    raise(SIGKILL);
}

static void
sleep_long(void)
{
    for (;;) {
        pause();
    }
}

static bool
is_child(pid_t pid)
{
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Without asking a clock: until the kernel says that there is no such child any more. */
static void
wait_until_reaped(pid_t pid)
{
    while (is_child(pid)) {
        sched_yield();
    }
}

static void
wait_until_ended(pid_t pid)
{
    siginfo_t info;
    ok(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
}

static int
threads_setup(void **state)
{
    corolla_child_force_threads(true);
    return reactor_setup(state);
}

static int
threads_teardown(void **state)
{
    corolla_child_force_threads(false);
    return reactor_teardown(state);
}

static void
test_exit_code(void **state)
{
    corolla_reactor *r = *state;
    size_t before = open_descriptors();
    Child c;
    spawn(&c, exit_7);
    ok(corolla_child_start(r, &c.child));
    ok(turn_at_once(r));
    assert_int_equal(c.told, 0);
    let_go(&c);
    turn_until(r, c.told);
    assert_int_equal(c.code, 7);
    assert_int_equal(c.err, 0);
    assert_true(c.reaped);
    assert_false(is_child(c.child.pid));
    assert_int_equal(corolla_child_signal(&c.child, SIGTERM), -ESRCH);
    corolla_child_disown(&c.child);
    corolla_child_disown(&c.child);
    assert_int_equal(c.told, 1);
    assert_int_equal(open_descriptors(), before);
}

static void
test_ended_by_signal(void **state)
{
    corolla_reactor *r = *state;
    Child own, ours;
    spawn(&own, kill_self);
    spawn(&ours, sleep_long);
    ok(corolla_child_start(r, &own.child));
    ok(corolla_child_start(r, &ours.child));
    let_go(&own);
    ok(corolla_child_signal(&ours.child, 0));
    assert_int_equal(corolla_child_signal(&ours.child, 12345), -EINVAL);
    ok(corolla_child_signal(&ours.child, SIGTERM));
    turn_until(r, own.told && ours.told);
    assert_int_equal(own.code, -SIGKILL);
    assert_int_equal(ours.code, -SIGTERM);
    let_go(&ours);
}

static void
test_ended_before_it_is_watched(void **state)
{
    corolla_reactor *r = *state;
    Child c;
    spawn(&c, exit_7);
    let_go(&c);
    wait_until_ended(c.child.pid);
    ok(corolla_child_start(r, &c.child));
    assert_int_equal(c.told, 0);
    ok(corolla_child_signal(&c.child, SIGTERM)); /* a zombie takes signals: the number is still its own */
    turn_until(r, c.told);
    assert_int_equal(c.code, 7);
}

/* The status was taken by somebody else: told apart, once, and nothing is left open. python/cpython PR 17477 */
static void
test_stolen_status(void **state)
{
    corolla_reactor *r = *state;
    size_t before = open_descriptors();
    Child c, early;
    spawn(&c, exit_7);
    ok(corolla_child_start(r, &c.child));
    let_go(&c);
    assert_int_equal(waitpid(c.child.pid, NULL, 0), c.child.pid);
    turn_until(r, c.told);
    assert_int_equal(c.err, -ECHILD);
    assert_int_equal(corolla_child_signal(&c.child, SIGTERM), -ESRCH);
    spawn(&early, exit_7);
    let_go(&early);
    assert_int_equal(waitpid(early.child.pid, NULL, 0), early.child.pid);
    ok(corolla_child_start(r, &early.child));
    assert_int_equal(early.told, 0);
    turn_until(r, early.told);
    assert_int_equal(early.err, -ECHILD);
    assert_int_equal(c.told + early.told, 2);
    assert_int_equal(open_descriptors(), before);
}

/* python/cpython issue 76296 */
static void
test_sigchld_ignored(void **state)
{
    corolla_reactor *r = *state;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
    ok(sigaction(SIGCHLD, &ignore, &before));
    Child c;
    spawn(&c, exit_7);
    ok(corolla_child_start(r, &c.child));
    let_go(&c);
    turn_until(r, c.told);
    assert_int_equal(c.err, -ECHILD);
    ok(sigaction(SIGCHLD, &before, NULL));
}

static void
test_stopped_is_not_told(void **state)
{
    corolla_reactor *r = *state;
    Child c;
    spawn(&c, exit_7);
    ok(corolla_child_start(r, &c.child));
    corolla_child_stop(&c.child);
    corolla_child_stop(&c.child);
    ok(corolla_child_signal(&c.child, 0));
    let_go(&c);
    wait_until_ended(c.child.pid);
    ok(turn_at_once(r));
    ok(turn_at_once(r));
    assert_true(is_child(c.child.pid));
    corolla_child_disown(&c.child);
    wait_until_reaped(c.child.pid);
    assert_int_equal(c.told, 0);
    assert_int_equal(corolla_child_signal(&c.child, 0), -ESRCH);
}

/* Disowned while it runs, before and behind the reactor's end: it leaves no zombie. */
static void
test_disowned_leaves_no_zombie(void **state)
{
    corolla_reactor *r = *state;
    size_t before = open_descriptors();
    Child c, killed;
    spawn(&c, exit_7);
    spawn(&killed, sleep_long);
    ok(corolla_child_start(r, &c.child));
    ok(corolla_child_start(r, &killed.child));
    pid_t pids[] = {c.child.pid, killed.child.pid};
    corolla_child_disown(&c.child);
    ok(corolla_child_signal(&killed.child, SIGKILL));
    corolla_child_disown(&killed.child);
    let_go(&c);
    let_go(&killed);
    wait_until_reaped(pids[0]);
    wait_until_reaped(pids[1]);
    assert_int_equal(c.told + killed.told, 0);
    assert_int_equal(open_descriptors(), before);
}

static void
test_outlives_its_reactor(void **state)
{
    (void)state;
    corolla_reactor other;
    ok(corolla_reactor_init(&other));
    Child c, told;
    spawn(&c, exit_7);
    spawn(&told, exit_7);
    ok(corolla_child_start(&other, &c.child));
    ok(corolla_child_start(&other, &told.child));
    let_go(&told);
    wait_until_ended(told.child.pid);
    corolla_child_stop(&c.child);
    corolla_child_stop(&told.child);
    corolla_reactor_close(&other);
    let_go(&c);
    corolla_child_disown(&told.child);
    corolla_child_disown(&c.child);
    wait_until_reaped(c.child.pid);
    wait_until_reaped(told.child.pid);
    assert_int_equal(c.told + told.told, 0);
}

static void
test_forgotten_is_left_alone(void **state)
{
    corolla_reactor *r = *state;
    Child c;
    spawn(&c, exit_7);
    ok(corolla_child_start(r, &c.child));
    corolla_child_forget(&c.child);
    let_go(&c);
    int status;
    assert_int_equal(waitpid(c.child.pid, &status, 0), c.child.pid);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(c.told, 0);
}

enum { MANY = 100 };

static void
test_a_hundred_at_once(void **state)
{
    corolla_reactor *r = *state;
    size_t before = open_descriptors();
    static Child children[MANY];
    for (int i = 0; i < MANY; i++) {
        spawn(&children[i], i % 2 ? exit_7 : sleep_long);
        ok(corolla_child_start(r, &children[i].child));
    }
    unsigned told = 0;
    for (int i = 0; i < MANY; i++) {
        let_go(&children[i]);
        if (i % 2 == 0) {
            ok(corolla_child_signal(&children[i].child, SIGKILL));
        }
    }
    for (int i = 0; i < MANY; i++) {
        turn_until(r, children[i].told);
        assert_int_equal(children[i].code, i % 2 ? 7 : -SIGKILL);
        told += children[i].told;
    }
    assert_int_equal(told, MANY);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(open_descriptors(), before);
}

#define both(f) reactor_test(f), cmocka_unit_test_setup_teardown(f, threads_setup, threads_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        both(test_exit_code),
        both(test_ended_by_signal),
        both(test_ended_before_it_is_watched),
        both(test_stolen_status),
        both(test_sigchld_ignored),
        both(test_stopped_is_not_told),
        both(test_disowned_leaves_no_zombie),
        both(test_outlives_its_reactor),
        both(test_forgotten_is_left_alone),
        both(test_a_hundred_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
