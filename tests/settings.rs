//! What is settled once: the file of settings, the environment, names of folders; and looking after it all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{Run, documents, latewood, of, run};

/// Runs with a file of settings that says `settings`.
fn with(dir: &Path, settings: &str, variables: &[(&str, &str)], args: &[&str]) -> Run {
    let file = dir.join(".settings.toml");
    fs::write(&file, settings).unwrap();
    let mut command = latewood();
    command.current_dir(dir).env("LATEWOOD_CONFIG", &file).envs(variables.iter().copied()).args(args);
    of(command.output().unwrap())
}

#[test]
fn arguments_come_before_the_environment_and_that_before_the_file() {
    let dir = documents();
    let dir = dir.path();
    assert_eq!(run(dir, &["index"]).code, 0);
    let search = ["search", "mortgage instalments", "--json"];
    let count = |got: Run| {
        assert_eq!(got.code, 0, "{}", got.stderr);
        (got.json().len(), got.json()[0]["keyword"].is_null())
    };
    // Words alone: their scores are the hits' own.
    let file = "mode = \"keyword\"\nk = 1\n[eval]\nsplit = true\n";
    assert_eq!(count(with(dir, file, &[], &search)), (1, true));
    assert!(count(with(dir, "mode = \"rerank\"", &[], &search)) != (1, true));
    let environment = [("LATEWOOD_MODE", "hybrid"), ("LATEWOOD_QUIET", "true")];
    assert_eq!(count(with(dir, file, &environment, &search)), (1, false));
    let typed = [&search[..], &["-k", "2", "--mode", "semantic"]].concat();
    assert_eq!(count(with(dir, file, &environment, &typed)), (2, true));
    // Of one command only.
    assert_eq!(count(with(dir, "[search]\nk = 2", &[], &search)).0, 2);
    assert_eq!(
        with(dir, "paths = true", &[], &["search", "mortgage instalments"]).stdout.lines().next(),
        Some("src/interest.py")
    );
}

#[test]
fn what_is_wrong_in_the_file_is_named() {
    let dir = documents();
    for (settings, part) in [
        ("modes = 1", ".settings.toml: modes: there is no such option"),
        ("[find]\nk = 1", ".settings.toml: find: there is no such command"),
        ("[search]\naddr = \"x\"", ".settings.toml: search.addr: the command has no such option"),
        ("k = [[1]]", "a text, a number"),
        ("k = ", ".settings.toml: TOML parse error at line 1"),
        ("k = \"many\"", "invalid value 'many'"),
    ] {
        let got = with(dir.path(), settings, &[], &["search", "bees"]);
        assert!(got.code == 2 && got.stderr.contains(part), "{settings}: {}", got.stderr);
    }
    let missing = latewood().env("LATEWOOD_CONFIG", dir.path().join("nothing")).arg("status").output().unwrap();
    assert!(of(missing).stderr.contains("nothing: cannot read the settings"));
}

#[test]
fn folders_have_names() {
    let dir = documents();
    let elsewhere = tempfile::tempdir().unwrap();
    let settings = format!("[indexes]\nguide = {:?}\n", dir.path().join("guide"));
    let got = with(elsewhere.path(), &settings, &[], &["search", "bees in winter", "@guide", "-l"]);
    assert_eq!(got.stdout.lines().next(), Some("bees.html"), "{}", got.stderr);
    let got = with(elsewhere.path(), &settings, &[], &["search", "bees", "@notes"]);
    assert!(
        got.code == 2 && got.stderr.contains("no folder is called notes") && got.stderr.contains("guide"),
        "{}",
        got.stderr
    );
}

#[test]
fn the_doctor_says_whether_all_is_well() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let well = run(dir.path(), &["doctor"]);
    assert_eq!(well.code, 0, "{}", well.stdout);
    assert!(well.stdout.contains("4 files") && well.stdout.contains("loaded in"), "{}", well.stdout);
    fs::remove_dir_all(dir.path().join(".latewood/keywords")).unwrap();
    let ill = run(dir.path(), &["doctor", "--json"]);
    let index = ill.json().into_iter().find(|check| check["name"] == "index").unwrap();
    assert!(ill.code == 2 && index["ok"] == false, "{}", ill.stdout);
    assert!(index["detail"].as_str().unwrap().contains("delete this folder"), "{index}");
}

/// The next line that holds `part`.
fn expect(lines: &Receiver<String>, part: &str) -> String {
    loop {
        // Long, as other tests may have the processor: what comes in time comes at once.
        let line = lines.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{part} did not come"));
        if line.contains(part) {
            return line;
        }
    }
}

#[test]
fn a_watched_folder_is_indexed_as_it_changes() {
    let dir = documents();
    let mut child = latewood()
        .current_dir(dir.path())
        .args(["index", "--watch"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    expect(&lines, "watching ");
    fs::write(dir.path().join("otters.md"), "# Otters\n\nOtters hold hands while they sleep.\n").unwrap();
    expect(&lines, "1 added");
    let found = run(dir.path(), &["search", "otters sleeping", "-l", "--no-refresh", "-k", "1"]);
    assert_eq!(found.stdout, "otters.md\n");
    fs::remove_file(dir.path().join("notes.txt")).unwrap();
    expect(&lines, "1 removed");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
}
