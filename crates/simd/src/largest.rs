//! The few largest of many, lane by lane.
//!
//! One body, compiled for each instruction set: lanes go together, and there are no branches for one of them.

use crate::query::LANES;

/// How many are found.
pub const LARGEST: usize = 8;

/// For each lane of `dots` `[n, lanes]`, the rows of the [`LARGEST`] largest, best first and equals in any order, into
/// `ids` `[LARGEST, lanes]`; 0 where there are fewer rows.
#[inline(always)]
fn largest(dots: &[f32], lanes: usize, ids: &mut [u32]) {
    for lane in (0..lanes).step_by(LANES) {
        let mut best = [[f32::NEG_INFINITY; LANES]; LARGEST];
        let mut best_ids = [[0u32; LANES]; LARGEST];
        for (id, dots) in (0..).zip(dots.chunks_exact(lanes)) {
            let (mut new, mut new_ids) = ([0.0; LANES], [id; LANES]);
            new.copy_from_slice(&dots[lane..lane + LANES]);
            // Down the ranks, each keeps the larger of two and hands on the other.
            for rank in 0..LARGEST {
                (best[rank], best_ids[rank], new, new_ids) = larger(best[rank], best_ids[rank], new, new_ids);
            }
        }
        for (rank, of_rank) in best_ids.iter().enumerate() {
            ids[rank * lanes + lane..][..LANES].copy_from_slice(of_rank);
        }
    }
}

type Floats = [f32; LANES];
type Ids = [u32; LANES];

/// Lane by lane the larger and its id, then the smaller and its id.
#[inline(always)]
fn larger(a: Floats, a_ids: Ids, b: Floats, b_ids: Ids) -> (Floats, Ids, Floats, Ids) {
    let wins: [bool; LANES] = std::array::from_fn(|i| b[i] > a[i]);
    (
        std::array::from_fn(|i| if wins[i] { b[i] } else { a[i] }),
        std::array::from_fn(|i| if wins[i] { b_ids[i] } else { a_ids[i] }),
        std::array::from_fn(|i| if wins[i] { a[i] } else { b[i] }),
        std::array::from_fn(|i| if wins[i] { a_ids[i] } else { b_ids[i] }),
    )
}

/// [`largest`] without instructions that not every processor has.
pub(crate) fn scalar(dots: &[f32], lanes: usize, ids: &mut [u32]) {
    largest(dots, lanes, ids);
}

/// [`largest`] with AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) fn avx2(dots: &[f32], lanes: usize, ids: &mut [u32]) {
    largest(dots, lanes, ids);
}

/// [`largest`] with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn avx512(dots: &[f32], lanes: usize, ids: &mut [u32]) {
    largest(dots, lanes, ids);
}
