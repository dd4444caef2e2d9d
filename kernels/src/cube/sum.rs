//! From the maxima of a block of lanes to the scores of the queries whose rows they are.

use cubecl::prelude::*;

use super::{Four, LANE_UNITS, LANES, TOKEN_UNITS, UNIT_LANES, UNITS};

/// Takes the maximum over the units that hold the same lanes, and adds a document's maxima to the scores of the
/// queries.
///
/// `best` are the maxima over a unit's own tokens. `plan` is that of [`crate::Queries`]. `scores` are `[queries,
/// docs]`. Where a query goes on from one block to the next, one unit writes both: what a block adds to, that unit
/// itself wrote.
#[cube]
pub(crate) fn add_maxima(
    best: Four<f32>,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    block: usize,
    doc: usize,
    docs: usize,
    queries: usize,
) {
    let mut maxima = SharedMemory::<f32>::new(comptime!(LANES * TOKEN_UNITS));
    let row = UNIT_POS_Y as usize * LANES;
    #[unroll]
    for i in 0..UNIT_LANES {
        maxima[row + UNIT_POS_X as usize * UNIT_LANES + i] = best[i];
    }
    sync_cube();
    let unit = UNIT_POS as usize;
    if unit < LANES {
        let mut most = maxima[unit];
        #[unroll]
        for row in 1..TOKEN_UNITS {
            most = max(most, maxima[row * LANES + unit]);
        }
        maxima[unit] = most;
    }
    sync_cube();

    let from = block * LANES;
    let first = plan[queries + 1 + block] as usize;
    let mut query = first / UNITS * UNITS + unit;
    if query < first {
        query += UNITS;
    }
    while query < queries && (plan[query] as usize) < from + LANES {
        let start = plan[query] as usize;
        let end = min(plan[query + 1] as usize, from + LANES);
        let mut sum = 0.0f32;
        for lane in max(start, from)..end {
            sum += maxima[lane - from];
        }
        let at = query * docs + doc;
        if start >= from {
            scores[at] = sum;
        } else {
            scores[at] += sum;
        }
        query += UNITS;
    }
    // The next block's maxima go where these are.
    sync_cube();
}

/// The lanes of a unit, as vectors, from that of its block.
#[cube]
pub(crate) fn unit_lanes(row: usize) -> usize {
    row * LANE_UNITS + UNIT_POS_X as usize
}

/// The maximum of the plane's lane `8 t + g`, for unit `4 g + t`: in three steps a unit hands half of its lanes to
/// another, and takes the other half's.
#[cube]
pub(crate) fn most_of_lane(best: &mut Array<f32>, row: u32) -> f32 {
    #[unroll]
    for i in 0..3u32 {
        let count = comptime!(4usize >> i);
        let upper = (row & comptime!(4 >> i)) != 0;
        #[unroll]
        for lane in 0..count {
            let keep = select(upper, best[lane + count], best[lane]);
            let give = select(upper, best[lane], best[lane + count]);
            best[lane] = max(keep, plane_shuffle_xor(give, comptime!(16 >> i)));
        }
    }
    best[0]
}

/// Adds the maxima of a block's lanes, one a unit, to the scores of the queries whose rows they are, as
/// [`add_maxima`] does.
#[cube]
pub(crate) fn add_most(
    most: f32,
    lane: usize,
    plan: &Array<u32>,
    scores: &mut Array<f32>,
    block: usize,
    doc: usize,
    docs: usize,
    queries: usize,
) {
    let from = block * LANES;
    let mut query = plan[queries + 1 + block] as usize;
    let mut start = plan[query] as usize;
    while query < queries && start < from + LANES {
        let end = plan[query + 1] as usize;
        let mut sum = select(lane >= start && lane < end, most, 0.0);
        #[unroll]
        for i in 0..5u32 {
            sum += plane_shuffle_xor(sum, comptime!(16u32 >> i));
        }
        if UNIT_POS_X == 0 {
            let at = query * docs + doc;
            if start >= from {
                scores[at] = sum;
            } else {
                scores[at] += sum;
            }
        }
        start = end;
        query += 1;
    }
}
