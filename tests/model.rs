//! What the program says of model folders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{repository, run};

#[test]
fn a_model_is_described_and_tried() {
    let dir = tempfile::tempdir().unwrap();
    let models = repository().join("crates/encoder/tests/golden/models");
    let check = |name: &str| run(dir.path(), &["model", "check", models.join(name).to_str().unwrap()]);
    for (name, words) in [
        (
            "stanford-default",
            &["Stanford ColBERT", "bert, 2 layers of 32", "filled up with [MASK] to 16 (not attended to)"][..],
        ),
        ("pylate-dense-chain", &["PyLate", "residual", "tanh", "no rows for"]),
        ("st-min-attend", &["multi-vector", "(attended to"]),
        ("plain-modernbert", &["plain encoder", "modernbert", "hidden states are the rows", "says nothing"]),
    ] {
        let got = check(name);
        assert_eq!(got.code, 0, "{name}: {}", got.stderr);
        assert!(words.iter().all(|word| got.stdout.contains(word)), "{name}: {}", got.stdout);
        assert!(got.stdout.contains("self-test"), "{name}: {}", got.stdout);
    }
    let own = run(dir.path(), &["model", "check", "--json"]).json().remove(0);
    assert!(own["id"].as_str().unwrap().starts_with("latewood-mini@") && own["indexable"] == true, "{own}");

    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(models.join("pylate-default")).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() {
            fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
        }
    }
    let got = run(dir.path(), &["model", "check", "copy"]);
    assert_eq!(got.code, 2, "{}", got.stdout);
    assert!(got.stderr.contains("Dense"), "{}", got.stderr);
}
