//! `latewood rerank`

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use latewood::device::Device;
use latewood::rerank::{Candidate, Pipeline, Ranked, Ranker};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::args::{Args, RerankArgs};
use crate::output::{self, printable};
use crate::{hits, model, pipeline};

/// Late interaction, and nothing else.
const USUAL: &str = "[[stages]]\ntype = \"late-interaction\"\n";
/// Bytes of all texts.
const MOST_BYTES: u64 = 256 << 20;

/// A line that is an object.
#[derive(Deserialize)]
struct Line {
    text: String,
    id: Option<Value>,
    title: Option<String>,
    /// Of hits: where it is.
    path: Option<String>,
    lines: Option<Lines>,
    #[serde(default)]
    headings: Vec<String>,
    #[serde(default)]
    score: f32,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
struct Lines {
    start: u32,
    end: u32,
}

pub(crate) fn run(args: &Args, own: &RerankArgs) -> anyhow::Result<ExitCode> {
    if own.schema {
        writeln!(io::stdout(), "{:#}", Pipeline::schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let query = own.query.as_deref().unwrap_or_default();
    if query.trim().is_empty() {
        return Err(latewood::Error::EmptyQuery.into());
    }
    let read = own.pipeline.as_deref().map(pipeline::read).transpose()?;
    let read = read.map_or_else(|| Pipeline::parse_toml(USUAL), Ok)?;
    if own.dry_run {
        estimate(args, &Ranker::unloaded(read), candidates(own)?.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    let device = super::device(args, Device::Cpu)?;
    let ranker = pipeline::load(args, read, &device)?;
    let candidates = candidates(own)?;
    let encoder = model::load(args, &own.encoder, None, &device)?;
    let Ranked { mut candidates, mut report, .. } = latewood::rank_texts(&*encoder, query, candidates, &ranker)?;
    candidates.truncate(own.k.map_or(usize::MAX, |k| k as usize));
    report.finish(&candidates);
    if own.report {
        pipeline::print(&report, None)?;
    } else {
        pipeline::warn(&report);
    }
    let mut out = io::stdout().lock();
    for (candidate, rank) in candidates.iter().zip(1..) {
        if args.json {
            output::json_line("latewood.candidate.1", candidate)?;
        } else {
            let id = printable(&candidate.id);
            writeln!(out, "{rank}. {id}  {:.3}", candidate.score)?;
            for line in candidate.text.trim().lines() {
                writeln!(out, "   {}", printable(line))?;
            }
            if let Some(sum) = hits::signals(&candidate.signals) {
                writeln!(out, "   {sum}")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The texts, in the order given.
fn candidates(own: &RerankArgs) -> anyhow::Result<Vec<Candidate>> {
    let named = own.file.as_ref().map_or("standard input".to_owned(), |file| file.display().to_string());
    let reader: Box<dyn Read> = match &own.file {
        Some(file) => Box::new(File::open(file).with_context(|| format!("{named}: cannot read"))?),
        None => Box::new(io::stdin()),
    };
    let (mut candidates, mut objects) = (Vec::new(), None);
    let mut reader = reader.take(MOST_BYTES);
    for (line, number) in BufReader::new(&mut reader).lines().zip(1..) {
        let line = line.with_context(|| format!("{named}, line {number}"))?;
        if line.trim().is_empty() {
            continue;
        }
        if candidates.is_empty() && serde_json::from_str::<Vec<Value>>(&line).is_ok() {
            bail!("{named}, line {number}: a list: give a line for each object or text (jq -c '.[]' does)");
        }
        // The first line says what all are: code has lines that begin like an object.
        let objects = *objects.get_or_insert_with(|| serde_json::from_str::<Map<String, Value>>(&line).is_ok());
        let read = if objects { read_object(&line, number) } else { Ok(Candidate::new(number.to_string(), line, 0.0)) };
        candidates.push(read.with_context(|| format!("{named}, line {number}"))?);
    }
    if reader.limit() == 0 {
        bail!("{named}: more than {} MB of texts", MOST_BYTES >> 20);
    }
    if candidates.is_empty() {
        bail!("{named}: there is nothing to put in order");
    }
    Ok(candidates)
}

fn read_object(line: &str, number: usize) -> anyhow::Result<Candidate> {
    let line: Line = serde_json::from_str(line)?;
    let id = match line.id {
        _ if let Some(path) = &line.path => match &line.lines {
            Some(Lines { start, end }) => format!("{path}:{start}-{end}"),
            None => path.clone(),
        },
        Some(Value::String(id)) => id,
        Some(other) => other.to_string(),
        None => number.to_string(),
    };
    let mut candidate = Candidate::new(id, line.text, line.score);
    let title = if line.headings.is_empty() { line.title } else { Some(line.headings.join(" > ")) };
    (candidate.title, candidate.metadata) = (title, line.metadata);
    Ok(candidate)
}

/// What the stages are going to cost.
fn estimate(args: &Args, ranker: &Ranker, candidates: usize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for stage in ranker.estimate(candidates) {
        if args.json {
            output::json_line("latewood.estimate.1", &stage)?;
            continue;
        }
        let requests = if stage.requests > 0 { format!(", {} requests", stage.requests) } else { String::new() };
        let dropped = match (stage.dropped, stage.refused) {
            (true, _) => ", left out: over the latency budget",
            (false, true) => ", will fail: more than max_requests",
            (false, false) => "",
        };
        writeln!(
            out,
            "{:20}{:>6} candidates, about {:.1} ms{requests}{dropped}",
            stage.name, stage.candidates, stage.ms
        )?;
    }
    Ok(())
}
