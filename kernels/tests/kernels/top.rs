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
        assert_eq!(got, want, "the best {} of rows of {}", self.k, self.n);
    }
}

fn best(scores: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
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
    for (n, k) in [(1, 1), (5, 10), (1023, 1), (2048, 10), (2049, 1024), (16_384, 7), (16_385, 100), (100_000, 1000)] {
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
