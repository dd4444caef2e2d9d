//! Search: probe, gather, prune, rescore.
//!
//! The stages are PLAID's (Santhanam et al. 2022, section 4), the second turned round: the query's rows choose centroids
//! ([`probe`]); the documents in their posting lists collect the centroids' scores ([`gather`]); the best of them are
//! ranked by all their tokens' centroids and cut to a budget ([`prune`]); what is left is scored on compressed tokens
//! ([`rescore`]), and the best of those once more with their fine codes, if the index has any ([`refine`]). Candidates few enough to fit the budget skip the first stages, so a selective filter or a small
//! index loses nothing, and every budget is a parameter.

mod allowed;
mod gather;
mod probe;
mod prune;
mod refine;
mod rescore;
mod shortlist;
mod topk;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use roaring::RoaringTreemap;

use crate::backend::{Backend, EncodedQuery};
use crate::embeddings::QueryEmbeddings;
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::index::{IndexInfo, Snapshot};

use allowed::Allowed;
use gather::Accumulators;
use shortlist::{Candidate, Shortlist};
pub(crate) use topk::TopK;

/// A query in the space of each codec in use, by the codec's digest.
type Queries = HashMap<u64, EncodedQuery>;

/// A found document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The caller's key.
    pub doc: DocId,
    /// MaxSim: for each query row the largest dot product with a token, summed.
    pub score: f32,
}

/// Which documents may be found.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Prefilter {
    /// All.
    #[default]
    None,
    /// These alone.
    Only(RoaringTreemap),
    /// All but these.
    Except(RoaringTreemap),
}

/// Every knob of a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchParams {
    /// Hits wanted, at least 1.
    pub k: usize,
    /// Centroids that each query row probes, at least 1.
    pub probes: usize,
    /// Documents, of those gathered, that are ranked by all their tokens' centroids; raised to `rescored` where it is
    /// smaller.
    pub shortlisted: usize,
    /// Documents scored on their compressed tokens at most; raised to `k` where it is smaller.
    pub rescored: usize,
    /// Scoring stops before `rescored` where the best document left would have to gain, over its score by centroids
    /// alone, this many standard deviations more than the mean of those scored. Infinity never stops.
    pub confidence: f32,
    /// Documents scored once more with their fine codes, in an index that has them; `None` takes a quarter and 8 more
    /// than `k`. 0 leaves fine codes alone.
    pub refined: Option<usize>,
    /// Which documents may be found.
    pub filter: Prefilter,
}

impl Default for SearchParams {
    fn default() -> Self {
        Self {
            k: 10,
            probes: 8,
            shortlisted: 4096,
            rescored: 1024,
            confidence: 3.0,
            refined: None,
            filter: Prefilter::None,
        }
    }
}

impl SearchParams {
    /// The defaults, for `k` hits.
    pub fn new(k: usize) -> Self {
        Self { k, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        let positive = |name, value: usize| match value {
            0 => Err(Error::BadParameter { name, value: "0".into(), expected: "at least 1" }),
            _ => Ok(()),
        };
        positive("k", self.k)?;
        positive("probes", self.probes)?;
        if self.confidence.is_nan() {
            let value = self.confidence.to_string();
            return Err(Error::BadParameter { name: "confidence", value, expected: "a number" });
        }
        Ok(())
    }

    /// Documents to be refined, in an index with fine codes.
    fn refined(&self) -> usize {
        match self.refined.unwrap_or(self.k.saturating_add(self.k / 4 + 8)) {
            0 => 0,
            refined => refined.max(self.k),
        }
    }
}

/// Time spent in each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Timings {
    /// Bringing the query into the codecs' spaces and scoring their centroids.
    pub centroids: Duration,
    /// Choosing centroids and gathering the documents in their posting lists.
    pub gather: Duration,
    /// Ranking candidates by centroids alone.
    pub prune: Duration,
    /// Scoring on compressed tokens.
    pub rescore: Duration,
    /// Scoring with fine codes.
    pub refine: Duration,
}

impl Timings {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.centroids + self.gather + self.prune + self.rescore + self.refine
    }
}

/// What a search found, and how.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SearchResult {
    /// Best first; equal scores in the order of the keys.
    pub hits: Vec<Hit>,
    /// Documents gathered.
    pub candidates: usize,
    /// Documents scored on their compressed tokens.
    pub rescored: usize,
    /// Documents scored once more with their fine codes.
    pub refined: usize,
    /// Whether every candidate was scored: then the hits are the best of the candidates for certain.
    pub exact_among_candidates: bool,
    /// Where the time went.
    pub timings: Timings,
}

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
    tables: Vec<Vec<f32>>,
    accumulators: Accumulators,
}

impl Searcher {
    pub(crate) fn new(snapshot: Snapshot, backend: Arc<dyn Backend>) -> Self {
        Self { snapshot: Arc::new(snapshot), backend, rooms: Arc::default() }
    }

    /// The best documents for `query`.
    ///
    /// # Errors
    /// When the query's dimension is not the index's or a parameter is out of range.
    pub fn search(&self, query: &QueryEmbeddings, params: &SearchParams) -> Result<SearchResult> {
        params.check()?;
        self.check_dim(query)?;
        let mut room = self.rooms().pop().unwrap_or_default();
        let mut clock = Clock::start();
        let queries = self.encode(query, &mut room.tables);
        let centroids = clock.lap();
        let found = self.find(&queries, params, &mut room.accumulators, &mut clock);
        room.tables.extend(queries.into_values().map(|query| query.table));
        self.rooms().push(room);
        let mut found = found?;
        found.timings.centroids = centroids;
        Ok(found)
    }

    /// The stages after the first.
    fn find(
        &self,
        queries: &Queries,
        params: &SearchParams,
        accumulators: &mut Accumulators,
        clock: &mut Clock,
    ) -> Result<SearchResult> {
        let (backend, shards) = (&*self.backend, &self.snapshot.shards);
        let (gathered, candidates) = self.candidates(queries, params, accumulators)?;
        let gather = clock.lap();
        let refined = if self.snapshot.manifest.fine { params.refined() } else { 0 };
        let (keep, budget) = (params.k.max(refined), params.rescored.max(params.k).max(refined));
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
        queries: &Queries,
        params: &SearchParams,
        accumulators: &mut Accumulators,
    ) -> Result<(Vec<Candidate>, usize)> {
        let rescored = params.rescored.max(params.k);
        let mut shortlist = Shortlist::new(params.shortlisted.max(rescored));
        let (mut all, mut found) = (Vec::new(), 0);
        for (shard, live) in (0u32..).zip(&self.snapshot.shards) {
            let allowed = Allowed::new(live, &params.filter);
            if allowed.count() <= rescored {
                found += allowed.count();
                all.extend(allowed.docs().map(|doc| Candidate { score: 0.0, shard, doc }));
            } else {
                let query = &queries[&live.entry.codec];
                let budget = (params.probes, rescored);
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
        self.snapshot.shards.iter().any(|live| live.shard.find(doc).is_some_and(|ord| !live.deleted.contains(ord.0)))
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

    /// The query in the space of each codec in use; `tables` is room to do it in.
    fn encode(&self, query: &QueryEmbeddings, tables: &mut Vec<Vec<f32>>) -> Queries {
        let mut encode = |codec| EncodedQuery::new(&*self.backend, codec, query, tables.pop().unwrap_or_default());
        self.snapshot.codecs.iter().map(|(&digest, codec)| (digest, encode(codec))).collect()
    }
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
