/* What the tests of the reactor share: fixtures, real sockets, and a log of what ran. */
#ifndef COROLLA_TESTS_SUPPORT_H
#define COROLLA_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <reactor.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

/* Fixtures: *state is a corolla_reactor. */
int reactor_setup(void **state);
int reactor_teardown(void **state);

#define reactor_test(f) cmocka_unit_test_setup_teardown(f, reactor_setup, reactor_teardown)

/* 0, or the test fails with the error's name. */
void check(int rc, const char *what);
#define ok(call) check((call), #call)

/* Two connected, non-blocking sockets: of the Unix family, or TCP on the loopback interface. */
void socket_pair(int fds[2]);
void tcp_pair(int fds[2]);
/* A listening, non-blocking socket on 127.0.0.1, and its address. */
int listening_socket(int backlog, struct sockaddr_storage *addr, socklen_t *len);
int connect_to(const struct sockaddr_storage *addr, socklen_t len); /* blocking */
size_t open_descriptors(void);

/* What ran, in order. */
typedef struct Log {
    size_t count;
    int entries[4096];
} Log;

extern Log logged;
void log_clear(void);
void log_add(int entry);
/* Compares the whole log with the entries given and clears it. */
void log_expect(size_t count, const int *entries);
#define expect_log(...) log_expect(sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})
#define expect_nothing() log_expect(0, NULL)

/* Jobs: log the number that is their arg. The second leaves the turn with -1000. */
int log_job(void *arg);
int leaving_job(void *arg);
void post_number(corolla_reactor *r, int number);

/* Turns until the condition holds; a watchdog timer fails the test after some seconds. */
#define turn_until(r, condition)         \
    do {                                 \
        Watchdog dog_;                   \
        watchdog_start((r), &dog_);      \
        while (!(condition)) {           \
            ok(corolla_reactor_turn(r)); \
            assert_false(dog_.bitten);   \
        }                                \
        watchdog_stop(&dog_);            \
    } while (0)

typedef struct Watchdog {
    corolla_reactor *reactor;
    corolla_timer timer;
    bool bitten;
} Watchdog;
void watchdog_start(corolla_reactor *r, Watchdog *dog);
void watchdog_stop(Watchdog *dog);

/* One turn that does not sleep. */
int turn_at_once(corolla_reactor *r);

#endif
