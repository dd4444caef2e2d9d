//! What stands in what: from seams to blocks, and to the names above a passage.

use std::ops::Range;

use super::{Seam, layout};
use crate::split::cut;
use crate::split::{Block, Item};

/// The named definitions of a file.
#[derive(Debug, Default)]
pub(in crate::split) struct Outline {
    /// In order of where they begin, so that what encloses comes before what it encloses.
    definitions: Vec<(Range<usize>, String)>,
}

impl Outline {
    /// The definitions that all of this span is in, outermost first.
    pub(in crate::split) fn above(&self, span: &Range<usize>) -> Vec<String> {
        let before = self.definitions.partition_point(|(of, _)| of.start <= span.start);
        let around = self.definitions[..before].iter().filter(|(of, _)| span.end <= of.end);
        around.map(|(_, name)| name.clone()).collect()
    }
}

/// The blocks between the outermost seams, with those within as places to cut at, and the outline.
pub(super) fn read(text: &str, seams: Vec<Seam>) -> (Vec<Block>, Outline) {
    let top = seams.iter().map(|seam| seam.level).min().unwrap_or_default();
    let starts: Vec<usize> = seams.iter().filter(|seam| seam.level == top).map(|seam| seam.at).collect();
    let mut blocks = Vec::new();
    let mut next = 0;
    for span in cut::ranges(0..text.len(), &starts) {
        let first = next;
        while next < seams.len() && seams[next].at < span.end {
            next += 1;
        }
        let inside = &seams[first..next];
        if inside.iter().all(|seam| seam.level == top && seam.name.is_none()) {
            // Statements between definitions.
            let starts: Vec<usize> = layout::starts(&text[span.clone()]).iter().map(|at| span.start + at).collect();
            blocks.extend(cut::ranges(span, &starts).into_iter().map(|part| Block::new(part, cut::CODE)));
        } else {
            let items = inside.iter().map(|seam| Item { at: seam.at, level: seam.level }).collect();
            blocks.push(Block { items, ..Block::new(span, cut::DEFINITIONS) });
        }
    }
    (blocks, Outline { definitions: definitions(text.len(), seams) })
}

/// A definition goes on to the next seam that lies no deeper: what closes it, and what closes that which it is the last part
/// of, says nothing of its own.
fn definitions(end: usize, seams: Vec<Seam>) -> Vec<(Range<usize>, String)> {
    let mut definitions: Vec<(Range<usize>, String)> = Vec::new();
    // Levels and places of those that are still open; the levels rise.
    let mut open: Vec<(u32, Option<usize>)> = Vec::new();
    for seam in seams {
        while let Some((_, closed)) = open.pop_if(|(level, _)| *level >= seam.level) {
            if let Some(at) = closed {
                definitions[at].0.end = seam.at;
            }
        }
        open.push((seam.level, seam.name.is_some().then_some(definitions.len())));
        definitions.extend(seam.name.map(|name| (seam.at..end, name)));
    }
    definitions
}
