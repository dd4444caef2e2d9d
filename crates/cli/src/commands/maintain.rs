//! `latewood verify`, `compact` and `export`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use latewood::device::{Comparison, Opened};
use latewood::{Error, Location, maintain};
use serde_json::json;

use crate::args::{Args, ExportArgs, MaintainArgs};
use crate::output;
use crate::progress::{Building, Progress};

/// Where the index for `path` lies.
fn index(args: &Args, path: Option<&Path>) -> anyhow::Result<PathBuf> {
    Ok(Location::find(path, args.index.as_deref())?.index)
}

pub(crate) fn verify(args: &Args, own: &MaintainArgs) -> anyhow::Result<ExitCode> {
    let index = index(args, own.path.as_deref())?;
    let bar = Progress::new(args.quiet);
    let wrong = maintain::verify(&index, &Building(&bar))?;
    bar.clear();
    let compared = match args.device {
        Some(device) if wrong.is_empty() => Some(maintain::verify_device(&index, &Opened::new(device)?)?),
        _ => None,
    };
    let sound = wrong.is_empty() && compared.as_ref().is_none_or(Comparison::agrees);
    report(args, &index, &wrong, compared.as_ref())?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn report(args: &Args, index: &Path, wrong: &[Error], compared: Option<&Comparison>) -> anyhow::Result<()> {
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let mut out = io::stdout().lock();
    if args.json {
        let device = compared.map(|c| {
            json!({
                "name": c.device, "agrees": c.agrees(), "queries": c.queries, "largest_difference_a_row": c.largest,
                "tolerance": c.tolerance, "missing": c.missing,
            })
        });
        output::json_line(
            "latewood.verify.1",
            &json!({
                "index": index.display().to_string(), "sound": wrong.is_empty(), "damage": lines, "device": device,
            }),
        )?;
        return Ok(());
    }
    if wrong.is_empty() {
        writeln!(out, "{}: sound", index.display())?;
    }
    lines.iter().try_for_each(|line| writeln!(out, "{}", output::printable(line)))?;
    let Some(c) = compared else { return Ok(()) };
    let verdict = if c.agrees() { "agrees with the processor" } else { "DOES NOT AGREE with the processor" };
    writeln!(
        out,
        "{}: {verdict}, {} searches, scores apart by {:.5} a row at most ({:.5} allowed), {} hits missing",
        c.device, c.queries, c.largest, c.tolerance, c.missing
    )?;
    Ok(())
}

pub(crate) fn compact(args: &Args, own: &MaintainArgs) -> anyhow::Result<ExitCode> {
    let index = index(args, own.path.as_deref())?;
    let size = || -> io::Result<u64> {
        std::fs::read_dir(&index)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
    };
    let before = size().unwrap_or(0);
    let bar = Progress::new(args.quiet);
    let commit = maintain::compact(&index, &Building(&bar))?;
    bar.clear();
    let after = size().unwrap_or(0);
    if args.json {
        output::json_line(
            "latewood.compact.1",
            &json!({ "generation": commit.generation, "bytes_before": before, "bytes": after }),
        )?;
    } else {
        let mut out = io::stdout().lock();
        writeln!(out, "{} before, {} now: {}", output::bytes(before), output::bytes(after), index.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(args: &Args, own: &ExportArgs) -> anyhow::Result<ExitCode> {
    let index = index(args, own.path.as_deref())?;
    let bar = Progress::new(args.quiet);
    let show = |done: usize, total: usize| bar.show("exporting", "", done as u64, total as u64);
    let (documents, rows) = latewood::vectors::export(&index, &own.out, show)?;
    bar.clear();
    if args.json {
        output::json_line(
            "latewood.export.1",
            &json!({ "documents": documents, "rows": rows, "out": own.out.display().to_string() }),
        )?;
    } else {
        writeln!(io::stdout().lock(), "{rows} vectors of {documents} documents: {}", own.out.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
