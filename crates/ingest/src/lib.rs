//! From a folder to passages: the part of Latewood that knows files and text, and nothing of
//! embeddings or indexes.
//!
//! The way of a file:
//!
//! 1. [`walk`] lists the files of a folder, in a fixed order, by the rules of `.gitignore`,
//!    `.ignore` and `.latewoodignore`. What is not read is listed too, each with its
//!    [`SkipReason`]: a file that silently is not found costs more than a long list.
//! 2. [`read_document`] reads one file, tells text from data, decodes it to UTF-8 and splits it.
//!    [`hash_file`] tells whether that is needed at all. Out of PDF, office files and e-books an
//!    [`Extractor`] takes the text, if the caller gives one.
//! 3. [`split_text`], which `read_document` calls, splits a text by its structure first and by
//!    tokens second: a passage holds whole paragraphs, list items or definitions, under one
//!    heading where it can, and never more than [`PassageOptions::max_tokens`] tokens.
//!
//! Every passage says where it comes from: [`Passage::span`] is an exact byte range of
//! [`Document::text`], so a hit can be shown in its place.
//!
//! ```
//! use latewood_ingest::{Kind, PassageOptions, split_text};
//!
//! let text = "# Pots\n\nClay is fired at 900 degrees.\n";
//! let words = |text: &str| text.split_whitespace().count();
//! let split = split_text(Kind::Markdown, text, &PassageOptions::default(), &words);
//! assert_eq!(split.title.as_deref(), Some("Pots"));
//! assert_eq!(split.passages[0].text, "# Pots\n\nClay is fired at 900 degrees.");
//! assert_eq!(split.passages[0].headings, ["Pots"]);
//! assert_eq!(split.passages[0].lines, 1..=3);
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod decode;
mod error;
mod extract;
mod kind;
mod read;
mod records;
mod split;
mod walk;

pub use error::{Error, Result, SkipReason, Skipped};
pub use extract::{ChildProcess, ExtractError, Extracted, Extractor, Format};
#[cfg(feature = "extract")]
pub use extract::{InProcess, serve};
pub use kind::Kind;
pub use read::{Document, ReadOptions, hash_file, read_document};
pub use records::{Fields, holds_records};
pub use split::{Passage, PassageOptions, Split, has_text, split_text};
pub use walk::{FileEntry, Walk, WalkOptions, walk};
