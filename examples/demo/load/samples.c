/* Latencies, kept one by one: some hundred thousand numbers are cheaper than an argument about buckets. */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

void
samples_add(Samples *samples, uint64_t nanoseconds)
{
    if (samples->count == samples->room) {
        size_t room = samples->room ? 2 * samples->room : 4096;
        uint64_t *at = realloc(samples->at, room * sizeof *at);
        if (!at) {
            fputs("load: out of memory\n", stderr);
            exit(2);
        }
        samples->at = at;
        samples->room = room;
    }
    samples->at[samples->count++] = nanoseconds;
}

static int
compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void
samples_sort(Samples *samples)
{
    if (samples->count)
        qsort(samples->at, samples->count, sizeof *samples->at, compare);
}

double
samples_percentile(const Samples *samples, double percent)
{
    if (!samples->count)
        return 0;
    size_t rank = (size_t)(percent / 100 * (double)samples->count);
    if (rank >= samples->count)
        rank = samples->count - 1;
    return (double)samples->at[rank] / 1000;
}
