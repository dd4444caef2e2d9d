//! Plain text: paragraphs between blank lines.

use super::{Block, cut};

/// The paragraphs of a text.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    Block::from_starts(text.len(), &starts(text), cut::PROSE)
}

/// The starts of the lines that follow a blank one.
fn starts(text: &str) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut seen = false;
    let mut after_blank = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            after_blank = seen;
        } else {
            if after_blank {
                starts.push(at);
            }
            seen = true;
            after_blank = false;
        }
        at += line.len();
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_parted_by_blank_lines() {
        let text = "\n\none\ntwo\n \t\n\n  three\n\n";
        let parts: Vec<&str> = blocks(text).into_iter().map(|block| &text[block.span]).collect();
        assert_eq!(parts, ["\n\none\ntwo\n \t\n\n", "  three\n\n"]);
        assert!(blocks("").is_empty());
    }
}
