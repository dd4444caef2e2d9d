// Halves, as far as kernels use them: see cuda_runtime.h.
#pragma once
#include "cuda_runtime.h"

struct __half {
    uint16_t bits = 0;
    __half() = default;
    explicit __half(double value) : bits(emulated::to_half(float(value))) {}
    explicit operator float() const { return emulated::from_half(bits); }
};

struct __half2 {
    __half x, y;
};

inline __half2 operator*(__half2 a, __half2 b) { return {__half(float(a.x) * float(b.x)), __half(float(a.y) * float(b.y))}; }
inline __half2 operator+(__half2 a, __half2 b) { return {__half(float(a.x) + float(b.x)), __half(float(a.y) + float(b.y))}; }
inline __half2 __hmax2(__half2 a, __half2 b) { return {float(a.x) < float(b.x) ? b.x : a.x, float(a.y) < float(b.y) ? b.y : a.y}; }
