//! A tile of tokens in shared memory, and its products with a block of query rows.
//!
//! Dimensions come in chunks of [`DEPTH`], in whatever order the query has been arranged in to match. A chunk of a tile
//! is `[TOKENS, DEPTH]`, its rows one vector longer than that: units that read the same dimensions of eight tokens then
//! meet eight different memory banks.

use cubecl::prelude::*;

use super::{Four, LANE_UNITS, TOKEN_UNITS, TOKENS, UNIT_TOKENS, UNITS};

/// Values of a token in a chunk.
pub(crate) const DEPTH: usize = 64;
/// The same in vectors.
pub(crate) const DEPTH_FOURS: usize = DEPTH / 4;
/// Vectors from one token of a chunk to the next.
pub(crate) const STRIDE: usize = DEPTH_FOURS + 1;

/// Room for a chunk.
#[cube]
pub(crate) fn new_tile() -> SharedMemory<Four<f32>> {
    SharedMemory::<Four<f32>>::new(comptime!(TOKENS * STRIDE))
}

/// The token that comes `slot`-th in the tile from `first`: the last one again where the document has ended.
#[cube]
pub(crate) fn token_at(first: usize, slot: usize, end: usize) -> usize {
    min(first + slot, end - 1)
}

/// Expands the words `from..from + DEPTH * bits / 32` of each token of a tile, as far as there are such words.
///
/// Neighbouring units read neighbouring words. `bits` is 1, 2 or 4 for codes, which `levels` gives their values, or 8
/// for bytes, each standing for itself less 64.
#[cube]
pub(crate) fn expand(
    tile: &mut SharedMemory<Four<f32>>,
    packed: &Array<u32>,
    levels: &SharedMemory<f32>,
    first: usize,
    end: usize,
    from: usize,
    words: usize,
    #[comptime] bits: usize,
) {
    let chunk = comptime!(DEPTH * bits / 32);
    let fours = comptime!(8 / bits);
    let mut i = UNIT_POS as usize;
    while i < comptime!(TOKENS * chunk) {
        let slot = i / chunk;
        let at = i % chunk;
        if from + at < words {
            let word = packed[token_at(first, slot, end) * words + from + at];
            #[unroll]
            for j in 0..fours {
                let codes = word >> comptime!((j * 4 * bits) as u32);
                tile[slot * STRIDE + at * fours + j] = expand_four(codes, levels, bits);
            }
        }
        i += UNITS;
    }
}

/// The values of the four lowest codes.
#[cube]
fn expand_four(codes: u32, levels: &SharedMemory<f32>, #[comptime] bits: usize) -> Four<f32> {
    let mask = comptime!((1u32 << bits) - 1);
    let mut values = Four::<f32>::empty();
    #[unroll]
    for i in 0..4usize {
        let code = (codes >> comptime!((i * bits) as u32)) & mask;
        if comptime!(bits == 8) {
            values[i] = f32::cast_from(code) - 64.0;
        } else {
            values[i] = levels[code as usize];
        }
    }
    values
}

/// Copies the vectors `from..from + DEPTH / 4` of each token of a tile, as far as there are such vectors.
#[cube]
pub(crate) fn copy<F: Float>(
    tile: &mut SharedMemory<Four<f32>>,
    tokens: &Array<Four<F>>,
    first: usize,
    end: usize,
    from: usize,
    fours: usize,
) {
    let mut i = UNIT_POS as usize;
    while i < comptime!(TOKENS * DEPTH_FOURS) {
        let slot = i / DEPTH_FOURS;
        let at = i % DEPTH_FOURS;
        if from + at < fours {
            let values = tokens[token_at(first, slot, end) * fours + from + at];
            tile[slot * STRIDE + at] = Four::<f32>::cast_from(values);
        }
        i += UNITS;
    }
}

/// Where a unit's own values lie: its tokens are `token`, `token + TOKEN_UNITS`, ... of the tile.
#[cube]
pub(crate) fn unit_token() -> usize {
    UNIT_POS_Y as usize
}

/// Adds to `sums`, `[UNIT_TOKENS]` vectors of a unit's lanes, the products of its tokens with its lanes over a chunk.
///
/// `query` is `[dims, LANE_UNITS]` vectors from `query_from` on, where the chunk's first dimension lies. It is read
/// without a look at its length, which costs a fifth of the time on lavapipe: that the block and its dimensions are
/// there was made sure before the launch, and depends on nothing that is read on the device.
#[cube]
pub(crate) fn multiply(
    tile: &SharedMemory<Four<f32>>,
    query: &Array<Four<f32>>,
    query_from: usize,
    fours: usize,
    sums: &mut Array<Four<f32>>,
) {
    let mut at = query_from + UNIT_POS_X as usize;
    for i in 0..fours {
        let q0 = query.read_unchecked(at);
        let q1 = query.read_unchecked(at + LANE_UNITS);
        let q2 = query.read_unchecked(at + comptime!(2 * LANE_UNITS));
        let q3 = query.read_unchecked(at + comptime!(3 * LANE_UNITS));
        #[unroll]
        for t in 0..UNIT_TOKENS {
            let values = tile[(unit_token() + comptime!(t * TOKEN_UNITS)) * STRIDE + i];
            sums[t] += q0 * Four::new(values[0]);
            sums[t] += q1 * Four::new(values[1]);
            sums[t] += q2 * Four::new(values[2]);
            sums[t] += q3 * Four::new(values[3]);
        }
        at += comptime!(4 * LANE_UNITS);
    }
}

/// Adds to `sums` the products of a tile's tokens, from `first` on and up to `end`, with the lanes of `block` of `query`,
/// over all `dim` dimensions.
#[cube]
pub(crate) fn products<F: Float>(
    tile: &mut SharedMemory<Four<f32>>,
    tokens: &Array<Four<F>>,
    first: usize,
    end: usize,
    query: &Array<Four<f32>>,
    block: usize,
    dim: usize,
    sums: &mut Array<Four<f32>>,
) {
    let fours = dim / 4;
    let mut from = 0usize;
    while from < fours {
        copy::<F>(tile, tokens, first, end, from, fours);
        sync_cube();
        let query_from = query_at(block, dim, from * 4);
        multiply(tile, query, query_from, min(fours - from, DEPTH_FOURS), sums);
        sync_cube();
        from += DEPTH_FOURS;
    }
}

/// Where dimension `dim` of a block of the query begins, `dims` being those of a row.
#[cube]
pub(crate) fn query_at(block: usize, dims: usize, dim: usize) -> usize {
    (block * dims + dim) * LANE_UNITS
}

/// A unit's sums, all 0.
#[cube]
pub(crate) fn new_sums() -> Array<Four<f32>> {
    let mut sums = Array::<Four<f32>>::new(UNIT_TOKENS);
    #[unroll]
    for t in 0..UNIT_TOKENS {
        sums[t] = Four::new(0.0);
    }
    sums
}
