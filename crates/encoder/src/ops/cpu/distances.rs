//! Attention that knows distances: what is added to the scores of a head, made of products with vectors of distances.
//!
//! A few tokens at a time are multiplied with the vectors of all distances to the others, which lie side by side in the order of
//! the others: what a token adds to its scores is then a slice of its products.

use std::convert::Infallible;
use std::ops::Range;

use burn_flex::Flex;
use latewood_simd::{Activation, Block, Heads, MatrixF32, TransformerKernels};

use super::{contiguous, room};
use crate::ops::DistanceSource;

/// Tokens that are multiplied at once: enough for the product to run well, few enough that little of it is of no use.
const TOKENS: usize = 32;

/// Vectors of distances, packed.
pub(crate) struct Distances {
    /// What queries and keys are multiplied with, for each head: `[width, 2 places - 1]`.
    heads: Vec<[MatrixF32; 2]>,
    places: usize,
}

/// Working memory, kept by each thread.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[tokens, width]`
    rows: Vec<f32>,
    /// `[tokens, distances]`
    products: Vec<f32>,
    /// `[s, s]`
    added: Vec<f32>,
}

impl Scratch {
    /// Gives back what is more than `most` bytes.
    pub(super) fn shrink(&mut self, most: usize) {
        if (self.added.len() + self.products.len()) * size_of::<f32>() > most {
            *self = Self::default();
        }
    }
}

/// Queries, keys and values of a text, and which head of them is meant.
#[derive(Clone, Copy)]
pub(super) struct HeadOf<'a> {
    /// `[s, 3 * heads]`
    pub(super) qkv: &'a [f32],
    pub(super) heads: Heads,
    pub(super) head: usize,
}

impl HeadOf<'_> {
    /// Tokens of the text.
    fn tokens(&self) -> usize {
        self.qkv.len() / (3 * self.heads.columns())
    }

    /// The queries, `part` 0, or keys, 1, of `tokens`, `[tokens, width]`.
    fn copy(&self, part: usize, tokens: Range<usize>, to: &mut [f32]) {
        let (columns, width) = (self.heads.columns(), self.heads.width);
        for (token, to) in tokens.zip(to.chunks_exact_mut(width)) {
            to.copy_from_slice(&self.qkv[(3 * token + part) * columns + self.head * width..][..width]);
        }
    }
}

impl Distances {
    pub(super) fn pack(source: DistanceSource<Flex>) -> Self {
        let DistanceSource { queries, keys, heads, .. } = source;
        let [count, h] = keys.dims();
        let width = h / heads;
        let [queries, keys] = [queries, keys].map(contiguous);
        let pack = |head: usize, vectors: &[f32]| {
            let read = |at: usize, to: &mut [f32]| {
                to.copy_from_slice(&vectors[at * h + head * width..][..width]);
                Ok::<_, Infallible>(())
            };
            let Ok(matrix) = TransformerKernels::detect().pack([width, count], None, read);
            matrix
        };
        let of_head = |head| [pack(head, keys.storage()), pack(head, queries.storage())];
        Self { heads: (0..heads).map(of_head).collect(), places: count.div_ceil(2) }
    }

    /// What is added to the scores of a head, `[s, s]`.
    pub(super) fn added<'a>(&self, of: HeadOf<'_>, scratch: &'a mut Scratch) -> &'a [f32] {
        let (s, width) = (of.tokens(), of.heads.width);
        let Scratch { rows, products, added } = scratch;
        let added = room(added, s * s);
        for (part, matrix) in self.heads[of.head].iter().enumerate() {
            for first in (0..s).step_by(TOKENS) {
                let tokens = first..s.min(first + TOKENS);
                let rows = room(rows, tokens.len() * width);
                of.copy(part, tokens.clone(), rows);
                // Distance 0 is in the middle; the last token begins furthest to the left.
                let begins = self.places - tokens.end;
                let line = multiply(matrix, rows, begins..self.places + s - 1 - tokens.start, products);
                let slice = |token: usize| line.of(token - tokens.start, self.places - 1 - token - begins, s);
                match part {
                    0 => tokens.clone().for_each(|token| added[token * s..][..s].copy_from_slice(slice(token))),
                    _ => add_columns(added, s, tokens.clone(), slice),
                }
            }
        }
        added
    }
}

/// Adds `column` of each of `tokens` to the matrix, a row at a time.
fn add_columns<'a>(added: &mut [f32], s: usize, tokens: Range<usize>, column: impl Fn(usize) -> &'a [f32]) {
    let mut columns = [&[][..]; TOKENS];
    for (to, token) in columns.iter_mut().zip(tokens.clone()) {
        *to = column(token);
    }
    for (at, row) in added.chunks_exact_mut(s).enumerate() {
        for (to, column) in row[tokens.clone()].iter_mut().zip(&columns) {
            *to += column[at];
        }
    }
}

/// Products of rows with some columns of a matrix.
struct Products<'a> {
    values: &'a [f32],
    /// Values of a row, and those before the first that was asked for.
    width: usize,
    skip: usize,
}

impl Products<'_> {
    /// `count` values of `row` from `column` on.
    fn of(&self, row: usize, column: usize, count: usize) -> &[f32] {
        &self.values[row * self.width + self.skip + column..][..count]
    }
}

/// `rows` times `columns` of `matrix`.
fn multiply<'a>(matrix: &MatrixF32, rows: &[f32], columns: Range<usize>, out: &'a mut Vec<f32>) -> Products<'a> {
    let panel = matrix.columns(0..1).len();
    let panels = columns.start / panel..columns.end.div_ceil(panel);
    let covered = matrix.columns(panels.clone());
    let values = room(out, rows.len() / matrix.input() * covered.len());
    let block = Block::new(values, covered.len());
    TransformerKernels::detect().linear(rows, matrix, panels, Activation::Identity, block);
    Products { values, width: covered.len(), skip: columns.start - covered.start }
}
