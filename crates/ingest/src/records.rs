//! Files of records: JSON lines and tables of comma-separated values, each record a text of its own.
//!
//! Which field is the text, and which the title, the caller says ([`Fields`]) or the names tell. A file that has no such
//! field is no file of records, and read as any other.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::split::{Lines, Passage, PassageOptions, split_text};
use crate::{Kind, Split};

/// Names that tell which field is the text.
const TEXTS: [&str; 3] = ["text", "body", "content"];
/// Names that tell which field is the title.
const TITLES: [&str; 2] = ["title", "headline"];

/// Lines among which the first record is looked for.
const FIRST: usize = 10;

/// Which fields of a record are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// What is searched, in this order; where there is none, `text`, `body` or `content`.
    pub text: Vec<String>,
    /// What a record is called: the heading above its passages; where there is none, `title` or `headline`.
    pub title: Option<String>,
    /// What a record without a title is called.
    pub id: Option<String>,
}

/// From `text=body,title=headline,id=key`; `text` may come more than once. `auto` says nothing.
impl FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = Self::default();
        if text == "auto" {
            return Ok(fields);
        }
        for pair in text.split(',') {
            let (what, name) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is not as text=NAME"))?;
            let name = name.trim().to_owned();
            match what.trim() {
                _ if name.is_empty() => return Err(format!("{pair:?} names no field")),
                "text" => fields.text.push(name),
                "title" => fields.title = Some(name),
                "id" => fields.id = Some(name),
                other => return Err(format!("a record has text, title and id, and no {other:?}")),
            }
        }
        Ok(fields)
    }
}

/// What it is read from; empty where nothing is said.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.text.iter().map(|name| ("text", name));
        let rest = [("title", &self.title), ("id", &self.id)];
        let rest = rest.into_iter().filter_map(|(what, name)| Some((what, name.as_ref()?)));
        let pairs: Vec<String> = texts.chain(rest).map(|(what, name)| format!("{what}={name}")).collect();
        f.write_str(&pairs.join(","))
    }
}

/// Whether a file's name says that it holds records.
pub fn holds_records(path: &str) -> bool {
    extension(path).is_some_and(|extension| matches!(&*extension, "jsonl" | "ndjson" | "csv" | "tsv"))
}

fn extension(path: &str) -> Option<String> {
    Some(path.rsplit_once('.')?.1.to_ascii_lowercase())
}

impl Fields {
    /// These, as far as they are said, and otherwise those that `has` finds by their names; none without a text.
    fn resolved(&self, has: impl Fn(&str) -> bool) -> Option<Self> {
        let known = |names: &[&str]| names.iter().find(|name| has(name)).map(|name| (*name).to_owned());
        let mut fields = self.clone();
        if fields.text.is_empty() {
            fields.text.extend(known(&TEXTS));
        }
        fields.title = fields.title.or_else(|| known(&TITLES));
        fields.text.iter().any(|name| has(name)).then_some(fields)
    }
}

/// A record: where it stands, what it is called, its text.
struct Record {
    span: Range<usize>,
    title: Option<String>,
    text: String,
}

/// Splits a file of records, if its name and its first record say that it is one; the name of its kind comes along.
pub(crate) fn split(
    path: &str,
    text: &str,
    fields: &Fields,
    options: &PassageOptions,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Option<(Kind, Split)> {
    let (kind, records) = match extension(path)?.as_str() {
        "jsonl" | "ndjson" => ("jsonl", json_lines(text, fields)?),
        "csv" => ("csv", table(text, delimiter(text), fields)?),
        "tsv" => ("tsv", table(text, b'\t', fields)?),
        _ => return None,
    };
    let lines = Lines::of(text);
    let passages = records.into_iter().flat_map(|record| {
        let split = split_text(Kind::PlainText, &record.text, options, count_tokens);
        let lines = lines.of_span(&record.span);
        split.passages.into_iter().map(move |part| Passage {
            span: record.span.clone(),
            lines: lines.clone(),
            headings: record.title.iter().cloned().collect(),
            ..part
        })
    });
    Some((Kind::Records(kind), Split { title: None, passages: passages.collect() }))
}

/// A line a record. A line that is none is read as it stands.
fn json_lines(text: &str, fields: &Fields) -> Option<Vec<Record>> {
    let object = |line: &str| serde_json::from_str::<Map<String, Value>>(line).ok();
    // A line that is none may be among the first.
    let first = text.lines().filter(|line| !line.trim().is_empty()).take(FIRST).find_map(object)?;
    let fields = fields.resolved(|name| first.contains_key(name))?;
    let (mut records, mut start) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        start += line.len();
        records.push(match object(line) {
            Some(object) => record(span, &fields, |name| object.get(name).map(words)),
            None => Record { text: text[span.clone()].to_owned(), span, title: None },
        });
    }
    Some(records)
}

/// A table whose first row names its fields.
fn table(text: &str, delimiter: u8, fields: &Fields) -> Option<Vec<Record>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text.as_bytes());
    let names = reader.headers().ok()?.clone();
    let place = |name: &str| names.iter().position(|own| own.trim() == name);
    let fields = fields.resolved(|name| place(name).is_some())?;
    let (mut records, mut row) = (Vec::new(), csv::StringRecord::new());
    while reader.read_record(&mut row).ok()? {
        let start = row.position().map_or(0, |position| position.byte() as usize);
        let end = (reader.position().byte() as usize).min(text.len());
        // The end of the line before may not have been read yet.
        let start = start + text.get(start..end)?.bytes().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let span = start..start + text.get(start..end)?.trim_end().len();
        records.push(record(span, &fields, |name| row.get(place(name)?).map(str::to_owned)));
    }
    Some(records)
}

fn record(span: Range<usize>, fields: &Fields, value: impl Fn(&str) -> Option<String>) -> Record {
    let texts: Vec<String> = fields.text.iter().filter_map(|name| value(name)).collect();
    let called = |name: &Option<String>| {
        let line = value(name.as_deref()?)?.split_whitespace().collect::<Vec<_>>().join(" ");
        (!line.is_empty()).then_some(line)
    };
    Record { span, title: called(&fields.title).or_else(|| called(&fields.id)), text: texts.join("\n\n") }
}

/// What a value says in words.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join("\n"),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Null | Value::Object(_) => String::new(),
    }
}

/// What parts the fields of the first row: a semicolon where a comma is the decimal point.
fn delimiter(text: &str) -> u8 {
    let row = text.lines().next().unwrap_or_default();
    let count = |mark: u8| row.bytes().filter(|byte| *byte == mark).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(|mark| count(*mark)).unwrap_or(b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str, fields: &str) -> Vec<(String, Vec<String>, String)> {
        let fields = if fields.is_empty() { Fields::default() } else { fields.parse().unwrap() };
        let count = |text: &str| text.split_whitespace().count();
        let Some((_, split)) = super::split(path, text, &fields, &PassageOptions::default(), &count) else {
            return Vec::new();
        };
        let passages = split.passages.into_iter();
        passages.map(|passage| (text[passage.span].to_owned(), passage.headings, passage.text)).collect()
    }

    fn one(source: &str, title: &str, text: &str) -> (String, Vec<String>, String) {
        (source.into(), Some(title.to_owned()).into_iter().filter(|t| !t.is_empty()).collect(), text.into())
    }

    #[test]
    fn lines_of_json_are_records() {
        let a = r#"{"title": "Fog", "body": "A horn\nsounds.", "n": 1}"#;
        let b = r#"{"body": ["two", "parts"], "key": 7}"#;
        let text = format!("{a}\n\n{b}\r\nno JSON\n{{\"title\": \"empty\"}}\n");
        let found = [one(a, "Fog", "A horn\nsounds."), one(b, "", "two\nparts"), one("no JSON", "", "no JSON")];
        assert_eq!(read("x/a.jsonl", &text, ""), found);
        let called = read("a.ndjson", &text, "text=n,text=body,title=nothing,id=key");
        assert_eq!(called[0], one(a, "", "1\n\nA horn\nsounds."));
        assert_eq!(called[1], one(b, "7", "two\nparts"));
        assert!(read("a.jsonl", "{\"a\": \"b\"}\n", "").is_empty(), "no field tells that it is the text");
        assert!(read("a.jsonl", "[1]\n", "").is_empty());
        assert_eq!(read("a.jsonl", &format!("no JSON\n{a}\n"), "").len(), 2);
        assert!(read("a.json", &text, "").is_empty());
    }

    #[test]
    fn rows_of_tables_are_records() {
        let text = "id,title,text\n1,\"Fog, dense\",\"A \"\"horn\"\"\nsounds.\"\n2,,short\n3\n";
        assert_eq!(
            read("a.csv", text, ""),
            [
                one("1,\"Fog, dense\",\"A \"\"horn\"\"\nsounds.\"", "Fog, dense", "A \"horn\"\nsounds."),
                one("2,,short", "", "short")
            ]
        );
        assert_eq!(read("a.csv", "a;text\n1,5;horn\n", ""), [one("1,5;horn", "", "horn")]);
        assert_eq!(
            read("a.csv", "text,n\r\nhorn,1\r\nfog,2\r\n", ""),
            [one("horn,1", "", "horn"), one("fog,2", "", "fog")]
        );
        assert_eq!(read("a.tsv", "note\ttext\nb\tžluť\n", "text=note"), [one("b\tžluť", "", "b")]);
        assert!(read("a.csv", "year,amount\n2025,3\n", "").is_empty());
        assert!(read("a.csv", "", "").is_empty());
    }

    #[test]
    fn long_records_become_several_passages_of_one_place() {
        let long = "The horn sounds twice. ".repeat(200);
        let text = format!("text\n\"{long}\"\n");
        let passages = read("a.csv", &text, "");
        assert!(passages.len() > 2 && passages.iter().all(|(source, ..)| source.contains(&long)));
    }

    #[test]
    fn a_mapping_that_says_nothing_is_refused() {
        let all = "text=a,text=b,title=c,id=d";
        assert_eq!(all.parse::<Fields>().unwrap().to_string(), all);
        assert!(holds_records("x/A.CSV") && !holds_records("a.json"));
        for wrong in ["", "text", "text=", "headline=title", "text=a,,"] {
            assert!(wrong.parse::<Fields>().is_err(), "{wrong}");
        }
    }
}
