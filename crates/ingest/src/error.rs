//! What can go wrong: an [`Error`] ends the walk, a [`Skipped`] leaves out one file.

use std::path::PathBuf;

use crate::Format;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a folder cannot be walked at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder is not there, or its metadata cannot be read.
    #[error("{}: cannot read the folder: {source}", path.display())]
    Root {
        /// The folder given.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The path given is a file.
    #[error("{}: not a folder", path.display())]
    NotAFolder {
        /// The path given.
        path: PathBuf,
    },
}

/// One path that was left out, and why. Never the end of a walk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Skipped {
    /// The path relative to the root, with `/` between its parts; not exact where the name is not
    /// UTF-8.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a path was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// No bytes, nothing but white space, or an HTML page without readable text.
    #[error("holds no text")]
    Empty,
    /// Over [`crate::WalkOptions::max_file_bytes`].
    #[error("{size} bytes, over the limit of {limit}")]
    TooLarge {
        /// Size of the file in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Its bytes are not text.
    #[error("binary data")]
    Binary,
    /// Text in an encoding that is not read, such as UTF-32.
    #[error("text in an unknown encoding")]
    UnknownEncoding,
    /// A known kind of file that holds no text to read as it is: the kind, such as `PDF`.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// A document that text has to be taken out of, and there is no extractor ([`crate::ReadOptions::extractor`]): what
    /// people call it.
    #[error("not supported without an extractor: {0}")]
    NoExtractor(&'static str),
    /// A document that no text could be taken out of: its format, and why.
    #[error("cannot be read as {format}: {cause}")]
    NotExtracted {
        /// The format that it should be of.
        format: Format,
        /// What is wrong with it, or what it did to its parser.
        cause: String,
    },
    /// Written by a tool for a tool: what kind of it, such as `lock file`.
    #[error("generated: {0}")]
    Generated(&'static str),
    /// Its name is not UTF-8, so that it could not be named again.
    #[error("its name is not UTF-8")]
    NotUtf8Name,
    /// A symbolic link, and links are not followed.
    #[error("a symbolic link, and links are not followed")]
    SymbolicLink,
    /// The file system refused, or what was to read it could not be started: its words. Another try may go well.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl SkipReason {
    /// This reason, for this path.
    pub(crate) fn at(self, path: impl Into<String>) -> Skipped {
        Skipped { path: path.into(), reason: self }
    }
}
