//! Hits as people read them: place, score, the part of the text that answers, and why.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;

use latewood::{Hit, TokenMatch};

use crate::output::{clean, printable, style};

/// Bytes of text shown of a hit.
const SNIPPET: usize = 480;
/// A word of a passage is marked if its part in the score is at least this share of the largest.
const MARKED: f32 = 0.5;
/// Words of the query that are explained.
const EXPLAINED: usize = 8;

/// How to show hits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// All of a passage, not the densest part.
    pub(crate) full: bool,
    /// A line for each hit that says what met what.
    pub(crate) explain: bool,
}

struct Colours {
    bold: &'static str,
    dim: &'static str,
    mark: &'static str,
    plain: &'static str,
}

/// Hits for reading. `query` is what was asked.
pub(crate) fn print(hits: &[Hit], query: &str, look: Look) -> anyhow::Result<()> {
    let terminal = io::stdout().is_terminal();
    let colour = |sequence| style(terminal, sequence);
    let colours = Colours {
        bold: colour("\x1b[1m"),
        dim: colour("\x1b[2m"),
        mark: colour("\x1b[1;33m"),
        plain: colour("\x1b[0m"),
    };
    let mut out = io::stdout().lock();
    for (hit, rank) in hits.iter().zip(1..) {
        if rank > 1 {
            writeln!(out)?;
        }
        one(&mut out, hit, rank, query, look, &colours)?;
    }
    out.flush()?;
    Ok(())
}

fn one(out: &mut impl Write, hit: &Hit, rank: usize, query: &str, look: Look, c: &Colours) -> io::Result<()> {
    let passage = &hit.passage;
    let place = match (passage.page, passage.lines.start(), passage.lines.end()) {
        (Some(page), ..) => format!("p{page}"),
        (None, a, b) if a == b => a.to_string(),
        (None, a, b) => format!("{a}-{b}"),
    };
    writeln!(out, "{}{rank}. {}:{place}{}  {:.3}", c.bold, printable(&passage.path), c.plain, hit.score)?;
    if !passage.headings.is_empty() {
        writeln!(out, "   {}{}{}", c.dim, printable(&passage.headings.join(" > ")), c.plain)?;
    }
    let text = &passage.text;
    let shown = if look.full { 0..text.len() } else { hit.snippet(SNIPPET) };
    let marks = if c.mark.is_empty() { Vec::new() } else { marks(hit) };
    let (before, after) = (shown.start > 0, shown.end < text.trim_end().len());
    let lines: Vec<(usize, &str)> = lines_of(text, &shown);
    for (at, (start, line)) in lines.iter().enumerate() {
        let first = if before && at == 0 { "\u{2026} " } else { "" };
        let last = if after && at + 1 == lines.len() { " \u{2026}" } else { "" };
        writeln!(out, "   {first}{}{last}", marked(line, *start, &marks, c))?;
    }
    if look.explain {
        writeln!(out, "   {}{}{}", c.dim, printable(&reasons(hit, query)), c.plain)?;
    }
    if let Some(sum) = hit.stages.as_ref().and_then(|stages| signals(&stages.signals)) {
        writeln!(out, "   {}{sum}{}", c.dim, c.plain)?;
    }
    Ok(())
}

/// What each signal of a metadata stage added; none where there was no such stage.
pub(crate) fn signals(signals: &BTreeMap<String, f32>) -> Option<String> {
    let parts: Vec<String> = signals.iter().map(|(name, added)| format!("{} {added:+.3}", printable(name))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The lines of a part of a text, each with its first byte.
fn lines_of<'t>(text: &'t str, shown: &Range<usize>) -> Vec<(usize, &'t str)> {
    let mut start = shown.start;
    let lines = text[shown.clone()].trim_end().split('\n').map(|line| {
        let at = start;
        start += line.len() + 1;
        (at, line)
    });
    lines.collect()
}

/// The words of a hit's text that count, whole.
fn marks(hit: &Hit) -> Vec<Range<usize>> {
    let text = &hit.passage.text;
    let mut by_word: BTreeMap<usize, (usize, f32)> = BTreeMap::new();
    for (place, score) in hit.matches.iter().flatten().filter_map(|m| Some((m.text.clone()?, m.score))) {
        let word = word_around(text, place);
        let entry = by_word.entry(word.start).or_insert((word.end, 0.0));
        *entry = (entry.0.max(word.end), entry.1 + score);
    }
    let most = by_word.values().map(|(_, score)| *score).fold(0.0, f32::max);
    let counts = |(start, (end, score)): (usize, (usize, f32))| (score >= MARKED * most).then_some(start..end);
    by_word.into_iter().filter_map(counts).collect()
}

/// The word that holds `place`: a model's tokens may be parts of words.
fn word_around(text: &str, place: Range<usize>) -> Range<usize> {
    let letter = |c: char| c.is_alphanumeric();
    if !text[place.clone()].chars().any(letter) {
        return place;
    }
    let start = text[..place.start].char_indices().rev().take_while(|(_, c)| letter(*c)).last();
    let end = text[place.end..].char_indices().find(|(_, c)| !letter(*c));
    start.map_or(place.start, |(at, _)| at)..end.map_or(text.len(), |(at, _)| place.end + at)
}

/// A line that begins at `start` of the text, with the `marks` in it.
fn marked(line: &str, start: usize, marks: &[Range<usize>], c: &Colours) -> String {
    let mut shown = String::new();
    let mut at = 0;
    for mark in marks {
        let (from, to) = (mark.start.saturating_sub(start), mark.end.saturating_sub(start).min(line.len()));
        if mark.start < start || from >= line.len() || from < at {
            continue;
        }
        shown += &clean(&line[at..from]);
        shown = shown + c.mark + &clean(&line[from..to]) + c.plain;
        at = to;
    }
    shown += &clean(&line[at..]);
    shown.trim_end().to_owned()
}

/// `kiln → kiln 0.24, hot → degrees 0.13`: what the words of the query met, those that count most first.
fn reasons(hit: &Hit, query: &str) -> String {
    let mut words: Vec<(String, Vec<String>, f32)> = Vec::new();
    let mut before: Option<Range<usize>> = None;
    for found in hit.matches.iter().flatten() {
        let Some(place) = found.query.clone() else { continue };
        let met = met(hit, found);
        match words.last_mut() {
            // Another part of the same word.
            Some((word, all, score)) if before.as_ref().is_some_and(|before| before.end == place.start) => {
                word.push_str(&query[place.clone()]);
                all.extend(met.filter(|met| all.last() != Some(met)));
                *score += found.score;
            }
            _ => words.push((query[place.clone()].to_owned(), met.into_iter().collect(), found.score)),
        }
        before = Some(place);
    }
    words.sort_by(|a, b| b.2.total_cmp(&a.2));
    let told = words.iter().filter(|(_, met, _)| !met.is_empty()).take(EXPLAINED);
    let told: Vec<String> =
        told.map(|(word, met, score)| format!("{word} \u{2192} {} {score:.3}", met.join(" "))).collect();
    let mut line = told.join(", ");
    if let (Some(semantic), Some(keyword)) = (hit.semantic, hit.keyword) {
        line += &format!(" (meaning {semantic:.3}, keywords {keyword:.2})");
    }
    line
}

/// The whole word that a token met, in the text or above it.
fn met(hit: &Hit, found: &TokenMatch) -> Option<String> {
    let text = &hit.passage.text;
    found.text.clone().map(|place| text[word_around(text, place)].to_owned()).or_else(|| found.above.clone())
}
