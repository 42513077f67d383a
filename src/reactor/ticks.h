/* A clock that is nearly free to read, for "has it been long?" and nothing else: it may run a little fast or slow, and on
 * odd machines differently on each core. Who asks it must be right with any answer, if not as fast. */
#ifndef COROLLA_TICKS_H
#define COROLLA_TICKS_H

#include "reactor.h"

#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
static inline uint64_t
ticks_now(void)
{
    return __rdtsc();
}
#elif defined(__aarch64__)
static inline uint64_t
ticks_now(void)
{
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}
#else
static inline uint64_t
ticks_now(void)
{
    return (uint64_t)corolla_clock();
}
#endif

/* How many ticks so many ns take, measured beside the true clock. The least of a few samples: losing the processor in
 * the middle of one makes it too large. */
static inline uint64_t
ticks_in(int64_t ns)
{
    uint64_t least = UINT64_MAX;
    for (int sample = 0; sample < 3; sample++) {
        int64_t start = corolla_clock(), now;
        uint64_t first = ticks_now();
        do {
            now = corolla_clock();
        } while (now - start < 5000);
        uint64_t ticks = (ticks_now() - first) * (uint64_t)ns / (uint64_t)(now - start);
        least = ticks < least ? ticks : least;
    }
    return least;
}

#endif
