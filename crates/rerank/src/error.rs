//! What can go wrong, each cause saying where.

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every failure of reranking.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pipeline does not read, or makes no sense.
    #[error("pipeline{}: {detail}", at(*line))]
    Pipeline {
        /// The line of the text, from 1, where it is known.
        line: Option<usize>,
        /// What is wrong, the field named.
        detail: String,
    },
    /// A stage's model does not load.
    #[error("stage {stage}: model {model}: {detail}")]
    Model {
        /// The stage's name.
        stage: String,
        /// The model's.
        model: String,
        /// Why.
        detail: String,
    },
    /// A cross-encoder cannot take the query.
    #[error("stage {stage}: {detail}")]
    QueryTooLong {
        /// The stage's name.
        stage: String,
        /// How long it is, and how long it may be.
        detail: String,
    },
    /// Whoever asked has told it to stop.
    #[error("stopped")]
    Stopped,
    /// A stage failed, and the ones after it would make no sense.
    #[error("stage {stage}: {detail}")]
    Stage {
        /// The stage's name.
        stage: String,
        /// Why.
        detail: String,
    },
}

fn at(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!(", line {line}"))
}
