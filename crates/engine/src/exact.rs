//! Brute-force MaxSim over plain vectors: the oracle that every approximation is measured against.
//!
//! Documents stream through in batches and only the best `k` of each query stay, so that a collection of any
//! size can be judged without holding its vectors.

use latewood_simd::{Kernels, QueryF32};
use rayon::prelude::*;

use crate::embeddings::{QueryEmbeddings, TokenEmbeddingsRef};
use crate::error::{Error, Result};
use crate::ids::DocId;
use crate::search::{Hit, TopK};

/// The MaxSim score of one document: for each query row the largest dot product with a document row, summed.
///
/// # Errors
/// When the dimensions differ.
pub fn score(query: &QueryEmbeddings, document: TokenEmbeddingsRef<'_>) -> Result<f32> {
    check_dim(query.dim(), document)?;
    let query = QueryF32::new(query.values(), query.dim());
    Ok(score_transposed(Kernels::detect(), &query, document, &mut vec![0.0; query.lanes()]))
}

/// Finds the exact best `k` documents of each of many queries while documents stream through.
#[derive(Debug)]
pub struct ExactSearch {
    queries: Vec<QueryF32>,
    best: Vec<TopK>,
    dim: usize,
}

impl ExactSearch {
    /// Starts with no documents.
    ///
    /// # Errors
    /// When the queries' dimensions differ.
    pub fn new(queries: &[QueryEmbeddings], k: usize) -> Result<Self> {
        let dim = queries.first().map_or(0, QueryEmbeddings::dim);
        if let Some(other) = queries.iter().find(|q| q.dim() != dim) {
            return Err(Error::DimMismatch { expected: dim, found: other.dim() });
        }
        let transposed = queries.iter().map(|q| QueryF32::new(q.values(), dim)).collect();
        Ok(Self { queries: transposed, best: queries.iter().map(|_| TopK::new(k)).collect(), dim })
    }

    /// Scores a batch of documents for all queries, on the threads of rayon's current pool.
    ///
    /// # Errors
    /// When a document's dimension differs from the queries'.
    pub fn add(&mut self, documents: &[(DocId, TokenEmbeddingsRef<'_>)]) -> Result<()> {
        if self.queries.is_empty() {
            return Ok(());
        }
        documents.iter().try_for_each(|(_, d)| check_dim(self.dim, *d))?;
        let kernels = Kernels::detect();
        self.queries.par_iter().zip(&mut self.best).for_each(|(query, best)| {
            let mut maxima = vec![0.0; query.lanes()];
            for &(doc, rows) in documents {
                best.push(Hit { doc, score: score_transposed(kernels, query, rows, &mut maxima) });
            }
        });
        Ok(())
    }

    /// The best hits of each query, best first.
    pub fn finish(self) -> Vec<Vec<Hit>> {
        self.best.into_iter().map(TopK::into_sorted).collect()
    }
}

fn score_transposed(kernels: &Kernels, query: &QueryF32, rows: TokenEmbeddingsRef<'_>, maxima: &mut [f32]) -> f32 {
    kernels.max_dots(rows.values(), query, maxima);
    maxima[..query.rows()].iter().sum()
}

fn check_dim(expected: usize, document: TokenEmbeddingsRef<'_>) -> Result<()> {
    if document.dim() == expected {
        return Ok(());
    }
    Err(Error::DimMismatch { expected, found: document.dim() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embeddings::TokenEmbeddings;

    #[test]
    fn maxsim_by_hand() {
        let document =
            TokenEmbeddings::new([[1.0, 0., 0., 0., 0., 0., 0., 0.], [0., 0.6, 0.8, 0., 0., 0., 0., 0.]].concat(), 8);
        let query =
            QueryEmbeddings::new([[2.0, 0., 1., 0., 0., 0., 0., 0.], [0., 1., 0., 0., 0., 0., 0., 0.]].concat(), 8);
        // Row 0: max(2, 0.8); row 1: max(0, 0.6).
        let score = score(&query.unwrap(), document.unwrap().view()).unwrap();
        assert!((score - 2.6).abs() < 1e-6, "{score}");
    }
}
