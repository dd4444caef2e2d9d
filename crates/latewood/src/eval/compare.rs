//! Whether one run is better than another, or only luckier.
//!
//! Both answer the same queries, so their scores are compared query by query: Fisher's randomization test, two-sided, as
//! Smucker, Allan and Carterette recommend ("A Comparison of Statistical Significance Tests for Information Retrieval
//! Evaluation", 2007). If the two were alike, each query's difference might as well have the other sign; the p-value is
//! how often a random choice of signs gives a mean as far from zero as the one found.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::metrics::{Judgements, Metrics, by_query};
use super::run::Ranking;

/// Choices of signs that are tried: a p-value of 0.05 is right to within 0.002.
const ROUNDS: u32 = 50_000;
const SEED: u64 = 0x005e_ed0f_517e_5717;

/// How a run does beside another, by NDCG@10.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The mean of this run less that of the other.
    pub difference: f64,
    /// How often chance alone gives as much.
    pub p_value: f64,
    /// Queries that it answers better.
    pub better: usize,
    /// Worse.
    pub worse: usize,
    /// Alike.
    pub same: usize,
}

/// Compares `run` with `other` over the queries that have an answer.
pub fn compare(
    judgements: &Judgements,
    run: &HashMap<String, Ranking>,
    other: &HashMap<String, Ranking>,
) -> Comparison {
    let (ours, theirs) = (by_query(judgements, run), by_query(judgements, other));
    let ndcg = |metrics: Option<&Metrics>| metrics.map_or(0.0, |metrics| metrics.ndcg_10);
    // In the order of the queries' names: the same runs give the same p-value.
    let differences: Vec<f64> = ours.iter().map(|(query, one)| one.ndcg_10 - ndcg(theirs.get(query))).collect();
    let count = |wanted: fn(f64) -> bool| differences.iter().filter(|difference| wanted(**difference)).count();
    Comparison {
        difference: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
        p_value: p_value(&differences),
        better: count(|difference| difference > 0.0),
        worse: count(|difference| difference < 0.0),
        same: count(|difference| difference == 0.0),
    }
}

fn p_value(differences: &[f64]) -> f64 {
    let found = differences.iter().sum::<f64>().abs();
    let differences: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut as_far = 0;
    for _ in 0..ROUNDS {
        let mut sum = 0.0;
        for some in differences.chunks(64) {
            let signs = random.random::<u64>();
            sum += some.iter().zip(0..).map(|(x, at)| if signs >> at & 1 == 0 { *x } else { -x }).sum::<f64>();
        }
        // Sums in another order differ in their last digits.
        as_far += u32::from(sum.abs() >= found - 1e-9);
    }
    // The choice that was found is one of them.
    f64::from(as_far + 1) / f64::from(ROUNDS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_all_signs() {
        // Of the 2^4 choices of signs two give a sum of at least 10, of 2^5 with one against it: +-(1+2+3+4) and so on.
        assert!((p_value(&[1.0, 2.0, 3.0, 4.0]) - 2.0 / 16.0).abs() < 0.006);
        // 15 - 2 * 1 = 13, 15: four choices of 32.
        assert!((p_value(&[-1.0, 2.0, 3.0, 4.0, 5.0]) - 4.0 / 32.0).abs() < 0.006);
        assert_eq!(p_value(&[0.0; 9]), 1.0);
        assert_eq!(p_value(&[]), 1.0);
        assert!(p_value(&[0.1; 100]) < 0.001);
    }

    #[test]
    fn queries_are_paired() {
        let mut judgements = Judgements::default();
        (0..20).for_each(|n| judgements.add(&format!("q{n:02}"), "right", 1));
        let ranking = |docs: &[&str]| Ranking { docs: docs.iter().map(|doc| (doc.to_string(), 0.0)).collect() };
        let run = |good: usize| -> HashMap<String, Ranking> {
            let one = |n: usize| (format!("q{n:02}"), ranking(if n < good { &["right"] } else { &["wrong", "right"] }));
            (0..20).map(one).collect()
        };
        let got = compare(&judgements, &run(15), &run(5));
        assert_eq!((got.better, got.worse, got.same), (10, 0, 10));
        assert!((got.difference - 0.5 * (1.0 - 1.0 / 3f64.log2())).abs() < 1e-9 && got.p_value < 0.01, "{got:?}");
        assert_eq!(compare(&judgements, &run(5), &run(5)).p_value, 1.0);
        // A query that a run does not answer counts with zero.
        assert_eq!(compare(&judgements, &run(20), &HashMap::new()).difference, 1.0);
    }
}
