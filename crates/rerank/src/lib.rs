//! Reranking: gather wide, narrow smart.
//!
//! What a search finds first is put in order by stages, each dearer and better than the one before and given fewer
//! candidates: late interaction, cross-encoders, language models, what is known of a document beside its text. A [`Pipeline`]
//! says which; a [`Ranker`] runs it and says what each stage did ([`Report`]).
//!
//! ```
//! use latewood_rerank::Pipeline;
//!
//! let pipeline = Pipeline::parse_toml(r#"
//!     [retrieve]
//!     mode = "keyword"
//!     top_n = 100
//!
//!     [[stages]]
//!     type = "late-interaction"
//!     top_n = 20
//!
//!     [[stages]]
//!     type = "metadata"
//!     top_n = 5
//!     signals = [{ type = "recency", half_life_days = 90.0, weight = 0.2 }]
//! "#)?;
//! assert_eq!(pipeline.stages.len(), 2);
//! # Ok::<(), latewood_rerank::Error>(())
//! ```
//!
//! When to use which stage is in `docs/reranking.md`.

mod budget;
mod cache;
mod candidate;
mod error;
#[cfg(feature = "llm")]
mod llm;
mod pipeline;
pub mod prompt;
mod ranker;
mod report;
mod stages;

pub use candidate::Candidate;
pub use error::{Error, Result};
#[cfg(feature = "llm")]
pub use llm::repaired;
pub use pipeline::{
    CrossEncoderStage, FusionMethod, FusionStage, KeywordStage, LateInteractionStage, LlmMethod, LlmStage,
    MetadataStage, Normalise, Pipeline, RETRIEVE, Retrieve, Signal, SignalKind, Stage, StageKind,
};
pub use ranker::{Host, Models, Ranked, Ranker, Room, Scorers};
pub use report::{Distribution, Estimate, Report, StageReport};
