//! Documents that are not compressed, on the device.

use cubecl::prelude::{CubeElement, Float, Runtime};

use super::{check_dim, ensure};
use crate::client::{Buffer, Client, GpuError};

/// What a token's values may be stored as.
pub trait TokenValue: Float + CubeElement {}

impl TokenValue for f32 {}
impl TokenValue for half::f16 {}

/// Documents of tokens `[t, dim]`, `f32` or `f16`.
#[derive(Debug, Clone)]
pub struct DenseTokens<F> {
    dim: usize,
    offsets: Buffer<u32>,
    values: Buffer<F>,
}

impl<F: TokenValue> DenseTokens<F> {
    /// Copies documents to the device: the tokens of document `i` are rows `offsets[i]..offsets[i + 1]` of `values`.
    ///
    /// # Errors
    /// When sizes disagree, or there is too much for one allocation; when the device does not read such values.
    pub fn new<R: Runtime>(client: &Client<R>, dim: usize, offsets: &[u32], values: &[F]) -> Result<Self, GpuError> {
        check_dim(dim)?;
        let whole = offsets.first() == Some(&0) && offsets.is_sorted();
        let tokens = offsets.last().map_or(0, |&last| last as usize);
        ensure(whole && values.len() == tokens * dim, || format!("{} values of {tokens} tokens", values.len()))?;
        let kind = F::cube_type();
        let reads = client.raw().properties().supports_type(kind);
        ensure(reads, || format!("this GPU does not read {kind:?}"))?;
        Ok(Self { dim, offsets: client.keep("offsets", offsets)?, values: client.keep("tokens", values)? })
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.offsets.bytes() + self.values.bytes()
    }

    /// Values a token.
    pub fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn offsets(&self) -> &Buffer<u32> {
        &self.offsets
    }

    /// `[t, dim]`
    pub(crate) fn values(&self) -> &Buffer<F> {
        &self.values
    }
}
