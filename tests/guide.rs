//! The commands of the guides, run as they stand.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{documents, of, repository};

/// The blocks of a document that are for a shell.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_command_of_the_guide_works() {
    assert!(run_blocks("docs/guide.md") >= 8);
}

#[test]
fn every_command_about_reranking_works() {
    assert!(run_blocks("docs/reranking.md") >= 3);
}

/// Runs the blocks of a document one after the other, in a folder of a few documents; how many there are.
fn run_blocks(document: &str) -> usize {
    let dir = documents();
    let guide = std::fs::read_to_string(repository().join(document)).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_latewood")).parent().unwrap();
    let path = std::env::join_paths(
        [program.into()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let blocks = blocks(&guide);
    for block in &blocks {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", block]).current_dir(dir.path());
        shell.env("PATH", path.as_ref().unwrap()).env("LATEWOOD_CONFIG", "/dev/null");
        let run = of(shell.output().unwrap());
        assert_eq!(run.code, 0, "{block}\n{}\n{}", run.stdout, run.stderr);
        assert!(!run.stdout.is_empty() || block.contains('>'), "{block} says nothing");
    }
    blocks.len()
}
