//! PDF, office files and e-books, good ones and others, as a user meets them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{copy, latewood, of, repository, run};
use serde_json::Value;

/// A folder of one document of each format.
fn almanacs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&repository().join("crates/ingest/tests/documents"), dir.path());
    fs::remove_file(dir.path().join("make.py")).unwrap();
    dir
}

const FORMATS: [&str; 11] = ["pdf", "docx", "pptx", "xlsx", "doc", "ppt", "xls", "odt", "odp", "ods", "epub"];

/// What was left out, by path.
fn skipped(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let skipped = report["skipped"].as_array().unwrap();
    let mut skipped: Vec<_> = skipped.iter().map(|s| (text(&s["path"]), text(&s["reason"]))).collect();
    skipped.sort();
    skipped
}

#[test]
fn documents_of_every_format_are_found_and_broken_ones_are_named() {
    let dir = almanacs();
    for format in FORMATS {
        let whole = fs::read(dir.path().join(format!("almanac.{format}"))).unwrap();
        fs::write(dir.path().join(format!("broken.{format}")), &whole[..whole.len() / 10]).unwrap();
    }
    fs::write(dir.path().join("notes.md"), "# Puffins\n\nPuffins dig burrows on the cliff above the light.\n").unwrap();
    fs::copy(dir.path().join("almanac.pdf"), dir.path().join("no-extension")).unwrap();
    let report = run(dir.path(), &["index", "--json"]).json().remove(0);
    assert_eq!(report["added"], 13, "{report}");
    let left_out = skipped(&report);
    assert_eq!(left_out.len(), FORMATS.len(), "{left_out:?}");
    for (path, reason) in &left_out {
        let format = path.strip_prefix("broken.").unwrap();
        assert!(reason.starts_with(&format!("cannot be read as {format}: ")) || reason == "holds no text", "{reason}");
    }

    let query = "how often does the diaphone sound in fog";
    let hits = run(dir.path(), &["search", query, "--json", "-k", "40"]).json();
    for format in FORMATS {
        let path = format!("almanac.{format}");
        let of_file = |hit: &&Value| hit["path"] == path.as_str();
        let hit = hits.iter().find(of_file).unwrap_or_else(|| panic!("{path} is not found"));
        assert!(hit["text"].as_str().unwrap().contains("two blasts every ninety seconds"), "{hit}");
        assert_eq!(hit["title"], "The Keeper's Almanac");
        let page = match format {
            "pdf" | "xlsx" | "xls" | "ods" => Value::from(2),
            "pptx" | "ppt" | "odp" => Value::from(3),
            _ => Value::Null,
        };
        assert_eq!(hit["page"], page, "{path}");
    }
    let shown = run(dir.path(), &["search", query, "-k", "40"]).stdout;
    for place in [". almanac.pdf:p2  ", ". almanac.pptx:p3  ", ". almanac.docx:"] {
        assert!(shown.contains(place), "{place} in {shown}");
    }

    // What could not be read is not tried again until it changes, and is found then.
    let again = run(dir.path(), &["index", "--json"]).json().remove(0);
    assert_eq!((&again["unchanged"], &again["passages"]), (&Value::from(13), &Value::from(0)), "{again}");
    assert_eq!(skipped(&again), left_out);
    fs::copy(dir.path().join("almanac.odt"), dir.path().join("broken.odt")).unwrap();
    fs::remove_file(dir.path().join("almanac.odt")).unwrap();
    let moved = run(dir.path(), &["index", "--json"]).json().remove(0);
    assert_eq!((&moved["moved"], &moved["passages"]), (&Value::from(1), &Value::from(0)), "{moved}");
}

/// A PDF with this content on its one page.
fn pdf(content: &str) -> Vec<u8> {
    let objects = [
        "<</Type/Catalog/Pages 2 0 R>>".to_owned(),
        "<</Type/Pages/Kids[3 0 R]/Count 1>>".to_owned(),
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>".to_owned(),
        format!("<</Length {}>>stream\n{content}\nendstream", content.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_owned(),
    ];
    let (mut out, mut places) = (String::from("%PDF-1.4\n"), Vec::new());
    for (object, number) in objects.iter().zip(1..) {
        places.push(out.len());
        out += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let xref = out.len();
    out += &format!("xref\n0 {}\n0000000000 65535 f \n", places.len() + 1);
    places.iter().for_each(|place| out += &format!("{place:010} 00000 n \n"));
    out += &format!("trailer<</Size {}/Root 1 0 R>>\nstartxref\n{xref}\n%%EOF\n", places.len() + 1);
    out.into_bytes()
}

/// Indexes a folder with a document that is too much for its worker between two that are not.
fn index_with(dangerous: &[u8], limits: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let good = |text: &str| pdf(&format!("BT /F 12 Tf 50 700 Td ({text}) Tj ET"));
    fs::write(dir.path().join("a.pdf"), good("The heron stands in the weir")).unwrap();
    fs::write(dir.path().join("b.pdf"), dangerous).unwrap();
    fs::write(dir.path().join("c.pdf"), good("Otters hold hands while they sleep")).unwrap();
    let report = run(dir.path(), &[&["index", "--json"], limits].concat()).json().remove(0);
    assert_eq!(report["added"], 2, "{report}");
    assert_eq!(first(dir.path(), "animals that hold hands"), "c.pdf");
    report
}

fn first(folder: &Path, query: &str) -> String {
    run(folder, &["search", query, "--json", "-k", "1"]).json()[0]["path"].as_str().unwrap().to_owned()
}

/// So many words on one page, each set by itself: more work than any author makes.
fn crowded(words: usize) -> Vec<u8> {
    let word = |at: usize| format!("1 0 0 1 {} {} Tm (w{at}) Tj ", 50 + at % 40 * 12, 780 - at / 40 % 70 * 10);
    pdf(&format!("BT /F 8 Tf {}ET", (0..words).map(word).collect::<String>()))
}

#[test]
fn a_document_that_takes_too_long_costs_itself() {
    let report = index_with(&crowded(100_000), &["--extract-seconds", "1"]);
    let left_out = [("b.pdf".to_owned(), "cannot be read as pdf: its parser took longer than 1 s".to_owned())];
    assert_eq!(skipped(&report), left_out);
}

/// Other systems do not hold to a limit of a process's addresses, or have none.
#[cfg(target_os = "linux")]
#[test]
fn a_document_that_takes_too_much_memory_costs_itself() {
    let report = index_with(&crowded(300_000), &["--extract-seconds", "300", "--extract-memory", "160"]);
    let cause = "cannot be read as pdf: its parser ran out of the memory it may have";
    assert_eq!(skipped(&report), [("b.pdf".to_owned(), cause.to_owned())]);
}

/// The worker that a process has started.
#[cfg(target_os = "linux")]
fn worker_of(parent: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    ids.into_iter().find(|id| {
        let read = |what| fs::read_to_string(format!("/proc/{id}/{what}")).unwrap_or_default();
        read("cmdline").contains("extract-worker") && read("status").contains(&format!("PPid:\t{parent}\n"))
    })
}

/// Other systems do not list processes in files.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_that_is_stopped_is_replaced() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.pdf"), crowded(2_000)).unwrap();
    fs::write(dir.path().join("b.pdf"), crowded(1)).unwrap();
    let mut index = latewood();
    index.current_dir(dir.path()).args(["index", "--json", "--extract-seconds", "3"]);
    let index = index.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let worker = loop {
        match worker_of(index.id()) {
            Some(worker) => break worker,
            None => assert!(start.elapsed() < Duration::from_secs(60), "no worker came"),
        }
    };
    assert!(Command::new("kill").args(["-STOP", &worker.to_string()]).status().unwrap().success());
    let stopped = Instant::now();
    let report = of(index.wait_with_output().unwrap());
    // It had the time of the worker and some more, and was then done without.
    assert!(stopped.elapsed() >= Duration::from_secs(3), "it was stopped too late to matter");
    assert_eq!(report.json()[0]["added"], 2, "{}", report.stdout);
    assert!(!Path::new(&format!("/proc/{worker}")).exists());
}

#[cfg(unix)]
#[test]
fn a_worker_answers_until_its_input_ends() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::Stdio;

    // The worker as its employer meets it: one answer, and an end at the end of its input.
    let mut worker = latewood().arg("extract-worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = worker.stdin.take().unwrap();
    input.write_all(&[0, 7, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    input.write_all(b"no PDF!").unwrap();
    let mut answer = BufReader::new(worker.stdout.take().unwrap());
    assert_eq!(answer.fill_buf().unwrap()[0], 1, "an error, and not the end");
    drop(input);
    answer.read_to_end(&mut Vec::new()).unwrap();
    assert!(worker.wait().unwrap().success());
    // Settings that are being written do not cost a document.
    let alone = latewood().arg("extract-worker").env("LATEWOOD_CONFIG", "/no/such/file").output().unwrap();
    assert_eq!((alone.status.code(), alone.stderr), (Some(0), Vec::new()));
    let help = of(latewood().arg("--help").output().unwrap());
    assert!(help.stdout.contains("search") && !help.stdout.contains("extract-worker"));
}
