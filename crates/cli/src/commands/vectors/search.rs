//! `latewood vectors search`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use latewood::device::Device;
use latewood::engine::{Hit, QueryEmbeddings, SearchParams, Searcher};
use latewood::vectors::{self, read_queries};
use serde_json::{Value, json};

use super::{index_path, on_threads, options, usage, write_timings};
use crate::args::{Args, VectorsSearchArgs};
use crate::commands::device;

pub(super) fn run(args: &Args, own: &VectorsSearchArgs) -> anyhow::Result<ExitCode> {
    let path = index_path(args)?;
    let queries = read_queries(&own.queries)?;
    let params = options::search(own.k as usize, &own.measured.options)?;
    let device = device(args, Device::Cpu)?;
    let start = Instant::now();
    let searcher = vectors::built(path)?.with_backend(device.backend()).searcher()?;
    let load = start.elapsed();
    let (hits, mut timings) = on_threads(&own.measured, || measure(&searcher, &queries, &params))??;
    if let Some(run) = &own.run {
        write_run(run, &hits).with_context(|| format!("cannot write {}", run.display()))?;
    }
    timings["load_s"] = json!(load.as_secs_f64());
    write_timings(&own.measured, &timings)?;
    Ok(ExitCode::SUCCESS)
}

/// Every query once untimed, then each alone, then all as one batch.
fn measure(
    searcher: &Searcher,
    queries: &[QueryEmbeddings],
    params: &SearchParams,
) -> anyhow::Result<(Vec<Vec<Hit>>, Value)> {
    for query in queries {
        searcher.search(query, params)?;
    }
    let (mut latencies, mut cpu, mut hits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut stages, mut candidates, mut rescored) = (vec![Duration::ZERO; 5], 0, 0);
    for query in queries {
        let (start, cpu_start) = (Instant::now(), usage::cpu_time());
        let found = searcher.search(query, params)?;
        cpu.extend(usage::cpu_time().zip(cpu_start).map(|(end, start)| end - start));
        latencies.push(start.elapsed());
        let t = found.timings;
        stages.iter_mut().zip([t.centroids, t.gather, t.prune, t.rescore, t.refine]).for_each(|(sum, t)| *sum += t);
        candidates += found.candidates;
        rescored += found.rescored;
        hits.push(found.hits);
    }
    let start = Instant::now();
    searcher.search_batch(queries, params)?;
    let batch = start.elapsed().as_secs_f64();
    let n = queries.len().max(1) as f64;
    let stage = |i: usize| stages[i].as_secs_f64() * 1e6 / n;
    let memory = usage::memory();
    let timings = json!({
        "engine": "latewood", "version": env!("CARGO_PKG_VERSION"), "backend": searcher.backend().name(),
        "nq": queries.len(), "latency_us": usage::summary(latencies), "cpu_us": usage::summary(cpu),
        "batch_s": batch, "batch_qps": n / batch, "peak_rss_kb": memory["peak_rss_kb"],
        "rss_anon_kb": memory["rss_anon_kb"], "rss_file_kb": memory["rss_file_kb"],
        "mean_candidates": candidates as f64 / n, "mean_rescored": rescored as f64 / n,
        "stage_us": { "centroids": stage(0), "gather": stage(1), "prune": stage(2), "rescore": stage(3), "refine": stage(4) },
    });
    Ok((hits, timings))
}

fn write_run(path: &Path, hits: &[Vec<Hit>]) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    for (query, hits) in hits.iter().enumerate() {
        for (hit, rank) in hits.iter().zip(1..) {
            writeln!(out, "{query} {} {rank} {}", hit.doc, hit.score)?;
        }
    }
    out.flush()
}
