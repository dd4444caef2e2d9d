//! Where sentences end.
//!
//! A few plain rules instead of a model of each language: a wrong cut inside a paragraph that has
//! to be cut anyway costs little.

/// Words after which a full stop mostly does not end a sentence, in lower case.
const ABBREVIATIONS: &[&str] = &[
    "al", "approx", "art", "bzw", "ca", "cf", "chap", "corp", "dept", "dr", "e.g", "ed", "eds", "eq", "est", "fig",
    "figs", "i.e", "inc", "jr", "lit", "ltd", "mr", "mrs", "ms", "mt", "no", "nos", "nr", "op", "p", "pp", "prof",
    "resp", "rev", "sec", "sect", "sr", "st", "str", "u.a", "u.s", "vol", "vs", "z.b",
];

/// Where the sentences of a text begin, except the first. Blank lines, lines that begin a list
/// item and records of a JSON list begin a sentence as well.
pub(super) fn starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let mut starts = Vec::new();
    let mut sentence = 0;
    let mut at = 0;
    while at < bytes.len() {
        let start = match bytes[at] {
            b'.' | b'!' | b'?' => after_mark(text, sentence, at, 1),
            b'\n' => after_line(text, at),
            b'}' => after_record(text, at),
            0xe2 if text[at..].starts_with('…') => after_mark(text, sentence, at, 3),
            0xe3 | 0xef if wide_mark(&text[at..]) => Some(skip_closers(text, at + 3)),
            _ => None,
        };
        match start {
            Some(start) if start < bytes.len() => {
                starts.push(start);
                sentence = start;
                at = start;
            }
            _ => at += 1,
        }
    }
    starts
}

/// Marks that end a sentence without white space after them.
fn wide_mark(text: &str) -> bool {
    text.starts_with(['。', '！', '？', '｡'])
}

/// Where the next sentence begins if the mark at `at` ends one.
fn after_mark(text: &str, sentence: usize, at: usize, len: usize) -> Option<usize> {
    let rest = &text[at + len..];
    let more = rest.len() - rest.trim_start_matches(['.', '!', '?', '…']).len();
    let end = skip_closers(text, at + len + more);
    let blank = text[end..].len() - text[end..].trim_start().len();
    // A line end as JSON writes it.
    let escaped = text[end..].len() - text[end..].trim_start_matches("\\n").len();
    if blank == 0 && escaped == 0 {
        return None;
    }
    let single_stop = text.as_bytes()[at] == b'.' && more == 0;
    if single_stop && !ends_sentence(&text[sentence..at]) {
        return None;
    }
    // A blank line, or a list item, among that white space begins at its own line.
    match text[end..end + blank].find('\n').and_then(|line| after_line(text, end + line)) {
        Some(start) => Some(start),
        None => Some(end + blank.max(escaped)),
    }
}

/// Past the quotes, brackets and emphasis that close with the sentence.
fn skip_closers(text: &str, at: usize) -> usize {
    let closers = ['"', '\'', ')', ']', '”', '’', '»', '*', '_', '`', '」', '』', '）'];
    text.len() - text[at..].trim_start_matches(closers).len()
}

/// Whether a full stop after this, the sentence so far, ends it.
fn ends_sentence(sentence: &str) -> bool {
    let word = sentence.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or(sentence);
    if word.is_empty() {
        return !sentence.trim().is_empty();
    }
    // The number of a list item or of a section: it belongs to what it counts.
    let opens = sentence.trim_start().len() == word.len();
    if opens && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return false;
    }
    // An initial.
    if word.chars().count() == 1 && word.chars().all(char::is_uppercase) {
        return false;
    }
    if word.len() > 8 {
        return true;
    }
    let word = word.to_ascii_lowercase();
    ABBREVIATIONS.binary_search(&word.as_str()).is_err()
}

/// Where a sentence begins after the line end at `at`: after blank lines, or at a list item.
fn after_line(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at + 1..];
    let indented = rest.trim_start();
    let blank = &rest[..rest.len() - indented.len()];
    let start = at + 1 + blank.rfind('\n').map_or(0, |line| line + 1);
    (start > at + 1 || is_item(indented)).then_some(start)
}

/// Where the next record begins after one of a JSON list that ends at `at`.
fn after_record(text: &str, at: usize) -> Option<usize> {
    let next = text[at + 1..].strip_prefix(',')?.trim_start();
    next.starts_with('{').then(|| text.len() - next.len())
}

/// Whether a line begins a list item.
fn is_item(line: &str) -> bool {
    let mut after = line.trim_start_matches(|c: char| c.is_ascii_digit());
    if after.len() < line.len() {
        after = match after.strip_prefix(['.', ')']) {
            Some(after) if line.len() - after.len() <= 4 => after,
            _ => return false,
        };
    } else {
        after = match line.strip_prefix(['-', '*', '+', '•', '–']) {
            Some(after) => after,
            None => return false,
        };
    }
    after.starts_with([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let mut parts = Vec::new();
        let mut start = 0;
        for end in starts(text).into_iter().chain([text.len()]) {
            parts.push(&text[start..end]);
            start = end;
        }
        parts
    }

    #[test]
    fn abbreviations_are_sorted() {
        assert!(ABBREVIATIONS.is_sorted());
    }

    #[test]
    fn sentences_end_at_marks() {
        assert_eq!(
            sentences("It rained. Did it? \"Yes!\" he said... Then (it stopped.) Fine."),
            ["It rained. ", "Did it? ", "\"Yes!\" ", "he said... ", "Then (it stopped.) ", "Fine."]
        );
        assert_eq!(sentences("in 2036. 14. debt was due."), ["in 2036. ", "14. debt was due."]);
        assert_eq!(sentences("released . It sold ."), ["released . ", "It sold ."]);
        assert_eq!(sentences("今日は。明日は？はい"), ["今日は。", "明日は？", "はい"]);
    }

    #[test]
    fn abbreviations_initials_and_numbers_do_not_end_one() {
        for whole in [
            "Dr. Who met J. R. Tolkien, e.g. at 3.14 p.m.",
            "See Fig. 3 of vol. 2 (cf. p. 9).",
            "1. First of all",
            "a.b.c and v1.2.3 at example.com/x.html",
        ] {
            assert_eq!(sentences(whole), [whole]);
        }
    }

    #[test]
    fn texts_within_json_have_sentences() {
        assert_eq!(sentences(r"So.\n\n1. One.\n2. Two. End"), [r"So.\n\n", r"1. One.\n", "2. Two. ", "End"]);
        assert_eq!(
            sentences(r#"[{"a": "Why?"}, {"a": "So."},{"a": {}, "b": 1}]"#),
            [r#"[{"a": "Why?"}, "#, r#"{"a": "So."},"#, r#"{"a": {}, "b": 1}]"#]
        );
    }

    #[test]
    fn lines_of_their_own_begin_one() {
        assert_eq!(sentences("a line\nand on\n\n  new one"), ["a line\nand on\n\n", "  new one"]);
        assert_eq!(sentences("a:\n- b\n  - c\n12) d"), ["a:\n", "- b\n", "  - c\n", "12) d"]);
        assert_eq!(sentences("End.\n- b"), ["End.\n", "- b"]);
        assert_eq!(sentences("5 -\n-5 and 2020.\nx"), ["5 -\n-5 and 2020.\n", "x"]);
    }
}
