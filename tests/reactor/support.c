#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Log logged;

int
reactor_setup(void **state)
{
    corolla_reactor *r = malloc(sizeof *r);
    ok(corolla_reactor_init(r));
    log_clear();
    *state = r;
    return 0;
}

int
reactor_teardown(void **state)
{
    corolla_reactor *r = *state;
    assert_int_equal(r->watch_count, 0);
    corolla_reactor_close(r);
    corolla_reactor_close(r); /* harmless twice */
    free(r);
    return 0;
}

void
check(int rc, const char *what)
{
    if (rc < 0) {
        fail_msg("%s: %s", what, strerror(-rc));
    }
}

void
socket_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

int
listening_socket(int backlog, struct sockaddr_storage *addr, socklen_t *len)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, *len), 0);
    assert_int_equal(listen(fd, backlog), 0);
    *len = sizeof *addr;
    memset(addr, 0, sizeof *addr);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, len), 0);
    return fd;
}

int
connect_to(const struct sockaddr_storage *addr, socklen_t len)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)addr, len), 0);
    return fd;
}

void
tcp_pair(int fds[2])
{
    struct sockaddr_storage addr;
    socklen_t len;
    int listener = listening_socket(1, &addr, &len);
    fds[0] = connect_to(&addr, len);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listener);
}

size_t
open_descriptors(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

void
log_clear(void)
{
    logged.count = 0;
}

void
log_add(int entry)
{
    assert_true(logged.count < sizeof logged.entries / sizeof *logged.entries);
    logged.entries[logged.count++] = entry;
}

void
log_expect(size_t count, const int *entries)
{
    bool same = logged.count == count;
    for (size_t i = 0; same && i < count; i++) {
        same = logged.entries[i] == entries[i];
    }
    if (!same) {
        print_error("logged:");
        for (size_t i = 0; i < logged.count; i++) {
            print_error(" %d", logged.entries[i]);
        }
        print_error("\nexpected:");
        for (size_t i = 0; i < count; i++) {
            print_error(" %d", entries[i]);
        }
        print_error("\n");
        fail();
    }
    log_clear();
}

int
log_job(void *arg)
{
    log_add((int)(intptr_t)arg);
    return 0;
}

int
leaving_job(void *arg)
{
    log_add((int)(intptr_t)arg);
    return -1000;
}

void
post_number(corolla_reactor *r, int number)
{
    ok(corolla_reactor_post(r, log_job, (void *)(intptr_t)number));
}

static int
bite(void *arg)
{
    Watchdog *dog = arg;
    corolla_timer_fired(&dog->timer);
    dog->bitten = true;
    return 0;
}

void
watchdog_start(corolla_reactor *r, Watchdog *dog)
{
    dog->reactor = r;
    dog->bitten = false;
    corolla_timer_init(&dog->timer, bite, dog);
    ok(corolla_timer_start(r, &dog->timer, corolla_clock() + INT64_C(20) * 1000000000));
}

void
watchdog_stop(Watchdog *dog)
{
    corolla_timer_stop(dog->reactor, &dog->timer);
}

int
turn_at_once(corolla_reactor *r)
{
    corolla_reactor_stop(r);
    int rc = corolla_reactor_turn(r);
    r->stopping = false;
    return rc;
}
