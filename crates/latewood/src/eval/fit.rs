//! The weights of a metadata stage, fitted to judged queries.
//!
//! Its signals are computed once, as the stage computes them; what is tried are their weights beside the score so far, whose
//! weight stays: one after the other, from a few values each, as long as that helps (coordinate ascent). One half of the queries
//! chooses, the other is held out and says whether it was luck.

use std::borrow::Cow;
use std::collections::BTreeMap;

use latewood_engine::{DocId, Hit};
use latewood_rerank::{Candidate, Host, Pipeline, Ranker, StageKind};
use serde::Serialize;

use super::metrics::{by_query, mean};
use super::searching::{Questions, rankings};
use crate::cascade::Source;
use crate::error::{Error, Result};
use crate::reader::{Reader, SearchOptions};

/// Weights that are tried.
const WEIGHTS: [f32; 11] = [-0.2, -0.1, -0.05, 0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0];
/// Rounds over all signals at most.
const ROUNDS: usize = 5;
/// What a weight must add to NDCG@10 to be taken.
const LEAST: f64 = 1e-6;

/// What fitted best.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct FitReport {
    /// The stage.
    pub stage: String,
    /// The weight of each signal as it was, and as it fits.
    pub weights: BTreeMap<String, (f32, f32)>,
    /// NDCG@10 of the queries that chose, before and after.
    pub ndcg: (f64, f64),
    /// The same of those held out.
    pub ndcg_held_out: (f64, f64),
    /// Queries.
    pub queries: usize,
}

/// A candidate as the stage gets it: the score so far, made comparable and weighed, and its signals.
struct Row {
    doc: DocId,
    score: f32,
    signals: Vec<f32>,
}

/// Fits the first metadata stage of `pipeline`, whose models `load` loads; `name` says what a passage is called in the judgements.
///
/// # Errors
/// When there is no such stage or too few queries, or a search fails.
pub(super) fn fit<'r>(
    reader: &Reader,
    pipeline: &Pipeline,
    load: &dyn Fn(Pipeline) -> Result<Ranker>,
    questions: &Questions,
    name: &dyn Fn(usize, DocId) -> Vec<Cow<'r, str>>,
) -> Result<FitReport> {
    let none =
        || Error::Pipeline { detail: "it has no metadata stage with signals, whose weights could be fitted".into() };
    let at = pipeline.stages.iter().position(|stage| matches!(stage.kind, StageKind::Metadata(_))).ok_or_else(none)?;
    let mut bare = pipeline.clone();
    bare.stages.truncate(at + 1);
    let StageKind::Metadata(stage) = &mut bare.stages[at].kind else { return Err(none()) };
    let names: Vec<String> = stage.signals.iter().map(latewood_rerank::Signal::called).collect();
    let before: Vec<f32> = stage.signals.iter().map(|signal| signal.weight).collect();
    if names.is_empty() {
        return Err(none());
    }
    // With weights of 1, contributions are the signals themselves.
    stage.signals.iter_mut().for_each(|signal| signal.weight = 1.0);
    (bare.stages[at].top_n, bare.budget_ms) = (None, None);
    bare.stages.iter_mut().for_each(|stage| stage.exit_margin = None);
    let called = bare.stages[at].name.clone();
    let rows = rows(reader, &load(bare)?, questions, &names)?;
    if rows.len() < 2 {
        return Err(Error::TooFewQueries { found: rows.len() });
    }
    let measure = |weights: &[f32], half: usize| ndcg(&rows, weights, questions, name, half);
    let mut weights = before.clone();
    let first = (measure(&weights, 0), measure(&weights, 1));
    let mut best = first.0;
    for _ in 0..ROUNDS {
        let round = best;
        for signal in 0..weights.len() {
            for weight in WEIGHTS {
                let mut tried = weights.clone();
                tried[signal] = weight;
                let found = measure(&tried, 0);
                if found > best + LEAST {
                    (best, weights) = (found, tried);
                }
            }
        }
        if best <= round {
            break;
        }
    }
    let held_out = measure(&weights, 1);
    let weights = names.into_iter().zip(before.into_iter().zip(weights)).collect();
    let (ndcg, ndcg_held_out) = ((first.0, best), (first.1, held_out));
    Ok(FitReport { stage: called, weights, ndcg, ndcg_held_out, queries: rows.len() })
}

/// What each query's candidates are to the stage.
fn rows(reader: &Reader, ranker: &Ranker, questions: &Questions, names: &[String]) -> Result<Vec<Vec<Row>>> {
    let options = SearchOptions::new(usize::MAX);
    let score = |candidate: &Candidate| candidate.signals.get("score").copied().unwrap_or_default();
    let row = |candidate: &Candidate| {
        let signal = |name: &String| candidate.signals.get(name).copied().unwrap_or_default();
        let doc = DocId(candidate.id.parse().ok()?);
        Some(Row { doc, score: score(candidate), signals: names.iter().map(signal).collect() })
    };
    let one = |text: &str| {
        let (mut last, mut failed) = (Vec::new(), None);
        reader.watch_pipeline(text, Source::Search, ranker, &options, &Host::default(), &mut |stage, left| {
            last = left.to_vec();
            if stage.failed {
                failed = Some(format!("stage {}: {}", stage.name, stage.note.as_deref().unwrap_or_default()));
            }
        })?;
        // Weights would be fitted to another pipeline than the one that is meant.
        if let Some(detail) = failed {
            return Err(Error::Pipeline { detail });
        }
        // As they came to the stage: of equals, the one that was before.
        last.sort_by_key(|candidate: &Candidate| candidate.came_as);
        last.sort_by(|a, b| score(b).total_cmp(&score(a)));
        Ok(last.iter().filter_map(row).collect())
    };
    questions.queries.iter().map(|query| one(&query.text)).collect()
}

/// NDCG@10 of every other query, from number `half` on.
fn ndcg<'r>(
    rows: &[Vec<Row>],
    weights: &[f32],
    questions: &Questions,
    name: &dyn Fn(usize, DocId) -> Vec<Cow<'r, str>>,
    half: usize,
) -> f64 {
    let ranked = |rows: &Vec<Row>| {
        let score = |row: &Row| row.score + row.signals.iter().zip(weights).map(|(a, b)| a * b).sum::<f32>();
        let mut hits: Vec<Hit> = rows.iter().map(|row| Hit { doc: row.doc, score: score(row) }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        hits
    };
    let hits: Vec<Vec<Hit>> = rows.iter().map(ranked).collect();
    let run = rankings(&questions.queries, &hits, name);
    let all = by_query(&questions.judgements, &run);
    let chosen = questions.queries.iter().skip(half).step_by(2).filter_map(|query| all.get(&query.id));
    mean(chosen.collect::<Vec<_>>().into_iter()).ndcg_10
}
