//! The program `latewood`.
//!
//! Exit codes: 0 found (or done), 1 nothing found, 2 error.

mod args;
mod commands;
mod config;
mod flags;
mod hits;
#[cfg(feature = "hub")]
mod hub;
mod log;
mod model;
#[cfg(feature = "otel")]
mod otel;
mod output;
mod pipeline;
mod progress;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::CommandFactory;

use args::{Args, Command};
use config::Settled;

fn main() -> ExitCode {
    let (args, fault) = parse();
    match run(&args, fault) {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}

/// What the user wants, and what is wrong with their settings: then it is understood without them.
fn parse() -> (Args, Option<anyhow::Error>) {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let fault = match Settled::read(Args::command()) {
        Err(fault) => fault,
        Ok(settled) => match settled.parse(typed.clone()) {
            Ok(args) => return (args, None),
            Err(error) => settled.fault(&error).unwrap_or_else(|| error.exit()),
        },
    };
    let args = Settled::nothing(Args::command()).parse(typed).unwrap_or_else(|error| {
        left_aside(&fault);
        error.exit()
    });
    (args, Some(fault))
}

/// Help is there when the settings are not.
fn left_aside(fault: &anyhow::Error) {
    output::note(false, &format!("settings left aside: {fault:#}"));
}

fn run(args: &Args, fault: Option<anyhow::Error>) -> anyhow::Result<ExitCode> {
    let fault = match (&args.command, fault) {
        (Command::Completions(_) | Command::Man, Some(fault)) => {
            left_aside(&fault);
            None
        }
        (Command::Doctor(_), fault) => fault,
        // It is told everything, and what it ends with is taken for a document's fault.
        #[cfg(feature = "extract")]
        (Command::ExtractWorker(_), _) => None,
        (_, Some(fault)) => return Err(fault),
        (_, None) => None,
    };
    if !matches!(args.command, Command::Serve(_)) {
        log::warnings();
    }
    match &args.command {
        Command::Search(own) => commands::search::run(args, own),
        Command::Rerank(own) => commands::rerank::run(args, own),
        Command::Index(own) => commands::index::run(args, own),
        Command::Status(own) => commands::status::run(args, own),
        Command::Serve(own) => commands::serve::run(args, own),
        Command::Mcp(own) => commands::serve::mcp(args, own),
        Command::Doctor(own) => commands::doctor::run(args, own, fault),
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
