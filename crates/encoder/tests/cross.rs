//! Cross-encoders beside sentence-transformers: `golden/cross` has the folders and the values.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use latewood_encoder::{CrossEncoder, Precision, Scores};
use serde::Deserialize;

/// How far a logit may be off, in units of its size where that is over 1.
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    max_length: usize,
    activation: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    query: String,
    document: String,
    logit: f32,
    score: f32,
    /// Where the reference cuts the query too: the values if the document alone is cut; null where nothing of it would be
    /// left.
    #[serde(default, deserialize_with = "there")]
    only_document: Option<Option<Values>>,
}

/// Tells null from what is not there.
fn there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<Values>>, D::Error> {
    Option::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct Values {
    logit: f32,
    score: f32,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cross")
}

fn open(name: &str) -> latewood_encoder::Result<CrossEncoder> {
    CrossEncoder::open(&folder().join("models").join(name), Precision::F32)
}

fn goldens() -> Vec<(String, Golden)> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    std::fs::read_dir(folder().join("golden")).unwrap().map(read).collect()
}

fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= TOLERANCE * expected.abs().max(1.0)
}

#[test]
fn scores_are_those_of_sentence_transformers() {
    let goldens = goldens();
    assert!(goldens.len() >= 24, "{}", goldens.len());
    for (name, golden) in &goldens {
        let model = open(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(model.max_tokens(), golden.max_length, "{name}");
        let scores = if golden.activation == "Sigmoid" { Scores::Sigmoid } else { Scores::Raw };
        assert_eq!(model.scores(), scores, "{name}");
        for case in &golden.cases {
            let found = model.logits(&case.query, &[&case.document]);
            let values = match &case.only_document {
                Some(None) => {
                    assert!(found.is_err(), "{name} {}: nothing of the document is left", case.name);
                    continue;
                }
                Some(Some(values)) => (values.logit, values.score),
                None => (case.logit, case.score),
            };
            let found = found.unwrap_or_else(|e| panic!("{name} {}: {e}", case.name));
            assert!(near(found[0], values.0), "{name} {}: {} and {}", case.name, found[0], values.0);
            let score = model.score(&case.query, &[&case.document]).unwrap()[0];
            assert!(near(score, values.1), "{name} {}: {score} and {}", case.name, values.1);
        }
    }
}

#[test]
fn together_is_as_alone_and_the_order_stays() {
    for name in ["bert", "xlm-roberta", "modernbert-mean", "deberta", "electra-small"] {
        let model = open(name).unwrap();
        let long = "A wide ring means a wet spring. ".repeat(20);
        let documents = ["short", &long, "", "The ring of a tree tells the weather of its year.", &long[..90]];
        let together = model.logits("what does a ring tell?", &documents).unwrap();
        for (document, found) in documents.iter().zip(&together) {
            let alone = model.logits("what does a ring tell?", &[document]).unwrap()[0];
            assert!(near(*found, alone), "{name}: {found} and {alone}");
        }
        assert!(model.score("x", &[]).unwrap().is_empty());
    }
}

#[test]
fn numbers_of_bytes_are_near() {
    let [exact, bytes] =
        [Precision::F32, Precision::Int8].map(|p| CrossEncoder::open(&folder().join("models/bert"), p).unwrap());
    let documents = ["oak", "The ring of a tree tells the weather of its year.", "ash and elm"];
    let (a, b) = (exact.logits("ring", &documents).unwrap(), bytes.logits("ring", &documents).unwrap());
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.1), "{a:?} and {b:?}");
    assert_ne!(a, b);
}

#[test]
fn what_is_no_reranker_is_refused_by_name() {
    for (name, says) in [
        ("bert-three", "the number of labels \"3\" is not supported: a reranker has one"),
        ("bert-plain", "a cross-encoder is a model for sequence classification"),
    ] {
        let error = open(name).unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    let model = open("bert").unwrap();
    let error = model.score(&"ring ".repeat(70), &["x"]).unwrap_err().to_string();
    assert!(error.contains("takes 64 of query and document together"), "{error}");
}
