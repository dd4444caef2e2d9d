//! Searching text.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latewood_encoder::{EncodedQuery, Encoder};
use latewood_engine::{DocId, Index, IndexInfo, Prefilter, QueryEmbeddings, SearchParams, Searcher, Timings};
use roaring::RoaringTreemap;
use serde::{Serialize, Serializer};

use crate::budget::Budget;
use crate::cascade::StageScores;
use crate::catalog::{Catalog, FileRecord, Metadata, PassageRecord, Runs};
use crate::error::{Error, Result};
use crate::explain::TokenMatch;
use crate::filter::Filter;
use crate::keywords::{self, Keywords};
use crate::mode::Mode;
use crate::ranking::{self, Asked, Ranked, Ranking};
use crate::text_index::TextIndex;
use crate::texts::Texts;

/// What keywords count beside late interaction. Measured (BENCHMARKS.md).
const KEYWORD_WEIGHT: f32 = 0.15;

/// How to search.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SearchOptions {
    /// Passages wanted.
    pub k: usize,
    /// How they are found.
    pub mode: Mode,
    /// What keywords count in [`Mode::Hybrid`], from 0 to 1.
    pub keyword_weight: f32,
    /// Which documents may be found; all if there is none.
    pub filter: Option<Filter>,
    /// Whether hits say which token met which ([`Hit::matches`]).
    pub explain: bool,
    /// Whether a search by meaning scores every passage that may be found.
    pub exhaustive: bool,
    /// How many it scores otherwise; as the index was tuned, or else as is usual, if nothing is said.
    pub budget: Option<Budget>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self::new(10)
    }
}

impl SearchOptions {
    /// The defaults, for `k` passages.
    pub fn new(k: usize) -> Self {
        let (mode, keyword_weight) = (Mode::default(), KEYWORD_WEIGHT);
        Self { k, mode, keyword_weight, filter: None, explain: false, exhaustive: false, budget: None }
    }
}

/// A passage of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Passage {
    /// Its id, as long as its file does not change.
    #[serde(rename = "id", serialize_with = "number")]
    pub doc: DocId,
    /// Its file, relative to the indexed folder; of a document that was added by itself, its id.
    pub path: String,
    /// The file's title.
    pub title: Option<String>,
    /// The headings above it.
    pub headings: Vec<String>,
    /// Its lines, from 1; of a file that text was taken out of, lines of that text.
    pub lines: RangeInclusive<u32>,
    /// The page, slide or sheet it begins on, from 1, where its file has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Its bytes in the file's text.
    pub span: Range<usize>,
    /// Its text, as it was indexed.
    pub text: String,
    /// What is known of its document.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// A found passage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// How well it fits, by the [`Mode`]: the mean, over the query's rows and by their weight, of the best cosine, at most 1;
    /// by keywords, BM25; by both, a sum of the two, at most 1.
    pub score: f32,
    /// The first of these, where keywords count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic: Option<f32>,
    /// BM25, where it does not count alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyword: Option<f32>,
    /// The passage.
    #[serde(flatten)]
    pub passage: Passage,
    /// For each row of the query the token that it met best; none unless asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<TokenMatch>>,
    /// What the stages of a pipeline gave it, where there was one; the score is then the last stage's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages: Option<StageScores>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Passages that were candidates.
    pub candidates: usize,
    /// Passages that were scored on their compressed tokens.
    pub rescored: usize,
    /// Whether no other candidate can be better: all were scored.
    pub exact_among_candidates: bool,
    /// Time to encode the query; zero where embeddings were given.
    pub encode: Duration,
    /// Time in the engine, without that for passages that keywords brought.
    pub search: Timings,
    /// Time for keywords and what they brought.
    pub keywords: Duration,
}

/// A reader pinned to one commit. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    index: Index,
    pub(crate) searcher: Searcher,
    texts: Arc<Texts>,
    /// None in an index of before there were any. Where they are damaged, searches by meaning go on.
    keywords: Arc<Result<Option<Keywords>>>,
    catalog: Arc<Catalog>,
    runs: Arc<Runs>,
    /// Passages in all.
    pub(crate) passages: usize,
    pub(crate) encoder: Arc<dyn Encoder>,
    /// The documents below the folder that was asked about; none for all.
    within: Option<Arc<RoaringTreemap>>,
}

impl Reader {
    pub(crate) fn open(index: &TextIndex) -> Result<Self> {
        let directory = index.index.directory();
        // A commit in between may delete texts of its predecessor: then the newer one is read.
        let (searcher, catalog, texts, keywords) = loop {
            let (searcher, catalog) = index.newest()?;
            let keywords = catalog.keywords.as_ref().map(|record| Keywords::open(index.path(), record)).transpose();
            match Texts::open(directory, &catalog, |_| true) {
                Ok(_) if keywords.is_err() && index.index.version()? != searcher.version() => {}
                Ok(texts) => break (searcher, catalog, texts, keywords),
                Err(_) if index.index.version()? != searcher.version() => {}
                Err(error) => return Err(error),
            }
        };
        let within = (!index.within.is_empty()).then(|| {
            let files = catalog.files.iter().filter(|file| file.path.starts_with(&index.within));
            Arc::new(files.flat_map(|file| file.docs()).collect())
        });
        let (runs, texts) = (Arc::new(Runs::new(&catalog)), Arc::new(texts));
        let (index, encoder, keywords) = (index.index.clone(), index.encoder.clone(), Arc::new(keywords));
        let passages = catalog.passage_count();
        Ok(Self { index, searcher, texts, keywords, catalog, runs, passages, encoder, within })
    }

    /// The passages nearest to `query`.
    ///
    /// # Errors
    /// When the query is empty or longer than the model takes, or a stored text is damaged.
    pub fn search(&self, query: &str, options: &SearchOptions) -> Result<Answer> {
        Ok(self.search_all(&[query], options)?.remove(0))
    }

    /// [`Reader::search`] for several queries, encoded and searched together. Of the times, each answer has the whole.
    ///
    /// # Errors
    /// As [`Reader::search`], for the first query that fails.
    pub fn search_all(&self, queries: &[&str], options: &SearchOptions) -> Result<Vec<Answer>> {
        let start = Instant::now();
        let encoded = match options.mode.uses_embeddings() {
            true => encode_queries(&*self.encoder, queries)?,
            false if queries.iter().any(|query| query.trim().is_empty()) => return Err(Error::EmptyQuery),
            false => Vec::new(),
        };
        let encode = start.elapsed();
        let mut answers = self.search_encoded(&encoded, queries, options)?;
        answers.iter_mut().for_each(|answer| answer.encode = encode);
        Ok(answers)
    }

    /// The passages for queries that are encoded already, with the index's model. `texts` are what they say, for modes that
    /// look for words and to name these where hits are explained; it is empty where nobody knows. In a mode that does not use
    /// them, `queries` may be empty.
    ///
    /// # Errors
    /// When the dimension is not the index's, what the mode needs is missing, or a stored text is damaged.
    pub fn search_encoded(
        &self,
        queries: &[QueryEmbeddings],
        texts: &[&str],
        options: &SearchOptions,
    ) -> Result<Vec<Answer>> {
        let asked = (0..queries.len().max(texts.len()))
            .map(|at| Asked { text: texts.get(at).copied(), rows: queries.get(at) })
            .collect::<Vec<_>>();
        let rankings = self.rank(&asked, options)?;
        asked.iter().zip(rankings).map(|(asked, ranking)| self.answer(asked, ranking, options.explain)).collect()
    }

    /// How many passages a search for `k` scores where nothing else is asked for.
    pub fn budget(&self, k: usize) -> Budget {
        self.catalog.tuned.map_or_else(|| Budget::usual(k), |tuned| tuned.budget(k))
    }

    pub(crate) fn prefilter(&self, filter: Option<&Filter>) -> Prefilter {
        match (filter.map(|filter| filter.docs(&self.catalog)), &self.within) {
            (None, None) => Prefilter::None,
            (None, Some(within)) => Prefilter::Only((**within).clone()),
            (Some(docs), None) => Prefilter::Only(docs),
            (Some(docs), Some(within)) => Prefilter::Only(docs & &**within),
        }
    }

    pub(crate) fn answer(&self, asked: &Asked<'_>, ranking: Ranking, explain: bool) -> Result<Answer> {
        let mut unpacked = Unpacked::new(self);
        let mut hit = |found: &Ranked| -> Result<Hit> {
            let (file, at) = self.find(found.doc).ok_or_else(|| self.uncatalogued(found.doc))?;
            let passage = passage(file, at, unpacked.text(file, at)?);
            let matches = match explain {
                true => Some(self.matches(asked, &passage)?),
                false => None,
            };
            let Ranked { score, semantic, keyword, .. } = *found;
            Ok(Hit { score, semantic, keyword, passage, matches, stages: None })
        };
        Ok(Answer {
            hits: ranking.hits.iter().map(&mut hit).collect::<Result<_>>()?,
            candidates: ranking.candidates,
            rescored: ranking.rescored,
            exact_among_candidates: ranking.exact_among_candidates,
            encode: Duration::ZERO,
            search: ranking.timings,
            keywords: ranking.keywords,
        })
    }

    /// Scores documents, by their ids or paths, without encoding them: of each, the best passage. Unknown ones are left
    /// out. Best first.
    ///
    /// # Errors
    /// As [`Reader::search_encoded`].
    pub fn rerank(&self, query: &QueryEmbeddings, documents: &[&str]) -> Result<Vec<Hit>> {
        let files = documents.iter().filter_map(|path| self.catalog.get(path));
        let ids: Vec<DocId> = files.flat_map(FileRecord::docs).map(DocId).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut params = SearchParams::new(ids.len());
        params.filter = self.prefilter(None);
        let mut ranking = ranking::semantic(self.searcher.rerank(query, &ids, &params)?, query);
        let mut known = HashSet::new();
        let file_of = |doc| self.find(doc).map(|(file, _)| file.first_doc);
        ranking.hits.retain(|hit| known.insert(file_of(hit.doc)));
        Ok(self.answer(&Asked { text: None, rows: Some(query) }, ranking, false)?.hits)
    }

    /// A passage by its id.
    ///
    /// # Errors
    /// When its stored text is damaged.
    pub fn passage(&self, doc: DocId) -> Result<Option<Passage>> {
        let Some((file, at)) = self.find(doc) else { return Ok(None) };
        Ok(Some(passage(file, at, &self.texts.read(file, at)?)))
    }

    pub(crate) fn find(&self, doc: DocId) -> Option<(&FileRecord, usize)> {
        self.runs.find(&self.catalog, doc)
    }

    /// What the catalogue has of a passage and its document.
    pub(crate) fn record_of(&self, doc: DocId) -> Option<(&FileRecord, &PassageRecord)> {
        let (file, at) = self.find(doc)?;
        Some((file, &file.passages[at]))
    }

    /// The path or id of the document that a passage is of.
    pub(crate) fn document_of(&self, doc: DocId) -> Option<&str> {
        self.find(doc).map(|(file, _)| file.path.as_str())
    }

    /// Files and passages.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The engine's figures.
    pub fn info(&self) -> IndexInfo {
        self.searcher.info()
    }

    /// Where arithmetic runs.
    pub fn backend(&self) -> String {
        self.searcher.backend().name()
    }

    /// What encodes queries.
    pub fn encoder(&self) -> &dyn Encoder {
        &*self.encoder
    }

    /// Bytes of the keywords.
    pub fn keyword_bytes(&self) -> u64 {
        self.keywords().map_or(0, Keywords::bytes)
    }

    /// What words are looked for in.
    pub(crate) fn keywords(&self) -> Result<&Keywords> {
        match &*self.keywords {
            Ok(Some(keywords)) => Ok(keywords),
            Ok(None) => Err(Error::NoKeywords { index: self.path().into() }),
            Err(Error::DamagedKeywords { folder, detail }) => {
                Err(Error::DamagedKeywords { folder: folder.clone(), detail: detail.clone() })
            }
            // Not damage: nothing is to be deleted.
            Err(Error::Io { action, path, source }) => {
                Err(Error::io(action, path, std::io::Error::new(source.kind(), source.to_string())))
            }
            Err(error) => {
                Err(Error::DamagedKeywords { folder: self.path().join(keywords::FOLDER), detail: error.to_string() })
            }
        }
    }

    /// The folder of the index.
    pub(crate) fn path(&self) -> &Path {
        self.index.directory().path()
    }

    /// Bytes of the stored texts.
    pub fn text_bytes(&self) -> u64 {
        self.texts.bytes()
    }

    /// What tells this commit from every other of the index.
    pub fn version(&self) -> u64 {
        self.searcher.version()
    }

    fn uncatalogued(&self, doc: DocId) -> Error {
        let file = self.path();
        Error::Damaged { file: file.into(), what: "catalogue", detail: format!("passage {doc} is not in it") }
    }
}

/// The texts of passages: of a document with several of them it is unpacked once.
pub(crate) struct Unpacked<'r> {
    reader: &'r Reader,
    /// By the document's first passage.
    texts: HashMap<u64, String>,
}

impl<'r> Unpacked<'r> {
    pub(crate) fn new(reader: &'r Reader) -> Self {
        Self { reader, texts: HashMap::new() }
    }

    /// The text of passage number `at` of a document.
    pub(crate) fn text(&mut self, file: &FileRecord, at: usize) -> Result<&str> {
        let texts = &self.reader.texts;
        let all = match self.texts.entry(file.first_doc) {
            Entry::Occupied(text) => text.into_mut(),
            Entry::Vacant(none) => none.insert(texts.read_all(file)?),
        };
        texts.passage(file, at, all)
    }
}

/// Passage number `at` of a document, with its text.
fn passage(file: &FileRecord, at: usize, text: &str) -> Passage {
    let record = &file.passages[at];
    Passage {
        doc: DocId(file.first_doc + at as u64),
        path: file.path.clone(),
        title: file.title.clone(),
        headings: record.headings.clone(),
        lines: record.lines.0..=record.lines.1,
        page: record.page,
        span: record.span.0..record.span.1,
        text: text.to_owned(),
        metadata: file.metadata.clone(),
    }
}

fn number<S: Serializer>(doc: &DocId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(doc.0)
}

/// Encodes queries that a person typed: an empty one, or one that would be cut, is refused.
///
/// # Errors
/// See above.
pub(crate) fn encode_queries(encoder: &dyn Encoder, queries: &[&str]) -> Result<Vec<QueryEmbeddings>> {
    if queries.iter().any(|query| query.trim().is_empty()) {
        return Err(Error::EmptyQuery);
    }
    let rows = |encoded: EncodedQuery| match encoded.truncated {
        true => Err(Error::QueryTooLong { tokens: encoded.tokens, max: encoder.max_query_tokens() }),
        false => Ok(encoded.embeddings),
    };
    encoder.encode_queries(queries)?.into_iter().map(rows).collect()
}

/// The sum of the norms of a query's rows: what a document would score that agreed with all of them. Rows may weigh
/// nothing at all; scores are then all zero.
pub(crate) fn weight(query: &QueryEmbeddings) -> f32 {
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    query.values().chunks_exact(query.dim()).map(norm).sum::<f32>().max(f32::MIN_POSITIVE)
}
