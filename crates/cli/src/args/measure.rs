//! What the user types to measure.

use std::path::PathBuf;

use clap::ValueHint;

use super::{EncoderArgs, ModeArgs};
use crate::config;

#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// A BEIR folder: corpus.jsonl, queries.jsonl and qrels/test.tsv, each also as .zst; with --questions a folder that is
    /// indexed [default: with --questions the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder, required_unless_present = "questions")]
    pub(crate) dir: Option<PathBuf>,

    /// Ask an index your own questions: lines of a question, a tab and the files that answer it, with tabs between; or,
    /// in .jsonl, objects with question and answers, or what `latewood serve --feedback` wrote. A file may be followed by lines
    /// or a page: notes.md:10-24, book.pdf:p12
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["bits", "split"])]
    pub(crate) questions: Option<PathBuf>,

    /// Of feedback in --questions: only what is on this index of the server, where it had several
    #[arg(long, value_name = "NAME", requires = "questions")]
    pub(crate) feedback_on: Option<String>,

    /// Score this finished TREC run instead of searching
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["save_run", "no_exact", "bits", "per_query"])]
    pub(crate) run: Option<PathBuf>,

    /// Write what became of each query, in each mode: an object a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) per_query: Option<PathBuf>,

    /// Write the hits of the mode that is asked for, or else of mode hybrid, as a TREC run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save_run: Option<PathBuf>,

    /// Compare with this TREC run, query by query: is the difference more than chance?
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) compare: Option<PathBuf>,

    /// Do not compute beside the index what is nearest for certain
    #[arg(long)]
    pub(crate) no_exact: bool,

    /// Bits a dimension of the index: 1, 2 or 4
    #[arg(long, default_value_t = 4)]
    pub(crate) bits: u32,

    /// Centroids that each query token probes
    #[arg(long)]
    pub(crate) probes: Option<usize>,

    /// Documents scored on their compressed tokens
    #[arg(long)]
    pub(crate) rescored: Option<usize>,

    #[command(flatten)]
    pub(crate) mode: ModeArgs,

    /// Measure a pipeline, stage by stage: fast, balanced, precise, or a file in TOML or JSON
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) pipeline: Option<String>,

    /// Let this TREC run bring the pipeline's candidates, as another engine found them, instead of a search
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "pipeline")]
    pub(crate) candidates: Option<PathBuf>,

    /// Split documents into passages, as `latewood index` does; each then ranks as its best passage
    #[arg(long)]
    pub(crate) split: bool,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TuneArgs {
    /// A folder that is indexed, or one below it [default: the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// Share of the passages nearest for certain that searches by meaning shall find
    #[arg(long, default_value_t = 0.99, value_name = "SHARE", value_parser = recall)]
    pub(crate) recall: f64,

    /// Of so many passages
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) k: u32,

    /// Questions to try, as for eval, answers being of no matter [default: sentences out of the index]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) questions: Option<PathBuf>,

    /// Of feedback in --questions: only what is on this index of the server, where it had several
    #[arg(long, value_name = "NAME", requires = "questions")]
    pub(crate) feedback_on: Option<String>,

    /// Fit the weights of a pipeline's metadata stage to --questions instead, and print them
    #[arg(long, value_name = "PIPELINE", requires = "questions", conflicts_with_all = ["recall", "k", "dry_run"])]
    pub(crate) fit: Option<String>,

    /// Say what was found, and leave the index as it is
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Forget what was found before: searches look at as much as is usual
    #[arg(long, conflicts_with_all = ["recall", "k", "questions", "dry_run"])]
    pub(crate) reset: bool,
}

fn recall(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number| 0.0 < number && number <= 1.0);
    number.ok_or_else(|| "a number over 0 and not over 1 is expected".into())
}
