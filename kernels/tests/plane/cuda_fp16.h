// Halves, as far as kernels use them: see cuda_runtime.h.
#pragma once
#include "cuda_runtime.h"

struct __half {
    uint16_t bits = 0;
    __half() = default;
    explicit __half(double value) : bits(emulated::to_half(float(value))) {}
    explicit operator float() const { return emulated::from_half(bits); }
};
