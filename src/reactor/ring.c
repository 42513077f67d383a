/* The ready queue: a ring of jobs that doubles when it is full. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>

enum { SMALLEST = 64 };

int
corolla_job_nothing(void *arg)
{
    (void)arg;
    return 0;
}

int
corolla_ring_init(corolla_ring *ring, size_t capacity)
{
    size_t size = SMALLEST;
    while (size < capacity) {
        if (size > SIZE_MAX / 2 / sizeof(corolla_job)) {
            return -ENOMEM;
        }
        size *= 2;
    }
    ring->jobs = malloc(size * sizeof(corolla_job));
    if (ring->jobs == NULL) {
        return -ENOMEM;
    }
    ring->mask = size - 1;
    ring->head = ring->tail = 0;
    return 0;
}

void
corolla_ring_free(corolla_ring *ring)
{
    free(ring->jobs);
    ring->jobs = NULL;
    ring->mask = 0;
    ring->head = ring->tail = 0;
}

int
corolla_ring_grow(corolla_ring *ring)
{
    uint64_t old_size = ring->mask + 1;
    uint64_t new_size = old_size * 2;
    if (new_size > SIZE_MAX / sizeof(corolla_job)) {
        return -ENOMEM;
    }
    corolla_job *jobs = malloc((size_t)new_size * sizeof(corolla_job));
    if (jobs == NULL) {
        return -ENOMEM;
    }
    /* Sequence numbers stay: each job moves to where its number falls in the larger table. */
    for (uint64_t seq = ring->head; seq != ring->tail; seq++) {
        jobs[seq & (new_size - 1)] = ring->jobs[seq & ring->mask];
    }
    free(ring->jobs);
    ring->jobs = jobs;
    ring->mask = new_size - 1;
    return 0;
}

void
corolla_ring_revoke(corolla_ring *ring, uint64_t seq)
{
    if (seq >= ring->head && seq < ring->tail) {
        ring->jobs[seq & ring->mask] = (corolla_job){corolla_job_nothing, NULL};
    }
}
