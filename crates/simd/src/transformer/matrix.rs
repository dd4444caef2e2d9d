//! The weights of a linear layer, laid out as its kernel reads them: panels of columns, two registers wide, each from its
//! first input to its last, so that a product walks through memory in one direction.

use std::ops::Range;

use super::aligned::{Aligned, product};

/// How an instruction set wants matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packing {
    /// Columns of a panel.
    pub(super) panel: usize,
    /// Inputs whose bytes lie together.
    pub(super) group: usize,
    /// What rows of bytes have added.
    pub(super) offset: i32,
}

/// `y = x W + b`, `x` `[n, input]` and `y` `[n, output]`, in `f32`.
pub struct MatrixF32 {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) packing: Packing,
    /// `[panels, input, panel]`
    pub(super) values: Aligned<f32>,
    /// `[panels * panel]`
    pub(super) bias: Vec<f32>,
}

/// As [`MatrixF32`], each column of weights in bytes from -127 to 127 with a scale of its own.
pub struct MatrixI8 {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) packing: Packing,
    /// `[panels, groups, panel, group]`
    pub(super) values: Aligned<i8>,
    /// `[panels * panel]`
    pub(super) scales: Vec<f32>,
    /// `[panels * panel]`: where sums begin, so that the rows' offset falls out of them.
    pub(super) starts: Vec<i32>,
    /// `[panels * panel]`
    pub(super) bias: Vec<f32>,
}

/// The two kinds of matrices have the same shape.
macro_rules! shape {
    ($($matrix:ident),*) => {$(
        impl $matrix {
            /// Values of a row that goes in.
            pub fn input(&self) -> usize {
                self.input
            }

            /// Values of a row that comes out.
            pub fn output(&self) -> usize {
                self.output
            }

            /// Panels of columns: what work can be split into.
            pub fn panels(&self) -> usize {
                self.output.div_ceil(self.packing.panel)
            }

            /// The columns of `panels`.
            ///
            /// # Panics
            /// When there are not so many.
            pub fn columns(&self, panels: Range<usize>) -> Range<usize> {
                assert!(panels.start <= panels.end && panels.end <= self.panels(), "{panels:?} of {}", self.panels());
                let column = |panel: usize| (panel * self.packing.panel).min(self.output);
                column(panels.start)..column(panels.end)
            }
        }

        impl std::fmt::Debug for $matrix {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($matrix), "({} x {})"), self.input, self.output)
            }
        }
    )*};
}
shape!(MatrixF32, MatrixI8);

/// `bias`, or zeros, as long as whole panels.
fn padded(bias: Option<&[f32]>, output: usize, width: usize) -> Vec<f32> {
    let mut values = bias.map_or_else(|| vec![0.0; output], <[f32]>::to_vec);
    assert_eq!(values.len(), output, "one bias an output");
    values.resize(width, 0.0);
    values
}

impl MatrixF32 {
    /// Packs a matrix whose weights of one output, `[input]`, are what `read` writes, called for each output in order.
    pub(super) fn pack<E>(
        packing: Packing,
        [input, output]: [usize; 2],
        bias: Option<&[f32]>,
        mut read: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let panel = packing.panel;
        let width = output.next_multiple_of(panel);
        let mut values = Aligned::zeros(product(width, input));
        let mut columns = vec![0.0; panel * input];
        for (at, to) in values.chunks_exact_mut(panel * input).enumerate() {
            let here = panel.min(output - at * panel);
            columns[here * input..].fill(0.0);
            for (c, column) in columns.chunks_exact_mut(input).take(here).enumerate() {
                read(at * panel + c, column)?;
            }
            for (i, line) in to.chunks_exact_mut(panel).enumerate() {
                line.iter_mut().enumerate().for_each(|(c, x)| *x = columns[c * input + i]);
            }
        }
        Ok(Self { input, output, packing, values, bias: padded(bias, output, width) })
    }
}

impl MatrixI8 {
    /// As [`MatrixF32::pack`]: a column is quantised as a row is, by `quantise`.
    pub(super) fn pack<E>(
        packing: Packing,
        [input, output]: [usize; 2],
        bias: Option<&[f32]>,
        quantise: impl Fn(&[f32], &mut ByteRows),
        mut read: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let Packing { panel, group, offset } = packing;
        let (width, depth) = (output.next_multiple_of(panel), input.next_multiple_of(group));
        let mut values = Aligned::zeros(product(width, depth));
        let (mut scales, mut starts) = (vec![0.0; width], vec![0; width]);
        let (mut column, mut bytes) = (vec![0.0; input], ByteRows::default());
        for (at, to) in values.chunks_exact_mut(panel * depth).enumerate() {
            for c in 0..panel.min(output - at * panel) {
                let out = at * panel + c;
                read(out, &mut column)?;
                quantise(&column, &mut bytes);
                scales[out] = bytes.scales[0];
                let mut sum = 0;
                for (to, from) in to.chunks_exact_mut(panel * group).zip(bytes.bytes[..depth].chunks_exact(group)) {
                    for (to, byte) in to[c * group..][..group].iter_mut().zip(from) {
                        *to = byte.wrapping_sub(offset as u8).cast_signed();
                        sum += i32::from(*to);
                    }
                }
                starts[out] = -offset * sum;
            }
        }
        Ok(Self { input, output, packing, values, scales, starts, bias: padded(bias, output, width) })
    }
}

/// Rows quantised for [`MatrixI8`], each with a scale of its own; reused from one product to the next.
#[derive(Default)]
pub struct ByteRows {
    /// `[n, stride]`, zeros (with the offset) behind `width`.
    pub(super) bytes: Aligned<u8>,
    /// `[n]`
    pub(super) scales: Vec<f32>,
    pub(super) width: usize,
    pub(super) stride: usize,
    /// Of the kernels that quantised them.
    pub(super) packing: Option<Packing>,
}

impl ByteRows {
    /// Makes room for `rows` rows of `width` values.
    pub(super) fn resize(&mut self, packing: Packing, rows: usize, width: usize) {
        self.packing = Some(packing);
        (self.width, self.stride) = (width, width.next_multiple_of(packing.group));
        self.bytes.reserve(rows * self.stride);
        self.scales.resize(rows, 0.0);
    }

    /// How many there are.
    pub fn rows(&self) -> usize {
        self.scales.len()
    }
}

impl std::fmt::Debug for ByteRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ByteRows({} x {})", self.rows(), self.width)
    }
}
