//! Readers beside a writer: each searcher sees one commit whole, for as long as it is kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/versions.rs"]
mod versions;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use latewood_engine::{Index, IndexOptions, MmapDirectory, Searcher};
use versions::Change::{self, Add, Delete};
use versions::{DIM, Docs, VERSIONS, after, commit, found, number};

const READERS: usize = 8;
const COMMITS: u64 = 1000;
/// The writer waits for a reader that is this many commits behind: none sleeps through it all on a fast disk.
const BEHIND: u64 = 3;

/// What commit `number` changes in `docs`. Each brings a document, takes an old one away, and gives one of eight
/// others its next version, so no two commits look the same. Now and then many documents come, and go again: shards
/// of mostly deleted documents, a codec outgrown. Four times all go.
fn changes(number: u64, docs: &Docs) -> Vec<Change> {
    if number.is_multiple_of(COMMITS / 4) {
        return docs.keys().map(|&id| Delete(id)).collect();
    }
    let mut changes = vec![
        Add(number, number % VERSIONS),
        Delete(number.saturating_sub(30)),
        Add(10_000 + number % 8, number / 8 % VERSIONS),
    ];
    match number % 50 {
        20 => changes.extend((20_000..20_080).map(|id| Add(id, id % VERSIONS))),
        40 => changes.extend((20_000..20_080).map(Delete)),
        _ => {}
    }
    changes
}

/// Which commit a searcher sees; it must see all of it and nothing else.
fn check(searcher: &Searcher, commits: &[Docs]) -> u64 {
    let number = number(searcher);
    assert_eq!(searcher.info().generation, number);
    assert_eq!(found(searcher), commits[number as usize], "commit {number}");
    number
}

/// Opens searchers as long as there is a writer, and keeps the first and one of a while ago. Tells the newest commit
/// it has seen.
fn read(path: &Path, commits: &[Docs], newest: &AtomicU64, writing: &Weak<()>) {
    // A handle of its own, as another process would have.
    let index = Index::open(MmapDirectory::open(path).unwrap()).unwrap();
    let first = index.searcher().unwrap();
    let (start, mut pinned) = (check(&first, commits), first.clone());
    for round in 0u64.. {
        let over = writing.strong_count() == 0;
        let searcher = index.searcher().unwrap();
        let now = check(&searcher, commits);
        let before = newest.swap(now, Ordering::Relaxed);
        assert!(before <= now, "commit {now} was seen after {before}");
        if over {
            break;
        }
        if round.is_multiple_of(16) {
            check(&pinned, commits);
            pinned = searcher;
        }
    }
    assert_eq!(check(&first, commits), start);
}

#[test]
fn readers_see_whole_commits_while_a_writer_makes_a_thousand() {
    let mut commits = vec![Docs::new()];
    for number in 1..=COMMITS {
        let last = &commits[number as usize - 1];
        commits.push(after(last, &changes(number, last)));
    }
    // In memory where there is such a file system: how long a disk takes to be durable is not what is tested.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let options = IndexOptions::new(DIM).payload(0u64.to_le_bytes().into());
    let index = Index::create(MmapDirectory::create(dir.path()).unwrap(), options).unwrap();

    let newest: [AtomicU64; READERS] = Default::default();
    let writing = Arc::new(());
    thread::scope(|scope| {
        let reader = |newest| {
            let (path, commits, writing) = (dir.path(), &commits, Arc::downgrade(&writing));
            scope.spawn(move || read(path, commits, newest, &writing))
        };
        let readers: Vec<_> = newest.iter().map(reader).collect();
        // Gone with the writer, also where it fails: the readers then end, and the test with them.
        let _writing = writing;
        let mut writer = index.writer().unwrap();
        for (number, docs) in (1..=COMMITS).zip(&commits) {
            commit(&mut writer, &changes(number, docs), number).unwrap();
            while newest.iter().any(|newest| newest.load(Ordering::Relaxed) + BEHIND < number) {
                assert!(!readers.iter().any(|reader| reader.is_finished()), "a reader has failed");
                thread::yield_now();
            }
        }
    });
    assert_eq!(newest.map(AtomicU64::into_inner), [COMMITS; READERS], "what is committed is seen");
}
