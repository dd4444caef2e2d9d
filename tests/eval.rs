//! Measuring, on a collection of our own and, where they are at hand, on the published ones.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::path::PathBuf;

use common::{repository, run};
use serde_json::Value;

#[test]
fn the_model_finds_what_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let collection = repository().join("tests/collection");
    let collection = collection.to_str().unwrap();
    let got = run(dir.path(), &["eval", collection, "--json", "--save-run", "out.run"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let report = got.json().pop().unwrap();
    let modes = report["modes"].as_array().unwrap();
    let names: Vec<&str> = modes.iter().map(|mode| mode["mode"].as_str().unwrap()).collect();
    assert_eq!(names, ["hybrid", "semantic", "keyword", "rerank"]);
    for key in ["ndcg@10", "mrr@10", "recall@10", "recall@100"] {
        for mode in &modes[..2] {
            assert!(mode[key].as_f64().unwrap() >= 0.9, "{key}: {report}");
        }
        assert!(report["exact"][key].as_f64().unwrap() >= 0.9, "exact {key}: {report}");
    }
    assert_eq!((report["documents"].as_u64(), report["empty_documents"].as_u64()), (Some(12), Some(1)));
    assert_eq!(report["queries"], 6);
    // The run that was written scores the same.
    let again = run(dir.path(), &["eval", collection, "--run", "out.run", "--json"]);
    assert_eq!(again.json()[0]["ndcg@10"], modes[0]["ndcg@10"]);
    // A run beside itself is the same, and keywords alone are not better.
    let args = ["eval", collection, "--run", "out.run", "--compare", "out.run", "--json"];
    let same = &run(dir.path(), &args).json()[1]["ndcg@10"];
    assert_eq!((same["p_value"].as_f64(), same["same"].as_u64()), (Some(1.0), Some(6)), "{same}");
    let shown = run(dir.path(), &["eval", collection, "--no-exact", "--mode", "keyword", "--compare", "out.run"]);
    assert!(shown.stdout.contains("against out.run: 0 queries better"), "{}", shown.stdout);
    // Split into passages, and in one mode.
    let split = run(dir.path(), &["eval", collection, "--json", "--split", "--mode", "semantic"]).json().remove(0);
    assert!(split["modes"][0]["ndcg@10"].as_f64().unwrap() >= 0.9 && split["modes"][1].is_null(), "{split}");
    assert!(split["exact"].is_null());
}

/// A published collection, if `LATEWOOD_TEST_DATA` says where they lie.
fn published(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os("LATEWOOD_TEST_DATA").map(|dir| PathBuf::from(dir).join(name)).filter(|dir| dir.exists());
    if found.is_none() {
        eprintln!("skipped: LATEWOOD_TEST_DATA does not name a folder that holds {name}");
    }
    found
}

/// The metrics of published runs, as their makers recorded them with pytrec_eval.
#[test]
fn recorded_metrics_are_reproduced() {
    for name in ["scifact", "cranfield", "cosqa"] {
        let Some(dir) = published(name) else { continue };
        let recorded: Value = serde_json::from_slice(&std::fs::read(dir.join("bm25.metrics.json")).unwrap()).unwrap();
        let run_file = dir.join("bm25.trec.zst");
        let got = run(&dir, &["eval", ".", "--run", run_file.to_str().unwrap(), "--json"]).json().remove(0);
        for (ours, theirs) in [("ndcg@10", "ndcg10"), ("mrr@10", "mrr10"), ("recall@100", "r100")] {
            let (a, b) = (got[ours].as_f64().unwrap(), recorded[theirs].as_f64().unwrap());
            assert!((a - b).abs() < 2e-6, "{name} {ours}: {a} and {b}");
        }
    }
}
