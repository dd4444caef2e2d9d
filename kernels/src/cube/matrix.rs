//! MaxSim of documents straight from their packed codes, with matrix units (tensor cores).
//!
//! A plane of 32 units takes a document, and of it 16 tokens at a time, the last one repeated where it has ended. A
//! unit reads its words of two tokens, looks up what they stand for, two codes at a time, and has them in the very
//! registers that the matrix units multiply ([`Fragments`] says why): neither tokens nor sums pass through shared
//! memory, and planes never wait for each other. The rows stay in registers from one document to the next where they
//! fit. The centroids' scores are in 16 bits: at 32 rows a query they are as many bytes as the codes themselves, and
//! read again for each query of a batch, where the codes come from the cache.
//!
//! What 16 tokens take of a unit's time is counted in instructions, so that what is read by an index that was made sure
//! of before is read without a look at lengths: a shard's offsets are ascending and end with its last token, and its
//! tokens name centroids that there are. Offsets themselves are looked up with care, as documents may be any number.
//!
//! The levels are small integers and exact; the rows are rounded to 11 bits, sums are `f32`. A row's product with a
//! token is off by at most about `inverse_norm * (scale * sum(|level| * |x|) / 2^11 + length of the row * length of the
//! longest centroid / 2^14)`, and by what `f32` rounds.
//!
//! No software adapter has matrix units: tests run this kernel on an emulated CUDA device (`emulator`). It has not run on a GPU
//! yet: a client compares it with the other one before it uses it.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::f16;

use super::narrow::{narrow, step};
use super::sum::{add_most, most_of_lane};
use super::{Four, LANES, LOWEST};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Codec, Deal, Fragments, PLANE, PRODUCTS, Queries, STEP_PAIRS, Shard, Table};

/// Tokens that a plane scores at a time.
const TOKENS: usize = 16;
/// Planes of a cube, which share what codes stand for.
pub(crate) const PLANES: usize = 8;
/// Lanes whose sums a unit has: those of a block, over the four units that share a token.
const UNIT_LANES: usize = LANES / 4;
/// Cubes of a launch at most: many times what a GPU runs at once, so that none is left alone at the end.
pub(super) const MOST_CUBES: usize = 8192;
/// Bytes of rows that a launch scores, but for a block at least: they stay in the cache nearest to the units, from
/// where they are fetched again for each document. Codes are read once a launch, which for so many rows is little.
const NEAR_BYTES: usize = 64 << 10;
/// Steps of 16 dimensions whose rows a unit keeps in registers.
const HELD_STEPS: usize = 8;
/// Bytes of shared memory for what codes of 4 bits stand for.
pub(crate) const SHARED: usize = (PLANE << 8) * 4;
/// Buffers of the kernel, and one for sizes.
pub(crate) const BUFFERS: usize = 11;

/// Two values as the matrix units take them. Elsewhere they are a word: the compiler would keep each in a register.
pub(super) type Pair = Vector<f16, Const<2>>;
/// What a unit has of a product.
pub(super) type Sums = Array<Vector<f32, Const<2>>>;

/// What [`super::residual`] returns, for queries in `fragments`.
pub(super) fn residual_matrix<R: Runtime>(
    client: &Client<R>,
    codec: &Codec,
    shard: &Shard,
    queries: &Queries,
    fragments: &Fragments,
    table: &Table,
    docs: &Buffer<u32>,
) -> Result<Buffer<f32>, GpuError> {
    let scores = client.empty("scores", queries.len() * docs.len())?;
    if docs.is_empty() {
        return Ok(scores);
    }
    let deal = Deal::new(codec.words(), codec.bits() as usize);
    let at_once = (NEAR_BYTES / (deal.steps * STEP_PAIRS * PLANE * 4)).max(1);
    for part in table.parts() {
        let narrow = narrow(client, codec, fragments, part)?;
        for from in (0..part.blocks).step_by(at_once) {
            matrix_kernel::launch::<R>(
                client.raw(),
                client.cubes(docs.len().div_ceil(PLANES).min(MOST_CUBES))?,
                cube_dim(),
                deal.width,
                shard.codes().vectors(client, deal.width)?,
                shard.outlines().arg(client)?,
                shard.offsets().arg(client)?,
                docs.arg(client)?,
                fragments.values.arg(client)?,
                narrow.fours(client)?,
                codec.constants().arg(client)?,
                fragments.units.arg(client)?,
                queries.plan().arg(client)?,
                scores.arg(client)?,
                step(codec.reach()),
                1.0,
                codec.centroids(),
                docs.len(),
                part.first_block + from,
                at_once.min(part.blocks - from),
                queries.len(),
                from,
                codec.words(),
                deal,
                codec.bits() as usize,
            );
        }
    }
    Ok(scores)
}

/// The cube of the kernels that score by planes.
pub(super) fn cube_dim() -> CubeDim {
    CubeDim::new_2d(PLANE as u32, PLANES as u32)
}

/// One plane a document, then another. `query` is [`Fragments::values`], `table` `[blocks, centroids, 4]` vectors, of
/// which block `from` is `first_block` of the batch, its scores in units of `step`. `one` is 1: the compiler keeps in a
/// register what it does not know.
#[cube(launch)]
fn matrix_kernel<Width: Size>(
    codes: &Array<Vector<u32, Width>>,
    outlines: &Array<u32>,
    offsets: &Array<u32>,
    docs: &Array<u32>,
    query: &Array<u32>,
    table: &Array<Four<u32>>,
    constants: &Array<f32>,
    units: &Array<f32>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    step: f32,
    one: f32,
    centroids: usize,
    n: usize,
    first_block: usize,
    blocks: usize,
    queries: usize,
    from: usize,
    #[comptime] words: usize,
    #[comptime] deal: Deal,
    #[comptime] bits: usize,
) {
    let mut pairs = SharedMemory::<u32>::new(comptime!(PLANE << (2 * bits)));
    fill(&mut pairs, constants, bits);
    sync_cube();

    let unit = UNIT_POS_X as usize;
    let (row, quarter) = (unit / 4, unit % 4);
    let holds = comptime!(deal.steps <= HELD_STEPS);
    let block_pairs = comptime!(deal.steps * STEP_PAIRS);
    let mut held = Array::<u32>::new(comptime!(if holds { block_pairs } else { 1 }));
    let mut of_block = blocks;

    let mut position = CUBE_POS * PLANES + UNIT_POS_Y as usize;
    let (mut start, mut end) = tokens_of(docs, offsets, position);
    while position < n {
        // Where the next document's tokens are is known before they are needed.
        let next = position + CUBE_COUNT * PLANES;
        let (next_start, next_end) = tokens_of(docs, offsets, next);
        for block in 0..blocks {
            let rows = (first_block + block) * comptime!(block_pairs * PLANE) + unit;
            if holds && of_block != block {
                #[unroll]
                for i in 0..block_pairs {
                    held[i] = query.read_unchecked(rows + comptime!(i * PLANE));
                }
                of_block = block;
            }
            let near_from = (from + block) * centroids * 4 + quarter;
            let mut best = Array::<f32>::new(UNIT_LANES);
            #[unroll]
            for i in 0..UNIT_LANES {
                best[i] = LOWEST;
            }
            let mut first = start;
            while first < end {
                let low = min(first + row, end - 1);
                let high = min(first + row + comptime!(TOKENS / 2), end - 1);
                let (low_outline, high_outline) = (outlines.read_unchecked(low), outlines.read_unchecked(high));
                let low_near = table.read_unchecked((low_outline & 0xffff) as usize * 4 + near_from);
                let high_near = table.read_unchecked((high_outline & 0xffff) as usize * 4 + near_from);
                let mut sums = Sequence::<Sums>::new();
                #[unroll]
                for _ in 0..PRODUCTS {
                    sums.push(zeros());
                }
                multiply(codes, &pairs, low, high, query, rows, &held, &mut sums, words, deal, bits);
                take(&mut best, &sums, 0usize, low_near, low_outline, constants, step, one);
                take(&mut best, &sums, 1usize, high_near, high_outline, constants, step, one);
                first += TOKENS;
            }
            let lane = (first_block + block) * LANES + quarter * UNIT_LANES + row;
            let most = most_of_lane(&mut best, row as u32) * units[lane];
            let most = select(start < end, most, LOWEST);
            add_most(most, lane, plan, scores, first_block + block, position, n, queries);
        }
        position = next;
        start = next_start;
        end = next_end;
    }
}

/// Where the tokens of the document at `position` start and end: nowhere, for one that is not in the shard.
#[cube]
pub(super) fn tokens_of(docs: &Array<u32>, offsets: &Array<u32>, position: usize) -> (usize, usize) {
    let doc = docs[position] as usize;
    (offsets[doc] as usize, offsets[doc + 1] as usize)
}

/// What each two neighbouring codes stand for, `[pairs of codes, PLANE]`: a copy for each unit, so that units that
/// look up different codes never meet in a memory bank.
#[cube]
fn fill(pairs: &mut SharedMemory<u32>, constants: &Array<f32>, #[comptime] bits: usize) {
    let mut i = UNIT_POS as usize;
    while i < comptime!(PLANE << (2 * bits)) {
        let codes = i / PLANE;
        let mut pair = Pair::empty();
        pair[0] = f16::cast_from(constants[codes & comptime!((1 << bits) - 1)]);
        pair[1] = f16::cast_from(constants[codes >> bits]);
        pairs[i] = u32::reinterpret(pair);
        i += comptime!(PLANE * PLANES);
    }
}

/// The `at`-th two codes of a word.
#[cube]
fn pair(pairs: &SharedMemory<u32>, word: u32, #[comptime] at: usize, #[comptime] bits: usize) -> Pair {
    // Shifted to where an index into copies for 32 units has them: one instruction less.
    let mask = comptime!(((1u32 << (2 * bits)) - 1) * PLANE as u32);
    let (from, to) = comptime!(((2 * bits * at) as u32, PLANE.trailing_zeros()));
    let index = if comptime!(from >= to) { word >> comptime!(from - to) } else { word << comptime!(to - from) };
    Pair::reinterpret(pairs[((index & mask) | UNIT_POS_X) as usize])
}

/// Multiplies 16 tokens, of which a unit holds `low` and `high`, with a block of rows.
#[cube]
fn multiply<Width: Size>(
    codes: &Array<Vector<u32, Width>>,
    pairs: &SharedMemory<u32>,
    low: usize,
    high: usize,
    query: &Array<u32>,
    rows: usize,
    held: &Array<u32>,
    sums: &mut Sequence<Sums>,
    #[comptime] words: usize,
    #[comptime] deal: Deal,
    #[comptime] bits: usize,
) {
    let unit = MmaDefinition::<f16, f16, f32>::new(16usize, 8usize, 16usize);
    let quarter = UNIT_POS_X as usize % 4;
    let token_vectors = comptime!(words / deal.width);
    // Otherwise what is beyond a token's last word is another's, or 0, and the rows have zeros there.
    let whole = comptime!(words == deal.turns * deal.width * 4);
    let holds = comptime!(deal.steps <= HELD_STEPS);
    let turn_steps = comptime!(deal.steps / deal.turns);
    #[unroll(holds)]
    for turn in 0..deal.turns {
        let (at_low, at_high) = (low * token_vectors + turn * 4 + quarter, high * token_vectors + turn * 4 + quarter);
        let low_words = if whole { codes.read_unchecked(at_low) } else { codes[at_low] };
        let high_words = if whole { codes.read_unchecked(at_high) } else { codes[at_high] };
        #[unroll]
        for step in 0..turn_steps {
            let word = comptime!(step / (8 / bits));
            let at = comptime!(step % (8 / bits) * 2);
            let mut tokens = Array::<Pair>::new(4usize);
            tokens[0] = pair(pairs, low_words[word], at, bits);
            tokens[1] = pair(pairs, high_words[word], at, bits);
            tokens[2] = pair(pairs, low_words[word], comptime!(at + 1), bits);
            tokens[3] = pair(pairs, high_words[word], comptime!(at + 1), bits);
            #[unroll]
            for product in 0..PRODUCTS {
                let first = (turn * turn_steps + step) * STEP_PAIRS + product * 2;
                let mut lanes = Array::<Pair>::new(2usize);
                if holds {
                    lanes[0] = Pair::reinterpret(held[first]);
                    lanes[1] = Pair::reinterpret(held[first + 1]);
                } else {
                    lanes[0] = Pair::reinterpret(query.read_unchecked(rows + first * PLANE));
                    lanes[1] = Pair::reinterpret(query.read_unchecked(rows + (first + 1) * PLANE));
                }
                unit.execute_inplace(&tokens, &lanes, sums.index_mut(product));
            }
        }
    }
}

#[cube]
pub(super) fn zeros() -> Sums {
    let mut sums = Sums::new(2usize);
    sums[0] = Vector::new(0.0);
    sums[1] = Vector::new(0.0);
    sums
}

/// Takes a token's products with a unit's lanes, the `at`-th of each pair of its sums, into their maxima.
///
/// The scores of two lanes share a word. Each is put behind a one, as the 2^16ths of a float; what is left of the lower
/// one goes behind the upper one, as up to one step more, of which half is taken away again.
#[cube]
fn take(
    best: &mut Array<f32>,
    sums: &Sequence<Sums>,
    #[comptime] at: usize,
    near: Four<u32>,
    outline: u32,
    constants: &Array<f32>,
    step: f32,
    one: f32,
) {
    let ones = u32::reinterpret(one);
    let inverse_norm = f32::reinterpret(((outline >> 3) & comptime!(1023 << 13)) | ones) - 0.5;
    let scale = constants.read_unchecked(comptime!(16usize) + (outline >> 26) as usize) * inverse_norm;
    let span = step * inverse_norm * 65536.0;
    let (lower, upper) = (-1.5 * span, comptime!(-1.5 - 0.5 / 65536.0) * span);
    #[unroll]
    for i in 0..UNIT_LANES {
        let word = near[comptime!(i / 2)];
        let is_lower = comptime!(i % 2 == 0);
        let bits = if is_lower { ((word << 7) & comptime!(0xffff << 7)) | ones } else { (word >> 9) + ones };
        let middle = if is_lower { lower } else { upper };
        let sum = sums.index(comptime!(i / 2))[at];
        best[i] = max(best[i], f32::reinterpret(bits) * span + (sum[comptime!(i % 2)] * scale + middle));
    }
}
