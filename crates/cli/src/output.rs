//! What the user sees: results on stdout, notes and errors on stderr.

use std::io::{self, IsTerminal, Write};

use latewood::{LeftOut, SyncReport};
use serde::Serialize;

/// One JSON object on a line of its own, which says what it is: `latewood.hit.1` is a hit. The number grows when a field goes
/// away or changes its meaning.
pub(crate) fn json_line(schema: &'static str, value: &impl Serialize) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Line<'v, T> {
        schema: &'static str,
        #[serde(flatten)]
        value: &'v T,
    }
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &Line { schema, value }).map_err(io::Error::from)?;
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
    let of_gpu = error.downcast_ref::<latewood::Error>().is_some_and(latewood::Error::is_of_gpu)
        || matches!(error.downcast_ref(), Some(latewood::encoder::Error::Device { .. }));
    if of_gpu {
        text += "; --device cpu does without it, and auto where it must";
    }
    // A filter is shown with a mark below it.
    let lines: Vec<String> = text.lines().map(printable).collect();
    eprintln!("{red}error:{plain} {}", lines.join("\n"));
}

/// A note about what happened, unless the user wants none.
#[expect(clippy::print_stderr, reason = "this is where notes are shown")]
pub(crate) fn note(quiet: bool, text: &str) {
    if !quiet {
        eprintln!("{text}");
    }
}

/// The line without control characters: documents must not steer the terminal.
pub(crate) fn printable(line: &str) -> String {
    clean(line.trim_end())
}

/// [`printable`], white space at the end kept.
pub(crate) fn clean(part: &str) -> String {
    part.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character does something to a terminal, or to the order in which others are shown.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
pub(crate) fn style(terminal: bool, sequence: &'static str) -> &'static str {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if terminal && wanted { sequence } else { "" }
}
