//! `latewood vectors build`

use std::process::ExitCode;
use std::time::Instant;

use latewood::device::Device;
use latewood::vectors::{self, Documents};
use serde_json::json;

use super::{index_path, on_threads, options, usage, write_timings};
use crate::args::{Args, VectorsBuildArgs};
use crate::commands::device;
use crate::output;
use crate::progress::{Building, Progress};

pub(super) fn run(args: &Args, own: &VectorsBuildArgs) -> anyhow::Result<ExitCode> {
    let path = index_path(args)?;
    let mut options = options::build(Documents::open(&own.embeddings)?.dim(), &own.measured.options)?;
    options.backend = device(args, Device::Cpu)?.backend();
    let backend = options.backend.clone();
    let input = usage::memory();
    let bar = Progress::new(args.quiet);
    let (started, cpu) = (Instant::now(), usage::cpu_time());
    let read = |done: usize, total: usize| bar.show("reading", "", done as u64, total as u64);
    let build = || vectors::build(&own.embeddings, path, options, &Building(&bar), &read);
    let vectors::Built { info, reading, found, .. } = on_threads(&own.measured, build)??;
    let build = started.elapsed() - reading;
    let cpu = usage::cpu_time().zip(cpu).map(|(end, start)| (end - start).as_secs_f64());
    bar.clear();
    if found > 0 {
        let text = format!("went on from document {found} of {}, where an earlier build ended", info.docs());
        output::note(args.quiet, &text);
    }
    let timings = json!({
        "engine": "latewood", "version": env!("CARGO_PKG_VERSION"), "backend": backend.name(), "build_s": build.as_secs_f64(),
        "read_s": reading.as_secs_f64(), "cpu_s": cpu, "input_rss_kb": input["rss_kb"],
        "peak_rss_kb": usage::memory()["peak_rss_kb"], "documents": info.docs(), "documents_found": found, "rows": info.tokens(),
        "index_bytes": info.bytes(), "bytes_per_row": info.bytes() as f64 / info.tokens().max(1) as f64,
        "centroids": info.shards.iter().map(|shard| shard.centroids).max(), "shards": info.shards.len(),
    });
    write_timings(&own.measured, &timings)?;
    Ok(ExitCode::SUCCESS)
}
