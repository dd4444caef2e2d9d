//! Runs in TREC's format: `query Q0 document rank score tag`, one hit a line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use super::beir::open;
use crate::error::{Error, Result};

/// One query's documents with their scores, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ranking {
    /// Name and score.
    pub docs: Vec<(String, f32)>,
}

/// Reads a run, compressed if its name ends in `.zst`. The order is the scores', and of equal scores the file's.
///
/// # Errors
/// When the file or a line of it does not read.
pub fn read_run(path: &Path) -> Result<HashMap<String, Ranking>> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|e| Error::io("read", path, e))?;
    let mut run: HashMap<String, Ranking> = HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let parsed = match fields[..] {
            [] => continue,
            [query, _, doc, _, score, _] => {
                score.parse::<f32>().ok().filter(|s| s.is_finite()).map(|s| (query, doc, s))
            }
            _ => None,
        };
        let Some((query, doc, score)) = parsed else {
            let detail = "expected: query Q0 document rank score tag".into();
            return Err(Error::Input { file: path.into(), line: Some(number), detail });
        };
        run.entry(query.into()).or_default().docs.push((doc.into(), score));
    }
    for ranking in run.values_mut() {
        ranking.docs.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    Ok(run)
}

/// Writes a run, queries in the order of their names.
///
/// # Errors
/// When the file cannot be written.
pub fn write_run(path: &Path, run: &HashMap<String, Ranking>, tag: &str) -> Result<()> {
    let mut queries: Vec<_> = run.iter().collect();
    queries.sort_by_key(|(query, _)| *query);
    let mut text = String::new();
    for (query, ranking) in queries {
        for ((doc, score), rank) in ranking.docs.iter().zip(1..) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{query} Q0 {doc} {rank} {score} {tag}");
        }
    }
    fs::write(path, text).map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_round_trip_and_bad_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.run");
        let run = HashMap::from([("q".to_string(), Ranking { docs: vec![("x".into(), 2.5), ("y".into(), -1.0)] })]);
        write_run(&path, &run, "test").unwrap();
        assert_eq!(read_run(&path).unwrap(), run);
        fs::write(&path, "q Q0 x 1 2.5 t\nq Q0 y two\n").unwrap();
        assert!(read_run(&path).unwrap_err().to_string().contains("a.run, line 2"));
    }
}
