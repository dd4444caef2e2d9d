//! Passages on their way into an index: encoded batch by batch, their text written beside them, published together.

use std::ops::Range;

use latewood_encoder::Encoder;
use latewood_engine::{DocId, IndexWriter, Progress, Stage, TokenEmbeddingsRef};
use latewood_ingest::{Passage, PassageOptions};

use crate::blocks::{self, BlockWriter, Kind};
use crate::catalog::{Block, Catalog, FileRecord, PassageRecord};
use crate::error::Result;
use crate::keywords::{self, KeywordsWriter};
use crate::sync::{Event, Monitor};
use crate::text_index::TextIndex;
use crate::texts::{self, Texts};

/// What was encoded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Encoded {
    pub(crate) passages: usize,
    /// Counted by the rows that were kept.
    pub(crate) tokens: u64,
    /// Passages longer than the model takes.
    pub(crate) truncated: usize,
}

/// The one way of passages into an index.
pub(crate) struct Intake<'a> {
    index: &'a TextIndex,
    writer: IndexWriter,
    texts: BlockWriter<'a>,
    keywords: KeywordsWriter,
    /// Where there were no keywords to go on from: passages before this one have none yet.
    anew: Option<u64>,
    next_doc: u64,
    waiting: Vec<(DocId, String)>,
    pub(crate) encoded: Encoded,
}

/// Where passages went.
pub(crate) struct Placed {
    pub(crate) first_doc: u64,
    pub(crate) passages: Vec<PassageRecord>,
    pub(crate) block: Block,
}

impl<'a> Intake<'a> {
    /// Into `index`, whose writer is `writer` and whose catalogue has been `catalog`.
    pub(crate) fn new(index: &'a TextIndex, writer: IndexWriter, catalog: &Catalog) -> Self {
        let texts = BlockWriter::new(Kind::Texts, index.index.directory(), catalog.next_blob);
        let whole = index.is_own_record(catalog.keywords.as_ref())
            || keywords::is_sound(index.path(), catalog.keywords.as_ref());
        let record = catalog.keywords.as_ref().filter(|_| whole);
        let keywords = KeywordsWriter::new(index.path(), record);
        let (next_doc, waiting, encoded) = (catalog.next_doc, Vec::new(), Encoded::default());
        Self { index, writer, texts, keywords, anew: (!whole).then_some(next_doc), next_doc, waiting, encoded }
    }

    /// `wanted`, as far as the model reads passages that long.
    pub(crate) fn passage_options(&self, wanted: &PassageOptions) -> PassageOptions {
        PassageOptions { max_tokens: wanted.max_tokens.min(room(&*self.index.encoder)), ..wanted.clone() }
    }

    /// Takes the passages of one document; they are encoded when enough wait ([`Intake::is_full`]).
    pub(crate) fn add(&mut self, title: Option<&str>, passages: Vec<Passage>) -> Result<Placed> {
        let text: String = passages.iter().map(|passage| passage.text.as_str()).collect();
        let block = self.texts.add(text.as_bytes())?;
        let ids = self.ids(passages.len());
        let first_doc = ids.start;
        let mut records = Vec::with_capacity(passages.len());
        for (passage, id) in passages.into_iter().zip(ids) {
            let text = Context::of(&*self.index.encoder, title, &passage.headings, &passage.text).text;
            self.keywords.add(DocId(id), &above(title, &passage.headings, &passage.text), &passage.text)?;
            self.waiting.push((DocId(id), text));
            records.push(PassageRecord {
                span: (passage.span.start, passage.span.end),
                lines: (*passage.lines.start(), *passage.lines.end()),
                page: passage.page,
                headings: passage.headings,
                bytes: passage.text.len() as u32,
            });
        }
        Ok(Placed { first_doc, passages: records, block })
    }

    /// Takes a document that is encoded already, as one passage of `text`.
    pub(crate) fn add_rows(&mut self, title: Option<&str>, rows: TokenEmbeddingsRef<'_>, text: &str) -> Result<Placed> {
        let block = self.texts.add(text.as_bytes())?;
        let first_doc = self.ids(1).start;
        self.encoded.tokens += rows.len() as u64;
        self.writer.add(DocId(first_doc), rows)?;
        self.keywords.add(DocId(first_doc), &above(title, &[], text), text)?;
        let lines = (1, text.lines().count().max(1) as u32);
        let passage =
            PassageRecord { span: (0, text.len()), lines, page: None, headings: Vec::new(), bytes: text.len() as u32 };
        Ok(Placed { first_doc, passages: vec![passage], block })
    }

    fn ids(&mut self, count: usize) -> Range<u64> {
        let first = self.next_doc;
        self.next_doc += count as u64;
        first..self.next_doc
    }

    /// Whether there were no keywords to go on from, so that they are made from the texts with the next commit.
    pub(crate) fn keywords_begin(&self) -> bool {
        self.anew.is_some()
    }

    /// Whether enough passages wait to be encoded.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.index.encoder.documents_at_once()
    }

    /// Encodes what waits.
    pub(crate) fn encode(&mut self, monitor: &dyn Monitor) -> Result<()> {
        for batch in self.waiting.chunks(self.index.encoder.documents_at_once().max(1)) {
            if monitor.cancelled() {
                return Err(latewood_engine::Error::Cancelled.into());
            }
            let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
            for ((doc, _), encoded) in batch.iter().zip(self.index.encoder.encode_documents(&texts)?) {
                self.encoded.truncated += usize::from(encoded.truncated);
                self.encoded.tokens += encoded.embeddings.view().len() as u64;
                self.writer.add(*doc, encoded.embeddings.view().with_token_ids(&encoded.token_ids)?)?;
            }
            self.encoded.passages += batch.len();
        }
        self.waiting.clear();
        Ok(())
    }

    /// Takes a document's passages out of the index.
    ///
    /// # Errors
    /// When the keywords cannot be opened.
    pub(crate) fn forget(&mut self, file: &FileRecord) -> Result<()> {
        let docs = file.docs();
        self.waiting.retain(|(doc, _)| !docs.contains(&doc.0));
        docs.map(DocId).try_for_each(|doc| {
            self.writer.delete(doc);
            self.keywords.delete(doc)
        })
    }

    /// Adds the keywords of documents that are in the index already, from their texts.
    fn add_old_keywords(&mut self, catalog: &Catalog, end: u64) -> Result<()> {
        let texts = Texts::open(self.index.index.directory(), catalog, |file| file.first_doc < end)?;
        for file in catalog.files.iter().filter(|file| file.first_doc < end) {
            let (all, mut at) = (texts.read_all(file)?, 0);
            for (doc, passage) in file.docs().zip(&file.passages) {
                let text = texts.part(file, passage, &all, at)?;
                at += text.len();
                self.keywords.add(DocId(doc), &above(file.title.as_deref(), &passage.headings, text), text)?;
            }
        }
        Ok(())
    }

    /// Publishes vectors, texts, keywords and `catalog` in one commit; returns its generation.
    pub(crate) fn commit(mut self, catalog: &mut Catalog, monitor: &dyn Monitor) -> Result<u64> {
        self.encode(monitor)?;
        catalog.next_doc = self.next_doc;
        if let Some(end) = self.anew {
            self.add_old_keywords(catalog, end)?;
        }
        let directory = self.index.index.directory();
        texts::copy_worn(&mut self.texts, directory.path(), catalog)?;
        let mut parts = BlockWriter::new(Kind::Catalog, directory, catalog.next_blob);
        catalog.write_parts(directory, &mut parts)?;
        let written = self.texts.finish()? | parts.finish()?;
        catalog.next_blob += u32::from(written);
        let record = self.keywords.finish()?;
        catalog.keywords = Some(record.clone());
        let commit = self.writer.commit(Some(&catalog.to_payload()?), &EngineProgress(monitor))?;
        blocks::remove_unused(Kind::Texts, directory, catalog.files.iter().map(|file| file.block));
        blocks::remove_unused(Kind::Catalog, directory, catalog.part_blocks());
        keywords::clean(self.index.path(), &record);
        self.index.set_own_record(record);
        Ok(commit.generation)
    }
}

/// Word pieces that the model reads of a passage, `[CLS]` and `[SEP]` taken off.
pub(crate) fn room(encoder: &dyn Encoder) -> usize {
    encoder.max_document_tokens().saturating_sub(2)
}

/// What the model reads of a passage: where it stands, as far as its own text does not say so, and its text.
pub(crate) struct Context {
    pub(crate) text: String,
    /// Bytes before the passage's own text.
    pub(crate) before: usize,
}

impl Context {
    /// The passage's text is never cut for the sake of what stands before it.
    pub(crate) fn of(encoder: &dyn Encoder, title: Option<&str>, headings: &[String], text: &str) -> Self {
        let parts = above(title, headings, text);
        for skipped in 0..parts.len() {
            let above = parts[skipped..].join(" > ");
            let whole = format!("{above}\n{text}");
            if encoder.count_tokens(&whole) <= room(encoder) {
                return Self { text: whole, before: above.len() + 1 };
            }
        }
        Self { text: text.to_owned(), before: 0 }
    }
}

/// Title and headings above a passage, outermost first, as far as its own first lines do not say them.
pub(crate) fn above<'t>(title: Option<&'t str>, headings: &'t [String], text: &str) -> Vec<&'t str> {
    let mut parts: Vec<&str> = title.into_iter().collect();
    parts.extend(headings.iter().map(String::as_str).filter(|&heading| Some(heading) != title));
    parts.retain(|part| !text.lines().take(3).any(|line| line.contains(part)));
    parts
}

/// The engine's progress as events.
struct EngineProgress<'a>(&'a dyn Monitor);

impl Progress for EngineProgress<'_> {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        self.0.event(Event::Building { stage, done, total });
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
