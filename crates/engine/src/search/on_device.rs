//! A search that a device carries out by itself: what is left here is to say what may be found, and to refine.

use std::time::{Duration, Instant};

use super::rescore::Scored;
use super::shortlist::Candidate;
use super::{Allowed, Hit, SearchParams, SearchResult, Searcher, Timings, refine};
use crate::backend::{EncodedQuery, Plan, Ranking, Searchable};
use crate::embeddings::QueryEmbeddings;
use crate::error::Result;

impl Searcher {
    /// The results for `queries`, or `None` where the processor is to find them.
    pub(super) fn search_on_device(
        &self,
        queries: &[&QueryEmbeddings],
        params: &SearchParams,
    ) -> Result<Option<Vec<SearchResult>>> {
        if !self.backend.searches() || queries.is_empty() {
            return Ok(None);
        }
        let shards = &self.snapshot.shards;
        let allowed: Vec<Allowed> = shards.iter().map(|live| Allowed::new(live, &params.filter)).collect();
        let searchable: Vec<Searchable> =
            shards.iter().zip(&allowed).map(|(live, allowed)| Searchable { shard: &live.shard, allowed }).collect();
        let candidates = allowed.iter().map(Allowed::count).sum();
        let refined = if self.snapshot.manifest.fine { params.refined() } else { 0 };
        let keep = params.k.max(refined);
        let rescored = if params.exhaustive { usize::MAX } else { params.rescored.max(keep) };
        let Some(rankings) = self.backend.search(&searchable, queries, Plan { keep, rescored })? else {
            return Ok(None);
        };
        let finished = queries.iter().zip(rankings).map(|(query, ranking)| {
            let mut result = self.hits(&ranking);
            result.candidates = candidates;
            if refined > 0 {
                let start = Instant::now();
                result.refined = ranking.best.len();
                result.hits = self.refined(query, &ranking, params.k)?;
                result.timings.refine = start.elapsed();
            }
            let all = result.rescored == candidates && (refined == 0 || result.refined == candidates);
            result.exact_among_candidates = all;
            Ok(result)
        });
        finished.collect::<Result<_>>().map(Some)
    }

    fn hits(&self, ranking: &Ranking) -> SearchResult {
        let shards = &self.snapshot.shards;
        let mut hits: Vec<Hit> = ranking
            .best
            .iter()
            .map(|ranked| Hit { doc: shards[ranked.shard].shard.doc_id(ranked.doc), score: ranked.score })
            .collect();
        hits.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.doc.cmp(&b.doc)));
        let timings = Timings {
            centroids: Duration::ZERO,
            gather: Duration::ZERO,
            prune: ranking.prune,
            rescore: ranking.rescore,
            refine: Duration::ZERO,
        };
        let rescored = ranking.rescored;
        SearchResult { hits, candidates: 0, rescored, refined: 0, exact_among_candidates: false, timings }
    }

    fn refined(&self, query: &QueryEmbeddings, ranking: &Ranking, k: usize) -> Result<Vec<Hit>> {
        let (cpu, shards) = (self.backend.cpu(), &self.snapshot.shards);
        let encode = |codec| EncodedQuery::without_centroids(cpu, codec, query);
        let queries = self.snapshot.codecs.iter().map(|(&digest, codec)| (digest, encode(codec))).collect();
        let scored = ranking.best.iter().map(|ranked| {
            let at = Candidate { score: ranked.score, shard: ranked.shard as u32, doc: ranked.doc };
            Scored { hit: Hit { doc: shards[ranked.shard].shard.doc_id(ranked.doc), score: ranked.score }, at }
        });
        refine::refine(cpu, shards, &queries, &scored.collect::<Vec<_>>(), k)
    }
}
