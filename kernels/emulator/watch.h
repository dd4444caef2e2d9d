// Who has used what memory: see watch.cpp.
#pragma once
#include <cstddef>
#include <cstdint>

namespace watch {

/// Who has its turn: a unit of a cube, which are counted from one, and how many barriers it has passed, of the cube and
/// of its plane.
struct Turn {
    uint32_t cube, unit, barriers, plane_barriers;
};
extern Turn turn;

/// Before the first turn. The shared memory is every cube's own.
void start(uintptr_t shared, size_t shared_bytes);
/// Before a unit reads other than by its own code.
void read(const void *address, size_t bytes);
/// Before another unit has its turn.
void settle();

} // namespace watch
