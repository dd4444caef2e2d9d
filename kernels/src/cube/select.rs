//! Which of many scores may be among the best, found by counting digits (a radix selection): so that few are sorted.
//!
//! A score's key is a number that is larger where the score is. The scores are counted by the first digit of their keys;
//! then those whose first digit is that of the k-th best, by their second; all whose two digits are not less are listed.
//! The digits are 22 bits of a float, so that hardly more are listed than are wanted, unless very many are equal: then one
//! cube goes through all of these.

use cubecl::prelude::*;

use crate::client::{Buffer, Client, GpuError};

/// Units of a cube.
const UNITS: usize = 256;
/// Values of a digit.
const BINS: usize = 1 << DIGIT;
const DIGIT: u32 = 11;
/// Bins that a unit adds up.
const UNIT_BINS: usize = BINS / UNITS;
/// Scores that a cube takes.
const STRIP: usize = 4096;

/// Scores that may be among the best of their row.
pub(super) struct Selected {
    /// `[rows, n]`: of each row the positions of its first so many, in no order.
    pub(super) positions: Buffer<u32>,
    /// `[rows]`: how many they are.
    pub(super) counts: Buffer<u32>,
}

/// The scores of each row of `scores`, `[rows, n]`, that may be among its `k` best; `k` is 1 at least and `n` at most.
pub(super) fn select_scores<R: Runtime>(
    client: &Client<R>,
    scores: &Buffer<f32>,
    n: usize,
    k: usize,
) -> Result<Selected, GpuError> {
    let (rows, strips, limit) = (scores.len() / n, n.div_ceil(STRIP), client.limits().cubes[0]);
    if strips > limit as usize {
        return Err(GpuError::TooMany {
            what: "scores of a row",
            count: n as u64,
            limit: u64::from(limit) * STRIP as u64,
        });
    }
    let zeros = vec![0u32; rows * BINS];
    let (firsts, seconds) = (client.upload("counts", &zeros)?, client.upload("counts", &zeros)?);
    let counts = client.upload("counts", &zeros[..rows])?;
    let positions = client.empty("positions", scores.len())?;
    let cubes = || CubeCount::Static(strips as u32, rows as u32, 1);
    let units = CubeDim::new_1d(UNITS as u32);
    for (counted, second) in [(&firsts, false), (&seconds, true)] {
        count_kernel::launch::<R>(
            client.raw(),
            cubes(),
            units,
            scores.arg(client)?,
            // What has been counted before; nothing is read of it the first time.
            if second { firsts.arg(client)? } else { seconds.arg(client)? },
            counted.arg(client)?,
            n,
            k,
            second,
        );
    }
    list_kernel::launch::<R>(
        client.raw(),
        cubes(),
        units,
        scores.arg(client)?,
        firsts.arg(client)?,
        seconds.arg(client)?,
        counts.arg(client)?,
        positions.arg(client)?,
        n,
        k,
    );
    Ok(Selected { positions, counts })
}

/// One cube a strip, in `x`, of a row, in `y`. `firsts` and `counted` are `[rows, BINS]`.
#[cube(launch)]
fn count_kernel(
    scores: &Array<f32>,
    firsts: &Array<u32>,
    counted: &mut Array<Atomic<u32>>,
    n: usize,
    k: usize,
    #[comptime] second: bool,
) {
    let counts = SharedMemory::<Atomic<u32>>::new(BINS);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_Y as usize;
    #[unroll]
    for i in 0..UNIT_BINS {
        counts[unit + i * UNITS].store(0);
    }
    let mut first = 0u32;
    if second {
        let (digit, _) = digit_of(firsts, row, k as u32);
        first = digit;
    }
    sync_cube();
    let end = min(CUBE_POS_X as usize * STRIP + STRIP, n);
    let mut at = CUBE_POS_X as usize * STRIP + unit;
    while at < end {
        let key = key_of(scores[row * n + at]);
        if second {
            if key >> comptime!(32 - DIGIT) == first {
                counts[((key >> comptime!(32 - 2 * DIGIT)) & comptime!(BINS as u32 - 1)) as usize].fetch_add(1);
            }
        } else {
            counts[(key >> comptime!(32 - DIGIT)) as usize].fetch_add(1);
        }
        at += UNITS;
    }
    sync_cube();
    #[unroll]
    for i in 0..UNIT_BINS {
        let bin = unit + i * UNITS;
        let count = counts[bin].load();
        if count > 0 {
            counted[row * BINS + bin].fetch_add(count);
        }
    }
}

/// As [`count_kernel`], after both.
#[cube(launch)]
fn list_kernel(
    scores: &Array<f32>,
    firsts: &Array<u32>,
    seconds: &Array<u32>,
    counts: &mut Array<Atomic<u32>>,
    positions: &mut Array<u32>,
    n: usize,
    k: usize,
) {
    let row = CUBE_POS_Y as usize;
    let (first, left) = digit_of(firsts, row, k as u32);
    let (second, _) = digit_of(seconds, row, left);
    let least = (first << DIGIT) | second;
    let end = min(CUBE_POS_X as usize * STRIP + STRIP, n);
    let mut at = CUBE_POS_X as usize * STRIP + UNIT_POS as usize;
    while at < end {
        if key_of(scores[row * n + at]) >> comptime!(32 - 2 * DIGIT) >= least {
            let place = counts[row].fetch_add(1);
            positions[row * n + place as usize] = at as u32;
        }
        at += UNITS;
    }
}

/// A number that is larger where the score is, and the same where it is equal.
#[cube]
fn key_of(score: f32) -> u32 {
    let bits = u32::reinterpret(score);
    let key = select(bits >> 31 == 1, !bits, bits | 0x8000_0000u32);
    // Otherwise 0 would be larger than its negative.
    select(score == 0.0, 0x8000_0000u32, key)
}

/// The digit of the `k`-th best of what has been `counted` of a row, and the place that it has among those of that digit.
#[cube]
fn digit_of(counted: &Array<u32>, row: usize, k: u32) -> (u32, u32) {
    let mut sums = SharedMemory::<u32>::new(UNITS);
    let mut found = SharedMemory::<u32>::new(2usize);
    let unit = UNIT_POS as usize;
    let from = row * BINS + unit * UNIT_BINS;
    let mut own = 0u32;
    #[unroll]
    for i in 0..UNIT_BINS {
        own += counted[from + i];
    }
    sums[unit] = own;
    sync_cube();
    // What this unit's bins and all higher ones have counted.
    #[unroll]
    for i in 0..8u32 {
        let other = unit + comptime!(1usize << i);
        let mut more = 0u32;
        if other < UNITS {
            more = sums[other];
        }
        sync_cube();
        sums[unit] = sums[unit] + more;
        sync_cube();
    }
    let upto = sums[unit];
    if upto >= k && upto - own < k {
        let mut left = k - (upto - own);
        let mut bin = from + comptime!(UNIT_BINS - 1);
        while counted[bin] < left {
            left -= counted[bin];
            bin -= 1;
        }
        found[0] = (bin - row * BINS) as u32;
        found[1] = left;
    }
    sync_cube();
    let result = (found[0], found[1]);
    sync_cube();
    result
}
