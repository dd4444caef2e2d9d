//! How little of an index a search may look at and still find what it should.
//!
//! What scoring every passage finds first is the truth here, so that no judgements are needed, only queries: a user's own,
//! or else sentences out of the index itself. Budgets are tried from the smallest up, and the fastest of those that find
//! enough is chosen by one half of the queries and measured by the other, which says whether it was luck.

use std::time::{Duration, Instant};

use latewood_engine::{DocId, Hit, QueryEmbeddings};
use serde::Serialize;

use super::searching::Percentiles;
use crate::budget::{Budget, Tuned};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::reader::Reader;
use crate::text_index::TextIndex;

/// Centroids a row probes, in each of which passages are scored in growing numbers.
const PROBES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// How many times as many passages are ranked by outlines as are scored.
const SHORTLISTS: [usize; 3] = [2, 4, 8];
/// No query made of the index's own text has more words.
const WORDS: usize = 16;

/// What is wanted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TuneOptions {
    /// Share of the first `k` that scoring every passage finds which shall be found.
    pub recall: f64,
    /// Passages wanted of a search.
    pub k: usize,
    /// What is asked; sentences of the index where there is nothing.
    pub queries: Vec<String>,
    /// How many sentences.
    pub samples: usize,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self { recall: 0.99, k: 10, queries: Vec::new(), samples: 200 }
    }
}

/// A budget, and what it finds in what time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trial {
    /// The budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// Of the queries that budgets are chosen by.
    pub recall: f64,
    /// Of the others.
    pub recall_held_out: f64,
    /// A search without encoding the query.
    pub search_ms: Percentiles,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TuneReport {
    /// The fastest that finds enough; none where every passage is scored anyway.
    pub chosen: Option<Trial>,
    /// As searches went so far.
    pub before: Trial,
    /// All that were tried.
    pub trials: Vec<Trial>,
    /// Queries that were asked.
    pub queries: usize,
    /// Passages of the index.
    pub passages: usize,
    /// Whether the queries are sentences of the index.
    pub sampled: bool,
    /// The options' `k`.
    pub k: usize,
}

impl TuneReport {
    /// What an index remembers of it.
    pub fn tuned(&self) -> Option<Tuned> {
        let chosen = self.chosen?;
        let recall = chosen.recall.min(chosen.recall_held_out);
        Some(Tuned::new(chosen.budget, self.k, recall, self.passages))
    }
}

/// Looks for the fastest budget that finds what is wanted; `progress` is told of searches done and about how many there
/// are.
///
/// # Errors
/// When a search fails, or the index is empty.
pub fn tune(reader: &Reader, options: &TuneOptions, progress: &dyn Fn(usize, usize)) -> Result<TuneReport> {
    let sampled = options.queries.is_empty();
    let texts = if sampled { sentences(reader, options.samples)? } else { options.queries.clone() };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let queries = reader.encoder().encode_queries(&texts)?;
    let queries: Vec<QueryEmbeddings> = queries.into_iter().map(|query| query.embeddings).collect();
    if queries.len() < 2 {
        return Err(Error::TooFewQueries { found: queries.len() });
    }
    let bench = Bench::new(reader, &queries, options.k)?;
    let before = bench.run(reader.budget(options.k))?;
    let mut trials = Vec::new();
    let passages = reader.passages;
    if passages > bench.least() {
        for (at, probes) in PROBES.into_iter().enumerate() {
            progress(at, PROBES.len());
            bench.climb(probes, options.recall, &mut trials)?;
        }
    }
    let enough = trials.iter().filter(|trial: &&Trial| trial.recall >= options.recall);
    let chosen = enough.min_by(|a, b| a.search_ms.p50.total_cmp(&b.search_ms.p50)).copied();
    Ok(TuneReport { chosen, before, trials, queries: queries.len(), passages, sampled, k: options.k })
}

/// Searches that are repeated with one budget after the other.
struct Bench<'a> {
    reader: &'a Reader,
    queries: &'a [QueryEmbeddings],
    k: usize,
    /// What scoring every passage finds.
    truth: Vec<Vec<Hit>>,
}

impl<'a> Bench<'a> {
    fn new(reader: &'a Reader, queries: &'a [QueryEmbeddings], k: usize) -> Result<Self> {
        let mut params = reader.budget(k).params(k);
        params.exhaustive = true;
        let found = reader.searcher.search_batch(queries, &params)?;
        Ok(Self { reader, queries, k, truth: found.into_iter().map(|found| found.hits).collect() })
    }

    /// The fewest passages that are ever scored.
    fn least(&self) -> usize {
        (2 * self.k).max(16)
    }

    /// Tries `probes` with ever more passages, until enough are found, or all are scored anyway.
    fn climb(&self, probes: usize, wanted: f64, trials: &mut Vec<Trial>) -> Result<()> {
        for times in SHORTLISTS {
            let mut rescored = self.least();
            while rescored < 2 * self.reader.passages {
                let trial = self.run(Budget { probes, shortlisted: times * rescored, rescored })?;
                trials.push(trial);
                if trial.recall >= wanted {
                    break;
                }
                rescored *= 2;
            }
        }
        Ok(())
    }

    /// All queries with one budget, twice, of which the faster counts: others may use the machine, too.
    fn run(&self, budget: Budget) -> Result<Trial> {
        let params = budget.params(self.k);
        let (mut times, mut shares) = (vec![Duration::MAX; self.queries.len()], vec![0.0; self.queries.len()]);
        for _ in 0..2 {
            for (at, query) in self.queries.iter().enumerate() {
                let start = Instant::now();
                let found = self.reader.searcher.search(query, &params)?;
                times[at] = times[at].min(start.elapsed());
                shares[at] = share(&found.hits, &self.truth[at]);
            }
        }
        let mean = |skip: usize| {
            let half: Vec<f64> = shares.iter().copied().skip(skip).step_by(2).collect();
            half.iter().sum::<f64>() / half.len().max(1) as f64
        };
        Ok(Trial { budget, recall: mean(0), recall_held_out: mean(1), search_ms: Percentiles::of(times) })
    }
}

/// The share of `wanted` that is in `found`. What scores no less than the last of them is as good as it.
fn share(found: &[Hit], wanted: &[Hit]) -> f64 {
    let Some(last) = wanted.last() else { return 1.0 };
    let good = found.iter().filter(|hit| hit.score >= last.score || wanted.iter().any(|other| other.doc == hit.doc));
    good.count() as f64 / wanted.len() as f64
}

/// A sentence of each of about `count` passages, evenly over the index.
fn sentences(reader: &Reader, count: usize) -> Result<Vec<String>> {
    let files = &reader.catalog().files;
    let step = (reader.passages / count.max(1)).max(1);
    let docs = files.iter().flat_map(|file| file.docs()).step_by(step);
    let mut sentences = Vec::new();
    for (at, doc) in docs.enumerate().take(count) {
        if let Some(passage) = reader.passage(DocId(doc))? {
            let all: Vec<&str> = passage.text.split_terminator(['.', '\n', '?', '!', ';']).collect();
            let long = all.iter().filter(|sentence| sentence.split_whitespace().count() >= 4);
            // Not always the first, which is often a heading that many passages share.
            let long: Vec<&&str> = long.collect();
            let Some(sentence) = long.get(at % long.len().max(1)) else { continue };
            sentences.push(sentence.split_whitespace().take(WORDS).collect::<Vec<_>>().join(" "));
        }
    }
    Ok(sentences)
}

impl TextIndex {
    /// Remembers how much searches shall look at from now on; `None` as is usual.
    ///
    /// # Errors
    /// When another process is writing, or the commit fails.
    pub fn set_tuned(&self, tuned: Option<Tuned>) -> Result<()> {
        let mut writer = self.index.writer()?;
        let mut catalog = Catalog::clone(&*self.newest()?.1);
        catalog.tuned = tuned;
        writer.commit(Some(&catalog.to_payload()?), &())?;
        Ok(())
    }
}
