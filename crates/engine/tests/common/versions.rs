//! Documents whose version can be found by searching: to tell a whole commit from a mixture of two.

use std::collections::BTreeMap;

use latewood_engine::{DocId, IndexWriter, QueryEmbeddings, Result, SearchParams, Searcher, TokenEmbeddings};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const DIM: usize = 16;
/// Versions that are told apart.
pub(crate) const VERSIONS: u64 = 4;

/// Each document and the version of it that there is.
pub(crate) type Docs = BTreeMap<u64, u64>;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Add(u64, u64),
    Delete(u64),
}

/// What is there after `changes` to `docs`.
pub(crate) fn after(docs: &Docs, changes: &[Change]) -> Docs {
    let mut docs = docs.clone();
    for change in changes {
        match *change {
            Change::Add(id, version) => docs.insert(id, version),
            Change::Delete(id) => docs.remove(&id),
        };
    }
    docs
}

/// Makes the changes and commits them with a number for [`number`].
pub(crate) fn commit(writer: &mut IndexWriter, changes: &[Change], number: u64) -> Result<()> {
    for change in changes {
        match *change {
            Change::Add(id, version) => writer.add(DocId(id), doc(id, version).view())?,
            Change::Delete(id) => _ = writer.delete(DocId(id)),
        }
    }
    writer.commit(Some(&number.to_le_bytes()), &()).map(|_| ())
}

/// Two tokens: one of the document's own within the first half of the dimensions, and the version's within the other.
fn doc(id: u64, version: u64) -> TokenEmbeddings {
    let mut rng = ChaCha8Rng::seed_from_u64(id);
    let own: [f32; DIM / 2] = std::array::from_fn(|_| rng.random_range(-1.0..1.0f32));
    let norm = own.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut rows = vec![0.0; DIM];
    rows.iter_mut().zip(own).for_each(|(row, x)| *row = x / norm);
    rows.extend(marker(version));
    TokenEmbeddings::new(rows, DIM).unwrap()
}

fn marker(version: u64) -> [f32; DIM] {
    let mut row = [0.0; DIM];
    row[DIM / 2 + version as usize] = 1.0;
    row
}

/// What a searcher finds: every document, in one version each.
pub(crate) fn found(searcher: &Searcher) -> Docs {
    let mut docs = Docs::new();
    for version in 0..VERSIONS {
        let query = QueryEmbeddings::new(marker(version).to_vec(), DIM).unwrap();
        let hits = searcher.search(&query, &SearchParams::new(10_000)).unwrap().hits;
        assert_eq!(hits.len(), searcher.info().docs(), "a search for all finds all");
        for hit in hits.iter().filter(|hit| hit.score > 0.5) {
            assert!(searcher.contains(hit.doc));
            let other = docs.insert(hit.doc.0, version);
            assert_eq!(other, None, "document {} is there twice", hit.doc.0);
        }
    }
    assert_eq!(docs.len(), searcher.info().docs(), "every document has a version");
    assert!(!searcher.contains(DocId(u64::MAX)));
    docs
}

/// The number that a commit left as its payload.
pub(crate) fn number(searcher: &Searcher) -> u64 {
    u64::from_le_bytes(searcher.payload().try_into().unwrap())
}
