//! What CUDA devices alone run, run on a processor: see `tests/plane`.

use latewood_simd::code_bytes;
use rand::RngExt;

use super::narrow::step;
use super::plane::Emulated;
use super::{LANES, TOKENS, emit};
use crate::layout::{Arranged, Deal, MOST_BYTE, in_groups, in_halves, in_lanes, outlines, pad_rows, plan, reach};
use reference::{Coded, Score, query, rng};

#[path = "../../tests/kernels/reference.rs"]
#[allow(dead_code, reason = "the tests on devices use all of it")]
mod reference;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Documents and queries, as the kernels are given them.
struct Case {
    coded: Coded,
    docs: Vec<u32>,
    queries: Vec<Vec<f32>>,
    arranged: Arranged,
}

impl Case {
    fn new(seed: u64, dim: usize, bits: u32, lens: &[usize], rows: &[usize]) -> Self {
        let mut rng = rng(seed);
        let coded = Coded::random(&mut rng, dim, bits, 70, lens);
        let queries: Vec<Vec<f32>> = rows.iter().map(|&rows| query(&mut rng, rows, dim)).collect();
        let arranged = Arranged::new(&queries.concat(), dim, bits);
        // Some that are not there, too.
        let docs = (0..lens.len() as u32 + 2).rev().chain([u32::MAX]).collect();
        Self { coded, docs, queries, arranged }
    }

    fn centroids(&self) -> usize {
        self.coded.centroid_scales.len()
    }

    fn blocks(&self) -> usize {
        self.arranged.factors.len() / LANES
    }

    fn plan(&self) -> Vec<u32> {
        let ends = self.queries.iter().scan(0, |rows, query| {
            *rows += (query.len() / self.coded.dim) as u32;
            Some(*rows)
        });
        plan(std::iter::once(0).chain(ends).collect())
    }

    /// `[blocks, c, LANES]`
    fn table(&self, kernel: &Emulated) -> Vec<u32> {
        let Coded { dim, centroids, centroid_scales, .. } = &self.coded;
        let order: Vec<Option<usize>> = (0..*dim).map(Some).collect();
        let query = bits(&in_lanes(&self.queries.concat(), *dim, &order));
        let mut buffers = [
            (pad_rows(centroids, *dim), 1),
            (bits(centroid_scales), 1),
            (query, 4),
            (vec![0; self.blocks() * self.centroids() * LANES], 4),
        ];
        let cubes = (self.centroids().div_ceil(TOKENS), self.blocks());
        kernel.run(cubes, &[], &[*dim, self.centroids(), 0], &mut buffers);
        buffers[3].0.clone()
    }

    /// `[blocks, c, LANES / 2]`
    fn narrow(&self, kernel: &Emulated, table: Vec<u32>) -> Vec<u32> {
        let n = table.len() / 4;
        let mut buffers = [(table, 4), (bits(&self.arranged.factors), 4), (vec![0; 2 * n], 2)];
        let steps = 1.0 / step(reach(&self.coded.codec()));
        kernel.run((n.div_ceil(256), 1), &[steps], &[self.centroids(), 0, n], &mut buffers);
        buffers[2].0.clone()
    }

    /// `[queries, docs]`, by so many blocks of rows a launch.
    fn matrix(&self, kernel: &Emulated, narrow: Vec<u32>, at_once: usize) -> Vec<u32> {
        let Coded { dim, bits: own_bits, levels, scales, offsets, ids, factors, codes, .. } = &self.coded;
        let codes = pad_rows(codes, code_bytes(*dim, *own_bits));
        let constants: Vec<f32> = levels.iter().map(|&level| f32::from(level)).chain(scales.iter().copied()).collect();
        let width = Deal::new(codes.len() / ids.len(), *own_bits as usize).width;
        let mut buffers = [
            (codes, width),
            (outlines(ids, factors), 1),
            (offsets.clone(), 1),
            (self.docs.clone(), 1),
            (self.arranged.values.clone(), 1),
            (narrow, 4),
            (bits(&constants), 1),
            (bits(&self.arranged.units), 1),
            (self.plan(), 1),
            (self.no_scores(), 1),
        ];
        let step = step(reach(&self.coded.codec()));
        for from in (0..self.blocks()).step_by(at_once) {
            let blocks = at_once.min(self.blocks() - from);
            let numbers = [self.centroids(), self.docs.len(), from, blocks, self.queries.len(), from];
            // Fewer cubes than documents ask for: each plane takes several.
            kernel.run((2, 1), &[step, 1.0], &numbers, &mut buffers);
        }
        buffers[9].0.clone()
    }

    /// `[blocks, c, LANES / 4]`
    fn bytes(&self, kernel: &Emulated, table: Vec<u32>) -> Vec<u32> {
        let n = table.len() / 4;
        let mut buffers = [(table, 4), (bits(&self.lengths()), 4), (vec![0; n], 1)];
        let steps = MOST_BYTE / reach(&self.coded.codec());
        kernel.run((n.div_ceil(256), 1), &[steps], &[self.centroids(), 0, n], &mut buffers);
        buffers[2].0.clone()
    }

    fn lengths(&self) -> Vec<f32> {
        let rows = self.queries.iter().flat_map(|query| query.chunks_exact(self.coded.dim));
        let mut lengths: Vec<f32> = rows.map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt()).collect();
        lengths.resize(self.blocks() * LANES, 0.0);
        lengths
    }

    /// `[queries, docs]`
    fn sketch(&self, kernel: &Emulated, bytes: Vec<u32>) -> Vec<u32> {
        let Coded { weights, leans, offsets, ids, factors, .. } = &self.coded;
        let (guesses, unit) = in_halves(reach(&self.coded.codec()), weights, leans);
        let mut buffers = [
            (outlines(ids, factors), 1),
            (offsets.clone(), 1),
            (self.docs.clone(), 1),
            (bytes, 4),
            (guesses, 2),
            (bits(&self.lengths()), 1),
            (self.plan(), 1),
            (self.no_scores(), 1),
        ];
        let numbers = [self.centroids(), self.docs.len(), 0, self.blocks(), self.queries.len()];
        kernel.run((2, 1), &[unit], &numbers, &mut buffers);
        buffers[7].0.clone()
    }

    fn no_scores(&self) -> Vec<u32> {
        vec![f32::NAN.to_bits(); self.queries.len() * self.docs.len()]
    }

    fn check(&self, kernel: &str, got: &[u32], want: impl Fn(usize, &[f32]) -> Score) {
        assert_eq!(got.len(), self.queries.len() * self.docs.len());
        for (q, (query, got)) in self.queries.iter().zip(got.chunks(self.docs.len())).enumerate() {
            for (&doc, &got) in self.docs.iter().zip(got) {
                let Coded { dim, bits, .. } = self.coded;
                let what = || format!("{kernel}, {dim} dimensions of {bits} bits, document {doc}, query {q}");
                let got = f32::from_bits(got);
                let doc_tokens = |doc: u32| {
                    self.coded.offsets.get(doc as usize..).is_some_and(|ends| match ends {
                        [start, end, ..] => end > start,
                        _ => false,
                    })
                };
                if !doc_tokens(doc) {
                    assert!(got < -1e29, "{}: {got}", what());
                } else {
                    want(doc as usize, query).check(got, what);
                }
            }
        }
    }
}

/// Documents that end within a tile, with it and after it; without any token, too.
const LENS: &[usize] = &[1, 40, 5, 0, 15, 16, 17, 31, 32, 33, 65, 2, 80, 6, 1];
/// Rows that fill a block, that go on in the next, and many queries in one.
const ROWS: [&[usize]; 3] = [&[32], &[33, 7, 64], &[1; 40]];

fn check_codes(shapes: &[(usize, u32)]) {
    let (Some(table), Some(narrow)) = (Emulated::new(&emit::table()), Emulated::new(&emit::narrow())) else { return };
    for &(dim, bits) in shapes {
        let Some(kernel) = Emulated::new(&emit::matrix(dim, bits as usize)) else { return };
        for (seed, rows) in (0..).zip(ROWS) {
            let case = Case::new(seed, dim, bits, LENS, rows);
            let scores = case.matrix(&kernel, case.narrow(&narrow, case.table(&table)), 2);
            let coded = &case.coded;
            case.check("codes", &scores, |doc, query| coded.score(doc, query).with_slack(coded.rounding(doc, query)));
        }
    }
}

#[test]
fn matrix_units_score_with_rows_in_registers() {
    check_codes(&[(128, 4), (128, 2), (64, 1)]);
}

#[test]
fn matrix_units_score_with_rows_that_registers_do_not_hold() {
    check_codes(&[(256, 4)]);
}

#[test]
fn matrix_units_score_tokens_that_do_not_fill_their_words() {
    check_codes(&[(96, 4), (24, 1)]);
}

#[test]
fn planes_score_outlines() {
    let (Some(table), Some(bytes)) = (Emulated::new(&emit::table()), Emulated::new(&emit::bytes())) else { return };
    let Some(kernel) = Emulated::new(&emit::sketch()) else { return };
    for (seed, rows) in (0..).zip(ROWS) {
        let case = Case::new(seed, 24, 2, LENS, rows);
        let scores = case.sketch(&kernel, case.bytes(&bytes, case.table(&table)));
        let coded = &case.coded;
        case.check("outlines", &scores, |doc, query| coded.outline(doc, query).with_slack(coded.guessing(query)));
    }
}

/// Whether each row's centroid is the nearest, or lies no further below it than halves round.
fn check_nearest(rows: &[f32], centroids: &[f32], dim: usize, found: &[u32]) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for (at, (row, &id)) in rows.chunks_exact(dim).zip(found).enumerate() {
        let dots: Vec<f64> = centroids.chunks_exact(dim).map(|centroid| dot(row, centroid)).collect();
        let best = dots.iter().copied().fold(f64::MIN, f64::max);
        let length = dot(row, row).sqrt();
        let own = dots.get(id as usize).copied().unwrap_or(f64::MIN);
        assert!(own >= best - 2e-3 * length, "row {at} of {dim} dimensions: centroid {id} at {own}, not {best}");
    }
}

#[test]
fn matrix_units_find_the_nearest_centroid() {
    for dim in [8, 24, 96, 128] {
        let (Some(first), Some(next)) =
            (Emulated::new(&emit::nearest_matrix(dim, false)), Emulated::new(&emit::nearest_matrix(dim, true)))
        else {
            return;
        };
        for (n, count) in [(1, 1), (70, 33), (300, 97)] {
            let mut rng = rng((dim + n) as u64);
            let row = |length: f32| -> Vec<f32> {
                let values: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0f32..1.0)).collect();
                let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt() / length;
                values.into_iter().map(|x| x / norm).collect()
            };
            let mut all: Vec<f32> = std::iter::repeat_with(|| 1.0).take(n + count).flat_map(row).collect();
            let centroids = all.split_off(n * dim);
            let mut buffers =
                [(bits(&all), 4), (in_groups(&centroids, dim), 2), (vec![0; n], 1), (vec![u32::MAX; n], 1)];
            let cubes = (n.div_ceil(128), 1);
            first.run(cubes, &[], &[n, count.div_ceil(8), 0], &mut buffers);
            check_nearest(&all, &centroids, dim, &buffers[3].0);
            let whole = buffers[3].0.clone();

            // In two parts, and of equals the first.
            let cut = count / 2;
            let (before, after) = centroids.split_at(cut * dim);
            if cut > 0 {
                buffers[1].0 = in_groups(before, dim);
                first.run(cubes, &[], &[n, cut.div_ceil(8), 0], &mut buffers);
                buffers[1].0 = in_groups(&[after, before].concat(), dim);
                next.run(cubes, &[], &[n, count.div_ceil(8), cut], &mut buffers);
                assert_eq!(buffers[3].0, whole);
            }
        }
    }
}
