//! What is settled once: the file of settings, the environment, names of folders; and looking after it all.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
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
        ("modes = 1", ".settings.toml, line 1: modes: there is no such option"),
        ("[find]\nk = 1", ".settings.toml, line 1: find: there is no such command"),
        ("[search]\naddr = \"x\"", ".settings.toml, line 2: search.addr: the command has no such option"),
        ("k = [[1]]", "line 1: k: a text, a number"),
        ("full = true\nk = ", ".settings.toml, line 2: "),
        ("\n[search]\n\nk = \"many\"", ".settings.toml, line 4: search.k: invalid value 'many'"),
    ] {
        let got = with(dir.path(), settings, &[], &["search", "bees"]);
        assert!(got.code == 2 && got.stderr.contains(part), "{settings}: {}", got.stderr);
    }
    let missing = latewood().env("LATEWOOD_CONFIG", dir.path().join("nothing")).arg("status").output().unwrap();
    assert!(of(missing).stderr.contains("nothing: cannot read the settings"));
}

#[test]
fn help_and_the_doctor_do_without_settings_that_do_not_read() {
    let dir = documents();
    let dir = dir.path();
    for (settings, place) in [
        ("\nk = = 1", "line 2: "),
        ("modes = 1", "line 1: modes: there is no such option"),
        ("device = \"abacus\"", "line 1: device: invalid value 'abacus'"),
    ] {
        for (args, part) in [
            (&["--help"][..], "Find passages"),
            (&["search", "-h"], "--explain"),
            (&["--version"], "latewood "),
            (&["completions", "bash"], "_latewood"),
            (&["man"], ".TH latewood"),
        ] {
            let got = with(dir, settings, &[], args);
            assert!(got.code == 0 && got.stdout.contains(part), "{settings} {args:?}: {}", got.stderr);
        }
        let told = with(dir, settings, &[], &["man"]).stderr;
        assert!(told.contains("settings left aside: ") && told.contains(place), "{told}");
        let got = with(dir, settings, &[], &["doctor", "--json"]);
        let check = got.json().into_iter().find(|check| check["name"] == "settings").unwrap();
        let detail = check["detail"].as_str().unwrap();
        assert!(got.code == 2 && check["ok"] == false && got.json().len() > 4, "{}", got.stdout);
        let named = detail.contains(".settings.toml, line") && detail.contains(place);
        assert!(named && detail.contains("put it right"), "{detail}");
        let got = with(dir, settings, &[], &["status"]);
        assert!(got.code == 2 && got.stderr.contains(place), "{}", got.stderr);
    }
    // Neither does what is wrong in the environment keep the doctor from looking.
    let got = with(dir, "", &[("LATEWOOD_DEVICE", "abacus")], &["doctor"]);
    assert!(got.code == 2 && got.stdout.contains("LATEWOOD_DEVICE: invalid value 'abacus'"), "{}", got.stdout);
    assert!(got.stdout.contains("loaded in"), "{}", got.stdout);
}

#[test]
fn variables_say_yes_and_no_in_many_words_and_nothing_when_they_are_empty() {
    let dir = documents();
    let dir = dir.path();
    assert_eq!(run(dir, &["index"]).code, 0);
    let search = |value: &str| with(dir, "", &[("LATEWOOD_JSON", value)], &["search", "bees", "-k", "1"]);
    for value in ["true", "1", "yes", "On", "TRUE"] {
        assert_eq!(search(value).json().len(), 1, "{value}");
    }
    for value in ["false", "0", "No", "off", ""] {
        assert!(search(value).stdout.starts_with("1. guide/bees.html"), "{value}: {}", search(value).stderr);
    }
    let wrong = search("maybe");
    let parts = ["LATEWOOD_JSON: invalid value 'maybe'", "true, 1, yes or on, or false, 0, no or off"];
    assert!(wrong.code == 2 && parts.iter().all(|part| wrong.stderr.contains(part)), "{}", wrong.stderr);
    let empty = [("LATEWOOD_MODE", ""), ("LATEWOOD_K", ""), ("LATEWOOD_INDEX", ""), ("LATEWOOD_ADDR", "")];
    let got = with(dir, "k = 2", &empty, &["search", "bees", "--json"]);
    assert_eq!((got.code, got.json().len()), (0, 2), "{}", got.stderr);
    assert!(with(dir, "", &empty, &["serve", "--help"]).stdout.contains("127.0.0.1:8765"));
    let wrong = with(dir, "", &[("LATEWOOD_K", "many")], &["search", "bees"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("LATEWOOD_K: invalid value 'many'"), "{}", wrong.stderr);
}

#[test]
fn flags_that_are_settled_are_taken_back() {
    let dir = documents();
    let dir = dir.path();
    assert_eq!(run(dir, &["index"]).code, 0);
    let json = |variables: &[(&str, &str)], more: &[&str]| {
        let got = with(dir, "json = true", variables, &[&["search", "bees"], more].concat());
        assert_eq!(got.code, 0, "{more:?}: {}", got.stderr);
        got.stdout.starts_with('{')
    };
    assert!(json(&[], &[]) && json(&[], &["--json=yes"]) && json(&[], &["--json=false", "--json"]));
    assert!(!json(&[], &["--json=false"]) && !json(&[], &["--json", "--json=0"]));
    assert!(!json(&[("LATEWOOD_JSON", "0")], &[]) && json(&[("LATEWOOD_JSON", "0")], &["--json"]));
    // What is taken back goes together with everything, and so does what was never typed.
    assert!(!json(&[], &["-l"]) && !json(&[("LATEWOOD_JSON", "1")], &["-l", "--json=false"]));
    let search = |more: &[&str]| with(dir, "explain = true", &[], &[&["search", "crazed glaze"], more].concat());
    assert!(search(&[]).stdout.contains(" \u{2192} ") && !search(&["--explain=off"]).stdout.contains(" \u{2192} "));
    let wrong = search(&["--explain=perhaps"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("invalid value 'perhaps' for '--explain'"), "{}", wrong.stderr);
    assert!(!run(dir, &["search", "--help"]).stdout.contains("[="));
}

#[test]
fn folders_of_the_file_may_be_at_home() {
    let (home, dir) = (documents(), tempfile::tempdir().unwrap());
    let home_is = [("HOME", home.path().to_str().unwrap()), ("USERPROFILE", home.path().to_str().unwrap())];
    let settings = "index = \"~/.index\"\n[indexes]\nguide = \"~/guide\"\n";
    let got = with(dir.path(), settings, &home_is, &["index", "@guide"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(home.path().join(".index/manifest.lw").is_file() && !dir.path().join("~").exists());
    // What is typed is the shell's.
    let got = with(dir.path(), "", &home_is, &["model", "check", "~/here"]);
    assert!(got.stderr.contains("~/here"), "{}", got.stderr);
    let got = with(dir.path(), "model = \"~/nowhere\"", &home_is, &["search", "bees"]);
    assert!(got.stderr.contains(home.path().join("nowhere").to_str().unwrap()), "{}", got.stderr);
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

/// `latewood index --watch` under way, and what it says; ended when dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut command = latewood();
        command.current_dir(dir).args(["index", "--watch"]).args(more);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Waits for a line that holds `part`; gives those before it.
    fn expect(&self, part: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            // Long, as other tests may have the processor: what comes in time comes at once.
            let line = self.lines.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|_| panic!("{part} did not come: {before:?}"));
            if line.contains(part) {
                return before;
            }
            before.push(line);
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_watched_folder_is_indexed_as_it_changes() {
    let dir = documents();
    let watching = Watching::start(dir.path(), &[]);
    watching.expect("watching ");
    fs::write(dir.path().join("otters.md"), "# Otters\n\nOtters hold hands while they sleep.\n").unwrap();
    watching.expect("1 added");
    let found = run(dir.path(), &["search", "otters sleeping", "-l", "--no-refresh", "-k", "1"]);
    assert_eq!(found.stdout, "otters.md\n");
    fs::remove_file(dir.path().join("notes.txt")).unwrap();
    watching.expect("1 removed");
    drop(watching);
    assert_eq!(run(dir.path(), &["verify"]).code, 0);
}

/// As a drive that is taken out and put in again; elsewhere a folder with open files cannot be moved.
#[cfg(unix)]
#[test]
fn a_watched_folder_that_goes_away_is_waited_for() {
    for is_inside in [true, false] {
        let (top, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, away) = (top.path().join("folder"), top.path().join("away"));
        let index = if is_inside { away.join(".latewood") } else { elsewhere.path().join("index") };
        common::copy(&common::repository().join("tests/documents"), &folder);
        let more = if is_inside { Vec::new() } else { vec![".", "--index", index.to_str().unwrap()] };
        let watching = Watching::start(&folder, &more);
        watching.expect("watching ");
        for is_mount in [false, true] {
            fs::rename(&folder, &away).unwrap();
            if is_mount {
                fs::create_dir(&folder).unwrap();
            }
            let said = watching.expect("is not there, or empty");
            assert!(!said.iter().any(|line| line.contains("files: ")), "{said:?}");
            thread::sleep(Duration::from_millis(2500));
            let found = run(
                elsewhere.path(),
                &["search", "night train", "--index", index.to_str().unwrap(), "-l", "--no-refresh"],
            );
            assert_eq!(found.stdout.lines().next(), Some("notes.txt"), "{}", found.stderr);
            let new = away.join(format!("otters-{is_mount}.md"));
            fs::write(new, format!("# Otters\n\nOtters hold hands while they sleep, {is_mount}.\n")).unwrap();
            if is_mount {
                fs::remove_dir(&folder).unwrap();
            }
            fs::rename(&away, &folder).unwrap();
            assert_eq!(watching.expect("is there again"), Vec::<String>::new(), "said once");
            let said = watching.expect("1 added");
            assert!(!said.iter().any(|line| line.contains("removed")), "{said:?}");
        }
        fs::write(folder.join("weir.md"), "# Weirs\n\nA weir raises the level of a river.\n").unwrap();
        watching.expect("1 added");
    }
}
