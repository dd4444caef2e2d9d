//! What the kernels of a network need of an instruction set: they are written once, over [`Vector`].

/// A register of `f32` lanes, and with it the integer registers of as many lanes.
///
/// # Safety of all methods
/// The processor has the instruction set. Pointers are valid for what is read or written: [`Self::LANES`] values, or as
/// many as are asked for.
pub(super) trait Vector: Copy {
    /// Values in a register.
    const LANES: usize;
    /// Rows of a tile, two registers wide, whose sums fit the registers beside what they are made of.
    const ROWS: usize;
    /// Bytes of a row that one step of [`Self::add_products`] takes.
    const GROUP: usize;
    /// What is added to the bytes of a row, -127 to 127, before they are stored.
    const OFFSET: i32;

    /// Sums of integers.
    type Ints: Copy;
    /// Groups of bytes, one a lane.
    type Bytes: Copy;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `n`, at most `LANES`, values, the other lanes 0.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// Stores the first `n < LANES` lanes.
    unsafe fn store_first(self, to: *mut f32, n: usize);

    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    /// `self / by`, to 3 units in the last place.
    unsafe fn quotient(self, by: Self) -> Self;
    /// The larger. No number if `other` is none; if `self` is none, `other` or no number.
    unsafe fn larger(self, other: Self) -> Self;
    /// The smaller; as for [`Self::larger`] of what is no number.
    unsafe fn smaller(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// To the nearest integer.
    unsafe fn round(self) -> Self;
    /// `2^self` for integers from -126 to 127.
    unsafe fn power_of_two(self) -> Self;
    /// The sum of the lanes.
    unsafe fn sum(self) -> f32;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
    /// Rounds to the nearest integers, adds [`Self::OFFSET`] and stores them as bytes, the first `n <= LANES`.
    unsafe fn store_bytes(self, to: *mut u8, n: usize);

    unsafe fn load_ints(from: *const i32) -> Self::Ints;
    unsafe fn to_floats(ints: Self::Ints) -> Self;
    /// A group for each lane, of `LANES * GROUP` bytes.
    unsafe fn load_bytes(from: *const i8) -> Self::Bytes;
    /// One group, for all lanes.
    unsafe fn splat_bytes(from: *const u8) -> Self::Bytes;
    /// Adds the dot products of two groups, one of a row and one of a matrix, lane by lane.
    unsafe fn add_products(sums: Self::Ints, row: Self::Bytes, matrix: Self::Bytes) -> Self::Ints;
}

/// Methods whose body is one expression.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $out:ty)? { $body:expr })*) => {$(
        #[inline(always)]
        unsafe fn $name($($arg: $ty),*) $(-> $out)? {
            // SAFETY: the trait's: the instruction set is there and the pointers are valid.
            unsafe { $body }
        }
    )*};
}
pub(super) use methods;

/// `e^x` for `x <= 0`, to a few units in the last place; `e^-87`, which is nearly nothing, for everything under -87.
#[inline(always)]
pub(super) unsafe fn exp<V: Vector>(x: V) -> V {
    // ln 2 in two parts, the first with zeros behind, so that `n` times it is exact.
    const LN_2: [f32; 2] = [0.693_145_75, 1.428_606_8e-6];
    // The series to the sixth power: of the rest, |r| <= ln 2 / 2, it leaves 1.2e-8.
    const SERIES: [f32; 6] = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // SAFETY: as for `Vector`.
    unsafe {
        let x = V::splat(-87.0).larger(x);
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(V::splat(-LN_2[0]), x);
        let r = n.mul_add(V::splat(-LN_2[1]), r);
        let mut sum = V::splat(1.0 / 720.0);
        for term in SERIES {
            sum = sum.mul_add(r, V::splat(term));
        }
        sum.mul(n.power_of_two())
    }
}

/// `x (1 + erf(x / sqrt 2)) / 2`, to 1e-6 for `|x| <= 4`, to 3e-7 of `|x|` beyond.
///
/// `erf` as a rational function, `x P(x^2) / Q(x^2)`, fitted for the least largest error over
/// `|x| <= 3.85` (1.2e-8 before rounding); beyond, `1 - erf` is under half a unit in the last place of 1.
#[inline(always)]
pub(super) unsafe fn gelu<V: Vector>(value: V) -> V {
    use super::{ERF_DENOMINATOR, ERF_LIMIT, ERF_NUMERATOR};
    // SAFETY: as for `Vector`.
    unsafe {
        let x = value.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let x = V::splat(ERF_LIMIT).smaller(V::splat(-ERF_LIMIT).larger(x));
        let z = x.mul(x);
        let erf = x.mul(polynomial(&ERF_NUMERATOR, z)).quotient(polynomial(&ERF_DENOMINATOR, z));
        let half = value.mul(V::splat(0.5));
        half.mul_add(erf, half)
    }
}

/// `c[0] + c[1] z + ...`
#[inline(always)]
unsafe fn polynomial<V: Vector>(c: &[f32; 6], z: V) -> V {
    // SAFETY: as for `Vector`.
    unsafe {
        let mut sum = V::splat(c[5]);
        for c in c[..5].iter().rev() {
            sum = sum.mul_add(z, V::splat(*c));
        }
        sum
    }
}
