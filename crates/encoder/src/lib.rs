//! Text in, token embeddings out: the encoder of Latewood.
//!
//! A ColBERT encoder (Khattab and Zaharia 2020, arXiv:2004.12832) gives one unit vector for each token of
//! a text, computed by a BERT that has read the whole text. Documents are encoded when they are indexed,
//! queries when they are asked; what compares the two is in `latewood-engine`.
//!
//! ```no_run
//! use latewood_encoder::{ColbertEncoder, Encoder};
//!
//! let encoder = ColbertEncoder::from_dir("models/latewood-mini".as_ref())?;
//! let documents = encoder.encode_documents(&["Latewood is the denser part of a growth ring."])?;
//! let queries = encoder.encode_queries(&["what is latewood"])?;
//! assert_eq!(queries[0].embeddings.dim(), documents[0].embeddings.view().dim());
//! # Ok::<(), latewood_encoder::Error>(())
//! ```
//!
//! # The way of a text
//!
//! 1. `tokenize`, `role`: text to ids, `[CLS] pieces [SEP]`, cut to the model's limit; a marker in place 1, and tokens
//!    that fill a query up, where the model has them.
//! 2. `batch`: the tokens of some texts one after the other, `[n]`, within a budget.
//! 3. `backbone`: the network on a Burn backend, ids `[n]` to hidden states `[n, h]`; `ops` holds the
//!    operations that a backend does in its own way. `network` projects them to `[n, d]`.
//! 4. `colbert`: choice of rows, normalisation, pooling (`pool`).
//!
//! A cross-encoder ([`CrossEncoder`]) reads query and document together and gives one number; `cross` has its pairs of texts
//! and its heads, the network below is the same.
//!
//! # The way of a model
//!
//! `checkpoint` tells the format of a folder and reads it: what the network is, where its `weights` are, which
//! tokenizer it has, and a [`Recipe`], which says all of the rest in the same words whatever the format. Our own is four
//! files ([`ModelFiles`], [`Description`]). With the feature `hub`, models of the Hugging Face hub are fetched by name, file by
//! file as the reader asks for them. Everything that could be wrong with a model is found on loading: encoding
//! fails only if the arithmetic gives values that are not finite, or if the model's rows are no unit rows
//! ([`Recipe::indexable`]).
//!
//! Work is spread over the current rayon pool; a caller who wants another number of threads installs a pool.
//!
//! # On a GPU
//!
//! With the features `wgpu` or `cuda`, [`ColbertEncoder::open`] takes an [`EncoderDevice`]. Tokenising, choice of rows and
//! norms stay on the processor; one thread drives the device. It is tried when a model is loaded to it, and what fails
//! on it is an error. Numbers are `f16` by default ([`Precision`]); rows are then within 2e-3 of the processor's `f32`.

mod agreement;
mod backbone;
mod batch;
mod cache;
mod checkpoint;
mod colbert;
mod cross;
mod description;
mod device;
#[cfg(feature = "gpu")]
mod driver;
mod error;
mod files;
#[cfg(feature = "hub")]
mod hub;
mod network;
mod ops;
mod options;
mod pool;
pub mod recipe;
mod role;
mod self_test;
mod team;
mod tokenize;
mod weights;

use std::ops::Range;

use latewood_engine::{QueryEmbeddings, TokenEmbeddings};

pub use cache::CachedQueries;
pub use colbert::ColbertEncoder;
pub use cross::{CrossEncoder, Scores};
pub use description::{Description, PooledRows, Pooling, Role};
pub use device::{Compute, EncoderDevice};
pub use error::{Error, Result};
pub use files::{ModelFiles, ModelId};
#[cfg(feature = "hub")]
pub use hub::{HubError, HubEvent, HubName, HubOptions};
pub use ops::Precision;
pub use options::EncoderOptions;
pub use recipe::Recipe;
pub use self_test::SelfTest;
pub use tokenize::{TextTokenizer, Tokens};

/// The token id of a pooled row, in [`EncodedQuery::token_ids`] and [`EncodedDocument::token_ids`]: no vocabulary has it.
pub const POOLED_TOKEN: u32 = u32::MAX;

/// Text to token embeddings.
///
/// The same text gives the same embeddings to about 1e-5, alone or among others; on a GPU to about 1e-3.
pub trait Encoder: Send + Sync {
    /// Values of an embedding.
    fn dim(&self) -> usize;

    /// What names the model; an index records it.
    fn model_id(&self) -> &ModelId;

    /// Tokens that a query may have, special ones included; what is over is cut off.
    fn max_query_tokens(&self) -> usize;

    /// Tokens that a document may have, special ones included; what is over is cut off.
    fn max_document_tokens(&self) -> usize;

    /// Documents that are best encoded together by who has many, 1 at least: enough to keep a device at work, few enough
    /// that progress is seen, and that who gives up need not wait.
    fn documents_at_once(&self) -> usize {
        96
    }

    /// Word pieces of `text`, special tokens not included.
    fn count_tokens(&self, text: &str) -> usize;

    /// The tokenizer, if it may be known.
    fn tokenizer(&self) -> Option<&TextTokenizer> {
        None
    }

    /// Which bytes of `text` each row comes from that encoding it as `side` gives; `None`, or no entry, for rows that come
    /// from no place in it: special tokens, pooled rows.
    ///
    /// # Errors
    /// When the text cannot be tokenised.
    fn places(&self, side: Side, text: &str) -> Result<Vec<Option<Range<usize>>>> {
        let _ = (side, text);
        Ok(Vec::new())
    }

    /// Encodes queries, in the order given.
    ///
    /// # Errors
    /// When the network gives values that are not finite.
    fn encode_queries(&self, texts: &[&str]) -> Result<Vec<EncodedQuery>>;

    /// Encodes documents, in the order given. A text without words is encoded too, as its special tokens:
    /// whether it deserves a place in an index is the caller's to say.
    ///
    /// # Errors
    /// When the network gives values that are not finite, or a row of zeros.
    fn encode_documents(&self, texts: &[&str]) -> Result<Vec<EncodedDocument>>;
}

/// A query, encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedQuery {
    /// Its rows: one for each token that the model's rules keep, and the pooled rows last if the model has any.
    /// Token rows are of unit norm; the norm of a pooled row is its weight.
    pub embeddings: QueryEmbeddings,
    /// The token of each row; [`POOLED_TOKEN`] for a pooled one.
    pub token_ids: Vec<u32>,
    /// Tokens of the text, special ones included, before it was cut.
    pub tokens: usize,
    /// Whether it was cut.
    pub truncated: bool,
}

/// A document, encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedDocument {
    /// Its rows: one for each token that the model's rules keep, and the pooled rows last if the model has any.
    pub embeddings: TokenEmbeddings,
    /// The token of each row; [`POOLED_TOKEN`] for a pooled one.
    pub token_ids: Vec<u32>,
    /// Tokens of the text, special ones included, before it was cut.
    pub tokens: usize,
    /// Whether it was cut.
    pub truncated: bool,
}

/// Which of the two a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A query.
    Query,
    /// A document.
    Document,
}

/// What a model's own implementation gives for a text.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRows {
    /// `[n, dim]`, row-major, of any norm; `n` may be 0.
    pub values: Vec<f32>,
    /// The token of each row; [`POOLED_TOKEN`] for a pooled one.
    pub token_ids: Vec<u32>,
    /// What the network saw.
    pub ids: Vec<u32>,
    /// How many of `ids` were attended to, from the first.
    pub attended: usize,
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<ColbertEncoder>();
};

/// The encoder's own way to multiply matrices, for `examples/products.rs`: `[n, k]` by `[m, k]`, sums in `f32`.
///
/// # Panics
/// When rows of either are not stored one after the other.
#[cfg(feature = "products")]
#[doc(hidden)]
pub fn product<R: burn_cubecl::CubeRuntime>(
    x: burn_cubecl::tensor::CubeTensor<R>,
    weight: burn_cubecl::tensor::CubeTensor<R>,
) -> burn_cubecl::tensor::CubeTensor<R> {
    assert!(ops::product::takes(&x, &weight), "rows that do not lie as they are taken");
    ops::product::product(x, weight, None, false, burn::tensor::DType::F32)
}
