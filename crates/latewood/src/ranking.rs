//! From a query to ranked passages: late interaction, keywords, or both.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use latewood_engine::{DocId, Prefilter, QueryEmbeddings, SearchParams, SearchResult, Timings};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::keywords::KeywordHit;
use crate::mode::Mode;
use crate::reader::{Reader, SearchOptions, weight};

/// Passages that keywords bring to the others, at least.
const KEYWORD_DEPTH: usize = 100;

/// What is asked: in words, encoded, or both, as the mode needs it.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'q> {
    pub(crate) text: Option<&'q str>,
    pub(crate) rows: Option<&'q QueryEmbeddings>,
}

/// A passage and what speaks for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) doc: DocId,
    /// What it is ranked by.
    pub(crate) score: f32,
    /// By late interaction, where other things count too.
    pub(crate) semantic: Option<f32>,
    /// By BM25, where other things count too.
    pub(crate) keyword: Option<f32>,
}

/// The passages of one query, best first.
#[derive(Default)]
pub(crate) struct Ranking {
    pub(crate) hits: Vec<Ranked>,
    pub(crate) candidates: usize,
    pub(crate) rescored: usize,
    pub(crate) exact_among_candidates: bool,
    pub(crate) timings: Timings,
    pub(crate) keywords: Duration,
}

impl Reader {
    /// Ranks passages for each of `asked`.
    pub(crate) fn rank(&self, asked: &[Asked<'_>], options: &SearchOptions) -> Result<Vec<Ranking>> {
        let filter = self.prefilter(options.filter.as_ref());
        // Room is made for as many as are asked for.
        let k = options.k.min(self.passages.max(1));
        let mut params = options.budget.unwrap_or_else(|| self.budget(options.k)).params(k);
        (params.filter, params.exhaustive) = (filter.clone(), options.exhaustive);
        match options.mode {
            Mode::Semantic => {
                let found = self.nearest(asked, &params)?.into_iter();
                found.zip(asked).map(|(found, asked)| Ok(semantic(found, rows(asked)?))).collect()
            }
            Mode::Keyword => asked.iter().map(|asked| self.by_keywords(asked, k, &filter)).collect(),
            Mode::Rerank => asked.iter().map(|asked| self.reranked(asked, k, &filter)).collect(),
            Mode::Hybrid => {
                params.k = k.max(KEYWORD_DEPTH);
                let weight = options.keyword_weight;
                let found = self.nearest(asked, &params)?.into_iter();
                found.zip(asked).map(|(found, asked)| self.hybrid(asked, found, (k, weight), &filter)).collect()
            }
        }
    }

    fn nearest(&self, asked: &[Asked<'_>], params: &SearchParams) -> Result<Vec<SearchResult>> {
        // Alone, a query has all threads.
        if let [asked] = asked {
            return Ok(vec![self.searcher.search(rows(asked)?, params)?]);
        }
        let rows = asked.iter().map(|asked| rows(asked).cloned()).collect::<Result<Vec<_>>>()?;
        Ok(self.searcher.search_batch(&rows, params)?)
    }

    fn by_keywords(&self, asked: &Asked<'_>, k: usize, filter: &Prefilter) -> Result<Ranking> {
        let start = Instant::now();
        let keywords = self.keywords()?;
        let hits = keywords.search(&keywords.words(text(asked)?), k, allowed(filter))?;
        let ranked = |hit: KeywordHit| Ranked { doc: hit.doc, score: hit.score, semantic: None, keyword: None };
        let (candidates, keywords) = (hits.len(), start.elapsed());
        Ok(Ranking { hits: hits.into_iter().map(ranked).collect(), candidates, keywords, ..Ranking::default() })
    }

    fn reranked(&self, asked: &Asked<'_>, k: usize, filter: &Prefilter) -> Result<Ranking> {
        let first = self.by_keywords(asked, k.max(KEYWORD_DEPTH), filter)?;
        let rows = rows(asked)?;
        let (mut ranking, keywords) = (self.scored(rows, &first.hits, k)?, first.keywords);
        let known = |doc| first.hits.iter().find(|hit| hit.doc == doc).map(|hit| hit.score);
        for hit in &mut ranking.hits {
            (hit.semantic, hit.keyword) = (Some(hit.score), known(hit.doc));
        }
        Ok(Ranking { keywords, ..ranking })
    }

    /// `hits` by late interaction, all of them scored.
    fn scored(&self, rows: &QueryEmbeddings, hits: &[Ranked], k: usize) -> Result<Ranking> {
        if hits.is_empty() {
            return Ok(Ranking::default());
        }
        let ids: Vec<DocId> = hits.iter().map(|hit| hit.doc).collect();
        let found = self.searcher.rerank(rows, &ids, &SearchParams::new(k.min(ids.len())))?;
        Ok(semantic(found, rows))
    }

    fn hybrid(
        &self,
        asked: &Asked<'_>,
        found: SearchResult,
        (k, weight): (usize, f32),
        filter: &Prefilter,
    ) -> Result<Ranking> {
        let start = Instant::now();
        let rows = rows(asked)?;
        let mut ranking = semantic(found, rows);
        let Some(text) = asked.text else {
            ranking.hits.truncate(k);
            return Ok(ranking);
        };
        let keywords = self.keywords()?;
        let words = keywords.words(text);
        let known: HashSet<DocId> = ranking.hits.iter().map(|hit| hit.doc).collect();
        let first = keywords.search(&words, k.max(KEYWORD_DEPTH), allowed(filter))?;
        let new = first.iter().filter(|hit| !known.contains(&hit.doc));
        let new: Vec<Ranked> =
            new.map(|hit| Ranked { doc: hit.doc, score: 0.0, semantic: None, keyword: None }).collect();
        ranking.hits.extend(self.scored(rows, &new, new.len())?.hits);
        let mut scores: HashMap<DocId, f32> = first.iter().map(|hit| (hit.doc, hit.score)).collect();
        let unknown: Vec<DocId> = known.into_iter().filter(|doc| !scores.contains_key(doc)).collect();
        scores.extend(unknown.iter().copied().zip(keywords.scores(&words, &unknown)?));
        let most = keywords.most(&words)?;
        for hit in &mut ranking.hits {
            let keyword = scores.get(&hit.doc).copied().unwrap_or_default();
            (hit.semantic, hit.keyword) = (Some(hit.score), Some(keyword));
            hit.score = fused(hit.score, keyword, most, weight);
        }
        ranking.hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc)));
        ranking.hits.truncate(k);
        ranking.candidates += new.len();
        ranking.exact_among_candidates = false;
        ranking.keywords = start.elapsed();
        Ok(ranking)
    }
}

/// Both scores as one: the mean of the best cosines, and the share of the score that no passage can reach, by their weights.
/// Neither depends on what else was found, so that a passage's score says something by itself.
fn fused(semantic: f32, keyword: f32, most: f32, weight: f32) -> f32 {
    if most <= 0.0 {
        // No words, nothing to weigh.
        return semantic;
    }
    let weight = if weight.is_nan() { 0.0 } else { weight.clamp(0.0, 1.0) };
    (1.0 - weight) * semantic + weight * keyword / most
}

pub(crate) fn semantic(found: SearchResult, rows: &QueryEmbeddings) -> Ranking {
    let weight = weight(rows);
    let ranked =
        |hit: &latewood_engine::Hit| Ranked { doc: hit.doc, score: hit.score / weight, semantic: None, keyword: None };
    Ranking {
        hits: found.hits.iter().map(ranked).collect(),
        candidates: found.candidates,
        rescored: found.rescored,
        exact_among_candidates: found.exact_among_candidates,
        timings: found.timings,
        keywords: Duration::ZERO,
    }
}

fn rows<'q>(asked: &Asked<'q>) -> Result<&'q QueryEmbeddings> {
    asked.rows.ok_or(Error::EmptyQuery)
}

fn text<'q>(asked: &Asked<'q>) -> Result<&'q str> {
    asked.text.ok_or(Error::NeedsWords)
}

/// What keywords may find; all if there is none.
fn allowed(filter: &Prefilter) -> Option<&RoaringTreemap> {
    match filter {
        Prefilter::Only(only) => Some(only),
        _ => None,
    }
}
