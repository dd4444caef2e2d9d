//! Measuring search: collections with judgements, metrics, and the index against the exact oracle.

mod beir;
mod evaluate;
mod metrics;
mod run;

pub use beir::{Collection, Document, Query};
pub use evaluate::{EvalEvent, EvalOptions, EvalReport, evaluate};
pub use metrics::{Judgements, Metrics, overlap, score};
pub use run::{Ranking, read_run, write_run};
