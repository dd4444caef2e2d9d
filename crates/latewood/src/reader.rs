//! Searching text.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use latewood_encoder::Encoder;
use latewood_engine::{DocId, Index, IndexInfo, Prefilter, QueryEmbeddings, SearchParams, Searcher, Timings};
use roaring::RoaringTreemap;
use serde::{Serialize, Serializer};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::text_index::TextIndex;
use crate::texts::Texts;

/// How to search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchOptions {
    /// Passages wanted.
    pub k: usize,
    /// The engine's other knobs; its `k` and `filter` are set from here.
    pub params: SearchParams,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { k: 10, params: SearchParams::default() }
    }
}

impl SearchOptions {
    /// The defaults, for `k` passages.
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }
}

/// A passage of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Passage {
    /// Its id, as long as its file does not change.
    #[serde(rename = "id", serialize_with = "number")]
    pub doc: DocId,
    /// Its file, relative to the indexed folder.
    pub path: String,
    /// The file's title.
    pub title: Option<String>,
    /// The headings above it.
    pub headings: Vec<String>,
    /// Its lines, from 1.
    pub lines: RangeInclusive<u32>,
    /// Its bytes in the file's text.
    pub span: Range<usize>,
    /// Its text, as it was indexed.
    pub text: String,
}

/// A found passage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// How well it fits: the mean, over the query's rows and by their weight, of the best cosine; at most 1.
    pub score: f32,
    /// The passage.
    #[serde(flatten)]
    pub passage: Passage,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Passages that were candidates.
    pub candidates: usize,
    /// Time to encode the query; zero where embeddings were given.
    pub encode: Duration,
    /// Time in the engine.
    pub search: Timings,
}

/// A reader pinned to one commit. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    index: Index,
    searcher: Searcher,
    texts: Arc<Texts>,
    catalog: Arc<Catalog>,
    encoder: Arc<dyn Encoder>,
    /// The documents below the folder that was asked about; none for all.
    within: Option<Arc<RoaringTreemap>>,
}

impl Reader {
    pub(crate) fn open(index: &TextIndex) -> Result<Self> {
        let directory = index.index.directory();
        // A commit in between may delete texts of its predecessor: then the newer one is read.
        let (searcher, catalog, texts) = loop {
            let searcher = index.index.searcher()?;
            let catalog = Catalog::from_payload(searcher.payload(), index.path())?;
            let catalog = catalog.ok_or_else(|| Error::NoText { index: index.path().into() })?;
            match Texts::open(directory, &catalog) {
                Ok(texts) => break (searcher, catalog, texts),
                Err(_) if index.index.version()? != searcher.version() => {}
                Err(error) => return Err(error),
            }
        };
        let within = (!index.within.is_empty()).then(|| {
            let files = catalog.files.iter().filter(|file| file.path.starts_with(&index.within));
            Arc::new(files.flat_map(|file| file.docs()).collect())
        });
        let (catalog, texts) = (Arc::new(catalog), Arc::new(texts));
        Ok(Self { index: index.index.clone(), searcher, texts, catalog, encoder: index.encoder.clone(), within })
    }

    /// The passages nearest to `query`.
    ///
    /// # Errors
    /// When the query is empty or longer than the model takes, or a stored text is damaged.
    pub fn search(&self, query: &str, options: &SearchOptions) -> Result<Answer> {
        let start = Instant::now();
        let embeddings = encode_query(&*self.encoder, query)?;
        let encode = start.elapsed();
        Ok(Answer { encode, ..self.search_embeddings(&embeddings, options)? })
    }

    /// The passages nearest to a query that is encoded already, with the index's model.
    ///
    /// # Errors
    /// When the dimension is not the index's, or a stored text is damaged.
    pub fn search_embeddings(&self, query: &QueryEmbeddings, options: &SearchOptions) -> Result<Answer> {
        let filter = self.within.as_ref().map_or(Prefilter::None, |docs| Prefilter::Only((**docs).clone()));
        let mut params = options.params.clone();
        (params.k, params.filter) = (options.k, filter);
        let found = self.searcher.search(query, &params)?;
        // Rows may weigh nothing at all; the scores are then all zero.
        let weight = query.values().chunks_exact(query.dim()).map(norm).sum::<f32>().max(f32::MIN_POSITIVE);
        let hit = |hit: &latewood_engine::Hit| -> Result<Hit> {
            let passage = self.passage(hit.doc)?.ok_or_else(|| self.uncatalogued(hit.doc))?;
            Ok(Hit { score: hit.score / weight, passage })
        };
        Ok(Answer {
            hits: found.hits.iter().map(hit).collect::<Result<_>>()?,
            candidates: found.candidates,
            encode: Duration::ZERO,
            search: found.timings,
        })
    }

    /// A passage by its id.
    ///
    /// # Errors
    /// When its stored text is damaged.
    pub fn passage(&self, doc: DocId) -> Result<Option<Passage>> {
        let Some((file, at)) = self.catalog.find(doc) else { return Ok(None) };
        let record = &file.passages[at];
        Ok(Some(Passage {
            doc,
            path: file.path.clone(),
            title: file.title.clone(),
            headings: record.headings.clone(),
            lines: record.lines.0..=record.lines.1,
            span: record.span.0..record.span.1,
            text: self.texts.read(file, at)?,
        }))
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

    /// Bytes of the stored texts.
    pub fn text_bytes(&self) -> u64 {
        self.texts.bytes()
    }

    /// What tells this commit from every other of the index.
    pub fn version(&self) -> u64 {
        self.searcher.version()
    }

    fn uncatalogued(&self, doc: DocId) -> Error {
        let file: &Path = self.index.directory().path();
        Error::Damaged { file: file.into(), what: "catalogue", detail: format!("passage {doc} is not in it") }
    }
}

fn number<S: Serializer>(doc: &DocId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(doc.0)
}

/// Encodes a query that a person typed: an empty one, or one that would be cut, is refused.
///
/// # Errors
/// See above.
pub(crate) fn encode_query(encoder: &dyn Encoder, query: &str) -> Result<QueryEmbeddings> {
    if query.trim().is_empty() {
        return Err(Error::EmptyQuery);
    }
    let encoded = encoder.encode_queries(&[query])?.into_iter().next().ok_or(Error::EmptyQuery)?;
    if encoded.truncated {
        return Err(Error::QueryTooLong { tokens: encoded.tokens, max: encoder.max_query_tokens() });
    }
    Ok(encoded.embeddings)
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|x| x * x).sum::<f32>().sqrt()
}
