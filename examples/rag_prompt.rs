//! From a question to a prompt for a language model: passages found, each with a number to cite, within a budget of tokens.
//!
//! `cargo run --release -p latewood --features embedded --example rag_prompt -- FOLDER QUESTION`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;

use latewood::encoder::{ColbertEncoder, Encoder};
use latewood::rerank::prompt::{Options, Source, context};
use latewood::{Hit, Location, SearchOptions, SyncOptions, TextIndex};

/// Tokens of all passages together, by the count of the search model; that of your language model will be much the same.
const BUDGET: usize = 1500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(question)) = (args.next(), args.next()) else {
        return Err("usage: rag_prompt FOLDER QUESTION".into());
    };
    let encoder = Arc::new(ColbertEncoder::embedded()?);
    let index = TextIndex::open_or_create(Location::find(Some(Path::new(&folder)), None)?, encoder.clone())?;
    index.sync(&SyncOptions::default(), &())?;
    let hits = index.reader()?.search(&question, &SearchOptions::new(20))?.hits;
    println!("{}", prompt(&question, &hits, &*encoder));
    Ok(())
}

/// Instructions, numbered passages, question.
fn prompt(question: &str, hits: &[Hit], encoder: &dyn Encoder) -> String {
    let source = |hit: &Hit| {
        let passage = &hit.passage;
        Source {
            place: format!("{}, lines {}-{}", passage.path, passage.lines.start(), passage.lines.end()),
            span: Some((passage.path.clone(), passage.span.clone())),
            text: passage.text.clone(),
        }
    };
    let sources: Vec<Source> = hits.iter().map(source).collect();
    let context = context(&sources, &Options::new(BUDGET), &|text: &str| encoder.count_tokens(text));
    format!(
        "Answer from these passages alone, and cite them by their numbers. If they do not say it, say so.\n\n{}\nQuestion: \
         {question}\n",
        context.text
    )
}
