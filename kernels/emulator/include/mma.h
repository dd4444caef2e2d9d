// Matrix units as CUDA's language has them (`nvcuda::wmma`): a plane holds a matrix together, and nothing says which unit holds
// what. Here each holds as many values, in order.
#pragma once
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"

namespace emulated {

constexpr unsigned PLANE = 32;

/// Its place in the plane.
unsigned place_in_plane();
/// `[m, k]` by `[k, n]`, of which this unit gives the parts it holds; what it holds of the product is added to `sums`.
void multiply(unsigned m, unsigned n, unsigned k, const float *left, const float *right, float *sums);

inline float to_tf32(float value) {
    uint32_t bits = word(value);
    return std::isfinite(value) ? from_word<float>((bits + 0x1000) & 0xffffe000) : value;
}

} // namespace emulated

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

inline float __float_to_tf32(float value) { return emulated::to_tf32(value); }

template <class T> struct Held {
    using type = T;
};
template <> struct Held<precision::tf32> {
    using type = float;
};

template <class Use, int M, int N, int K> struct Shape;
template <int M, int N, int K> struct Shape<matrix_a, M, N, K> {
    static constexpr unsigned ROWS = M, COLUMNS = K;
};
template <int M, int N, int K> struct Shape<matrix_b, M, N, K> {
    static constexpr unsigned ROWS = K, COLUMNS = N;
};
template <int M, int N, int K> struct Shape<accumulator, M, N, K> {
    static constexpr unsigned ROWS = M, COLUMNS = N;
};

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
    using Own = Shape<Use, M, N, K>;
    using Value = typename Held<T>::type;
    static constexpr unsigned num_elements = Own::ROWS * Own::COLUMNS / emulated::PLANE;
    Value x[num_elements];

    /// Calls `use` with each value that this unit holds, and where it lies in memory.
    template <class F> void each(unsigned stride, bool by_rows, F use) {
        for (unsigned i = 0; i < num_elements; i++) {
            unsigned at = emulated::place_in_plane() * num_elements + i;
            unsigned row = at / Own::COLUMNS, column = at % Own::COLUMNS;
            use(x[i], by_rows ? row * stride + column : column * stride + row);
        }
    }
};

template <class F, class T> void fill_fragment(F &to, T value) {
    for (auto &x : to.x) x = value;
}

// A plane loads and stores together, and kernels count on it: what its units wrote before is loaded, and what is stored they
// read, with no barrier between. (PTX does not promise as much.)

template <class Use, int M, int N, int K, class T, class Layout, class S>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout> &to, const S *from, unsigned stride) {
    emulated::wait_for_plane();
    to.each(stride, std::is_same_v<Layout, row_major>, [&](auto &x, unsigned at) { x = from[at]; });
}

template <int M, int N, int K, class T, class S>
void load_matrix_sync(fragment<accumulator, M, N, K, T> &to, const S *from, unsigned stride, layout_t layout) {
    emulated::wait_for_plane();
    to.each(stride, layout == mem_row_major, [&](auto &x, unsigned at) { x = from[at]; });
}

template <int M, int N, int K, class T, class S>
void store_matrix_sync(S *to, fragment<accumulator, M, N, K, T> &from, unsigned stride, layout_t layout) {
    emulated::wait_for_plane();
    from.each(stride, layout == mem_row_major, [&](auto &x, unsigned at) { to[at] = x; });
    emulated::wait_for_plane();
}

template <int M, int N, int K, class T, class LeftLayout, class RightLayout, class Sum>
void mma_sync(fragment<accumulator, M, N, K, Sum> &to, const fragment<matrix_a, M, N, K, T, LeftLayout> &left,
              const fragment<matrix_b, M, N, K, T, RightLayout> &right, const fragment<accumulator, M, N, K, Sum> &before) {
    float a[M * K / emulated::PLANE], b[K * N / emulated::PLANE], sums[M * N / emulated::PLANE];
    // The units themselves take only so many bits of a float.
    auto held = [](auto x) { return std::is_same_v<T, precision::tf32> ? emulated::to_tf32(float(x)) : float(x); };
    std::transform(std::begin(left.x), std::end(left.x), a, held);
    std::transform(std::begin(right.x), std::end(right.x), b, held);
    std::transform(std::begin(before.x), std::end(before.x), sums, [](auto x) { return float(x); });
    emulated::multiply(M, N, K, a, b, sums);
    std::transform(std::begin(sums), std::end(sums), to.x, [](float x) { return Sum(x); });
}

} // namespace nvcuda::wmma
