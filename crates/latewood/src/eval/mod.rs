//! Measuring search: collections with judgements, users' own questions, metrics, and the index against the exact oracle.

mod beir;
mod cascade;
mod compare;
mod evaluate;
mod fit;
mod metrics;
mod questions;
mod run;
mod searching;
mod tune;

pub use beir::{Collection, Document, Query};
pub use cascade::StageMetrics;
pub use compare::{Comparison, compare};
pub use evaluate::{EvalEvent, EvalOptions, EvalReport, evaluate};
pub use fit::FitReport;
pub use metrics::{Judgements, Metrics, by_query, overlap, score};
pub use questions::{IndexReport, OwnQuestions, Signal, evaluate_index, fit_index};
pub use run::{Ranking, read_run, write_run};
pub use searching::{ModeReport, Percentiles, QueryReport, Questions};
pub use tune::{Trial, TuneOptions, TuneReport, tune};
