//! Collections in the layout of BEIR (Thakur et al. 2021): `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::metrics::Judgements;
use super::searching::Questions;
use crate::error::{Error, Result};

/// A document of the collection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Document {
    /// Its name in the judgements.
    #[serde(rename = "_id")]
    pub id: String,
    /// May be empty.
    #[serde(default)]
    pub title: String,
    /// Its text.
    pub text: String,
}

impl Document {
    /// What is indexed: title and text.
    pub fn full_text(&self) -> String {
        format!("{} {}", self.title, self.text).trim().to_owned()
    }
}

/// A query of the collection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Query {
    /// Its name in the judgements.
    #[serde(rename = "_id")]
    pub id: String,
    /// What is asked.
    pub text: String,
}

/// A collection with judgements.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// All documents, in the file's order.
    pub documents: Vec<Document>,
    /// What is asked, and what answers it.
    pub questions: Questions,
}

impl Collection {
    /// Reads a folder; each file may be compressed, its name ending in `.zst`.
    ///
    /// # Errors
    /// When a file is missing or a line of it does not read; the error names both.
    pub fn read(dir: &Path) -> Result<Self> {
        let judgements = read_qrels(dir)?;
        let mut queries: Vec<Query> = read_jsonl(dir, "queries.jsonl")?;
        queries.retain(|query| judgements.has_answer(&query.id));
        let documents = read_jsonl(dir, "corpus.jsonl")?;
        if queries.is_empty() || documents.is_empty() {
            let what = if documents.is_empty() { "documents" } else { "judged queries" };
            return Err(Error::Input { file: dir.into(), line: None, detail: format!("the collection has no {what}") });
        }
        Ok(Self { documents, questions: Questions { queries, judgements } })
    }

    /// The judgements alone, for scoring a finished run.
    ///
    /// # Errors
    /// As [`Collection::read`].
    pub fn read_judgements(dir: &Path) -> Result<Judgements> {
        read_qrels(dir)
    }
}

fn read_jsonl<T: for<'a> Deserialize<'a>>(dir: &Path, name: &str) -> Result<Vec<T>> {
    let (file, lines) = open_lines(dir, name)?;
    let mut all = Vec::new();
    for (number, line) in lines {
        let line = line.map_err(|e| Error::io("read", &file, e))?;
        if !line.trim().is_empty() {
            let bad =
                |e: serde_json::Error| Error::Input { file: file.clone(), line: Some(number), detail: e.to_string() };
            all.push(serde_json::from_str(&line).map_err(bad)?);
        }
    }
    Ok(all)
}

/// `query-id <tab> corpus-id <tab> score`, with a header; or TREC's four columns without one.
fn read_qrels(dir: &Path) -> Result<Judgements> {
    let (file, lines) = open_lines(dir, "qrels/test.tsv")?;
    let mut judgements = Judgements::default();
    for (number, line) in lines {
        let line = line.map_err(|e| Error::io("read", &file, e))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let parsed = match fields[..] {
            [] => continue,
            [query, doc, grade] | [query, _, doc, grade] => grade.parse().ok().map(|grade: i64| (query, doc, grade)),
            _ => None,
        };
        match parsed {
            Some((query, doc, grade)) => judgements.add(query, doc, grade),
            None if number == 1 => {}
            None => {
                let detail = "expected: query id, document id, whole number".into();
                return Err(Error::Input { file, line: Some(number), detail });
            }
        }
    }
    Ok(judgements)
}

type Lines = Box<dyn Iterator<Item = (usize, std::io::Result<String>)>>;

/// The lines of `name` or `name.zst`, numbered from 1.
fn open_lines(dir: &Path, name: &str) -> Result<(PathBuf, Lines)> {
    let plain = dir.join(name);
    let path = if plain.exists() { plain.clone() } else { dir.join(format!("{name}.zst")) };
    if !path.exists() {
        let detail = format!(
            "is missing (as is {name}.zst); expected a BEIR folder: corpus.jsonl, queries.jsonl, qrels/test.tsv"
        );
        return Err(Error::Input { file: plain, line: None, detail });
    }
    let reader = open(&path)?;
    Ok((path, Box::new((1..).zip(BufReader::new(reader).lines()))))
}

/// A file's content, decompressed if its name ends in `.zst`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        let decoder = zstd::stream::read::Decoder::new(file).map_err(|e| Error::io("read", path, e))?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(file))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(dir: &Path, qrels: &str, corpus: &str) {
        fs::create_dir_all(dir.join("qrels")).unwrap();
        fs::write(dir.join("qrels/test.tsv"), qrels).unwrap();
        fs::write(dir.join("queries.jsonl"), "{\"_id\":\"q1\",\"text\":\"a\"}\n{\"_id\":\"q2\",\"text\":\"b\"}\n")
            .unwrap();
        fs::write(dir.join("corpus.jsonl.zst"), zstd::bulk::compress(corpus.as_bytes(), 1).unwrap()).unwrap();
    }

    #[test]
    fn a_collection_reads_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td1\t0\n",
            "{\"_id\":\"d1\",\"title\":\"T\",\"text\":\"x\"}\n\n",
        );
        let read = Collection::read(dir.path()).unwrap();
        assert_eq!(read.documents[0].full_text(), "T x");
        assert_eq!(
            read.questions.queries.iter().map(|q| q.id.as_str()).collect::<Vec<_>>(),
            ["q1"],
            "judged positively"
        );
    }

    #[test]
    fn bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "q1 0 d1 1\nq1 d1 high\n", "{}");
        let text = Collection::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("test.tsv, line 2"), "{text}");
        write(dir.path(), "q1\td1\t1\n", "{\"_id\":\"d1\",\"text\":\"x\"}\n{\"_id\":3}\n");
        let text = Collection::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("corpus.jsonl.zst, line 2"), "{text}");
        fs::remove_file(dir.path().join("queries.jsonl")).unwrap();
        let text = Collection::read(dir.path()).unwrap_err().to_string();
        assert!(text.contains("queries.jsonl") && text.contains("missing"), "{text}");
    }
}
