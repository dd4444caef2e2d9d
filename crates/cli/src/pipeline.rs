//! Which pipeline runs, and what it says of itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use latewood::device::Opened;
use latewood::encoder::CrossEncoder;
use latewood::rerank::{CrossEncoderStage, Models, Pipeline, Ranker, Report, StageKind};

use crate::args::Args;
#[cfg(feature = "hub")]
use crate::hub;
use crate::output;

/// The pipeline of that name or in that file.
pub(crate) fn read(named: &str) -> anyhow::Result<Pipeline> {
    if let Some(pipeline) = Pipeline::preset(named) {
        return Ok(pipeline);
    }
    let presets: Vec<&str> = Pipeline::PRESETS.iter().map(|(name, _)| *name).collect();
    if !Path::new(named).exists() {
        bail!("{named}: there is no such file, and the pipelines with a name are {}", presets.join(", "));
    }
    let text = fs::read_to_string(named).with_context(|| format!("{named}: cannot read the pipeline"))?;
    let json = Path::new(named).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let read = if json { Pipeline::parse_json(&text) } else { Pipeline::parse_toml(&text) };
    let mut pipeline = read.with_context(|| named.to_owned())?;
    find_models(&mut pipeline, Path::new(named).parent().unwrap_or(Path::new("")));
    Ok(pipeline)
}

/// A model's folder may be named from the folder of the pipeline's file.
fn find_models(pipeline: &mut Pipeline, beside: &Path) {
    for stage in &mut pipeline.stages {
        if let StageKind::CrossEncoder(CrossEncoderStage { model, .. }) = &mut stage.kind
            && !Path::new(model).is_dir()
            && let Some(found) = Some(beside.join(&*model)).filter(|path| path.is_dir())
        {
            *model = found.display().to_string();
        }
    }
}

/// The pipeline, with its models loaded.
pub(crate) fn load(args: &Args, pipeline: Pipeline, device: &Opened) -> anyhow::Result<Ranker> {
    Ok(Ranker::new(pipeline, &Loader { args, device })?)
}

/// Loads models as the program's own is loaded: a folder, or a name of the hub.
pub(crate) struct Loader<'a> {
    pub(crate) args: &'a Args,
    pub(crate) device: &'a Opened,
}

impl Models for Loader<'_> {
    fn cross_encoder(&self, name: &str) -> Result<Arc<CrossEncoder>, String> {
        let Self { args, device } = self;
        if Path::new(name).is_dir() {
            let model = CrossEncoder::open(Path::new(name), args.compute(device));
            return model.map(Arc::new).map_err(|e| e.to_string());
        }
        #[cfg(feature = "hub")]
        if let Some(hub_name) = latewood::encoder::HubName::parse(name) {
            return hub::load_cross_encoder(args, &hub_name, device).map(Arc::new).map_err(|e| format!("{e:#}"));
        }
        Err("there is no such folder, and a model of the Hugging Face hub is called OWNER/NAME or OWNER/NAME@REVISION"
            .into())
    }
}

/// Says which stages failed, whatever else is said: the order is not what was asked for.
pub(crate) fn warn(report: &Report) {
    for stage in report.stages.iter().filter(|stage| stage.failed) {
        let note = stage.note.as_deref().unwrap_or_default();
        output::note(false, &format!("warning: stage {}: {}", stage.name, output::printable(note)));
    }
}

/// What stages did, a line each, on standard error: results are another matter.
pub(crate) fn print(report: &Report, retrieved: Option<(usize, f64)>) -> io::Result<()> {
    let mut out = io::stderr().lock();
    writeln!(out, "{:20}{:>8}{:>8}{:>8}{:>11}  scores", "stage", "in", "out", "moved", "time")?;
    if let Some((count, ms)) = retrieved {
        writeln!(out, "{:20}{:>8}{count:>8}{:>8}{ms:>8.2} ms", "retrieve", "", "")?;
    }
    for stage in &report.stages {
        let scores = stage.scores.map_or(String::new(), |scores| {
            format!("  {:.3} to {:.3}, median {:.3}", scores.least, scores.most, scores.median)
        });
        let cached = if stage.cached > 0 { format!(", {} known before", stage.cached) } else { String::new() };
        let note = stage.note.as_ref().map_or(String::new(), |note| format!("  ({note})"));
        let (name, candidates, kept, moved, ms) = (&stage.name, stage.candidates, stage.kept, stage.moved, stage.ms);
        writeln!(out, "{name:20}{candidates:>8}{kept:>8}{moved:>8}{ms:>8.2} ms{scores}{cached}{note}")?;
    }
    writeln!(
        out,
        "those left rose by {:+.1} places on average; {} of them were not among as many before",
        report.mean_lift, report.newcomers
    )
}
