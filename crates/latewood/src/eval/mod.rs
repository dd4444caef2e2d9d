//! Measuring search: collections with judgements, metrics, and the index against the exact oracle.

mod beir;
mod compare;
mod evaluate;
mod metrics;
mod run;

pub use beir::{Collection, Document, Query};
pub use compare::{Comparison, compare};
pub use evaluate::{EvalEvent, EvalOptions, EvalReport, ModeReport, evaluate};
pub use metrics::{Judgements, Metrics, by_query, overlap, score};
pub use run::{Ranking, read_run, write_run};
