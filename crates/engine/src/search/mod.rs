//! Search: probe, gather, prune, rescore.
//!
//! The stages are PLAID's (Santhanam et al. 2022, section 4), the second turned round: the query's rows choose centroids
//! ([`probe`]); the documents in their posting lists collect the centroids' scores ([`gather`]); the best of them are
//! ranked by all their tokens' centroids and cut to a budget ([`prune`]); what is left is scored on compressed tokens
//! ([`rescore`]), and the best of those once more with their fine codes, if the index has any ([`refine`]). Candidates few
//! enough to fit the budget skip the first stages, so a selective filter or a small index loses nothing, and every budget
//! is a parameter.

mod allowed;
mod gather;
mod on_device;
mod params;
mod probe;
mod prune;
mod refine;
mod rescore;
mod shortlist;
mod topk;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use roaring::RoaringTreemap;

use crate::backend::{Backend, CentroidScores, EncodedQuery};
use crate::embeddings::QueryEmbeddings;
use crate::error::{Error, Result};
use crate::ids::{DocId, DocOrd};
use crate::index::{IndexInfo, LiveShard, Snapshot};

pub(crate) use allowed::Allowed;
use gather::Accumulators;
pub use params::{Alignment, Hit, Prefilter, SearchParams, SearchResult, Timings};
use shortlist::{Candidate, Shortlist};
pub(crate) use topk::TopK;

/// A query in the space of each codec in use, by the codec's digest.
type Queries = HashMap<u64, EncodedQuery>;

/// Groups of centroids that each row of a query looks into, where centroids are many; more where it probes more.
const LEAST_VISITS: usize = 16;

/// A reader pinned to one commit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Searcher {
    snapshot: Arc<Snapshot>,
    backend: Arc<dyn Backend>,
    /// Memory of finished searches, for the next ones.
    rooms: Arc<Mutex<Vec<Room>>>,
}

/// The large buffers of one search.
#[derive(Debug, Default)]
struct Room {
    centroids: Vec<CentroidScores>,
    accumulators: Accumulators,
}

impl Searcher {
    pub(crate) fn new(snapshot: Snapshot, backend: Arc<dyn Backend>) -> Self {
        Self { snapshot: Arc::new(snapshot), backend, rooms: Arc::default() }
    }

    /// The best documents for `query`.
    ///
    /// # Errors
    /// When the query's dimension is not the index's, a parameter is out of range, or what is read is damaged.
    pub fn search(&self, query: &QueryEmbeddings, params: &SearchParams) -> Result<SearchResult> {
        params.check()?;
        self.check_dim(query)?;
        if let Some(mut found) = self.search_on_device(&[query], params)? {
            return Ok(found.swap_remove(0));
        }
        self.search_on_cpu(query, params)
    }

    fn search_on_cpu(&self, query: &QueryEmbeddings, params: &SearchParams) -> Result<SearchResult> {
        let mut room = self.rooms().pop().unwrap_or_default();
        let mut clock = Clock::start();
        let mut queries = self.encode(query, params, &mut room.centroids);
        let centroids = clock.lap();
        let found = self.find(&mut queries, params, &mut room.accumulators, &mut clock);
        room.centroids.extend(queries.into_values().map(|query| query.centroids));
        self.rooms().push(room);
        let mut found = found?;
        found.timings.centroids = centroids;
        Ok(found)
    }

    /// [`Searcher::search`] for many queries at once, spread over the threads of rayon's current pool.
    ///
    /// # Errors
    /// As [`Searcher::search`], for the first query that fails.
    pub fn search_batch(&self, queries: &[QueryEmbeddings], params: &SearchParams) -> Result<Vec<SearchResult>> {
        params.check()?;
        queries.iter().try_for_each(|query| self.check_dim(query))?;
        if let Some(found) = self.search_on_device(&queries.iter().collect::<Vec<_>>(), params)? {
            return Ok(found);
        }
        queries.par_iter().map(|query| self.search_on_cpu(query, params)).collect()
    }

    /// The best of the documents `ids`, all of which are scored: for candidates from elsewhere, a keyword search for
    /// example. Those that are not in the index or do not pass the filter are left out.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    pub fn rerank(&self, query: &QueryEmbeddings, ids: &[DocId], params: &SearchParams) -> Result<SearchResult> {
        let wanted: RoaringTreemap = match &params.filter {
            Prefilter::None => ids.iter().map(|id| id.0).collect(),
            Prefilter::Only(only) => ids.iter().map(|id| id.0).filter(|&id| only.contains(id)).collect(),
            Prefilter::Except(except) => ids.iter().map(|id| id.0).filter(|&id| !except.contains(id)).collect(),
        };
        let params = SearchParams { filter: Prefilter::Only(wanted), exhaustive: true, ..params.clone() };
        self.search(query, &params)
    }

    /// For each query row, the token of a document that it meets best; `None` if the document is not in the index.
    ///
    /// Tokens are decoded to floats for this, so the scores' sum may differ from the hit's score in the third digit.
    ///
    /// # Errors
    /// When the query's dimension is not the index's, or the document is damaged.
    pub fn explain(&self, query: &QueryEmbeddings, doc: DocId) -> Result<Option<Vec<Alignment>>> {
        self.check_dim(query)?;
        let Some((live, ord)) = self.locate(doc) else { return Ok(None) };
        let tokens = live.shard.decode(ord)?;
        Ok(Some(query.values().chunks_exact(query.dim()).map(|row| Alignment::best(row, &tokens)).collect()))
    }

    /// The tokens of a document as rows `[n, d]` near unit length, as near to what was added as the index keeps them.
    ///
    /// # Errors
    /// When the document is damaged.
    pub fn embeddings(&self, doc: DocId) -> Result<Option<Vec<f32>>> {
        self.locate(doc).map(|(live, ord)| live.shard.decode(ord)).transpose()
    }

    /// The keys of all documents, ascending.
    pub fn documents(&self) -> Vec<DocId> {
        let live = self.snapshot.shards.iter();
        let mut ids: Vec<DocId> = live.flat_map(|live| live.docs().map(|ord| live.shard.doc_id(ord))).collect();
        ids.sort_unstable();
        ids
    }

    /// The stages after the first.
    fn find(
        &self,
        queries: &mut Queries,
        params: &SearchParams,
        accumulators: &mut Accumulators,
        clock: &mut Clock,
    ) -> Result<SearchResult> {
        let (backend, shards) = (self.backend.cpu(), &self.snapshot.shards);
        let (gathered, candidates) = self.candidates(queries, params, accumulators)?;
        let gather = clock.lap();
        let refined = if self.snapshot.manifest.fine { params.refined() } else { 0 };
        let (keep, budget) = (params.k.max(refined), params.rescored.max(params.k).max(refined));
        let budget = if params.exhaustive { usize::MAX } else { budget };
        let ranked = gathered.len() > budget;
        let kept = prune::prune(backend, shards, queries, gathered, budget)?;
        let prune = clock.lap();
        let plan = rescore::Plan { keep, confidence: ranked.then_some(params.confidence) };
        let (scored, rescored) = rescore::rescore(backend, shards, queries, kept, plan)?;
        let rescore = clock.lap();
        let hits = match refined {
            0 => scored.iter().map(|s| s.hit).collect(),
            _ => refine::refine(backend, shards, queries, &scored, params.k)?,
        };
        let timings = Timings { centroids: Duration::ZERO, gather, prune, rescore, refine: clock.lap() };
        let refined = if refined > 0 { scored.len() } else { 0 };
        let exact_among_candidates = rescored == candidates && (refined == 0 || refined == candidates);
        Ok(SearchResult { hits, candidates, rescored, refined, exact_among_candidates, timings })
    }

    /// The shortlist of all shards, and how many documents it was chosen from. Of a shard where no more may be found
    /// than is scored anyway, all.
    fn candidates(
        &self,
        queries: &mut Queries,
        params: &SearchParams,
        accumulators: &mut Accumulators,
    ) -> Result<(Vec<Candidate>, usize)> {
        let rescored = params.rescored.max(params.k);
        let mut shortlist = Shortlist::new(params.shortlisted.max(rescored));
        let (mut all, mut found) = (Vec::new(), 0);
        let mut probed = HashMap::new();
        for (shard, live) in (0u32..).zip(&self.snapshot.shards) {
            let allowed = Allowed::new(live, &params.filter);
            if allowed.count() <= rescored || params.exhaustive {
                found += allowed.count();
                all.extend(allowed.docs().map(|doc| Candidate { score: 0.0, shard, doc }));
            } else {
                let query = of_codec(queries, live);
                let probed = probed.entry(live.entry.codec).or_insert_with(|| probe::probe(query, params.probes));
                let (query, budget) = ((self.backend.cpu(), query, &probed[..]), (params.probes, rescored));
                found += gather::gather((shard, live), query, budget, &allowed, accumulators, &mut shortlist)?;
            }
        }
        all.extend(shortlist.into_candidates());
        all.sort_unstable_by_key(|c| (c.shard, c.doc));
        Ok((all, found))
    }

    fn rooms(&self) -> std::sync::MutexGuard<'_, Vec<Room>> {
        // A list of buffers is whole whatever happened to a thread that held it.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a document is in the index.
    pub fn contains(&self, doc: DocId) -> bool {
        self.locate(doc).is_some()
    }

    fn locate(&self, doc: DocId) -> Option<(&LiveShard, DocOrd)> {
        self.snapshot.shards.iter().find_map(|live| {
            let ord = live.shard.find(doc)?;
            (!live.deleted.contains(ord.0)).then_some((live, ord))
        })
    }

    /// What tells this commit from every other of the index ([`crate::Index::version`]).
    pub fn version(&self) -> u64 {
        self.snapshot.manifest.digest
    }

    /// The index's figures.
    pub fn info(&self) -> IndexInfo {
        self.snapshot.info()
    }

    /// What the caller left with the commit.
    pub fn payload(&self) -> &[u8] {
        &self.snapshot.payload
    }

    /// Where arithmetic runs.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    fn check_dim(&self, query: &QueryEmbeddings) -> Result<()> {
        let expected = self.snapshot.manifest.dim;
        if query.dim() == expected { Ok(()) } else { Err(Error::DimMismatch { expected, found: query.dim() }) }
    }

    /// The query in the space of each codec in use; `room` is to do it in.
    fn encode(&self, query: &QueryEmbeddings, params: &SearchParams, room: &mut Vec<CentroidScores>) -> Queries {
        let visits = params.probes.max(LEAST_VISITS);
        let mut encode =
            |codec| EncodedQuery::new(self.backend.cpu(), codec, query, visits, room.pop().unwrap_or_default());
        self.snapshot.codecs.iter().map(|(&digest, codec)| (digest, encode(codec))).collect()
    }
}

/// The query in the space of a shard's codec.
fn of_codec<'a>(queries: &'a mut Queries, live: &LiveShard) -> &'a mut EncodedQuery {
    queries.get_mut(&live.entry.codec).unwrap_or_else(|| unreachable!("every codec of the snapshot has its query"))
}

/// Splits time into laps.
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
