//! Walks over folders made for the purpose.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use latewood_ingest::{Error, SkipReason, Walk, WalkOptions, walk};

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn paths(found: &Walk) -> Vec<&str> {
    found.files.iter().map(|entry| entry.path.as_str()).collect()
}

fn reason<'a>(found: &'a Walk, path: &str) -> Option<&'a SkipReason> {
    found.skipped.iter().find(|skipped| skipped.path == path).map(|skipped| &skipped.reason)
}

#[test]
fn ignore_rules_hold_at_every_level_and_outside_of_git() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, ".gitignore", "*.tmp\n/build/\n");
    write(root, "a.md", "a");
    write(root, "a.tmp", "a");
    write(root, "build/out.txt", "a");
    write(root, "sub/.gitignore", "!keep.tmp\nsecret/\n");
    write(root, "sub/keep.tmp", "a");
    write(root, "sub/drop.tmp", "a");
    write(root, "sub/secret/x.md", "a");
    write(root, "sub/build/b.txt", "a");
    write(root, "other/.ignore", "x.txt\n");
    write(root, "other/x.txt", "a");
    write(root, "other/y.txt", "a");
    write(root, "other/.latewoodignore", "z.txt\n!x.txt\n");
    write(root, "other/z.txt", "a");
    let found = walk(root, &WalkOptions::default()).unwrap();
    assert_eq!(paths(&found), ["a.md", "other/x.txt", "other/y.txt", "sub/build/b.txt", "sub/keep.tmp"]);
    assert_eq!(found.skipped, []);
    assert!(found.files.iter().all(|entry| entry.size == 1 && entry.modified_ns > 0));
}

#[test]
fn a_repository_rules_its_subfolders_and_other_folders_above_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, ".gitignore", "*\n");
    write(root, "repo/.git/info/exclude", "private.md\n");
    write(root, "repo/.gitignore", "*.log\n");
    write(root, "repo/docs/a.md", "a");
    write(root, "repo/docs/a.log", "a");
    write(root, "repo/docs/private.md", "a");
    write(root, "loose/a.log", "a");
    let options = WalkOptions::default();
    assert_eq!(paths(&walk(&root.join("repo"), &options).unwrap()), ["docs/a.md"]);
    assert_eq!(paths(&walk(&root.join("repo/docs"), &options).unwrap()), ["a.md"]);
    assert_eq!(paths(&walk(&root.join("loose"), &options).unwrap()), ["a.log"]);
}

#[test]
fn hidden_files_only_on_request_and_our_own_never() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, ".hidden.md", "a");
    write(root, ".config/x.toml", "a");
    write(root, ".latewood/index", "a");
    write(root, "sub/.latewood/index", "a");
    write(root, ".git/HEAD", "a");
    write(root, "b.md", "a");
    assert_eq!(paths(&walk(root, &WalkOptions::default()).unwrap()), ["b.md"]);
    let hidden = WalkOptions { hidden: true, ..WalkOptions::default() };
    let found = walk(root, &hidden).unwrap();
    assert_eq!(paths(&found), [".config/x.toml", ".hidden.md", "b.md"]);
}

#[test]
fn what_is_left_out_is_listed_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "big.txt", "0123456789");
    write(root, "empty.md", "");
    write(root, "paper.pdf", "%PDF-1.4");
    write(root, "Cargo.lock", "version = 4");
    write(root, "z.txt", "ok");
    let options = WalkOptions { max_file_bytes: 9, ..WalkOptions::default() };
    let found = walk(root, &options).unwrap();
    assert_eq!(paths(&found), ["z.txt"]);
    let listed: Vec<String> = found.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(
        listed,
        [
            "Cargo.lock: generated: lock file",
            "big.txt: 10 bytes, over the limit of 9",
            "empty.md: holds no text",
            "paper.pdf: not supported without an extractor: PDF",
        ]
    );
}

#[test]
fn a_root_that_is_no_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "file.txt", "a");
    let missing = folder.path().join("missing");
    let error = walk(&missing, &WalkOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Root { path, .. } if *path == missing));
    assert!(error.to_string().contains("missing: cannot read the folder: "), "{error}");
    let file = folder.path().join("file.txt");
    let error = walk(&file, &WalkOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::NotAFolder { path } if *path == file));
}

#[cfg(unix)]
#[test]
fn links_are_listed_or_followed_and_never_the_end() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "real/a.md", "a");
    symlink(root.join("real"), root.join("linked")).unwrap();
    symlink(root.join("nowhere"), root.join("dangling")).unwrap();
    symlink(root, root.join("real/loop")).unwrap();
    let found = walk(root, &WalkOptions::default()).unwrap();
    assert_eq!(paths(&found), ["real/a.md"]);
    assert_eq!(reason(&found, "linked"), Some(&SkipReason::SymbolicLink));
    assert_eq!(reason(&found, "dangling"), Some(&SkipReason::SymbolicLink));
    let follow = WalkOptions { follow_links: true, ..WalkOptions::default() };
    let found = walk(root, &follow).unwrap();
    assert_eq!(paths(&found), ["linked/a.md", "real/a.md"]);
    assert!(matches!(reason(&found, "dangling"), Some(SkipReason::Unreadable(_))));
    assert!(matches!(reason(&found, "real/loop"), Some(SkipReason::Unreadable(_))));
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_skipped() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join(OsStr::from_bytes(b"caf\xe9.md")), "a").unwrap();
    let found = walk(root, &WalkOptions::default()).unwrap();
    assert_eq!(paths(&found), [""; 0]);
    assert_eq!(reason(&found, "caf\u{fffd}.md"), Some(&SkipReason::NotUtf8Name));
}
