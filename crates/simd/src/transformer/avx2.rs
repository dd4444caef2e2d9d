//! Registers of 8 lanes.

use std::arch::x86_64::*;

use super::vector::{Vector, methods};

#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

/// The first `n <= 8` lanes.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn first(n: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const GROUP: usize = 4;
    const OFFSET: i32 = 0;
    type Ints = __m256i;
    type Bytes = __m256i;

    methods! {
        splat(x: f32) -> Self { Self(_mm256_set1_ps(x)) }
        load(from: *const f32) -> Self { Self(_mm256_loadu_ps(from)) }
        store(self: Self, to: *mut f32) { _mm256_storeu_ps(to, self.0) }
        load_first(from: *const f32, n: usize) -> Self { Self(_mm256_maskload_ps(from, first(n))) }
        store_first(self: Self, to: *mut f32, n: usize) { _mm256_maskstore_ps(to, first(n), self.0) }

        add(self: Self, other: Self) -> Self { Self(_mm256_add_ps(self.0, other.0)) }
        sub(self: Self, other: Self) -> Self { Self(_mm256_sub_ps(self.0, other.0)) }
        mul(self: Self, other: Self) -> Self { Self(_mm256_mul_ps(self.0, other.0)) }
        mul_add(self: Self, by: Self, plus: Self) -> Self { Self(_mm256_fmadd_ps(self.0, by.0, plus.0)) }
        quotient(self: Self, by: Self) -> Self { Self(_mm256_div_ps(self.0, by.0)) }
        larger(self: Self, other: Self) -> Self { Self(_mm256_max_ps(self.0, other.0)) }
        smaller(self: Self, other: Self) -> Self { Self(_mm256_min_ps(self.0, other.0)) }
        abs(self: Self) -> Self { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
        round(self: Self) -> Self { Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
        power_of_two(self: Self) -> Self {{
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }}
        sum(self: Self) -> f32 {{
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }}
        largest(self: Self) -> f32 {{
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }}
        store_bytes(self: Self, to: *mut u8, n: usize) {{
            let ints = _mm256_cvtps_epi32(self.0);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256::<1>(ints));
            let bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words)).to_le_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n)
        }}

        load_ints(from: *const i32) -> __m256i { _mm256_loadu_si256(from.cast()) }
        to_floats(ints: __m256i) -> Self { Self(_mm256_cvtepi32_ps(ints)) }
        load_bytes(from: *const i8) -> __m256i { _mm256_loadu_si256(from.cast()) }
        splat_bytes(from: *const u8) -> __m256i { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
        // The product is of unsigned with signed bytes, in 16 bits: 2 * 127 * 127 < 2^15.
        add_products(sums: __m256i, row: __m256i, matrix: __m256i) -> __m256i {{
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(matrix, row));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }}
    }
}
