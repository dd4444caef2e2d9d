//! The best of many scores, so that only they are read back.
//!
//! Of very many, those that may be among the best are listed first ([`select_scores()`]). What is left is sorted in pieces
//! by one cube a row: it holds the best so far and as many new ones as there is room for in shared memory, sorts them all,
//! and keeps the best; where no new score is good enough it passes on without sorting.

use cubecl::prelude::*;

use super::select::{Selected, select_scores};
use crate::client::{Buffer, Client, GpuError};

/// How many of the best can be asked for.
pub const MAX_TOP: usize = 1024;

/// Units of a cube.
pub(crate) const UNITS: usize = 256;
/// Scores that are sorted together, a power of 2.
const SORTED: usize = 2048;
/// Bytes of shared memory: scores, positions, and a flag.
pub(crate) const SHARED: usize = SORTED * 8 + 4;
/// Scores of a row that are sorted without being selected from: fewer launches then count for more.
const FEW: usize = 4 * SORTED;

/// The best of each row of scores, on the device.
#[derive(Debug, Clone)]
pub struct Top {
    rows: usize,
    k: usize,
    /// `[rows, 2, k]`: positions, then the bits of their scores. None of no row or for no place.
    best: Option<Buffer<u32>>,
}

/// For each row its best positions and their scores.
pub type BestOfRows = Vec<Vec<(u32, f32)>>;

impl Top {
    /// Reads them: for each row its best positions and their scores, best first, equals in the order of their
    /// positions.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn read<R: Runtime>(&self, client: &Client<R>) -> Result<BestOfRows, GpuError> {
        Ok(Self::read_all(client, &[self])?.remove(0))
    }

    /// Reads several together, which takes the wait for one.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub fn read_all<R: Runtime>(client: &Client<R>, tops: &[&Self]) -> Result<Vec<BestOfRows>, GpuError> {
        let buffers: Vec<&Buffer<u32>> = tops.iter().filter_map(|top| top.best.as_ref()).collect();
        let mut words = client.read_all(&buffers)?.into_iter();
        let ranked = tops.iter().map(|top| match (&top.best, top.k) {
            (Some(_), k) => words.next().unwrap_or_default().chunks_exact(2 * k).map(|row| ranked(row, k)).collect(),
            (None, _) => vec![Vec::new(); top.rows],
        });
        Ok(ranked.collect())
    }
}

fn ranked(row: &[u32], k: usize) -> Vec<(u32, f32)> {
    let (positions, scores) = row.split_at(k);
    positions.iter().zip(scores).map(|(&position, &score)| (position, f32::from_bits(score))).collect()
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
    if k == 0 || rows == 0 {
        return Ok(Top { rows, k, best: None });
    }
    let best = client.empty("best scores", 2 * rows * k)?;
    let selected = n > FEW;
    let (positions, counts) = if selected {
        let Selected { positions, counts } = select_scores(client, scores, n, k)?;
        (positions, counts)
    } else {
        let none = client.upload("positions", &[0u32])?;
        (none.clone(), none)
    };
    top_kernel::launch::<R>(
        client.raw(),
        CubeCount::Static(1, rows as u32, 1),
        CubeDim::new_1d(UNITS as u32),
        scores.arg(client)?,
        positions.arg(client)?,
        counts.arg(client)?,
        best.arg(client)?,
        n,
        k,
        selected,
    );
    Ok(Top { rows, k, best: Some(best) })
}

/// One cube a row, in `y`. Where scores have been selected, `positions` lists them, and `counts` says how many they are.
/// `best` is that of [`Top`].
#[cube(launch)]
fn top_kernel(
    scores: &Array<f32>,
    positions: &Array<u32>,
    counts: &Array<u32>,
    best: &mut Array<u32>,
    n: usize,
    k: usize,
    #[comptime] selected: bool,
) {
    let mut keys = SharedMemory::<f32>::new(SORTED);
    let mut places = SharedMemory::<u32>::new(SORTED);
    let mut better = SharedMemory::<u32>::new(1usize);
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_Y as usize;
    let mut end = n;
    if selected {
        end = min(counts[row] as usize, n);
    }
    // At first there is nothing to keep.
    let mut kept = 0usize;
    let mut from = 0usize;
    while from < end {
        if unit == 0 {
            better[0] = 0;
        }
        sync_cube();
        let mut i = kept + unit;
        while i < SORTED {
            let at = from + i - kept;
            if at < end {
                let mut place = at as u32;
                if selected {
                    place = positions[row * n + at];
                }
                places[i] = place;
                keys[i] = scores[row * n + place as usize];
            } else {
                keys[i] = f32::MIN;
                places[i] = u32::MAX;
            }
            // Both sides are always read, and the last of those kept is not there at first.
            let last = select(kept == 0, i, k - 1);
            if kept == 0 || comes_before(keys[i], places[i], keys[last], places[last]) {
                better[0] = 1;
            }
            i += UNITS;
        }
        sync_cube();
        if better[0] == 1 {
            sort(&mut keys, &mut places);
        }
        sync_cube();
        from += SORTED - kept;
        kept = k;
    }
    let mut i = unit;
    while i < k {
        best[row * 2 * k + i] = places[i];
        best[row * 2 * k + k + i] = u32::reinterpret(keys[i]);
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
    let mut width = 1u32;
    while width <= comptime!(SORTED.trailing_zeros()) {
        let mut step = width;
        while step > 0 {
            step -= 1;
            let mut i = UNIT_POS;
            while i < comptime!(SORTED as u32 / 2) {
                let low = ((i >> step) << (step + 1)) | (i & ((1 << step) - 1));
                let falls = (low >> width) & 1 == 0;
                let (low, high) = (low as usize, (low | (1 << step)) as usize);
                let (key, other_key) = (keys[low], keys[high]);
                let (place, other_place) = (places[low], places[high]);
                if comes_before(other_key, other_place, key, place) == falls {
                    keys[low] = other_key;
                    keys[high] = key;
                    places[low] = other_place;
                    places[high] = place;
                }
                i += UNITS as u32;
            }
            sync_cube();
        }
        width += 1;
    }
}

/// Launches a cube that no device takes.
#[cfg(all(test, feature = "wgpu"))]
pub(crate) fn launch_too_large<R: Runtime>(client: &Client<R>, positions: &Buffer<u32>) {
    let scores = client.upload("scores", &[0.0f32; 2]).expect("two scores fit");
    let cube = CubeDim::new_1d(client.limits().units + 1);
    let scores = scores.arg(client).expect("of this device");
    let [a, b, c] = [positions; 3].map(|buffer| buffer.arg(client).expect("of this device"));
    top_kernel::launch::<R>(client.raw(), CubeCount::Static(1, 1, 1), cube, scores, a, b, c, 2, 1, true);
}
