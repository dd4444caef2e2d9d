//! Where arithmetic runs.
//!
//! The stages of a search and of a build call the processor ([`CpuBackend`]). Another [`Backend`] may take whole
//! searches over, a GPU that keeps shards resident, and what of a build grows with rows times centroids: finding
//! centroids and coding.

mod build;
mod centroid_scores;
mod cpu;
mod device;

use std::fmt;
use std::sync::Arc;

use latewood_simd::{Estimates, QueryI8, QueryI16};

use crate::codec::ResidualCodec;
use crate::embeddings::QueryEmbeddings;
use crate::error::Result;
use crate::ids::DocOrd;
use crate::shard::Shard;

pub use build::{Coder, Nearest};
pub(crate) use build::{assign, code};
pub(crate) use centroid_scores::CentroidScores;
pub use cpu::CpuBackend;
pub use device::{Plan, Ranked, Ranking, Searchable};

/// What searches and builds run on. Implemented outside for other devices (`latewood-kernels`).
pub trait Backend: Send + Sync + fmt::Debug {
    /// What runs, for people: `cpu (avx2)`.
    fn name(&self) -> String;

    /// The processor, which does all that the backend leaves alone.
    fn cpu(&self) -> &CpuBackend;

    /// Whether it takes searches over.
    fn searches(&self) -> bool {
        false
    }

    /// Searches `shards` for each of `queries`: the best documents of each by their compressed tokens. `None` leaves it
    /// to the processor.
    ///
    /// # Errors
    /// When a shard is damaged, or the device fails ([`crate::Error::Device`]).
    fn search(
        &self,
        _shards: &[Searchable<'_>],
        _queries: &[&QueryEmbeddings],
        _plan: Plan,
    ) -> Result<Option<Vec<Ranking>>> {
        Ok(None)
    }

    /// What finds the centroid of many rows among `centroids` `[c, d]`, for training. `None` leaves it to the processor,
    /// which looks for one almost as near with a fraction of the products.
    ///
    /// # Errors
    /// When the device fails ([`crate::Error::Device`]): the build then ends, and the last commit stays.
    fn nearest(&self, _centroids: &[f32], _dim: usize) -> Result<Option<Box<dyn Nearest>>> {
        Ok(None)
    }

    /// What codes many rows with `codec`. `None` leaves it to the processor.
    ///
    /// # Errors
    /// As [`Backend::nearest`].
    fn coder(&self, _codec: &Arc<ResidualCodec>) -> Result<Option<Box<dyn Coder>>> {
        Ok(None)
    }
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn cpu(&self) -> &CpuBackend {
        (**self).cpu()
    }

    fn searches(&self) -> bool {
        (**self).searches()
    }

    fn search(
        &self,
        shards: &[Searchable<'_>],
        queries: &[&QueryEmbeddings],
        plan: Plan,
    ) -> Result<Option<Vec<Ranking>>> {
        (**self).search(shards, queries, plan)
    }

    fn nearest(&self, centroids: &[f32], dim: usize) -> Result<Option<Box<dyn Nearest>>> {
        (**self).nearest(centroids, dim)
    }

    fn coder(&self, codec: &Arc<ResidualCodec>) -> Result<Option<Box<dyn Coder>>> {
        (**self).coder(codec)
    }
}

/// A query in the space of one codec.
#[derive(Debug)]
pub(crate) struct EncodedQuery {
    pub(crate) i8: QueryI8,
    /// Read by refining only.
    pub(crate) i16: QueryI16,
    pub(crate) centroids: CentroidScores,
    /// A token's score guessed from its centroid's.
    pub(crate) estimates: Estimates,
}

impl EncodedQuery {
    /// Brings `query` into the space of `codec` and scores the centroids of the `visits` groups nearest to each of its
    /// rows; `centroids` is room to do it in.
    pub(crate) fn new(
        backend: &CpuBackend,
        codec: &ResidualCodec,
        query: &QueryEmbeddings,
        visits: usize,
        mut centroids: CentroidScores,
    ) -> Self {
        let rotated = codec.rotate(backend, query.values());
        let query = QueryI8::new(&rotated, codec.dim());
        centroids.refill(backend, codec, &query, visits);
        let estimates = estimates(codec, &query);
        Self { i8: query, i16: QueryI16::new(&rotated, codec.dim()), centroids, estimates }
    }

    /// For refining only.
    pub(crate) fn without_centroids(backend: &CpuBackend, codec: &ResidualCodec, query: &QueryEmbeddings) -> Self {
        let rotated = codec.rotate(backend, query.values());
        let query = QueryI8::new(&rotated, codec.dim());
        let estimates = estimates(codec, &query);
        let centroids = CentroidScores::default();
        Self { i8: query, i16: QueryI16::new(&rotated, codec.dim()), centroids, estimates }
    }

    /// Scores all centroids of `codec`, its own.
    pub(crate) fn meet_all(&mut self, backend: &CpuBackend, codec: &ResidualCodec) {
        self.centroids.meet_all(backend, codec, &self.i8);
    }

    /// Scores the centroids of the tokens of `docs`, which are to be scored themselves.
    ///
    /// # Errors
    /// When a document is damaged.
    pub(crate) fn meet(&mut self, backend: &CpuBackend, shard: &Shard, docs: &[DocOrd]) -> Result<()> {
        if !self.centroids.is_partial() {
            return Ok(());
        }
        let outlines = docs.iter().map(|&doc| shard.outline(doc)).collect::<Result<Vec<_>>>()?;
        let ids = outlines.iter().flat_map(|(centroids, _)| *centroids);
        self.centroids.meet(backend, shard.codec(), &self.i8, ids);
        Ok(())
    }

    /// Number of query rows.
    pub(crate) fn rows(&self) -> usize {
        self.i8.rows()
    }

    /// `[rows]`: what one unit of a row's scores stands for.
    pub(crate) fn units(&self) -> &[f32] {
        &self.i8.scales()[..self.rows()]
    }
}

fn estimates(codec: &ResidualCodec, query: &QueryI8) -> Estimates {
    let (weights, leans) = codec.estimates();
    // In units of the query's scales, as the table.
    let lengths = query.lengths();
    let bonuses = leans.iter().flat_map(|lean| lengths.iter().map(move |length| length * lean));
    Estimates::new(weights, bonuses.collect())
}
