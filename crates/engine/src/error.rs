//! What can go wrong in the engine, each cause with the values that name it.

use std::path::PathBuf;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of the engine. None of them ever becomes an empty result list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dimension is 0, over [`crate::MAX_DIM`] or not a multiple of 8.
    #[error("embeddings of {dim} dimensions are not supported: the dimension must be a multiple of 8, up to {max}", max = crate::MAX_DIM)]
    UnsupportedDim {
        /// The dimension given.
        dim: usize,
    },
    /// A matrix without rows.
    #[error("the matrix of token embeddings has no rows")]
    NoRows,
    /// The values do not fill whole rows.
    #[error("{len} values are no whole number of rows of {dim}")]
    Ragged {
        /// Number of values given.
        len: usize,
        /// Values a row.
        dim: usize,
    },
    /// Token ids that are not one for each row.
    #[error("{ids} token ids do not fit {rows} rows")]
    TokenIds {
        /// Number of ids given.
        ids: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The device that searches run on has failed.
    #[error("{device}: {reason}")]
    Device {
        /// Which.
        device: String,
        /// What happened, and what to do.
        reason: String,
    },
    /// A value is NaN or infinite.
    #[error("token embeddings hold a value that is not finite: row {row}, column {column} is {value}")]
    NotFinite {
        /// Row of the first such value.
        row: usize,
        /// Its column.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A value of a query is so large that sums of products overflow.
    #[error("query row {row} has norm {norm}: the limit is {limit}")]
    TooHeavy {
        /// The first such row.
        row: usize,
        /// Its norm.
        norm: f32,
        /// The limit.
        limit: f32,
    },
    /// A document row is not of unit norm.
    #[error("row {row} of a document has norm {norm}: document rows must be of unit norm")]
    NotUnit {
        /// The first such row.
        row: usize,
        /// Its norm.
        norm: f32,
    },
    /// A query has too many rows.
    #[error("a query of {rows} rows is over the limit of {limit}")]
    TooManyRows {
        /// Rows given.
        rows: usize,
        /// The limit.
        limit: usize,
    },
    /// Embeddings of one dimension met an index of another.
    #[error("embeddings of {found} dimensions do not fit an index of {expected}")]
    DimMismatch {
        /// The index's dimension.
        expected: usize,
        /// The dimension given.
        found: usize,
    },
    /// A parameter is out of range.
    #[error("{name} = {value} is out of range: {expected}")]
    BadParameter {
        /// The parameter.
        name: &'static str,
        /// The value given.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The folder holds no index.
    #[error("{} holds no index", dir.display())]
    NoIndex {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds an index already.
    #[error("{} holds an index already", dir.display())]
    IndexExists {
        /// The folder.
        dir: PathBuf,
    },
    /// A file of the index is damaged: cut short, altered, or not what its name says.
    #[error("{}: damaged {what}: {detail}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The part of it: header, a section's name.
        what: &'static str,
        /// What does not hold, with values.
        detail: String,
    },
    /// The file was written by a newer version.
    #[error("{}: {what} {found}, and this version of Latewood reads {supported}: rebuild the index or use a newer Latewood", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// Format version, or the flags that are not known.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What this version understands.
        supported: String,
    },
    /// A newer version wrote the index with features that this one can read but not write.
    #[error("{}: a newer version of Latewood wrote this index; this version can search it but not change it", dir.display())]
    ReadOnly {
        /// The index.
        dir: PathBuf,
    },
    /// A write of this writer failed halfway: what it holds can no longer be trusted.
    #[error("{}: an earlier write failed; the last commit stands, open a new writer", dir.display())]
    WriterFailed {
        /// The index.
        dir: PathBuf,
    },
    /// Another process is writing.
    #[error("{} is being written by another process ({holder}); wait for it to end or stop it", dir.display())]
    Locked {
        /// The index.
        dir: PathBuf,
        /// Who holds the lock, as the lock file says.
        holder: String,
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
    /// The caller asked to stop; the last commit stands.
    #[error("cancelled; the last commit stands")]
    Cancelled,
}

impl Error {
    /// An [`Error::Io`] with its context.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    /// Whether the cause is a full disk or quota.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
    }
}
