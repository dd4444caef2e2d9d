//! `latewood eval`

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use latewood::device::{Device, Opened};
use latewood::eval::{
    self, Collection, EvalOptions, EvalReport, Judgements, Metrics, ModeReport, OwnQuestions, Questions, Ranking,
    StageMetrics,
};
use latewood::ingest::PassageOptions;
use latewood::{Budget, Reader, TextIndex};
use serde_json::json;

use crate::args::{Args, EvalArgs};
use crate::progress::Progress;
use crate::{model, output, pipeline};

pub(crate) fn run(args: &Args, own: &EvalArgs) -> anyhow::Result<ExitCode> {
    match (&own.run, &own.questions, &own.dir) {
        (Some(run), _, _) => finished(args, own, run)?,
        (None, Some(file), _) => index(args, own, &OwnQuestions::read(file, own.feedback_on.as_deref())?)?,
        (None, None, Some(dir)) => collection(args, own, &Collection::read(dir)?)?,
        (None, None, None) => unreachable!("clap asks for one of the two"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Scores a run.
fn finished(args: &Args, own: &EvalArgs, run: &Path) -> anyhow::Result<()> {
    let judgements = match (&own.questions, &own.dir) {
        (Some(file), _) => OwnQuestions::read(file, own.feedback_on.as_deref())?.questions.judgements,
        (None, dir) => Collection::read_judgements(dir.as_deref().unwrap_or(Path::new(".")))?,
    };
    let run = eval::read_run(run)?;
    let metrics = eval::score(&judgements, &run);
    if args.json {
        output::json_line("latewood.run.1", &metrics)?;
    } else {
        table(&[("run", metrics)])?;
    }
    compare(args, own, &judgements, &[("run", &run)])
}

/// Builds an index of a collection, and asks it.
fn collection(args: &Args, own: &EvalArgs, collection: &Collection) -> anyhow::Result<()> {
    let device = super::device(args, Device::Cpu)?;
    let encoder = model::load(args, &own.encoder, None, &device)?;
    let progress = Progress::new(args.quiet);
    let options = options(args, own, device)?;
    let report = eval::evaluate(collection, &encoder, &options, &|event| progress.eval(event))?;
    progress.clear();
    if args.json {
        output::json_line("latewood.eval.1", &report)?;
    } else {
        print(&report)?;
        stages(&report.pipeline)?;
    }
    by_the_way(args, own, &report.modes, &collection.questions)
}

/// Asks an index that is there.
fn index(args: &Args, own: &EvalArgs, questions: &OwnQuestions) -> anyhow::Result<()> {
    let device = super::device(args, Device::Cpu)?;
    let index = super::open(args, own.dir.as_deref(), &own.encoder, &device)?;
    let reader = index.reader()?;
    if let Some(name) = own.questions.as_deref().and_then(|file| indexed_as(&index, &reader, file)) {
        output::note(
            args.quiet,
            &format!("the questions find themselves: {name} is indexed; name it in .latewoodignore"),
        );
    }
    let progress = Progress::new(args.quiet);
    let options = options(args, own, device)?;
    let report = eval::evaluate_index(&reader, questions, &options, &|event| progress.eval(event))?;
    progress.clear();
    for answer in &report.not_indexed {
        output::note(args.quiet, &format!("{answer} is not in the index: nothing can find it"));
    }
    if args.json {
        output::json_line("latewood.eval.questions.1", &report)?;
    } else {
        let rows: Vec<_> = report.modes.iter().map(|mode| (mode.mode.name(), mode.metrics)).collect();
        table(&rows)?;
        recall((report.recall_10_of_exact, report.recall_100_of_exact))?;
        writeln!(io::stdout(), "{} questions", report.queries)?;
        times(&report.modes)?;
        stages(&report.pipeline)?;
    }
    by_the_way(args, own, &report.modes, &questions.questions)
}

/// What a file is called in the index, if it is in it.
fn indexed_as(index: &TextIndex, reader: &Reader, file: &Path) -> Option<String> {
    let file = file.canonicalize().ok()?;
    let name = file.strip_prefix(index.root().canonicalize().ok()?).ok()?.to_str()?.replace('\\', "/");
    reader.catalog().get(&name).map(|file| file.path.clone())
}

/// The files that were asked for, and the comparison.
fn by_the_way(args: &Args, own: &EvalArgs, modes: &[ModeReport], questions: &Questions) -> anyhow::Result<()> {
    if let (Some(path), Some(first)) = (&own.save_run, modes.first()) {
        eval::write_run(path, &first.run, "latewood")?;
    }
    if let Some(path) = &own.per_query {
        let queries = modes.iter().flat_map(|mode| &mode.queries);
        let lines: Vec<String> = queries.map(serde_json::to_string).collect::<Result<_, _>>()?;
        std::fs::write(path, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    let runs: Vec<_> = modes.iter().map(|mode| (mode.mode.name(), &mode.run)).collect();
    compare(args, own, &questions.judgements, &runs)
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

fn options(args: &Args, own: &EvalArgs, device: Opened) -> anyhow::Result<EvalOptions> {
    let mut options = EvalOptions::default();
    options.bits = own.bits;
    options.exact = !own.no_exact;
    options.index = args.index.clone();
    own.mode.set(&mut options.search);
    if own.mode.is_given() {
        options.modes = vec![options.search.mode];
    }
    if own.probes.is_some() || own.rescored.is_some() {
        let usual = Budget::usual(options.search.k);
        let budget = options.search.budget.insert(usual);
        budget.probes = own.probes.unwrap_or(usual.probes);
        budget.rescored = own.rescored.unwrap_or(usual.rescored);
    }
    options.passages = own.split.then(PassageOptions::default);
    if let Some(named) = &own.pipeline {
        options.pipeline = Some(Arc::new(pipeline::load(args, pipeline::read(named)?, &device)?));
    }
    options.candidates = own.candidates.as_deref().map(eval::read_run).transpose()?;
    options.device = Some(device);
    Ok(options)
}

/// What each stage of a pipeline finds.
fn stages(stages: &[StageMetrics]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let Some(first) = stages.first() else { return Ok(()) };
    writeln!(
        out,
        "{:20}{:>8}{:>8}{:>7}{:>7}{:>7}{:>8}{:>8}{:>7}{:>12}{:>12}",
        "stage", "NDCG@10", "MRR@10", "P@1", "P@3", "P@5", "recall", "gain", "kept", "p50", "p95"
    )?;
    for stage in stages {
        let StageMetrics { metrics: m, precision_1, precision_3, precision_5, .. } = stage;
        writeln!(
            out,
            "{:20}{:>8.4}{:>8.4}{precision_1:>7.3}{precision_3:>7.3}{precision_5:>7.3}{:>8.4}{:>+8.4}{:>7.1}{:>9.2} ms{:>9.2} ms",
            stage.stage, m.ndcg_10, m.mrr_10, stage.recall, stage.gain, stage.kept, stage.ms.p50, stage.ms.p95
        )?;
        if stage.ran < 1.0 {
            writeln!(out, "{:20}ran for {:.0}% of the queries", "", stage.ran * 100.0)?;
        }
        if let Some(failed) = &stage.failed {
            writeln!(out, "{:20}{}", "", output::printable(failed))?;
        }
    }
    writeln!(
        out,
        "of all answers {:.1}% are not among what {} brings: no stage finds those",
        (1.0 - first.recall) * 100.0,
        first.stage
    )?;
    Ok(())
}

fn print(report: &EvalReport) -> anyhow::Result<()> {
    let exact = report.exact.map(|metrics| ("exact MaxSim", metrics));
    let rows: Vec<_> = report.modes.iter().map(|mode| (mode.mode.name(), mode.metrics)).chain(exact).collect();
    table(&rows)?;
    recall((report.recall_10_of_exact, report.recall_100_of_exact))?;
    let mut out = io::stdout().lock();
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
    drop(out);
    times(&report.modes)
}

/// How much of what is nearest for certain is found, of the first 10 and 100.
fn recall(of_exact: (Option<f64>, Option<f64>)) -> anyhow::Result<()> {
    if let (Some(at_10), Some(at_100)) = of_exact {
        writeln!(
            io::stdout(),
            "of the exact first 10 semantic finds {:.1}%, of the first 100 {:.1}%",
            at_10 * 100.0,
            at_100 * 100.0
        )?;
    }
    Ok(())
}

fn times(modes: &[ModeReport]) -> anyhow::Result<()> {
    for mode in modes {
        let (all, search) = (mode.latency_ms, mode.search_ms);
        writeln!(
            io::stdout(),
            "{:8} p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms; without encoding the query p50 {:.2} ms",
            mode.mode,
            all.p50,
            all.p95,
            all.p99,
            search.p50
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
