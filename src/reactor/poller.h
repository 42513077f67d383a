/* What a poller is: the one file that asks the kernel what is ready. epoll.c now; another kernel, or
 * another way to ask, is another file with these functions. */
#ifndef COROLLA_POLLER_H
#define COROLLA_POLLER_H

#include "reactor.h"

int corolla_poller_create(corolla_poller **poller);
void corolla_poller_free(corolla_poller *poller);
/* How many events one poll may fetch. */
int corolla_poller_resize(corolla_poller *poller, size_t events);

/* A registration carries a generation, so that its events can be told from those of the one before. */
int corolla_poller_add(corolla_poller *poller, int fd, uint32_t generation, unsigned interest);
int corolla_poller_modify(corolla_poller *poller, int fd, uint32_t generation, unsigned interest);
void corolla_poller_del(corolla_poller *poller, int fd);
/* Whether the kernel still has what was added: not when the descriptor was closed, or closed and opened anew. */
bool corolla_poller_has(corolla_poller *poller, int fd, uint32_t generation, unsigned interest);
/* The descriptor whose events end a poll and mean nothing more. */
int corolla_poller_add_wakeup(corolla_poller *poller, int fd);

/* Sleeps up to timeout ns, for ever if it is negative. The number of events, or -errno. Touches nothing but
 * the poller: the owner may have let other threads in. */
int corolla_poller_poll(corolla_poller *poller, int64_t timeout);
/* Hands the events of the last poll to corolla_watch_report(). */
int corolla_poller_report(corolla_reactor *r, int count);

#endif
