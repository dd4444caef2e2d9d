//! Documents that are added one by one, with ids and metadata of the caller's, instead of a folder's files.
//!
//! A [`DocumentWriter`] is the index's one writer: what it is given becomes searchable, all of it at once, with
//! [`DocumentWriter::commit`]. A document that is there already with the same content is not encoded again.

use latewood_engine::{TokenEmbeddings, TokenEmbeddingsRef};
use latewood_ingest::{Kind, PassageOptions, has_text, split_text};

use crate::catalog::{Catalog, FileRecord, Metadata, Source};
use crate::error::{Error, Result};
use crate::filter::RESERVED;
use crate::intake::{self, Intake, Placed};
use crate::sync::{Monitor, hex, now_ns};
use crate::text_index::TextIndex;

/// Bytes of an id.
const MAX_ID: usize = 512;
/// Bytes of a document's metadata, as JSON.
const MAX_METADATA: usize = 64 << 10;

/// What a document was read as of which rows were given.
const EMBEDDINGS: &str = "embeddings";

/// A document to be added, in place of one of the same id.
#[derive(Debug, Clone)]
pub struct NewDocument {
    /// The caller's key: not empty, 512 bytes at most, without control characters.
    pub id: String,
    /// Its title, if it is not in the text; encoded with each passage.
    pub title: Option<String>,
    /// What is searched.
    pub content: Content,
    /// What filters may ask for: numbers, strings, true, false, null, or lists of them, by name.
    pub metadata: Metadata,
}

/// What of a document is searched.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Content {
    /// A text, split into passages and encoded.
    Text {
        /// The text.
        text: String,
        /// How it is to be split.
        kind: Kind,
    },
    /// Rows of the index's model, encoded elsewhere; found as one passage.
    Embeddings {
        /// `[n, dim]`
        rows: TokenEmbeddings,
        /// What is shown of it; may be empty.
        text: String,
    },
}

impl NewDocument {
    /// A plain text.
    pub fn text(id: impl Into<String>, text: impl Into<String>) -> Self {
        let content = Content::Text { text: text.into(), kind: Kind::PlainText };
        Self { id: id.into(), title: None, content, metadata: Metadata::new() }
    }

    /// What of it cannot be indexed by a model of `dim` values a row.
    ///
    /// # Errors
    /// When the id, the text, the metadata or the dimension is not as it must be.
    pub fn check(&self, dim: usize) -> Result<()> {
        self.check_parts(dim)?;
        match &self.content {
            Content::Text { text, kind } if !has_text(*kind, text) => Err(without_text(self.id.clone(), *kind)),
            _ => Ok(()),
        }
    }

    /// The same, but for what is known only when its text has been split.
    fn check_parts(&self, dim: usize) -> Result<()> {
        let bad = |detail: String| Error::BadDocument { id: self.id.clone(), detail };
        if self.id.is_empty() || self.id.len() > MAX_ID || self.id.contains(char::is_control) {
            return Err(bad(format!("an id has 1 to {MAX_ID} bytes and no control characters")));
        }
        // What is a path for people is one for the programs between them, which take these out.
        if self.id.split('/').any(|part| part == "." || part == "..") {
            return Err(bad("no part of an id between slashes is . or ..".into()));
        }
        match &self.content {
            Content::Text { text, .. } if text.trim().is_empty() => return Err(bad("it has no text".into())),
            Content::Embeddings { rows, .. } if rows.view().dim() != dim => {
                let found = rows.view().dim();
                return Err(latewood_engine::Error::DimMismatch { expected: dim, found }.into());
            }
            _ => {}
        }
        check_metadata(&self.metadata).map_err(bad)
    }

    /// What two documents share that need not be encoded twice.
    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths first: no two contents are the same bytes.
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.title.as_deref().unwrap_or_default().as_bytes());
        match &self.content {
            Content::Text { text, .. } => part(text.as_bytes()),
            Content::Embeddings { rows, text } => {
                part(text.as_bytes());
                part(&rows.view().values().iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        hex(hasher.finalize().as_bytes())
    }

    fn kind(&self) -> String {
        match &self.content {
            Content::Text { kind, .. } => kind.to_string(),
            Content::Embeddings { .. } => EMBEDDINGS.into(),
        }
    }

    fn size(&self) -> u64 {
        match &self.content {
            Content::Text { text, .. } => text.len() as u64,
            Content::Embeddings { rows, text } => (size_of_val(rows.view().values()) + text.len()) as u64,
        }
    }
}

fn without_text(id: String, kind: Kind) -> Error {
    Error::BadDocument { id, detail: format!("as {kind} it has no text") }
}

fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    use serde_json::Value::{Array, Object};
    for (name, value) in metadata {
        if RESERVED.contains(&name.as_str()) || name.starts_with('$') || name.is_empty() {
            return Err(format!(
                "metadata cannot have the name {name:?}: {} are the document's own",
                RESERVED.join(", ")
            ));
        }
        let nested = match value {
            Object(_) => true,
            Array(values) => values.iter().any(|value| matches!(value, Array(_) | Object(_))),
            _ => false,
        };
        if nested {
            return Err(format!(
                "metadata {name:?} is neither a number, a string, true, false, null nor a list of them"
            ));
        }
    }
    match serde_json::to_vec(metadata).map_or(0, |json| json.len()) {
        0..=MAX_METADATA => Ok(()),
        bytes => Err(format!("its metadata has {bytes} bytes of JSON, and {MAX_METADATA} is the most")),
    }
}

/// What adding a document did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was not there.
    Added,
    /// Its content is new.
    Updated,
    /// Its title and content were there already; its metadata is as given now.
    Unchanged,
}

/// What a commit published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The index's generation.
    pub generation: u64,
    /// Passages encoded.
    pub passages: usize,
    /// Tokens encoded, counted by the rows that were kept.
    pub tokens: u64,
    /// Passages that were longer than the model takes: their end is not searched.
    pub truncated: usize,
}

/// The one writer of an index of documents. Dropped without a commit, it leaves the index as it was.
pub struct DocumentWriter<'a> {
    index: &'a TextIndex,
    intake: Intake<'a>,
    passages: PassageOptions,
    taken: usize,
    changed: bool,
    catalog: Catalog,
}

impl TextIndex {
    /// Opens the writer of an index of documents.
    ///
    /// # Errors
    /// When another process is writing, or the documents are those of a folder.
    pub fn writer(&self, passages: PassageOptions) -> Result<DocumentWriter<'_>> {
        if self.source != Source::Documents {
            return Err(Error::OfFolder { index: self.path().into(), root: self.root().into() });
        }
        let writer = self.index.writer()?;
        // Nobody else commits from here on.
        let catalog = Catalog::clone(&*self.newest()?.1);
        let intake = Intake::new(self, writer, &catalog);
        let passages = intake.passage_options(&passages);
        Ok(DocumentWriter { index: self, intake, passages, taken: 0, changed: false, catalog })
    }
}

impl DocumentWriter<'_> {
    /// Adds a document, in place of one of the same id.
    ///
    /// # Errors
    /// As [`NewDocument::check`], and when encoding fails or the disk refuses.
    pub fn put(&mut self, document: NewDocument, monitor: &dyn Monitor) -> Result<Put> {
        document.check_parts(self.index.encoder.dim())?;
        let (hash, kind, size) = (document.hash(), document.kind(), document.size());
        if let Some(known) = self.catalog.get(&document.id)
            && known.hash == hash
            && known.kind == kind
        {
            if known.metadata != document.metadata {
                self.changed = true;
                self.catalog.files.change(&document.id, |known| known.metadata = document.metadata);
            }
            return Ok(Put::Unchanged);
        }
        let NewDocument { id, title, content, metadata } = document;
        let (title, Placed { first_doc, passages, block }) = match content {
            Content::Text { text, kind } => {
                let encoder = &self.index.encoder;
                let split = split_text(kind, &text, &self.passages, &|text: &str| encoder.count_tokens(text));
                if split.passages.is_empty() {
                    return Err(without_text(id, kind));
                }
                let title = title.or(split.title);
                let placed = self.intake.add(title.as_deref(), split.passages)?;
                (title, placed)
            }
            Content::Embeddings { rows, text } => {
                let placed = self.intake.add_rows(title.as_deref(), rows.view(), &text)?;
                (title, placed)
            }
        };
        let record = FileRecord {
            path: id.clone(),
            size,
            modified_ns: now_ns(),
            hash,
            kind,
            title,
            metadata,
            first_doc,
            passages,
            block,
        };
        self.changed = true;
        self.taken += record.passages.len();
        let before = self.catalog.files.insert(record);
        before.iter().try_for_each(|before| self.intake.forget(before))?;
        if self.intake.is_full() {
            self.intake.encode(monitor)?;
        }
        Ok(if before.is_some() { Put::Updated } else { Put::Added })
    }

    /// Adds a document that is not there, as one passage, with rows that know their token ids.
    pub(crate) fn put_encoded(&mut self, id: &str, text: &str, rows: TokenEmbeddingsRef<'_>) -> Result<()> {
        let Placed { first_doc, passages, block } = self.intake.add_rows(None, rows, text)?;
        let record = FileRecord {
            path: id.into(),
            size: text.len() as u64,
            modified_ns: now_ns(),
            hash: hex(blake3::hash(text.as_bytes()).as_bytes()),
            kind: EMBEDDINGS.into(),
            title: None,
            metadata: Metadata::new(),
            first_doc,
            passages,
            block,
        };
        self.changed = true;
        self.taken += 1;
        self.catalog.files.insert(record);
        Ok(())
    }

    /// Passages of the documents added so far, without those that were there already.
    pub fn passages(&self) -> usize {
        self.taken
    }

    /// Deletes a document; whether it was there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn delete(&mut self, id: &str) -> Result<bool> {
        let Some(file) = self.catalog.files.remove(id) else { return Ok(false) };
        self.intake.forget(&file)?;
        self.changed = true;
        Ok(true)
    }

    /// Publishes everything at once: when this returns, and not before, it is found, and it survives a crash. Where nothing
    /// has changed, there is no new generation.
    ///
    /// # Errors
    /// When encoding fails, `monitor` cancels or the disk refuses: the last commit then stands.
    pub fn commit(mut self, monitor: &dyn Monitor) -> Result<Committed> {
        if !self.changed && !self.intake.keywords_begin() {
            let generation = self.index.index.searcher()?.info().generation;
            return Ok(Committed { generation, passages: 0, tokens: 0, truncated: 0 });
        }
        self.intake.encode(monitor)?;
        let encoded = self.intake.encoded;
        self.catalog.synced_ns = now_ns();
        let generation = self.intake.commit(&mut self.catalog, monitor)?;
        let intake::Encoded { passages, tokens, truncated } = encoded;
        Ok(Committed { generation, passages, tokens, truncated })
    }
}
