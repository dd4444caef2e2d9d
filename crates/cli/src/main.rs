//! The program `latewood`.
//!
//! Exit codes: 0 found (or done), 1 nothing found, 2 error.

mod args;
mod commands;
mod config;
mod hits;
#[cfg(feature = "hub")]
mod hub;
mod log;
mod model;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod progress;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Args, Command};

fn main() -> ExitCode {
    let result = config::apply(Args::command()).and_then(|mut command| {
        let matches = command.get_matches_mut();
        let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit());
        run(&args)
    });
    match result {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Search(own) => commands::search::run(args, own),
        Command::Index(own) => commands::index::run(args, own),
        Command::Status(own) => commands::status::run(args, own),
        Command::Serve(own) => commands::serve::run(args, own),
        Command::Mcp(own) => commands::serve::mcp(args, own),
        Command::Doctor(own) => commands::doctor::run(args, own),
        Command::Completions(own) => commands::manual::completions(own),
        Command::Man => commands::manual::man(),
        Command::Openapi => commands::serve::openapi(),
        Command::Eval(own) => commands::eval::run(args, own),
        Command::Tune(own) => commands::tune::run(args, own),
        Command::Verify(own) => commands::maintain::verify(args, own),
        Command::Compact(own) => commands::maintain::compact(args, own),
        Command::Export(own) => commands::maintain::export(args, own),
        #[cfg(feature = "extract")]
        Command::ExtractWorker(own) => commands::extract::run(own),
        Command::Model(own) => commands::model_check::run(args, own),
        Command::Vectors(own) => commands::vectors::run(args, own),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}
