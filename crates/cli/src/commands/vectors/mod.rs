//! `latewood vectors`: the engine alone, over arrays of token embeddings, with its time and memory measured.

mod build;
mod encode;
mod options;
mod search;
mod usage;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::args::{Args, MeasuredArgs, VectorsCommand};
use crate::output;

pub(crate) fn run(args: &Args, command: &VectorsCommand) -> anyhow::Result<ExitCode> {
    match command {
        VectorsCommand::Build(own) => build::run(args, own),
        VectorsCommand::Search(own) => search::run(args, own),
        VectorsCommand::Encode(own) => encode::run(args, own),
    }
}

/// Where the index lies: these commands guess nothing.
fn index_path(args: &Args) -> anyhow::Result<&Path> {
    args.index.as_deref().context("say where the index lies with --index DIR")
}

/// Runs `work` on as many threads as asked for.
fn on_threads<T: Send>(measured: &MeasuredArgs, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(measured.threads.unwrap_or(0) as usize).build()?;
    Ok(pool.install(work))
}

/// Writes the timings to the file asked for, or prints them.
fn write_timings(measured: &MeasuredArgs, timings: &Value) -> anyhow::Result<()> {
    match &measured.timings {
        None => output::json_line("latewood.timings.1", timings),
        Some(path) => {
            fs::write(path, format!("{timings:#}\n")).with_context(|| format!("cannot write {}", path.display()))
        }
    }
}
