//! Searching by a pipeline: what the search finds, put in order by stages ([`latewood_rerank`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use latewood_encoder::Encoder;
use latewood_engine::{DocId, Prefilter, QueryEmbeddings, SearchParams};
use latewood_rerank::{
    Candidate, Distribution, Host, RETRIEVE, Ranked, Ranker, Report, Scorers, StageKind, StageReport,
};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::intake::above;
use crate::keywords;
use crate::mode::Mode;
use crate::ranking::{Asked, Ranked as Found, Ranking};
use crate::reader::{Answer, Reader, SearchOptions, Unpacked, encode_queries, weight};
use crate::score_texts::score_texts;

/// What stages gave a hit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StageScores {
    /// By the stage's name; `retrieve` is the search's.
    pub scores: BTreeMap<String, f32>,
    /// What each signal of a metadata stage added there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, f32>,
    /// Its place before any stage, from 0.
    pub came_as: usize,
}

/// What a pipeline found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PipelineAnswer {
    /// Hits, each with what stages gave it; figures and times are those of the search that brought the candidates.
    pub answer: Answer,
    /// What stages did.
    pub report: Report,
    /// Passages that the search brought.
    pub retrieved: usize,
    /// Milliseconds that it took, encoding the query among them.
    pub retrieve_ms: f64,
}

/// Where the candidates of a pipeline come from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The search that the pipeline says.
    Search,
    /// Passages that something else has found, with its scores, best first.
    Given(&'a [(DocId, f32)]),
}

impl Reader {
    /// Searches as the pipeline of `ranker` says and puts in order what is found. Of `options` the filter counts, what is to
    /// be explained, and `k`: no more hits than that.
    ///
    /// # Errors
    /// As [`Reader::search`], and when a stage fails.
    pub fn search_pipeline(&self, query: &str, ranker: &Ranker, options: &SearchOptions) -> Result<PipelineAnswer> {
        self.search_pipeline_for(query, ranker, options, &Host::default())
    }

    /// [`Reader::search_pipeline`], run as `host` says.
    ///
    /// # Errors
    /// As [`Reader::search_pipeline`]; the pipeline's `Stopped`.
    pub fn search_pipeline_for(
        &self,
        query: &str,
        ranker: &Ranker,
        options: &SearchOptions,
        host: &Host<'_>,
    ) -> Result<PipelineAnswer> {
        self.watch_pipeline(query, Source::Search, ranker, options, host, &mut |_, _| {})
    }

    /// [`Reader::search_pipeline`] of passages that something else has found, with its scores, best first: the pipeline's
    /// `retrieve` says how many of them count, and nothing else. Those that are not in the index are left out, and those that
    /// the filter does not allow; each counts once.
    ///
    /// # Errors
    /// When the query is empty or too long, a score is no number, or a stage fails.
    pub fn rank_passages(
        &self,
        query: &str,
        passages: &[(DocId, f32)],
        ranker: &Ranker,
        options: &SearchOptions,
    ) -> Result<PipelineAnswer> {
        self.watch_pipeline(query, Source::Given(passages), ranker, options, &Host::default(), &mut |_, _| {})
    }

    /// [`Reader::search_pipeline`] or [`Reader::rank_passages`]; `watch` sees what comes and what each stage leaves.
    pub(crate) fn watch_pipeline(
        &self,
        query: &str,
        source: Source<'_>,
        ranker: &Ranker,
        options: &SearchOptions,
        host: &Host<'_>,
        watch: &mut dyn FnMut(&StageReport, &[Candidate]),
    ) -> Result<PipelineAnswer> {
        let start = Instant::now();
        let retrieve = &ranker.pipeline().retrieve;
        let mode: Mode = retrieve.mode.parse().map_err(|detail| Error::Pipeline { detail })?;
        let late = ranker.pipeline().stages.iter().any(|stage| matches!(stage.kind, StageKind::LateInteraction(_)));
        let rows = if late || matches!(source, Source::Search) && mode.uses_embeddings() {
            encode_queries(&*self.encoder, &[query])?
        } else if query.trim().is_empty() {
            return Err(Error::EmptyQuery);
        } else {
            Vec::new()
        };
        let encode = if rows.is_empty() { Duration::ZERO } else { start.elapsed() };
        let asked = Asked { text: Some(query), rows: rows.first() };
        let found = SearchOptions { mode, k: retrieve.top_n, explain: false, ..options.clone() };
        let mut ranking = match source {
            Source::Search => self.rank(&[asked], &found)?.remove(0),
            Source::Given(passages) => self.given(passages, &found),
        };
        let came = std::mem::take(&mut ranking.hits);
        let mut texts = ranker.pipeline().reads_text().then(|| Unpacked::new(self));
        let candidates: Vec<Candidate> =
            came.iter().map(|found| self.candidate(found, texts.as_mut())).collect::<Result<_>>()?;
        let (retrieved, retrieve_ms) = (came.len(), start.elapsed().as_secs_f64() * 1e3);
        let mut first = StageReport::default();
        (first.name, first.candidates, first.kept) = (RETRIEVE.into(), retrieved, retrieved);
        first.ms = retrieve_ms;
        first.scores = Distribution::of(&candidates.iter().map(|candidate| candidate.score).collect::<Vec<_>>());
        watch(&first, &candidates);
        let scorers = OfIndex { reader: self, rows: rows.first() };
        let Ranked { mut candidates, mut report, .. } =
            ranker.rank_watched(query, candidates, &scorers, host, watch)?;
        candidates.truncate(options.k);
        report.finish(&candidates);
        let left = candidates
            .iter()
            .filter_map(|candidate| Some(Found { score: candidate.score, ..*came.get(candidate.came_as)? }));
        ranking.hits = left.collect();
        let mut answer = self.answer(&asked, ranking, options.explain)?;
        answer.encode = encode;
        for (hit, candidate) in answer.hits.iter_mut().zip(candidates) {
            let Candidate { scores, signals, came_as, .. } = candidate;
            hit.stages = Some(StageScores { scores, signals, came_as });
        }
        Ok(PipelineAnswer { answer, report, retrieved, retrieve_ms })
    }

    /// Those of `passages` that there are and that may be found.
    fn given(&self, passages: &[(DocId, f32)], options: &SearchOptions) -> Ranking {
        let allowed = self.prefilter(options.filter.as_ref());
        let may = |doc: DocId| match &allowed {
            Prefilter::Only(only) => only.contains(doc.0),
            _ => true,
        };
        let mut seen = HashSet::new();
        let known = passages.iter().filter(|(doc, _)| self.find(*doc).is_some() && may(*doc) && seen.insert(*doc));
        let ranked = known.map(|&(doc, score)| Found { doc, score, semantic: None, keyword: None });
        let hits: Vec<Found> = ranked.take(options.k).collect();
        Ranking { candidates: hits.len(), hits, ..Ranking::default() }
    }

    /// A passage for stages, with its text where they read it.
    fn candidate(&self, found: &Found, texts: Option<&mut Unpacked<'_>>) -> Result<Candidate> {
        let mut candidate = Candidate::new(found.doc.to_string(), "", found.score);
        let Some((file, at)) = self.find(found.doc) else { return Ok(candidate) };
        candidate.metadata = file.metadata.clone();
        candidate.modified_ns = Some(file.modified_ns);
        if let Some(texts) = texts {
            candidate.text = texts.text(file, at)?.to_owned();
            let headings = &file.passages[at].headings;
            let above = above(file.title.as_deref(), headings, &candidate.text).join(" > ");
            candidate.title = Some(above).filter(|above| !above.is_empty());
        }
        Ok(candidate)
    }
}

/// Passages of an index, which are scored as they are stored.
struct OfIndex<'a> {
    reader: &'a Reader,
    rows: Option<&'a QueryEmbeddings>,
}

impl OfIndex<'_> {
    fn docs(candidates: &[Candidate]) -> Vec<DocId> {
        candidates.iter().filter_map(|candidate| candidate.id.parse().ok()).map(DocId).collect()
    }
}

impl Scorers for OfIndex<'_> {
    fn late_interaction(&self, _: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        let rows = self.rows.ok_or("the query is not encoded")?;
        let docs = Self::docs(candidates);
        let params = SearchParams::new(docs.len().max(1));
        let found = self.reader.searcher.rerank(rows, &docs, &params).map_err(|e| e.to_string())?;
        let weight = weight(rows);
        let scores: HashMap<DocId, f32> = found.hits.iter().map(|hit| (hit.doc, hit.score / weight)).collect();
        Ok(docs.iter().map(|doc| scores.get(doc).copied().unwrap_or_default()).collect())
    }

    fn keywords(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        let score = || {
            let keywords = self.reader.keywords()?;
            keywords.scores(&keywords.words(query), &Self::docs(candidates))
        };
        score().map_err(|e: Error| e.to_string())
    }
}

/// Puts texts that are in no index in order; late interaction encodes them.
///
/// # Errors
/// When a stage fails.
pub fn rank_texts(encoder: &dyn Encoder, query: &str, candidates: Vec<Candidate>, ranker: &Ranker) -> Result<Ranked> {
    rank_texts_for(encoder, query, candidates, ranker, &Host::default())
}

/// [`rank_texts`], run as `host` says.
///
/// # Errors
/// As [`rank_texts`]; the pipeline's `Stopped`, or the engine's `Cancelled`.
pub fn rank_texts_for(
    encoder: &dyn Encoder,
    query: &str,
    candidates: Vec<Candidate>,
    ranker: &Ranker,
    host: &Host<'_>,
) -> Result<Ranked> {
    if query.trim().is_empty() {
        return Err(Error::EmptyQuery);
    }
    let scorers = OfTexts { encoder, rows: OnceLock::new(), stopped: host.stopped };
    Ok(ranker.rank_watched(query, candidates, &scorers, host, &mut |_, _| {})?)
}

struct OfTexts<'a> {
    encoder: &'a dyn Encoder,
    rows: OnceLock<QueryEmbeddings>,
    stopped: &'a (dyn Fn() -> bool + Sync),
}

impl OfTexts<'_> {
    fn scores(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        if self.rows.get().is_none() {
            let rows = encode_queries(self.encoder, &[query])?.remove(0);
            // Nobody else sets it in between.
            let _ = self.rows.set(rows);
        }
        let Some(rows) = self.rows.get() else { return Ok(Vec::new()) };
        let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        score_texts(self.encoder, rows, &texts, self.stopped)
    }
}

impl Scorers for OfTexts<'_> {
    fn is_stored(&self) -> bool {
        false
    }

    fn late_interaction(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        self.scores(query, candidates).map_err(|e| e.to_string())
    }

    fn keywords(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
        Ok(keywords::among(query, &texts))
    }
}
