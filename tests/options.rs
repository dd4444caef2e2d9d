//! What a user wants otherwise than the model says, and what of it an index remembers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{Run, copy, documents, repository, run};

/// A golden model, beside the documents.
fn model(dir: &Path, name: &str) {
    copy(&repository().join("crates/encoder/tests/golden/models").join(name), &dir.join(".model"));
}

fn refused(got: &Run, words: &[&str]) {
    assert_eq!(got.code, 2, "{}", got.stdout);
    assert!(words.iter().all(|word| got.stderr.contains(word)), "{words:?} are not all in: {}", got.stderr);
}

fn recorded(dir: &Path) -> String {
    let status = run(dir, &["status", "--json", "--model", ".model"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    status.json()[0]["model"].as_str().unwrap().to_owned()
}

#[test]
fn an_index_remembers_how_its_documents_were_encoded() {
    let dir = documents();
    let dir = dir.path();
    model(dir, "pylate-default");
    let with = |args: &[&str]| run(dir, &[args, &["--model", ".model"]].concat());
    let got = with(&["index", "--doc-maxlen", "14", "--pool-factor", "2"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(recorded(dir).ends_with("?doc_maxlen=14&pool_factor=2"), "{}", recorded(dir));
    // Later commands are not told, and agree; so do those that are told the same.
    fs::write(dir.join("more.txt"), "a kiln is fired slowly, and the glaze melts at the end ".repeat(5)).unwrap();
    for args in [&["search", "kiln"][..], &["search", "kiln", "--doc-maxlen", "14"], &["index", "--pool-factor", "2"]] {
        assert_eq!(with(args).code, 0, "{args:?}: {}", with(args).stderr);
    }
    let got = with(&["export", "--out", "out"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    // A header of 128 bytes, then an i32 a document.
    let lens = fs::read(dir.join("out/doclens.npy")).unwrap();
    let lens: Vec<i32> = lens[128..].chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    assert!(!lens.is_empty() && lens.iter().all(|len| (1..=7).contains(len)), "{lens:?}");
    let other = with(&["search", "kiln", "--doc-maxlen", "20"]);
    refused(&other, &["was made with doc_maxlen=14 and pool_factor=2", "asks for doc_maxlen=20 and pool_factor=2"]);
    refused(&with(&["index", "--pool-factor", "1"]), &["asks for doc_maxlen=14", "leave the options away"]);
    refused(&with(&["search", "kiln", "--doc-maxlen", "65"]), &["doc_maxlen is 65", "from 4 to 64 tokens"]);
    refused(&with(&["search", "kiln", "--dim", "64"]), &["dim is 64", "does not say that fewer would do"]);
}

#[test]
fn the_length_of_queries_is_no_matter_of_the_index() {
    let dir = documents();
    let dir = dir.path();
    model(dir, "pylate-default");
    let question = "when is the kiln fired and how long does it take until the glaze has molten";
    let ask = |args: &[&str]| run(dir, &[&["search", question, "--model", ".model"], args].concat());
    refused(&ask(&["--query-maxlen", "8"]), &["the query has", "the model takes 8: shorten it"]);
    let got = ask(&["--query-maxlen", "60"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(!recorded(dir).contains('?'), "{}", recorded(dir));
    let got = run(dir, &["model", "check", ".model", "--query-maxlen", "20"]);
    assert!(got.stdout.contains("filled up with [MASK] to 20"), "{}", got.stdout);
}

#[test]
fn the_rows_of_an_index_can_be_shorter_than_the_models() {
    let dir = documents();
    let dir = dir.path();
    model(dir, "plain-bert");
    let config = fs::read_to_string(dir.join(".model/config.json")).unwrap();
    let config = config.replacen('{', "{\"matryoshka_dimensions\": [32, 16],", 1);
    fs::write(dir.join(".model/config.json"), config).unwrap();
    let with = |args: &[&str]| run(dir, &[args, &["--model", ".model"]].concat());
    assert_eq!(with(&["index", "--dim", "16"]).code, 0);
    let got = with(&["search", "kiln"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let status = with(&["status", "--json"]).json().remove(0);
    assert_eq!(status["dim"], 16, "{status}");
    refused(&with(&["search", "kiln", "--dim", "32"]), &["was made with dim=16", "asks for the model's own settings"]);
    refused(&with(&["search", "kiln", "--dim", "8"]), &["have 32 values, or 16"]);
}
