//! The part of a passage to be shown: where most of what the query met stands together.

use std::ops::Range;

use crate::reader::Hit;
use crate::scripts::{is_ideographic, is_run_together};

impl Hit {
    /// At most `most` bytes of the passage's text that hold as much as can be of what the query met, from the beginning of
    /// a sentence, a line or, where these are too long, a word, to the end of one. All of it where it is short enough, and
    /// its beginning where the search was not to explain.
    pub fn snippet(&self, most: usize) -> Range<usize> {
        let met = self.matches.iter().flatten().filter_map(|found| Some((found.text.clone()?, found.score)));
        densest(&self.passage.text, &met.collect::<Vec<_>>(), most)
    }
}

fn densest(text: &str, met: &[(Range<usize>, f32)], most: usize) -> Range<usize> {
    if text.len() <= most {
        return 0..text.len();
    }
    let inside = |window: &Range<usize>| {
        let scores = met.iter().filter(|(place, _)| window.start <= place.start && place.end <= window.end);
        scores.map(|(_, score)| score).sum::<f32>()
    };
    let windows = starts(text, most).into_iter().map(|start| window(text, start, most));
    let mut best = (window(text, 0, most), f32::NEG_INFINITY);
    for window in windows {
        let score = inside(&window);
        // Of equals the first: what comes before is read before.
        if score > best.1 + 1e-6 {
            best = (window, score);
        }
    }
    best.0
}

/// Where a snippet may begin: at sentences and lines, and within those that are too long at words.
fn starts(text: &str, most: usize) -> Vec<usize> {
    let mut starts = vec![0];
    let mut chars = text.char_indices().peekable();
    let (mut sentence, mut blank) = (false, false);
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            sentence |= c == '\n';
            blank = true;
            continue;
        }
        let last = starts.last().copied().unwrap_or_default();
        // Where words are not parted, any character may be the first.
        if at > last && (blank || unspaced(c)) && (sentence || at - last > most / 2) {
            starts.push(at);
        }
        sentence = FULL_STOPS.contains(&c)
            || matches!(c, '.' | '!' | '?' | ':' | ';') && chars.peek().is_some_and(|(_, next)| next.is_whitespace());
        blank = false;
    }
    starts
}

/// Ends of sentences that no space follows.
const FULL_STOPS: [char; 4] = ['\u{3002}', '\u{ff01}', '\u{ff1f}', '\u{ff1b}'];

/// Whether a character is of a script that does not part words.
fn unspaced(c: char) -> bool {
    is_ideographic(c) || is_run_together(c)
}

/// From `start` to the last end of a sentence, or else of a word, that fits.
fn window(text: &str, start: usize, most: usize) -> Range<usize> {
    let end = text.floor_char_boundary((start + most).min(text.len()));
    if end == text.len() {
        return start..end;
    }
    let inside = &text[start..end];
    let whole = text[end..].starts_with(char::is_whitespace) || inside.ends_with(unspaced);
    let word = if whole { end } else { inside.rfind(char::is_whitespace).map_or(end, |at| start + at) };
    // A sentence that ends early would leave half of the room empty.
    let sentence = [". ", "! ", "? ", ".\n", "\n"].iter().filter_map(|end| inside.rfind(end)).max();
    let full_stop = inside.rfind(FULL_STOPS).map(|at| inside.ceil_char_boundary(at + 1));
    let sentence = sentence.map(|at| at + usize::from(!inside[at..].starts_with('\n'))).max(full_stop);
    match sentence {
        Some(end) if end > most / 2 => start..start + end,
        // Not even one character may fit.
        _ if word == start => start..text.ceil_char_boundary(start + 1),
        _ => start..word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "The shed is dry. Nobody works there in winter. The kiln fires at 1280 degrees! Then it cools for a day. \
                        The end of the story is that nothing broke.";

    fn met(words: &[&str]) -> Vec<(Range<usize>, f32)> {
        words.iter().map(|word| (TEXT.find(word).unwrap(), word.len())).map(|(at, len)| (at..at + len, 0.1)).collect()
    }

    #[test]
    fn snippets_are_where_the_query_met_most() {
        assert_eq!(&TEXT[densest(TEXT, &met(&["kiln", "degrees", "shed"]), 50)], "The kiln fires at 1280 degrees!");
        assert_eq!(&TEXT[densest(TEXT, &met(&["broke"]), 60)], "The end of the story is that nothing broke.");
        assert_eq!(&TEXT[densest(TEXT, &[], 20)], "The shed is dry.");
        assert_eq!(&TEXT[densest(TEXT, &met(&["cools"]), 8)], "it cools");
        assert_eq!(densest(TEXT, &[], 1000), 0..TEXT.len());
        // Sentences of Chinese, which no spaces part.
        let text = "\u{7a91}\u{5f88}\u{51b7}\u{3002}\u{4eca}\u{5929}\u{4e0b}\u{96e8}\u{3002}\u{94c1}\u{7ed9}\u{91c9}\u{7eff}\u{8272}\u{3002}\u{660e}\u{5929}";
        let iron = text.find('\u{94c1}').unwrap();
        let found = densest(text, &[(iron..iron + 3, 0.5)], 20);
        assert_eq!(&text[found], "\u{94c1}\u{7ed9}\u{91c9}\u{7eff}\u{8272}\u{3002}");
    }

    proptest! {
        #[test]
        fn snippets_fit_and_are_of_the_text(text in "[a-z\u{e9}\u{6771}. \n!]{1,200}", most in 1usize..80, at in 0usize..200) {
            let at = text.floor_char_boundary(at.min(text.len()));
            let found = densest(&text, &[(at..text.len().min(at), 1.0)], most);
            prop_assert!(text.get(found.clone()).is_some(), "{:?}", found);
            prop_assert!(found.len() <= most || found == (0..text.len()) || found.len() <= 4);
        }
    }
}
