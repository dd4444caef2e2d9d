//! How a text is taken apart into keywords.
//!
//! A word is a run of letters and digits, an apostrophe within it included. Of a name as programmers write it, `readFile`
//! or `read_file`, the parts are words too, beside the whole. Accents do not count, composed or not. Where a script does not part
//! words, each two neighbours are a word, and in Chinese and Japanese each character by itself.

use std::ops::Range;

use tantivy::tokenizer::{
    AsciiFoldingFilter, Language, LowerCaser, RemoveLongFilter, Stemmer, TextAnalyzer, Token, TokenStream, Tokenizer,
};

use crate::scripts::{is_ideographic, is_joining_mark, is_run_together};

/// Bytes of a word; longer ones are no words that anybody asks for.
const MAX_WORD: usize = 100;

/// Words in lower case, without accents, by their stems.
pub(super) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(Words)
        .filter(RemoveLongFilter::limit(MAX_WORD))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .filter(Stemmer::new(Language::English))
        .build()
}

/// Takes a text apart.
#[derive(Debug, Clone)]
struct Words;

impl Tokenizer for Words {
    type TokenStream<'a> = Stream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Stream {
        let mut tokens = Vec::new();
        for run in runs(text) {
            if let Some(neighbours) = neighbours(text, &run) {
                for part in neighbours {
                    let word = word(&text[part.clone()]);
                    push(&mut tokens, part, word);
                }
                continue;
            }
            let parts = parts(text, run.clone());
            if parts.len() > 1 {
                let whole = word(&text[run.clone()]);
                push(&mut tokens, run, whole);
            }
            for part in parts {
                let word = word(&text[part.clone()]);
                push(&mut tokens, part, word);
            }
        }
        Stream { tokens, at: 0 }
    }
}

/// A word as it is kept: without what joins its parts or stands over its letters.
fn word(text: &str) -> String {
    let letters = text.chars().filter(|c| *c != '_' && !is_silent(*c));
    letters.map(|c| if c == '\u{2019}' { '\'' } else { c }).collect()
}

/// Whether a character is none of a word's letters: an accent or a vowel's point by itself, or where a word may be divided.
fn is_silent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}' | '\u{200c}' | '\u{200d}')
}

/// How a script writes words.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Script {
    Spaced,
    Ideographic,
    RunTogether,
}

impl Script {
    fn of(c: char) -> Self {
        match c {
            _ if is_ideographic(c) => Self::Ideographic,
            _ if is_run_together(c) => Self::RunTogether,
            _ => Self::Spaced,
        }
    }
}

/// The words of a run of a script that does not part them.
fn neighbours(text: &str, run: &Range<usize>) -> Option<Vec<Range<usize>>> {
    let inside = &text[run.clone()];
    let single = match Script::of(inside.chars().next()?) {
        Script::Spaced => return None,
        Script::Ideographic => true,
        Script::RunTogether => false,
    };
    let starts = inside.char_indices().filter(|(_, c)| !is_silent(*c));
    let mut ends: Vec<usize> = starts.map(|(at, _)| run.start + at).collect();
    ends.push(run.end);
    let each = |many: usize| ends.windows(many + 1).map(move |ends| ends[0]..ends[many]).collect::<Vec<_>>();
    // One character alone is all that there is to be found.
    Some(if single || ends.len() == 2 { [each(1), each(2)].concat() } else { each(2) })
}

fn push(tokens: &mut Vec<Token>, span: Range<usize>, text: String) {
    let (offset_from, offset_to, position) = (span.start, span.end, tokens.len());
    tokens.push(Token { offset_from, offset_to, position, text, position_length: 1 });
}

/// Letters and digits that belong together, underscores and apostrophes between them included.
fn runs(text: &str) -> Vec<Range<usize>> {
    let (mut runs, mut start) = (Vec::new(), None);
    let mut close = |start: &mut Option<usize>, end: usize| runs.extend(start.take().map(|start| start..end));
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        if is_silent(c) && before.is_alphanumeric() {
            continue;
        }
        if start.is_some() && is_joining_mark(c) && Script::of(before) == Script::Spaced {
            before = c;
            continue;
        }
        if Script::of(c) != Script::of(before) {
            close(&mut start, at);
        }
        if Script::of(c) != Script::Spaced || c.is_alphanumeric() {
            start.get_or_insert(at);
        } else {
            let after = chars.peek().map_or(' ', |(_, c)| *c);
            let joins = match c {
                '_' => before.is_alphanumeric() || before == '_',
                '\'' | '\u{2019}' => before.is_alphabetic() && after.is_alphabetic(),
                _ => false,
            };
            if !joins {
                close(&mut start, at);
            }
        }
        before = c;
    }
    close(&mut start, text.len());
    runs
}

/// The parts of a name: at underscores, and where capitals begin. Two letters at least on either side, so that `mRNA` and `pH`
/// stay what they are.
fn parts(text: &str, run: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = run.start;
    let word = &text[run.clone()];
    for piece in word.split('_') {
        let end = start + piece.len();
        if !piece.is_empty() {
            humps(piece, start, &mut parts);
        }
        start = end + 1;
    }
    parts
}

/// Parts of `piece`, which begins at `base`, by its capitals.
fn humps(piece: &str, base: usize, parts: &mut Vec<Range<usize>>) {
    let bytes = piece.as_bytes();
    let mut start = 0;
    for at in 2..bytes.len().saturating_sub(1) {
        let (before, here, after) = (bytes[at - 1], bytes[at], bytes[at + 1]);
        // readFile
        let rises = before.is_ascii_lowercase() && here.is_ascii_uppercase();
        // HTTPServer, and not PCRs
        let falls = before.is_ascii_uppercase()
            && here.is_ascii_uppercase()
            && after.is_ascii_lowercase()
            && bytes.get(at + 2).is_some_and(u8::is_ascii_lowercase);
        if (rises || falls) && at - start >= 2 {
            parts.push(base + start..base + at);
            start = at;
        }
    }
    parts.push(base + start..base + piece.len());
}

/// The words of one text.
struct Stream {
    tokens: Vec<Token>,
    /// One past the current one.
    at: usize,
}

impl TokenStream for Stream {
    fn advance(&mut self) -> bool {
        self.at += 1;
        self.at <= self.tokens.len()
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at - 1]
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.tokens[self.at - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        analyzer().token_stream(text).process(&mut |token| words.push(token.text.clone()));
        words
    }

    #[test]
    fn words_are_what_people_ask_for() {
        for (text, expected) in [
            ("The kilns' glazes", "the kiln glaze"),
            ("it doesn\u{2019}t fire patient's k-means", "it doesn't fire patient k mean"),
            ("Café, naïve", "cafe naiv"),
            ("Cafe\u{301} nai\u{308}ve hy\u{ad}phen \u{301}", "cafe naiv hyphen"),
            ("read_file(readFile, HTTPServer)", "readfil read file readfil read file httpserver http server"),
            ("mRNA pH PCRs DNA sha256 BM25 __init__", "mrna ph pcrs dna sha256 bm25 init"),
            ("\u{6771}\u{4eac}\u{90fd}is big", "\u{6771} \u{4eac} \u{90fd} \u{6771}\u{4eac} \u{4eac}\u{90fd} is big"),
            (
                "\u{0e20}\u{0e32}\u{0e29}\u{0e32} \u{0e44}\u{0e17}",
                "\u{0e20}\u{0e32} \u{0e32}\u{0e29} \u{0e29}\u{0e32} \u{0e44}\u{0e17}",
            ),
            ("\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}", "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}"),
            ("_ __ ' 'a' \u{2019}", "a"),
            ("", ""),
        ] {
            assert_eq!(words(text).join(" "), expected, "{text}");
        }
        assert!(words(&"x".repeat(101)).is_empty());
    }

    proptest! {
        #[test]
        fn words_lie_where_they_say(text in "[a-zA-Z0-9_'\u{2019} \u{6771}\u{0e32}\u{94d}\u{926}\u{e9}\u{df}.\u{301}\u{ad}]{0,40}") {
            for token in Words.token_stream(&text).tokens {
                let source = &text[token.offset_from..token.offset_to];
                prop_assert_eq!(word(source), token.text.clone());
                prop_assert!(!token.text.is_empty());
            }
        }
    }
}
