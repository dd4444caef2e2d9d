// Runs a kernel on the processor: its cubes one after another, and the units of a cube by turns, each until it waits for
// others. It is linked to the kernel, which watch.cpp watches.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <sys/mman.h>
#include <vector>

#include "context.h"
#include "include/halves.h"
#include "memory.h"
#include "watch.h"

extern "C" {
size_t emulated_sizes(size_t *sizes);
void emulated_call(const char *const *parameters);
}

struct uint3 {
    unsigned x, y, z;
};

namespace {

constexpr unsigned PLANE = 32;
constexpr size_t STACK_BYTES = 1 << 17;
constexpr size_t PAGE = 4096;

struct Barrier {
    unsigned arrived, turn;
};

struct Unit {
    Context context;
    uint3 index;
    bool ended;
    const Barrier *waits_for;
    unsigned turn;
    /// Those that it has passed.
    unsigned plane_barriers;
};

/// What is multiplied, rows of the one by columns of the other, both of up to so many values.
struct Matrices {
    float left[32][16], right[32][16];
};

struct Plane {
    Barrier barrier;
    /// What units give each other, by turns: the first to go on may give again before the last has taken.
    uint32_t words[2][PLANE];
    Matrices matrices[2];
};

const Launch &launch = *reinterpret_cast<const Launch *>(MEMORY);
uint3 cube_dim, cube_count, cube_at;
unsigned unit_count;
std::vector<Unit> all_units;
std::vector<Plane> planes;
Barrier cube_barrier;
Unit *current;
Context scheduler;
char *stacks;
unsigned char *shared_memory;
const char *parameters[MAX_PARAMETERS];

[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "cube %u %u %u: %s\n", cube_at.x, cube_at.y, cube_at.z, what);
    std::exit(1);
}

char *room(size_t bytes) {
    void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory");
    return static_cast<char *>(memory);
}

void leave() {
    watch::settle();
    current->context.go_to(scheduler);
}

void wait(Barrier &barrier, unsigned count) {
    unsigned turn = barrier.turn;
    if (++barrier.arrived == count) {
        watch::settle();
        barrier.arrived = 0;
        barrier.turn++;
    } else {
        current->waits_for = &barrier;
        current->turn = turn;
        leave();
    }
}

unsigned place() {
    const uint3 &i = current->index;
    return i.x + cube_dim.x * (i.y + cube_dim.y * i.z);
}

Plane &plane() { return planes[place() / PLANE]; }

void tell_turn() {
    watch::turn.unit = place();
    watch::turn.barriers = cube_barrier.turn;
    watch::turn.plane_barriers = current->plane_barriers;
}

void exchange_in_plane() { wait(plane().barrier, std::min(PLANE, unit_count - place() / PLANE * PLANE)); }

void start() {
    emulated_call(parameters);
    current->ended = true;
    leave();
}

void prepare(unsigned i) {
    Unit &unit = all_units[i];
    unit.index = {i % cube_dim.x, i / cube_dim.x % cube_dim.y, i / cube_dim.x / cube_dim.y};
    unit.ended = false;
    unit.waits_for = nullptr;
    unit.plane_barriers = 0;
    unit.context.begin(start, stacks + i * STACK_BYTES, STACK_BYTES);
}

void run_cube() {
    std::fill(planes.begin(), planes.end(), Plane());
    cube_barrier = Barrier();
    watch::turn.cube++;
    for (unsigned i = 0; i < unit_count; i++) prepare(i);
    for (unsigned left = unit_count; left > 0;) {
        bool moved = false;
        for (Unit &unit : all_units) {
            if (unit.ended || (unit.waits_for && unit.waits_for->turn == unit.turn)) continue;
            moved = true;
            unit.waits_for = nullptr;
            current = &unit;
            tell_turn();
            scheduler.go_to(unit.context);
            left -= unit.ended;
        }
        if (!moved) fail("units wait for others that do not come");
    }
}

/// `mma.m16n8k16` of halves or bfloats, sums in floats: the registers that each unit holds are those of the PTX manual.
void multiply_16_8_16(uint32_t *const *d, const uint32_t *a, const uint32_t *b, const uint32_t *c,
                      float (&widen)(uint16_t)) {
    Plane &own = plane();
    unsigned unit = place() % PLANE, row = unit / 4, column = unit % 4 * 2;
    auto &[left, right] = own.matrices[own.barrier.turn & 1];
    auto half = [&](uint32_t word, unsigned i) { return widen(uint16_t(word >> i * 16)); };
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned r = 0; r < 4; r++) left[row + r % 2 * 8][column + r / 2 * 8 + i] = half(a[r], i);
        for (unsigned r = 0; r < 2; r++) right[row][column + r * 8 + i] = half(b[r], i);
    }
    exchange_in_plane();
    for (unsigned i = 0; i < 4; i++) {
        float start;
        memcpy(&start, &c[i], 4);
        double sum = start;
        const float *x = left[row + i / 2 * 8], *y = right[column + i % 2];
        for (unsigned k = 0; k < 16; k++) sum += double(x[k]) * y[k];
        float rounded = float(sum);
        memcpy(d[i], &rounded, 4);
    }
}

/// `ldmatrix`: of up to four matrices, `[8, 8]` of two bytes, of which eight units each tell where a row begins, a unit gets
/// two neighbours: of its row, or of its column.
void load_8_8(uint32_t *const *results, size_t count, uint32_t address, bool transposed) {
    Plane &own = plane();
    unsigned unit = place() % PLANE;
    auto &addresses = own.words[own.barrier.turn & 1];
    addresses[unit] = address;
    exchange_in_plane();
    for (size_t i = 0; i < count; i++) {
        uint16_t two[2];
        for (unsigned j = 0; j < 2; j++) {
            unsigned along = unit % 4 * 2 + j, row = transposed ? along : unit / 4, column = transposed ? unit / 4 : along;
            const unsigned char *from = shared_memory + addresses[i * 8 + row] + column * 2;
            if (addresses[i * 8 + row] % 16) fail("a row of a matrix is not aligned");
            watch::read(from, 2);
            memcpy(&two[j], from, 2);
        }
        memcpy(results[i], two, 4);
    }
}

void map_memory(const char *file) {
    int flags = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
    void *memory = mmap((void *)MEMORY, MEMORY_BYTES, PROT_READ | PROT_WRITE, flags, std::atoi(file), 0);
    if (memory == MAP_FAILED) fail("the device's memory is not there");
}

} // namespace

namespace emulated {

uint3 unit_index() { return current->index; }
uint3 cube_index() { return cube_at; }
uint3 units() { return cube_dim; }
uint3 cubes() { return cube_count; }
unsigned char *shared() { return shared_memory; }
unsigned place_in_plane() { return place() % PLANE; }

void wait_for_cube() {
    wait(cube_barrier, unit_count);
    tell_turn();
}

void wait_for_plane() {
    exchange_in_plane();
    current->plane_barriers++;
    tell_turn();
}

void multiply(unsigned m, unsigned n, unsigned k, const float *left, const float *right, float *sums) {
    Plane &own = plane();
    unsigned unit = place_in_plane();
    Matrices &all = own.matrices[own.barrier.turn & 1];
    for (unsigned i = unit * m * k / PLANE; i < (unit + 1) * m * k / PLANE; i++) all.left[i / k][i % k] = *left++;
    for (unsigned i = unit * k * n / PLANE; i < (unit + 1) * k * n / PLANE; i++) all.right[i % n][i / n] = *right++;
    exchange_in_plane();
    for (unsigned i = unit * m * n / PLANE; i < (unit + 1) * m * n / PLANE; i++) {
        double sum = *sums;
        for (unsigned j = 0; j < k; j++) sum += double(all.left[i / n][j]) * all.right[i % n][j];
        *sums++ = float(sum);
    }
}

uint32_t exchange(uint32_t word, unsigned mask) {
    Plane &own = plane();
    unsigned unit = place() % PLANE;
    auto &words = own.words[own.barrier.turn & 1];
    words[unit] = word;
    exchange_in_plane();
    return words[unit ^ mask];
}

void instruct(const char *text, std::initializer_list<uint32_t *> results, std::initializer_list<uint32_t> arguments) {
    auto is = [text](const char *start) { return !std::strncmp(text, start, std::strlen(start)); };
    const uint32_t *a = arguments.begin();
    if (is("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 ")) {
        multiply_16_8_16(results.begin(), a, a + 4, a + 6, emulated::from_half);
    } else if (is("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ")) {
        multiply_16_8_16(results.begin(), a, a + 4, a + 6, emulated::from_bfloat);
    } else if (is("ldmatrix.sync.aligned.m8n8.x")) {
        load_8_8(results.begin(), results.size(), a[arguments.size() - 1], std::strstr(text, ".trans."));
    } else {
        fail(text);
    }
}

} // namespace emulated

/// `kernel sizes` prints how large its parameters are; `kernel FILE` runs it, on the memory that is open as that file.
int main(int, char **arguments) {
    size_t sizes[MAX_PARAMETERS];
    size_t count = emulated_sizes(sizes);
    if (!std::strcmp(arguments[1], "sizes")) {
        for (size_t i = 0; i < count; i++) std::printf("%zu ", sizes[i]);
        return 0;
    }
    map_memory(arguments[1]);
    for (size_t i = 0; i < count; i++) parameters[i] = launch.parameters + launch.offsets[i];
    auto three = [](const unsigned *x) { return uint3{x[0], x[1], x[2]}; };
    cube_dim = three(launch.units);
    cube_count = three(launch.cubes);
    unit_count = cube_dim.x * cube_dim.y * cube_dim.z;
    all_units.resize(unit_count);
    planes.resize((unit_count + PLANE - 1) / PLANE);
    stacks = room(unit_count * STACK_BYTES);
    // So that it ends where a page does that cannot be read.
    size_t shared = (launch.shared + 15) / 16 * 16, shared_pages = (shared + PAGE - 1) / PAGE * PAGE;
    char *pages = room(shared_pages + PAGE);
    mprotect(pages + shared_pages, PAGE, PROT_NONE);
    shared_memory = reinterpret_cast<unsigned char *>(pages + shared_pages - shared);
    watch::start(uintptr_t(shared_memory), shared);
    for (cube_at.z = 0; cube_at.z < cube_count.z; cube_at.z++)
        for (cube_at.y = 0; cube_at.y < cube_count.y; cube_at.y++)
            for (cube_at.x = 0; cube_at.x < cube_count.x; cube_at.x++) run_cube();
    return 0;
}
