//! Which twin runs: chosen once, by what the processor can do.

use std::sync::OnceLock;

use crate::query::{QueryF32, QueryI8};
use crate::residual::ResidualTokens;
use crate::scalar;

/// An instruction set that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
}

impl Isa {
    /// Every instruction set, the best last.
    pub const ALL: &[Isa] = &[Isa::Scalar, Isa::Avx2];

    /// The name as users read it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
        }
    }
}

type Dots = unsafe fn(&[f32], &QueryF32, &mut [f32]);
type Nearest = unsafe fn(&[f32], u32, &QueryF32, &mut [u32], &mut [f32]);
type MaxRows = unsafe fn(&[u32], &[f32], usize, &mut [f32]);
type MaxResidualDots = unsafe fn(&ResidualTokens<'_>, &QueryI8, &[f32], &mut [f32]);

/// The kernels of one instruction set. Sizes are checked here, once a call; the twins rely on it.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    dots: Dots,
    max_dots: Dots,
    nearest: Nearest,
    max_rows: MaxRows,
    max_residual_dots: MaxResidualDots,
}

static SCALAR: Kernels = Kernels {
    isa: Isa::Scalar,
    dots: scalar::dots,
    max_dots: scalar::max_dots,
    nearest: scalar::nearest,
    max_rows: scalar::max_rows,
    max_residual_dots: scalar::max_residual_dots,
};

#[cfg(target_arch = "x86_64")]
static AVX2: Kernels = Kernels {
    isa: Isa::Avx2,
    dots: crate::avx2::dots,
    max_dots: crate::avx2::max_dots,
    nearest: crate::avx2::nearest,
    max_rows: crate::avx2::max_rows,
    max_residual_dots: crate::avx2::max_residual_dots,
};

impl Kernels {
    /// The best kernels that this processor runs; detected once a process.
    pub fn detect() -> &'static Kernels {
        static BEST: OnceLock<&'static Kernels> = OnceLock::new();
        BEST.get_or_init(|| Isa::ALL.iter().rev().find_map(|&isa| Self::for_isa(isa)).unwrap_or(&SCALAR))
    }

    /// The kernels of `isa`, or `None` where this processor lacks it.
    pub fn for_isa(isa: Isa) -> Option<&'static Kernels> {
        match isa {
            Isa::Scalar => Some(&SCALAR),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c"))
            .then_some(&AVX2),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 => None,
        }
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

    /// `max[lanes] =` the largest of `table[id, lanes]` over `ids`: a document's score by centroids alone.
    ///
    /// # Panics
    /// When the sizes disagree or an id is outside the table.
    pub fn max_rows(&self, ids: &[u32], table: &[f32], max: &mut [f32]) {
        let lanes = max.len();
        check_ids(ids, table.len(), lanes);
        // SAFETY: as in `dots`; every id is inside the table.
        unsafe { (self.max_rows)(ids, table, lanes, max) }
    }

    /// `max[lanes] =` the largest, over the tokens, of the dot product of the decoded token with each query row.
    ///
    /// `table` is `[c, lanes]`: the dot products of all centroids with the query ([`Self::dots`]).
    ///
    /// # Panics
    /// When the sizes disagree or a centroid is outside the table.
    pub fn max_residual_dots(&self, tokens: &ResidualTokens<'_>, query: &QueryI8, table: &[f32], max: &mut [f32]) {
        tokens.check();
        assert_eq!(tokens.dim, query.dim(), "dimensions of tokens and query");
        assert_eq!(max.len(), query.lanes(), "one maximum a lane");
        check_ids(tokens.centroids, table.len(), query.lanes());
        // SAFETY: as in `dots`; every centroid is inside the table.
        unsafe { (self.max_residual_dots)(tokens, query, table, max) }
    }
}

fn whole_rows(len: usize, dim: usize) -> usize {
    assert!(len.is_multiple_of(dim), "{len} values in rows of {dim}");
    len / dim
}

fn check_ids(ids: &[u32], table: usize, lanes: usize) {
    let rows = table.checked_div(lanes).unwrap_or(0);
    let largest = ids.iter().copied().max();
    assert!(largest.is_none_or(|id| (id as usize) < rows), "row {largest:?} of a table of {rows} rows");
    assert!(lanes.is_multiple_of(crate::LANES), "{lanes} lanes");
}
