//! The command line as a user meets it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use common::{Run, documents, latewood, repository, run};
use serde_json::Value;

fn first(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json().into_iter().next().unwrap()
}

#[test]
fn a_folder_goes_in_and_answers_come_out() {
    let dir = documents();
    let hit = first(&run(
        dir.path(),
        &["search", "what temperature do bees keep in their cluster", ".", "--json", "-k", "3"],
    ));
    assert_eq!(hit["path"], "guide/bees.html");
    let text = hit["text"].as_str().unwrap();
    assert!(text.contains("shiver") && text.contains("30\u{a0}°C") || text.contains("30 °C"), "{text}");
    assert!(!text.contains("do not index me") && !text.contains("Imprint"), "{text}");

    let hit = first(&run(dir.path(), &["search", "glaze with a net of cracks", "--json", "--no-refresh"]));
    assert_eq!(hit["path"], "guide/kiln.md");
    let source = fs::read_to_string(dir.path().join("guide/kiln.md")).unwrap();
    let (start, end) = (hit["span"]["start"].as_u64().unwrap() as usize, hit["span"]["end"].as_u64().unwrap() as usize);
    assert_eq!(&source[start..end], hit["text"].as_str().unwrap(), "the span is exact");
    let lines: Vec<&str> = source.lines().collect();
    let first_line = lines[hit["lines"]["start"].as_u64().unwrap() as usize - 1];
    assert!(hit["text"].as_str().unwrap().starts_with(first_line), "the line range is exact");

    let checked = run(dir.path(), &["verify", "--json"]).json().remove(0);
    assert_eq!(checked["sound"], true, "{checked}");

    let hit = first(&run(dir.path(), &["search", "mortgage instalments", "--json"]));
    assert_eq!(hit["path"], "src/interest.py");
    let score = hit["score"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&score), "{score}");
}

#[test]
fn people_read_the_place_the_score_and_the_text() {
    let dir = documents();
    let shown = run(dir.path(), &["search", "when does the train leave"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let mut lines = shown.stdout.lines();
    let head = lines.next().unwrap();
    assert!(head.starts_with("1. notes.txt:1") && !head.contains('\x1b'), "{head}");
    assert!(head.rsplit(' ').next().unwrap().parse::<f32>().is_ok(), "{head}");
    assert!(lines.next().unwrap().contains("The night train to Trieste"));
    assert!(shown.stderr.contains("4 added"), "{}", shown.stderr);
    let quiet = run(dir.path(), &["-q", "search", "when does the train leave"]);
    assert_eq!((quiet.stdout, quiet.stderr.as_str()), (shown.stdout, ""));
}

#[test]
fn searches_are_narrowed_explained_and_piped_on() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let search =
        |more: &[&str]| run(dir.path(), &[&["search", "glaze with a net of cracks", "-k", "50"], more].concat());
    let paths = |run: &Run| run.json().iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let some = search(&["--json", "--where", "path:guide/** NOT kind:html"]);
    assert!(!paths(&some).is_empty() && paths(&some).iter().all(|path| path == "guide/kiln.md"), "{}", some.stdout);
    assert_eq!(some.json()[0]["schema"], "latewood.hit.1");
    assert!(some.json()[0]["matches"].is_null());
    assert_eq!(search(&["--where", "lang:cobol"]).code, 1);
    let slip = search(&["--where", "languag:python"]);
    assert!(
        slip.code == 1 && slip.stderr.contains("no document has the field languag; there are path"),
        "{}",
        slip.stderr
    );
    let wrong = search(&["--where", "lang:"]);
    assert!(
        wrong.code == 2 && wrong.stderr.contains("a value of lang is expected here\n  lang:\n       ^"),
        "{}",
        wrong.stderr
    );

    // Each file once, for other programs.
    let listed = search(&["-l"]);
    let mut lines: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(lines[0], "guide/kiln.md");
    assert_eq!(search(&["-0"]).stdout.split_terminator('\0').collect::<Vec<_>>(), lines);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 4, "{}", listed.stdout);

    let why = run(dir.path(), &["search", "crazed glaze", "-k", "1", "--explain"]);
    assert!(why.stdout.contains("glaze \u{2192} ") && why.stdout.contains("(meaning 0."), "{}", why.stdout);
    let json = search(&["--json", "--explain", "--where", "kind:markdown"]).json().remove(0);
    let found = json["matches"].as_array().unwrap().iter().find(|m| !m["text"].is_null()).unwrap();
    assert!(found["text"]["end"].as_u64() > found["text"]["start"].as_u64(), "{found}");

    // A name is found by its letters, whatever it means.
    fs::write(dir.path().join("parts.txt"), "Order the valve XJ-4471 for the burner.\n").unwrap();
    let part = |mode: &str| run(dir.path(), &["search", "xj-4471", "--json", "--mode", mode]);
    assert_eq!(first(&part("hybrid"))["path"], "parts.txt");
    assert_eq!(part("keyword").json().len(), 1);
    assert_eq!(run(dir.path(), &["search", "zyzzyva", "--mode", "keyword"]).code, 1);
}

#[test]
fn shells_and_the_manual_know_the_arguments() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef latewood"), ("fish", "complete -c latewood")] {
        let script = run(dir.path(), &["completions", shell]);
        assert!(script.code == 0 && script.stdout.contains(part) && script.stdout.contains("search"), "{shell}");
    }
    let page = run(dir.path(), &["man"]);
    assert!(page.stdout.contains(".TH latewood") && page.stdout.contains("keyword"), "{}", page.stdout);
}

#[test]
fn changes_are_seen_and_unchanged_files_left_alone() {
    let dir = documents();
    let index = || run(dir.path(), &["index", "--json"]).json().remove(0);
    let report = index();
    assert_eq!((report["added"].as_u64(), report["unchanged"].as_u64()), (Some(4), Some(0)));
    assert_eq!(fs::read_to_string(dir.path().join(".latewood/.gitignore")).unwrap(), "*\n");

    fs::write(
        dir.path().join("new.md"),
        "# Otters\n\nOtters hold hands while they sleep so that they do not drift apart.\n",
    )
    .unwrap();
    fs::write(dir.path().join("notes.txt"), "The ferry to Muggia was cancelled because of the bora wind.\n").unwrap();
    fs::remove_file(dir.path().join("src/interest.py")).unwrap();
    fs::rename(dir.path().join("guide/kiln.md"), dir.path().join("firing.md")).unwrap();
    let report = index();
    for (key, want) in [("added", 1), ("updated", 1), ("removed", 1), ("moved", 1), ("unchanged", 1), ("passages", 2)] {
        assert_eq!(report[key], want, "{key} in {report}");
    }
    let again = index();
    assert_eq!((again["unchanged"].as_u64(), again["passages"].as_u64()), (Some(4), Some(0)));

    assert_eq!(first(&run(dir.path(), &["search", "otters sleeping", "--json"]))["path"], "new.md");
    assert_eq!(first(&run(dir.path(), &["search", "is there a boat", "--json"]))["path"], "notes.txt");
    assert_eq!(first(&run(dir.path(), &["search", "crazed glaze", "--json"]))["path"], "firing.md");
    let all = run(dir.path(), &["search", "mortgage instalments night train Trieste", "--json", "-k", "100"]);
    assert!(!all.stdout.contains("interest.py") && !all.stdout.contains("Trieste"), "what is gone is not found");

    // The same bytes under a new time stamp are not encoded again.
    let content = fs::read(dir.path().join("new.md")).unwrap();
    fs::write(dir.path().join("new.md"), content).unwrap();
    assert_eq!(index()["passages"], 0);
}

#[test]
fn the_index_is_found_from_below_and_where_it_is_told() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let below = dir.path().join("guide");
    let found = run(&below, &["search", "night train", "--json", "-k", "50"]);
    assert!(found.json().iter().all(|hit| hit["path"].as_str().unwrap().starts_with("guide/")), "only what lies below");
    assert!(!below.join(".latewood").exists());
    assert_eq!(run(&below, &["status", "--json"]).json()[0]["files"], 4);

    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("idx");
    let place = place.to_str().unwrap();
    let docs = documents();
    let folder = docs.path().to_str().unwrap();
    assert_eq!(
        first(&run(elsewhere.path(), &["search", "night train", folder, "--index", place, "--json"]))["path"],
        "notes.txt"
    );
    assert!(!docs.path().join(".latewood").exists());
    assert_eq!(
        first(&run(elsewhere.path(), &["--index", place, "search", "bees", "--json"]))["path"],
        "guide/bees.html"
    );
    let status = &run(elsewhere.path(), &["status", "--index", place, "--json"]).json()[0];
    assert_eq!(status["files"], 4);
    assert_eq!(status["root"].as_str().unwrap(), docs.path().canonicalize().unwrap().to_str().unwrap());
    let other = run(elsewhere.path(), &["search", "bees", dir.path().to_str().unwrap(), "--index", place]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains("is the index of"), "{}", other.stderr);
}

#[test]
fn nothing_found_is_1_and_bad_input_is_2_with_the_cause() {
    let dir = documents();
    fs::create_dir(dir.path().join("hollow")).unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let none = run(&dir.path().join("hollow"), &["search", "anything"]);
    assert_eq!((none.code, none.stdout.as_str()), (1, ""), "{}", none.stderr);

    let empty = tempfile::tempdir().unwrap();
    let long = "word ".repeat(600);
    fs::write(empty.path().join("picture.png"), [0x89, 0x50, 0, 0]).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["search", "  ", "."], "query is empty"),
        (&["search", &long], "602 tokens and the model takes 512"),
        (&["search", "x", "missing-folder"], "missing-folder"),
        (&["search", "x", "notes.txt"], "is a file"),
        (&["search", "x", empty.path().to_str().unwrap()], "no documents to index (skipped picture.png"),
        (&["status", empty.path().to_str().unwrap()], "not indexed yet; run `latewood index"),
        (&["search", "x", "-k", "0"], "0"),
        (&["eval", "."], "queries.jsonl"),
        (&["--model", "guide", "search", "x"], "config.json"),
    ];
    for (args, wanted) in cases {
        let got = run(dir.path(), args);
        assert_eq!((got.code, got.stdout.as_str()), (2, ""), "{args:?}");
        assert!(got.stderr.contains(wanted), "{args:?}: {}", got.stderr);
    }
    assert!(!empty.path().join(".latewood").exists(), "no index is left where there was nothing to index");
}

#[test]
fn a_mixed_folder_is_indexed_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("good.md", b"# Weather\n\nFog forms over the river at dawn.\n");
    write("latin.txt", b"Le caf\xe9 de la gare est ferm\xe9 le lundi. Il rouvre mardi \xe0 six heures pr\xe9cises.\n");
    let utf16: Vec<u8> = "\u{feff}Storks return in March.\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    write("wide.txt", &utf16);
    write("data.bin", &[0, 1, 2, 3, 0, 255]);
    write("blank.md", b"\n\n  \n");
    write("secret.log", b"ignored by rule\n");
    write(".gitignore", b"*.log\n");
    #[cfg(unix)]
    std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("dangling.md")).unwrap();
    let report = run(dir.path(), &["index", "--verbose"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
    for name in [
        "data.bin",
        "blank.md",
        #[cfg(unix)]
        "dangling.md",
    ] {
        assert!(report.stdout.contains(&format!("skipped {name}: ")), "{name} in {}", report.stdout);
    }
    assert!(!report.stdout.contains("secret.log"));
    assert_eq!(first(&run(dir.path(), &["search", "café fermé", "--json"]))["path"], "latin.txt");
    assert_eq!(first(&run(dir.path(), &["search", "when do the birds come back", "--json"]))["path"], "wide.txt");
    let second = run(dir.path(), &["index"]);
    assert!(second.stdout.contains("3 unchanged; 0 passages encoded"), "{}", second.stdout);
}

#[test]
fn damage_is_named_and_nothing_is_lost() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let search = || run(dir.path(), &["search", "night train", "--json"]);
    let good = search().stdout;
    let mut names: Vec<_> = fs::read_dir(dir.path().join(".latewood")).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| ["lw", "lwc", "lws", "lwt"].iter().any(|e| path.extension().is_some_and(|x| x == *e)));
    assert_eq!(names.len(), 4, "{names:?}");
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        for damaged in [whole[..whole.len() / 2].to_vec(), {
            let mut altered = whole.clone();
            altered.iter_mut().skip(whole.len() / 10).step_by(50).for_each(|byte| *byte ^= 1);
            altered
        }] {
            fs::write(&path, damaged).unwrap();
            let got = search();
            assert_eq!((got.code, got.stdout.as_str()), (2, ""), "{name}");
            assert!(got.stderr.contains(&name) && got.stderr.contains("damaged"), "{name}: {}", got.stderr);
        }
        let mut newer = whole.clone();
        newer[8] = 200;
        if !name.ends_with("lwt") {
            fs::write(&path, newer).unwrap();
            let got = search();
            assert_eq!(got.code, 2);
            assert!(got.stderr.contains("format version 200"), "{}", got.stderr);
        }
        fs::write(&path, whole).unwrap();
        assert_eq!(search().stdout, good, "{name} restored");
    }
}

#[test]
fn files_of_the_same_content_come_and_go() {
    let dir = documents();
    let licence = "Permission is granted to copy the almanac of tides, free of charge.\n";
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    for name in ["a/LICENSE", "a/b/LICENSE", "third.txt"] {
        fs::write(dir.path().join(name), licence).unwrap();
    }
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let paths = || -> Vec<String> {
        let found = run(dir.path(), &["search", "may I copy the almanac", "-k", "20", "--json"]);
        let of = |hit: &Value| {
            hit["text"].as_str().unwrap().contains("almanac").then(|| hit["path"].as_str().unwrap().to_owned())
        };
        let mut paths: Vec<String> = found.json().iter().filter_map(of).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(), ["a/LICENSE", "a/b/LICENSE", "third.txt"]);
    fs::rename(dir.path().join("a"), dir.path().join("z")).unwrap();
    assert_eq!(paths(), ["third.txt", "z/LICENSE", "z/b/LICENSE"], "both moved");
    fs::remove_dir_all(dir.path().join("z")).unwrap();
    assert_eq!(paths(), ["third.txt"], "both removed, and nothing of them is left");
}

#[test]
fn no_file_of_the_user_is_ever_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| fs::write(dir.path().join(name), [0x25, 0x50, 0x44, 0x46, 0]).unwrap();
    write("report.pdf");
    let there = run(dir.path(), &["index", ".", "--index", "."]);
    assert_eq!(there.code, 2);
    assert!(there.stderr.contains("holds report.pdf and no index"), "{}", there.stderr);
    assert_eq!(run(dir.path(), &["index", "."]).code, 2);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["report.pdf"]);

    // An index in a visible folder inside the documents is no document.
    let dir = documents();
    for _ in 0..2 {
        assert_eq!(run(dir.path(), &["index", ".", "--index", "idx"]).code, 0);
    }
    let status = &run(dir.path(), &["status", "--index", "idx", "--json"]).json()[0];
    assert_eq!(status["files"], 4);
    assert_eq!(status["generation"], 2, "once documents were there, nothing was left to commit: {status}");

    // A folder that is empty today, perhaps because it is not mounted, does not cost its index.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("idx"), elsewhere.path().join("idx")).unwrap();
    let index = elsewhere.path().join("idx");
    let index = index.to_str().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    assert_eq!(run(dir.path(), &["search", "night train", "--index", index]).code, 2);
    let found = run(elsewhere.path(), &["search", "night train", "--index", index, "--no-refresh", "--json"]);
    assert_eq!(first(&found)["path"], "notes.txt");
}

#[test]
fn a_long_title_does_not_push_the_text_out() {
    let dir = tempfile::tempdir().unwrap();
    let title = "considerations ".repeat(400);
    fs::write(dir.path().join("a.md"), format!("---\ntitle: {title}\n---\n\nThe heron stands in the weir.\n")).unwrap();
    fs::write(dir.path().join("b.md"), "# Weirs\n\nA weir raises the level of a river for a mill.\n").unwrap();
    let hits = run(dir.path(), &["search", "grey bird waiting for fish", "--json", "-k", "1"]);
    assert!(first(&hits)["text"].as_str().unwrap().contains("heron"), "{}", hits.stdout);
}

#[test]
fn documents_do_not_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.md"), "# Title \x1b]0;owned\x07\n\nText \x1b[2J with escapes.\n").unwrap();
    let shown = run(dir.path(), &["search", "escapes"]);
    assert_eq!(shown.code, 0);
    assert!(!shown.stdout.contains(['\x1b', '\x07']), "{:?}", shown.stdout);
}

#[test]
fn another_models_index_is_refused() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    // The same model with one rule changed is another model.
    let model = tempfile::tempdir().unwrap();
    common::copy(&repository().join("models/latewood-mini"), model.path());
    let rules = model.path().join("latewood.json");
    let text = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, text.replacen("\"max_tokens\": 300", "\"max_tokens\": 200", 1)).unwrap();
    let got = run(dir.path(), &["--model", model.path().to_str().unwrap(), "search", "night train"]);
    assert_eq!(got.code, 2);
    assert!(got.stderr.contains("was made by model latewood-mini@"), "{}", got.stderr);
}

#[test]
fn a_killed_indexing_leaves_the_last_commit() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let sentence = "The harbour master writes the tide, the wind and the name of each ship into the book. ";
    for i in 0..200 {
        fs::write(dir.path().join(format!("log-{i}.txt")), format!("Day {i}. {}", sentence.repeat(40))).unwrap();
    }
    let mut child = latewood().current_dir(dir.path()).arg("index").stdout(Stdio::null()).spawn().unwrap();
    let spool = dir.path().join(".latewood/spool.tmp");
    let start = Instant::now();
    while !spool.exists() && start.elapsed() < Duration::from_secs(120) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(spool.exists(), "indexing was under way");
    // It stands still in the middle of its work, however quick it is.
    signal(&child, "STOP");

    // While it writes, others read, and a second writer is told who holds the lock.
    let read = run(dir.path(), &["search", "night train", "--json", "--no-refresh"]);
    assert_eq!(first(&read)["path"], "notes.txt");
    let refused = run(dir.path(), &["index"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains(&format!("process {}", child.id())), "{}", refused.stderr);
    let noted = run(dir.path(), &["search", "night train", "--json"]);
    assert!(noted.code == 0 && noted.stderr.contains("searching the last commit"), "{}", noted.stderr);

    interrupt(&mut child);
    let status = run(dir.path(), &["status", "--json"]);
    assert_eq!(status.json()[0]["files"], 4, "the last commit stands");
    assert_eq!(first(&run(dir.path(), &["search", "night train", "--json", "--no-refresh"]))["path"], "notes.txt");
}

#[test]
fn records_are_passages_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let bees = r#"{"title": "Bees", "text": "The cluster shivers and keeps itself at thirty degrees."}"#;
    let lines = format!("{bees}\n{{\"title\": \"Fog\", \"text\": \"A diaphone sounds two blasts.\"}}\n");
    fs::write(dir.path().join("notes.jsonl"), &lines).unwrap();
    fs::write(dir.path().join("log.csv"), "day;remark;key\n1;The heron stands in the weir;K-7\n2;;K-8\n").unwrap();
    let fields = ["--fields", "text=remark,text=text,title=title,id=key"];
    let find = |query| first(&run(dir.path(), &[&["search", query, "--json"][..], &fields].concat()));
    let hit = find("how warm are bees in winter");
    assert_eq!((&hit["path"], &hit["headings"][0]), (&Value::from("notes.jsonl"), &Value::from("Bees")));
    let (start, end) = (hit["span"]["start"].as_u64().unwrap() as usize, hit["span"]["end"].as_u64().unwrap() as usize);
    assert_eq!(&lines[start..end], bees, "the span is the record's");
    let hit = find("grey bird waiting for fish");
    assert_eq!((&hit["path"], &hit["headings"][0]), (&Value::from("log.csv"), &Value::from("K-7")));
    assert_eq!((&hit["lines"]["start"], &hit["text"]), (&Value::from(2), &Value::from("The heron stands in the weir")));
    // The index remembers them, and reads files again when they become others.
    let status = || run(dir.path(), &["search", "zinnober", "--json", "--mode", "keyword"]);
    assert_eq!(status().code, 1);
    std::fs::write(
        dir.path().join("more.jsonl"),
        "{\"remark\": \"a tin of zinnober\", \"colour\": \"it is vermilion\"}\n",
    )
    .unwrap();
    assert_eq!(status().code, 0);
    let other = run(dir.path(), &["search", "vermilion", "--json", "--mode", "keyword", "--fields", "text=colour"]);
    assert_eq!(first(&other)["text"], "it is vermilion");
    assert_eq!(status().code, 1, "what was read before is gone");
    let wrong = run(dir.path(), &["search", "x", "--fields", "body"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("is not as text=NAME"), "{}", wrong.stderr);
}

#[test]
fn records_that_move_are_read_as_is_wanted_now() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.jsonl"), "{\"text\": \"alpha volcano\", \"body\": \"beta penguin\"}\n").unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    fs::rename(dir.path().join("a.jsonl"), dir.path().join("b.jsonl")).unwrap();
    let found = run(dir.path(), &["search", "penguin", "--mode", "keyword", "--json", "--fields", "text=body"]);
    assert_eq!(first(&found)["text"], "beta penguin");
}

#[test]
fn an_index_takes_nothing_of_the_users() {
    let (dir, other) = (documents(), tempfile::tempdir().unwrap());
    let place = other.path().join("idx");
    fs::create_dir_all(place.join("keywords")).unwrap();
    fs::write(place.join("keywords/mine.csv"), "precious").unwrap();
    let got = run(dir.path(), &["index", ".", "--index", place.to_str().unwrap()]);
    assert!(got.code == 2 && got.stderr.contains("holds keywords and no index"), "{}", got.stderr);
    assert!(place.join("keywords/mine.csv").exists());
    // What appears later is left alone as well.
    let place = other.path().join("ours");
    assert_eq!(run(dir.path(), &["index", ".", "--index", place.to_str().unwrap()]).code, 0);
    fs::write(place.join("draft.tmp"), "mine").unwrap();
    fs::write(place.join("keywords/mine.csv"), "mine").unwrap();
    fs::write(dir.path().join("new.md"), "Something new.\n").unwrap();
    assert_eq!(run(dir.path(), &["index", ".", "--index", place.to_str().unwrap()]).code, 0);
    assert!(place.join("draft.tmp").exists() && place.join("keywords/mine.csv").exists());
}

#[test]
fn keywords_that_lack_a_file_are_made_anew() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let keywords = dir.path().join(".latewood/keywords");
    let positions = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "pos");
    for entry in fs::read_dir(keywords).unwrap().flatten().filter(positions) {
        fs::remove_file(entry.path()).unwrap();
    }
    let verified = run(dir.path(), &["verify"]);
    assert!(
        verified.code == 2 && verified.stdout.contains(".pos") | verified.stderr.contains(".pos"),
        "{}{}",
        verified.stdout,
        verified.stderr
    );
    assert_eq!(run(dir.path(), &["search", "kiln", "--json"]).code, 0);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
}

#[test]
fn what_is_piped_in_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let piped = |query: &str, bytes: &[u8]| {
        let mut command = latewood();
        command.current_dir(dir.path()).args(["search", query, "-", "--json", "-k", "1"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        common::of(child.wait_with_output().unwrap())
    };
    let text = "The heron stands in the weir.\n\nOtters hold hands while they sleep.\n";
    let hit = first(&piped("animals that hold hands", text.as_bytes()));
    assert_eq!((&hit["path"], hit["text"].as_str().unwrap().contains("Otters")), (&Value::from("stdin"), true));
    let none = piped("anything", b" \n");
    assert_eq!((none.code, none.stdout.as_str()), (2, ""));
    assert!(none.stderr.contains("nothing to search on standard input: holds no text"), "{}", none.stderr);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Ctrl-C, and the wait for its end.
fn interrupt(child: &mut std::process::Child) {
    signal(child, "INT");
    signal(child, "CONT");
    assert!(!child.wait().unwrap().success());
}

#[test]
fn searches_run_where_they_are_told_or_say_what_there_is() {
    let dir = documents();
    let search = |device| run(dir.path(), &["search", "when does the train leave", "--json", "--device", device]);
    for device in ["cpu", "auto"] {
        let found = search(device);
        assert_eq!(first(&found)["path"], "notes.txt", "{device}");
        assert_eq!(found.stderr.contains("running on "), device == "auto", "{}", found.stderr);
    }
    // A number that no machine has.
    let wrong = [("wgpu:99", "there is no wgpu:99"), ("cuda:99", "there is no cuda:99"), ("gpu", "auto, cpu, wgpu")];
    for (device, part) in wrong {
        let refused = search(device);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{device}");
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let checked = run(dir.path(), &["verify", "--device", "cpu"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(checked.stdout.contains(": sound") && checked.stdout.contains("agrees with the processor"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let dir = documents();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let mut child = latewood()
        .current_dir(dir.path())
        .args(["search", "night train", "-k", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    child.wait().unwrap();
}
