//! Search against the exact oracle.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use common::{Collection, DIM, collection};
use latewood_engine::exact::ExactSearch;
use latewood_engine::{
    DocId, Hit, Index, IndexOptions, Prefilter, QueryEmbeddings, RamDirectory, SearchParams, TokenEmbeddings,
};
use roaring::RoaringTreemap;

fn build(from: &Collection, bits: u32) -> Index {
    build_with(from, IndexOptions::new(DIM).bits(bits))
}

fn build_with(from: &Collection, options: IndexOptions) -> Index {
    let index = Index::create(RamDirectory::new(), options).unwrap();
    let mut writer = index.writer().unwrap();
    for (id, doc) in &from.docs {
        writer.add(*id, doc.view()).unwrap();
    }
    writer.commit(None, &()).unwrap();
    index
}

fn exact(from: &Collection, k: usize, keep: impl Fn(DocId) -> bool) -> Vec<Vec<Hit>> {
    let mut search = ExactSearch::new(&from.queries, k).unwrap();
    let docs: Vec<_> = from.docs.iter().filter(|(id, _)| keep(*id)).map(|(id, doc)| (*id, doc.view())).collect();
    docs.chunks(100).for_each(|chunk| search.add(chunk).unwrap());
    search.finish()
}

fn recall(found: &[Vec<Hit>], wanted: &[Vec<Hit>]) -> f64 {
    let shared = |a: &Vec<Hit>, b: &Vec<Hit>| b.iter().filter(|w| a.iter().any(|f| f.doc == w.doc)).count();
    let hits: usize = found.iter().zip(wanted).map(|(a, b)| shared(a, b)).sum();
    hits as f64 / wanted.iter().map(Vec::len).sum::<usize>() as f64
}

fn search_all(from: &Collection, index: &Index, params: &SearchParams) -> Vec<Vec<Hit>> {
    let searcher = index.searcher().unwrap();
    from.queries.iter().map(|q| searcher.search(q, params).unwrap().hits).collect()
}

fn without_ids(from: &Collection) -> Collection {
    let plain = |doc: &TokenEmbeddings| TokenEmbeddings::new(doc.view().values().to_vec(), DIM).unwrap();
    let docs = from.docs.iter().map(|(id, doc)| (*id, plain(doc))).collect();
    Collection { docs, queries: from.queries.clone() }
}

#[test]
fn more_bits_find_more_of_the_exact_best() {
    let from = collection(3000, 60, 1);
    recalls_grow(&from);
    recalls_grow(&without_ids(&from));
}

fn recalls_grow(from: &Collection) {
    let wanted = exact(from, 10, |_| true);
    let mut recalls = Vec::new();
    for (bits, least) in [(1, 0.55), (2, 0.75), (4, 0.93)] {
        let index = build(from, bits);
        let params = SearchParams::new(10);
        let got = recall(&search_all(from, &index, &params), &wanted);
        assert!(got >= least, "recall@10 at {bits} bits is {got:.3}, under {least}");
        recalls.push(got);
    }
    assert!(recalls.is_sorted(), "{recalls:?}");
}

/// Whatever the first bits are, fine codes of the documents they choose bring the exact order back.
#[test]
fn fine_codes_are_nearly_exact() {
    let from = collection(3000, 60, 1);
    let wanted = exact(&from, 10, |_| true);
    for (bits, least) in [(1, 0.93), (2, 0.95), (4, 0.98)] {
        let index = build_with(&from, IndexOptions::new(DIM).bits(bits).fine(true));
        let mut params = SearchParams::new(10);
        params.refined = Some(100);
        let got = search_all(&from, &index, &params);
        let found = recall(&got, &wanted);
        assert!(found >= least, "recall@10 at {bits} bits and fine codes is {found:.3}");
        let exact_scores = exact(&from, from.docs.len(), |_| true);
        for (got, exact) in got.iter().zip(&exact_scores) {
            for hit in got {
                let score = exact.iter().find(|e| e.doc == hit.doc).unwrap().score;
                let off = if bits == 4 { 0.02 } else { 0.2 };
                assert!((hit.score - score).abs() < off, "{bits} bits: {} and {score}", hit.score);
            }
        }
        params.refined = Some(0);
        let coarse = recall(&search_all(&from, &index, &params), &wanted);
        assert!(coarse < found || found == 1.0, "{bits} bits: {coarse:.3} without fine codes, {found:.3} with them");
    }
}

#[test]
fn scores_are_near_the_exact_ones() {
    let from = collection(300, 20, 2);
    let index = build(&from, 4);
    for (found, wanted) in search_all(&from, &index, &SearchParams::new(300)).iter().zip(exact(&from, 300, |_| true)) {
        assert_eq!(found.len(), 300);
        for hit in found {
            let want = wanted.iter().find(|w| w.doc == hit.doc).unwrap().score;
            assert!((hit.score - want).abs() < 0.05 * want.abs() + 0.1, "{} and {want}", hit.score);
        }
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn a_selective_filter_loses_nothing() {
    let from = collection(3000, 30, 3);
    let index = build(&from, 4);
    let kept = |id: DocId| id.0.is_multiple_of(97);
    let only: RoaringTreemap = (0..3000).filter(|&id| kept(DocId(id))).collect();
    let except: RoaringTreemap = (0..3000).filter(|&id| !kept(DocId(id))).collect();
    let wanted = exact(&from, 10, kept);
    let mut params = SearchParams::new(10);
    params.probes = 1;
    params.filter = Prefilter::Only(only);
    let found = search_all(&from, &index, &params);
    assert!(found.iter().flatten().all(|hit| kept(hit.doc)));
    assert!(recall(&found, &wanted) >= 0.95);
    params.filter = Prefilter::Except(except);
    assert_eq!(found, search_all(&from, &index, &params), "the same set said the other way round");
    params.filter = Prefilter::Only(RoaringTreemap::new());
    assert!(search_all(&from, &index, &params).iter().all(Vec::is_empty));
}

#[test]
fn the_same_input_gives_the_same_index_and_hits() {
    let from = collection(500, 10, 4);
    let (a, b) = (build(&from, 4), build(&from, 4));
    for name in a.directory().list().unwrap() {
        assert_eq!(*a.directory().open(&name).unwrap(), *b.directory().open(&name).unwrap(), "{name}");
    }
    let params = SearchParams::new(10);
    assert_eq!(search_all(&from, &a, &params), search_all(&from, &b, &params));
}

/// The codec's file, which is written first.
fn codec(index: &Index) -> Vec<u8> {
    index.directory().open("codec-000001.lwc").unwrap().to_vec()
}

#[test]
fn ids_count_where_all_rows_have_them() {
    let from = collection(300, 1, 6);
    let plain = without_ids(&from);
    let mut mixed = from.clone();
    mixed.docs[7] = plain.docs[7].clone();
    let (aware, plain, mixed) = (codec(&build(&from, 4)), codec(&build(&plain, 4)), codec(&build(&mixed, 4)));
    assert!(aware != plain && mixed == plain);
}

/// 720 documents of 100 rows of 512 dimensions, which each starts with a row of its own.
fn large() -> Vec<TokenEmbeddings> {
    const WIDE: usize = 512;
    let row = |seed: u64| {
        let value = |d: usize| ((seed * 7919 + d as u64 * 104_729) % 1_000_003).wrapping_mul(31_337) % 2001;
        let row: Vec<f32> = (0..WIDE).map(|d| value(d) as f32 - 1000.0).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(move |x| x / norm)
    };
    let doc = |id: u64| (0..100).flat_map(move |at| row(if at == 0 { 1000 + id } else { at + id % 10 })).collect();
    (0..720).map(|id| TokenEmbeddings::new(doc(id), WIDE).unwrap()).collect()
}

#[test]
fn less_memory_gives_smaller_shards_that_find_the_same() {
    let docs = large();
    let build = |memory: Option<usize>| {
        let index = Index::create(RamDirectory::new(), IndexOptions::new(512).fine(true)).unwrap();
        let mut writer = index.writer().unwrap();
        if let Some(bytes) = memory {
            writer.limit_memory(bytes).unwrap();
        }
        docs.iter().zip(0..).for_each(|(doc, id)| writer.add(DocId(id), doc.view()).unwrap());
        writer.commit(None, &()).unwrap();
        (index, writer)
    };
    let ((usual, _), (small, mut writer)) = (build(None), build(Some(64 << 20)));
    let shards = |index: &Index| index.searcher().unwrap().info().shards;
    assert_eq!(shards(&usual).len(), 1);
    assert!(shards(&small).len() > 1);
    // Less is sampled: there are fewer centroids.
    assert!(shards(&small)[0].centroids < shards(&usual)[0].centroids);
    let firsts = |index: &Index| -> Vec<DocId> {
        let searcher = index.searcher().unwrap();
        let query = |doc: &TokenEmbeddings| QueryEmbeddings::new(doc.view().values()[..512].to_vec(), 512).unwrap();
        let found = docs.iter().step_by(30).map(|doc| searcher.search(&query(doc), &SearchParams::new(1)).unwrap());
        found.map(|found| found.hits[0].doc).collect()
    };
    let ids: Vec<DocId> = (0..720).step_by(30).map(DocId).collect();
    assert!(small.verify(&()).is_empty() && firsts(&small) == ids && firsts(&usual) == ids);

    // Nor does compaction make a shard that the budget has no room for, and with more memory it does.
    writer.compact(&()).unwrap();
    assert!(shards(&small).len() > 1);
    writer.limit_memory(1 << 30).unwrap();
    writer.compact(&()).unwrap();
    assert_eq!(shards(&small).len(), 1);
    assert!(small.verify(&()).is_empty() && firsts(&small) == ids);
}

#[test]
fn too_little_memory_is_refused_by_name() {
    let index = Index::create(RamDirectory::new(), IndexOptions::new(8)).unwrap();
    let text = index.writer().unwrap().limit_memory(1 << 20).unwrap_err().to_string();
    assert!(text.contains("memory = 1048576 bytes") && text.contains("64 MiB"), "{text}");
}

#[test]
fn smaller_budgets_still_find_the_best() {
    let from = collection(3000, 40, 5);
    let index = build(&from, 4);
    let wanted = exact(&from, 1, |_| true);
    let mut params = SearchParams::new(1);
    params.rescored = 100;
    params.probes = 4;
    let searcher = index.searcher().unwrap();
    for query in &from.queries {
        let result = searcher.search(query, &params).unwrap();
        assert!(result.rescored <= 100 && !result.exact_among_candidates);
        assert!(result.candidates > 100);
    }
    assert!(recall(&search_all(&from, &index, &params), &wanted) >= 0.85);
}
