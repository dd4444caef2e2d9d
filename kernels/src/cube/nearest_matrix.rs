//! Which centroid a row has the largest dot product with, found with matrix units (tensor cores).
//!
//! A plane of 32 units holds 32 rows in its registers and goes through all centroids, 8 at a time, which come from memory
//! in the order in which the matrix units take them ([`Halves`]). A unit remembers the best of its own products for its
//! 4 rows; at the end the four units that share rows choose.
//!
//! Rows and centroids are rounded to halves, sums are `f32`. Of rows about as long as 1 and centroids not much shorter, the
//! product with the centroid found may lie below the best by two thousandths at most, and by hundreds of times less as a
//! rule. What is shorter than a ten-thousandth has fewer bits than the 11 that others have.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::f16;

use super::Four;
use super::matrix::{Pair, Sums, zeros};
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Centroids, GROUP, Halves, PLANE};

/// Rows of a plane.
const ROWS: usize = 32;
/// Planes of a cube: they go through the same centroids. More would leave registers unused.
const PLANES: usize = 4;
/// Rows that a unit has products of.
const UNIT_ROWS: usize = ROWS / 8;

/// What [`super::nearest`] returns, for the centroids' `halves`.
pub(super) fn nearest_matrix<R: Runtime>(
    client: &Client<R>,
    centroids: &Centroids,
    halves: &[Halves],
    rows: &Buffer<f32>,
) -> Result<Buffer<u32>, GpuError> {
    let n = centroids.rows_of(rows.len())?;
    let (best, dots) = (client.empty("nearest centroids", n)?, client.empty::<f32>("their products", n)?);
    if n == 0 {
        return Ok(best);
    }
    for (number, part) in halves.iter().enumerate() {
        nearest_matrix_kernel::launch::<R>(
            client.raw(),
            client.cubes(n.div_ceil(ROWS * PLANES))?,
            cube_dim(),
            rows.fours(client)?,
            part.values.vectors(client, 2)?,
            dots.arg(client)?,
            best.arg(client)?,
            n,
            part.groups,
            part.first,
            centroids.dim(),
            number > 0,
        );
    }
    Ok(best)
}

pub(super) fn cube_dim() -> CubeDim {
    CubeDim::new_2d(PLANE as u32, PLANES as u32)
}

/// One plane for [`ROWS`] rows. `centroids` are those of [`Halves`], the first of them number `first_centroid`. Where it
/// `goes_on`, `dots` and `best` hold what the centroids before these have come to.
#[cube(launch)]
fn nearest_matrix_kernel(
    rows: &Array<Four<f32>>,
    centroids: &Array<Vector<u32, Const<2>>>,
    dots: &mut Array<f32>,
    best: &mut Array<u32>,
    n: usize,
    groups: usize,
    first_centroid: usize,
    #[comptime] dim: usize,
    #[comptime] goes_on: bool,
) {
    let first = (CUBE_POS * PLANES + UNIT_POS_Y as usize) * ROWS;
    if first < n {
        let steps = comptime!(dim.div_ceil(16));
        let unit = UNIT_POS_X as usize;
        let (group, quarter) = (unit / 4, unit % 4);
        let mut held = Sequence::<Array<u32>>::new();
        #[unroll]
        for i in 0..UNIT_ROWS {
            held.push(row_of(rows, min(first + group + comptime!(i * 8), n - 1), quarter, dim));
        }
        let mut unit_dots = Array::<f32>::new(UNIT_ROWS);
        let mut unit_ids = Array::<u32>::new(UNIT_ROWS);
        #[unroll]
        for i in 0..UNIT_ROWS {
            unit_dots[i] = f32::MIN;
            unit_ids[i] = 0;
        }
        let product = MmaDefinition::<f16, f16, f32>::new(16usize, 8usize, 16usize);
        let mut id = (first_centroid + quarter * 2) as u32;
        let mut from = unit;
        for _ in 0..groups {
            let mut sums = Sequence::<Sums>::new();
            #[unroll]
            for _ in 0..comptime!(UNIT_ROWS / 2) {
                sums.push(zeros());
            }
            #[unroll]
            for step in 0..steps {
                // As many groups as there are were copied.
                let words = centroids.read_unchecked(from + comptime!(step * PLANE));
                let mut own = Array::<Pair>::new(2usize);
                own[0] = Pair::reinterpret(words[0]);
                own[1] = Pair::reinterpret(words[1]);
                #[unroll]
                for half in 0..comptime!(UNIT_ROWS / 2) {
                    let (low, high) = (held.index(comptime!(half * 2)), held.index(comptime!(half * 2 + 1)));
                    let mut both = Array::<Pair>::new(4usize);
                    both[0] = Pair::reinterpret(low[comptime!(step * 2)]);
                    both[1] = Pair::reinterpret(high[comptime!(step * 2)]);
                    both[2] = Pair::reinterpret(low[comptime!(step * 2 + 1)]);
                    both[3] = Pair::reinterpret(high[comptime!(step * 2 + 1)]);
                    product.execute_inplace(&both, &own, sums.index_mut(half));
                }
            }
            #[unroll]
            for i in 0..UNIT_ROWS {
                let dots = sums.index(comptime!(i / 2))[comptime!(i % 2)];
                #[unroll]
                for at in 0..2usize {
                    let wins = dots[at] > unit_dots[i];
                    unit_dots[i] = select(wins, dots[at], unit_dots[i]);
                    unit_ids[i] = select(wins, id + comptime!(at as u32), unit_ids[i]);
                }
            }
            id += comptime!(GROUP as u32);
            from += comptime!(steps * PLANE);
        }
        #[unroll]
        for i in 0..UNIT_ROWS {
            let (mut dot, mut id) = (unit_dots[i], unit_ids[i]);
            #[unroll]
            for bit in 0..2u32 {
                let other = plane_shuffle_xor(dot, comptime!(1u32 << bit));
                let other_id = plane_shuffle_xor(id, comptime!(1u32 << bit));
                let wins = other > dot || (other == dot && other_id < id);
                dot = select(wins, other, dot);
                id = select(wins, other_id, id);
            }
            let row = first + group + comptime!(i * 8);
            if quarter == 0 && row < n {
                if comptime!(goes_on) {
                    // Those before come first among equals.
                    let before = dots[row];
                    id = select(before >= dot, best[row], id);
                    dot = max(before, dot);
                }
                dots[row] = dot;
                best[row] = id;
            }
        }
    }
}

/// A unit's part of a row, as halves: in each step of 16 dimensions four that are neighbours, 0 beyond the last.
#[cube]
fn row_of(rows: &Array<Four<f32>>, row: usize, quarter: usize, #[comptime] dim: usize) -> Array<u32> {
    let steps = comptime!(dim.div_ceil(16));
    let mut words = Array::<u32>::new(comptime!(2 * steps));
    #[unroll]
    for step in 0..steps {
        let at = quarter * steps + step;
        let mut four = Four::<f32>::new(0.0);
        if at < comptime!(dim / 4) {
            four = rows[row * comptime!(dim / 4) + at];
        }
        #[unroll]
        for pair in 0..2usize {
            let mut two = Pair::empty();
            two[0] = f16::cast_from(four[comptime!(pair * 2)]);
            two[1] = f16::cast_from(four[comptime!(pair * 2 + 1)]);
            words[comptime!(step * 2 + pair)] = u32::reinterpret(two);
        }
    }
    words
}
