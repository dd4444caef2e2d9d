// Halves, bfloats and floats, in bits.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

inline float from_half(uint16_t bits) {
    if ((bits & 0x7c00) == 0x7c00) return bits & 1023 ? NAN : bits >> 15 ? -INFINITY : INFINITY;
    // The same bits are those of a float that is 2^112 times smaller, subnormal ones included.
    uint32_t wide = uint32_t(bits & 0x7fff) << 13 | uint32_t(bits & 0x8000) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value * 0x1p112f;
}

/// The nearest half, of two as near the even one.
inline uint16_t to_half(float value) {
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    float size = std::fabs(value);
    if (std::isnan(size)) return sign | 0x7e00;
    if (!(size < 65520.0f)) return sign | 0x7c00;
    int exponent = std::max(size > 0 ? std::ilogb(size) : -14, -14);
    int steps = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return sign | uint16_t(steps + (exponent + 14) * 1024);
}

inline float from_bfloat(uint16_t bits) {
    uint32_t wide = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
}

/// The nearest one, of two as near the even one.
inline uint16_t to_bfloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (std::isnan(value)) return uint16_t(bits >> 16 | 64);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

} // namespace emulated
