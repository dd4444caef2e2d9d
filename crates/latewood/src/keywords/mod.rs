//! Keywords: which passages hold the words of a query, by BM25.
//!
//! One document of tantivy's for each passage, its words and its id and nothing else: texts and metadata are the catalogue's.
//! BM25 with k1 = 1.2, b = 0.75 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).

mod among;
mod files;
mod words;

pub(crate) use among::among;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use latewood_engine::DocId;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use tantivy::collector::{FilterCollector, TopDocs};
use tantivy::columnar::Column;
use tantivy::directory::error::OpenReadError;
use tantivy::index::SegmentComponent;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, EnableScoring, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{DocAddress, DocSet, IndexSettings, ReloadPolicy, Searcher, TantivyDocument, TantivyError, Term};

use crate::error::{Error, Result};
use files::Files;

/// The folder of tantivy's files, in that of the index.
pub(crate) const FOLDER: &str = "keywords";
/// How words are made: an index of other words is made anew.
const VERSION: u32 = 2;
/// Different words of a query that are looked for, the first ones: a text for a query would ask for thousands.
const MAX_WORDS: usize = 256;
/// What the writer gathers in memory before it writes a segment.
const WRITER_BYTES: usize = 64 << 20;
const ANALYZER: &str = "words";

/// A commit of keywords, as the catalogue keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeywordsRecord {
    version: u32,
    /// Tantivy's `meta.json`.
    meta: String,
}

struct Fields {
    doc: Field,
    text: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let doc = schema.add_u64_field("doc", INDEXED | FAST);
    let indexing = TextFieldIndexing::default().set_tokenizer(ANALYZER).set_index_option(IndexRecordOption::WithFreqs);
    let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
    (schema.build(), Fields { doc, text })
}

fn open_files(folder: &Path, meta: Option<&str>) -> tantivy::Result<(tantivy::Index, Files)> {
    let files = Files::open(folder, meta)?;
    let index = match meta {
        Some(_) => tantivy::Index::open(files.clone())?,
        None => tantivy::Index::create(files.clone(), schema().0, IndexSettings::default())?,
    };
    index.tokenizers().register(ANALYZER, words::analyzer());
    Ok((index, files))
}

/// The files that all segments have, and those of deletions where there are any.
fn expected(index: &tantivy::Index) -> tantivy::Result<Vec<PathBuf>> {
    use SegmentComponent::{Delete, FastFields, FieldNorms, Positions, Postings, Store, Terms};
    let mut files = Vec::new();
    for segment in index.searchable_segment_metas()? {
        let always = [Postings, Positions, FastFields, FieldNorms, Terms, Store];
        let deletes = segment.has_deletes().then_some(Delete);
        files.extend(always.into_iter().chain(deletes).map(|component| segment.relative_path(component)));
    }
    Ok(files)
}

/// Tantivy's failure as ours: the file system's, or damage, which it may call a failure of the file system, too.
fn failed(folder: &Path, error: &TantivyError) -> Error {
    use std::io::ErrorKind::{InvalidData, NotFound, Other, UnexpectedEof};
    use tantivy::directory::error::OpenWriteError;
    match error {
        TantivyError::IoError(io)
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: io, .. })
            if !matches!(io.kind(), InvalidData | NotFound | Other | UnexpectedEof) =>
        {
            Error::io("read or write keywords in", folder, std::io::Error::new(io.kind(), io.to_string()))
        }
        error => Error::DamagedKeywords { folder: folder.into(), detail: error.to_string() },
    }
}

/// Runs what reads tantivy's files, which it does not check as it reads: damage may make it panic.
fn guarded<T>(folder: &Path, work: impl FnOnce() -> tantivy::Result<T>) -> Result<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| failed(folder, &e)),
        Err(_) => Err(Error::DamagedKeywords { folder: folder.into(), detail: "they do not read".into() }),
    }
}

/// The keywords of one commit.
pub(crate) struct Keywords {
    folder: PathBuf,
    searcher: Searcher,
    /// The ids of each segment's passages.
    docs: Vec<Column<u64>>,
    index: tantivy::Index,
    fields: Fields,
}

/// The different words of a query.
pub(crate) struct Words(Vec<Term>);

/// A passage that holds words of a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct KeywordHit {
    pub(crate) doc: DocId,
    pub(crate) score: f32,
}

impl Keywords {
    /// Opens what `record` says, in the folder of the index.
    pub(crate) fn open(index: &Path, record: &KeywordsRecord) -> Result<Self> {
        let folder = index.join(FOLDER);
        let open = || {
            let (index, _) = open_files(&folder, Some(&record.meta))?;
            let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).num_warming_threads(1);
            let searcher = reader.try_into()?.searcher();
            // Some are opened only when they are needed: that they are there is to be known now.
            let missing = expected(&index)?.into_iter().find(|file| !folder.join(file).is_file());
            if let Some(file) = missing {
                return Err(OpenReadError::FileDoesNotExist(file).into());
            }
            let docs = searcher.segment_readers().iter().map(|segment| segment.fast_fields().u64("doc"));
            let docs = docs.collect::<tantivy::Result<_>>()?;
            Ok((searcher, docs, index))
        };
        let (searcher, docs, index) = guarded(&folder, open)?;
        Ok(Self { searcher, docs, index, fields: schema().1, folder })
    }

    /// The words of `query`, as they are looked for.
    pub(crate) fn words(&self, query: &str) -> Words {
        let mut terms: Vec<Term> = Vec::new();
        words::analyzer().token_stream(query).process(&mut |token| {
            let term = Term::from_field_text(self.fields.text, &token.text);
            if terms.len() < MAX_WORDS && !terms.contains(&term) {
                terms.push(term);
            }
        });
        Words(terms)
    }

    /// The `k` passages of `allowed`, all if there is none, that fit `words` best: higher scores first, then lower ids.
    pub(crate) fn search(&self, words: &Words, k: usize, allowed: Option<&RoaringTreemap>) -> Result<Vec<KeywordHit>> {
        let search = || -> tantivy::Result<Vec<KeywordHit>> {
            let query = words.query();
            let top = TopDocs::with_limit(k).order_by_score();
            let found = match allowed {
                None => self.searcher.search(&query, &top)?,
                Some(allowed) => {
                    let allowed = allowed.clone();
                    let filtered = FilterCollector::new("doc".into(), move |doc: u64| allowed.contains(doc), top);
                    self.searcher.search(&query, &filtered)?
                }
            };
            found.into_iter().map(|(score, at)| Ok(KeywordHit { doc: self.doc(at)?, score })).collect()
        };
        let mut hits = guarded(&self.folder, search)?;
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc)));
        Ok(hits)
    }

    /// The score of each of `docs`; 0 where none of the words is in it.
    pub(crate) fn scores(&self, words: &Words, docs: &[DocId]) -> Result<Vec<f32>> {
        let scores = || -> tantivy::Result<Vec<f32>> {
            let mut places = Vec::with_capacity(docs.len());
            for (at, doc) in docs.iter().enumerate() {
                places.extend(self.place(*doc)?.map(|place| (place, at)));
            }
            // A scorer goes forward only.
            places.sort_unstable();
            let weight = words.query().weight(EnableScoring::enabled_from_searcher(&self.searcher))?;
            let mut scores = vec![0.0; docs.len()];
            for same in places.chunk_by(|a, b| a.0.segment_ord == b.0.segment_ord) {
                let mut scorer = weight.scorer(self.searcher.segment_reader(same[0].0.segment_ord), 1.0)?;
                for (place, at) in same {
                    if scorer.doc() <= place.doc_id && scorer.seek(place.doc_id) == place.doc_id {
                        scores[*at] = scorer.score();
                    }
                }
            }
            Ok(scores)
        };
        guarded(&self.folder, scores)
    }

    /// What no passage's score for `words` can reach: the sum of their weights, each met without end.
    pub(crate) fn most(&self, words: &Words) -> Result<f32> {
        let most = || -> tantivy::Result<f32> {
            let count = Bm25StatisticsProvider::total_num_docs(&self.searcher)? as f32;
            let mut most = 0.0;
            for term in &words.0 {
                let with = Bm25StatisticsProvider::doc_freq(&self.searcher, term)? as f32;
                // As tantivy has it: idf times k1 + 1.
                most += 2.2 * (1.0 + (count - with + 0.5).max(0.0) / (with + 0.5)).ln();
            }
            Ok(most)
        };
        guarded(&self.folder, most)
    }

    /// Where each different word of `query` is in it, the word, and its part in the score of `doc`.
    pub(crate) fn word_places(&self, query: &str, doc: DocId) -> Result<Vec<(Range<usize>, String, f32)>> {
        let mut places: Vec<(Range<usize>, String, f32)> = Vec::new();
        words::analyzer().token_stream(query).process(&mut |token| {
            if places.len() < MAX_WORDS && !places.iter().any(|(_, word, _)| *word == token.text) {
                places.push((token.offset_from..token.offset_to, token.text.clone(), 0.0));
            }
        });
        for (_, word, score) in &mut places {
            let term = Words(vec![Term::from_field_text(self.fields.text, word)]);
            *score = self.scores(&term, &[doc])?[0];
        }
        Ok(places)
    }

    fn doc(&self, at: DocAddress) -> tantivy::Result<DocId> {
        let docs = &self.docs[at.segment_ord as usize];
        docs.first(at.doc_id).map(DocId).ok_or_else(|| TantivyError::InternalError("a passage has no id".into()))
    }

    /// Where the passage `doc` is.
    fn place(&self, doc: DocId) -> tantivy::Result<Option<DocAddress>> {
        let term = Term::from_field_u64(self.fields.doc, doc.0);
        for (segment, reader) in self.searcher.segment_readers().iter().enumerate() {
            let inverted = reader.inverted_index(self.fields.doc)?;
            let Some(mut postings) = inverted.read_postings(&term, IndexRecordOption::Basic)? else { continue };
            while postings.doc() != tantivy::TERMINATED {
                if reader.alive_bitset().is_none_or(|alive| alive.is_alive(postings.doc())) {
                    return Ok(Some(DocAddress::new(segment as u32, postings.doc())));
                }
                postings.advance();
            }
        }
        Ok(None)
    }

    /// What is damaged of the files.
    pub(crate) fn verify(&self) -> Vec<Error> {
        let mut files = match expected(&self.index) {
            Ok(files) => files,
            Err(error) => return vec![failed(&self.folder, &error)],
        };
        files.sort();
        let wrong = |file: &PathBuf| match self.index.directory().validate_checksum(file) {
            Ok(true) => None,
            Ok(false) => {
                let detail = format!("{}: its checksum does not match", file.display());
                Some(Error::DamagedKeywords { folder: self.folder.clone(), detail })
            }
            Err(error) => Some(failed(&self.folder, &error.into())),
        };
        files.iter().filter_map(wrong).collect()
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.index.load_metas().map(|meta| meta.list_segment_files()).unwrap_or_default();
        files.iter().filter_map(|file| std::fs::metadata(self.folder.join(file)).ok()).map(|file| file.len()).sum()
    }
}

impl Words {
    fn query(&self) -> BooleanQuery {
        let one = |term: &Term| Box::new(TermQuery::new(term.clone(), IndexRecordOption::WithFreqs)) as Box<dyn Query>;
        BooleanQuery::union(self.0.iter().map(one).collect())
    }
}

/// Writes the keywords of one commit. Nothing is opened before the first change.
pub(crate) struct KeywordsWriter {
    folder: PathBuf,
    record: Option<KeywordsRecord>,
    writer: Option<Writer>,
}

struct Writer {
    writer: tantivy::IndexWriter,
    files: Files,
}

impl KeywordsWriter {
    /// Goes on from `record`, in the folder of the index; without one it begins anew.
    pub(crate) fn new(index: &Path, record: Option<&KeywordsRecord>) -> Self {
        Self { folder: index.join(FOLDER), record: record.cloned(), writer: None }
    }

    /// Adds a passage: its text, and what stands above it.
    pub(crate) fn add(&mut self, doc: DocId, above: &[&str], text: &str) -> Result<()> {
        let fields = schema().1;
        let mut document = TantivyDocument::new();
        document.add_u64(fields.doc, doc.0);
        above.iter().for_each(|above| document.add_text(fields.text, above));
        document.add_text(fields.text, text);
        let added = self.writer()?.writer.add_document(document);
        added.map(drop).map_err(|e| failed(&self.folder, &e))
    }

    /// Takes a passage out.
    pub(crate) fn delete(&mut self, doc: DocId) -> Result<()> {
        let term = Term::from_field_u64(schema().1.doc, doc.0);
        self.writer()?.writer.delete_term(term);
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        if self.writer.is_none() {
            let open = || {
                std::fs::create_dir_all(&self.folder)?;
                let (index, files) = open_files(&self.folder, self.record.as_ref().map(|record| record.meta.as_str()))?;
                Ok(Writer { writer: index.writer_with_num_threads(1, WRITER_BYTES)?, files })
            };
            self.writer = Some(open().map_err(|e| failed(&self.folder, &e))?);
        }
        self.writer.as_mut().ok_or_else(|| failed(&self.folder, &TantivyError::Poisoned))
    }

    /// Makes the files durable; the record is to be published, and [`clean`] called after.
    pub(crate) fn finish(mut self) -> Result<KeywordsRecord> {
        let (folder, unchanged) = (self.folder.clone(), self.record.clone());
        if self.writer.is_none()
            && let Some(record) = unchanged
        {
            return Ok(record);
        }
        self.writer()?;
        let finish = |Writer { mut writer, files }: Writer| {
            writer.commit()?;
            writer.wait_merging_threads()?;
            files.sync()?;
            Ok(files.meta())
        };
        let meta = self.writer.take().map(finish).transpose().map_err(|e| failed(&folder, &e))?.flatten();
        let meta = meta.ok_or_else(|| failed(&folder, &TantivyError::InternalError("nothing was committed".into())))?;
        Ok(KeywordsRecord { version: VERSION, meta })
    }
}

/// Whether `record` is one of these words and its files can be read.
pub(crate) fn is_whole(index: &Path, record: Option<&KeywordsRecord>) -> bool {
    record.is_some_and(|record| record.version == VERSION && Keywords::open(index, record).is_ok())
}

/// Where `text` first has a word, as [`Keywords::word_places`] gives it.
pub(crate) fn first_place(text: &str, word: &str) -> Option<Range<usize>> {
    let mut place = None;
    words::analyzer().token_stream(text).process(&mut |token| {
        if place.is_none() && token.text == word {
            place = Some(token.offset_from..token.offset_to);
        }
    });
    place
}

/// Whether `record` is whole to the last byte: what tantivy goes on from when it writes, it does not check.
pub(crate) fn is_sound(index: &Path, record: Option<&KeywordsRecord>) -> bool {
    let current = record.filter(|record| record.version == VERSION);
    current.is_some_and(|record| Keywords::open(index, record).is_ok_and(|keywords| keywords.verify().is_empty()))
}

/// Whether a file of this name is one of tantivy's segments'.
pub(crate) fn is_own_file(name: &str) -> bool {
    let id = name.split('.').next().unwrap_or_default();
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Of each file its size and time.
pub(crate) type Stamps = Vec<(PathBuf, u64, SystemTime)>;

/// The files of `record` as they are now; none where one is missing.
pub(crate) fn stamps(index: &Path, record: &KeywordsRecord) -> Option<Stamps> {
    let folder = index.join(FOLDER);
    let (opened, _) = open_files(&folder, Some(&record.meta)).ok()?;
    let mut stamps = Vec::new();
    for file in expected(&opened).ok()? {
        let metadata = std::fs::metadata(folder.join(&file)).ok()?;
        stamps.push((file, metadata.len(), metadata.modified().ok()?));
    }
    stamps.sort();
    Some(stamps)
}

/// Deletes files that `record` does not name.
pub(crate) fn clean(index: &Path, record: &KeywordsRecord) {
    let folder = index.join(FOLDER);
    if let Some(used) = used(&folder, record) {
        files::keep_only(&folder, &used);
    }
}

/// The files that a record names.
fn used(folder: &Path, record: &KeywordsRecord) -> Option<HashSet<PathBuf>> {
    let (index, _) = open_files(folder, Some(&record.meta)).ok()?;
    Some(index.load_metas().ok()?.list_segment_files())
}
