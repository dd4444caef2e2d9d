//! Which documents a search may find, by what is known of them: a small language in JSON.
//!
//! A filter is an object. Each name in it is a field that must be as said; `$and`, `$or` and `$not` join filters. A field
//! is said to equal a value, or to pass tests:
//!
//! ```json
//! {"lang": "rust", "stars": {"$gte": 100, "$lt": 1000}, "$or": [{"path": {"$glob": "docs/**"}}, {"tags": {"$in": ["a", "b"]}}]}
//! ```
//!
//! | test | holds where the field |
//! | --- | --- |
//! | `$eq`, `$ne` | is, is not, the value |
//! | `$gt`, `$gte`, `$lt`, `$lte` | is a number, or a string, above or below |
//! | `$in`, `$nin` | is, is not, one of the values |
//! | `$exists` | is there (`true`), or is not (`false`) |
//! | `$glob` | is a string, of 1,024 bytes at most, that matches the pattern: `*` within a part of a path, `**` across |
//!
//! Of a list, a test holds where it holds for one of its values; `$ne` and `$nin` hold where the opposite does not. Fields
//! are the names in a document's metadata and its own: `path` or `id` (the same), `title`, `kind`, and `modified`, the
//! time as `2026-03-01T12:00:00Z`, which is compared as far as is given: `{"modified": {"$lte": "2026-03"}}` holds of all of
//! March. `lang` is the language of source code, where metadata has no such name. [`Filter::parse_text`] reads the same in a
//! form for typing.

mod text;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};
use roaring::RoaringTreemap;
use serde_json::{Map, Value};

use crate::catalog::{Catalog, FileRecord};
use crate::error::{Error, Result};

/// Fields that every document has, which metadata cannot redefine.
pub(crate) const RESERVED: [&str; 5] = ["id", "path", "title", "kind", "modified"];
/// Filters within filters.
const MAX_DEPTH: usize = 16;
/// Tests of a filter.
const MAX_TESTS: usize = 1000;
/// Patterns of a filter.
const MAX_GLOBS: usize = 16;
/// Bytes of a pattern.
const MAX_GLOB: usize = 256;
/// Bytes of a field that a pattern is held to: a path has fewer.
const GLOB_READS: usize = 1024;
/// Bytes of a compiled pattern.
const MAX_REGEX: usize = 256 << 10;

/// Which documents may be found.
#[derive(Debug, Clone)]
pub struct Filter(Node);

#[derive(Debug, Clone)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Field(String, Test),
}

#[derive(Debug, Clone)]
enum Test {
    Eq(Value),
    /// Strings apart: there may be thousands.
    In(HashSet<String>, Vec<Value>),
    Compare(Order, Value),
    /// Of a time, as much as is given: all of a day is not after the day.
    Time(Order, String),
    Exists(bool),
    Glob(Regex),
    Not(Box<Test>),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// When it is none; the error says where and what is expected.
    pub fn parse(filter: &Value) -> Result<Self> {
        let parsed = match (tests(filter), globs(filter)) {
            (0..=MAX_TESTS, 0..=MAX_GLOBS) => node("filter", filter, 0),
            (0..=MAX_TESTS, globs) => Err(format!("filter: {globs} patterns, and {MAX_GLOBS} is the most")),
            (tests, _) => {
                Err(format!("filter: {tests} tests, and {MAX_TESTS} is the most ($in takes any number of values)"))
            }
        };
        parsed.map(Self).map_err(|detail| Error::BadFilter { detail })
    }

    /// The fields that it asks for and no document of `catalog` has: names mistyped, mostly.
    pub fn unknown_fields(&self, catalog: &Catalog) -> Vec<String> {
        let mut asked = BTreeSet::new();
        self.0.fields(&mut asked);
        asked.retain(|field| !RESERVED.contains(field) && *field != "lang");
        for file in &catalog.files {
            if asked.is_empty() {
                break;
            }
            asked.retain(|field| !file.metadata.contains_key(*field));
        }
        asked.into_iter().map(str::to_owned).collect()
    }

    /// Whether a document passes.
    pub fn passes(&self, file: &FileRecord) -> bool {
        self.0.passes(file)
    }

    /// The passages of all documents that pass.
    pub(crate) fn docs(&self, catalog: &Catalog) -> RoaringTreemap {
        let mut docs = RoaringTreemap::new();
        for file in catalog.files.iter().filter(|file| self.passes(file)) {
            docs.insert_range(file.docs());
        }
        docs
    }
}

/// How many tests there are in a filter, and more in what is none.
fn tests(filter: &Value) -> usize {
    match filter {
        Value::Object(parts) => parts.values().map(|part| tests(part).max(1)).sum(),
        Value::Array(parts) => parts.iter().filter(|part| part.is_object()).map(tests).sum(),
        _ => 1,
    }
}

/// How many patterns there are in a filter.
fn globs(filter: &Value) -> usize {
    match filter {
        Value::Object(parts) => parts.iter().map(|(name, part)| usize::from(name == "$glob") + globs(part)).sum(),
        Value::Array(parts) => parts.iter().map(globs).sum(),
        _ => 0,
    }
}

fn node(at: &str, value: &Value, depth: usize) -> Result<Node, String> {
    let Value::Object(parts) = value else {
        return Err(format!("{at}: {value} is no filter; one looks like {{\"field\": value}}"));
    };
    if depth > MAX_DEPTH {
        return Err(format!("{at}: filters lie within filters at most {MAX_DEPTH} deep"));
    }
    let mut all = Vec::with_capacity(parts.len());
    for (name, value) in parts {
        let at = format!("{at}.{name}");
        let list = || -> Result<Vec<Node>, String> {
            let Value::Array(filters) = value else { return Err(format!("{at}: a list of filters is expected")) };
            filters.iter().enumerate().map(|(i, filter)| node(&format!("{at}[{i}]"), filter, depth + 1)).collect()
        };
        match name.as_str() {
            "$and" => all.extend(list()?),
            "$or" => all.push(Node::Any(list()?)),
            "$not" => all.push(Node::Not(Box::new(node(&at, value, depth + 1)?))),
            _ if name.starts_with('$') => {
                return Err(format!("{at}: there is no {name} between filters, but $and, $or and $not"));
            }
            _ => all.extend(field(&at, name, value)?),
        }
    }
    Ok(Node::All(all))
}

/// The tests of one field, all of which must hold.
fn field(at: &str, name: &str, value: &Value) -> Result<Vec<Node>, String> {
    let tests = match value {
        Value::Object(tests) if name == "modified" => {
            operators(at, tests)?.into_iter().map(|test| time(at, test)).collect::<Result<_, _>>()?
        }
        Value::Object(tests) => operators(at, tests)?,
        Value::Array(_) => return Err(format!("{at}: a list is asked for by {{\"$in\": [...]}}")),
        value => vec![Test::Eq(value.clone())],
    };
    Ok(tests.into_iter().map(|test| Node::Field(name.to_owned(), test)).collect())
}

/// A test of a time, which must be given as one, or as its beginning.
fn time(at: &str, test: Test) -> Result<Test, String> {
    match test {
        Test::Compare(order, Value::String(bound)) if is_time(&bound) => Ok(Test::Time(order, bound)),
        Test::Compare(_, bound) => {
            Err(format!("{at}: {bound} is no time: 2026, 2026-03, 2026-03-01 or 2026-03-01T12:00:00Z is expected"))
        }
        test => Ok(test),
    }
}

/// Whether a text is the beginning of a time as [`FileRecord::modified`] gives it.
fn is_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00Z";
    let same = |(c, shape): (u8, &u8)| if *shape == b'0' { c.is_ascii_digit() } else { c == *shape };
    (4..=SHAPE.len()).contains(&text.len()) && text.bytes().zip(SHAPE).all(same)
}

fn operators(at: &str, tests: &Map<String, Value>) -> Result<Vec<Test>, String> {
    if tests.is_empty() {
        return Err(format!("{at}: no test is given, for example {{\"$gte\": 3}}"));
    }
    let not = |test| Test::Not(Box::new(test));
    let one = |(operator, value): (&String, &Value)| {
        let at = format!("{at}.{operator}");
        let values = || match value {
            Value::Array(values) => Ok(values.clone()),
            _ => Err(format!("{at}: a list of values is expected")),
        };
        let compare = |order| match value {
            Value::Number(_) | Value::String(_) => Ok(Test::Compare(order, value.clone())),
            _ => Err(format!("{at}: a number or a string is expected, not {value}")),
        };
        match operator.as_str() {
            "$eq" => Ok(Test::Eq(value.clone())),
            "$ne" => Ok(not(Test::Eq(value.clone()))),
            "$in" => Ok(one_of(values()?)),
            "$nin" => Ok(not(one_of(values()?))),
            "$gt" => compare(Order::Gt),
            "$gte" => compare(Order::Gte),
            "$lt" => compare(Order::Lt),
            "$lte" => compare(Order::Lte),
            "$exists" => match value {
                Value::Bool(there) => Ok(Test::Exists(*there)),
                _ => Err(format!("{at}: true or false is expected")),
            },
            "$glob" => {
                let Value::String(pattern) = value else { return Err(format!("{at}: a pattern is expected")) };
                glob(pattern).map(Test::Glob).map_err(|e| format!("{at}: {e}"))
            }
            _ => Err(format!(
                "{at}: there is no such test, but $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists and $glob"
            )),
        }
    };
    tests.iter().map(one).collect()
}

fn one_of(values: Vec<Value>) -> Test {
    let (strings, others): (Vec<_>, Vec<_>) = values.into_iter().partition(Value::is_string);
    let text = |value| if let Value::String(text) = value { Some(text) } else { None };
    Test::In(strings.into_iter().filter_map(text).collect(), others)
}

/// Compiles a pattern, which comes from anywhere: short ones only, and within a budget of memory.
fn glob(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_GLOB {
        return Err(format!("a pattern has {MAX_GLOB} bytes at most"));
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|e| e.to_string())?;
    let regex = RegexBuilder::new(glob.regex()).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
    regex.map_err(|_| "the pattern is too complicated".into())
}

impl Node {
    /// The fields that are asked for.
    fn fields<'n>(&'n self, into: &mut BTreeSet<&'n str>) {
        match self {
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().for_each(|node| node.fields(into)),
            Self::Not(node) => node.fields(into),
            Self::Field(name, _) => drop(into.insert(name)),
        }
    }

    fn passes(&self, file: &FileRecord) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.passes(file)),
            Self::Any(nodes) => nodes.iter().any(|node| node.passes(file)),
            Self::Not(node) => !node.passes(file),
            Self::Field(name, test) => test.holds(value(file, name).as_deref()),
        }
    }
}

/// A field of a document.
fn value<'f>(file: &'f FileRecord, name: &str) -> Option<Cow<'f, Value>> {
    let text = |text: &str| Some(Cow::Owned(Value::String(text.into())));
    match name {
        "id" | "path" => text(&file.path),
        "title" => text(file.title.as_deref()?),
        "kind" => text(&file.kind),
        "modified" => text(&file.modified()),
        "lang" if !file.metadata.contains_key(name) => text(&file.kind),
        _ => file.metadata.get(name).map(Cow::Borrowed),
    }
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Not(test), _) => !test.holds(found),
            (Self::Exists(there), _) => found.is_some() == *there,
            // What is not there is like nothing but null.
            (Self::Eq(Value::Null), None) => true,
            (_, None) => false,
            (_, Some(Value::Array(values))) => values.iter().any(|value| self.holds_of(value)),
            (_, Some(value)) => self.holds_of(value),
        }
    }

    fn holds_of(&self, found: &Value) -> bool {
        match self {
            Self::Eq(value) => same(found, value),
            Self::In(strings, others) => match found {
                Value::String(text) => strings.contains(text),
                found => others.iter().any(|value| same(found, value)),
            },
            Self::Compare(order, value) => order.holds(found, value),
            Self::Time(order, bound) => found.as_str().is_some_and(|time| {
                let time = time.get(..bound.len()).unwrap_or(time);
                order.allows(time.cmp(bound.as_str()))
            }),
            Self::Glob(glob) => {
                found.as_str().is_some_and(|text| text.len() <= GLOB_READS && glob.is_match(text.as_bytes()))
            }
            Self::Not(_) | Self::Exists(_) => false,
        }
    }
}

/// Numbers are the same by value, 1 and 1.0 too.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

impl Order {
    fn holds(self, found: &Value, bound: &Value) -> bool {
        let order = match (found, bound) {
            (Value::String(a), Value::String(b)) => a.partial_cmp(b),
            _ => found.as_f64().zip(bound.as_f64()).and_then(|(a, b)| a.partial_cmp(&b)),
        };
        order.is_some_and(|order| self.allows(order))
    }

    fn allows(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Gt => order.is_gt(),
            Self::Gte => order.is_ge(),
            Self::Lt => order.is_lt(),
            Self::Lte => order.is_le(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Block;
    use proptest::prelude::*;
    use serde_json::json;

    pub(super) fn file() -> FileRecord {
        let Value::Object(metadata) =
            json!({ "lang": "rust", "stars": 120, "tags": ["a", "b"], "draft": false, "none": null })
        else {
            unreachable!()
        };
        FileRecord {
            path: "docs/guide/pots.md".into(),
            size: 1,
            modified_ns: 1_772_366_400_000_000_000,
            hash: String::new(),
            kind: "markdown".into(),
            title: None,
            metadata,
            first_doc: 0,
            passages: vec![],
            block: Block { blob: 0, start: 0, len: 0, hash: 0 },
        }
    }

    fn passes(filter: &Value) -> bool {
        Filter::parse(filter).unwrap().passes(&file())
    }

    #[test]
    fn tests_hold_of_what_they_say() {
        for filter in [
            json!({}),
            json!({ "lang": "rust" }),
            json!({ "stars": 120.0 }),
            json!({ "stars": { "$gt": 119, "$lte": 120 } }),
            json!({ "lang": { "$gte": "rus", "$lt": "rusz" } }),
            json!({ "tags": "b" }),
            json!({ "tags": { "$in": ["x", "a"] } }),
            json!({ "tags": { "$ne": "c" } }),
            json!({ "missing": { "$ne": 1 } }),
            json!({ "missing": { "$nin": [1] } }),
            json!({ "missing": null, "none": null }),
            json!({ "missing": { "$exists": false }, "none": { "$exists": true } }),
            json!({ "draft": false }),
            json!({ "path": { "$glob": "docs/**/*.md" }, "id": "docs/guide/pots.md" }),
            json!({ "kind": "markdown", "modified": { "$gte": "2026-03", "$lt": "2026-03-02" } }),
            json!({ "modified": { "$lte": "2026-03-01", "$gt": "2026-02" } }),
            json!({ "$or": [{ "lang": "go" }, { "stars": { "$gt": 1 } }] }),
            json!({ "$not": { "lang": "go" } }),
            json!({ "$and": [{ "lang": "rust" }, { "$not": { "draft": true } }] }),
        ] {
            assert!(passes(&filter), "{filter}");
            assert!(!passes(&json!({ "$not": filter })), "not {filter}");
        }
        for filter in [
            json!({ "lang": "rust", "stars": 1 }),
            json!({ "stars": "120" }),
            json!({ "stars": { "$gt": "1" } }),
            json!({ "missing": { "$lt": 5 } }),
            json!({ "modified": { "$gt": "2026" } }),
            json!({ "modified": { "$lt": "2026-03-01" } }),
            json!({ "tags": { "$ne": "a" } }),
            json!({ "title": { "$exists": true } }),
            json!({ "path": { "$glob": "docs/*.md" } }),
            json!({ "$or": [] }),
        ] {
            assert!(!passes(&filter), "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let deep = (0..20).fold(json!({}), |inner, _| json!({ "$not": inner }));
        for (filter, part) in [
            (json!([]), "filter: [] is no filter"),
            (json!({ "$xor": [] }), "filter.$xor: there is no $xor"),
            (json!({ "$or": {} }), "filter.$or: a list of filters"),
            (json!({ "$or": [{ "a": { "$foo": 1 } }] }), "filter.$or[0].a.$foo: there is no such test"),
            (json!({ "a": [1] }), "filter.a: a list is asked for by"),
            (json!({ "a": {} }), "filter.a: no test"),
            (json!({ "a": { "$gt": null } }), "filter.a.$gt: a number or a string"),
            (json!({ "a": { "$exists": 1 } }), "filter.a.$exists: true or false"),
            (json!({ "a": { "$glob": "[" } }), "filter.a.$glob: "),
            (json!({ "a": { "$glob": "*".repeat(257) } }), "256 bytes at most"),
            (json!({ "$or": vec![json!({ "a": 1 }); 1001] }), "1001 tests"),
            (json!({ "$or": vec![json!({ "a": { "$glob": "*" } }); 17] }), "17 patterns"),
            (json!({ "modified": { "$gt": "01/02/2026" } }), "no time"),
            (json!({ "modified": { "$gt": 2026 } }), "no time"),
            (deep, "deep"),
        ] {
            let text = Filter::parse(&filter).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
    }

    /// JSON that is nearly a filter.
    fn nearly() -> impl Strategy<Value = Value> {
        let names =
            ["lang", "stars", "tags", "path", "modified", "$and", "$or", "$not", "$eq", "$ne", "$gt", "$lte", "$in"];
        let names = prop::sample::select([&names[..], &["$nin", "$exists", "$glob", "$xor", ""]].concat());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z{},*?\\[\\]!/\\\\é-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 48, 4, move |inner| {
            let object = prop::collection::vec((names.clone(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                object
                    .prop_map(|parts| parts.into_iter().map(|(name, part)| (name.to_owned(), part)).collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_is_a_filter_or_told_why_not(value in nearly()) {
            match Filter::parse(&value) {
                Ok(filter) => {
                    let not = Filter::parse(&json!({ "$not": value })).map(|not| not.passes(&file()));
                    // One more may be too deep.
                    prop_assert!(not.is_err() || not.is_ok_and(|not| not != filter.passes(&file())));
                }
                Err(error) => prop_assert!(error.to_string().starts_with("filter")),
            }
        }
    }

    #[test]
    fn time_is_told_in_utc() {
        let time = |modified_ns| FileRecord { modified_ns, ..file() }.modified();
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_772_366_400_999_999_999), "2026-03-01T12:00:00Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59Z");
    }
}
