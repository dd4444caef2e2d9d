//! What can go wrong with arrays, each cause saying what to do next.

use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure over arrays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's.
    #[error(transparent)]
    Engine(#[from] latewood_engine::Error),
    /// An index of arrays was not built to its end.
    #[error(
        "{}: holds {done} of {documents} documents, its build has not ended; the same `latewood vectors build` goes on from there",
        index.display()
    )]
    Unfinished {
        /// The index.
        index: PathBuf,
        /// Documents in it.
        done: usize,
        /// Documents that there are.
        documents: usize,
    },
    /// An index of arrays was begun with other arrays or settings.
    #[error("{}: a build of other arrays or with other settings has begun here; delete the folder or name another", index.display())]
    OtherBuild {
        /// The index.
        index: PathBuf,
    },
    /// An array does not read.
    #[error("{}: {detail}", file.display())]
    Input {
        /// The file.
        file: PathBuf,
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

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Engine(e) => e.is_no_space(),
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}
