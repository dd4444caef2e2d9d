// The memory of the device: a file that the driver and each run of a kernel map at the same place.
#pragma once
#include <cstddef>
#include <cstdint>

/// Where nothing else is.
constexpr uintptr_t MEMORY = 0x7ea000000000;
constexpr size_t MEMORY_BYTES = size_t(4) << 30;
/// The first of it says what to run.
constexpr size_t LAUNCH_BYTES = 1 << 16;
constexpr size_t PARAMETER_BYTES = 1 << 12;
constexpr size_t MAX_PARAMETERS = 64;

struct Launch {
    unsigned cubes[3], units[3];
    unsigned shared;
    size_t offsets[MAX_PARAMETERS];
    alignas(64) char parameters[PARAMETER_BYTES];
};
static_assert(sizeof(Launch) <= LAUNCH_BYTES);
