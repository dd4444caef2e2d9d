//! What can go wrong, each cause saying what to do next.

use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure over text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] latewood_engine::Error),
    /// That of arrays.
    #[error(transparent)]
    Arrays(#[from] latewood_arrays::Error),
    /// The encoder's.
    #[error(transparent)]
    Encoder(#[from] latewood_encoder::Error),
    /// A device that is not there.
    #[error(transparent)]
    Device(#[from] latewood_kernels::DeviceError),
    /// A GPU that cannot be used.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    #[error(transparent)]
    Gpu(#[from] latewood_kernels::GpuError),
    /// A pipeline's stage failed.
    #[error(transparent)]
    Rerank(#[from] latewood_rerank::Error),
    /// Candidates that are to be put in order are none of the index's documents.
    #[error("none of the candidates is a document of the index for the query that it is a candidate of")]
    Candidates,
    /// What a pipeline asks of the search is not there.
    #[error("pipeline: {detail}")]
    Pipeline {
        /// What is wrong.
        detail: String,
    },
    /// Walking the folder failed.
    #[error(transparent)]
    Ingest(#[from] latewood_ingest::Error),
    /// The query holds no word.
    #[error("the query is empty: ask for something, for example \"how are shards checksummed?\"")]
    EmptyQuery,
    /// A query was given as embeddings only, and words are looked for.
    #[error("the query is given as embeddings, and this mode looks for words: give its text too, or use mode semantic")]
    NeedsWords,
    /// The index is of before there were keywords.
    #[error("{}: the index has no keywords yet: `latewood index`, or any write, adds them", index.display())]
    NoKeywords {
        /// The index.
        index: PathBuf,
    },
    /// Questions without answers tell nothing.
    #[error("no question has an answer: after the question, and a tab, a line names the files that answer it")]
    NoAnswers,
    /// Too few queries to tell anything.
    #[error("{found} queries to try, and 2 are needed at least: give more questions, or index more")]
    TooFewQueries {
        /// How many there are.
        found: usize,
    },
    /// The query does not fit the model.
    #[error("the query has {tokens} tokens and the model takes {max}: shorten it (nothing is cut off silently)")]
    QueryTooLong {
        /// Tokens of the query, special ones included.
        tokens: usize,
        /// The model's limit.
        max: usize,
    },
    /// Nothing in the folder can be indexed.
    #[error("{}: no documents to index ({})", folder.display(), skipped_text(skipped))]
    NoDocuments {
        /// The folder.
        folder: PathBuf,
        /// Files that were left out, each with the reason.
        skipped: Vec<crate::LeftOut>,
    },
    /// There is no index yet.
    #[error("{}: not indexed yet; run `latewood index {}` first", folder.display(), folder.display())]
    NotIndexed {
        /// The folder, or the index asked for.
        folder: PathBuf,
    },
    /// A folder of other things was named as the index.
    #[error("{}: holds {name} and no index; give a new or empty folder with --index", index.display())]
    NotAnIndex {
        /// The folder.
        index: PathBuf,
        /// Something in it.
        name: String,
    },
    /// The index was made by a Latewood that keeps it otherwise.
    #[error(
        "{}: the index was made by another version of Latewood (its catalogue is of version {found}, and this reads \
         {expected}); delete the folder and index again",
        index.display()
    )]
    OtherVersion {
        /// The index.
        index: PathBuf,
        /// What is read here.
        expected: u32,
        /// What was found.
        found: u32,
    },
    /// The index was made by another model: its vectors mean nothing to this one.
    #[error(
        "{}: the index was made by model {found}, and this is {expected}; use that model, or delete the folder and index again",
        index.display()
    )]
    OtherModel {
        /// The index.
        index: PathBuf,
        /// The model at hand.
        expected: String,
        /// The index's model.
        found: String,
    },
    /// The index was made by the same model, used otherwise.
    #[error(
        "{}: the index was made with {}, and this asks for {}; leave the options away, or delete the folder and index \
         again",
        index.display(), options(found), options(expected)
    )]
    OtherOptions {
        /// The index.
        index: PathBuf,
        /// The model at hand, and its options.
        expected: String,
        /// The index's model, and its options.
        found: String,
    },
    /// Another index has taken the place of the one that was opened.
    #[error("{}: another index has taken its place, of another folder or of single documents: open it anew", index.display())]
    Replaced {
        /// The index.
        index: PathBuf,
    },
    /// The index is of another folder.
    #[error("{}: this is the index of {}, which does not hold {}", index.display(), root.display(), folder.display())]
    OtherFolder {
        /// The index.
        index: PathBuf,
        /// The folder that it indexes.
        root: PathBuf,
        /// The folder asked for.
        folder: PathBuf,
    },
    /// The index was not made from text: it holds vectors alone.
    #[error("{}: the index holds vectors without text; it was not made by `latewood index`", index.display())]
    NoText {
        /// The index.
        index: PathBuf,
    },
    /// The index is one of documents that were added one by one.
    #[error("{}: its documents were added one by one: there is no folder to bring it up to date with", index.display())]
    NoFolder {
        /// The index.
        index: PathBuf,
    },
    /// The index is one of a folder.
    #[error(
        "{}: its documents are the files of {}: change them there and bring the index up to date",
        index.display(), root.display()
    )]
    OfFolder {
        /// The index.
        index: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// A document cannot be added.
    #[error("document {id:?}: {detail}")]
    BadDocument {
        /// Its id.
        id: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A filter does not read.
    #[error("{detail}")]
    BadFilter {
        /// Where, and what is expected.
        detail: String,
    },
    /// The catalogue or a stored text is damaged.
    #[error("{}: damaged {what}: {detail}; delete the index folder and index again", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The part of it.
        what: &'static str,
        /// What does not hold.
        detail: String,
    },
    /// The keywords are damaged; the texts are not.
    #[error(
        "{}: damaged keywords: {detail}; delete this folder, and the next `latewood index` or write makes it again from the \
         stored texts",
        folder.display()
    )]
    DamagedKeywords {
        /// Their folder.
        folder: PathBuf,
        /// What does not hold.
        detail: String,
    },
    /// An input file does not read.
    #[error("{}{}: {detail}", file.display(), line.map(|n| format!(", line {n}")).unwrap_or_default())]
    Input {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong with it.
        detail: String,
    },
    /// The file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// Whether another process holds the writer's lock.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Engine(latewood_engine::Error::Locked { .. }))
    }

    /// Whether the index may be read and not written: another owner's, or on a medium that takes no writes.
    pub fn is_read_only(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Engine(latewood_engine::Error::ReadOnly { .. }) => true,
            Self::Engine(latewood_engine::Error::Io { source, .. }) | Self::Io { source, .. } => {
                matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
            }
            _ => false,
        }
    }

    /// Whether the GPU is to blame: the processor does without it.
    pub fn is_of_gpu(&self) -> bool {
        match self {
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Self::Gpu(_) => true,
            Self::Engine(e) => matches!(e, latewood_engine::Error::Device { .. }),
            Self::Encoder(e) => matches!(e, latewood_encoder::Error::Device { .. }),
            _ => false,
        }
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Engine(e) => e.is_no_space(),
            Self::Arrays(e) => e.is_no_space(),
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// The options in the id of a model, for people.
fn options(id: &str) -> String {
    match latewood_encoder::EncoderOptions::recorded(id).to_string() {
        options if options.is_empty() => "the model's own settings".into(),
        options => options.replace('&', " and "),
    }
}

/// How many were skipped, and the first few by name.
fn skipped_text(skipped: &[crate::LeftOut]) -> String {
    const NAMED: usize = 3;
    let named: Vec<String> = skipped.iter().take(NAMED).map(ToString::to_string).collect();
    match skipped.len() {
        0 => "the folder is empty, or ignore rules leave nothing".into(),
        n if n <= NAMED => format!("skipped {}", named.join("; ")),
        n => format!("skipped {}; and {} more", named.join("; "), n - NAMED),
    }
}
