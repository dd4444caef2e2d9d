// Whether units get at the same memory in an order that nothing ensures. A kernel is compiled as if it were watched by the
// compiler's sanitizer for threads, which has it call the functions below before it reads or writes; but the rule here is
// that of a GPU: what units do is ordered by the barriers of their cube and of their plane, and what cubes do is not ordered.
// That two write the same value does no harm. That shared memory is read which nobody has written does.
#include "watch.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"

namespace {

/// Bytes that are watched as one.
constexpr size_t CELL = 2;

constexpr uint32_t PLANE = 32;

struct Access {
    /// Of the last; zero if there was none.
    uint32_t cube;
    uint32_t barriers : 28;
    /// Whether other cubes ever did the same, other planes of the cube since its last barrier, or others of the plane since its
    /// own; and whether the last was atomic.
    uint32_t strangers : 1, elsewhere : 1, nearby : 1, atomic : 1;
    uint32_t unit : 10, plane_barriers : 22;

    bool same_cube() const { return cube == watch::turn.cube && barriers == watch::turn.barriers; }
    bool same_plane() const { return same_cube() && unit / PLANE == watch::turn.unit / PLANE; }
    bool no_plane_barrier() const { return plane_barriers == (watch::turn.plane_barriers & 0x3fffff); }

    /// Whether it happened, and nothing has come between.
    bool unordered() const {
        if (!cube) return false;
        if (cube != watch::turn.cube || strangers) return true;
        if (!same_cube()) return false;
        if (!same_plane() || elsewhere) return true;
        return no_plane_barrier() && (nearby || unit != watch::turn.unit);
    }

    void happens(bool atomically = false) {
        const watch::Turn &now = watch::turn;
        strangers |= cube && cube != now.cube;
        elsewhere = same_cube() && (elsewhere || !same_plane());
        nearby = same_plane() && no_plane_barrier() && (nearby || unit != now.unit);
        atomic = atomically;
        cube = now.cube;
        barriers = now.barriers;
        unit = now.unit;
        plane_barriers = now.plane_barriers;
    }
};

struct Cell {
    Access read, written;
};

struct Region {
    uintptr_t start;
    size_t bytes;
    Cell *cells;

    bool has(uintptr_t address) const { return address - start < bytes; }

    void open(uintptr_t at, size_t size) {
        size_t room = size / CELL * sizeof(Cell) + sizeof(Cell);
        void *memory = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) std::perror("watching"), std::exit(1);
        *this = {at, size, static_cast<Cell *>(memory)};
    }
};

Region device, shared;

/// What is about to be written where another unit has written: no harm if it is the same.
struct Rewrite {
    uintptr_t address;
    size_t bytes;
    void *caller;
    char before[16];
} rewrite;

[[noreturn]] void fail(const char *what, uintptr_t address, void *caller) {
    const Region &region = shared.has(address) ? shared : device;
    std::fprintf(stderr, "cube %u, unit %u, after %u barriers: it %s, byte %zu of %s memory\n", watch::turn.cube - 1,
                 watch::turn.unit, watch::turn.barriers, what, size_t(address - region.start),
                 &region == &shared ? "shared" : "the device's");
    char command[256];
    std::snprintf(command, sizeof command, "addr2line -e /proc/%d/exe %p >&2", getpid(), (char *)caller - 1);
    std::fflush(stderr);
    if (std::system(command)) std::fprintf(stderr, "at %p\n", caller);
    std::exit(1);
}

Region *region_of(uintptr_t address) {
    if (address - MEMORY < MEMORY_BYTES) return &device;
    return shared.has(address) ? &shared : nullptr;
}

template <class F> void each_cell(Region &region, uintptr_t address, size_t bytes, F &&f) {
    Cell *cell = region.cells + (address - region.start) / CELL;
    for (size_t i = 0; i < (bytes + CELL - 1) / CELL; i++) f(cell[i]);
}

inline void reads(uintptr_t address, size_t bytes, void *caller) {
    Region *region = region_of(address);
    if (!region) return;
    if (rewrite.bytes) watch::settle();
    each_cell(*region, address, bytes, [&](Cell &cell) {
        if (region == &shared && cell.written.cube != watch::turn.cube) fail("reads what nobody has written", address, caller);
        if (cell.written.unordered()) fail("reads what another unit has just written", address, caller);
        cell.read.happens();
    });
}

inline void writes(uintptr_t address, size_t bytes, void *caller) {
    Region *region = region_of(address);
    if (!region) return;
    if (rewrite.bytes) watch::settle();
    bool again = false;
    each_cell(*region, address, bytes, [&](Cell &cell) {
        // What other cubes did was in their own.
        if (region == &shared && cell.written.cube != watch::turn.cube) cell = Cell();
        if (cell.read.unordered()) fail("writes what another unit has just read", address, caller);
        again |= cell.written.unordered();
        cell.written.happens();
    });
    if (!again) return;
    rewrite = {address, bytes, caller, {}};
    memcpy(rewrite.before, (const void *)address, std::min(bytes, sizeof rewrite.before));
}

/// Atomic accesses are in some order, but not in one with others.
void changes(uintptr_t address, size_t bytes, bool read, void *caller) {
    watch::settle();
    Region *region = region_of(address);
    if (!region) return;
    each_cell(*region, address, bytes, [&](Cell &cell) {
        if (region == &shared && cell.written.cube != watch::turn.cube) {
            if (read) fail("reads what nobody has written", address, caller);
            cell = Cell();
        }
        bool before = cell.written.unordered() && !cell.written.atomic;
        if (before || cell.read.unordered()) fail("changes what another unit has just read or written", address, caller);
        cell.written.happens(true);
    });
}

inline void aligned(uintptr_t address, size_t bytes, void *caller) {
    if (address % bytes && region_of(address)) fail("gets at what is not aligned", address, caller);
}

} // namespace

namespace watch {

Turn turn;

void start(uintptr_t shared_start, size_t shared_bytes) {
    device.open(MEMORY, MEMORY_BYTES);
    shared.open(shared_start, shared_bytes);
}

void read(const void *address, size_t bytes) { reads(uintptr_t(address), bytes, __builtin_return_address(0)); }

void settle() {
    if (!rewrite.bytes) return;
    Rewrite now = rewrite;
    rewrite.bytes = 0;
    if (memcmp(now.before, (const void *)now.address, std::min(now.bytes, sizeof now.before)))
        fail("writes what another unit has just written", now.address, now.caller);
}

} // namespace watch

namespace emulated {

void atomic(const void *address, size_t bytes, bool read) {
    aligned(uintptr_t(address), bytes, __builtin_return_address(0));
    changes(uintptr_t(address), bytes, read, __builtin_return_address(0));
}

} // namespace emulated

#define CALLER __builtin_return_address(0)
#define WATCH(BYTES)                                                                                                  \
    void __tsan_read##BYTES(uintptr_t address) { aligned(address, BYTES, CALLER), reads(address, BYTES, CALLER); }     \
    void __tsan_write##BYTES(uintptr_t address) { aligned(address, BYTES, CALLER), writes(address, BYTES, CALLER); }   \
    void __tsan_unaligned_read##BYTES(uintptr_t address) { __tsan_read##BYTES(address); }                              \
    void __tsan_unaligned_write##BYTES(uintptr_t address) { __tsan_write##BYTES(address); }

extern "C" {
WATCH(1)
WATCH(2)
WATCH(4)
WATCH(8)
WATCH(16)
void __tsan_read_range(uintptr_t address, size_t bytes) { reads(address, bytes, CALLER); }
void __tsan_write_range(uintptr_t address, size_t bytes) { writes(address, bytes, CALLER); }
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
}
