//! From a text to passages.
//!
//! Each kind of text is first taken apart into [`Block`]s (a paragraph, a list, a table, a
//! definition, a heading), which follow one another without a gap. [`pack`] then joins
//! them into passages within the budget of tokens, and only where one block is over the budget
//! does [`cut`] take it apart, at the finest seams that are needed and no finer.

mod code;
mod cut;
mod html;
mod markdown;
mod pack;
mod pages;
mod plain;
mod rst;
mod sentences;

use std::ops::{Range, RangeInclusive};

use crate::Kind;
use cut::Steps;
use pack::Packed;
pub(crate) use pages::split_extracted;

/// A heading longer than this many bytes is a paragraph that happens to be marked as one.
const HEADING_BYTES: usize = 200;

/// How large passages may be, in tokens as the caller counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageOptions {
    /// No passage has more tokens than this, unless a single character has.
    pub max_tokens: usize,
    /// A section with fewer tokens than this is joined with what follows under the same heading,
    /// where `max_tokens` allows.
    pub min_tokens: usize,
    /// Where one paragraph has to be cut, the next passage repeats whole sentences of up to this
    /// many tokens.
    pub overlap_tokens: usize,
}

impl Default for PassageOptions {
    fn default() -> Self {
        Self { max_tokens: 160, min_tokens: 32, overlap_tokens: 16 }
    }
}

impl PassageOptions {
    /// Numbers that go together: a passage must move on even where it repeats.
    fn sane(&self) -> Self {
        let max_tokens = self.max_tokens.max(1);
        Self {
            max_tokens,
            min_tokens: self.min_tokens.min(max_tokens / 2),
            overlap_tokens: self.overlap_tokens.min(max_tokens / 3),
        }
    }
}

/// A part of a document that is encoded, found and shown as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Where it stands: bytes of the text that was split, on character boundaries. In HTML, from
    /// the first to the last byte that contributed, tags between them included.
    pub span: Range<usize>,
    /// The lines it touches, counted from 1.
    pub lines: RangeInclusive<u32>,
    /// The page, slide or sheet that it begins on, counted from 1, where the document has such.
    pub page: Option<u32>,
    /// The headings it stands under, outermost first, its own included. Where it holds several
    /// short sections, those that they share. Of source code, the definitions that it is in or is
    /// (`impl Reader`, `rank`), as far as all of it is in them.
    pub headings: Vec<String>,
    /// What is shown and encoded: exactly `text[span]`, except in HTML, where it is the readable
    /// text with its white space evened out, and of a record, whose span is all of it.
    pub text: String,
}

/// What [`split_text`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// In Markdown the first heading of level 1, else the `title` of its front matter; in reStructuredText the first heading of
    /// level 1; in HTML the `<title>`, else the first `<h1>`; none in other kinds.
    pub title: Option<String>,
    /// The passages, by where they begin. They cover every character that is not white space,
    /// except what HTML hides, and except the inside of unbroken runs of thousands of ASCII
    /// characters (an embedded image, a key): nobody searches for that. Passages overlap only
    /// where one paragraph, or one stretch of code, had to be cut.
    pub passages: Vec<Passage>,
}

/// Splits a text by its structure, then by tokens.
///
/// `count_tokens` is called once for each block, and once for each sentence or line of a block
/// that has to be cut; the counts are added up. So it should count what a text adds to a longer
/// one, without the tokens that stand around every passage, and the whole must not count more than
/// its parts, as is the case with every tokenizer that first splits at white space.
pub fn split_text(kind: Kind, text: &str, options: &PassageOptions, count_tokens: &dyn Fn(&str) -> usize) -> Split {
    let options = options.sane();
    let lines = Lines::of(text);
    if kind == Kind::Html {
        let page = html::read(text);
        let packed = pack::pack(&page.text, page.blocks, &options, count_tokens);
        let passages = packed.into_iter().filter_map(|packed| {
            let inner = trimmed(&page.text, packed.span.clone())?;
            let span = page.map.source(inner.clone());
            let span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
            // A mark between two cells, cut off from both, comes from nowhere.
            (!span.is_empty()).then(|| passage(&page.text[inner], span, &lines, packed))
        });
        return Split { passages: passages.collect(), title: page.title };
    }
    let mut outline = code::Outline::default();
    let (title, blocks) = match kind {
        Kind::Markdown | Kind::Extracted(_) => markdown::read(text),
        Kind::RestructuredText => rst::read(text),
        Kind::Code(language) => {
            let (blocks, read) = code::read(language, text);
            outline = read;
            (None, blocks)
        }
        _ => (None, plain::blocks(text)),
    };
    let packed = pack::pack(text, blocks, &options, count_tokens);
    let passages = packed.into_iter().filter_map(|mut packed| {
        let span = trimmed(text, packed.span.clone())?;
        packed.headings.extend(outline.above(&span));
        Some(passage(&text[span.clone()], span, &lines, packed))
    });
    Split { passages: passages.collect(), title }
}

/// Whether [`split_text`] finds a passage, whatever the options: of HTML, whether there is anything to read.
pub fn has_text(kind: Kind, text: &str) -> bool {
    match kind {
        Kind::Html => !split_text(kind, text, &PassageOptions::default(), &|_| 1).passages.is_empty(),
        _ => !text.trim().is_empty(),
    }
}

fn passage(text: &str, span: Range<usize>, lines: &Lines, packed: Packed) -> Passage {
    Passage { lines: lines.of_span(&span), page: None, span, headings: packed.headings, text: text.to_owned() }
}

/// A block of a page of HTML, for those who write it down as something else.
#[cfg(feature = "extract")]
pub(crate) enum PageBlock<'a> {
    /// A heading and its level, from 1.
    Heading(u8, &'a str),
    /// Preformatted text.
    Code(&'a str),
    /// A paragraph, a list, a table.
    Text(&'a str),
}

/// The blocks of a page of HTML, in order.
#[cfg(feature = "extract")]
pub(crate) fn page_blocks(source: &str, mut each: impl FnMut(PageBlock<'_>)) {
    let page = html::read_whole(source);
    for block in &page.blocks {
        let text = &page.text[block.span.clone()];
        each(match &block.heading {
            Some((level, heading)) => PageBlock::Heading(*level, heading),
            None if block.steps == cut::CODE => PageBlock::Code(text),
            None => PageBlock::Text(text),
        });
    }
}

/// A part of a text that is kept whole if it fits the budget.
#[derive(Debug, Clone)]
struct Block {
    /// Where it stands. After [`Block::tile`] the blocks of a text leave no gap.
    span: Range<usize>,
    /// For a heading its level from 1 and its text.
    heading: Option<(u8, String)>,
    /// How it is cut if it must be.
    steps: Steps,
    /// Where the items of a list or the members of a definition begin, in order, for [`cut::Step::Items`].
    items: Vec<Item>,
}

/// A place where a block may be cut.
#[derive(Debug, Clone, Copy)]
struct Item {
    at: usize,
    /// How deep it lies: it is only cut at where no place that is less deep is left.
    level: u32,
}

impl Item {
    /// Of a list, whose items are all alike.
    fn of_list(at: usize) -> Self {
        Self { at, level: 0 }
    }
}

impl Block {
    fn new(span: Range<usize>, steps: Steps) -> Self {
        Self { span, heading: None, steps, items: Vec::new() }
    }

    /// Blocks from the places where they begin.
    fn from_starts(len: usize, starts: &[usize], steps: Steps) -> Vec<Self> {
        cut::ranges(0..len, starts).into_iter().map(|span| Self::new(span, steps)).collect()
    }

    /// Makes the blocks cover the whole text: white space goes with the block before it, and text
    /// that no block claims becomes one of its own.
    fn tile(text: &str, blocks: Vec<Self>) -> Vec<Self> {
        let mut tiled: Vec<Self> = Vec::with_capacity(blocks.len());
        let mut end = 0;
        for mut block in blocks {
            block.span.start = line_start(text, block.span.start).max(end);
            block.span.end = block.span.end.max(block.span.start);
            close_gap(text, &mut tiled, end..block.span.start);
            if tiled.is_empty() {
                // Blank lines at the top; trimmed away again later.
                block.span.start = 0;
            }
            end = block.span.end;
            tiled.push(block);
        }
        close_gap(text, &mut tiled, end..text.len());
        tiled
    }
}

/// Gives the text between two blocks to the one before it, or, if it is more than white space, to
/// a new one.
fn close_gap(text: &str, tiled: &mut Vec<Block>, gap: Range<usize>) {
    let blank = text[gap.clone()].trim().is_empty();
    match tiled.last_mut() {
        Some(last) if blank => last.span.end = gap.end,
        Some(_) => tiled.push(Block::new(gap, cut::PROSE)),
        None if blank => {}
        None => tiled.push(Block::new(0..gap.end, cut::PROSE)),
    }
}

/// The text of a heading, on one line; none if it is too long to be a heading.
fn heading_text(text: &str) -> Option<String> {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    (line.len() <= HEADING_BYTES).then_some(line)
}

/// The start of the line that `at` is in, if nothing but blanks stand between.
fn line_start(text: &str, at: usize) -> usize {
    let before = &text[..at];
    let indent = before.len() - before.trim_end_matches([' ', '\t']).len();
    let start = at - indent;
    if start == 0 || before.as_bytes()[start - 1] == b'\n' { start } else { at }
}

/// The span without blank lines around it; the indentation of its first line stays.
fn trimmed(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let inside = &text[span.clone()];
    let end = span.start + inside.trim_end().len();
    let first = span.end - inside.trim_start().len();
    if first >= end {
        return None;
    }
    let start = text[span.start..first].rfind('\n').map_or(span.start, |at| span.start + at + 1);
    Some(start..end)
}

/// Where the lines of a text begin.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    pub(crate) fn of_span(&self, span: &Range<usize>) -> RangeInclusive<u32> {
        let line = |at: usize| self.0.partition_point(|start| *start <= at) as u32;
        line(span.start)..=line(span.end.saturating_sub(1).max(span.start))
    }
}

#[cfg(test)]
mod tests;
