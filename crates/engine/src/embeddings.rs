//! Token embeddings: the engine's only input, checked once, when they are made.
//!
//! A document is a matrix `[n, dim]` of unit rows, one for each token that the encoder kept. A query is
//! a matrix `[q, dim]` whose rows may have any norm: late interaction sums, over the query's rows, the
//! largest dot product with a row of the document (ColBERT, Khattab and Zaharia 2020, section 3.2), so
//! the norm of a query row is the weight of that row in the score.

use crate::error::{Error, Result};

/// Largest difference from 1 that the norm of a document row may have.
///
/// Wide enough for rows that went through f16 (relative rounding 2^-11 a value), narrow enough that a
/// row which was never normalised is caught.
pub const UNIT_TOLERANCE: f32 = 1e-2;

/// The largest dimension an embedding may have.
pub const MAX_DIM: usize = 1024;

/// One document: `[n, dim]`, row-major, finite, unit rows, at least one row.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenEmbeddings {
    values: Vec<f32>,
    dim: usize,
    token_ids: Option<Vec<u32>>,
}

impl TokenEmbeddings {
    /// Checks and takes `values`, `[n, dim]` row-major.
    ///
    /// # Errors
    /// When `dim` is unsupported, there is no row, the length is not a multiple of `dim`, a value is not finite, or a
    /// row is not of unit norm; the error names the row and the value.
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self> {
        TokenEmbeddingsRef::new(&values, dim)?;
        Ok(Self { values, dim, token_ids: None })
    }

    /// With the vocabulary id of each row's token ([`TokenEmbeddingsRef::with_token_ids`]).
    ///
    /// # Errors
    /// When there is not one for each row.
    pub fn with_token_ids(self, token_ids: Vec<u32>) -> Result<Self> {
        self.view().with_token_ids(&token_ids)?;
        Ok(Self { token_ids: Some(token_ids), ..self })
    }

    /// A borrowed view.
    pub fn view(&self) -> TokenEmbeddingsRef<'_> {
        TokenEmbeddingsRef { values: &self.values, dim: self.dim, token_ids: self.token_ids.as_deref() }
    }

    /// The matrix, `[n, dim]` row-major.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The matrix, and the rows' token ids, if it has them.
    pub(crate) fn into_parts(self) -> (Vec<f32>, Option<Vec<u32>>) {
        (self.values, self.token_ids)
    }
}

/// A borrowed [`TokenEmbeddings`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenEmbeddingsRef<'a> {
    values: &'a [f32],
    dim: usize,
    token_ids: Option<&'a [u32]>,
}

impl<'a> TokenEmbeddingsRef<'a> {
    /// Checks and borrows `values`, `[n, dim]` row-major.
    ///
    /// # Errors
    /// As [`TokenEmbeddings::new`].
    pub fn new(values: &'a [f32], dim: usize) -> Result<Self> {
        check_matrix(values, dim)?;
        for (row, x) in values.chunks_exact(dim).enumerate() {
            let norm = norm(x);
            if (norm - 1.0).abs() > UNIT_TOLERANCE {
                return Err(Error::NotUnit { row, norm });
            }
        }
        Ok(Self { values, dim, token_ids: None })
    }

    /// With the vocabulary id of each row's token. Ids are a hint: a codec trained on rows that have them is trained
    /// several times as fast, as rows of one token lie near each other. Nothing else is read in them, and any number may
    /// stand for rows of no token.
    ///
    /// # Errors
    /// When there is not one for each row.
    pub fn with_token_ids(self, token_ids: &'a [u32]) -> Result<Self> {
        if token_ids.len() != self.len() {
            return Err(Error::TokenIds { ids: token_ids.len(), rows: self.len() });
        }
        Ok(Self { token_ids: Some(token_ids), ..self })
    }

    /// Number of rows, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a document without rows cannot be made")]
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The matrix, `[n, dim]` row-major.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The vocabulary id of each row's token, where they are known.
    pub fn token_ids(&self) -> Option<&'a [u32]> {
        self.token_ids
    }
}

/// One query: `[q, dim]`, row-major, finite, at least one row; a row's norm is its weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryEmbeddings {
    values: Vec<f32>,
    dim: usize,
}

impl QueryEmbeddings {
    /// The largest number of rows.
    pub const MAX_ROWS: usize = 4096;
    /// The largest norm of a row: far beyond any weight, far below where sums overflow.
    pub const MAX_NORM: f32 = 1e6;

    /// Checks and takes `values`, `[q, dim]` row-major.
    ///
    /// # Errors
    /// When `dim` is unsupported, there is no row or more than [`Self::MAX_ROWS`], the length is not a multiple of
    /// `dim`, a value is not finite, or a row's norm is over [`Self::MAX_NORM`].
    pub fn new(values: Vec<f32>, dim: usize) -> Result<Self> {
        check_matrix(&values, dim)?;
        let rows = values.len() / dim;
        if rows > Self::MAX_ROWS {
            return Err(Error::TooManyRows { rows, limit: Self::MAX_ROWS });
        }
        for (row, x) in values.chunks_exact(dim).enumerate() {
            let norm = norm(x);
            if norm > Self::MAX_NORM {
                return Err(Error::TooHeavy { row, norm, limit: Self::MAX_NORM });
            }
        }
        Ok(Self { values, dim })
    }

    /// Number of rows, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a query without rows cannot be made")]
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Values a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The matrix, `[q, dim]` row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

fn check_matrix(values: &[f32], dim: usize) -> Result<()> {
    if dim == 0 || dim > MAX_DIM || !dim.is_multiple_of(8) {
        return Err(Error::UnsupportedDim { dim });
    }
    if values.is_empty() {
        return Err(Error::NoRows);
    }
    if !values.len().is_multiple_of(dim) {
        return Err(Error::Ragged { len: values.len(), dim });
    }
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(Error::NotFinite { row: at / dim, column: at % dim, value: values[at] });
    }
    Ok(())
}

fn norm(x: &[f32]) -> f32 {
    x.iter().map(|v| v * v).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(n: usize, dim: usize) -> Vec<f32> {
        let mut v = vec![0.0; n * dim];
        for r in 0..n {
            v[r * dim + r % dim] = 1.0;
        }
        v
    }

    #[test]
    fn good_rows_pass() {
        let e = TokenEmbeddings::new(unit(3, 8), 8).unwrap();
        assert_eq!((e.view().len(), e.view().dim()), (3, 8));
    }

    #[test]
    fn there_is_a_token_id_for_each_row() {
        let rows = TokenEmbeddings::new(unit(3, 8), 8).unwrap();
        assert_eq!(rows.view().token_ids(), None);
        let text = rows.clone().with_token_ids(vec![1, 2]).unwrap_err().to_string();
        assert!(text.contains("2 token ids") && text.contains("3 rows"), "{text}");
        assert_eq!(rows.with_token_ids(vec![1, 2, 1]).unwrap().view().token_ids(), Some(&[1, 2, 1][..]));
    }

    #[test]
    fn bad_rows_are_named() {
        let mut v = unit(3, 8);
        v[2 * 8 + 5] = f32::NAN;
        let text = TokenEmbeddings::new(v, 8).unwrap_err().to_string();
        assert!(text.contains("row 2") && text.contains("column 5") && text.contains("NaN"), "{text}");
        let text = TokenEmbeddings::new(vec![0.0; 8], 8).unwrap_err().to_string();
        assert!(text.contains("row 0") && text.contains("norm 0"), "{text}");
        assert!(matches!(TokenEmbeddings::new(vec![], 8), Err(Error::NoRows)));
        assert!(matches!(TokenEmbeddings::new(vec![1.0; 9], 8), Err(Error::Ragged { len: 9, dim: 8 })));
        assert!(matches!(TokenEmbeddings::new(vec![1.0; 12], 12), Err(Error::UnsupportedDim { dim: 12 })));
        assert!(matches!(TokenEmbeddings::new(vec![1.0; 2048], 2048), Err(Error::UnsupportedDim { dim: 2048 })));
    }

    #[test]
    fn query_rows_may_have_any_norm() {
        assert_eq!(QueryEmbeddings::new(vec![3.0; 16], 8).unwrap().len(), 2);
        assert!(QueryEmbeddings::new(vec![f32::INFINITY; 8], 8).is_err());
        assert!(matches!(QueryEmbeddings::new(vec![3e38; 8], 8), Err(Error::TooHeavy { row: 0, .. })));
        assert!(matches!(QueryEmbeddings::new(vec![0.0; 8 * 4097], 8), Err(Error::TooManyRows { rows: 4097, .. })));
    }
}
