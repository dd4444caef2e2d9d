//! A small index as this version of the format was written when it was new, and what it answered then. Whoever changes the
//! format gives it another version and leaves a folder of that one; an index that was written once is read, or refused
//! with its version named, for ever.
//!
//! `tests/golden/version-2` was made by
//! `cargo test -p latewood-engine --test golden -- --ignored`, which makes no folder that is there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sealed.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod sealed;
#[path = "common/small.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod small;

use std::fs;
use std::path::PathBuf;

use latewood_engine::{
    CpuBackend, DocId, FORMAT_VERSION, Hit, Index, IndexOptions, MmapDirectory, QueryEmbeddings, SearchParams,
    TokenEmbeddings,
};
use latewood_simd::{Isa, Kernels};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use small::{directory, files};

const DIM: usize = 16;
const DOCS: u64 = 20;
const DELETED: u64 = 4;
const PAYLOAD: &[u8] = b"what the caller keeps";

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/version-{version}"))
}

/// Arithmetic that gives the same bits on every machine.
fn scalar() -> CpuBackend {
    CpuBackend::with_kernels(Kernels::for_isa(Isa::Scalar).unwrap())
}

/// Ids that are not positions.
fn id(doc: u64) -> DocId {
    DocId(doc * 3 + 7)
}

fn unit_rows(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let row = |_| {
        let row: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(move |x| x / norm)
    };
    (0..count).flat_map(row).collect()
}

/// Every document scored: what budgets find may change with the version of the engine.
fn all() -> SearchParams {
    SearchParams::new(30)
}

#[test]
#[ignore = "writes the folder of this version, once"]
fn write() {
    let folder = folder(FORMAT_VERSION);
    assert!(!folder.exists(), "{} is there: it is what was written once", folder.display());
    let options = IndexOptions::new(DIM).fine(true).model("golden");
    let index = Index::create(MmapDirectory::create(folder.join("index")).unwrap(), options).unwrap();
    let index = index.with_backend(scalar());
    let mut writer = index.writer().unwrap();
    for docs in [0..12, 12..DOCS] {
        for doc in docs {
            let rows = unit_rows(3 + doc as usize % 4, doc);
            writer.add(id(doc), TokenEmbeddings::new(rows, DIM).unwrap().view()).unwrap();
        }
        writer.commit(Some(PAYLOAD), &()).unwrap();
    }
    writer.delete(id(DELETED));
    writer.commit(None, &()).unwrap();
    drop(writer);
    fs::remove_file(folder.join("index/write.lock")).unwrap();

    let searcher = index.searcher().unwrap();
    let asked: Vec<Value> = (100..103)
        .map(|seed| {
            let rows = unit_rows(3, seed);
            let query = QueryEmbeddings::new(rows.clone(), DIM).unwrap();
            let hits = searcher.search(&query, &all()).unwrap().hits;
            let hits: Vec<Value> = hits.iter().map(|hit| json!([hit.doc.0, hit.score])).collect();
            json!({ "query": rows, "hits": hits })
        })
        .collect();
    // A question a line.
    let lines: Vec<String> = asked.iter().map(Value::to_string).collect();
    fs::write(folder.join("asked.json"), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
}

fn asked() -> Vec<(QueryEmbeddings, Vec<Hit>)> {
    let json: Vec<Value> = serde_json::from_slice(&fs::read(folder(2).join("asked.json")).unwrap()).unwrap();
    let hits = |hits: &Value| -> Vec<Hit> {
        let pairs: Vec<(u64, f32)> = serde_json::from_value(hits.clone()).unwrap();
        pairs.into_iter().map(|(doc, score)| Hit { doc: DocId(doc), score }).collect()
    };
    let question = |asked: &Value| {
        let rows = serde_json::from_value(asked["query"].clone()).unwrap();
        (QueryEmbeddings::new(rows, DIM).unwrap(), hits(&asked["hits"]))
    };
    json.iter().map(question).collect()
}

#[test]
fn version_2_is_read_and_answers_as_it_did() {
    let path = folder(2).join("index");
    let before = files(&MmapDirectory::open(&path).unwrap()).unwrap();
    assert!(before.values().all(|file| file[8..12] == 2u32.to_le_bytes()));

    let index = Index::open(MmapDirectory::open(&path).unwrap()).unwrap();
    assert!(index.verify(&()).is_empty());
    let searcher = index.searcher().unwrap();
    let live: Vec<DocId> = (0..DOCS).filter(|&doc| doc != DELETED).map(id).collect();
    assert_eq!((searcher.documents(), searcher.payload()), (live, PAYLOAD));
    let info = searcher.info();
    assert_eq!((info.dim, info.bits, info.fine, info.model.as_deref()), (DIM, 4, true, Some("golden")));
    assert_eq!(info.shards.iter().map(|s| (s.docs, s.deleted)).collect::<Vec<_>>(), [(12, 1), (8, 0)]);

    let scalar = index.clone().with_backend(scalar()).searcher().unwrap();
    let questions = asked();
    assert_eq!(questions.len(), 3);
    for (query, expected) in questions {
        // The same, but for rounding: with the kernels of this machine, and with those of any.
        let exactly = scalar.search(&query, &all()).unwrap().hits;
        let hits = searcher.search(&query, &all()).unwrap().hits;
        assert_eq!((hits.len(), exactly.len()), (expected.len(), expected.len()));
        for ((hit, exactly), expected) in hits.iter().zip(&exactly).zip(&expected) {
            assert!(hit.doc == expected.doc && (hit.score - expected.score).abs() < 1e-3, "{hit:?}, {expected:?}");
            assert!(hit.doc == exactly.doc && (hit.score - exactly.score).abs() < 1e-4, "{hit:?}, {exactly:?}");
        }
    }
    assert_eq!(files(&MmapDirectory::open(&path).unwrap()).unwrap(), before, "reading wrote something");
}

/// What is kept of each token is near what was given: the scores above are not only the same but right.
#[test]
fn version_2_keeps_what_it_was_given() {
    let searcher = Index::open(MmapDirectory::open(folder(2).join("index")).unwrap()).unwrap().searcher().unwrap();
    for doc in (0..DOCS).filter(|&doc| doc != DELETED) {
        let given = unit_rows(3 + doc as usize % 4, doc);
        let kept = searcher.embeddings(id(doc)).unwrap().unwrap();
        assert_eq!(kept.len(), given.len());
        let furthest = kept.iter().zip(&given).fold(0.0f32, |a, (x, y)| a.max((x - y).abs()));
        assert!(furthest < 0.05, "document {doc}: {furthest}");
    }
}

#[test]
fn version_2_is_written_on() {
    let copy = directory(&files(&MmapDirectory::open(folder(2).join("index")).unwrap()).unwrap());
    let index = Index::open(copy).unwrap();
    let mut writer = index.writer().unwrap();
    writer.add(DocId(1), TokenEmbeddings::new(unit_rows(4, 1000), DIM).unwrap().view()).unwrap();
    assert!(writer.delete(id(0)));
    writer.commit(None, &()).unwrap();
    writer.compact(&()).unwrap();
    assert!(index.verify(&()).is_empty());
    assert_eq!(index.searcher().unwrap().documents().len() as u64, DOCS - 1);
}
