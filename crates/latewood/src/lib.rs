//! Latewood over text: a folder goes in, ranked passages come out.
//!
//! This crate joins the rooms that know nothing of each other: `latewood-ingest` turns files into passages,
//! `latewood-encoder` passages and queries into token embeddings, `latewood-engine` keeps and searches them.
//! What it adds is the [`Catalog`] (which file each passage came from) and the passages' text, published
//! together with the vectors in one atomic commit.
//!
//! ```no_run
//! use std::sync::Arc;
//! use latewood::{Location, SearchOptions, TextIndex};
//! use latewood_encoder::ColbertEncoder;
//!
//! # fn main() -> latewood::Result<()> {
//! let encoder = Arc::new(ColbertEncoder::from_dir("models/latewood-mini".as_ref())?);
//! let location = Location::find(Some("docs".as_ref()), None)?;
//! let index = TextIndex::open_or_create(location, encoder)?;
//! index.sync(&Default::default(), &())?;
//! for hit in index.reader()?.search("how do I configure logging?", &SearchOptions::default())?.hits {
//!     println!("{}:{} {:.3} {}", hit.passage.path, hit.passage.lines.start(), hit.score, hit.passage.text);
//! }
//! # Ok(())
//! # }
//! ```

mod blocks;
mod budget;
mod cascade;
mod catalog;
pub mod device;
mod documents;
mod error;
pub mod eval;
mod explain;
mod filter;
mod intake;
mod keywords;
mod location;
pub mod maintain;
mod mode;
mod own_files;
mod ranking;
mod reader;
mod score_texts;
mod scripts;
mod snippet;
mod sync;
mod text_index;
mod texts;
pub mod vectors;

pub use budget::{Budget, Tuned};
pub use cascade::{PipelineAnswer, StageScores, rank_texts, rank_texts_for};
pub use catalog::{Catalog, FileRecord, Files, FilesIter, Metadata, PassageRecord, SkippedRecord, Source};
pub use documents::{Committed, Content, DocumentWriter, NewDocument, Put};
pub use error::{Error, Result};
pub use explain::TokenMatch;
pub use filter::Filter;
pub use latewood_encoder as encoder;
pub use latewood_engine as engine;
pub use latewood_ingest as ingest;
pub use latewood_rerank as rerank;
pub use location::{INDEX_DIR, Location};
pub use mode::Mode;
pub use reader::{Answer, Hit, Passage, Reader, SearchOptions};
pub use score_texts::score_texts;
pub use sync::{Event, LeftOut, Monitor, SyncOptions, SyncReport};
pub use text_index::TextIndex;
