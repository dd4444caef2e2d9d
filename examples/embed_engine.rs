//! The engine in another search system: bring your own embeddings, no encoder, no text.
//!
//! `cargo run -p latewood-engine --example embed_engine`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use latewood_engine::{
    DocId, Index, IndexOptions, MmapDirectory, Prefilter, QueryEmbeddings, Result, SearchParams, TokenEmbeddings,
};

const DIM: usize = 128;

/// Stands for your encoder: a direction for each word, the same for the same word.
fn embed(text: &str) -> Vec<f32> {
    text.split_whitespace().flat_map(direction).collect()
}

fn direction(word: &str) -> Vec<f32> {
    let mut state =
        word.bytes().fold(0xcbf29ce484222325u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100000001b3));
    let mut row: Vec<f32> = (0..DIM)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    row.iter_mut().for_each(|x| *x /= norm);
    row
}

fn main() -> Result<()> {
    let documents = [
        (10, "the sapwood carries water from the roots to the crown"),
        (20, "latewood forms in summer with small cells and thick walls"),
        (30, "a growth ring is one year of earlywood and latewood"),
        (40, "bark protects the living tissue below it"),
    ];
    let folder = std::env::temp_dir().join(format!("latewood-example-{}", std::process::id()));

    // Build: ids are yours, embeddings are `[tokens, dim]` with unit rows. A commit publishes all of it at once.
    let index = Index::create(MmapDirectory::create(&folder)?, IndexOptions::new(DIM).model("words as directions"))?;
    let mut writer = index.writer()?;
    for (id, text) in documents {
        writer.add(DocId(id), TokenEmbeddings::new(embed(text), DIM)?.view())?;
    }
    writer.commit(None, &())?;

    // Search: a searcher keeps the commit it was opened on.
    let searcher = index.searcher()?;
    let query = QueryEmbeddings::new(embed("latewood growth ring"), DIM)?;
    let found = searcher.search(&query, &SearchParams::new(2))?;
    for hit in &found.hits {
        println!("{:.2}  document {}", hit.score, hit.doc);
    }
    println!("{} of {} candidates scored in {:?}", found.rescored, found.candidates, found.timings.total());

    // Filter with ids from your own system, and delete.
    let mut params = SearchParams::new(2);
    params.filter = Prefilter::Except([30].into_iter().collect());
    println!("without 30: {:?}", searcher.search(&query, &params)?.hits[0].doc);
    writer.delete(DocId(20));
    writer.commit(None, &())?;
    println!("{} documents after deleting one", index.searcher()?.info().docs());

    drop(writer);
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}
