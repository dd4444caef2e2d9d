//! Query rows as the registers of matrix units take them.
//!
//! A product is of 16 tokens by 16 dimensions with 16 dimensions by 8 rows, over a plane of 32 units. Unit `4 g + t`
//! holds, of the tokens, `g` and `g + 8`; of the rows, row `g` of the 8; and of the sums those of its tokens with rows
//! `2 t` and `2 t + 1`: see `mma.m16n8k16` in NVIDIA's PTX manual. Of the 16 dimensions it holds two pairs, as do the
//! other units of the same `t`. Which dimensions these are is ours to choose, as long as tokens and rows agree: each
//! unit takes the codes as they come in its own words of a token, so that they go from memory to registers by no detour.
//!
//! Which rows make up the 8 is ours to choose as well: the four products of a block of [`LANES`] rows take them such
//! that a unit's sums are of the eight lanes from `8 t` on.

use cubecl::prelude::Runtime;
use half::f16;

use super::Codec;
use super::order::{code_words, coded_order};
use crate::client::{Buffer, Client, GpuError};
use crate::cube::LANES;

/// Units of a plane.
pub(crate) const PLANE: usize = 32;
/// Products that a block of lanes takes for 16 dimensions.
pub(crate) const PRODUCTS: usize = LANES / 8;
/// Pairs of values that a unit holds of a block of lanes for 16 dimensions.
pub(crate) const STEP_PAIRS: usize = PRODUCTS * 2;

/// How a token's words are dealt to the four units that hold it: `width` neighbouring words each, in turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Deal {
    pub(crate) width: usize,
    pub(crate) turns: usize,
    /// Products of 16 dimensions that they make, those of words beyond the last included.
    pub(crate) steps: usize,
}

impl Deal {
    pub(crate) fn new(words: usize, bits: usize) -> Self {
        let width = [4, 2].into_iter().find(|width| words.is_multiple_of(4 * width)).unwrap_or(1);
        let turns = words.div_ceil(4 * width);
        Self { width, turns, steps: turns * width * (8 / bits) }
    }
}

/// Query rows as halves, each times a power of two that brings its length to 2^14 up to 2^15: none of its values is
/// then infinite, and those that round to less than 11 bits are below 2^-28 of the row.
#[derive(Debug, Clone)]
pub(crate) struct Fragments {
    /// `[blocks, steps, PRODUCTS, 2, PLANE]`: two halves to a word.
    pub(crate) values: Buffer<u32>,
    /// `[lanes]`: the powers of two, by which the table is multiplied, too.
    pub(crate) factors: Buffer<f32>,
    /// `[lanes]`: one over them.
    pub(crate) units: Buffer<f32>,
}

impl Fragments {
    /// Of `rows`, `[n, dim]`.
    pub(crate) fn new<R: Runtime>(client: &Client<R>, codec: &Codec, rows: &[f32]) -> Result<Self, GpuError> {
        let arranged = Arranged::new(rows, codec.dim(), codec.bits());
        Ok(Self {
            values: client.upload("queries", &arranged.values)?,
            factors: client.upload("queries", &arranged.factors)?,
            units: client.upload("queries", &arranged.units)?,
        })
    }
}

/// [`Fragments`] before they are copied to a device.
pub(crate) struct Arranged {
    pub(crate) values: Vec<u32>,
    pub(crate) factors: Vec<f32>,
    pub(crate) units: Vec<f32>,
}

impl Arranged {
    pub(crate) fn new(rows: &[f32], dim: usize, bits: u32) -> Self {
        let mut factors: Vec<f32> = rows.chunks_exact(dim).map(factor).collect();
        factors.resize(factors.len().next_multiple_of(LANES), 1.0);
        let units = factors.iter().map(|factor| 1.0 / factor).collect();
        Self { values: in_words(&arranged(rows, &factors, dim, bits)), factors, units }
    }
}

/// The power of two for a row; rows shorter than 2^-112 stay shorter than the others.
fn factor(row: &[f32]) -> f32 {
    let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length == 0.0 {
        return 1.0;
    }
    2f32.powi((14 - length.log2().floor() as i32).clamp(-125, 125))
}

/// The pairs, all their values one after another; zeros where there is no row or no code.
fn arranged(rows: &[f32], factors: &[f32], dim: usize, bits: u32) -> Vec<f16> {
    let order = coded_order(dim, bits);
    let bits = bits as usize;
    let deal = Deal::new(code_words(dim, bits as u32), bits);
    let per_word = 8 / bits;
    let mut out = Vec::with_capacity(factors.len() * deal.steps * 16);
    for block in (0..factors.len()).step_by(LANES) {
        for step in 0..deal.steps {
            let (turn, word, part) = (step / per_word / deal.width, step / per_word % deal.width, step % per_word);
            for at in 0..PRODUCTS * 2 * PLANE * 2 {
                let (second, unit, pair, product) = (at % 2, at / 2 % PLANE, at / 64 % 2, at / 128);
                let (g, t) = (unit / 4, unit % 4);
                let lane = block + g / 2 * 8 + product * 2 + g % 2;
                let word = (turn * 4 + t) * deal.width + word;
                let code = word * (32 / bits) + part * 4 + pair * 2 + second;
                let dimension = order.get(code).copied().flatten();
                let value = dimension.and_then(|dimension| rows.get(lane * dim + dimension));
                out.push(value.map_or(f16::ZERO, |&value| f16::from_f32(value * factors[lane])));
            }
        }
    }
    out
}

fn in_words(halves: &[f16]) -> Vec<u32> {
    let word = |pair: &[f16]| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16;
    halves.chunks_exact(2).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_dealt_whole() {
        assert_eq!(Deal::new(16, 4), Deal { width: 4, turns: 1, steps: 8 });
        assert_eq!(Deal::new(12, 4), Deal { width: 1, turns: 3, steps: 6 });
        assert_eq!(Deal::new(8, 2), Deal { width: 2, turns: 1, steps: 8 });
        assert_eq!(Deal::new(3, 1), Deal { width: 1, turns: 1, steps: 8 });
    }

    #[test]
    fn every_value_is_met_once() {
        for (dim, bits) in [(16, 4), (24, 1), (40, 2), (96, 1), (96, 4), (128, 2), (128, 4), (256, 4)] {
            let rows: Vec<f32> = (1..=33 * dim).map(|x| (x % 2000) as f32).collect();
            let mut found: Vec<f32> = arranged(&rows, &[1.0; 64], dim, bits).into_iter().map(f32::from).collect();
            found.retain(|&x| x != 0.0);
            found.sort_unstable_by(f32::total_cmp);
            let mut values = rows;
            values.retain(|&x| x != 0.0);
            values.sort_unstable_by(f32::total_cmp);
            assert_eq!(found, values, "{dim} dimensions of {bits} bits");
        }
    }

    #[test]
    fn rows_of_any_length_become_as_long() {
        for length in [1e-33f32, 1e-6, 0.9, 1.0, 3.0, 1e20, 3e38] {
            let factor = factor(&[0.0, -length]);
            assert!((16384.0..32768.0).contains(&(length * factor)), "{length} times {factor}");
            assert!((1.0 / factor).is_normal());
        }
        assert_eq!(factor(&[0.0; 8]), 1.0);
    }
}
