//! What else a searcher can be asked: other people's candidates, many queries, why, and everything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Collection, DIM, collection};
use latewood_engine::exact::ExactSearch;
use latewood_engine::{DocId, Index, IndexOptions, Prefilter, QueryEmbeddings, RamDirectory, SearchParams};

/// An index of several shards with some documents deleted.
fn build(from: &Collection, options: IndexOptions) -> Index {
    let index = Index::create(RamDirectory::new(), options).unwrap();
    let mut writer = index.writer().unwrap();
    for docs in from.docs.chunks(from.docs.len() / 3) {
        docs.iter().for_each(|(id, doc)| writer.add(*id, doc.view()).unwrap());
        writer.commit(None, &()).unwrap();
    }
    for (id, _) in from.docs.iter().step_by(7) {
        writer.delete(*id);
    }
    writer.commit(None, &()).unwrap();
    index
}

#[test]
fn reranking_scores_the_given_documents_and_no_others() {
    let from = collection(600, 5, 11);
    let searcher = build(&from, IndexOptions::new(DIM)).searcher().unwrap();
    let params = SearchParams::new(1000);
    // Unknown, deleted and repeated ids are left out.
    let given: Vec<DocId> = [3, 10, 10, 500, 7, 123_456, 20].map(DocId).to_vec();
    for query in &from.queries {
        let found = searcher.rerank(query, &given, &params).unwrap();
        let mut ids: Vec<u64> = found.hits.iter().map(|hit| hit.doc.0).collect();
        assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score) && found.exact_among_candidates);
        ids.sort_unstable();
        assert_eq!(ids, [3, 10, 20, 500]);
        let all = searcher.search(query, &params).unwrap();
        for hit in &found.hits {
            assert!(all.hits.contains(hit), "the score of a search: {hit:?}");
        }
        let mut filtered = params.clone();
        filtered.filter = Prefilter::Except([10, 20].into_iter().collect());
        assert_eq!(searcher.rerank(query, &given, &filtered).unwrap().hits.len(), 2);
    }
}

#[test]
fn a_batch_answers_as_its_queries_alone() {
    let from = collection(600, 20, 12);
    let searcher = build(&from, IndexOptions::new(DIM).bits(2)).searcher().unwrap();
    let params = SearchParams::new(5);
    let batch = searcher.search_batch(&from.queries, &params).unwrap();
    for (query, got) in from.queries.iter().zip(batch) {
        assert_eq!(searcher.search(query, &params).unwrap().hits, got.hits);
    }
}

#[test]
fn an_explanation_names_the_best_token_of_each_row() {
    let from = collection(300, 5, 13);
    let searcher = build(&from, IndexOptions::new(DIM).fine(true)).searcher().unwrap();
    for query in &from.queries {
        let hit = searcher.search(query, &SearchParams::new(1)).unwrap().hits[0];
        let why = searcher.explain(query, hit.doc).unwrap().unwrap();
        assert_eq!(why.len(), query.len());
        let sum: f32 = why.iter().map(|a| a.score).sum();
        assert!((sum - hit.score).abs() < 1e-2, "{sum} and {}", hit.score);
        let (_, doc) = &from.docs[hit.doc.0 as usize];
        for (row, alignment) in query.values().chunks_exact(DIM).zip(&why) {
            let dots = doc.view().values().chunks_exact(DIM).map(|t| t.iter().zip(row).map(|(a, b)| a * b).sum());
            let dots: Vec<f32> = dots.collect();
            let best = dots.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!((dots[alignment.token] - best).abs() < 0.02, "{alignment:?}, {best}");
        }
    }
    assert_eq!(searcher.explain(&from.queries[0], DocId(0)).unwrap(), None, "deleted");
}

/// With budgets far too small, an exhaustive search still finds what an exact one finds among what the index keeps.
#[test]
fn an_exhaustive_search_looks_at_everything() {
    let from = collection(900, 20, 14);
    let searcher = build(&from, IndexOptions::new(DIM)).searcher().unwrap();
    let mut oracle = ExactSearch::new(&from.queries, 5).unwrap();
    for id in searcher.documents() {
        let rows = searcher.embeddings(id).unwrap().unwrap();
        let unit = rows.chunks_exact(DIM).flat_map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(move |x| x / norm)
        });
        let rows = latewood_engine::TokenEmbeddings::new(unit.collect(), DIM).unwrap();
        oracle.add(&[(id, rows.view())]).unwrap();
    }
    let mut params = SearchParams::new(5);
    (params.probes, params.shortlisted, params.rescored, params.exhaustive) = (1, 5, 5, true);
    let mut same = 0;
    for (query, wanted) in from.queries.iter().zip(oracle.finish()) {
        let found = searcher.search(query, &params).unwrap();
        assert!(found.exact_among_candidates && found.candidates == searcher.info().docs());
        assert_eq!(found.rescored, found.candidates);
        same += found.hits.iter().filter(|hit| wanted.iter().any(|w| w.doc == hit.doc)).count();
        for (hit, wanted) in found.hits.iter().zip(&wanted) {
            assert!((hit.score - wanted.score).abs() < 0.03, "{hit:?}, not {wanted:?}");
        }
    }
    assert!(same >= 98, "{same} of 100");
}

/// A row's norm is its weight, whatever it is: a heavy one decides, a vanishing one says nothing.
#[test]
fn query_rows_may_weigh_anything() {
    let from = collection(3000, 5, 15);
    let searcher = build(&from, IndexOptions::new(DIM)).searcher().unwrap();
    let mut params = SearchParams::new(5);
    (params.probes, params.shortlisted, params.rescored) = (4, 200, 100);
    for query in &from.queries {
        let wanted = searcher.search(query, &params).unwrap().hits;
        for weight in [1e5f32, 1e-5, 1e-20, 1e-35, 1e-37, 1e-40, 0.0] {
            let scaled = query.values().iter().map(|x| x * weight).collect();
            let found = searcher.search(&QueryEmbeddings::new(scaled, DIM).unwrap(), &params).unwrap().hits;
            assert!(found.iter().all(|hit| hit.score.is_finite()) && found.len() == 5, "{weight}: {found:?}");
            if weight >= 1e-5 {
                assert_eq!(found[0].doc, wanted[0].doc, "{weight}");
            }
        }
    }
}
