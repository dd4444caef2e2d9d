//! What the user sees: results on stdout, notes and errors on stderr.

use std::io::{self, IsTerminal, Write};

use latewood::{Hit, LeftOut, SyncReport};
use serde::Serialize;

/// One JSON object on a line of its own.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// An error and its causes.
#[expect(clippy::print_stderr, reason = "this is where errors are shown")]
pub(crate) fn error(error: &anyhow::Error) {
    let colour = io::stderr().is_terminal();
    let (red, plain) = (style(colour, "\x1b[1;31m"), style(colour, "\x1b[0m"));
    let mut text = error.to_string();
    // Our own errors say their cause; those of others leave it to the chain.
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if error.downcast_ref::<latewood::Error>().is_some_and(latewood::Error::is_no_space) {
        text += "; the last commit stands: make room and run it again";
    }
    eprintln!("{red}error:{plain} {}", printable(&text));
}

/// A note about what happened, unless the user wants none.
#[expect(clippy::print_stderr, reason = "this is where notes are shown")]
pub(crate) fn note(quiet: bool, text: &str) {
    if !quiet {
        eprintln!("{text}");
    }
}

/// Hits for reading: place and score, headings, text.
pub(crate) fn hits(hits: &[Hit]) -> anyhow::Result<()> {
    let colour = io::stdout().is_terminal();
    let (bold, dim, plain) = (style(colour, "\x1b[1m"), style(colour, "\x1b[2m"), style(colour, "\x1b[0m"));
    let mut out = io::stdout().lock();
    for (hit, rank) in hits.iter().zip(1..) {
        let passage = &hit.passage;
        let lines = match (passage.lines.start(), passage.lines.end()) {
            (a, b) if a == b => a.to_string(),
            (a, b) => format!("{a}-{b}"),
        };
        if rank > 1 {
            writeln!(out)?;
        }
        writeln!(out, "{bold}{rank}. {}:{lines}{plain}  {:.3}", printable(&passage.path), hit.score)?;
        if !passage.headings.is_empty() {
            writeln!(out, "   {dim}{}{plain}", printable(&passage.headings.join(" > ")))?;
        }
        for line in passage.text.trim_end().lines() {
            writeln!(out, "   {}", printable(line))?;
        }
    }
    out.flush()?;
    Ok(())
}

/// The line without control characters: documents must not steer the terminal.
pub(crate) fn printable(line: &str) -> String {
    line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// `12 files added, 3 removed; 40 passages encoded`
pub(crate) fn summary(report: &SyncReport) -> String {
    let counts =
        [(report.added, "added"), (report.updated, "updated"), (report.moved, "moved"), (report.removed, "removed")];
    let mut parts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    parts.push(format!("{} unchanged", report.unchanged));
    format!("files: {}; {} passages encoded", parts.join(", "), report.passages)
}

/// How many files were left out, by reason, most first.
pub(crate) fn skipped_by_reason(skipped: &[LeftOut]) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for file in skipped {
        match counts.iter_mut().find(|(reason, _)| *reason == file.reason) {
            Some((_, n)) => *n += 1,
            None => counts.push((file.reason.clone(), 1)),
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    counts
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// An escape sequence, if the stream is a terminal and the user has not set `NO_COLOR` (no-color.org).
fn style(terminal: bool, sequence: &'static str) -> &'static str {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if terminal && wanted { sequence } else { "" }
}
