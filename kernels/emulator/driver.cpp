// A CUDA driver (libcuda) whose device is the processor: as much of it as CubeCL calls. Everything is done when it is asked for, so
// that streams and events have nothing to do. A kernel is a program (see compiler.cpp), and each launch runs it.
//
// What a device of compute capability 9.0 does not allow is refused as it refuses it.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <spawn.h>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "memory.h"

extern char **environ;

namespace {

enum Result { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719 };
enum Attribute {
    MAX_UNITS = 1,
    MAX_UNITS_X = 2,
    MAX_UNITS_Y = 3,
    MAX_UNITS_Z = 4,
    MAX_CUBES_X = 5,
    MAX_CUBES_Y = 6,
    MAX_CUBES_Z = 7,
    PLANE_UNITS = 10,
    MULTIPROCESSORS = 16,
    CAPABILITY_MAJOR = 75,
    CAPABILITY_MINOR = 76,
    MAX_SHARED_OPTED = 97,
};
constexpr unsigned SHARED_UNASKED = 48 << 10, SHARED_OPTED = 227 << 10;
constexpr size_t ALIGNMENT = 512;

struct Kernel {
    std::string program;
    std::vector<size_t> sizes;
    unsigned shared = SHARED_UNASKED;
};

std::mutex lock;
int memory_file = -1;
/// What is free, by its start.
std::map<uintptr_t, size_t> room;
std::map<uintptr_t, size_t> taken;
/// As on a device, a failed kernel takes everything with it.
Result state = SUCCESS;
size_t launches = 0;

/// A number from the environment.
size_t asked(const char *name, size_t otherwise) {
    const char *text = std::getenv(name);
    return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// How much there is, in whole allocations.
size_t memory_bytes() {
    static const size_t bytes = asked("EMULATOR_MEMORY", MEMORY_BYTES - LAUNCH_BYTES) / ALIGNMENT * ALIGNMENT;
    return std::min(bytes, MEMORY_BYTES - LAUNCH_BYTES);
}

Launch &launch_block() { return *reinterpret_cast<Launch *>(MEMORY); }

Result start() {
    if (memory_file >= 0) return state;
    int file = memfd_create("device", 0);
    int flags = MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
    if (file < 0 || ftruncate(file, MEMORY_BYTES) ||
        mmap((void *)MEMORY, MEMORY_BYTES, PROT_READ | PROT_WRITE, flags, file, 0) != (void *)MEMORY) {
        std::perror("the device's memory");
        return OUT_OF_MEMORY;
    }
    memory_file = file;
    room[MEMORY + LAUNCH_BYTES] = memory_bytes();
    return SUCCESS;
}

Result take(uintptr_t *address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    if (state) return state;
    if (!bytes) return INVALID_VALUE;
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (auto [start, size] : room) {
        if (size < bytes) continue;
        room.erase(start);
        if (size > bytes) room[start + bytes] = size - bytes;
        taken[start] = bytes;
        // What is not written is nothing to count on.
        std::memset((void *)start, 0xa5, bytes);
        *address = start;
        return SUCCESS;
    }
    return OUT_OF_MEMORY;
}

Result give(uintptr_t address) {
    std::lock_guard<std::mutex> guard(lock);
    auto it = taken.find(address);
    if (it == taken.end()) return INVALID_VALUE;
    size_t size = it->second;
    taken.erase(it);
    fallocate(memory_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(address - MEMORY), off_t(size));
    auto [own, _] = room.emplace(address, size);
    if (auto next = std::next(own); next != room.end() && own->first + own->second == next->first) {
        own->second += next->second;
        room.erase(next);
    }
    if (own != room.begin())
        if (auto before = std::prev(own); before->first + before->second == own->first) {
            before->second += own->second;
            room.erase(own);
        }
    return SUCCESS;
}

/// Whether all of it is memory that was taken.
bool is_taken(uintptr_t address, size_t bytes) {
    auto after = taken.upper_bound(address);
    if (after == taken.begin()) return false;
    auto [start, size] = *std::prev(after);
    return address + bytes <= start + size;
}

Result copy(void *to, const void *from, size_t bytes, uintptr_t on_device) {
    std::lock_guard<std::mutex> guard(lock);
    if (state) return state;
    if (!is_taken(on_device, bytes)) return INVALID_VALUE;
    std::memcpy(to, from, bytes);
    return SUCCESS;
}

/// Runs a program to its end; whether that was a good one.
bool run(std::vector<std::string> words) {
    std::vector<char *> arguments;
    for (std::string &word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child;
    int status;
    if (posix_spawn(&child, arguments[0], nullptr, nullptr, arguments.data(), environ)) return false;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Result launch(Kernel &kernel, const unsigned (&cubes)[3], const unsigned (&units)[3], unsigned shared, void **parameters) {
    std::lock_guard<std::mutex> guard(lock);
    if (state) return state;
    size_t in_all = size_t(units[0]) * units[1] * units[2];
    bool units_fit = in_all > 0 && in_all <= 1024 && units[2] <= 64;
    bool cubes_fit = cubes[0] > 0 && cubes[1] > 0 && cubes[2] > 0 && cubes[0] < 1u << 31 && cubes[1] < 1u << 16 &&
                     cubes[2] < 1u << 16;
    if (!units_fit || !cubes_fit || shared > kernel.shared || kernel.sizes.size() > MAX_PARAMETERS) return INVALID_VALUE;
    Launch &block = launch_block();
    std::copy(cubes, cubes + 3, block.cubes);
    std::copy(units, units + 3, block.units);
    block.shared = shared;
    size_t at = 0;
    for (size_t i = 0; i < kernel.sizes.size(); i++) {
        size_t size = kernel.sizes[i];
        at = (at + 63) / 64 * 64;
        if (at + size > PARAMETER_BYTES) return INVALID_VALUE;
        block.offsets[i] = at;
        std::memcpy(block.parameters + at, parameters[i], size);
        at += size;
    }
    // For whoever wants to see what is launched.
    if (static const char *traces = std::getenv("EMULATOR_TRACE"); traces && *traces)
        std::fprintf(stderr, "%s: %u x %u x %u cubes, %u x %u x %u units, %u bytes\n", basename(kernel.program.c_str()),
                     cubes[0], cubes[1], cubes[2], units[0], units[1], units[2], shared);
    if (static const bool dry = std::getenv("EMULATOR_DRY"); dry) return SUCCESS;
    static const size_t lost = asked("EMULATOR_LOST", SIZE_MAX);
    if (launches++ >= lost) return state = LAUNCH_FAILED;
    if (!run({kernel.program, std::to_string(memory_file)})) {
        std::fprintf(stderr, "%s: %u x %u x %u cubes of %u x %u x %u units failed\n", kernel.program.c_str(), cubes[0],
                     cubes[1], cubes[2], units[0], units[1], units[2]);
        state = LAUNCH_FAILED;
    }
    return state;
}

std::vector<size_t> sizes_of(const std::string &program) {
    std::vector<size_t> sizes;
    FILE *told = popen(("'" + program + "' sizes").c_str(), "r");
    for (size_t size; told && std::fscanf(told, "%zu", &size) == 1;) sizes.push_back(size);
    if (told) pclose(told);
    return sizes;
}

} // namespace

extern "C" {

Result cuInit(unsigned) {
    std::lock_guard<std::mutex> guard(lock);
    return start();
}

Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGet(int *device, int index) { return *device = 0, index == 0 ? SUCCESS : INVALID_VALUE; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = memory_bytes(), SUCCESS; }

Result cuDeviceGetName(char *name, int length, int) {
    std::snprintf(name, size_t(length), "the processor, as a CUDA device");
    return SUCCESS;
}

Result cuDeviceGetAttribute(int *value, Attribute attribute, int) {
    static const std::map<int, int> VALUES = {
        {MAX_UNITS, 1024},        {MAX_UNITS_X, 1024},      {MAX_UNITS_Y, 1024},
        {MAX_UNITS_Z, 64},        {MAX_CUBES_X, INT32_MAX}, {MAX_CUBES_Y, 65535},
        {MAX_CUBES_Z, 65535},     {PLANE_UNITS, 32},        {MULTIPROCESSORS, 132},
        {CAPABILITY_MAJOR, 9},    {CAPABILITY_MINOR, 0},    {MAX_SHARED_OPTED, SHARED_OPTED},
    };
    auto it = VALUES.find(attribute);
    if (it == VALUES.end()) return std::fprintf(stderr, "the device's attribute %d is not known\n", attribute), INVALID_VALUE;
    return *value = it->second, SUCCESS;
}

Result cuDevicePrimaryCtxRetain(void **context, int) { return *context = &memory_file, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxSetCurrent(void *) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { return *context = &memory_file, SUCCESS; }

Result cuMemGetInfo_v2(size_t *left, size_t *all) {
    std::lock_guard<std::mutex> guard(lock);
    *left = 0;
    for (auto [_, size] : room) *left += size;
    *all = memory_bytes();
    return state;
}

Result cuMemAlloc_v2(uintptr_t *address, size_t bytes) { return take(address, bytes); }
Result cuMemAllocAsync(uintptr_t *address, size_t bytes, void *) { return take(address, bytes); }
Result cuMemFree_v2(uintptr_t address) { return give(address); }
Result cuMemFreeAsync(uintptr_t address, void *) { return give(address); }
Result cuMemAllocHost_v2(void **address, size_t bytes) {
    return *address = std::malloc(bytes), *address ? SUCCESS : OUT_OF_MEMORY;
}
Result cuMemFreeHost(void *address) { return std::free(address), SUCCESS; }

Result cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *) {
    return copy((void *)to, from, bytes, to);
}
Result cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *) {
    return copy(to, (const void *)from, bytes, from);
}

/// `CUDA_MEMCPY2D`: only its addresses and lengths, as memory of both kinds is memory.
struct Rows {
    size_t from_x, from_y;
    unsigned from_kind;
    const char *from_host;
    uintptr_t from_device;
    void *from_array;
    size_t from_pitch, to_x, to_y;
    unsigned to_kind;
    char *to_host;
    uintptr_t to_device;
    void *to_array;
    size_t to_pitch, bytes, rows;
};

Result cuMemcpy2DAsync_v2(const Rows *rows, void *) {
    constexpr unsigned HOST = 1;
    bool from_host = rows->from_kind == HOST, to_host = rows->to_kind == HOST;
    for (size_t i = 0; i < rows->rows; i++) {
        size_t from_at = (rows->from_y + i) * rows->from_pitch + rows->from_x;
        size_t to_at = (rows->to_y + i) * rows->to_pitch + rows->to_x;
        const char *from = (from_host ? rows->from_host : (const char *)rows->from_device) + from_at;
        char *to = (to_host ? rows->to_host : (char *)rows->to_device) + to_at;
        Result result = copy(to, from, rows->bytes, from_host ? uintptr_t(to) : uintptr_t(from));
        if (result) return result;
    }
    return SUCCESS;
}

Result cuStreamCreate(void **stream, unsigned) { return *stream = &memory_file, SUCCESS; }
Result cuStreamDestroy_v2(void *) { return SUCCESS; }
Result cuStreamSynchronize(void *) { return state; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
Result cuEventCreate(void **event, unsigned) { return *event = &memory_file, SUCCESS; }
Result cuEventRecord(void *, void *) { return SUCCESS; }
Result cuEventSynchronize(void *) { return state; }
Result cuEventDestroy_v2(void *) { return SUCCESS; }

Result cuModuleLoadData(Kernel **kernel, const char *program) {
    *kernel = new Kernel{program, sizes_of(program)};
    return (*kernel)->sizes.empty() ? NOT_FOUND : SUCCESS;
}
Result cuModuleGetFunction(Kernel **function, Kernel *kernel, const char *) { return *function = kernel, SUCCESS; }
Result cuModuleUnload(Kernel *kernel) { return delete kernel, SUCCESS; }

Result cuFuncSetAttribute(Kernel *kernel, int attribute, int value) {
    constexpr int SHARED = 8;
    if (attribute != SHARED || value < 0 || unsigned(value) > SHARED_OPTED) return INVALID_VALUE;
    if (unsigned(value) > kernel->shared) kernel->shared = unsigned(value);
    return SUCCESS;
}

Result cuLaunchKernel(Kernel *kernel, unsigned cubes_x, unsigned cubes_y, unsigned cubes_z, unsigned units_x, unsigned units_y,
                      unsigned units_z, unsigned shared, void *, void **parameters, void **) {
    return launch(*kernel, {cubes_x, cubes_y, cubes_z}, {units_x, units_y, units_z}, shared, parameters);
}

Result cuGetErrorName(Result result, const char **name) {
    return *name = result == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", SUCCESS;
}
Result cuGetErrorString(Result result, const char **text) {
    return *text = result == LAUNCH_FAILED ? "a kernel failed: see what it printed" : "refused", SUCCESS;
}
}
