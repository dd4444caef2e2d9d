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

/// A folder of many short notes, each of another animal.
fn notes() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let places = "otter:river heron:reeds badger:sett newt:pond magpie:roof marten:pine viper:heath stoat:wall eel:weir \
                  lynx:forest owl:barn hare:field vole:bank bat:cave toad:cellar crane:marsh";
    for (animal, place) in places.split_whitespace().filter_map(|pair| pair.split_once(':')) {
        let first = format!("# The {animal}\n\nThe {animal} is seen at dusk near the {place}, never far from it.\n");
        let winter = format!("\n## The {animal} in winter\n\n{}", "It sleeps by day and by night. ".repeat(24));
        std::fs::write(dir.path().join(format!("{animal}.md")), first + &winter).unwrap();
    }
    dir
}

#[test]
fn an_index_answers_its_owners_questions() {
    let dir = notes();
    let ask = |args: &[&str]| run(dir.path(), &[&["eval", "--questions", "q.tsv"], args].concat());
    std::fs::write(dir.path().join(".latewoodignore"), "q.tsv\n").unwrap();
    std::fs::write(
        dir.path().join("q.tsv"),
        "where is the otter seen?\totter.md:1-3\nwhere is the hare seen?\thare.md\tgone.md\n",
    )
    .unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let got = ask(&["--json", "--per-query", "each.jsonl"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(got.stderr.contains("gone.md is not in the index"), "{}", got.stderr);
    let report = got.json().remove(0);
    assert_eq!((report["queries"].as_u64(), &report["recall_10_of_exact"]), (Some(2), &serde_json::json!(1.0)));
    assert_eq!(report["modes"][0]["mrr@10"], 1.0, "{report}");
    let each = std::fs::read_to_string(dir.path().join("each.jsonl")).unwrap();
    let each: Vec<Value> = each.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(each.len(), 8, "two questions in four modes");
    assert_eq!(
        (&each[1]["missed"], &each[1]["first_answer"]),
        (&serde_json::json!(["gone.md"]), &serde_json::json!(1))
    );
    assert_eq!(each[2]["recall@10_of_exact"], 1.0, "{}", each[2]);
    // One without an answer tells nothing.
    std::fs::write(dir.path().join("q.tsv"), "where is the otter seen?\n").unwrap();
    let got = ask(&[]);
    assert!(got.code == 2 && got.stderr.contains("no question has an answer"), "{}", got.stderr);
}

#[test]
fn an_index_is_tuned_and_remembers() {
    let dir = notes();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let tuned = |args: &[&str]| {
        let got = run(dir.path(), &[&["tune", "--json"], args].concat());
        assert_eq!(got.code, 0, "{}", got.stderr);
        got.json().remove(0)
    };
    let status = || run(dir.path(), &["status", "--json"]).json().remove(0)["tuned"].clone();
    let tried = tuned(&["-k", "1", "--recall", "0.9", "--dry-run"]);
    assert!(tried["passages"].as_u64().unwrap() > 16, "{tried}");
    assert!(tried["chosen"]["recall"].as_f64().unwrap() >= 0.9, "{tried}");
    assert!(status().is_null(), "a dry run leaves nothing behind");
    let chosen = tuned(&["-k", "1", "--recall", "0.9"])["chosen"].clone();
    assert_eq!(status()["budget"]["probes"], chosen["probes"]);
    // What is written later keeps it.
    std::fs::write(dir.path().join("new.md"), "The beaver builds a dam.\n").unwrap();
    assert_eq!(run(dir.path(), &["search", "who builds dams?"]).code, 0);
    assert_eq!(status()["budget"]["probes"], chosen["probes"]);
    assert_eq!(run(dir.path(), &["tune", "--reset"]).code, 0);
    assert!(status().is_null());
    let got = run(dir.path(), &["tune", "--recall", "1.5"]);
    assert!(got.code == 2 && got.stderr.contains("not over 1"), "{}", got.stderr);
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
