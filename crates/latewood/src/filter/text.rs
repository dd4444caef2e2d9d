//! A filter as people type it: `path:docs/** AND modified>2025-01-01 AND NOT (lang:rust OR lang:go)`.
//!
//! ```text
//! filter = and { "OR" and }
//! and    = not { [ "AND" ] not }
//! not    = "NOT" not | "(" filter ")" | test
//! test   = FIELD ( ":" | "=" | "!=" | ">" | ">=" | "<" | "<=" ) VALUE
//! ```
//!
//! `and`, `or` and `not` are read as well. A value is a word or stands in double quotes, where `\"` and `\\` are what they look like. After `:` a word with `*`, `?`,
//! `[` or `{` is a pattern, one that ends with `/` is a folder with all that is in it, and of `modified` the beginning is enough.
//! Quoted, it is only itself. Numbers, `true`, `false` and `null` are what they look like.

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::Filter;
use crate::error::{Error, Result};

/// Characters of a filter; a longer one was not typed.
const MAX_BYTES: usize = 10_000;

impl Filter {
    /// Reads a filter as people type it.
    ///
    /// # Errors
    /// When it is none; the error shows where.
    pub fn parse_text(text: &str) -> Result<Self> {
        let bad = |(at, detail): (usize, String)| {
            let before = text[..at].chars().count();
            Error::BadFilter { detail: format!("filter: {detail}\n  {text}\n  {}^", " ".repeat(before)) }
        };
        if text.len() > MAX_BYTES {
            return Err(Error::BadFilter { detail: format!("filter: {MAX_BYTES} bytes is the most") });
        }
        let mut parser = Parser { words: words(text).map_err(bad)?, at: 0, end: text.len(), depth: 0 };
        let value = parser.any().and_then(|value| parser.finish(value)).map_err(bad)?;
        Self::parse(&value)
    }
}

/// Where something is wrong, and what.
type Wrong = (usize, String);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Word(String),
    Quoted(String),
    Operator(&'static str),
    Open,
    Close,
}

#[derive(Debug, Clone)]
struct Word {
    kind: Kind,
    place: Range<usize>,
}

const OPERATORS: [(&str, &str); 7] =
    [(":", ":"), ("!=", "$ne"), (">=", "$gte"), ("<=", "$lte"), ("=", "$eq"), (">", "$gt"), ("<", "$lt")];

/// Takes a filter apart.
fn words(text: &str) -> Result<Vec<Word>, Wrong> {
    let (mut words, mut at) = (Vec::new(), 0);
    // Within a value, `:` and `=` are letters like others: times and patterns have them.
    let mut value = false;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        let operator = OPERATORS.iter().find(|(sign, _)| !value && text[at..].starts_with(sign));
        let kind = match c {
            _ if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '(' => Kind::Open,
            ')' => Kind::Close,
            '"' => Kind::Quoted(quoted(text, &mut at)?),
            _ if let Some((_, name)) = operator => Kind::Operator(name),
            _ => {
                let ends = |c: char| c.is_whitespace() || "()\"".contains(c) || (!value && ":=!<>".contains(c));
                let len = text[at..].find(ends).unwrap_or(text.len() - at);
                if len == 0 {
                    return Err((at, format!("{c:?} is not expected here")));
                }
                Kind::Word(text[at..at + len].to_owned())
            }
        };
        at = match &kind {
            Kind::Open | Kind::Close => at + 1,
            Kind::Operator(_) => at + operator.map_or(1, |(sign, _)| sign.len()),
            Kind::Quoted(_) => at,
            Kind::Word(word) => at + word.len(),
        };
        value = matches!(kind, Kind::Operator(_));
        words.push(Word { kind, place: start..at });
    }
    Ok(words)
}

/// The text between quotes, `at` being moved behind them.
fn quoted(text: &str, at: &mut usize) -> Result<String, Wrong> {
    let (start, mut inside) = (*at, String::new());
    let mut chars = text[start + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '"' => {
                *at = start + 1 + offset + 1;
                return Ok(inside);
            }
            '\\' => inside.extend(chars.next().map(|(_, c)| c)),
            c => inside.push(c),
        }
    }
    Err((start, "the quote is not closed".into()))
}

struct Parser {
    words: Vec<Word>,
    at: usize,
    /// Bytes of the text.
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Kind> {
        self.words.get(self.at).map(|word| &word.kind)
    }

    fn next(&mut self) -> Option<Word> {
        self.at += 1;
        self.words.get(self.at - 1).cloned()
    }

    fn place(&self) -> usize {
        self.words.get(self.at).map_or(self.end, |word| word.place.start)
    }

    fn takes(&mut self, keyword: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Kind::Word(word)) if word.eq_ignore_ascii_case(keyword)) && !self.is_field();
        self.at += usize::from(found);
        found
    }

    /// Whether the next word is the name of a field, whatever it is.
    fn is_field(&self) -> bool {
        matches!(self.words.get(self.at + 1).map(|word| &word.kind), Some(Kind::Operator(_)))
    }

    fn finish(&self, value: Value) -> Result<Value, Wrong> {
        match self.peek() {
            None => Ok(value),
            Some(_) => Err((self.place(), "this closes what was not opened".into())),
        }
    }

    fn any(&mut self) -> Result<Value, Wrong> {
        let mut any = vec![self.all()?];
        while self.takes("OR") {
            any.push(self.all()?);
        }
        Ok(if any.len() == 1 { any.remove(0) } else { json!({ "$or": any }) })
    }

    fn all(&mut self) -> Result<Value, Wrong> {
        let mut all = vec![self.not()?];
        loop {
            let joined = self.takes("AND");
            let ends = match self.peek() {
                None | Some(Kind::Close) => true,
                Some(Kind::Word(word)) => word.eq_ignore_ascii_case("OR") && !self.is_field(),
                Some(_) => false,
            };
            if ends && !joined {
                return Ok(if all.len() == 1 { all.remove(0) } else { json!({ "$and": all }) });
            }
            all.push(self.not()?);
        }
    }

    fn not(&mut self) -> Result<Value, Wrong> {
        let start = self.place();
        self.depth += 1;
        // More than any filter may have: deep nesting must not use up the stack.
        if self.depth > 64 {
            return Err((start, "there are too many parentheses".into()));
        }
        let value = if self.takes("NOT") {
            json!({ "$not": self.not()? })
        } else if self.peek() == Some(&Kind::Open) {
            self.at += 1;
            let inside = self.any()?;
            match self.next().map(|word| word.kind) {
                Some(Kind::Close) => inside,
                _ => return Err((start, "this is not closed".into())),
            }
        } else {
            self.test()?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn test(&mut self) -> Result<Value, Wrong> {
        let expected = "a test is expected here, such as lang:rust or modified>2025-01-01";
        let (start, field) = (self.place(), self.next().map(|word| word.kind));
        let (Some(Kind::Word(name) | Kind::Quoted(name)), Some(Kind::Operator(operator))) =
            (field, self.peek().cloned())
        else {
            return Err((start, expected.into()));
        };
        self.at += 1;
        let start = self.place();
        let value = match self.next().map(|word| word.kind) {
            Some(Kind::Word(word)) if operator == ":" => has(&name, &word),
            // A year alone is a time, too, and a day all of it.
            Some(Kind::Word(word)) if name == "modified" => match operator {
                "$eq" => has(&name, &word),
                "$ne" => return Ok(json!({ "$not": { name.as_str(): has(&name, &word) } })),
                _ => json!({ operator: word }),
            },
            Some(Kind::Word(word)) => json!({ operator: literal(&word) }),
            Some(Kind::Quoted(text)) => json!({ if operator == ":" { "$eq" } else { operator }: text }),
            _ => return Err((start, format!("a value of {name} is expected here"))),
        };
        Ok(Value::Object(Map::from_iter([(name, value)])))
    }
}

/// What `field:word` asks for.
fn has(field: &str, word: &str) -> Value {
    if field == "modified" {
        return json!({ "$glob": format!("{word}*") });
    }
    // As shells complete it.
    let word = if field == "path" { word.strip_prefix("./").unwrap_or(word) } else { word };
    let word = if word.ends_with('/') { &format!("{word}**") } else { word };
    if word.contains(['*', '?', '[', '{']) {
        return json!({ "$glob": word });
    }
    match literal(word) {
        Value::String(text) => json!({ "$eq": text }),
        Value::Null => json!({ "$eq": null }),
        // A name may look like a number.
        value => json!({ "$in": [value, word] }),
    }
}

fn literal(word: &str) -> Value {
    // `inf` and `Nan` are words, and names.
    let number = || {
        let number = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        let float = || word.parse::<f64>().ok().filter(|float| float.is_finite()).map(Value::from);
        if number { word.parse::<i64>().ok().map(Value::from).or_else(float) } else { None }
    };
    match word {
        "true" => json!(true),
        "false" => json!(false),
        "null" => Value::Null,
        _ => number().unwrap_or(json!(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::tests::file;
    use proptest::prelude::*;

    #[test]
    fn filters_are_what_they_look_like() {
        for text in [
            "lang:rust",
            "lang=rust stars>100",
            "path:docs/** AND modified>2025-01-01 AND lang:rust",
            "path:docs/ modified:2026-03",
            "modified>2025 modified<2027",
            "modified<=2026-03-01 modified=2026-03 modified!=2026-04",
            "lang:go OR stars:120",
            "NOT (lang:go OR lang:python) kind:markdown",
            "stars>=120 AND stars<=120.0 AND stars!=3",
            "\"lang\" : \"rust\"",
            "draft:false AND none:null AND missing:null",
            "tags:b NOT tags:c",
            "modified>=2026-03-01T00:00:00Z AND modified<2026-03-02",
            "((((lang:rust))))",
            "lang:go or stars:120 and not draft:true",
            "path:./docs/",
            "path:doc*/",
            "NOT title:Nan NOT title:1e999",
        ] {
            assert!(Filter::parse_text(text).unwrap().passes(&file()), "{text}");
        }
        for text in [
            "lang:go",
            "path:docs/*.md",
            "stars>120",
            "path:\"docs/**\"",
            "lang:rust stars:1",
            "modified:2025",
            "modified>2026",
            "modified!=2026-03-01",
        ] {
            assert!(!Filter::parse_text(text).unwrap().passes(&file()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, detail, at) in [
            ("", "a test is expected", 0),
            ("rust", "a test is expected", 0),
            ("lang:rust AND", "a test is expected", 13),
            ("lang:", "a value of lang", 5),
            ("(lang:rust", "not closed", 0),
            ("lang:rust)", "not opened", 9),
            ("title:\"é", "quote is not closed", 6),
            ("lang:rust OR OR x:1", "a test is expected", 13),
            ("! a:1", "not expected", 0),
        ] {
            let error = Filter::parse_text(text).unwrap_err().to_string();
            let lines: Vec<&str> = error.lines().collect();
            assert!(lines[0].contains(detail), "{error}");
            assert_eq!(lines[2].find('^'), Some(at + 2), "{error}");
        }
        let deep = format!("{}a:1{}", "(".repeat(70), ")".repeat(70));
        assert!(Filter::parse_text(&deep).unwrap_err().to_string().contains("too many"));
        assert!(Filter::parse_text(&"a:1 ".repeat(5000)).unwrap_err().to_string().contains("most"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_told_why_not(text in "[a-zé:=!<>()\"\\\\*/ ANDOR0-9.-]{0,40}") {
            if let Err(error) = Filter::parse_text(&text) {
                prop_assert!(error.to_string().starts_with("filter"));
            }
        }
    }
}
