//! From places in the readable text of a page to places in its source.

use std::ops::Range;

/// From places in the readable text to places in the source: pieces in order.
#[derive(Default)]
pub(in crate::split) struct Map(Vec<Piece>);

/// A piece of readable text: of the same bytes as its source, or, where the lengths differ, made
/// of it as a whole (an entity).
struct Piece {
    text: Range<usize>,
    source: Range<usize>,
}

impl Map {
    /// The source from the first to the last byte that contributed to this text.
    pub(in crate::split) fn source(&self, text: Range<usize>) -> Range<usize> {
        let first = self.0.partition_point(|piece| piece.text.end <= text.start);
        let last = self.0.partition_point(|piece| piece.text.start < text.end);
        let start = self.0.get(first).map_or(0, |piece| piece.at(text.start, piece.source.start));
        let end = last
            .checked_sub(1)
            .and_then(|last| self.0.get(last))
            .map_or(start, |piece| piece.at(text.end.min(piece.text.end), piece.source.end));
        start..end.max(start)
    }

    pub(super) fn push(&mut self, text: Range<usize>, source: Range<usize>) {
        if let Some(last) = self.0.last_mut()
            && last.text.len() == last.source.len()
            && text.len() == source.len()
            // One blank between them in both is the same length too.
            && text.start - last.text.end == source.start.wrapping_sub(last.source.end)
            && text.start - last.text.end <= 1
        {
            last.text.end = text.end;
            last.source.end = source.end;
        } else {
            self.0.push(Piece { text, source });
        }
    }
}

impl Piece {
    /// The source of the place `at`, or `whole` where the piece cannot be divided.
    fn at(&self, at: usize, whole: usize) -> usize {
        if self.text.len() == self.source.len() {
            self.source.start + at.saturating_sub(self.text.start)
        } else {
            whole
        }
    }
}
