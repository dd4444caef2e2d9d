//! The CPU backend: the SIMD kernels, spread over the threads of rayon's current pool.

use std::sync::Arc;

use latewood_simd::{Kernels, LANES, QueryF32};
use rayon::prelude::*;

use super::{Backend, EncodedQuery};
use crate::codec::ResidualCodec;
use crate::embeddings::QueryEmbeddings;
use crate::ids::DocOrd;
use crate::shard::Shard;

/// Rows that are assigned to centroids together: their blocks and a chunk of centroids stay in L2.
const ASSIGN_ROWS: usize = 256;
/// Centroids that all rows of a chunk meet before the next are read.
const ASSIGN_CENTROIDS: usize = 512;
/// Documents scored by one task.
const SCORE_DOCS: usize = 64;

/// Arithmetic on this machine's processor.
#[derive(Debug, Clone, Copy)]
pub struct CpuBackend {
    kernels: &'static Kernels,
}

impl CpuBackend {
    /// With the best instruction set found.
    pub fn new() -> Self {
        Self { kernels: Kernels::detect() }
    }

    /// With the given kernels; the scalar ones make a build reproducible across machines.
    pub fn with_kernels(kernels: &'static Kernels) -> Self {
        Self { kernels }
    }

    fn assign_chunk(&self, rows: &[f32], centroids: &[f32], dim: usize, out: &mut [u32]) {
        let blocks: Vec<QueryF32> = rows.chunks(LANES * dim).map(|block| QueryF32::new(block, dim)).collect();
        let mut best = vec![0; blocks.len() * LANES];
        let mut best_dot = vec![f32::NEG_INFINITY; blocks.len() * LANES];
        for (i, chunk) in centroids.chunks(ASSIGN_CENTROIDS * dim).enumerate() {
            let first = (i * ASSIGN_CENTROIDS) as u32;
            for (b, block) in blocks.iter().enumerate() {
                let lanes = b * LANES..(b + 1) * LANES;
                self.kernels.nearest(chunk, first, block, &mut best[lanes.clone()], &mut best_dot[lanes]);
            }
        }
        out.copy_from_slice(&best[..out.len()]);
    }

    /// Runs `score(doc, maxima)` for each document and sums the maxima of the real rows.
    fn sum_of_maxima(
        query: &EncodedQuery,
        docs: &[DocOrd],
        out: &mut [f32],
        score: impl Fn(DocOrd, &mut [f32]) + Sync,
    ) {
        let (_, lanes) = query.centroid_scores();
        let rows = query.rows();
        docs.par_chunks(SCORE_DOCS).zip(out.par_chunks_mut(SCORE_DOCS)).for_each(|(docs, out)| {
            let mut maxima = vec![0.0; lanes];
            for (&doc, out) in docs.iter().zip(out) {
                score(doc, &mut maxima);
                *out = maxima[..rows].iter().sum();
            }
        });
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!("cpu ({})", self.kernels.isa().name())
    }

    fn dots(&self, rows: &[f32], query: &QueryF32, out: &mut [f32]) {
        rows.par_chunks(ASSIGN_CENTROIDS * query.dim())
            .zip(out.par_chunks_mut(ASSIGN_CENTROIDS * query.lanes()))
            .for_each(|(rows, out)| self.kernels.dots(rows, query, out));
    }

    fn assign(&self, rows: &[f32], centroids: &[f32], dim: usize, out: &mut [u32]) {
        rows.par_chunks(ASSIGN_ROWS * dim)
            .zip(out.par_chunks_mut(ASSIGN_ROWS))
            .for_each(|(rows, out)| self.assign_chunk(rows, centroids, dim, out));
    }

    fn encode_query(&self, codec: &Arc<ResidualCodec>, query: &QueryEmbeddings) -> EncodedQuery {
        EncodedQuery::new(self, codec, query)
    }

    fn approximate(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) {
        let (table, _) = query.centroid_scores();
        Self::sum_of_maxima(query, docs, out, |doc, maxima| {
            self.kernels.max_rows(shard.tokens(doc).centroids, table, maxima);
        });
    }

    fn score(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) {
        let (table, _) = query.centroid_scores();
        Self::sum_of_maxima(query, docs, out, |doc, maxima| {
            self.kernels.max_residual_dots(&shard.tokens(doc), &query.i8, table, maxima);
        });
    }
}
