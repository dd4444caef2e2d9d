//! A backend written outside of the engine, with nothing but what the engine offers to everyone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{DIM, collection};
use latewood_engine::{
    Backend, CpuBackend, DocId, Index, IndexOptions, Plan, Prefilter, QueryEmbeddings, RamDirectory, Ranked, Ranking,
    Result, SearchParams, Searchable,
};

/// Decodes every document that may be found and scores it in floats.
#[derive(Debug)]
struct Plain {
    cpu: CpuBackend,
}

impl Backend for Plain {
    fn name(&self) -> String {
        "plain".into()
    }

    fn cpu(&self) -> &CpuBackend {
        &self.cpu
    }

    fn searches(&self) -> bool {
        true
    }

    fn search(
        &self,
        shards: &[Searchable<'_>],
        queries: &[&QueryEmbeddings],
        plan: Plan,
    ) -> Result<Option<Vec<Ranking>>> {
        let rank = |query: &&QueryEmbeddings| {
            let mut best = Vec::new();
            for (shard, searchable) in shards.iter().enumerate() {
                assert_eq!(searchable.docs().count(), searchable.count());
                for doc in searchable.docs() {
                    let tokens = searchable.shard().decode(doc)?;
                    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                    let max = |row: &[f32]| tokens.chunks_exact(DIM).map(|t| dot(row, t)).fold(f32::MIN, f32::max);
                    best.push(Ranked { shard, doc, score: query.values().chunks_exact(DIM).map(max).sum() });
                }
            }
            best.sort_by(|a, b| b.score.total_cmp(&a.score));
            let rescored = best.len();
            best.truncate(plan.keep);
            Ok(Ranking { best, rescored, prune: Duration::ZERO, rescore: Duration::from_micros(7) })
        };
        queries.iter().map(rank).collect::<Result<_>>().map(Some)
    }
}

#[test]
fn searches_run_on_a_backend_from_outside() {
    let from = collection(300, 8, 5);
    for fine in [false, true] {
        let index = Index::create(RamDirectory::new(), IndexOptions::new(DIM).fine(fine)).unwrap();
        let mut writer = index.writer().unwrap();
        for (at, (id, doc)) in from.docs.iter().enumerate() {
            writer.add(*id, doc.view()).unwrap();
            if at % 100 == 99 {
                writer.commit(None, &()).unwrap();
            }
        }
        (0..20).for_each(|id| assert!(writer.delete(DocId(id * 3))));
        writer.commit(None, &()).unwrap();
        let own = index.searcher().unwrap();
        let outside = index.clone().with_backend(Plain { cpu: CpuBackend::new() });
        let outside = outside.searcher().unwrap();
        assert_eq!(outside.backend().name(), "plain");
        let some = (0..300).step_by(2).collect();
        for filter in [Prefilter::None, Prefilter::Only(some)] {
            let mut params = SearchParams::new(10);
            (params.exhaustive, params.filter) = (true, filter);
            let together = outside.search_batch(&from.queries, &params).unwrap();
            for (query, together) in from.queries.iter().zip(together) {
                let (found, expected) = (outside.search(query, &params).unwrap(), own.search(query, &params).unwrap());
                assert_eq!((&found.hits, found.candidates), (&together.hits, expected.candidates));
                assert_eq!(found.rescored, expected.rescored);
                assert_eq!(found.refined > 0, fine);
                assert_eq!(found.timings.rescore, Duration::from_micros(7));
                let near = |a: &latewood_engine::Hit, b: &latewood_engine::Hit| (a.score - b.score).abs() < 0.05;
                assert!(found.hits.iter().zip(&expected.hits).all(|(a, b)| near(a, b)), "{found:?}, {expected:?}");
            }
        }
        // Wrong questions do not get as far.
        let other = QueryEmbeddings::new(vec![1.0; 8], 8).unwrap();
        assert!(outside.search(&other, &SearchParams::new(1)).is_err());
        assert!(outside.search_batch(&[other], &SearchParams::new(1)).is_err());
        assert!(outside.search_batch(&[], &SearchParams::new(1)).unwrap().is_empty());
    }
}
