// What CubeCL's kernels use of CUDA's language, for a C++ compiler: a unit of a cube is a function call with a stack of
// its own, and what units do together is done by units.cpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <type_traits>

#define __global__
#define __device__
#define __grid_constant__
#define __restrict__
#define __launch_bounds__(units)
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 {
    unsigned x, y, z;
};

inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

using std::max;
using std::min;

namespace emulated {

uint3 unit_index();
uint3 cube_index();
uint3 units();
uint3 cubes();
/// The cube's shared memory: reading beyond it fails.
unsigned char *shared();
/// Waits for all units of the cube, and sees what they have written.
void wait_for_cube();
/// As much for the units of the plane.
void wait_for_plane();
/// Gives all units of the plane each other's words, and returns the one of the unit whose place is this one's ^ `mask`.
/// That orders nothing they wrote to memory.
uint32_t exchange(uint32_t word, unsigned mask);
/// Before memory is changed atomically.
void atomic(const void *address, size_t bytes, bool read);
/// Inline assembly: one instruction of PTX, on registers.
void instruct(const char *text, std::initializer_list<uint32_t *> results, std::initializer_list<uint32_t> arguments);

template <class T> uint32_t word(T value) {
    static_assert(sizeof(T) == 4);
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return word;
}

template <class T> T from_word(uint32_t word) {
    static_assert(sizeof(T) == 4);
    T value;
    std::memcpy(&value, &word, 4);
    return value;
}

/// How a kernel is called by what is in memory. Its numbers are passed by value, and its buffers by their address.
template <class... P> struct Signature {
    static constexpr size_t COUNT = sizeof...(P);

    static void sizes(size_t *to) { (void)std::initializer_list<size_t>{(*to++ = sizeof(P))...}; }

    static void call(void (*kernel)(P...), const char *const *parameters) {
        // In order, as the braces say.
        struct Call {
            Call(void (*kernel)(P...), P... parameters) { kernel(parameters...); }
        };
        Call{kernel, *reinterpret_cast<const std::decay_t<P> *>(*parameters++)...};
    }
};

template <class... P> constexpr Signature<P...> signature(void (*)(P...)) { return {}; }

} // namespace emulated

#define threadIdx (emulated::unit_index())
#define blockIdx (emulated::cube_index())
#define blockDim (emulated::units())
#define gridDim (emulated::cubes())
#define dynamic_shared_mem (emulated::shared())

constexpr unsigned warpSize = 32;

inline void __syncthreads() { emulated::wait_for_cube(); }

/// For a plane, and what its units have written.
inline void __syncwarp(unsigned = ~0u) { emulated::wait_for_plane(); }

/// An address in shared memory is one of 32 bits.
inline size_t __cvta_generic_to_shared(const void *address) { return (const unsigned char *)address - emulated::shared(); }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }

template <class T> T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    return emulated::from_word<T>(emulated::exchange(emulated::word(value), mask));
}

/// Units have turns, so that nothing comes between.
template <class T, class F>
[[gnu::noinline, gnu::no_sanitize("thread")]] T changed(T *address, bool read, F change) {
    emulated::atomic(address, sizeof(T), read);
    T before = *address;
    *address = change(before);
    return before;
}

#define ATOMIC(NAME, READ, VALUE)                                                                                     \
    template <class T, class U> T NAME(T *address, U value) {                                                          \
        return changed(address, READ, [value](T old) { return T(VALUE); });                                            \
    }
ATOMIC(atomicExch, false, value)
ATOMIC(atomicAdd, true, old + T(value))
ATOMIC(atomicSub, true, old - T(value))
ATOMIC(atomicMin, true, std::min(old, T(value)))
ATOMIC(atomicMax, true, std::max(old, T(value)))
ATOMIC(atomicOr, true, old | T(value))
ATOMIC(atomicAnd, true, old & T(value))
ATOMIC(atomicXor, true, old ^ T(value))

/// What units.cpp calls: written below a kernel's own source.
#define EMULATE(kernel)                                                                                               \
    extern "C" size_t emulated_sizes(size_t *sizes) {                                                                  \
        auto signature = emulated::signature(kernel);                                                                  \
        signature.sizes(sizes);                                                                                        \
        return signature.COUNT;                                                                                        \
    }                                                                                                                  \
    extern "C" void emulated_call(const char *const *parameters) { emulated::signature(kernel).call(kernel, parameters); }
