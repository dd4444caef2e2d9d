//! Kernels of a transformer's forward pass: linear layers, attention, and what lies between them.
//!
//! The tokens of all texts are the rows of one matrix, without padding: only attention is told where a text begins. Each
//! linear layer's weights are packed once ([`MatrixF32`], [`MatrixI8`]) in panels of columns; a tile of rows goes through a
//! panel with its sums in registers, and bias and activation are applied there. Outputs are [`Block`]s, which threads can
//! divide among them.
//!
//! In bytes, weights have a scale for each column and rows one for each row, taken from its largest value: sums of products
//! are exact integers, whatever the instruction set.
//!
//! Kernels are written once, over the `Vector` trait, and compiled for each instruction set; `scalar` says in
//! plain Rust what they compute. All twins agree to rounding.

mod aligned;
mod attention;
mod block;
mod linear;
mod matrix;
mod rows;
mod scalar;
mod vector;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::ops::Range;
use std::sync::OnceLock;

use crate::dispatch::{Isa, whole_rows};
use aligned::product;
use matrix::Packing;

pub use attention::AttentionScratch;
pub use block::Block;
pub use matrix::{ByteRows, MatrixF32, MatrixI8};

/// Beyond, `erf` is 1 to half a unit in the last place.
const ERF_LIMIT: f32 = 3.85;
const ERF_NUMERATOR: [f32; 6] =
    [std::f32::consts::FRAC_2_SQRT_PI, 0.189_967_17, 0.052_747_05, 0.003_762_316_7, 2.875_962_2e-4, 2.090_588_6e-6];
const ERF_DENOMINATOR: [f32; 6] = [1.0, 0.501_686_04, 0.113_979_42, 0.014_959_955, 0.001_166_929_4, 3.865_122e-5];

/// Inputs of a matrix of bytes: sums stay within 32 bits.
const MAX_BYTE_INPUT: usize = 1 << 16;

/// What is done to the values of a linear layer before they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
}

/// The heads of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// How many.
    pub count: usize,
    /// Values of each.
    pub width: usize,
}

impl Heads {
    /// Values of all heads of a token.
    pub fn columns(self) -> usize {
        self.count * self.width
    }
}

/// Which tokens a token sees, of the first `attended` those at most `window` places away, and how well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight<'a> {
    /// Tokens that are seen at all.
    pub attended: usize,
    /// How far a token sees, to either side.
    pub window: usize,
    /// What is added to `q k^T` before it is scaled, `[heads asked for, s, s]`; or empty.
    pub added: &'a [f32],
}

type Linear = unsafe fn(&[f32], &MatrixF32, Range<usize>, Activation, Block<'_>);
type ByteLinear = unsafe fn(&ByteRows, &MatrixI8, Range<usize>, Activation, Block<'_>);
type Quantise = unsafe fn(&[f32], &mut ByteRows);
type Attention = unsafe fn(&[f32], Heads, Range<usize>, Sight<'_>, Block<'_>, &mut AttentionScratch);
type AddNorm = unsafe fn(&mut [f32], &[f32], &[f32], &[f32], f32);
type GeluGate = unsafe fn(&[f32], usize, &mut [f32]);
type Rotate = unsafe fn(&mut [f32], &[f32], &[f32]);

/// The kernels of one instruction set. Sizes are checked here, once a call; the twins rely on it.
#[derive(Debug)]
pub struct TransformerKernels {
    isa: Isa,
    packing: Packing,
    linear: Linear,
    byte_linear: ByteLinear,
    quantise: Quantise,
    attention: Attention,
    add_norm: AddNorm,
    gelu: unsafe fn(&mut [f32]),
    gelu_gate: GeluGate,
    rotate: Rotate,
}

static SCALAR: TransformerKernels = TransformerKernels {
    isa: Isa::Scalar,
    packing: scalar::PACKING,
    linear: scalar::linear,
    byte_linear: scalar::byte_linear,
    quantise: scalar::quantise,
    attention: scalar::attention,
    add_norm: scalar::add_norm,
    gelu: scalar::gelu_all,
    gelu_gate: scalar::gelu_gate,
    rotate: scalar::rotate,
};

/// `$body`, compiled with `$features`.
macro_rules! compile {
    ($features:literal, fn $name:ident($($arg:ident: $ty:ty),*) = $body:path) => {
        #[target_feature(enable = $features)]
        unsafe fn $name($($arg: $ty),*) {
            // SAFETY: the features are those that the vectors need; the rest is the caller's.
            unsafe { $body($($arg),*) }
        }
    };
}

/// The kernels over `$vector`, compiled with `$features`.
macro_rules! compiled {
    ($module:ident, $isa:expr, $vector:ty, $features:literal) => {
        mod $module {
            use super::vector::Vector;
            use super::*;

            type Rows<'a> = &'a [f32];
            type Out<'a> = &'a mut [f32];
            compile!($features, fn linear(x: Rows<'_>, matrix: &MatrixF32, panels: Range<usize>, activation: Activation,
                out: Block<'_>) = super::linear::linear::<$vector>);
            compile!($features, fn byte_linear(x: &ByteRows, matrix: &MatrixI8, panels: Range<usize>,
                activation: Activation, out: Block<'_>) = super::linear::byte_linear::<$vector>);
            compile!($features, fn quantise(x: Rows<'_>, to: &mut ByteRows) = rows::quantise::<$vector>);
            compile!($features, fn attention(x: Rows<'_>, heads: Heads, which: Range<usize>, sight: Sight<'_>,
                out: Block<'_>, scratch: &mut AttentionScratch) = super::attention::attention::<$vector>);
            compile!($features, fn add_norm(x: Out<'_>, added: Rows<'_>, gamma: Rows<'_>, beta: Rows<'_>, epsilon: f32)
                = rows::add_norm::<$vector>);
            compile!($features, fn gelu(values: Out<'_>) = rows::gelu_all::<$vector>);
            compile!($features, fn gelu_gate(x: Rows<'_>, width: usize, out: Out<'_>) = rows::gelu_gate::<$vector>);
            compile!($features, fn rotate(heads: Out<'_>, cos: Rows<'_>, sin: Rows<'_>) = rows::rotate::<$vector>);

            pub(super) static KERNELS: TransformerKernels = TransformerKernels {
                isa: $isa,
                packing: Packing {
                    panel: 2 * <$vector>::LANES,
                    group: <$vector>::GROUP,
                    offset: <$vector>::OFFSET,
                },
                linear,
                byte_linear,
                quantise,
                attention,
                add_norm,
                gelu,
                gelu_gate,
                rotate,
            };
        }
    };
}
#[cfg(target_arch = "x86_64")]
compiled!(for_avx2, Isa::Avx2, avx2::Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(for_avx512, Isa::Avx512, avx512::Avx512, "avx512f,avx512bw,avx512vl,avx512vnni");
#[cfg(target_arch = "aarch64")]
compiled!(for_neon, Isa::Neon, neon::Neon, "neon");

impl TransformerKernels {
    /// The best kernels that this processor runs; detected once a process.
    pub fn detect() -> &'static Self {
        static BEST: OnceLock<&'static TransformerKernels> = OnceLock::new();
        BEST.get_or_init(|| Isa::ALL.iter().rev().find_map(|&isa| Self::for_isa(isa)).unwrap_or(&SCALAR))
    }

    /// The kernels of `isa`, or `None` where this processor lacks it.
    pub fn for_isa(isa: Isa) -> Option<&'static Self> {
        isa.is_present().then_some(match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &for_avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &for_avx512::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => &for_neon::KERNELS,
            _ => &SCALAR,
        })
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Packs a matrix `[input, output]` and its bias, if it has one. `read` is called for each output in order, to write
    /// its weights, `[input]`.
    ///
    /// # Errors
    /// The first of `read`.
    ///
    /// # Panics
    /// When the bias is not `[output]` or there are no inputs.
    pub fn pack<E>(
        &self,
        shape: [usize; 2],
        bias: Option<&[f32]>,
        read: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
    ) -> Result<MatrixF32, E> {
        assert!(shape[0] > 0, "a matrix without inputs");
        MatrixF32::pack(self.packing, shape, bias, read)
    }

    /// [`Self::pack`] in bytes.
    ///
    /// # Errors
    /// The first of `read`.
    ///
    /// # Panics
    /// When the bias is not `[output]` or there are no inputs, or more than 65,536.
    pub fn pack_bytes<E>(
        &self,
        shape: [usize; 2],
        bias: Option<&[f32]>,
        read: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
    ) -> Result<MatrixI8, E> {
        assert!((1..=MAX_BYTE_INPUT).contains(&shape[0]), "{} inputs of a matrix of bytes", shape[0]);
        MatrixI8::pack(self.packing, shape, bias, |column, to| self.quantise(column, shape[0], to), read)
    }

    /// `out = activation(x W + b)`, the columns of `panels` of it; `x` is `[n, input]`.
    ///
    /// # Panics
    /// When the sizes disagree or the matrix is packed for other kernels.
    pub fn linear(&self, x: &[f32], matrix: &MatrixF32, panels: Range<usize>, activation: Activation, out: Block<'_>) {
        self.check(matrix.packing, matrix.columns(panels.clone()), &out);
        assert_eq!(x.len(), product(out.rows(), matrix.input), "rows of {} values", matrix.input);
        // SAFETY: `for_isa` hands out these kernels only where the instruction set is present; sizes are checked above.
        unsafe { (self.linear)(x, matrix, panels, activation, out) }
    }

    /// [`Self::linear`] with rows of [`Self::quantise`].
    ///
    /// # Panics
    /// When the sizes disagree, or the matrix or the rows are those of other kernels.
    pub fn byte_linear(
        &self,
        x: &ByteRows,
        matrix: &MatrixI8,
        panels: Range<usize>,
        activation: Activation,
        out: Block<'_>,
    ) {
        self.check(matrix.packing, matrix.columns(panels.clone()), &out);
        assert!(x.rows() == out.rows() && x.width == matrix.input, "rows of {} values", matrix.input);
        assert_eq!(x.packing, Some(self.packing), "the rows are quantised for these kernels");
        // SAFETY: as in `linear`.
        unsafe { (self.byte_linear)(x, matrix, panels, activation, out) }
    }

    fn check(&self, packing: Packing, columns: Range<usize>, out: &Block<'_>) {
        assert_eq!(packing, self.packing, "the matrix is packed for these kernels");
        assert_eq!(out.columns(), columns.len(), "columns");
    }

    /// The rows of `x`, `[n, width]`, in bytes. A row with a value that is no finite number has a scale that is none.
    ///
    /// # Panics
    /// When `x` is not whole rows.
    pub fn quantise(&self, x: &[f32], width: usize, to: &mut ByteRows) {
        to.resize(self.packing, whole_rows(x.len(), width), width);
        // SAFETY: as in `linear`.
        unsafe { (self.quantise)(x, to) }
    }

    /// `softmax((q k^T + added) / sqrt(width)) v` in the heads `which`, for the tokens of one text; zeros for a token that
    /// sees none. `x` is queries, keys and values side by side, `[s, 3 * count * width]`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn attention(
        &self,
        x: &[f32],
        heads: Heads,
        which: Range<usize>,
        sight: Sight<'_>,
        out: Block<'_>,
        scratch: &mut AttentionScratch,
    ) {
        let columns = product(heads.count, heads.width);
        assert_eq!(x.len(), product(out.rows(), product(3, columns)), "queries, keys and values");
        assert!(which.start <= which.end && which.end <= heads.count, "heads {which:?} of {}", heads.count);
        assert_eq!(out.columns(), which.len() * heads.width, "columns");
        let pairs = product(which.len(), product(out.rows(), out.rows()));
        assert!(sight.added.is_empty() || sight.added.len() == pairs, "{} values added", sight.added.len());
        if x.is_empty() {
            return;
        }
        // SAFETY: as in `linear`.
        unsafe { (self.attention)(x, heads, which, sight, out, scratch) }
    }

    /// Adds `added` to `x`, `[n, width]`, unless it is empty; then normalises each row to mean 0 and variance 1, times
    /// `gamma` plus `beta`, `[width]`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn add_norm(&self, x: &mut [f32], added: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) {
        whole_rows(x.len(), gamma.len());
        assert!(added.is_empty() || added.len() == x.len(), "{} values to {}", added.len(), x.len());
        assert_eq!(gamma.len(), beta.len(), "gamma and beta");
        // SAFETY: as in `linear`.
        unsafe { (self.add_norm)(x, added, gamma, beta, epsilon) }
    }

    /// `x (1 + erf(x / sqrt 2)) / 2`, in place.
    pub fn gelu(&self, values: &mut [f32]) {
        // SAFETY: as in `linear`.
        unsafe { (self.gelu)(values) }
    }

    /// `out[n, width] =` the GELU of the first half of each row of `x`, `[n, 2 * width]`, times the second.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn gelu_gate(&self, x: &[f32], width: usize, out: &mut [f32]) {
        assert_eq!(2 * width * whole_rows(out.len(), width), x.len(), "rows of twice {width} values");
        // SAFETY: as in `linear`.
        unsafe { (self.gelu_gate)(x, width, out) }
    }

    /// Turns pair `(i, half + i)` of each head, `[2 * half]`, by the angle whose cosine and sine are given, `[half]`.
    ///
    /// # Panics
    /// When the sizes disagree.
    pub fn rotate(&self, heads: &mut [f32], cos: &[f32], sin: &[f32]) {
        whole_rows(heads.len(), 2 * cos.len());
        assert_eq!(cos.len(), sin.len(), "cosines and sines");
        // SAFETY: as in `linear`.
        unsafe { (self.rotate)(heads, cos, sin) }
    }
}
