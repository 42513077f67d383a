/* How a forked child is known: by a count that only forking raises, so that asking costs a load and no system call. */
#include "internal.h"

atomic_uint corolla_forks;

static void
count_fork(void)
{
    atomic_fetch_add_explicit(&corolla_forks, 1, memory_order_relaxed);
}

static void
watch_forks(void)
{
    /* Without memory for it, a child that goes on using its parent's reactor is not stopped; nothing else is lost. */
    (void)pthread_atfork(NULL, NULL, count_fork);
}

void
corolla_watch_forks(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
}
