//! A process killed or a machine without power at any operation: the last commit is there whole, or the one that was
//! being made, and the next writer carries on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/crash_disk.rs"]
mod crash_disk;
#[path = "common/versions.rs"]
mod versions;

use crash_disk::CrashDisk;
use latewood_engine::{Directory, Error, Index, IndexOptions, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use versions::Change::{self, Add, Delete};
use versions::{DIM, Docs, VERSIONS, after, commit, found, number};

/// Losses of power tried at each operation.
const LOSSES: u64 = 6;
/// Places of a second crash tried at each operation.
const SECOND: u64 = 4;

/// A commit that was made: its payload and what is found in it.
#[derive(Debug, Clone, PartialEq, Default)]
struct State {
    number: u64,
    docs: Docs,
}

impl State {
    fn after(&self, changes: &[Change]) -> Self {
        Self { number: self.number + 1, docs: after(&self.docs, changes) }
    }

    /// What is in the index on `disk`, or `None` where there is none.
    fn on(disk: &CrashDisk) -> Result<Option<Self>> {
        match Index::open(disk.clone()).and_then(|index| index.searcher()) {
            Ok(searcher) => Ok(Some(Self { number: number(&searcher), docs: found(&searcher) })),
            Err(Error::NoIndex { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The changes of each commit: small ones that bring about merges, a shard of mostly deleted documents, a codec
/// outgrown, nothing left.
fn commits() -> Vec<Vec<Change>> {
    let mut commits = vec![(0..20).map(|id| Add(id, 0)).collect(), vec![Delete(3), Add(5, 1)]];
    commits.extend((0..9).map(|i| vec![Add(20 + i, i % VERSIONS), Add(i, (i + 1) % VERSIONS), Delete(30 - i)]));
    commits.push(Vec::new());
    commits.push((0..18).map(Delete).collect());
    commits.push((40..120).map(|id| Add(id, id % VERSIONS)).collect());
    commits.push(vec![Add(41, 3), Add(41, 2), Add(200, 1), Delete(200), Delete(42), Add(42, 0)]);
    commits.push((0..120).map(Delete).collect());
    commits.push((0..3).map(|id| Add(id, 2)).collect());
    commits
}

fn create(disk: &CrashDisk) -> Result<Index> {
    Index::create(disk.clone(), IndexOptions::new(DIM).fine(true).payload(0u64.to_le_bytes().into()))
}

/// An index's life: the states it was in, and `Err` where the crash ended it. The last state may not have been reached.
fn live(disk: &CrashDisk, states: &mut Vec<State>, mut committed: impl FnMut()) -> Result<()> {
    states.push(State::default());
    let index = create(disk)?;
    let mut writer = index.writer()?;
    for (at, changes) in commits().iter().enumerate() {
        let next = states[at].after(changes);
        let number = next.number;
        states.push(next);
        if at % 4 == 2 {
            drop(writer);
            writer = index.writer()?;
            if at == 10 {
                writer.merge_apart();
            }
        }
        commit(&mut writer, changes, number)?;
        // What is made here is published by the next commit.
        for mut merge in writer.due_merges()? {
            merge.run(&())?;
            assert!(writer.finish_merge(merge));
        }
        committed();
    }
    Ok(())
}

/// A commit on top of what is on `disk`: the state that it leads to.
fn carry_on(disk: &CrashDisk) -> (State, Result<()>) {
    let before = State::on(disk).unwrap();
    let changes = [Add(7, 3), Add(500, 1), Delete(40)];
    let after = before.as_ref().unwrap_or(&State::default()).after(&changes);
    let index = if before.is_some() { Index::open(disk.clone()) } else { create(disk) };
    let done = index.and_then(|index| commit(&mut index.writer()?, &changes, after.number));
    (after, done)
}

#[test]
fn a_crash_at_any_operation_leaves_a_whole_commit() {
    for operation in 0.. {
        let disk = CrashDisk::new(operation);
        let mut states = Vec::new();
        let ended = live(&disk, &mut states, || ());
        // What was being made, and what stood before it: none while the index itself was being made.
        let new = states.pop().unwrap();
        let old = states.pop();
        let allowed = |found: &Result<Option<State>>| match (found, &ended) {
            (Ok(found), Ok(())) => found.as_ref() == Some(&new),
            (Ok(found), Err(_)) => *found == old || found.as_ref() == Some(&new),
            (Err(_), _) => false,
        };
        for seed in 0..LOSSES {
            let disk = disk.lose_power(seed);
            let found = State::on(&disk);
            assert!(allowed(&found), "operation {operation}, loss {seed}: {found:#?}, not {old:#?} or {new:#?}");
            let (after, done) = carry_on(&disk);
            done.unwrap();
            assert_eq!(State::on(&disk).unwrap().as_ref(), Some(&after), "operation {operation}, loss {seed}");
            assert_tidy(&disk);
        }

        // The process alone is killed: the next one sees all it did, of which power lost later may take some away.
        for seed in 0..SECOND {
            let more = ChaCha8Rng::seed_from_u64(operation * SECOND + seed).random_range(0..100);
            let disk = disk.kill(more);
            let (after, done) = carry_on(&disk);
            for seed in 0..LOSSES {
                let found = State::on(&disk.lose_power(seed));
                let carried = found.as_ref().is_ok_and(|found| found.as_ref() == Some(&after));
                let good = carried || done.is_err() && allowed(&found);
                assert!(good, "operation {operation}, {more} more, loss {seed}: {found:#?} after {old:#?}, {new:#?}");
            }
        }
        if ended.is_ok() {
            assert!(operation > 500, "only {operation} operations were tried");
            return;
        }
    }
}

/// What no commit names is gone.
fn assert_tidy(disk: &CrashDisk) {
    let shards = Index::open(disk.clone()).unwrap().searcher().unwrap().info().shards;
    let names = disk.list().unwrap();
    let shard_files = names.iter().filter(|name| name.ends_with(".lws"));
    assert!(shard_files.eq(shards.iter().map(|shard| &shard.file)), "{names:?}");
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn the_life_has_merges_and_a_new_codec() {
    let disk = CrashDisk::new(u64::MAX);
    let mut listings: Vec<(Vec<String>, usize)> = Vec::new();
    live(&disk, &mut Vec::new(), || {
        let (codecs, others): (Vec<_>, Vec<_>) = disk.list().unwrap().into_iter().partition(|n| n.ends_with(".lwc"));
        listings.push((codecs, others.iter().filter(|n| n.ends_with(".lws")).count()));
    })
    .unwrap();
    let pairs = || listings.windows(2).map(|pair| (&pair[0], &pair[1]));
    assert!(pairs().any(|(a, b)| a.0 == b.0 && b.1 + 2 < a.1), "several shards became one: {listings:?}");
    let recoded = pairs().any(|(a, b)| a.0 != b.0 && !a.0.is_empty() && !b.0.is_empty());
    assert!(recoded, "a codec took another's place: {listings:?}");
}
