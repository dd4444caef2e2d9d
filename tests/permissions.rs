//! What may not be read or written.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::{documents, latewood, run};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The program, in `dir`, as somebody whom permissions bind: root becomes nobody, and brings the program along to where nobody may
/// go.
fn bound(programs: &Path, dir: &Path) -> Command {
    let program = programs.join("latewood");
    let mut command = latewood();
    if rustix::process::geteuid().is_root() {
        if !program.exists() {
            fs::copy(env!("CARGO_BIN_EXE_latewood"), &program).unwrap();
        }
        command = Command::new(&program);
        command.env("LATEWOOD_CONFIG", "/dev/null").uid(65534).gid(65534);
    }
    command.current_dir(dir);
    command
}

/// Whoever may read an index and not write it searches what is there.
#[test]
fn an_index_of_somebody_else_is_searched_as_it_is() {
    let (dir, programs) = (documents(), tempfile::tempdir().unwrap());
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    fs::write(dir.path().join("otters.md"), "# Otters\n\nOtters hold hands while they sleep.\n").unwrap();
    let index = dir.path().join(".latewood");
    allow(&index.join("write.lock"), 0o444);
    drop(bound(programs.path(), dir.path()));
    [&index, dir.path(), programs.path()].iter().for_each(|folder| allow(folder, 0o555));
    let search = |more: &[&str]| {
        let mut command = bound(programs.path(), dir.path());
        common::of(command.args(["search", "night train", "--json"]).args(more).output().unwrap())
    };
    let found = search(&[]);
    assert_eq!(found.json()[0]["path"], "notes.txt");
    assert!(
        found.stderr.contains("searching the last commit: ") && found.stderr.contains("write.lock"),
        "{}",
        found.stderr
    );
    assert_eq!(search(&["-q"]).stderr, "");
    // A folder that is new has no last commit.
    let none = search(&["--index", "other"]);
    assert!(none.code == 2 && none.stdout.is_empty(), "{}", none.stderr);
    [&index, dir.path(), programs.path()].iter().for_each(|folder| allow(folder, 0o755));
}

/// What cannot be read today may be readable tomorrow: it is not given up.
#[test]
fn a_folder_that_cannot_be_read_keeps_its_documents() {
    let (dir, programs) = (documents(), tempfile::tempdir().unwrap());
    [dir.path(), programs.path()].iter().for_each(|folder| allow(folder, 0o777));
    let latewood = |args: &[&str]| common::of(bound(programs.path(), dir.path()).args(args).output().unwrap());
    assert_eq!(latewood(&["index"]).code, 0);
    let guide = dir.path().join("guide");
    allow(&guide, 0o000);
    let report = latewood(&["index", "--json"]);
    assert_eq!((&report.json()[0]["removed"], report.code), (&0.into(), 0), "{}{}", report.stdout, report.stderr);
    let found = latewood(&["search", "how hot does the kiln get", "--json"]);
    assert_eq!(found.json()[0]["path"], "guide/kiln.md");
    allow(&guide, 0o755);
    let report = latewood(&["index", "--json"]).json().remove(0);
    assert_eq!((&report["added"], &report["removed"]), (&0.into(), &0.into()), "{report}");
}
