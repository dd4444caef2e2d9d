//! Merges beside the writer, codecs trained ahead, and documents unlike those that a codec was trained on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::thread;

use common::{Collection, DIM, collection};
use latewood_engine::{
    DocId, Error, Hit, Index, IndexOptions, IndexWriter, Progress, RamDirectory, SearchParams, Searcher, Stage,
    TokenEmbeddings, exact,
};

fn empty() -> Index {
    Index::create(RamDirectory::new(), IndexOptions::new(DIM)).unwrap()
}

fn add(writer: &mut IndexWriter, docs: &[(DocId, TokenEmbeddings)]) {
    docs.iter().for_each(|(id, doc)| writer.add(*id, doc.view()).unwrap());
}

/// Everything that is found, with every score.
fn all(searcher: &Searcher, from: &Collection) -> Vec<Vec<Hit>> {
    let search = |query| searcher.search(query, &SearchParams::new(10_000)).unwrap().hits;
    from.queries.iter().map(search).collect()
}

/// An index of many small shards, and its writer, which leaves them so.
fn scattered(from: &Collection) -> (Index, IndexWriter) {
    let index = empty();
    let mut writer = index.writer().unwrap();
    writer.merge_apart();
    add(&mut writer, &from.docs[..100]);
    writer.commit(None, &()).unwrap();
    for docs in from.docs[100..].chunks(10) {
        add(&mut writer, docs);
        writer.commit(None, &()).unwrap();
    }
    (index, writer)
}

#[test]
fn a_merge_runs_beside_commits_and_loses_nothing_of_them() {
    let from = collection(200, 4, 21);
    let (index, mut writer) = scattered(&from);
    let before = index.searcher().unwrap();
    assert_eq!(before.info().shards.len(), 11);
    let mut merges = writer.due_merges().unwrap();
    assert_eq!(merges.len(), 1);
    assert!(writer.due_merges().unwrap().is_empty(), "it is under way");

    // While it runs, documents that it reads are deleted and replaced, and commits tidy up.
    let merged = thread::scope(|scope| {
        let running = scope.spawn(|| merges.iter_mut().try_for_each(|merge| merge.run(&())));
        for id in [101, 104, 115] {
            assert!(writer.delete(DocId(id)));
            writer.commit(None, &()).unwrap();
        }
        writer.add(DocId(102), from.docs[0].1.view()).unwrap();
        writer.commit(None, &()).unwrap();
        running.join().unwrap()
    });
    merged.unwrap();
    assert!(writer.delete(DocId(103)), "and one after it has ended");
    let expected = {
        writer.commit(None, &()).unwrap();
        all(&index.searcher().unwrap(), &from)
    };
    assert!(merges.into_iter().all(|merge| writer.finish_merge(merge)));
    writer.commit(None, &()).unwrap();

    let after = index.searcher().unwrap();
    // Eight have become one, and there is one of the document that was replaced.
    assert_eq!(after.info().shards.len(), 5);
    assert_eq!(all(&after, &from), expected);
    assert_eq!(after.info().docs(), 196);
    assert!(index.verify(&()).is_empty());
    assert_eq!(before.info().docs(), 200, "who reads keeps what was there");
    assert_eq!(all(&before, &from)[0].len(), 200);
}

#[test]
fn a_merge_that_comes_too_late_or_is_dropped_changes_nothing() {
    let from = collection(200, 2, 22);
    let (index, mut writer) = scattered(&from);
    let expected = all(&index.searcher().unwrap(), &from);
    let files = index.directory().list().unwrap();

    drop(writer.due_merges().unwrap());
    let mut merge = writer.due_merges().unwrap().remove(0);
    merge.run(&()).unwrap();
    assert!(index.directory().list().unwrap().len() > files.len());
    writer.compact(&()).unwrap();
    assert!(!writer.finish_merge(merge), "its shards are no more");
    writer.commit(Some(b"tidied up"), &()).unwrap();
    assert_eq!(all(&index.searcher().unwrap(), &from), expected);
    let named = 1 + 1 + index.searcher().unwrap().info().shards.len();
    assert_eq!(index.directory().list().unwrap().len(), named, "a manifest, a codec and shards");

    let (_index, mut writer) = scattered(&from);
    let unfinished = writer.due_merges().unwrap().remove(0);
    assert!(!writer.finish_merge(unfinished), "it has made nothing");
}

#[test]
fn a_codec_trained_ahead_serves_a_build_of_many_parts() {
    let from = collection(400, 20, 23);
    let at_once = empty();
    let mut writer = at_once.writer().unwrap();
    add(&mut writer, &from.docs);
    writer.commit(None, &()).unwrap();
    let expected = all(&at_once.searcher().unwrap(), &from);

    let index = empty();
    let mut writer = index.writer().unwrap();
    let rows: Vec<&[f32]> = from.docs.iter().flat_map(|(_, doc)| doc.view().values().chunks_exact(DIM)).collect();
    let mut sampler = writer.sampler(rows.len() as u64);
    let sample: Vec<f32> = rows.iter().filter(|_| sampler.take()).flat_map(|row| row.iter().copied()).collect();
    writer.train(TokenEmbeddings::new(sample, DIM).unwrap(), rows.len() as u64, &()).unwrap();
    writer.commit(None, &()).unwrap();
    // Each part by a writer of its own, as if the one before had been killed.
    drop(writer);
    for (part, docs) in from.docs.chunks(40).enumerate() {
        let mut writer = index.writer().unwrap();
        add(&mut writer, &from.docs[..5]);
        drop(writer);
        let mut writer = index.writer().unwrap();
        add(&mut writer, docs);
        writer.commit(Some(&[part as u8]), &()).unwrap();
    }
    let searcher = index.searcher().unwrap();
    assert_eq!(searcher.payload(), [9]);
    // The rows pass through f16 in the one case before they are sampled, and not in the other.
    let few = SearchParams::new(10);
    let (found, wanted) = (recall(&searcher, &from, &few), recall(&at_once.searcher().unwrap(), &from, &few));
    assert!(found > wanted - 0.02, "{found} of the exact hits and {wanted} when built at once");
    assert_eq!(all(&searcher, &from)[0].len(), expected[0].len());
    let centroids = |searcher: &Searcher| searcher.info().shards[0].centroids;
    assert_eq!(centroids(&searcher), centroids(&at_once.searcher().unwrap()));
}

/// The share of the exact first 10 that are among the first 10 found.
fn recall(searcher: &Searcher, from: &Collection, params: &SearchParams) -> f64 {
    let mut oracle = exact::ExactSearch::new(&from.queries, 10).unwrap();
    let docs: Vec<_> = from.docs.iter().map(|(id, doc)| (*id, doc.view())).collect();
    oracle.add(&docs).unwrap();
    let mut found = 0;
    for (query, exact) in from.queries.iter().zip(oracle.finish()) {
        let hits = searcher.search(query, params).unwrap().hits;
        found += exact.iter().filter(|hit| hits.iter().any(|other| other.doc == hit.doc)).count();
    }
    found as f64 / (10 * from.queries.len()) as f64
}

fn codecs(index: &Index) -> usize {
    index.directory().list().unwrap().into_iter().filter(|name| name.ends_with(".lwc")).count()
}

/// Documents of `from`, with ids from `first` on.
fn numbered(mut from: Collection, first: u64) -> Collection {
    from.docs.iter_mut().for_each(|(id, _)| id.0 += first);
    from
}

/// Documents of another kind come in commits of their own: they are found as if they had all come at once.
#[test]
fn documents_of_another_kind_get_a_codec_of_their_own() {
    let (old, new) = (collection(300, 0, 24), numbered(collection(400, 30, 25), 1000));
    let index = empty();
    let mut writer = index.writer().unwrap();
    for docs in [&old.docs[..150], &new.docs[..200], &old.docs[150..], &new.docs[200..]] {
        add(&mut writer, docs);
        writer.commit(None, &()).unwrap();
    }
    assert_eq!(codecs(&index), 2, "each kind has one, whichever came last");
    let info = index.searcher().unwrap().info();
    assert_eq!((info.docs(), info.shards.len()), (700, 4));
    let few = SearchParams::new(10);
    let found = recall(&index.searcher().unwrap(), &new, &few);
    assert!(found > 0.9, "{found}");
    assert!(index.verify(&()).is_empty());
}

/// Documents drift into an index by and by, too few at a time to be told from the others.
#[test]
fn drifted_shards_get_a_new_codec_when_they_are_rewritten() {
    let (old, new) = (collection(300, 0, 24), numbered(collection(400, 30, 25), 1000));
    let index = empty();
    let mut writer = index.writer().unwrap();
    writer.merge_apart();
    add(&mut writer, &old.docs);
    writer.commit(None, &()).unwrap();
    for docs in new.docs.chunks(50) {
        add(&mut writer, docs);
        writer.commit(None, &()).unwrap();
    }
    assert_eq!(codecs(&index), 1);
    let mut few = SearchParams::new(10);
    (few.probes, few.shortlisted, few.rescored) = (1, 60, 30);
    let before = index.searcher().unwrap();
    writer.compact(&()).unwrap();
    let after = index.searcher().unwrap();
    assert_eq!((codecs(&index), after.info().shards.len()), (2, 2), "the old documents keep theirs");
    assert_eq!((after.info().docs(), after.info().tokens()), (700, before.info().tokens()));
    let recalls = (recall(&before, &new, &few), recall(&after, &new, &few));
    assert!(recalls.1 > recalls.0 + 0.1, "{recalls:?} of the best were found, before and after");
    assert!(index.verify(&()).is_empty());
    let generation = after.info().generation;
    assert_eq!(writer.compact(&()).unwrap().generation, generation, "what has a codec of its own has not drifted");
}

#[test]
fn documents_of_the_same_kind_have_not_drifted_however_many_come() {
    let from = collection(600, 0, 24);
    let index = empty();
    let mut writer = index.writer().unwrap();
    for docs in [&from.docs[..300], &from.docs[300..]] {
        add(&mut writer, docs);
        writer.commit(None, &()).unwrap();
    }
    writer.compact(&()).unwrap();
    assert_eq!((codecs(&index), index.searcher().unwrap().info().shards.len()), (1, 1));
}

/// Cancels in a stage.
struct Stop(Stage, std::cell::Cell<bool>);

impl Progress for Stop {
    fn report(&self, stage: Stage, _done: u64, _total: u64) {
        self.1.set(self.1.get() || stage == self.0);
    }

    fn cancelled(&self) -> bool {
        self.1.get()
    }
}

#[test]
fn a_cancelled_merge_leaves_the_writer_as_it_was() {
    let from = collection(200, 2, 26);
    let (index, mut writer) = scattered(&from);
    let expected = all(&index.searcher().unwrap(), &from);
    let mut merge = writer.due_merges().unwrap().remove(0);
    let error = merge.run(&Stop(Stage::Merge, false.into())).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(!writer.finish_merge(merge));
    assert_eq!(writer.due_merges().unwrap().len(), 1, "it is due again");
    writer.commit(Some(b""), &()).unwrap();
    assert_eq!(all(&index.searcher().unwrap(), &from), expected);
}
