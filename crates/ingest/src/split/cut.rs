//! How a block that is over the budget is taken apart.

use std::ops::Range;

use super::{Item, code, sentences};

/// One way to take a text apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// At the items of a list, or where the outermost of the definitions inside begin.
    Items,
    /// At blank lines, those with the least indentation after them first.
    Indent,
    /// After lines longer than anyone wraps at: those are paragraphs.
    LongLines,
    /// At sentence ends.
    Sentences,
    /// At line ends.
    Lines,
    /// Anywhere, at white space if there is some.
    Anywhere,
}

/// The ways that are tried, from the kindest to the last resort.
pub(super) type Steps = &'static [Step];

/// Paragraphs. Lines are tried after sentences: what has no sentences is a table or a log.
pub(super) const PROSE: Steps = &[Step::LongLines, Step::Sentences, Step::Lines, Step::Anywhere];
/// Tables and other text in which a line stands for itself.
pub(super) const ROWS: Steps = &[Step::Lines, Step::Sentences, Step::Anywhere];
/// Lists with known items.
pub(super) const LIST: Steps = &[Step::Items, Step::Sentences, Step::Lines, Step::Anywhere];
/// Source code.
pub(super) const CODE: Steps = &[Step::Indent, Step::Lines, Step::Anywhere];
/// Source code of which is known where the definitions in it begin.
pub(super) const DEFINITIONS: Steps = &[Step::Items, Step::Indent, Step::Lines, Step::Anywhere];

/// A line longer than this many bytes was not wrapped.
const LONG_LINE: usize = 150;

/// An unbroken run of ASCII longer than this many bytes is data, not words.
const RUN: usize = 2048;

/// A text taken apart.
pub(super) struct Cut {
    /// The parts, in order.
    pub(super) parts: Vec<Range<usize>>,
    /// By which step.
    pub(super) step: Step,
    /// The steps left for the parts.
    pub(super) rest: Steps,
}

/// Takes `span` apart by the first step that finds a seam; none where no step does.
pub(super) fn cut(
    text: &str,
    span: &Range<usize>,
    items: &[Item],
    steps: Steps,
    tokens: usize,
    max: usize,
) -> Option<Cut> {
    for (at, &step) in steps.iter().enumerate() {
        let inside = &text[span.clone()];
        let offset = |starts: Vec<usize>| starts.into_iter().map(|s| s + span.start).collect();
        let starts: Vec<usize> = match step {
            Step::Items => outermost(items, span),
            Step::Indent => offset(code::starts(inside)),
            Step::Sentences => offset(sentences::starts(inside)),
            Step::LongLines => offset(line_starts(inside, LONG_LINE)),
            Step::Lines => offset(line_starts(inside, 0)),
            Step::Anywhere => {
                let parts = anywhere(text, span, tokens, max)?;
                return Some(Cut { parts, step, rest: &steps[at..] });
            }
        };
        let mut parts = ranges(span.clone(), &starts);
        give_blanks_away(text, &mut parts);
        if parts.len() > 1 {
            // A part of a class may have seams of its own, one level deeper.
            let rest = if matches!(step, Step::Items | Step::Indent) { at } else { at + 1 };
            return Some(Cut { parts, step, rest: &steps[rest..] });
        }
    }
    None
}

/// Where the items inside of `span` begin, of those the ones of the least level.
fn outermost(items: &[Item], span: &Range<usize>) -> Vec<usize> {
    let first = items.partition_point(|item| item.at <= span.start);
    let inside = &items[first..first + items[first..].partition_point(|item| item.at < span.end)];
    let least = inside.iter().map(|item| item.level).min();
    inside.iter().filter(|item| Some(item.level) == least).map(|item| item.at).collect()
}

/// The parts of `span` between these places, of which some may lie outside.
pub(super) fn ranges(span: Range<usize>, starts: &[usize]) -> Vec<Range<usize>> {
    let mut parts = Vec::with_capacity(starts.len() + 1);
    let mut start = span.start;
    for &next in starts.iter().filter(|at| span.start < **at && **at < span.end) {
        if next > start {
            parts.push(start..next);
            start = next;
        }
    }
    if start < span.end {
        parts.push(start..span.end);
    }
    parts
}

/// Joins parts of nothing but white space with the part before them: no passage must consist of
/// one, and of what it repeats.
fn give_blanks_away(text: &str, parts: &mut Vec<Range<usize>>) {
    parts.dedup_by(|part, before| {
        let blank = text[part.clone()].trim_start().is_empty();
        if blank {
            before.end = part.end;
        }
        blank
    });
}

/// The starts of the lines that follow one of at least `long` bytes.
fn line_starts(text: &str, long: usize) -> Vec<usize> {
    let mut line = 0;
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    ends.filter(|end| *end - std::mem::replace(&mut line, *end) > long).collect()
}

/// Cuts into parts of about the same length, as many as should fit the budget. Of a very long run
/// without white space only the first such part is kept.
fn anywhere(text: &str, span: &Range<usize>, tokens: usize, max: usize) -> Option<Vec<Range<usize>>> {
    let inside = &text[span.clone()];
    let run = long_run(inside);
    if let Some(run) = &run
        && inside.trim().len() > run.len()
    {
        return Some(ranges(span.clone(), &[span.start + run.start, span.start + run.end]));
    }
    // Room to spare: the parts do not all hold the same number of tokens.
    let wanted = tokens.div_ceil((max * 7 / 8).max(1)).max(2);
    let starts: Vec<usize> = (1..wanted)
        .map(|part| span.start + (inside.len() as u128 * part as u128 / wanted as u128) as usize)
        .map(|ideal| seam(text, span, ideal, inside.len() / wanted / 2))
        .collect();
    let mut parts = ranges(span.clone(), &starts);
    if parts.len() < 2 {
        let first = inside.chars().next()?.len_utf8();
        parts = ranges(span.clone(), &[span.start + first]);
    }
    if run.is_some() {
        parts.truncate(1);
        return Some(parts);
    }
    (parts.len() > 1).then_some(parts)
}

/// A place to cut at: after the last white space of the `slack` bytes before `ideal`, otherwise
/// between the two characters there.
fn seam(text: &str, span: &Range<usize>, ideal: usize, slack: usize) -> usize {
    let ideal = text.floor_char_boundary(ideal).max(span.start);
    let from = text.floor_char_boundary(ideal.saturating_sub(slack)).max(span.start);
    let near = &text[from..ideal];
    near.char_indices().rev().find(|(_, c)| c.is_whitespace()).map_or(ideal, |(at, c)| from + at + c.len_utf8())
}

/// The first very long run of ASCII without white space.
fn long_run(text: &str) -> Option<Range<usize>> {
    if text.len() <= RUN {
        return None;
    }
    let mut start = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_graphic() {
            continue;
        }
        if at - start > RUN {
            return Some(start..at);
        }
        start = at + 1;
    }
    (text.len() - start > RUN).then_some(start..text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_no_gap() {
        assert_eq!(ranges(2..9, &[0, 2, 4, 4, 7, 9, 12]), [2..4, 4..7, 7..9]);
        assert!(ranges(3..3, &[3]).is_empty());
    }

    #[test]
    fn words_are_kept_whole_if_they_can_be() {
        let text = "one two three four five six seven eight";
        let parts = anywhere(text, &(0..text.len()), 8, 4).unwrap();
        let parts: Vec<&str> = parts.into_iter().map(|part| &text[part]).collect();
        assert_eq!(parts, ["one two ", "three four five ", "six seven eight"]);
        let text = "žžžžžžžž";
        let parts = anywhere(text, &(0..16), 8, 4).unwrap();
        assert!(parts.iter().all(|part| text.is_char_boundary(part.end)));
        assert_eq!(anywhere("ž", &(0..2), 8, 4), None);
    }

    #[test]
    fn long_runs_are_set_apart_and_shortened() {
        let text = format!("see ![x](data:{}) here", "A".repeat(5000));
        let parts = anywhere(&text, &(0..text.len()), 100, 10).unwrap();
        assert_eq!(parts.len(), 3);
        assert_eq!(&text[parts[2].clone()], " here");
        let head = anywhere(&text, &parts[1], 100, 10).unwrap();
        assert_eq!(head.len(), 1);
        assert!(head[0].len() < 600 && head[0].start == parts[1].start);
    }
}
