//! What the user types.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};

/// Search your documents by meaning: late interaction over token vectors, on your own machine.
///
/// Exit codes: 0 found or done, 1 nothing found, 2 error.
#[derive(Debug, Parser)]
#[command(name = "latewood", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Where the index lies [default: the .latewood folder of PATH or of the nearest folder above that has one]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) index: Option<PathBuf>,

    /// Write JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// No progress and no notes, only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// A model folder to use instead of the one inside the program
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) model: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find passages in a folder, indexing it first where it is new or has changed
    Search(SearchArgs),
    /// Index a folder, or bring its index up to date
    Index(IndexArgs),
    /// Say what is indexed
    Status(StatusArgs),
    /// Answer searches over HTTP
    Serve(ServeArgs),
    /// Measure search quality and speed on a collection with judgements
    Eval(EvalArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// What you are looking for, in your own words
    pub(crate) query: String,

    /// The folder to search [default: the current one, or with --index all that is indexed]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Passages to print
    #[arg(short, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: u32,

    /// Search what is indexed as it is, without looking for changes
    #[arg(long)]
    pub(crate) no_refresh: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IndexArgs {
    /// The folder to index [default: the current one, or with --index the folder it was made for]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Name every file that is left out, with the reason
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// A folder that is indexed, or one below it [default: the current one]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The folder to serve, indexed first where it is new or has changed [default: the current one]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8765", value_name = "HOST:PORT")]
    pub(crate) addr: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct EvalArgs {
    /// A BEIR folder: corpus.jsonl, queries.jsonl and qrels/test.tsv, each also as .zst
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,

    /// Score this finished TREC run instead of searching
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["save_run", "no_exact", "bits"])]
    pub(crate) run: Option<PathBuf>,

    /// Write the hits as a TREC run
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) save_run: Option<PathBuf>,

    /// Do not compute exact MaxSim beside the index
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
}
