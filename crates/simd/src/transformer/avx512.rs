//! Registers of 16 lanes.

use std::arch::x86_64::*;

use super::vector::{Vector, methods};

#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// The first `n <= 16` lanes.
fn first(n: usize) -> __mmask16 {
    ((1_u32 << n) - 1) as __mmask16
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const GROUP: usize = 4;
    // The product is of unsigned with signed bytes.
    const OFFSET: i32 = 128;
    type Ints = __m512i;
    type Bytes = __m512i;

    methods! {
        splat(x: f32) -> Self { Self(_mm512_set1_ps(x)) }
        load(from: *const f32) -> Self { Self(_mm512_loadu_ps(from)) }
        store(self: Self, to: *mut f32) { _mm512_storeu_ps(to, self.0) }
        load_first(from: *const f32, n: usize) -> Self { Self(_mm512_maskz_loadu_ps(first(n), from)) }
        store_first(self: Self, to: *mut f32, n: usize) { _mm512_mask_storeu_ps(to, first(n), self.0) }

        add(self: Self, other: Self) -> Self { Self(_mm512_add_ps(self.0, other.0)) }
        sub(self: Self, other: Self) -> Self { Self(_mm512_sub_ps(self.0, other.0)) }
        mul(self: Self, other: Self) -> Self { Self(_mm512_mul_ps(self.0, other.0)) }
        mul_add(self: Self, by: Self, plus: Self) -> Self { Self(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
        quotient(self: Self, by: Self) -> Self {{
            // A division keeps the multipliers waiting; 14 bits, improved once by Newton's method, do not.
            let near = _mm512_rcp14_ps(by.0);
            let inverse = _mm512_mul_ps(near, _mm512_fnmadd_ps(by.0, near, _mm512_set1_ps(2.0)));
            Self(_mm512_mul_ps(self.0, inverse))
        }}
        larger(self: Self, other: Self) -> Self { Self(_mm512_max_ps(self.0, other.0)) }
        smaller(self: Self, other: Self) -> Self { Self(_mm512_min_ps(self.0, other.0)) }
        abs(self: Self) -> Self { Self(_mm512_abs_ps(self.0)) }
        round(self: Self) -> Self { Self(_mm512_roundscale_ps::<0>(self.0)) }
        power_of_two(self: Self) -> Self { Self(_mm512_scalef_ps(_mm512_set1_ps(1.0), self.0)) }
        sum(self: Self) -> f32 { _mm512_reduce_add_ps(self.0) }
        largest(self: Self) -> f32 { _mm512_reduce_max_ps(self.0) }
        store_bytes(self: Self, to: *mut u8, n: usize) {{
            let ints = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(Self::OFFSET));
            _mm512_mask_cvtepi32_storeu_epi8(to.cast(), first(n), ints)
        }}

        load_ints(from: *const i32) -> __m512i { _mm512_loadu_si512(from.cast()) }
        to_floats(ints: __m512i) -> Self { Self(_mm512_cvtepi32_ps(ints)) }
        load_bytes(from: *const i8) -> __m512i { _mm512_loadu_si512(from.cast()) }
        splat_bytes(from: *const u8) -> __m512i { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        add_products(sums: __m512i, row: __m512i, matrix: __m512i) -> __m512i { _mm512_dpbusd_epi32(sums, row, matrix) }
    }
}
