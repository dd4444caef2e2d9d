//! Where arithmetic runs.
//!
//! The stages of a search and of a build call these few operations and nothing else, so that another backend
//! (a GPU that keeps shards resident) can take them over whole.

mod cpu;

use std::fmt;
use std::sync::Arc;

use latewood_simd::{QueryF32, QueryI8};

use crate::codec::ResidualCodec;
use crate::embeddings::QueryEmbeddings;
use crate::ids::DocOrd;
use crate::shard::Shard;

pub use cpu::CpuBackend;

/// The operations that cost.
pub trait Backend: Send + Sync + fmt::Debug {
    /// What runs, for people: `cpu (avx2)`.
    fn name(&self) -> String;

    /// The dot products of each row of `rows` `[n, d]` with each row of `query`, into `out` `[n, lanes]`.
    fn dots(&self, rows: &[f32], query: &QueryF32, out: &mut [f32]);

    /// For each row of `rows` `[n, d]` the row of `centroids` `[c, d]` with the largest dot product, into `out` `[n]`.
    fn assign(&self, rows: &[f32], centroids: &[f32], dim: usize, out: &mut [u32]);

    /// Brings a query into the space of a codec and scores all its centroids.
    fn encode_query(&self, codec: &Arc<ResidualCodec>, query: &QueryEmbeddings) -> EncodedQuery;

    /// Scores documents of a shard by their tokens' centroids alone, into `out` `[docs]`.
    fn approximate(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]);

    /// MaxSim of documents of a shard on their compressed tokens, into `out` `[docs]`.
    fn score(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]);
}

/// A query in the space of one codec.
#[derive(Debug)]
pub struct EncodedQuery {
    pub(crate) i8: QueryI8,
    /// `[c, lanes]`: the dot products of all centroids with the query's rows.
    pub(crate) table: Vec<f32>,
}

impl EncodedQuery {
    /// Number of query rows.
    pub fn rows(&self) -> usize {
        self.i8.rows()
    }

    /// `[c, lanes]` and the number of lanes: rows padded with zeros.
    pub(crate) fn centroid_scores(&self) -> (&[f32], usize) {
        (&self.table, self.i8.lanes())
    }

    /// Brings `query` into the space of `codec` and scores all its centroids.
    pub(crate) fn new(backend: &dyn Backend, codec: &ResidualCodec, query: &QueryEmbeddings) -> Self {
        let rotated = codec.rotate(backend, query.values());
        let query = QueryF32::new(&rotated, codec.dim());
        let mut table = vec![0.0; codec.centroid_count() * query.lanes()];
        backend.dots(codec.centroids(), &query, &mut table);
        Self { i8: QueryI8::new(&rotated, codec.dim()), table }
    }
}
