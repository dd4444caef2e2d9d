//! From blocks to passages within the budget.
//!
//! Sections come first: a heading opens one, and no passage holds text of two sections unless
//! they are short and belong together. Within a section blocks are joined to passages of about
//! the same size, rather than to full ones with a crumb at the end.

use std::collections::VecDeque;
use std::ops::Range;

use super::cut::{self, Step, Steps};
use super::{Block, PassageOptions};

/// A passage-to-be.
#[derive(Debug)]
pub(super) struct Packed {
    /// Where it stands; may have white space around it.
    pub(super) span: Range<usize>,
    /// The headings it stands under.
    pub(super) headings: Vec<String>,
    tokens: usize,
    /// The first and the last section with more than a heading in it.
    sections: (usize, usize),
}

/// A heading and what follows up to the next one.
struct Section {
    /// 0 for what stands before the first heading.
    level: u8,
    /// The headings from the outermost to its own.
    path: Vec<(u8, String)>,
    blocks: Range<usize>,
    tokens: usize,
    /// Nothing but the heading.
    bare: bool,
}

impl Section {
    /// Whether `next` is a sibling of this section or stands inside of it.
    fn leads_to(&self, next: &Section) -> bool {
        let outside = next.path.len().saturating_sub(1);
        next.path[..outside] == self.path[..outside.min(self.path.len())] && next.level >= self.level
    }
}

/// A block, or a part of one that had to be cut: what passages are made of.
#[derive(Debug, Clone)]
struct Atom {
    span: Range<usize>,
    tokens: usize,
    block: usize,
    section: usize,
    heading: bool,
    /// Whether it goes on with the paragraph, or the lines of code, that the one before it began.
    continues: bool,
    /// How it can still be cut.
    steps: Steps,
    /// How many definitions around it had to be cut.
    depth: u32,
}

/// Joins blocks, which leave no gap, to passages.
pub(super) fn pack(
    text: &str,
    blocks: Vec<Block>,
    options: &PassageOptions,
    count: &dyn Fn(&str) -> usize,
) -> Vec<Packed> {
    let tokens: Vec<usize> = blocks.iter().map(|block| count(&text[block.span.clone()])).collect();
    let sections = sections(&blocks, &tokens);
    let packer = Packer { text, blocks: &blocks, sections: &sections, options, count };
    let mut passages: Vec<Packed> = Vec::new();
    for group in groups(&sections, options.min_tokens) {
        let atoms = group
            .clone()
            .flat_map(|at| sections[at].blocks.clone().map(move |block| (at, block)))
            .map(|(at, block)| packer.whole(at, block, tokens[block]));
        let first = passages.len();
        passages.extend(packer.pack(atoms.collect()));
        packer.join_crumbs(&mut passages, first);
    }
    for passage in &mut passages {
        passage.headings = packer.headings(passage);
    }
    passages
}

/// Of the `left` tokens to come, those of the cut definition that the next ones are of.
fn left_within(queue: &VecDeque<Atom>, left: usize) -> usize {
    match queue.front() {
        Some(first) if first.depth > 0 => {
            queue.iter().take_while(|atom| atom.depth >= first.depth).map(|atom| atom.tokens).sum()
        }
        _ => left,
    }
}

/// The sections of a text.
fn sections(blocks: &[Block], tokens: &[usize]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut path: Vec<(u8, String)> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        if let Some((level, text)) = &block.heading {
            path.retain(|(above, _)| above < level);
            path.push((*level, text.clone()));
        }
        match sections.last_mut() {
            Some(section) if block.heading.is_none() => {
                section.blocks.end = at + 1;
                section.tokens += tokens[at];
                section.bare = false;
            }
            _ => sections.push(Section {
                level: block.heading.as_ref().map_or(0, |(level, _)| *level),
                path: path.clone(),
                blocks: at..at + 1,
                tokens: tokens[at],
                bare: block.heading.is_some(),
            }),
        }
    }
    sections
}

/// Sections that are packed as one: short ones with those that follow, bare headings always.
fn groups(sections: &[Section], min: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while start < sections.len() {
        let first = &sections[start];
        let (mut tokens, mut bare) = (first.tokens, first.bare);
        let mut end = start + 1;
        while end < sections.len() && (bare || tokens < min && first.leads_to(&sections[end])) {
            tokens += sections[end].tokens;
            bare &= sections[end].bare;
            end += 1;
        }
        groups.push(start..end);
        start = end;
    }
    groups
}

struct Packer<'a> {
    text: &'a str,
    blocks: &'a [Block],
    sections: &'a [Section],
    options: &'a PassageOptions,
    count: &'a dyn Fn(&str) -> usize,
}

impl Packer<'_> {
    fn whole(&self, section: usize, at: usize, tokens: usize) -> Atom {
        let block = &self.blocks[at];
        Atom {
            span: block.span.clone(),
            tokens,
            block: at,
            section,
            // An endless heading is text.
            heading: block.heading.is_some() && tokens <= self.options.max_tokens / 2,
            continues: false,
            steps: block.steps,
            depth: 0,
        }
    }

    /// Joins atoms in their order.
    fn pack(&self, mut queue: VecDeque<Atom>) -> Vec<Packed> {
        let max = self.options.max_tokens;
        let mut passages = Vec::new();
        let mut left: usize = queue.iter().map(|atom| atom.tokens).sum();
        let mut open = Open::new(Vec::new(), left, max);
        while let Some(next) = queue.pop_front() {
            left -= next.tokens;
            // What has to be cut anyway is not begun in a passage that has enough of its own; in
            // code that is less, where what follows is another thing rather than the next thought.
            let enough = if self.is_code(&next) { self.options.min_tokens } else { max / 2 };
            let over = next.tokens > max && open.tokens < enough.max(1)
                || open.cannot_end(self.options) && !open.fits(&next, max);
            if over && let Some(parts) = self.cut(&next) {
                left += parts.iter().map(|part| part.tokens).sum::<usize>();
                parts.into_iter().rev().for_each(|part| queue.push_front(part));
                if queue.front().is_some_and(|part| part.depth > next.depth) {
                    open.aim(left_within(&queue, left), max);
                }
            } else if open.ends_before(&next, self.options) {
                left += next.tokens;
                queue.push_front(next);
                for heading in open.give_back_headings() {
                    left += heading.tokens;
                    queue.push_front(heading);
                }
                let repeated = open.repeated(queue.front(), self.options);
                passages.push(self.packed(open));
                open = Open::new(repeated, left_within(&queue, left), max);
            } else {
                open.push(next);
            }
        }
        if !open.atoms.is_empty() {
            passages.push(self.packed(open));
        }
        passages
    }

    fn is_code(&self, atom: &Atom) -> bool {
        self.blocks[atom.block].steps.contains(&Step::Indent)
    }

    /// The parts of an atom, if it can be cut. Words are only cut where the budget demands it, not
    /// for the sake of even sizes.
    fn cut(&self, atom: &Atom) -> Option<Vec<Atom>> {
        let max = self.options.max_tokens;
        let block = &self.blocks[atom.block];
        let cut::Cut { parts, step, rest: steps } =
            cut::cut(self.text, &atom.span, &block.items, atom.steps, atom.tokens, max)?;
        if step == Step::Anywhere && atom.tokens <= max {
            return None;
        }
        // What stands for itself, such as an item or a row, goes on with nothing.
        let joined = step == Step::Sentences || step == Step::Lines && self.is_code(atom);
        let definition = atom.steps == cut::DEFINITIONS;
        let part = |(at, span): (usize, Range<usize>)| Atom {
            tokens: (self.count)(&self.text[span.clone()]),
            span,
            continues: joined && at > 0,
            steps,
            heading: false,
            depth: atom.depth + u32::from(definition),
            ..*atom
        };
        Some(parts.into_iter().enumerate().map(part).collect())
    }

    fn packed(&self, open: Open) -> Packed {
        let ends = |atoms: &[Atom]| {
            let first = atoms.iter().find(|atom| !atom.heading).or(atoms.last())?;
            let last = atoms.iter().rfind(|atom| !atom.heading).or(atoms.last())?;
            Some((first.section, last.section))
        };
        let start = open.atoms.first().map_or(0, |atom| atom.span.start);
        let end = open.atoms.last().map_or(0, |atom| atom.span.end);
        Packed {
            span: start..end,
            headings: Vec::new(),
            tokens: open.tokens,
            sections: ends(&open.atoms).unwrap_or_default(),
        }
    }

    /// Joins what is still below the minimum with the passage before it, if they belong together
    /// and fit.
    fn join_crumbs(&self, passages: &mut Vec<Packed>, from: usize) {
        let mut at = from.max(1);
        while at < passages.len() {
            let (before, crumb) = (&passages[at - 1], &passages[at]);
            let (last, next) = (before.sections.1, crumb.sections.0);
            if crumb.tokens < self.options.min_tokens
                && before.tokens + crumb.tokens <= self.options.max_tokens
                && crumb.span.start <= before.span.end
                && (last == next || self.sections[last].leads_to(&self.sections[next]))
            {
                let crumb = passages.remove(at);
                let before = &mut passages[at - 1];
                before.span.end = crumb.span.end;
                before.tokens += crumb.tokens;
                before.sections.1 = crumb.sections.1;
            } else {
                at += 1;
            }
        }
    }

    /// The headings that all sections of a passage share.
    fn headings(&self, passage: &Packed) -> Vec<String> {
        let (first, last) = passage.sections;
        // What stands before the first heading shares none, and says nothing about the others.
        let mut paths = self.sections[first..=last.max(first)]
            .iter()
            .map(|section| section.path.as_slice())
            .filter(|path| !path.is_empty());
        let Some(path) = paths.next() else { return Vec::new() };
        let shared = paths
            .fold(path.len(), |shared, other| shared.min(path.iter().zip(other).take_while(|(a, b)| a == b).count()));
        path[..shared].iter().map(|(_, text)| text.clone()).collect()
    }
}

/// The passage that is being filled.
struct Open {
    atoms: Vec<Atom>,
    tokens: usize,
    /// The size at which it should end, for the passages that follow to be of about that size.
    target: usize,
    /// Whether it holds more than what it repeats.
    fresh: bool,
}

impl Open {
    /// Begins with what is repeated, while `left` tokens are still to come.
    fn new(atoms: Vec<Atom>, left: usize, max: usize) -> Self {
        let tokens = atoms.iter().map(|atom| atom.tokens).sum();
        let mut open = Self { atoms, tokens, target: 0, fresh: false };
        open.aim(left, max);
        open
    }

    /// Sets the target, while `left` tokens are still to come.
    fn aim(&mut self, left: usize, max: usize) {
        let all = left + self.tokens;
        self.target = all.div_ceil(all.div_ceil(max).max(1));
    }

    fn push(&mut self, atom: Atom) {
        self.tokens += atom.tokens;
        self.fresh = true;
        self.atoms.push(atom);
    }

    fn fits(&self, next: &Atom, max: usize) -> bool {
        self.tokens + next.tokens <= max
    }

    /// Whether it would be a crumb, or end with a heading.
    fn cannot_end(&self, options: &PassageOptions) -> bool {
        self.atoms.last().is_some_and(|last| last.heading || self.tokens < options.min_tokens)
    }

    fn ends_before(&self, next: &Atom, options: &PassageOptions) -> bool {
        let Some(last) = self.atoms.last() else { return false };
        if !self.fits(next, options.max_tokens) || last.span.end != next.span.start {
            return true;
        }
        if !self.fresh || self.cannot_end(options) {
            return false;
        }
        // The end of a definition that had to be cut is not mixed with what comes after it.
        if next.depth < last.depth {
            return true;
        }
        // Better between paragraphs than inside of one: there, half of the next may be missing.
        let missing = if next.continues { 0 } else { next.tokens / 2 };
        let more = self.tokens + next.tokens > self.target;
        more && self.tokens + missing >= self.target
    }

    /// Takes off the headings at the end, last one first: they belong to what follows.
    fn give_back_headings(&mut self) -> Vec<Atom> {
        let keep = self.atoms.iter().rposition(|atom| !atom.heading).map_or(0, |at| at + 1);
        if keep == 0 {
            return Vec::new();
        }
        let headings = self.atoms.split_off(keep);
        self.tokens -= headings.iter().map(|atom| atom.tokens).sum::<usize>();
        headings.into_iter().rev().collect()
    }

    /// What the passage that begins with `next` repeats of this one.
    fn repeated(&self, next: Option<&Atom>, options: &PassageOptions) -> Vec<Atom> {
        let Some((next, last)) = next.zip(self.atoms.last()) else { return Vec::new() };
        if !next.continues || last.span.end != next.span.start {
            return Vec::new();
        }
        let room = options.overlap_tokens.min(options.max_tokens.saturating_sub(next.tokens));
        let (mut tokens, mut count) = (0, 0);
        for atom in self.atoms.iter().rev() {
            tokens += atom.tokens;
            if tokens > room {
                break;
            }
            count += 1;
            if !atom.continues {
                break;
            }
        }
        // Never the whole passage: the next one has to begin later.
        let count = count.min(self.atoms.len() - 1);
        self.atoms[self.atoms.len() - count..].to_vec()
    }
}
