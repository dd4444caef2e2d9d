//! A folder of documents in a Rust program: index what is new, ask, read the passages.
//!
//! `cargo run --release -p latewood --features embedded --example search_folder -- FOLDER QUESTION`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;

use latewood::encoder::ColbertEncoder;
use latewood::{Location, SearchOptions, SyncOptions, TextIndex};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(question)) = (args.next(), args.next()) else {
        return Err("usage: search_folder FOLDER QUESTION".into());
    };
    let location = Location::find(Some(Path::new(&folder)), None)?;
    let index = TextIndex::open_or_create(location, Arc::new(ColbertEncoder::embedded()?))?;
    let report = index.sync(&SyncOptions::default(), &())?;
    println!("{} passages encoded, {} files left out", report.passages, report.skipped.len());
    for hit in index.reader()?.search(&question, &SearchOptions::new(3))?.hits {
        println!("{:.3}  {}:{}", hit.score, hit.passage.path, hit.passage.lines.start());
    }
    Ok(())
}
