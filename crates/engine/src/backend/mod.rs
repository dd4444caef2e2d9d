//! Where arithmetic runs.
//!
//! The stages of a search and of a build call these few operations and nothing else, so that another backend
//! (a GPU that keeps shards resident) can take them over whole.

mod centroid_scores;
mod cpu;

use std::fmt;

use latewood_simd::{Estimates, QueryF32, QueryI8, QueryI16};

use crate::codec::ResidualCodec;
use crate::embeddings::QueryEmbeddings;
use crate::error::Result;
use crate::ids::DocOrd;
use crate::shard::Shard;

pub(crate) use centroid_scores::CentroidScores;
pub use cpu::CpuBackend;

/// The operations that cost.
pub trait Backend: Send + Sync + fmt::Debug {
    /// What runs, for people: `cpu (avx2)`.
    fn name(&self) -> String;

    /// The dot products of each row of `rows` `[n, d]` with each row of `query`, into `out` `[n, lanes]`.
    fn dots(&self, rows: &[f32], query: &QueryF32, out: &mut [f32]);

    /// For each row of `rows` `[n, d]` the row of `centroids` `[c, d]` with the largest dot product, into `out` `[n]`.
    fn assign(&self, rows: &[f32], centroids: &[f32], dim: usize, out: &mut [u32]);

    /// The dot products of each row of `rows` `[n, d]`, bytes with one of `scales` `[n]` each, with each row of `query`,
    /// in units of its scales, into `out` `[n, lanes]`.
    fn byte_dots(&self, rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]);

    /// Scores documents of a shard by their tokens' outlines, centroid and scale, into `out` `[docs]`.
    ///
    /// # Errors
    /// When a document is damaged; so for the next two.
    fn approximate(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) -> Result<()>;

    /// MaxSim of documents of a shard on their compressed tokens, into `out` `[docs]`.
    fn score(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) -> Result<()>;

    /// MaxSim of documents of a shard with their fine codes, into `out` `[docs]`; the shard has them.
    fn refine(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) -> Result<()>;
}

/// How much a token that lies off its centroid, by the sine, is taken to lean towards the query, as a share of the sine's
/// square: measured, on text and on code (BENCHMARKS.md).
const LEANING: f32 = 0.25;

/// A query in the space of one codec.
#[derive(Debug)]
pub struct EncodedQuery {
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
        backend: &dyn Backend,
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

    /// Scores all centroids of `codec`, its own.
    pub(crate) fn meet_all(&mut self, backend: &dyn Backend, codec: &ResidualCodec) {
        self.centroids.meet_all(backend, codec, &self.i8);
    }

    /// Scores the centroids of the tokens of `docs`, which are to be scored themselves.
    ///
    /// # Errors
    /// When a document is damaged.
    pub(crate) fn meet(&mut self, backend: &dyn Backend, shard: &Shard, docs: &[DocOrd]) -> Result<()> {
        if !self.centroids.is_partial() {
            return Ok(());
        }
        let outlines = docs.iter().map(|&doc| shard.outline(doc)).collect::<Result<Vec<_>>>()?;
        let ids = outlines.iter().flat_map(|(centroids, _)| *centroids);
        self.centroids.meet(backend, shard.codec(), &self.i8, ids);
        Ok(())
    }

    /// Number of query rows.
    pub fn rows(&self) -> usize {
        self.i8.rows()
    }

    /// `[rows]`: what one unit of a row's scores stands for.
    pub(crate) fn units(&self) -> &[f32] {
        &self.i8.scales()[..self.rows()]
    }
}

/// A token at an angle `a` from its centroid `c` is `cos a * c + sin a * u`, `u` being some direction off `c`; its scale
/// tells the angle. Its dot product with a row `q` is `cos a * <q, c>`, and something for `u`: tokens that are looked
/// for lean towards the row, the more the farther they lie off.
fn estimates(codec: &ResidualCodec, query: &QueryI8) -> Estimates {
    let cosines = codec.cosines();
    // In units of the query's scales, as the table.
    let lengths = query.lengths();
    let bonuses = cosines.iter().flat_map(|cos| {
        let share = LEANING * (1.0 - cos * cos);
        lengths.iter().map(move |length| length * share)
    });
    Estimates::new(cosines, bonuses.collect())
}
