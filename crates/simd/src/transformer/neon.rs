//! Registers of 4 lanes. The dot products of bytes do without the `dotprod` extension, whose intrinsics are not stable in
//! Rust yet.

use std::arch::aarch64::*;

use super::vector::{Vector, methods};

#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t);

impl Vector for Neon {
    const LANES: usize = 4;
    const ROWS: usize = 12;
    const GROUP: usize = 2;
    const OFFSET: i32 = 0;
    type Ints = int32x4_t;
    type Bytes = int8x8_t;

    methods! {
        splat(x: f32) -> Self { Self(vdupq_n_f32(x)) }
        load(from: *const f32) -> Self { Self(vld1q_f32(from)) }
        store(self: Self, to: *mut f32) { vst1q_f32(to, self.0) }
        load_first(from: *const f32, n: usize) -> Self {{
            let mut values = [0.0; 4];
            std::ptr::copy_nonoverlapping(from, values.as_mut_ptr(), n);
            Self(vld1q_f32(values.as_ptr()))
        }}
        store_first(self: Self, to: *mut f32, n: usize) {{
            let mut values = [0.0; 4];
            vst1q_f32(values.as_mut_ptr(), self.0);
            std::ptr::copy_nonoverlapping(values.as_ptr(), to, n)
        }}

        add(self: Self, other: Self) -> Self { Self(vaddq_f32(self.0, other.0)) }
        sub(self: Self, other: Self) -> Self { Self(vsubq_f32(self.0, other.0)) }
        mul(self: Self, other: Self) -> Self { Self(vmulq_f32(self.0, other.0)) }
        mul_add(self: Self, by: Self, plus: Self) -> Self { Self(vfmaq_f32(plus.0, self.0, by.0)) }
        quotient(self: Self, by: Self) -> Self { Self(vdivq_f32(self.0, by.0)) }
        larger(self: Self, other: Self) -> Self { Self(vmaxq_f32(self.0, other.0)) }
        smaller(self: Self, other: Self) -> Self { Self(vminq_f32(self.0, other.0)) }
        abs(self: Self) -> Self { Self(vabsq_f32(self.0)) }
        round(self: Self) -> Self { Self(vrndnq_f32(self.0)) }
        power_of_two(self: Self) -> Self {{
            let exponent = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(127));
            Self(vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        }}
        sum(self: Self) -> f32 { vaddvq_f32(self.0) }
        largest(self: Self) -> f32 { vmaxvq_f32(self.0) }
        store_bytes(self: Self, to: *mut u8, n: usize) {{
            let words = vqmovn_s32(vcvtnq_s32_f32(self.0));
            let bytes = vget_lane_u64::<0>(vreinterpret_u64_s8(vqmovn_s16(vcombine_s16(words, words)))).to_le_bytes();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n)
        }}

        load_ints(from: *const i32) -> int32x4_t { vld1q_s32(from) }
        to_floats(ints: int32x4_t) -> Self { Self(vcvtq_f32_s32(ints)) }
        load_bytes(from: *const i8) -> int8x8_t { vld1_s8(from) }
        splat_bytes(from: *const u8) -> int8x8_t { vreinterpret_s8_s16(vdup_n_s16(from.cast::<i16>().read_unaligned())) }
        add_products(sums: int32x4_t, row: int8x8_t, matrix: int8x8_t) -> int32x4_t {
            vpadalq_s16(sums, vmull_s8(row, matrix))
        }
    }
}
