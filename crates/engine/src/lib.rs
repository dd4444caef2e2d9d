//! Latewood's engine: a compressed, memory-mapped index of token embeddings and MaxSim search over it.
//!
//! A document is a matrix of unit token vectors `[n, d]`, a query a matrix `[q, d]`, and the score is late
//! interaction (ColBERT, Khattab and Zaharia 2020): for each query row the largest dot product with a row of
//! the document, summed. The engine takes vectors and caller's keys ([`DocId`]) and gives back keys and
//! scores; it knows nothing of text or models, and of a row's token no more than a number, if it is given
//! ([`TokenEmbeddings::with_token_ids`]).
//!
//! # A tour
//! * [`TokenEmbeddings`], [`QueryEmbeddings`]: the only input, checked when made.
//! * [`ResidualCodec`]: a token becomes a centroid id and a few bits a dimension (ColBERTv2's residual
//!   compression, Santhanam et al. 2022, section 3.3).
//! * [`Shard`]: one immutable, checksummed, memory-mapped file of coded documents and posting lists.
//! * [`Index`], [`IndexWriter`], [`Searcher`]: shards and tombstones under a manifest; a commit is one atomic
//!   replacement of the manifest, a searcher is pinned to the manifest it opened.
//! * [`search`]: the pipeline, one file a stage: probe, gather, prune, rescore.
//! * [`exact`]: brute-force MaxSim over plain vectors, the oracle.
//! * [`Directory`] says where files live, [`Backend`] where arithmetic runs.
//!
//! ```
//! use latewood_engine::{DocId, Index, IndexOptions, QueryEmbeddings, RamDirectory, SearchParams, TokenEmbeddings};
//!
//! # fn main() -> latewood_engine::Result<()> {
//! let index = Index::create(RamDirectory::new(), IndexOptions::new(8))?;
//! let mut writer = index.writer()?;
//! let mut row = [0.0; 8];
//! for id in 0..3 {
//!     row.fill(0.0);
//!     row[id] = 1.0;
//!     writer.add(DocId(id as u64), TokenEmbeddings::new(row.to_vec(), 8)?.view())?;
//! }
//! writer.commit(None, &())?;
//!
//! let query = QueryEmbeddings::new(row.to_vec(), 8)?;
//! let found = index.searcher()?.search(&query, &SearchParams::default())?;
//! assert_eq!(found.hits[0].doc, DocId(2));
//! # Ok(())
//! # }
//! ```

mod backend;
mod codec;
mod directory;
mod embeddings;
mod error;
pub mod exact;
mod format;
mod ids;
mod index;
pub mod search;
mod shard;

pub use backend::{Backend, Coder, CpuBackend, Nearest, Plan, Ranked, Ranking, Searchable};
pub use codec::{CodedTokens, ResidualCodec, SUPPORTED_BITS, Sampler};
pub use directory::{Bytes, Directory, FileReader, FileWriter, Lock, MmapDirectory, RamDirectory};
pub use embeddings::{MAX_DIM, QueryEmbeddings, TokenEmbeddings, TokenEmbeddingsRef, UNIT_TOLERANCE};
pub use error::{Error, Result};
pub use format::FORMAT_VERSION;
pub use ids::{CentroidId, DocId, DocOrd};
pub use index::{Commit, Index, IndexInfo, IndexOptions, IndexWriter, Merge, Progress, ShardInfo, Stage};
pub use search::{Alignment, Hit, Prefilter, SearchParams, SearchResult, Searcher, Timings};
pub use shard::{Columns, Shard};
