//! `latewood doctor`

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use latewood::device::{Device, Opened};
use latewood::{Location, Mode, SearchOptions, TextIndex};
use serde_json::json;

use crate::args::{Args, DoctorArgs, EncoderArgs};
use crate::output::{printable, style};
use crate::{config, model, output};

/// What was looked at: all is well, or it is not and this is why.
struct Check {
    name: &'static str,
    result: Result<String, String>,
}

pub(crate) fn run(args: &Args, own: &DoctorArgs, fault: Option<anyhow::Error>) -> anyhow::Result<ExitCode> {
    let cpu = Opened::new(Device::Cpu)?;
    let checks = [
        Check { name: "program", result: Ok(format!("latewood {}", env!("CARGO_PKG_VERSION"))) },
        Check { name: "settings", result: settings(fault) },
        Check { name: "processor", result: Ok(cpu.reason.clone()) },
        Check { name: "device", result: device(args) },
        Check { name: "model", result: encoding(args, &cpu).map_err(|e| format!("{e:#}")) },
        Check { name: "index", result: index(args, own.path.as_deref(), &cpu).map_err(|e| format!("{e:#}")) },
        Check { name: "space", result: space() },
    ];
    let well = checks.iter().all(|check| check.result.is_ok());
    if args.json {
        for Check { name, result } in &checks {
            let (ok, text) = (result.is_ok(), result.as_ref().unwrap_or_else(|text| text));
            output::json_line("latewood.check.1", &json!({ "name": name, "ok": ok, "detail": text }))?;
        }
    } else {
        let terminal = io::stdout().is_terminal();
        let (red, plain) = (style(terminal, "\x1b[1;31m"), style(terminal, "\x1b[0m"));
        let mut out = io::stdout().lock();
        for Check { name, result } in &checks {
            match result {
                Ok(text) => writeln!(out, "{name:10} {}", printable(text))?,
                Err(text) => writeln!(out, "{name:10} {red}not well:{plain} {}", printable(text))?,
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Where the settings are; without them everything else here is looked at.
fn settings(fault: Option<anyhow::Error>) -> Result<String, String> {
    match (fault, config::path()) {
        (Some(fault), _) => {
            Err(format!("{fault:#}; put it right or take it out: until then other commands end with this error"))
        }
        (None, Some(path)) if path.is_file() => Ok(path.display().to_string()),
        (None, Some(path)) => Ok(format!("none; they would be in {}", path.display())),
        (None, None) => Ok("none".into()),
    }
}

/// The device that was asked for, or what there is.
fn device(args: &Args) -> Result<String, String> {
    Opened::new(args.device.unwrap_or(Device::Auto)).map(|opened| opened.reason).map_err(|e| e.to_string())
}

fn encoding(args: &Args, device: &Opened) -> anyhow::Result<String> {
    let start = Instant::now();
    let encoder = model::load(args, &EncoderArgs::default(), None, device)?;
    let loaded = start.elapsed();
    let start = Instant::now();
    let rows = encoder.encode_queries(&["is all well?"])?.remove(0).embeddings.len();
    Ok(format!(
        "{}: loaded in {:.0} ms; a query of {rows} rows took {:.1} ms",
        encoder.model_id().as_str(),
        loaded.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    ))
}

fn index(args: &Args, path: Option<&Path>, device: &Opened) -> anyhow::Result<String> {
    let location = Location::find(path, args.index.as_deref())?;
    let place = location.index.display().to_string();
    let Some(recorded) = TextIndex::model(&location)? else {
        return Ok(format!("none yet; it would be in {place}"));
    };
    let encoder = model::load(args, &EncoderArgs::default(), Some(&recorded), device)?;
    let reader = TextIndex::open(location, encoder)?.reader()?;
    // Both ways of searching are tried.
    let mut options = SearchOptions::new(1);
    options.mode = Mode::Hybrid;
    reader.search("is all well?", &options)?;
    let (files, passages) = (reader.catalog().files.len(), reader.info().docs());
    Ok(format!("{place}: {files} files, {passages} passages; `latewood verify` checks every byte"))
}

/// Whether there is room for what is written on the way.
fn space() -> Result<String, String> {
    let folder = std::env::temp_dir();
    tempfile::tempfile()
        .and_then(|mut file| file.write_all(&[0; 1 << 16]))
        .map(|()| format!("{} can be written to", folder.display()))
        .map_err(|e| format!("{}: cannot be written to: {e}", folder.display()))
}
