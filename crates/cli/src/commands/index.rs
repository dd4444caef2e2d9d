//! `latewood index`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use latewood::device::Device;
use serde_json::json;

use crate::args::{Args, IndexArgs};
use crate::output;

pub(crate) fn run(args: &Args, own: &IndexArgs) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let index = super::open_or_create(args, own.path.as_deref(), &own.encoder, &super::device(args, Device::Cpu)?)?;
    let options = super::sync_options(&own.documents);
    let report = super::sync(args, &index, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let skipped: Vec<_> = report.skipped.iter().map(|s| json!({ "path": s.path, "reason": s.reason })).collect();
        output::json_line(
            "latewood.index.1",
            &json!({
                "index": index.path().display().to_string(), "root": index.root().display().to_string(), "added": report.added, "updated": report.updated,
                "moved": report.moved, "removed": report.removed, "unchanged": report.unchanged,
                "passages": report.passages, "tokens": report.tokens, "skipped": skipped, "seconds": seconds,
            }),
        )?;
        if own.watch {
            super::watch::run(args, &index, &options)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{} in {seconds:.1} s: {}", output::summary(&report), index.path().display())?;
    if own.verbose {
        for left_out in &report.skipped {
            writeln!(out, "skipped {}", output::printable(&left_out.to_string()))?;
        }
    } else {
        for (reason, count) in output::skipped_by_reason(&report.skipped) {
            writeln!(out, "skipped {count}: {reason}")?;
        }
    }
    if own.watch {
        out.flush()?;
        drop(out);
        super::watch::run(args, &index, &options)?;
    }
    Ok(ExitCode::SUCCESS)
}
