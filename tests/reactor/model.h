/* The ready ring and the timers of a reactor, driven by a string of bytes beside a model that is too plain to be wrong. */
#ifndef COROLLA_TESTS_MODEL_H
#define COROLLA_TESTS_MODEL_H

#include <stddef.h>
#include <stdint.h>

/* Aborts where the two differ. */
void model_compare(const uint8_t *data, size_t size);

#endif
