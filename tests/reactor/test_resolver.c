/* resolver.c
 *
 * The C library's getaddrinfo is replaced for names that begin with "slow": those are looked up for as long as the
 * test likes. All other names go to the real one. */
#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The C library guards its list of interfaces by a lock of its own that the sanitizer cannot see. */
const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
    return "race:__check_pf\n";
}

static sem_t begun, finish;
static atomic_int all_signals_blocked;
static pthread_t loop_thread;

int
getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (host != NULL && strncmp(host, "slow", 4) == 0) {
        if (hints != NULL && hints->ai_flags & AI_NUMERICHOST) {
            return EAI_NONAME;
        }
        if (pthread_equal(pthread_self(), loop_thread)) {
            abort(); /* it would block the loop */
        }
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, NULL, &mask);
        atomic_store(&all_signals_blocked, sigismember(&mask, SIGINT) && sigismember(&mask, SIGCHLD));
        sem_post(&begun);
        sem_wait(&finish);
        if (strcmp(host, "slow-system") == 0) {
            errno = EIO;
            return EAI_SYSTEM;
        }
        host = "127.0.0.7";
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    }
    return real(host, service, hints, result);
}

typedef struct Question {
    corolla_resolve resolve; /* first: a resolve is its question */
    bool done;
} Question;

static int
question_done(corolla_resolve *q)
{
    Question *question = (Question *)(void *)q;
    assert_true(pthread_equal(pthread_self(), loop_thread));
    assert_false(question->done);
    question->done = true;
    return 0;
}

static void
ask(corolla_reactor *r, Question *question, const char *host, const char *service, const struct addrinfo *hints)
{
    *question = (Question){.resolve.done = question_done};
    ok(corolla_resolve_address(r, &question->resolve, host, service, hints));
    assert_false(question->done);
}

static struct in_addr
address_of(Question *question)
{
    assert_int_equal(question->resolve.error, 0);
    assert_int_equal(question->resolve.result->ai_family, AF_INET);
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)question->resolve.result->ai_addr;
    return in->sin_addr;
}

static void
test_numeric_hosts_need_no_thread(void **state)
{
    corolla_reactor *r = *state;
    Question question;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    ask(r, &question, "127.0.0.1", "80", &hints);
    ok(turn_at_once(r)); /* in the very next turn */
    assert_true(question.done);
    assert_int_equal(address_of(&question).s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(question.resolve.result->ai_socktype, SOCK_STREAM);
    assert_null(question.resolve.result->ai_next);
    freeaddrinfo(question.resolve.result);

    ask(r, &question, "127.0.0.1", NULL, NULL);
    ok(turn_at_once(r));
    assert_int_equal(address_of(&question).s_addr, htonl(INADDR_LOOPBACK));
    freeaddrinfo(question.resolve.result);

    ask(r, &question, NULL, "8080", &hints);
    ok(turn_at_once(r));
    assert_true(question.done);
    assert_int_equal(question.resolve.error, 0);
    freeaddrinfo(question.resolve.result);
}

static void
test_a_zone_keeps_its_scope(void **state)
{
    corolla_reactor *r = *state;
    Question question;
    unsigned scope = if_nametoindex("lo");
    ask(r, &question, "fe80::1%lo", "80", NULL);
    ok(turn_at_once(r));
    assert_true(question.done);
    assert_int_equal(question.resolve.error, 0);
    assert_int_equal(((struct sockaddr_in6 *)(void *)question.resolve.result->ai_addr)->sin6_scope_id, scope);
    freeaddrinfo(question.resolve.result);
}

static void
test_errors_are_the_librarys(void **state)
{
    corolla_reactor *r = *state;
    Question question;
    struct addrinfo six = {.ai_family = AF_INET6}, numeric = {.ai_flags = AI_NUMERICHOST}, odd = {.ai_flags = ~0};
    const struct {
        const char *host, *service;
        struct addrinfo *hints;
    } cases[] = {
        {"127.0.0.1", "80", &six}, {"not numeric", "80", &numeric},        {NULL, NULL, NULL},
        {"127.0.0.1", "80", &odd}, {"127.0.0.1", "no such service", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct addrinfo *result = NULL;
        int expected = getaddrinfo(cases[i].host, cases[i].service, cases[i].hints, &result);
        assert_int_not_equal(expected, 0);
        ask(r, &question, cases[i].host, cases[i].service, cases[i].hints);
        turn_until(r, question.done);
        assert_int_equal(question.resolve.error, expected);
        assert_null(question.resolve.result);
    }
}

static void
test_names_are_looked_up_on_a_thread(void **state)
{
    corolla_reactor *r = *state;
    Question questions[6];
    for (int i = 0; i < 6; i++) {
        ask(r, &questions[i], i == 5 ? "slow-system" : "slow", "80", NULL);
    }
    for (int i = 0; i < 4; i++) {
        sem_wait(&begun); /* four at a time */
    }
    assert_true(atomic_load(&all_signals_blocked));
    ok(turn_at_once(r)); /* the loop goes on meanwhile */
    assert_int_equal(sem_trywait(&begun), -1);
    for (int i = 0; i < 6; i++) {
        assert_false(questions[i].done);
        sem_post(&finish);
    }
    for (int i = 0; i < 6; i++) {
        turn_until(r, questions[i].done); /* asleep until a thread wakes it */
    }
    sem_wait(&begun);
    sem_wait(&begun);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ntohl(address_of(&questions[i]).s_addr), 0x7f000007);
        freeaddrinfo(questions[i].resolve.result);
    }
    assert_int_equal(questions[5].resolve.error, EAI_SYSTEM);
    assert_int_equal(questions[5].resolve.sys_errno, EIO);
}

static void
test_cancel_at_every_stage(void **state)
{
    corolla_reactor *r = *state;
    Question questions[6], answered;
    /* Answered at once, not yet told. */
    ask(r, &answered, "127.0.0.1", "80", NULL);
    corolla_resolve_cancel(&answered.resolve);
    corolla_resolve_cancel(&answered.resolve);
    /* With a thread, and in line for one. */
    for (int i = 0; i < 6; i++) {
        ask(r, &questions[i], "slow", "80", NULL);
    }
    for (int i = 0; i < 4; i++) {
        sem_wait(&begun);
    }
    for (int i = 0; i < 6; i++) {
        if (i != 4) {
            corolla_resolve_cancel(&questions[i].resolve);
            memset(&questions[i].resolve, 0xff, sizeof questions[i].resolve); /* free at once */
        }
    }
    for (int i = 0; i < 5; i++) {
        sem_post(&finish);
    }
    turn_until(r, questions[4].done);
    sem_wait(&begun);
    freeaddrinfo(questions[4].resolve.result);
    assert_false(answered.done || questions[0].done || questions[5].done);
    assert_int_equal(sem_trywait(&begun), -1); /* the one cancelled in line was never looked up */
}

static void
drop_nothing(corolla_job_fn fn, void *arg, void *ctx)
{
    (void)fn;
    (void)arg;
    (void)ctx;
    fail(); /* answers are not shown to users */
}

static void
test_closing_does_not_wait_for_a_thread(void **state)
{
    (void)state;
    for (int stage = 0; stage < 3; stage++) {
        corolla_reactor r;
        Question questions[6];
        int count = stage == 0 ? 6 : 5; /* at first, one of them in line for a thread */
        ok(corolla_reactor_init(&r));
        for (int i = 0; i < count; i++) {
            ask(&r, &questions[i], i == 0 ? "127.0.0.1" : "slow", "80", NULL);
        }
        for (int i = 0; i < 4; i++) {
            sem_wait(&begun);
        }
        if (stage > 0) {
            sem_post(&finish); /* its answer races with close, or waits in the inbox */
        }
        if (stage > 1) {
            corolla_reactor_drain(&r, drop_nothing, NULL);
        }
        corolla_reactor_close(&r);
        for (int i = 0; i < count; i++) {
            assert_false(questions[i].done);
            assert_null(questions[i].resolve.query); /* nothing to be cancelled any more */
            corolla_resolve_cancel(&questions[i].resolve);
        }
        for (int i = 0; i < (stage > 0 ? 3 : 4); i++) {
            sem_post(&finish);
        }
    }
}

static void
test_names_of_addresses(void **state)
{
    corolla_reactor *r = *state;
    Question question = {.resolve.done = question_done};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ok(corolla_resolve_name(r, &question.resolve, (struct sockaddr *)&in, sizeof in, NI_NUMERICHOST | NI_NUMERICSERV));
    assert_false(question.done);
    ok(turn_at_once(r));
    assert_true(question.done);
    assert_string_equal(question.resolve.host, "127.0.0.1");
    assert_string_equal(question.resolve.service, "80");

    question = (Question){.resolve.done = question_done};
    ok(corolla_resolve_name(r, &question.resolve, (struct sockaddr *)&in, sizeof in, NI_NUMERICHOST));
    turn_until(r, question.done); /* a service's name: on a thread */
    assert_int_equal(question.resolve.error, 0);
    assert_string_equal(question.resolve.host, "127.0.0.1");

    question = (Question){.resolve.done = question_done};
    ok(corolla_resolve_name(r, &question.resolve, (struct sockaddr *)&in, 3, NI_NUMERICHOST | NI_NUMERICSERV));
    ok(turn_at_once(r));
    assert_int_equal(question.resolve.error, EAI_FAMILY);
    struct sockaddr_storage big[2] = {0};
    assert_int_equal(corolla_resolve_name(r, &question.resolve, (struct sockaddr *)big, sizeof big, 0), -EINVAL);
}

/* Threads of reactors that earlier tests have closed may still be at a look-up: they would take what is posted for
 * this test's, and a fork would copy the C library's locks as they hold them. */
static void
until_alone(void)
{
    for (int threads = 0; threads != 1; sched_yield()) {
        DIR *tasks = opendir("/proc/self/task");
        assert_non_null(tasks);
        threads = 0;
        for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
            threads += entry->d_name[0] != '.';
        }
        closedir(tasks);
    }
}

static void
test_a_forked_child_abandons_lookups(void **state)
{
    corolla_reactor *r = *state;
    Question question;
    if (UNDER_TSAN) {
        skip(); /* it allows no threads after a fork */
    }
    until_alone();
    ask(r, &question, "slow", "80", NULL);
    sem_wait(&begun);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(10);
        corolla_reactor_abandon(r);
        bool forgotten = question.resolve.query == NULL;
        Question own;
        ok(corolla_reactor_init(r));
        ask(r, &own, "slow", "80", NULL); /* threads of its own */
        sem_post(&finish);
        turn_until(r, own.done);
        _exit(forgotten ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    sem_post(&finish);
    turn_until(r, question.done);
    freeaddrinfo(question.resolve.result);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        reactor_test(test_numeric_hosts_need_no_thread), reactor_test(test_a_zone_keeps_its_scope),
        reactor_test(test_errors_are_the_librarys),      reactor_test(test_names_are_looked_up_on_a_thread),
        reactor_test(test_cancel_at_every_stage),        cmocka_unit_test(test_closing_does_not_wait_for_a_thread),
        reactor_test(test_names_of_addresses),           reactor_test(test_a_forked_child_abandons_lookups),
    };
    loop_thread = pthread_self();
    sem_init(&begun, 0, 0);
    sem_init(&finish, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
