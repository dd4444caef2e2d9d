//! Token-aware clustering: rows of one vocabulary id are clustered by themselves (TACHIOM, SIGIR 2026).
//!
//! Rows of one token lie near each other, so that a row meets the few centroids of its token instead of all of them, and
//! a rare token is not drawn to the centroids of frequent ones. How many centroids a token gets grows with how often it
//! is there and how far its rows lie apart. Three things differ from the paper, whose indexes have more centroids than
//! the vocabulary has tokens:
//!
//! * tokens worth less than one centroid are clustered together, with as many rows a centroid as there are on average;
//! * a token's budget is `frequency^0.75 * variance`, nearer to what its rows weigh in the squared error than the paper's
//!   `sqrt(frequency) * variance`: measured, the latter finds less (BENCHMARKS.md);
//! * a pass over all rows follows, which makes up for ids that say little.
//!
//! Ids serve for training only: a row is coded with the nearest centroid of all, whatever token it is.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::kmeans;
use crate::backend::Backend;
use crate::error::{Error, Result};

/// Passes over the rows of each group, which lie together from the start.
const GROUP_ITERATIONS: usize = 4;
/// Passes over all rows then: groups meet other groups' centroids.
const ITERATIONS: usize = 1;
/// What a token's number of rows counts for.
const FREQUENCY_POWER: f64 = 0.75;
/// Groups between two looks at whether to stop.
const STEP_GROUPS: usize = 256;

/// Rows that are clustered together, and their part of the centroids.
#[derive(Debug, Clone)]
struct Group {
    rows: Range<usize>,
    weight: f64,
}

impl Group {
    fn values<'a>(&self, rows: &'a [f32], dim: usize) -> &'a [f32] {
        &rows[self.rows.start * dim..self.rows.end * dim]
    }
}

/// `count` centroids `[count, d]` of `rows` `[n, d]`, `count <= n`, whose tokens are `ids` `[n]`; rows are put in another
/// order. `step` hears of finished passes and may cancel.
pub(super) fn cluster(
    rows: &mut [f32],
    ids: &[u32],
    dim: usize,
    count: usize,
    backend: &dyn Backend,
    rng: &mut ChaCha8Rng,
    mut step: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<f32>> {
    let groups = group(rows, ids, dim, count);
    let budgets = share_out(&groups, count);
    let tasks: Vec<(Group, usize, u64)> = groups.into_iter().zip(budgets).map(|(g, k)| (g, k, rng.random())).collect();
    let mut centroids = Vec::with_capacity(count * dim);
    // Groups are many and small, and each thread has its own: no work for a device.
    let cpu = backend.cpu();
    for tasks in tasks.chunks(STEP_GROUPS) {
        if !step(0, ITERATIONS + 1) {
            return Err(Error::Cancelled);
        }
        let clustered = tasks.par_iter().map(|(group, count, seed)| {
            let mut rng = ChaCha8Rng::seed_from_u64(*seed);
            // One centroid is the mean, at once.
            let passes = if *count == 1 { 1 } else { GROUP_ITERATIONS };
            kmeans::cluster(group.values(rows, dim), dim, *count, passes, cpu, &mut rng, |_, _| true)
        });
        clustered.collect::<Result<Vec<_>>>()?.into_iter().for_each(|own| centroids.extend(own));
    }
    kmeans::improve(rows, dim, centroids, ITERATIONS, backend, rng, |done, of| step(done + 1, of + 1))
}

/// Brings the rows of each id together, and those of all ids worth less than one of `count` centroids to the front.
fn group(rows: &mut [f32], ids: &[u32], dim: usize, count: usize) -> Vec<Group> {
    let mut order: Vec<u32> = (0..ids.len() as u32).collect();
    order.sort_by_key(|&row| ids[row as usize]);
    let tokens: Vec<&[u32]> = order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]).collect();
    let weights: Vec<f64> = tokens.par_iter().map(|token| weight(rows, dim, token)).collect();
    let one = weights.iter().sum::<f64>() / count as f64;
    let (own, rare): (Vec<_>, Vec<_>) = tokens.into_iter().zip(weights).partition(|&(_, weight)| weight >= one);
    let rare: Vec<u32> = rare.into_iter().flat_map(|(token, _)| token).copied().collect();
    // As many of the centroids as of the rows.
    let others = (ids.len() - rare.len()).max(1);
    let weight = own.iter().map(|(_, weight)| weight).sum::<f64>().max(1.0) * rare.len() as f64 / others as f64;
    let mut groups = Vec::with_capacity(own.len() + 1);
    if !rare.is_empty() {
        groups.push(Group { rows: 0..rare.len(), weight });
    }
    let mut order = rare;
    for (token, weight) in own {
        groups.push(Group { rows: order.len()..order.len() + token.len(), weight });
        order.extend_from_slice(token);
    }
    reorder(rows, dim, &mut order);
    groups
}

/// What the rows of a token weigh: their number, and their variance around their mean.
fn weight(rows: &[f32], dim: usize, token: &[u32]) -> f64 {
    let mut sum = vec![0.0f32; dim];
    for &row in token {
        sum.iter_mut().zip(&rows[row as usize * dim..][..dim]).for_each(|(s, x)| *s += x);
    }
    let n = token.len() as f64;
    // Rows have unit length.
    let variance = 1.0 - sum.iter().map(|&s| (f64::from(s) / n).powi(2)).sum::<f64>();
    n.powf(FREQUENCY_POWER) * variance.max(1e-3)
}

/// Puts row `order[i]` of `rows` in place `i`, along the cycles of `order`, which is used up: a sample is large.
fn reorder(rows: &mut [f32], dim: usize, order: &mut [u32]) {
    for start in 0..order.len() {
        let mut to = start;
        let first = rows[start * dim..][..dim].to_vec();
        loop {
            // A place that has its row says so by its own number.
            let from = std::mem::replace(&mut order[to], to as u32) as usize;
            if from == start {
                rows[to * dim..][..dim].copy_from_slice(&first);
                break;
            }
            rows.copy_within(from * dim..(from + 1) * dim, to * dim);
            to = from;
        }
    }
}

/// How many of `count` centroids each group gets: one at least, no more than it has rows, and otherwise by weight (the
/// method of Sainte-Lague: the next one goes where it serves most).
fn share_out(groups: &[Group], count: usize) -> Vec<usize> {
    let mut counts = vec![1; groups.len()];
    let claim = |at: usize, count: usize| Claim { worth: groups[at].weight / (count as f64 + 0.5), at };
    let mut claims: BinaryHeap<Claim> = (0..groups.len()).map(|at| claim(at, 1)).collect();
    let mut left = count.saturating_sub(groups.len());
    while left > 0
        && let Some(Claim { at, .. }) = claims.pop()
    {
        if counts[at] < groups[at].rows.len() {
            counts[at] += 1;
            left -= 1;
            claims.push(claim(at, counts[at]));
        }
    }
    counts
}

/// A group's claim to one more centroid; of equal ones the first comes first.
#[derive(Debug)]
struct Claim {
    worth: f64,
    at: usize,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then_with(|| other.at.cmp(&self.at))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Claim {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::CpuBackend;

    const DIM: usize = 16;

    /// A unit vector near `around`, off by `noise`.
    fn near(around: usize, noise: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut row: Vec<f32> = (0..DIM).map(|_| rng.random_range(-noise..noise)).collect();
        row[around] += 1.0;
        kmeans::direction(&row).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// The mean over `rows` of the dot product with the nearest of `centroids`.
    fn nearness(rows: &[f32], centroids: &[f32]) -> f32 {
        let nearest = |row| centroids.chunks_exact(DIM).map(|c| dot(row, c)).fold(-1.0, f32::max);
        rows.chunks_exact(DIM).map(nearest).sum::<f32>() * DIM as f32 / rows.len() as f32
    }

    /// 6,000 rows of two frequent tokens that spread far, and 20 of a rare one that lie close together.
    fn rows(seed: u64) -> (Vec<f32>, Vec<u32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ids: Vec<u32> = (0..6020).map(|at| if at % 301 == 0 { 9 } else { at % 2 }).collect();
        let noise = |id| if id == 9 { 0.02 } else { 0.55 };
        let rows = ids.iter().flat_map(|&id| near(id as usize, noise(id), &mut rng)).collect();
        (rows, ids)
    }

    #[test]
    fn a_rare_token_keeps_its_centroid() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..5 {
            let (mut rows, ids) = rows(seed);
            let rare: Vec<f32> = near(9, 1e-6, &mut ChaCha8Rng::seed_from_u64(seed));
            let (backend, mut rng) = (CpuBackend::new(), ChaCha8Rng::seed_from_u64(seed));
            let plain = kmeans::cluster(&rows, DIM, 32, 8, &backend, &mut rng, |_, _| true).unwrap();
            let aware = cluster(&mut rows, &ids, DIM, 32, &backend, &mut rng, |_, _| true).unwrap();
            assert_eq!(aware.len(), 32 * DIM);
            kept += usize::from(nearness(&rare, &aware) > 0.99);
            lost += usize::from(nearness(&rare, &plain) < 0.9);
        }
        assert!(kept == 5 && lost > 0, "kept {kept} of 5, without ids lost {lost}");
    }

    #[test]
    fn ids_that_say_nothing_do_little_harm() {
        let (rows, _) = rows(1);
        let backend = CpuBackend::new();
        let n = rows.len() / DIM;
        let plain =
            kmeans::cluster(&rows, DIM, 64, 8, &backend, &mut ChaCha8Rng::seed_from_u64(1), |_, _| true).unwrap();
        let by_chance = (0..n as u32).map(|at| at.wrapping_mul(2_654_435_769) >> 27);
        for ids in [vec![7; n], (0..n as u32).collect(), by_chance.collect()] {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let aware = cluster(&mut rows.clone(), &ids, DIM, 64, &backend, &mut rng, |_, _| true).unwrap();
            let (aware, plain) = (nearness(&rows, &aware), nearness(&rows, &plain));
            assert!(aware > plain - 0.04, "{aware} and {plain}");
        }
    }

    #[test]
    fn rows_are_put_in_order() {
        let mut rows: Vec<f32> = (0..7).flat_map(|row| [row as f32; 2]).collect();
        let order = [3, 1, 0, 6, 5, 4, 2];
        reorder(&mut rows, 2, &mut order.clone());
        assert_eq!(rows, order.iter().flat_map(|&row| [row as f32; 2]).collect::<Vec<_>>());
    }

    #[test]
    fn centroids_are_shared_out_by_weight() {
        let groups = [(0..3, 1000.0), (3..1003, 60.0), (1003..2003, 30.0), (2003..2004, 0.0)];
        let groups = groups.map(|(rows, weight)| Group { rows, weight });
        assert_eq!(share_out(&groups, 94), [3, 60, 30, 1]);
        assert_eq!(share_out(&groups, 4), [1, 1, 1, 1]);
        assert_eq!(share_out(&groups, 2004), [3, 1000, 1000, 1], "as many as there are rows");
    }

    #[test]
    fn any_number_of_centroids_can_be_asked_for() {
        let (rows, ids) = rows(3);
        for n in [1, 2, 5, 700] {
            for count in 1..=n.min(40) {
                let mut rng = ChaCha8Rng::seed_from_u64(1);
                let (mut rows, backend) = (rows[..n * DIM].to_vec(), CpuBackend::new());
                let found = cluster(&mut rows, &ids[..n], DIM, count, &backend, &mut rng, |_, _| true).unwrap();
                assert_eq!(found.len(), count * DIM, "{count} of {n} rows");
            }
        }
    }
}
