//! Documents scored by their tokens' outlines, with planes of 32 units and halves: what [`super::outline`] computes, from
//! centroids' scores in bytes.
//!
//! A plane takes a document, and of it 16 tokens at a time. A unit has 16 lanes of a token, whose centroid's scores are
//! one read, two lanes in a word from there on. A byte is a half as it stands, a tiny one; the weights are that much
//! larger, and [`Guesses`] keeps their sums in range. What is computed of a lane is its guess in units of its row's length,
//! so that all lanes share a token's weight and lean.
//!
//! A guess is off by at most `length of the row * length of the longest centroid / 254`, times the weight, and by what 11
//! bits round: little beside what a guess leaves out.

use cubecl::prelude::*;

use super::matrix::{MOST_CUBES, PLANES, Pair, cube_dim, tokens_of};
use super::narrow::bytes;
use super::sum::add_most;
use super::{Four, LANES, LOWEST};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Codec, PLANE, Queries, Shard, Table};

/// Tokens that a plane takes at a time.
const TOKENS: usize = PLANE / 2;
/// Words of two lanes that a unit has.
const PAIRS: usize = LANES / 4;
/// Less than any guess, twice.
const LOWEST_PAIR: u32 = 0xfb00_fb00;

/// What [`super::outline`] returns.
pub(super) fn sketch<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    shard: &Shard,
    queries: &Queries,
    table: &Table,
    docs: &Buffer<u32>,
) -> Result<Buffer<f32>, GpuError> {
    let scores = client.empty("scores", queries.len() * docs.len())?;
    if docs.is_empty() {
        return Ok(scores);
    }
    for part in table.parts() {
        let bytes = bytes(client, codec, queries, part)?;
        sketch_kernel::launch::<R>(
            client.raw(),
            client.cubes(docs.len().div_ceil(PLANES).min(MOST_CUBES))?,
            cube_dim(),
            shard.outlines().arg(client)?,
            shard.offsets().arg(client)?,
            docs.arg(client)?,
            bytes.fours(client)?,
            codec.guesses().values.vectors(client, 2)?,
            queries.lengths().arg(client)?,
            queries.plan().arg(client)?,
            scores.arg(client)?,
            codec.guesses().unit,
            codec.centroids(),
            docs.len(),
            part.first_block,
            part.blocks,
            queries.len(),
        );
    }
    Ok(scores)
}

/// One plane a document, then another. `table` is `[blocks, centroids, 2]` vectors, `guesses` `[SCALES]` pairs of a
/// weight and a lean, each twice in a word; a guess is in units of `unit` times the row's length.
///
/// Indexes that were made sure of before are read without a look at lengths, as in `matrix.rs`.
#[cube(launch)]
fn sketch_kernel(
    outlines: &Array<u32>,
    offsets: &Array<u32>,
    docs: &Array<u32>,
    table: &Array<Four<u32>>,
    guesses: &Array<Vector<u32, Const<2>>>,
    lengths: &Array<f32>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    unit: f32,
    centroids: usize,
    n: usize,
    first_block: usize,
    blocks: usize,
    queries: usize,
) {
    let half = UNIT_POS_X as usize % 2;
    let lane = lane_of(UNIT_POS_X);
    let mut position = CUBE_POS * PLANES + UNIT_POS_Y as usize;
    while position < n {
        let (start, end) = tokens_of(docs, offsets, position);
        for block in 0..blocks {
            let scores_from = block * centroids * 2 + half;
            let mut best = Array::<u32>::new(PAIRS);
            #[unroll]
            for i in 0..PAIRS {
                best[i] = LOWEST_PAIR;
            }
            let mut first = start;
            while first < end {
                let token = min(first + UNIT_POS_X as usize / 2, end - 1);
                let outline = outlines.read_unchecked(token);
                let near = table.read_unchecked((outline & 0xffff) as usize * 2 + scores_from);
                let guess = guesses.read_unchecked((outline >> 26) as usize);
                let (weight, lean) = (Pair::reinterpret(guess[0]), Pair::reinterpret(guess[1]));
                #[unroll]
                for i in 0..PAIRS {
                    let word = near[comptime!(i / 2)];
                    let word = if comptime!(i % 2 == 0) { word } else { word >> 8 };
                    let guess = Pair::reinterpret(word & 0x00ff_00ff) * weight + lean;
                    best[i] = larger(best[i], u32::reinterpret(guess));
                }
                first += TOKENS;
            }
            let lane = (first_block + block) * LANES + lane;
            let most = select(start < end, most_of_unit(&mut best) * lengths[lane] * unit, LOWEST);
            add_most(most, lane, plan, scores, first_block + block, position, n, queries);
        }
        position += CUBE_COUNT * PLANES;
    }
}

/// The lane of a block whose maximum [`most_of_unit`] leaves with a unit: bits 4 to 2 of the unit say which of its words,
/// bit 0 which half of the block, bit 1 which half of a word.
#[cube]
fn lane_of(unit: u32) -> usize {
    let word = (unit >> 2) as usize;
    (unit % 2) as usize * comptime!(LANES / 2) + word / 2 * 4 + word % 2 + (unit >> 1) as usize % 2 * 2
}

/// The maximum over all units that hold the same lanes, of one lane: in three steps a unit hands half of its words to
/// another, and takes the other half's.
#[cube]
fn most_of_unit(best: &mut Array<u32>) -> f32 {
    #[unroll]
    for i in 0..3u32 {
        let count = comptime!(PAIRS >> (i + 1));
        let upper = (UNIT_POS_X & comptime!(16 >> i)) != 0;
        #[unroll]
        for pair in 0..count {
            let keep = select(upper, best[pair + count], best[pair]);
            let give = select(upper, best[pair], best[pair + count]);
            best[pair] = larger(keep, plane_shuffle_xor(give, comptime!(16u32 >> i)));
        }
    }
    let most = Pair::reinterpret(larger(best[0], plane_shuffle_xor(best[0], 2u32)));
    f32::cast_from(select((UNIT_POS_X & 2) != 0, most[1], most[0]))
}

/// The larger of two halves, twice. They are words elsewhere: the compiler would keep each half in a register.
#[cube]
fn larger(pair: u32, other: u32) -> u32 {
    u32::reinterpret(max(Pair::reinterpret(pair), Pair::reinterpret(other)))
}
