// Halves: each operation is done in floats, and rounded.
#pragma once
#include "cuda_runtime.h"
#include "short_floats.h"

struct __half {
    uint16_t bits = 0;
    __half() = default;
    SHORT_FLOAT(__half, emulated::to_half, emulated::from_half)
};
SHORT_FLOATS(__half, __half2)
using half = __half;
