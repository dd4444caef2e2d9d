//! The best of many scores.

use cubecl::prelude::Runtime;
use latewood_kernels::{Client, MAX_TOP, top};
use rand::RngExt;

use crate::gpus::{Test, on_every_gpu};
use crate::reference::rng;

struct Case {
    scores: Vec<f32>,
    n: usize,
    k: usize,
}

impl Test for Case {
    fn run<R: Runtime>(&self, client: &Client<R>) {
        let scores = client.upload("scores", &self.scores).unwrap();
        let got = top(client, &scores, self.n, self.k).unwrap().read(client).unwrap();
        let want: Vec<Vec<(u32, f32)>> = self.scores.chunks(self.n.max(1)).map(|row| best(row, self.k)).collect();
        let apart = got.iter().flatten().zip(want.iter().flatten()).find(|(got, want)| got != want);
        assert_eq!((apart, got.len()), (None, want.len()), "the best {} of rows of {}", self.k, self.n);
    }
}

fn best(scores: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
    all.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// `distinct` different scores, so that there are ties.
fn random(seed: u64, n: usize, distinct: u32) -> Vec<f32> {
    let mut rng = rng(seed);
    (0..n).map(|_| rng.random_range(0..distinct) as f32 / 7.0 - 10.0).collect()
}

#[test]
fn few_and_many() {
    for (n, k) in [(1, 1), (5, 10), (1023, 1), (2048, 10), (2049, 1024), (8192, 7), (8193, 100), (100_000, 1000)] {
        on_every_gpu(&Case { scores: random(n as u64, n, 1 << 20), n, k });
        on_every_gpu(&Case { scores: random(n as u64, n, 3), n, k });
    }
}

#[test]
fn the_best_come_last() {
    let n = 40_000;
    on_every_gpu(&Case { scores: (0..n).map(|i| i as f32).collect(), n, k: MAX_TOP });
    on_every_gpu(&Case { scores: vec![-3.5e37; n], n, k: 3 });
}

#[test]
fn zeros_are_equal() {
    let n = 20_000;
    let values = [-0.0, 0.0, -1.0, 1e-30, -1e-30];
    for k in [10, 900] {
        on_every_gpu(&Case { scores: (0..n).map(|i| values[i % 5]).collect(), n, k });
        on_every_gpu(&Case { scores: (0..n).map(|i| values[i % 3]).collect(), n, k });
    }
}

#[test]
fn every_row_for_itself() {
    on_every_gpu(&Case { scores: random(1, 7 * 20_000, 1 << 12), n: 20_000, k: 33 });
    on_every_gpu(&Case { scores: random(1, 300 * 3, 1 << 12), n: 3, k: 33 });
}

#[test]
fn none() {
    on_every_gpu(&Case { scores: Vec::new(), n: 0, k: 3 });
}

#[test]
#[ignore = "takes long on software adapters"]
fn millions() {
    let n = 20_000_000;
    on_every_gpu(&Case { scores: random(5, n, 1 << 30), n, k: 10 });
    on_every_gpu(&Case { scores: random(5, n, 1 << 30), n, k: MAX_TOP });
}
