//! `latewood eval`

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;

use latewood::device::{Device, Opened};
use latewood::eval::{self, Collection, EvalOptions, EvalReport, Judgements, Metrics, Ranking};
use latewood::ingest::PassageOptions;
use serde_json::json;

use crate::args::{Args, EvalArgs};
use crate::progress::Progress;
use crate::{model, output};

pub(crate) fn run(args: &Args, own: &EvalArgs) -> anyhow::Result<ExitCode> {
    if let Some(run) = &own.run {
        let judgements = Collection::read_judgements(&own.dir)?;
        let run = eval::read_run(run)?;
        let metrics = eval::score(&judgements, &run);
        if args.json {
            output::json_line("latewood.run.1", &metrics)?;
        } else {
            table(&[("run", metrics)])?;
        }
        compare(args, own, &judgements, &[("run", &run)])?;
        return Ok(ExitCode::SUCCESS);
    }
    let collection = Collection::read(&own.dir)?;
    let device = super::device(args, Device::Cpu)?;
    let encoder = model::load(args, &own.encoder, None, &device)?;
    let progress = Progress::new(args.quiet);
    let report = eval::evaluate(&collection, &encoder, &options(args, own, device), &|event| progress.eval(event))?;
    progress.clear();
    if let Some(path) = &own.save_run {
        let first = report.modes.first().map(|mode| &mode.run);
        first.map(|run| eval::write_run(path, run, "latewood")).transpose()?;
    }
    if args.json {
        output::json_line("latewood.eval.1", &report)?;
    } else {
        print(&report)?;
    }
    let runs: Vec<_> = report.modes.iter().map(|mode| (mode.mode.name(), &mode.run)).collect();
    compare(args, own, &collection.judgements, &runs)?;
    Ok(ExitCode::SUCCESS)
}

/// How each of `runs` does beside the run that `--compare` names.
fn compare(args: &Args, own: &EvalArgs, judgements: &Judgements, runs: &[Named<'_>]) -> anyhow::Result<()> {
    let Some(path) = &own.compare else { return Ok(()) };
    let other = eval::read_run(path)?;
    for (name, run) in runs {
        let found = eval::compare(judgements, run, &other);
        if args.json {
            let other = path.display().to_string();
            output::json_line("latewood.comparison.1", &json!({ "run": name, "other": other, "ndcg@10": found }))?;
            continue;
        }
        writeln!(
            io::stdout(),
            "{name:8} NDCG@10 {:+.4} against {}: {} queries better, {} worse, {} the same; chance gives as much with p = {:.4}",
            found.difference,
            path.display(),
            found.better,
            found.worse,
            found.same,
            found.p_value
        )?;
    }
    Ok(())
}

/// A run and what it is called.
type Named<'r> = (&'r str, &'r HashMap<String, Ranking>);

fn options(args: &Args, own: &EvalArgs, device: Opened) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.bits = own.bits;
    options.exact = !own.no_exact;
    options.index = args.index.clone();
    own.mode.set(&mut options.search);
    if own.mode.is_given() {
        options.modes = vec![options.search.mode];
    }
    let params = &mut options.search.params;
    params.probes = own.probes.unwrap_or(params.probes);
    params.rescored = own.rescored.unwrap_or(params.rescored);
    options.passages = own.split.then(PassageOptions::default);
    options.device = Some(device);
    options
}

fn print(report: &EvalReport) -> anyhow::Result<()> {
    let exact = report.exact.map(|metrics| ("exact MaxSim", metrics));
    let rows: Vec<_> = report.modes.iter().map(|mode| (mode.mode.name(), mode.metrics)).chain(exact).collect();
    table(&rows)?;
    let mut out = io::stdout().lock();
    if let (Some(at_10), Some(at_100)) = (report.recall_10_of_exact, report.recall_100_of_exact) {
        writeln!(
            out,
            "of the exact first 10 semantic finds {:.1}%, of the first 100 {:.1}%",
            at_10 * 100.0,
            at_100 * 100.0
        )?;
    }
    writeln!(
        out,
        "{} documents ({} empty), {} passages ({} cut), {} queries ({} cut)",
        report.documents,
        report.empty_documents,
        report.passages,
        report.truncated_documents,
        report.queries,
        report.truncated_queries
    )?;
    writeln!(out, "encode   {:.1} s, {:.0} tokens/s", report.encode_s, report.encode_tokens_per_s)?;
    writeln!(
        out,
        "build    {:.1} s, {} vectors, {} ({:.1} bytes a vector)",
        report.build_s,
        report.tokens,
        output::bytes(report.index_bytes),
        report.bytes_per_token
    )?;
    for mode in &report.modes {
        let (all, search) = (mode.latency_ms, mode.search_ms);
        writeln!(
            out,
            "{:8} p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms; without encoding the query p50 {:.2} ms",
            mode.mode, all.p50, all.p95, all.p99, search.p50
        )?;
    }
    Ok(())
}

fn table(rows: &[(&str, Metrics)]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{:14}{:>10}{:>10}{:>12}{:>12}", "", "NDCG@10", "MRR@10", "Recall@10", "Recall@100")?;
    for (name, m) in rows {
        writeln!(out, "{name:14}{:>10.4}{:>10.4}{:>12.4}{:>12.4}", m.ndcg_10, m.mrr_10, m.recall_10, m.recall_100)?;
    }
    Ok(())
}
