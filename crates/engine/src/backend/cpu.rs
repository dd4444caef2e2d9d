//! The CPU backend: the SIMD kernels, spread over the threads of rayon's current pool.

use latewood_simd::{Kernels, LANES, QueryF32, QueryI8, ResidualTokens, Scratch};
use rayon::prelude::*;

use super::{Backend, EncodedQuery};
use crate::error::Result;
use crate::ids::DocOrd;
use crate::shard::Shard;

/// Rows that are assigned to centroids together: their blocks and a chunk of centroids stay in L2.
const ASSIGN_ROWS: usize = 256;
/// Centroids that all rows of a chunk meet before the next are read.
const ASSIGN_CENTROIDS: usize = 512;
/// Rows that go through a kernel together.
const ASSIGN_LANES: usize = 2 * LANES;
/// Centroids whose table is made by one task.
const TABLE_ROWS: usize = 2048;
/// How many documents ahead memory is asked for.
const AHEAD: usize = 2;
/// Documents refined by one task.
const REFINE_DOCS: usize = 16;
/// Documents scored by one task.
const SCORE_DOCS: usize = 64;

/// What a task needs for one document after the other.
#[derive(Default)]
struct Work {
    scratch: Scratch,
    rows: Vec<u16>,
}

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
        let blocks: Vec<QueryF32> = rows.chunks(ASSIGN_LANES * dim).map(|block| QueryF32::new(block, dim)).collect();
        let lanes_of = |b: usize| b * ASSIGN_LANES..b * ASSIGN_LANES + blocks[b].lanes();
        let mut best = vec![0; blocks.len() * ASSIGN_LANES];
        let mut best_dot = vec![f32::NEG_INFINITY; blocks.len() * ASSIGN_LANES];
        for (i, chunk) in centroids.chunks(ASSIGN_CENTROIDS * dim).enumerate() {
            let first = (i * ASSIGN_CENTROIDS) as u32;
            for (b, block) in blocks.iter().enumerate() {
                let lanes = lanes_of(b);
                self.kernels.nearest(chunk, first, block, &mut best[lanes.clone()], &mut best_dot[lanes]);
            }
        }
        out.copy_from_slice(&best[..out.len()]);
    }

    /// Runs `score(doc, work, maxima)` for each document and sums the maxima of the real rows.
    fn sum_of_maxima(
        query: &EncodedQuery,
        docs: &[DocOrd],
        out: &mut [f32],
        prepare: impl Fn(DocOrd) + Sync,
        score: impl Fn(DocOrd, &mut Work, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<()> {
        docs.par_chunks(SCORE_DOCS).zip(out.par_chunks_mut(SCORE_DOCS)).try_for_each(|(docs, out)| {
            let (mut maxima, mut work) = (vec![0.0; query.i8.lanes()], Work::default());
            docs.iter().take(AHEAD).for_each(|&doc| prepare(doc));
            for (i, (&doc, out)) in docs.iter().zip(out).enumerate() {
                docs.get(i + AHEAD).into_iter().for_each(|&doc| prepare(doc));
                score(doc, &mut work, &mut maxima)?;
                *out = maxima.iter().zip(query.units()).map(|(max, unit)| max * unit).sum();
            }
            Ok(())
        })
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

    fn cpu(&self) -> &CpuBackend {
        self
    }
}

/// The operations that cost.
impl CpuBackend {
    /// The dot products of each row of `rows` `[n, d]` with each row of `query`, into `out` `[n, lanes]`.
    pub(crate) fn dots(&self, rows: &[f32], query: &QueryF32, out: &mut [f32]) {
        rows.par_chunks(ASSIGN_CENTROIDS * query.dim())
            .zip(out.par_chunks_mut(ASSIGN_CENTROIDS * query.lanes()))
            .for_each(|(rows, out)| self.kernels.dots(rows, query, out));
    }

    /// For each row of `rows` `[n, d]` the row of `centroids` `[c, d]` with the largest dot product, into `out` `[n]`.
    pub(crate) fn assign(&self, rows: &[f32], centroids: &[f32], dim: usize, out: &mut [u32]) {
        rows.par_chunks(ASSIGN_ROWS * dim)
            .zip(out.par_chunks_mut(ASSIGN_ROWS))
            .for_each(|(rows, out)| self.assign_chunk(rows, centroids, dim, out));
    }

    /// The dot products of each row of `rows` `[n, d]`, bytes with one of `scales` `[n]` each, with each row of `query`,
    /// in units of its scales, into `out` `[n, lanes]`.
    pub(crate) fn byte_dots(&self, rows: &[u8], scales: &[f32], query: &QueryI8, out: &mut [f32]) {
        rows.par_chunks(TABLE_ROWS * query.dim())
            .zip(scales.par_chunks(TABLE_ROWS))
            .zip(out.par_chunks_mut(TABLE_ROWS * query.lanes()))
            .for_each(|((rows, scales), out)| self.kernels.byte_dots(rows, scales, query, out));
    }

    /// Scores documents of a shard by their tokens' outlines, centroid and scale, into `out` `[docs]`.
    ///
    /// # Errors
    /// When a document is damaged; so for the next two.
    pub(crate) fn approximate(
        &self,
        shard: &Shard,
        query: &EncodedQuery,
        docs: &[DocOrd],
        out: &mut [f32],
    ) -> Result<()> {
        let prepare = |doc| shard.prefetch_outline(doc);
        Self::sum_of_maxima(query, docs, out, prepare, |doc, work, maxima| {
            let (centroids, factors) = shard.outline(doc)?;
            let (table, rows) = query.centroids.rows_of(centroids, &mut work.rows);
            self.kernels.max_estimates(rows, factors, &query.estimates, table, maxima);
            Ok(())
        })
    }

    /// MaxSim of documents of a shard on their compressed tokens, into `out` `[docs]`.
    pub(crate) fn score(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) -> Result<()> {
        let prepare = |doc| shard.prefetch_tokens(doc);
        Self::sum_of_maxima(query, docs, out, prepare, |doc, work, maxima| {
            let tokens = shard.tokens(doc)?;
            let (table, rows) = query.centroids.rows_of(tokens.centroids, &mut work.rows);
            let tokens = ResidualTokens { centroids: rows, ..tokens };
            self.kernels.max_residual_dots(&tokens, &query.i8, table, &mut work.scratch, maxima);
            Ok(())
        })
    }

    /// MaxSim of documents of a shard with their fine codes, into `out` `[docs]`; the shard has them.
    pub(crate) fn refine(&self, shard: &Shard, query: &EncodedQuery, docs: &[DocOrd], out: &mut [f32]) -> Result<()> {
        let codec = shard.codec();
        let Some(steps) = codec.fine() else { return self.score(shard, query, docs, out) };
        docs.par_chunks(REFINE_DOCS).zip(out.par_chunks_mut(REFINE_DOCS)).try_for_each(|(docs, out)| {
            let (mut maxima, mut scratch, mut rows) = (vec![0; query.i16.lanes()], Scratch::new(), Vec::new());
            for (i, (&doc, out)) in docs.iter().zip(out).enumerate() {
                docs.get(i + 1).into_iter().for_each(|&next| shard.prefetch_fine(next));
                let tokens = shard.fine_tokens(doc)?;
                // What the rows held is overwritten.
                rows.resize(tokens.len() * codec.dim(), 0);
                self.kernels.decode_fine(&tokens, steps, codec.centroids(), &mut scratch, &mut rows);
                self.kernels.max_word_dots(&rows, &query.i16, &mut maxima);
                *out = query.i16.sum(&maxima);
            }
            Ok(())
        })
    }
}
