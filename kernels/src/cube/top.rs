//! The best of many scores, so that only they are read back.
//!
//! A cube goes through a strip of scores. It holds the best so far and as many new ones as there is room for in shared
//! memory, sorts them all, and keeps the best; where no new score is good enough it passes on without sorting, which
//! soon is the rule. The best of the strips then are the scores of the next launch, until there is one strip.

use cubecl::prelude::*;

use crate::client::{Buffer, Client, GpuError};

/// How many of the best can be asked for.
pub const MAX_TOP: usize = 1024;

/// Units of a cube.
pub(crate) const UNITS: usize = 256;
/// Scores that are sorted together, a power of 2.
const SORTED: usize = 2048;
/// Bytes of shared memory: scores, positions, and a flag.
pub(crate) const SHARED: usize = SORTED * 8 + 4;
/// Scores of a strip, where there are so many.
const STRIP: usize = 8 * SORTED;

/// The best of each row of scores, on the device.
#[derive(Debug, Clone)]
pub struct Top {
    rows: usize,
    k: usize,
    scores: Buffer<f32>,
    positions: Buffer<u32>,
}

impl Top {
    /// Reads them: for each row its best positions and their scores, best first, equals in the order of their
    /// positions.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn read<R: Runtime>(&self, client: &Client<R>) -> Result<Vec<Vec<(u32, f32)>>, GpuError> {
        if self.k == 0 {
            return Ok(vec![Vec::new(); self.rows]);
        }
        let (positions, scores) = (client.read(&self.positions)?, client.read(&self.scores)?);
        let rows = positions.chunks_exact(self.k).zip(scores.chunks_exact(self.k));
        Ok(rows.map(|(positions, scores)| positions.iter().copied().zip(scores.iter().copied()).collect()).collect())
    }

    /// `[rows, k]`: the positions, for another kernel.
    pub fn positions(&self) -> &Buffer<u32> {
        &self.positions
    }
}

/// Finds the `k` best of each row of `scores`, `[rows, n]`; all, where there are fewer.
///
/// Scores must be finite. Equal ones are taken in the order of their positions.
///
/// # Errors
/// When `k` is more than [`MAX_TOP`], or `n` does not divide the scores; when there are too many rows for one launch.
pub fn top<R: Runtime>(client: &Client<R>, scores: &Buffer<f32>, n: usize, k: usize) -> Result<Top, GpuError> {
    if k > MAX_TOP || (n == 0) != scores.is_empty() || (n > 0 && !scores.len().is_multiple_of(n)) {
        return Err(GpuError::Mismatch(format!("the best {k} of rows of {n} among {} scores", scores.len())));
    }
    let (rows, k) = (scores.len().checked_div(n).unwrap_or(0), k.min(n));
    let limit = client.limits().cubes[1];
    if rows > limit as usize {
        return Err(GpuError::TooMany { what: "rows of scores", count: rows as u64, limit: u64::from(limit) });
    }
    let mut best = Top { rows, k, scores: scores.clone(), positions: client.upload("positions", &[0u32])? };
    let (mut left, mut listed) = (n, false);
    while k > 0 && (left > k || !listed) {
        let strips = left.div_ceil(STRIP);
        let next = Top {
            scores: client.empty("best scores", rows * strips * k)?,
            positions: client.empty("best positions", rows * strips * k)?,
            ..best
        };
        top_kernel::launch::<R>(
            client.raw(),
            CubeCount::Static(strips as u32, rows as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            best.scores.arg(client)?,
            best.positions.arg(client)?,
            next.scores.arg(client)?,
            next.positions.arg(client)?,
            left,
            k,
            listed,
        );
        (best, left, listed) = (next, strips * k, true);
    }
    Ok(best)
}

/// One cube a strip, in `x`, of a row, in `y`. `positions` are those of the scores where they are `listed`, otherwise a
/// score's position is its place in the row. What is missing in the last strip has no score that counts.
#[cube(launch)]
pub(super) fn top_kernel(
    scores: &Array<f32>,
    positions: &Array<u32>,
    best_scores: &mut Array<f32>,
    best_positions: &mut Array<u32>,
    n: usize,
    k: usize,
    #[comptime] listed: bool,
) {
    let mut keys = SharedMemory::<f32>::new(SORTED);
    let mut places = SharedMemory::<u32>::new(SORTED);
    let mut better = SharedMemory::<u32>::new(1usize);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_Y as usize;
    let strip = CUBE_POS_X as usize;
    let end = min(strip * STRIP + STRIP, n);

    let mut i = unit;
    while i < k {
        keys[i] = f32::MIN;
        places[i] = u32::MAX;
        i += UNITS;
    }
    let mut from = strip * STRIP;
    while from < end {
        if unit == 0 {
            better[0] = 0;
        }
        sync_cube();
        i = k + unit;
        while i < SORTED {
            let at = from + i - k;
            if at < end {
                keys[i] = scores[row * n + at];
                if listed {
                    places[i] = positions[row * n + at];
                } else {
                    places[i] = at as u32;
                }
            } else {
                keys[i] = f32::MIN;
                places[i] = u32::MAX;
            }
            if comes_before(keys[i], places[i], keys[k - 1], places[k - 1]) {
                better[0] = 1;
            }
            i += UNITS;
        }
        sync_cube();
        if better[0] == 1 {
            sort(&mut keys, &mut places);
        }
        sync_cube();
        from += SORTED - k;
    }
    let to = (row * CUBE_COUNT_X as usize + strip) * k;
    i = unit;
    while i < k {
        best_scores[to + i] = keys[i];
        best_positions[to + i] = places[i];
        i += UNITS;
    }
}

/// Whether a score comes before another: it is higher, or the same and of a lower position.
#[cube]
fn comes_before(key: f32, place: u32, other_key: f32, other_place: u32) -> bool {
    key > other_key || (key == other_key && place < other_place)
}

/// Sorts [`SORTED`] scores, best first (Batcher's bitonic sorter).
#[cube]
fn sort(keys: &mut SharedMemory<f32>, places: &mut SharedMemory<u32>) {
    let mut width = 2usize;
    while width <= SORTED {
        let mut step = width / 2;
        while step > 0 {
            let mut i = UNIT_POS as usize;
            while i < comptime!(SORTED / 2) {
                let low = i / step * (2 * step) + i % step;
                let high = low + step;
                let (key, other_key) = (keys[low], keys[high]);
                let (place, other_place) = (places[low], places[high]);
                let swapped = comes_before(other_key, other_place, key, place);
                if swapped == ((low & width) == 0) {
                    keys[low] = other_key;
                    keys[high] = key;
                    places[low] = other_place;
                    places[high] = place;
                }
                i += UNITS;
            }
            sync_cube();
            step /= 2;
        }
        width *= 2;
    }
}

/// Launches a cube that no device takes.
#[cfg(all(test, feature = "wgpu"))]
pub(crate) fn launch_too_large<R: Runtime>(client: &Client<R>, positions: &Buffer<u32>) {
    let scores = client.upload("scores", &[0.0f32; 2]).expect("two scores fit");
    let cube = CubeDim::new_1d(client.limits().units + 1);
    let [a, c] = [&scores, &scores].map(|buffer| buffer.arg(client).expect("of this device"));
    let [b, d] = [positions, positions].map(|buffer| buffer.arg(client).expect("of this device"));
    top_kernel::launch::<R>(client.raw(), CubeCount::Static(1, 1, 1), cube, a, b, c, d, 2, 1, true);
}
