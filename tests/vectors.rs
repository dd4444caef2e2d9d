//! The engine alone, over arrays of token embeddings.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{repository, run};

#[test]
fn arrays_go_in_and_timed_hits_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let collection = repository().join("tests/collection");
    let encoded = run(dir.path(), &["vectors", "encode", collection.to_str().unwrap(), "--out", "arrays"]);
    let sizes = encoded.json().remove(0);
    assert_eq!((sizes["documents"].as_u64(), sizes["queries"].as_u64()), (Some(11), Some(6)), "{}", encoded.stderr);

    let build =
        ["vectors", "build", "--embeddings", "arrays", "--index", "ix", "--threads", "1", "--timings", "build.json"];
    let built = run(dir.path(), &build);
    assert_eq!((built.code, built.stdout.as_str()), (0, ""), "{}", built.stderr);
    let timings: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("build.json")).unwrap()).unwrap();
    assert!(timings["build_s"].as_f64().unwrap() > 0.0 && timings["rows"] == sizes["rows"], "{timings}");
    assert!(timings["backend"].as_str().unwrap().starts_with("cpu"), "{timings}");
    // A device that is not there builds nothing.
    let missing = ["vectors", "build", "--embeddings", "arrays", "--index", "nothing", "--device", "wgpu:99"];
    let refused = run(dir.path(), &missing);
    assert!(refused.code == 2 && refused.stderr.contains("there is no wgpu:99"), "{}", refused.stderr);
    assert!(!dir.path().join("nothing").exists());

    let search = ["vectors", "search", "--queries", "arrays", "--index", "ix", "-k", "3", "--run", "out.run"];
    let searched = run(dir.path(), &search);
    assert_eq!(searched.code, 0, "{}", searched.stderr);
    let timings = searched.json().remove(0);
    for key in ["mean", "p50", "p95", "p99", "min", "max"] {
        assert!(timings["latency_us"][key].as_f64().unwrap() > 0.0, "{key}: {timings}");
    }
    assert!(timings["batch_qps"].as_f64().unwrap() > 0.0 && timings["nq"] == 6, "{timings}");

    // The best documents are those that the collection's judgements name.
    let lines = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let (names, queries) = (lines("arrays/docids.txt"), lines("arrays/qids.txt"));
    let judged: serde_json::Value = serde_json::from_str(&lines("arrays/qrels.json")).unwrap();
    let found = lines("out.run");
    assert_eq!(found.lines().count(), 6 * 3);
    let best: Vec<Vec<&str>> = found.lines().map(|l| l.split(' ').collect()).filter(|l: &Vec<_>| l[2] == "1").collect();
    let right = best.iter().filter(|hit| {
        let query = queries.lines().nth(hit[0].parse().unwrap()).unwrap();
        judged[query].get(names.lines().nth(hit[1].parse().unwrap()).unwrap()).is_some()
    });
    assert_eq!((best.len(), right.count()), (6, 6), "{found}");
}

#[test]
fn what_is_wrong_with_arrays_or_settings_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let collection = repository().join("tests/collection");
    run(dir.path(), &["vectors", "encode", collection.to_str().unwrap(), "--out", "arrays"]);
    let fails = |args: &[&str], words: &[&str]| {
        let got = run(dir.path(), args);
        assert_eq!((got.code, got.stdout.as_str()), (2, ""), "{args:?}");
        assert!(words.iter().all(|word| got.stderr.contains(word)), "{args:?}: {}", got.stderr);
    };
    let build = ["vectors", "build", "--embeddings", "arrays", "--index", "ix"];
    fails(&build[..4], &["--index"]);
    fails(&[&build[..], &["--opt", "bit=4"]].concat(), &["bit=4", "bits"]);
    fails(&[&build[..], &["--opt", "bits=3"]].concat(), &["bits = 3", "1, 2 or 4"]);
    fails(&[&build[..], &["--opt", "part_rows=0"]].concat(), &["part_rows=0"]);
    fails(&[&build[..], &["--opt", "memory=1M"]].concat(), &["memory = 1048576 bytes", "64 MiB"]);
    fails(&[&build[..], &["--opt", "memory=many"]].concat(), &["memory=many", "K, M or G"]);

    let array = dir.path().join("arrays/doclens.npy");
    let good = fs::read(&array).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() = 0x80;
    fs::write(&array, &bad).unwrap();
    fails(&build, &["doclens.npy", "length 10", "-21474"]);
    fs::write(&array, &good[..good.len() - 4]).unwrap();
    fails(&build, &["doclens.npy", "bytes"]);
    fs::write(&array, &good).unwrap();

    let vectors = dir.path().join("arrays/vectors.npy");
    let mut values = fs::read(&vectors).unwrap();
    values[128..130].copy_from_slice(&0x7e00u16.to_le_bytes());
    fs::write(&vectors, values).unwrap();
    for _ in 0..2 {
        fails(&build, &["vectors.npy: document 0", "row 0, column 0 is NaN"]);
        assert!(!dir.path().join("ix").exists(), "nothing is left in the way of the next try");
    }
    fails(&["vectors", "search", "--queries", "arrays", "--index", "none"], &["none", "no index"]);
}

/// Built, deleted from, checked, compacted, exported, and built again from the export.
#[test]
fn an_index_is_looked_after() {
    let dir = tempfile::tempdir().unwrap();
    let collection = repository().join("tests/collection");
    run(dir.path(), &["vectors", "encode", collection.to_str().unwrap(), "--out", "arrays"]);
    let build = |from: &str, index: &str| {
        let built = run(dir.path(), &["vectors", "build", "--embeddings", from, "--index", index, "--opt", "fine=1"]);
        assert_eq!(built.code, 0, "{}", built.stderr);
        built.json().remove(0)
    };
    let rows = build("arrays", "ix")["rows"].clone();
    let ok = |args: &[&str]| {
        let got = run(dir.path(), args);
        assert_eq!(got.code, 0, "{args:?}: {}{}", got.stdout, got.stderr);
        got.stdout
    };
    assert!(ok(&["verify", "--index", "ix"]).contains("sound"));
    assert!(ok(&["compact", "--index", "ix"]).contains("before"));
    let exported = run(dir.path(), &["export", "--index", "ix", "--out", "again", "--json"]).json().remove(0);
    assert_eq!((exported["documents"].as_u64(), &exported["rows"]), (Some(11), &rows));
    assert_eq!(build("again", "ix2")["rows"], rows);
    let hits = |index: &str, file: &str| {
        ok(&["vectors", "search", "--queries", "arrays", "--index", index, "-k", "1", "--run", file]);
        let text = fs::read_to_string(dir.path().join(file)).unwrap();
        text.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(hits("ix", "a.run"), hits("ix2", "b.run"));

    let shard = fs::read_dir(dir.path().join("ix")).unwrap().map(|entry| entry.unwrap().path());
    let shard = shard.filter(|path| path.extension().is_some_and(|e| e == "lws")).max().unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&shard, bytes).unwrap();
    let found = run(dir.path(), &["verify", "--index", "ix"]);
    assert_eq!(found.code, 2);
    let name = shard.file_name().unwrap().to_str().unwrap();
    assert!(found.stdout.contains(name) && found.stdout.contains("checksum"), "{}", found.stdout);
}
