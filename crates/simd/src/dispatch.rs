//! Which twin runs: chosen once, by what the processor can do.

use std::sync::OnceLock;

use crate::decode::FineSteps;
use crate::estimate::Estimates;
use crate::largest::{self, LARGEST};
use crate::quantise::{self, LevelTable, Quantised};
use crate::query::{QueryF32, QueryI8, QueryI16};
use crate::residual::ResidualTokens;
use crate::scalar;
use crate::scratch::Scratch;

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust.
    Scalar,
    /// 64-bit Arm with NEON.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL) and its byte dot products (VNNI).
    Avx512,
}

impl Isa {
    /// Every instruction set; of those of one architecture, the best last.
    pub const ALL: &[Isa] = &[Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512];

    /// The name as users read it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512-vnni",
        }
    }

    /// Whether this processor has it.
    pub fn is_present(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            match self {
                Isa::Scalar => true,
                Isa::Avx2 => avx2,
                Isa::Avx512 => avx2 && avx512,
                Isa::Neon => false,
            }
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Isa::Scalar => true,
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Isa::Avx2 | Isa::Avx512 => false,
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        (self == Isa::Scalar)
    }
}

type Dots = unsafe fn(&[f32], &QueryF32, &mut [f32]);
type Nearest = unsafe fn(&[f32], u32, &QueryF32, &mut [u32], &mut [f32]);
type MaxEstimates = unsafe fn(&[u16], &[u16], &Estimates, &[f32], &mut [f32]);
type ByteDots = unsafe fn(&[u8], &[f32], &QueryI8, &mut [f32]);
type DecodeFine = unsafe fn(&ResidualTokens<'_>, &FineSteps, (&[u8], &[f32]), &mut Scratch, &mut [i16]);
type MaxWordDots = unsafe fn(&[i16], &QueryI16, &mut [i32]);
type ByteNearest = unsafe fn(&[u8], &[f32], &QueryI8, &mut [f32], &mut [u32]);
type Largest = unsafe fn(&[f32], usize, &mut [u32]);
type Residual = unsafe fn(&[f32], &[f32], &mut [f32]) -> (f32, f32);
type Quantise = unsafe fn([&[f32]; 2], f32, &LevelTable, &mut [u8]) -> Quantised;
type MaxResidualDots = unsafe fn(&ResidualTokens<'_>, &QueryI8, &[f32], &mut Scratch, &mut [f32]);

/// The kernels of one instruction set. Sizes are checked here, once a call; the twins rely on it.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    dots: Dots,
    max_dots: Dots,
    nearest: Nearest,
    max_estimates: MaxEstimates,
    byte_dots: ByteDots,
    byte_nearest: ByteNearest,
    max_residual_dots: MaxResidualDots,
    decode_fine: DecodeFine,
    max_word_dots: MaxWordDots,
    largest: Largest,
    residual: Residual,
    quantise: Quantise,
}

static SCALAR: Kernels = Kernels {
    isa: Isa::Scalar,
    dots: scalar::dots,
    max_dots: scalar::max_dots,
    nearest: scalar::nearest,
    max_estimates: scalar::max_estimates,
    byte_dots: scalar::byte_dots,
    byte_nearest: scalar::byte_nearest,
    max_residual_dots: scalar::max_residual_dots,
    decode_fine: scalar::decode_fine,
    max_word_dots: scalar::max_word_dots,
    largest: largest::scalar,
    residual: quantise::scalar::residual,
    quantise: quantise::scalar::quantise,
};

/// Quantising and decoding need no instance of their own: NEON is part of what the target takes for granted, so that the
/// compiler makes NEON vectors of the scalar ones.
#[cfg(target_arch = "aarch64")]
static NEON: Kernels = Kernels {
    isa: Isa::Neon,
    dots: crate::neon::dots,
    max_dots: crate::neon::max_dots,
    nearest: crate::neon::nearest,
    max_estimates: crate::neon::max_estimates,
    byte_dots: crate::neon::byte_dots,
    byte_nearest: crate::neon::byte_nearest,
    max_residual_dots: crate::neon::max_residual_dots,
    decode_fine: scalar::decode_fine,
    max_word_dots: crate::neon::max_word_dots,
    largest: largest::scalar,
    residual: quantise::scalar::residual,
    quantise: quantise::scalar::quantise,
};

#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = Kernels {
    isa: Isa::Avx2,
    dots: crate::avx2::dots,
    max_dots: crate::avx2::max_dots,
    nearest: crate::avx2::nearest,
    max_estimates: crate::avx2::max_estimates,
    byte_dots: crate::avx2::byte_dots,
    byte_nearest: crate::avx2::byte_nearest,
    max_residual_dots: crate::avx2::max_residual_dots,
    decode_fine: crate::avx2::decode_fine,
    max_word_dots: crate::avx2::max_word_dots,
    largest: largest::avx2,
    residual: quantise::avx2::residual,
    quantise: quantise::avx2::quantise,
};

/// Floats run as with AVX2: wider registers were measured to bring nothing there.
#[cfg(target_arch = "x86_64")]
static AVX512: Kernels = Kernels {
    isa: Isa::Avx512,
    byte_dots: crate::avx512::byte_dots,
    byte_nearest: crate::avx512::byte_nearest,
    max_residual_dots: crate::avx512::max_residual_dots,
    decode_fine: crate::avx512::decode_fine,
    max_word_dots: crate::avx512::max_word_dots,
    largest: largest::avx512,
    residual: quantise::avx512::residual,
    quantise: quantise::avx512::quantise,
    ..AVX2
};

impl Kernels {
    /// The best kernels that this processor runs; detected once a process.
    pub fn detect() -> &'static Kernels {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Isa::ALL.iter().rev().find_map(|&isa| Self::for_isa(isa)).unwrap_or(&SCALAR))
    }

    /// The kernels of `isa`, or `None` where this processor lacks it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        isa.is_present().then_some(match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &NEON,
            _ => &SCALAR,
        })
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `out[n, lanes] = rows[n, d] . query`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn dots(&self, rows: &[f32], query: &QueryF32, out: &mut [f32]) {
        let n = whole_rows(rows.len(), query.dim());
        assert_eq!(out.len(), n * query.lanes(), "output of {n} rows");
        // SAFETY: `for_isa` hands out these kernels only where the instruction set is present; sizes are checked above.
        unsafe { (self.dots)(rows, query, out) }
    }

    /// `max[lanes] =` the largest of `rows[n, d] . query` over the rows; minus infinity without rows.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn max_dots(&self, rows: &[f32], query: &QueryF32, max: &mut [f32]) {
        whole_rows(rows.len(), query.dim());
        assert_eq!(max.len(), query.lanes(), "one maximum a lane");
        // SAFETY: as in `dots`.
        unsafe { (self.max_dots)(rows, query, max) }
    }

    /// For each lane of `query`, the row of `rows[n, d]` with the largest dot product.
    ///
    /// `best` and `best_dot` are read and updated, rows being numbered from `first`: calling it chunk by
    /// chunk over many rows keeps a chunk in cache for many queries. Start with minus infinity; a later row
    /// must be strictly larger to win.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn nearest(&self, rows: &[f32], first: u32, query: &QueryF32, best: &mut [u32], best_dot: &mut [f32]) {
        whole_rows(rows.len(), query.dim());
        assert_eq!(best.len(), query.lanes(), "one row a lane");
        assert_eq!(best_dot.len(), query.lanes(), "one product a lane");
        // SAFETY: as in `dots`.
        unsafe { (self.nearest)(rows, first, query, best, best_dot) }
    }

    /// `max[lanes] =` the largest, over tokens of centroids `ids` `[n]` and `factors` `[n]`, of `table[id, lanes]` as the
    /// token's scale changes it: a document's score guessed without its codes.
    ///
    /// # Panics
    /// When the sizes disagree or an id is outside the table.
    pub fn max_estimates(&self, ids: &[u16], factors: &[u16], estimates: &Estimates, table: &[f32], max: &mut [f32]) {
        assert!(ids.len() == factors.len() && estimates.lanes == max.len(), "a centroid a token, a bonus a lane");
        check_ids(ids, table.len(), max.len());
        // SAFETY: as in `dots`; every id is inside the table.
        unsafe { (self.max_estimates)(ids, factors, estimates, table, max) }
    }

    /// `out[n, lanes] = scales[n] * (rows[n, d] - LEVEL_OFFSET) . query`, in units of the query's scales.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn byte_dots(&self, rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
        assert_eq!(rows.len(), scales.len() * query.dim(), "rows of {} bytes", query.dim());
        assert_eq!(out.len(), scales.len() * query.lanes(), "output of {} rows", scales.len());
        // SAFETY: as in `dots`.
        unsafe { (self.byte_dots)(rows, scales, query, out) }
    }

    /// For each lane of `query`: the largest of the dot products of [`Self::byte_dots`], and the row it is of, the first of
    /// equals; minus infinity and 0 without rows.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn byte_nearest(&self, rows: &[u8], scales: &[f32], query: &QueryI8, best: &mut [f32], ids: &mut [u32]) {
        assert_eq!(rows.len(), scales.len() * query.dim(), "rows of {} bytes", query.dim());
        assert!(best.len() == query.lanes() && ids.len() == query.lanes(), "one row a lane");
        best.fill(f32::NEG_INFINITY);
        ids.fill(0);
        // SAFETY: as in `dots`.
        unsafe { (self.byte_nearest)(rows, scales, query, best, ids) }
    }

    /// For each lane of `dots` `[n, lanes]`, the rows of the [`LARGEST`] largest, best first and equals in any
    /// order, into `ids` `[LARGEST, lanes]`; 0 where there are fewer rows.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn largest(&self, dots: &[f32], ids: &mut [u32]) {
        let lanes = ids.len() / LARGEST;
        assert!(ids.len() == LARGEST * lanes && lanes.is_multiple_of(crate::LANES), "{} ids", ids.len());
        assert!(dots.is_empty() || dots.len().is_multiple_of(lanes), "{} dots", dots.len());
        // SAFETY: as in `dots`.
        unsafe { (self.largest)(dots, lanes, ids) }
    }

    /// `max[lanes] =` the largest, over the tokens, of the dot product of the decoded token with each query row, in
    /// units of the query's scales ([`QueryI8::scales`]).
    ///
    /// `table` is `[c, lanes]`: the dot products of all centroids with the query ([`Self::byte_dots`]).
    ///
    /// # Panics
    /// When the sizes disagree or a centroid is outside the table.
    pub fn max_residual_dots(
        &self,
        tokens: &ResidualTokens<'_>,
        query: &QueryI8,
        table: &[f32],
        scratch: &mut Scratch,
        max: &mut [f32],
    ) {
        tokens.check();
        assert_eq!(tokens.dim, query.dim(), "dimensions of tokens and query");
        assert_eq!(max.len(), query.lanes(), "one maximum a lane");
        check_ids(tokens.centroids, table.len(), query.lanes());
        // SAFETY: as in `dots`; every centroid is inside the table.
        unsafe { (self.max_residual_dots)(tokens, query, table, scratch, max) }
    }

    /// `out[n, d] =` the tokens with their fine codes, in 16 bits: 16384 stands for 1. They are near unit length as they
    /// are.
    ///
    /// `centroids` are `[c, d]` bytes and `[c]` scales.
    ///
    /// # Panics
    /// When the sizes disagree, the tokens have no fine codes, or a centroid is outside.
    pub fn decode_fine(
        &self,
        tokens: &ResidualTokens<'_>,
        steps: &FineSteps,
        centroids: (&[u8], &[f32]),
        scratch: &mut Scratch,
        out: &mut [i16],
    ) {
        tokens.check();
        assert!(tokens.is_empty() || !tokens.fine.is_empty(), "no fine codes");
        assert_eq!(out.len(), tokens.len() * tokens.dim, "output of {} tokens", tokens.len());
        assert_eq!(centroids.0.len(), centroids.1.len() * tokens.dim, "centroids");
        // SAFETY: as in `dots`; the twins check each centroid.
        unsafe { (self.decode_fine)(tokens, steps, centroids, scratch, out) }
    }

    /// `max[lanes] =` the largest dot product of a row of `rows` `[n, d]`, of [`Kernels::decode_fine`], with each query row,
    /// for [`QueryI16::sum`]; the smallest number without rows.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn max_word_dots(&self, rows: &[i16], query: &QueryI16, max: &mut [i32]) {
        whole_rows(rows.len(), query.dim());
        assert_eq!(max.len(), query.lanes(), "one maximum a lane");
        // SAFETY: as in `dots`.
        unsafe { (self.max_word_dots)(rows, query, max) }
    }

    /// `out[d] = row - centroid`; returns the sums of the squares of `out` and of `centroid`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn residual(&self, row: &[f32], centroid: &[f32], out: &mut [f32]) -> (f32, f32) {
        assert!(row.len() == centroid.len() && row.len() == out.len(), "one dimension");
        // SAFETY: as in `dots`.
        unsafe { (self.residual)(row, centroid, out) }
    }

    /// `codes[d] =` the level nearest to `values[d] * inverse_scale`; returns sums over the dimensions, of which one is
    /// with `other`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn quantise(
        &self,
        values: &[f32],
        other: &[f32],
        inverse_scale: f32,
        table: &LevelTable,
        codes: &mut [u8],
    ) -> Quantised {
        assert!(values.len() == codes.len() && other.len() == codes.len(), "a code a value");
        // SAFETY: as in `dots`.
        unsafe { (self.quantise)([values, other], inverse_scale, table, codes) }
    }
}

pub(crate) fn whole_rows(len: usize, dim: usize) -> usize {
    assert!(dim > 0 && len.is_multiple_of(dim), "{len} values in rows of {dim}");
    len / dim
}

fn check_ids(ids: &[u16], table: usize, lanes: usize) {
    let rows = table.checked_div(lanes).unwrap_or(0);
    let largest = ids.iter().copied().max();
    assert!(largest.is_none_or(|id| usize::from(id) < rows), "row {largest:?} of a table of {rows} rows");
    assert!(lanes.is_multiple_of(crate::LANES), "{lanes} lanes");
}
