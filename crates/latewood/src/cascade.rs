//! Searching by a pipeline: what the search finds, put in order by stages ([`latewood_rerank`]).

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use latewood_encoder::Encoder;
use latewood_engine::{DocId, QueryEmbeddings, SearchParams};
use latewood_rerank::{Candidate, Distribution, RETRIEVE, Ranked, Ranker, Report, Scorers, StageKind, StageReport};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::intake::above;
use crate::keywords;
use crate::mode::Mode;
use crate::ranking::{Asked, Ranked as Found, Ranking};
use crate::reader::{Hit, Reader, SearchOptions, Unpacked, encode_queries, weight};
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
    /// Best first; each says what stages gave it.
    pub hits: Vec<Hit>,
    /// What stages did.
    pub report: Report,
    /// Passages that the search brought.
    pub retrieved: usize,
    /// Milliseconds that it took, encoding the query among them.
    pub retrieve_ms: f64,
}

impl Reader {
    /// Searches as the pipeline of `ranker` says and puts in order what is found. Of `options` the filter counts, what is to
    /// be explained, and `k`: no more hits than that.
    ///
    /// # Errors
    /// As [`Reader::search`], and when a stage fails.
    pub fn search_pipeline(&self, query: &str, ranker: &Ranker, options: &SearchOptions) -> Result<PipelineAnswer> {
        self.watch_pipeline(query, ranker, options, &mut |_, _| {})
    }

    /// [`Reader::search_pipeline`]; `watch` sees what the search brings and what each stage leaves.
    pub(crate) fn watch_pipeline(
        &self,
        query: &str,
        ranker: &Ranker,
        options: &SearchOptions,
        watch: &mut dyn FnMut(&StageReport, &[Candidate]),
    ) -> Result<PipelineAnswer> {
        let start = Instant::now();
        let retrieve = &ranker.pipeline().retrieve;
        let mode: Mode = retrieve.mode.parse().map_err(|detail| Error::Pipeline { detail })?;
        let late = ranker.pipeline().stages.iter().any(|stage| matches!(stage.kind, StageKind::LateInteraction(_)));
        let rows = if mode.uses_embeddings() || late {
            encode_queries(&*self.encoder, &[query])?
        } else if query.trim().is_empty() {
            return Err(Error::EmptyQuery);
        } else {
            Vec::new()
        };
        let found = SearchOptions { mode, k: retrieve.top_n, explain: false, ..options.clone() };
        let asked = Asked { text: Some(query), rows: rows.first() };
        let came = self.rank(&[asked], &found)?.remove(0).hits;
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
        let Ranked { mut candidates, report, .. } = ranker.rank_watched(query, candidates, &scorers, watch)?;
        candidates.truncate(options.k);
        let left = candidates
            .iter()
            .filter_map(|candidate| Some(Found { score: candidate.score, ..*came.get(candidate.came_as)? }));
        let ranking = Ranking { hits: left.collect(), ..Ranking::default() };
        let mut hits = self.answer(&asked, ranking, options.explain)?.hits;
        for (hit, candidate) in hits.iter_mut().zip(candidates) {
            let Candidate { scores, signals, came_as, .. } = candidate;
            hit.stages = Some(StageScores { scores, signals, came_as });
        }
        Ok(PipelineAnswer { hits, report, retrieved, retrieve_ms })
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
    if query.trim().is_empty() {
        return Err(Error::EmptyQuery);
    }
    Ok(ranker.rank(query, candidates, &OfTexts { encoder, rows: OnceCell::new() })?)
}

struct OfTexts<'a> {
    encoder: &'a dyn Encoder,
    rows: OnceCell<QueryEmbeddings>,
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
        score_texts(self.encoder, rows, &texts, &|| false)
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
