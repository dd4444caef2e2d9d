//! `latewood vectors build`

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use latewood::engine::{DocId, Index, MmapDirectory, TokenEmbeddingsRef};
use latewood::vectors::Documents;
use serde_json::json;

use super::{index_path, on_threads, options, usage, write_timings};
use crate::args::{Args, VectorsBuildArgs};
use crate::progress::{Building, Progress};

pub(super) fn run(args: &Args, own: &VectorsBuildArgs) -> anyhow::Result<ExitCode> {
    let path = index_path(args)?;
    let mut documents = Documents::open(&own.embeddings)?;
    let options = options::index(documents.dim(), &own.measured.options)?;
    let input = usage::memory();
    let bar = Progress::new(args.quiet);
    let (started, cpu) = (Instant::now(), usage::cpu_time());
    let new = !path.exists();
    let built = on_threads(&own.measured, || -> anyhow::Result<_> {
        let index = Index::create(MmapDirectory::create(path)?, options)?;
        let mut writer = index.writer()?;
        let (mut reading, total) = (Duration::ZERO, documents.count() as u64);
        loop {
            let start = Instant::now();
            let next = documents.next_document()?;
            reading += start.elapsed();
            let Some(document) = next else { break };
            let named = || format!("document {} of {}", document.position, own.embeddings.display());
            let rows = TokenEmbeddingsRef::new(&document.values, documents.dim()).with_context(named)?;
            writer.add(DocId(document.position), rows).with_context(named)?;
            if document.position % 1024 == 0 {
                bar.show("reading", "", document.position, total);
            }
        }
        writer.commit(None, &Building(&bar))?;
        Ok((index.searcher()?.info(), reading))
    })?;
    if built.is_err() && new {
        // Half an index would be in the way of the next try. What went wrong is told by the error.
        let _ = fs::remove_dir_all(path);
    }
    let (info, reading) = built?;
    let build = started.elapsed() - reading;
    let cpu = usage::cpu_time().zip(cpu).map(|(end, start)| (end - start).as_secs_f64());
    bar.clear();
    let timings = json!({
        "engine": "latewood", "version": env!("CARGO_PKG_VERSION"), "build_s": build.as_secs_f64(),
        "read_s": reading.as_secs_f64(), "cpu_s": cpu, "input_rss_kb": input["rss_kb"],
        "peak_rss_kb": usage::memory()["peak_rss_kb"], "documents": info.docs(), "rows": info.tokens(),
        "index_bytes": info.bytes(), "bytes_per_row": info.bytes() as f64 / info.tokens().max(1) as f64,
        "centroids": info.shards.iter().map(|shard| shard.centroids).max(), "shards": info.shards.len(),
    });
    write_timings(&own.measured, &timings)?;
    Ok(ExitCode::SUCCESS)
}
