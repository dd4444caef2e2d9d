//! A file through tree-sitter.

use std::ops::ControlFlow;

use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

use super::Seam;
use super::definitions::{self, Found};
use super::languages::{Grammar, Language};

/// How often a parser reports per kilobyte of text, at most. Ordinary code needs about 7 of these and tables 24. Work is
/// counted instead of time so that the same file is always split the same way.
const REPORTS_PER_KILOBYTE: usize = 60;

/// How many brackets nobody opens, and how many operators nobody strings together, without an end of any kind.
const MAX_OPEN: usize = 400;

/// Where the definitions of a text begin, if a grammar of the language makes sense of it.
pub(super) fn seams(language: &Language, text: &str) -> Option<Vec<Seam>> {
    if text.len() > language.max_bytes || is_endless(text) {
        return None;
    }
    let mut best: Option<Found> = None;
    for grammar in language.grammars {
        let Some(tree) = parse(grammar, text) else { continue };
        let found = definitions::find(&tree, language.rules, text);
        if best.as_ref().is_none_or(|best| found.errors < best.errors) {
            best = Some(found);
        }
        if best.as_ref().is_some_and(|best| best.errors == 0) {
            break;
        }
    }
    best.filter(|found| found.errors <= text.len() / 2).map(|found| found.seams)
}

/// Whether tree-sitter would take time or memory that grows with the square of this text, without a word in between.
///
/// Where an error follows on many expressions, none of which has ended, it keeps a copy of all of them for each
/// (`x=>x=>x=>...`, 660 MB for 4 kB). Some scanners take a NUL for the end of the file, again and again.
fn is_endless(text: &str) -> bool {
    let (mut operators, mut brackets, mut before) = (0, 0usize, b' ');
    for byte in text.bytes() {
        match byte {
            0 => return true,
            b'(' | b'[' | b'{' => brackets += 1,
            b')' | b']' | b'}' => (operators, brackets) = (0, brackets.saturating_sub(1)),
            b',' | b';' => operators = 0,
            b'<' | b'>' | b'=' | b'?' | b':' | b'&' | b'|' if byte != before => operators += 1,
            _ => {}
        }
        if operators > MAX_OPEN || brackets > MAX_OPEN {
            return true;
        }
        before = byte;
    }
    false
}

/// The tree of a text; none where a parser does not come to an end.
fn parse(grammar: &Grammar, text: &str) -> Option<Tree> {
    let mut parser = Parser::new();
    parser.set_language(&(*grammar).into()).ok()?;
    let mut left = 100 + text.len() * REPORTS_PER_KILOBYTE / 1024;
    let mut report = |_: &ParseState| {
        left = left.saturating_sub(1);
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = ParseOptions::new().progress_callback(&mut report);
    parser.parse_with_options(&mut |at, _| text.as_bytes().get(at..).unwrap_or_default(), None, Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::code::languages::LANGUAGES;

    #[test]
    fn every_grammar_goes_with_this_tree_sitter_and_knows_the_kinds() {
        for language in LANGUAGES {
            let mut unknown = language.kinds();
            for grammar in language.grammars {
                let grammar: tree_sitter::Language = (*grammar).into();
                Parser::new().set_language(&grammar).unwrap();
                unknown.retain(|kind| grammar.id_for_node_kind(kind, true) == 0);
            }
            assert!(unknown.is_empty(), "{} has no {unknown:?}", language.names);
        }
    }
}
