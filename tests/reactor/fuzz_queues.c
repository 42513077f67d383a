/* libFuzzer target: the ring and the timers against their model. */
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    model_compare(data, size);
    return 0;
}
