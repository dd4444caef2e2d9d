//! Retrieval metrics, as pytrec_eval computes them: linear gain, discount `log2(rank + 1)`, ideal ranking from all
//! positive judgements, mean over the queries that have one. Recall and reciprocal rank count grades over 0.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::run::Ranking;

/// Which document answers which query, and how well.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgements(HashMap<String, HashMap<String, i64>>);

impl Judgements {
    /// Sets a grade.
    pub fn add(&mut self, query: &str, doc: &str, grade: i64) {
        self.0.entry(query.into()).or_default().insert(doc.into(), grade);
    }

    /// Whether any document answers the query.
    pub fn has_answer(&self, query: &str) -> bool {
        self.0.get(query).is_some_and(|docs| docs.values().any(|&grade| grade > 0))
    }

    /// The judged documents of a query, with their grades.
    pub fn of(&self, query: &str) -> impl Iterator<Item = (&str, i64)> {
        self.0.get(query).into_iter().flatten().map(|(doc, &grade)| (doc.as_str(), grade))
    }

    /// Queries that some document answers.
    pub fn query_count(&self) -> usize {
        self.0.keys().filter(|query| self.has_answer(query)).count()
    }
}

/// The mean metrics of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Normalised discounted cumulative gain of the first 10.
    #[serde(rename = "ndcg@10")]
    pub ndcg_10: f64,
    /// Reciprocal rank of the first answer among the first 10.
    #[serde(rename = "mrr@10")]
    pub mrr_10: f64,
    /// Share of the answers among the first 10.
    #[serde(rename = "recall@10")]
    pub recall_10: f64,
    /// Share of the answers among the first 100.
    #[serde(rename = "recall@100")]
    pub recall_100: f64,
}

/// Scores rankings; a query that has none counts with zero.
pub fn score(judgements: &Judgements, rankings: &HashMap<String, Ranking>) -> Metrics {
    mean(by_query(judgements, rankings).values())
}

/// The mean over queries.
pub(super) fn mean<'m>(all: impl ExactSizeIterator<Item = &'m Metrics> + Clone) -> Metrics {
    let count = all.len().max(1) as f64;
    let mean = |of: fn(&Metrics) -> f64| all.clone().map(of).sum::<f64>() / count;
    Metrics {
        ndcg_10: mean(|m| m.ndcg_10),
        mrr_10: mean(|m| m.mrr_10),
        recall_10: mean(|m| m.recall_10),
        recall_100: mean(|m| m.recall_100),
    }
}

/// The metrics of each query that has an answer, by its name.
pub fn by_query(judgements: &Judgements, rankings: &HashMap<String, Ranking>) -> BTreeMap<String, Metrics> {
    let empty = Ranking::default();
    let one = |(query, docs): (&String, &HashMap<String, i64>)| {
        let ranking = rankings.get(query).unwrap_or(&empty);
        let grades: Vec<i64> = ranking.docs.iter().map(|(doc, _)| docs.get(doc).copied().unwrap_or(0)).collect();
        (query.clone(), of_query(&grades, docs))
    };
    judgements.0.iter().filter(|(query, _)| judgements.has_answer(query)).map(one).collect()
}

/// `grades` of the ranked documents, best first.
fn of_query(grades: &[i64], judged: &HashMap<String, i64>) -> Metrics {
    let mut ideal: Vec<i64> = judged.values().copied().filter(|&grade| grade > 0).collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let answers = ideal.len() as f64;
    let recall = |depth: usize| grades.iter().take(depth).filter(|&&grade| grade > 0).count() as f64 / answers;
    let first = grades.iter().take(10).position(|&grade| grade > 0);
    Metrics {
        ndcg_10: gain(grades) / gain(&ideal),
        mrr_10: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
        recall_10: recall(10),
        recall_100: recall(100),
    }
}

/// Discounted cumulative gain of the first 10.
fn gain(grades: &[i64]) -> f64 {
    let ranked = grades.iter().take(10).enumerate();
    ranked.map(|(at, &grade)| grade.max(0) as f64 / ((at + 2) as f64).log2()).sum()
}

/// The share of the first `depth` of a ranking that are answers.
pub(super) fn precision(judgements: &Judgements, query: &str, ranking: &Ranking, depth: usize) -> f64 {
    let docs = judgements.0.get(query);
    let is_answer = |(doc, _): &&(String, f32)| docs.and_then(|docs| docs.get(doc)).is_some_and(|&grade| grade > 0);
    ranking.docs.iter().take(depth).filter(is_answer).count() as f64 / depth as f64
}

/// The mean share of the first `depth` of `wanted` that is among the first `depth` of `found`.
pub fn overlap(found: &HashMap<String, Ranking>, wanted: &HashMap<String, Ranking>, depth: usize) -> f64 {
    let empty = Ranking::default();
    let one = |(query, wanted)| shared(found.get(query).unwrap_or(&empty), wanted, depth);
    wanted.iter().map(one).sum::<f64>() / wanted.len().max(1) as f64
}

/// The share of the first `depth` of `wanted` that is among the first `depth` of `found`.
pub(super) fn shared(found: &Ranking, wanted: &Ranking, depth: usize) -> f64 {
    let best: Vec<&String> = wanted.docs.iter().take(depth).map(|(doc, _)| doc).collect();
    let shared = found.docs.iter().take(depth).filter(|(doc, _)| best.contains(&doc)).count();
    shared as f64 / best.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(docs: &[&str]) -> Ranking {
        Ranking { docs: docs.iter().enumerate().map(|(at, doc)| (doc.to_string(), -(at as f32))).collect() }
    }

    /// By hand: grades 0, 2, 1 against the ideal 2, 1, 1.
    #[test]
    fn metrics_by_hand() {
        let mut judgements = Judgements::default();
        for (doc, grade) in [("a", 2), ("b", 1), ("c", 1), ("d", 0), ("e", -1)] {
            judgements.add("q", doc, grade);
        }
        judgements.add("unanswered", "a", 0);
        let got = score(&judgements, &HashMap::from([("q".into(), ranking(&["d", "a", "b"]))]));
        let dcg = 2.0 / 3f64.log2() + 1.0 / 2.0;
        let ideal = 2.0 + 1.0 / 3f64.log2() + 1.0 / 2.0;
        assert!((got.ndcg_10 - dcg / ideal).abs() < 1e-12);
        assert_eq!((got.mrr_10, got.recall_10), (0.5, 2.0 / 3.0));
    }

    #[test]
    fn a_query_without_hits_counts() {
        let mut judgements = Judgements::default();
        judgements.add("found", "a", 1);
        judgements.add("lost", "b", 1);
        let got = score(&judgements, &HashMap::from([("found".into(), ranking(&["a"]))]));
        assert_eq!(got, Metrics { ndcg_10: 0.5, mrr_10: 0.5, recall_10: 0.5, recall_100: 0.5 });
    }

    #[test]
    fn overlap_counts_shared_documents() {
        let one = |docs: &[&str]| HashMap::from([("q".to_string(), ranking(docs))]);
        assert_eq!(overlap(&one(&["a", "x", "b"]), &one(&["b", "a"]), 2), 0.5);
        assert_eq!(overlap(&HashMap::new(), &one(&["b"]), 2), 0.0);
    }
}
