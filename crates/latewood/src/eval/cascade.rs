//! A pipeline over judged queries: what each stage finds, what it adds, and what it costs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use latewood_engine::{DocId, Hit};
use latewood_rerank::{Candidate, Host, Ranker, StageReport};
use serde::Serialize;

use super::metrics::{Metrics, by_query, mean, precision};
use super::run::Ranking;
use super::searching::{Percentiles, Questions, rankings};
use crate::cascade::Source;
use crate::error::{Error, Result};
use crate::reader::{Reader, SearchOptions};

/// What a stage leaves, over all queries.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct StageMetrics {
    /// The stage's name; `retrieve` is the search.
    pub stage: String,
    /// Of the order that it leaves.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Share of the first that are answers.
    #[serde(rename = "precision@1")]
    pub precision_1: f64,
    /// Of the first 3.
    #[serde(rename = "precision@3")]
    pub precision_3: f64,
    /// Of the first 5.
    #[serde(rename = "precision@5")]
    pub precision_5: f64,
    /// Share of all answers that are among what it leaves: what is lost here no later stage brings back.
    pub recall: f64,
    /// Its gain of NDCG@10 over the stage before.
    pub gain: f64,
    /// Passages that it leaves, on average.
    pub kept: f64,
    /// Share of the queries for which it did what it is there for.
    pub ran: f64,
    /// What it takes.
    pub ms: Percentiles,
    /// Why it failed where it first did, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// What was seen of one stage.
struct Seen {
    name: String,
    hits: Vec<Vec<Hit>>,
    times: Vec<Duration>,
    ran: usize,
    failed: Option<String>,
}

/// What brings candidates in place of a search.
pub(super) struct Given<'a> {
    pub(super) run: &'a HashMap<String, Ranking>,
    /// The passages that the run means by a name, for a query.
    pub(super) passages: &'a dyn Fn(usize, &str) -> Vec<DocId>,
}

/// Asks all questions; a row for what brings candidates and for each stage. `name` says what a passage is called in the
/// judgements.
pub(super) fn stages<'r>(
    reader: &Reader,
    ranker: &Ranker,
    questions: &Questions,
    candidates: Option<&Given<'_>>,
    name: &dyn Fn(usize, DocId) -> Vec<Cow<'r, str>>,
    progress: &dyn Fn(usize),
) -> Result<Vec<StageMetrics>> {
    let mut seen: Vec<Seen> = Vec::new();
    let options = SearchOptions::new(usize::MAX);
    let given = candidates.map(|given| given.of(questions));
    if given.as_ref().is_some_and(|all| all.iter().all(Vec::is_empty)) {
        return Err(Error::Candidates);
    }
    for (at, query) in questions.queries.iter().enumerate() {
        let mut stage = 0;
        let source = given.as_ref().map_or(Source::Search, |all| Source::Given(&all[at]));
        reader.watch_pipeline(&query.text, source, ranker, &options, &Host::default(), &mut |report, left| {
            if seen.len() == stage {
                seen.push(Seen {
                    name: report.name.clone(),
                    hits: Vec::new(),
                    times: Vec::new(),
                    ran: 0,
                    failed: None,
                });
            }
            seen[stage].add(report, left);
            stage += 1;
        })?;
        progress(at + 1);
    }
    let mut before = None;
    let rows = seen.into_iter().map(|seen| {
        let row = seen.metrics(questions, name, before);
        before = Some(row.metrics.ndcg_10);
        row
    });
    Ok(rows.collect())
}

impl Given<'_> {
    /// The passages for each question, with the scores of what the run calls them by.
    fn of(&self, questions: &Questions) -> Vec<Vec<(DocId, f32)>> {
        let of = |(at, id): (usize, &String)| {
            let docs = self.run.get(id).into_iter().flat_map(|ranking| &ranking.docs);
            docs.flat_map(|(name, score)| (self.passages)(at, name).into_iter().map(|doc| (doc, *score))).collect()
        };
        questions.queries.iter().map(|query| &query.id).enumerate().map(of).collect()
    }
}

impl Seen {
    fn add(&mut self, report: &StageReport, left: &[Candidate]) {
        let hit = |candidate: &Candidate| Some(Hit { doc: DocId(candidate.id.parse().ok()?), score: candidate.score });
        self.hits.push(left.iter().filter_map(hit).collect());
        self.times.push(Duration::from_secs_f64(report.ms / 1e3));
        self.ran += usize::from(report.scores.is_some());
        if report.failed && self.failed.is_none() {
            self.failed.clone_from(&report.note);
        }
    }

    fn metrics<'r>(
        self,
        questions: &Questions,
        name: &dyn Fn(usize, DocId) -> Vec<Cow<'r, str>>,
        before: Option<f64>,
    ) -> StageMetrics {
        let queries = &questions.queries;
        let run = rankings(queries, &self.hits, name);
        let judgements = &questions.judgements;
        let metrics = mean(by_query(judgements, &run).values());
        // Of all that is left, however much that is.
        let recall = |(at, hits): (usize, &Vec<Hit>)| {
            let left: HashSet<Cow<'_, str>> = hits.iter().flat_map(|hit| name(at, hit.doc)).collect();
            let answers = || judgements.of(&queries[at].id).filter(|(_, grade)| *grade > 0);
            let found = answers().filter(|(doc, _)| left.contains(*doc)).count();
            found as f64 / answers().count().max(1) as f64
        };
        let recall: f64 = self.hits.iter().enumerate().map(recall).sum();
        let count = queries.len().max(1) as f64;
        let of_runs = |of: &dyn Fn(&str, &Ranking) -> f64| {
            run.iter().map(|(query, ranking)| of(query, ranking)).sum::<f64>() / count
        };
        let at = |depth| of_runs(&|query: &str, ranking: &Ranking| precision(judgements, query, ranking, depth));
        StageMetrics {
            stage: self.name,
            metrics,
            precision_1: at(1),
            precision_3: at(3),
            precision_5: at(5),
            recall: recall / count,
            gain: before.map_or(0.0, |before| metrics.ndcg_10 - before),
            kept: self.hits.iter().map(Vec::len).sum::<usize>() as f64 / count,
            ran: self.ran as f64 / count,
            ms: Percentiles::of(self.times),
            failed: self.failed,
        }
    }
}
