// Runs a kernel's CUDA source on a processor, one cube after another, with the units of a cube taking turns: each goes on
// until it waits for others. So what units do between two barriers happens in their order, and nothing at the same time.
//
// A kernel that CubeCL wrote includes this in the place of CUDA's own header; see mod.rs.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <ucontext.h>
#include <utility>
#include <vector>

#include <algorithm>
#include <cmath>

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

constexpr unsigned PLANE = 32;
constexpr unsigned warpSize = PLANE;
inline uint3 blockDim, gridDim, blockIdx;
// Reads beyond a kernel's own part of it are not seen.
alignas(16) unsigned char dynamic_shared_mem[1 << 17];

using std::max;
using std::min;

namespace emulated {

struct Barrier {
    unsigned arrived = 0, turn = 0;
};

struct Unit {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 18);
    uint3 index;
    bool done;
};

struct Plane {
    Barrier barrier;
    uint32_t words[PLANE];
    uint32_t a[PLANE][4], b[PLANE][2];
};

inline std::vector<std::unique_ptr<Unit>> units;
inline std::vector<Plane> planes;
inline Barrier cube;
inline Unit *current;
inline ucontext_t scheduler;
inline std::function<void()> kernel;

inline void fail(const std::string &what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

inline void wait(Barrier &barrier, unsigned count) {
    unsigned turn = barrier.turn;
    if (++barrier.arrived == count) {
        barrier.arrived = 0;
        barrier.turn++;
        return;
    }
    while (barrier.turn == turn) swapcontext(&current->context, &scheduler);
}

inline unsigned place() {
    const uint3 &i = current->index;
    return i.x + blockDim.x * (i.y + blockDim.y * i.z);
}

inline Plane &plane() { return planes[place() / PLANE]; }

inline void start() {
    kernel();
    current->done = true;
    swapcontext(&current->context, &scheduler);
}

/// Runs all units of the cube that `blockIdx` names.
inline void run_cube() {
    unsigned count = blockDim.x * blockDim.y * blockDim.z;
    planes.assign((count + PLANE - 1) / PLANE, Plane());
    cube = Barrier();
    while (units.size() < count) units.push_back(std::make_unique<Unit>());
    for (unsigned i = 0; i < count; i++) {
        Unit &unit = *units[i];
        unit.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        unit.done = false;
        getcontext(&unit.context);
        unit.context.uc_stack.ss_sp = unit.stack.data();
        unit.context.uc_stack.ss_size = unit.stack.size();
        unit.context.uc_link = nullptr;
        makecontext(&unit.context, start, 0);
    }
    // Twice around without anyone having come further means that some wait for units that have ended.
    for (unsigned idle = 0, left = count; left > 0;) {
        unsigned before = left, turns = cube.turn + cube.arrived;
        for (auto &p : planes) turns += p.barrier.turn + p.barrier.arrived;
        for (unsigned i = 0; i < count; i++) {
            if (units[i]->done) continue;
            current = units[i].get();
            swapcontext(&scheduler, &current->context);
            left -= current->done;
        }
        unsigned after = cube.turn + cube.arrived;
        for (auto &p : planes) after += p.barrier.turn + p.barrier.arrived;
        idle = before == left && turns == after ? idle + 1 : 0;
        if (idle > 1) fail("units wait for others that do not come");
    }
}

inline float from_half(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    float size = exponent ? std::ldexp(float(bits & 1023 | 1024), exponent - 25) : std::ldexp(float(bits & 1023), -24);
    return bits >> 15 ? -size : size;
}

/// The nearest half, of two as near the even one.
inline uint16_t to_half(float value) {
    uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    float size = std::fabs(value);
    if (!(size < 65520.0f)) return sign | 0x7c00;
    int exponent = std::max(size > 0 ? std::ilogb(size) : -14, -14);
    int steps = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return sign | uint16_t(steps + (exponent + 14) * 1024);
}

/// `mma.m16n8k16` of halves, sums in floats: the registers that each unit holds are those of the PTX manual.
inline void multiply(const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], float *(&d)[4]) {
    Plane &own = plane();
    unsigned unit = place() % PLANE;
    std::copy(a, a + 4, own.a[unit]);
    std::copy(b, b + 2, own.b[unit]);
    wait(own.barrier, PLANE);
    float sums[4];
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = unit / 4 + i / 2 * 8, column = unit % 4 * 2 + i % 2;
        double sum = c[i];
        for (unsigned k = 0; k < 16; k++) {
            uint32_t left = own.a[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2] >> (k % 2 * 16);
            uint32_t right = own.b[column * 4 + k % 8 / 2][k / 8] >> (k % 2 * 16);
            sum += double(from_half(uint16_t(left))) * from_half(uint16_t(right));
        }
        sums[i] = float(sum);
    }
    wait(own.barrier, PLANE);
    for (unsigned i = 0; i < 4; i++) *d[i] = sums[i];
}

inline std::vector<char> contents(const std::string &path) {
    FILE *file = std::fopen(path.c_str(), "rb");
    if (!file) fail("no " + path);
    std::vector<char> bytes;
    char buffer[4096];
    for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) bytes.insert(bytes.end(), buffer, buffer + n);
    std::fclose(file);
    // So that what is read beyond them is seen.
    bytes.shrink_to_fit();
    return bytes;
}

template <class... P, size_t... I>
void call(void (*f)(P...), std::vector<std::vector<char>> &buffers, const std::vector<char> &info,
          std::index_sequence<I...>) {
    using Info = std::tuple_element_t<sizeof...(P) - 1, std::tuple<std::decay_t<P>...>>;
    Info own;
    if (info.size() > sizeof own) fail("the numbers of another kernel");
    std::memset(&own, 0, sizeof own);
    std::memcpy(&own, info.data(), info.size());
    kernel = [=, &buffers] { f((std::tuple_element_t<I, std::tuple<P...>>)buffers[I].data()..., own); };
}

/// `run(kernel, argv)`: `FOLDER UNITS_X UNITS_Y CUBES_X CUBES_Y`, the folder having a file for each buffer, and `info`. What the
/// kernel has made of the buffers is written back.
template <class... P> int run(void (*f)(P...), char **arguments) {
    constexpr size_t COUNT = sizeof...(P) - 1;
    std::string folder = arguments[1];
    auto path = [&](size_t i) { return folder + "/" + std::to_string(i); };
    std::vector<std::vector<char>> buffers;
    for (size_t i = 0; i < COUNT; i++) buffers.push_back(contents(path(i)));
    call(f, buffers, contents(folder + "/info"), std::make_index_sequence<COUNT>());
    blockDim = {unsigned(std::atoi(arguments[2])), unsigned(std::atoi(arguments[3])), 1};
    gridDim = {unsigned(std::atoi(arguments[4])), unsigned(std::atoi(arguments[5])), 1};
    for (unsigned i = 0; i < gridDim.x * gridDim.y; i++) {
        blockIdx = {i % gridDim.x, i / gridDim.x, 0};
        run_cube();
    }
    for (size_t i = 0; i < COUNT; i++) {
        FILE *file = std::fopen(path(i).c_str(), "wb");
        if (!file || std::fwrite(buffers[i].data(), 1, buffers[i].size(), file) != buffers[i].size()) fail("not written");
        std::fclose(file);
    }
    return 0;
}

} // namespace emulated

#define threadIdx (emulated::current->index)

inline void __syncthreads() { emulated::wait(emulated::cube, blockDim.x * blockDim.y * blockDim.z); }

template <class T> T __shfl_xor_sync(unsigned, T value, unsigned mask) {
    static_assert(sizeof(T) == 4);
    emulated::Plane &own = emulated::plane();
    unsigned unit = emulated::place() % PLANE;
    std::memcpy(&own.words[unit], &value, 4);
    emulated::wait(own.barrier, PLANE);
    T other;
    std::memcpy(&other, &own.words[unit ^ mask], 4);
    emulated::wait(own.barrier, PLANE);
    return other;
}
