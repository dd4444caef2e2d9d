//! What the user types.

mod measure;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use latewood::device::Device;
use latewood::ingest::Fields;
use latewood::{Mode, SearchOptions};

use crate::config;

pub(crate) use measure::{EvalArgs, TuneArgs};

/// Search your documents by meaning: late interaction over token vectors, on your own machine.
///
/// Exit codes: 0 found or done, 1 nothing found, 2 error.
///
/// Every option can be settled in the environment, LATEWOOD_MODE for --mode, or in a file, which `latewood doctor` names. A
/// flag that is settled is taken back for once by --quiet=false.
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

    /// The model to use instead of the one inside the program: a folder, or the name of a model of the Hugging Face hub,
    /// OWNER/NAME or OWNER/NAME@REVISION, which is fetched once
    #[arg(long, global = true, value_name = "MODEL", value_hint = ValueHint::DirPath)]
    pub(crate) model: Option<PathBuf>,

    /// Where searches, builds of indexes and the model run: auto, cpu, wgpu, wgpu:1, cuda, cuda:1; auto takes a GPU if one
    /// can be used
    /// [default: auto for serve, otherwise cpu]
    #[arg(long, global = true, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,

    /// The numbers of the model's matrix products [default: int8, several times as fast as f32, on the processor; f16 on a
    /// GPU]
    #[arg(long, global = true, value_enum, value_name = "NUMBERS")]
    pub(crate) precision: Option<Precision>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    Int8,
    F32,
    F16,
    Bf16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Find passages in a folder, indexing it first where it is new or has changed
    Search(SearchArgs),
    /// Put texts in order by how well they answer a question
    Rerank(RerankArgs),
    /// Index a folder, or bring its index up to date
    Index(IndexArgs),
    /// Say what is indexed
    Status(StatusArgs),
    /// Answer searches over HTTP
    ///
    /// Keys are read from LATEWOOD_READ_KEYS and LATEWOOD_WRITE_KEYS, a comma between them: each a key of 16 characters or
    /// more, or blake3: and its hash in hexadecimal. A key that may write may read. RUST_LOG says what is logged: warnings
    /// unless said, with info a line a request.
    Serve(ServeArgs),
    /// Answer searches of a language model's program, over the Model Context Protocol on standard input and output
    ///
    /// Tools: search, read and status, none of which changes anything. `latewood serve` has the same at /mcp.
    Mcp(McpArgs),
    /// Look whether all is well: settings, devices, model, index
    Doctor(DoctorArgs),
    /// Print a script that completes this program's arguments in a shell
    ///
    /// For bash: latewood completions bash > ~/.local/share/bash-completion/completions/latewood
    Completions(CompletionsArgs),
    /// Print this program's page of the manual
    ///
    /// To read it: latewood man | man -l -
    Man,
    /// Print the OpenAPI document of the HTTP interface
    Openapi,
    /// Measure search quality and speed, on a collection with judgements or by questions of your own
    Eval(EvalArgs),
    /// Find out how little of an index searches may look at, and have them do so from now on
    Tune(TuneArgs),
    /// Check every byte of an index; exit code 2 and what is wrong if it is damaged
    Verify(MaintainArgs),
    /// Rewrite an index without what is deleted, in as few files as there can be
    Compact(MaintainArgs),
    /// Write an index's vectors as .npy arrays: vectors.npy, doclens.npy and docids.txt
    Export(ExportArgs),
    /// Take text out of documents, for another latewood
    #[cfg(feature = "extract")]
    #[command(hide = true)]
    ExtractWorker(ExtractArgs),
    /// Look into models, and fetch them
    #[command(subcommand)]
    Model(ModelCommand),
    /// Index and search token embeddings from elsewhere, given as .npy arrays
    #[command(subcommand)]
    Vectors(VectorsCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say what was understood of a model, and try it; exit code 2 and the reason if it cannot be used
    Check(ModelCheckArgs),
    /// Fetch a model of the Hugging Face hub, or bring it up to date, and say where it lies
    ///
    /// A model that is there already is otherwise used as it is, and nobody is asked whether there is a newer one. HF_HOME
    /// and HF_HUB_CACHE say where models lie, HF_ENDPOINT where the hub is, HF_TOKEN who asks; with HF_HUB_OFFLINE=1
    /// nobody is asked anything.
    #[cfg(feature = "hub")]
    Fetch(ModelFetchArgs),
}

#[cfg(feature = "hub")]
#[derive(Debug, clap::Args)]
pub(crate) struct ModelFetchArgs {
    /// OWNER/NAME or OWNER/NAME@REVISION
    pub(crate) name: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ModelCheckArgs {
    /// A model of Stanford ColBERT, PyLate, Sentence Transformers, Hugging Face or Latewood: its folder, or its name on
    /// the Hugging Face hub [default: the model inside the program]
    #[arg(value_name = "MODEL", value_hint = ValueHint::DirPath)]
    pub(crate) path: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

/// DIR holds little-endian C-order .npy arrays: vectors.npy f16 [n, d], unit rows, documents back to back; doclens.npy
/// i32 [docs]; optionally token_ids.npy i64 [n], which makes building faster; queries.npy f32 [queries, longest, d],
/// padded with zeros; qlens.npy i32 [queries]. Documents and queries are known by their position, from 0.
#[derive(Debug, Subcommand)]
pub(crate) enum VectorsCommand {
    /// Build an index of the documents of DIR
    Build(VectorsBuildArgs),
    /// Run the queries of DIR, one by one and then all at once, and time them
    Search(VectorsSearchArgs),
    /// Encode a BEIR folder into such arrays
    Encode(VectorsEncodeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct MaintainArgs {
    /// A folder that is indexed, or one below it [default: the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// A folder that is indexed, or one below it [default: the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// The folder to write, made if it is missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VectorsBuildArgs {
    /// The folder of arrays
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) embeddings: PathBuf,

    #[command(flatten)]
    pub(crate) measured: MeasuredArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VectorsSearchArgs {
    /// The folder of arrays
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) queries: PathBuf,

    /// Hits a query
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: u32,

    /// Where to write the hits, a line each: query position, document position, rank from 1, score
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) run: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) measured: MeasuredArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VectorsEncodeArgs {
    /// A BEIR folder: corpus.jsonl, queries.jsonl and qrels/test.tsv, each also as .zst
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) collection: PathBuf,

    /// The folder to write, made if it is missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MeasuredArgs {
    /// Threads to use [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,

    /// Where to write the timings as JSON [default: the terminal]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) timings: Option<PathBuf>,

    /// A setting of the engine; a wrong name lists those there are
    #[arg(long = "opt", value_name = "KEY=VALUE")]
    pub(crate) options: Vec<String>,
}

/// What is wanted otherwise than the model says.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Model options")]
pub(crate) struct EncoderArgs {
    /// Tokens of a query that the model takes [default: as the model says]
    #[arg(long, value_name = "N")]
    pub(crate) query_maxlen: Option<usize>,

    /// Tokens of a document that the model takes [default: as the index was made; a new one as the model says]
    #[arg(long, value_name = "N")]
    pub(crate) doc_maxlen: Option<usize>,

    /// Values of a row that are kept, of Matryoshka models [default: as the index was made; a new one with all]
    #[arg(long, value_name = "N")]
    pub(crate) dim: Option<usize>,

    /// Pool the rows of a document: so many that are alike become one [default: as the index was made; a new one as the
    /// model says]
    #[arg(long, value_name = "F")]
    pub(crate) pool_factor: Option<f64>,
}

/// How documents are read.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Document options")]
pub(crate) struct DocumentArgs {
    /// The fields of records in .jsonl, .csv and .tsv files, as text=body,title=headline,id=key; the index remembers
    /// them, and auto goes back [default: text, body or content, and title or headline; a file without such is read as plain
    /// text]
    #[arg(long, value_name = "FIELDS")]
    pub(crate) fields: Option<Fields>,

    #[command(flatten)]
    pub(crate) extract: ExtractArgs,
}

/// What reading one PDF, office file or e-book may take.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Document options")]
pub(crate) struct ExtractArgs {
    /// Seconds that reading one PDF, office file or e-book may take; one that takes longer is left out
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) extract_seconds: u32,

    /// Megabytes of memory that it may take, on Linux and other systems that limit a process's addresses
    #[arg(long, value_name = "MB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub(crate) extract_memory: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SearchArgs {
    /// What you are looking for, in your own words
    pub(crate) query: String,

    /// The folder to search, or - for the text on standard input [default: the current one, or with --index all that is
    /// indexed]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// Passages to print
    #[arg(short, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: u32,

    /// Search what is indexed as it is, without looking for changes
    #[arg(long)]
    pub(crate) no_refresh: bool,

    /// Only documents that pass: 'path:docs/** AND modified>2025-01-01 AND NOT lang:rust'; fields are path, title, kind (or
    /// lang), modified and the names of metadata; tests are : = != > >= < <=, joined by AND, OR, NOT and parentheses
    #[arg(short, long = "where", value_name = "FILTER")]
    pub(crate) filter: Option<String>,

    /// Say what each word of the query met in a passage
    #[arg(long)]
    pub(crate) explain: bool,

    /// Print passages whole, not only the part that the query met most
    #[arg(long)]
    pub(crate) full: bool,

    /// Print the paths of files alone, each once
    #[arg(short = 'l', long, conflicts_with_all = ["json", "explain", "full"])]
    pub(crate) paths: bool,

    /// Print the paths alone, each with a zero byte after it, for xargs -0
    #[arg(short = '0', long, conflicts_with_all = ["json", "explain", "full"])]
    pub(crate) null: bool,

    #[command(flatten)]
    pub(crate) mode: ModeArgs,

    /// Put what is found in order by the stages of a pipeline, which says its own mode: fast, balanced, precise, or a file
    /// in TOML or JSON
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) pipeline: Option<String>,

    /// Say what the stages of the pipeline did, and what they took, on standard error
    #[arg(long, requires = "pipeline")]
    pub(crate) report: bool,

    #[command(flatten)]
    pub(crate) documents: DocumentArgs,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

/// Texts are the lines of FILE or of standard input, the best so far first; or, where the first line is one, JSON objects: `text`
/// and, if you like, `id`, `title`, `score` and `metadata`. What `latewood search --json` prints are such.
#[derive(Debug, clap::Args)]
pub(crate) struct RerankArgs {
    /// What they are to answer
    #[arg(required_unless_present = "schema")]
    pub(crate) query: Option<String>,

    /// The texts [default: standard input]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,

    /// The stages: a file in TOML or JSON, or fast, balanced, precise, of which what is searched for is left away
    /// [default: late interaction]
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) pipeline: Option<String>,

    /// Texts to print [default: all that the stages leave]
    #[arg(short, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) k: Option<u32>,

    /// Say what the stages did, and what they took, on standard error
    #[arg(long)]
    pub(crate) report: bool,

    /// Say what the stages are going to cost, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print the JSON Schema of pipelines, for editors
    #[arg(long)]
    pub(crate) schema: bool,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IndexArgs {
    /// The folder to index [default: the current one, or with --index the folder it was made for]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// Name every file that is left out, with the reason
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Go on, and take up changes of the folder as they come
    #[arg(short, long)]
    pub(crate) watch: bool,

    #[command(flatten)]
    pub(crate) documents: DocumentArgs,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// A folder that is indexed, or one below it [default: the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The folder to serve as the index "default", indexed first where it is new or has changed [default: the current one,
    /// or with --data none]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8765", value_name = "HOST:PORT", env = "LATEWOOD_ADDR")]
    pub(crate) addr: SocketAddr,

    /// The folder for indexes that clients make, made if it is missing; without it they can make none
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "LATEWOOD_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Listen beyond this machine although there is no key: everybody who reaches the address may do everything
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// A site whose pages may ask (CORS), as https://example.org; may be given more than once
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,

    /// Another name of this machine under which a server without keys may be asked; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Requests that may wait or compute at the same time; more are turned away with 429
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) max_requests: u32,

    /// Megabytes of a request's body
    #[arg(long, default_value_t = 32, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_body: u32,

    /// Seconds that a request may take; a write that takes longer goes on as a task
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: u32,

    /// A pipeline that searches may name: fast, balanced, precise, a file in TOML or JSON, which is called as the file without
    /// its ending, or NAME=FILE; may be given more than once
    #[arg(long, value_name = "PIPELINE")]
    pub(crate) pipeline: Vec<String>,

    /// A file that clicks and thumbs of clients are added to, for `latewood eval --questions`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) feedback: Option<PathBuf>,

    /// Log in JSON
    #[arg(long)]
    pub(crate) log_json: bool,

    #[command(flatten)]
    pub(crate) documents: DocumentArgs,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct McpArgs {
    /// The folder to search, indexed first where it is new or has changed [default: the current one, or with --data none]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,

    /// A folder of indexes that a server's clients made
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "LATEWOOD_DATA")]
    pub(crate) data: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) documents: DocumentArgs,

    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// The folder whose index to look at [default: the current one]
    #[arg(value_hint = ValueHint::DirPath, value_parser = config::folder)]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which one
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// How to search.
#[derive(Debug, clap::Args)]
pub(crate) struct ModeArgs {
    /// By meaning (semantic), by words (keyword), by both (hybrid), or the first by words put in order by meaning (rerank)
    /// [default: hybrid; to measure, all of them]
    #[arg(long, env = "LATEWOOD_MODE", value_parser = PossibleValuesParser::new(Mode::ALL.map(Mode::name)))]
    mode: Option<String>,

    /// What words count in mode hybrid, from 0 to 1
    #[arg(long, value_name = "WEIGHT", value_parser = share)]
    pub(crate) keyword_weight: Option<f32>,
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 1 is expected".into())
}

impl ModeArgs {
    pub(crate) fn is_given(&self) -> bool {
        self.mode.is_some()
    }

    /// What was asked for, in `options`.
    pub(crate) fn set(&self, options: &mut SearchOptions) {
        options.mode = self.mode.as_ref().and_then(|mode| mode.parse().ok()).unwrap_or(options.mode);
        options.keyword_weight = self.keyword_weight.unwrap_or(options.keyword_weight);
    }
}
