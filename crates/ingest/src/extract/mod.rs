//! Text out of files that are no text: PDF, office documents, e-books.
//!
//! Every [`Format`] has an extractor, and all of them give the same: [`Extracted`], a text in Markdown, split like any
//! other Markdown, and where in it each page begins. The parsers are those of others (`unpdf`, `undoc`) but for
//! OpenDocument and EPUB, which are XML and HTML in an archive.
//!
//! Such files come from anywhere, and their parsers are large. So who takes the text out is the caller's decision,
//! an [`Extractor`]: [`InProcess`] does it at once; [`ChildProcess`] leaves it to a program that may crash, hang or run
//! out of memory, at the cost of one file. Without an extractor such files are skipped.
//!
//! What is compressed is taken apart within limits, whoever does it: an archive of 10 MB that holds 10 GB is refused.

#[cfg(feature = "extract")]
mod archive;
mod child;
#[cfg(feature = "extract")]
mod epub;
mod format;
mod frames;
#[cfg(feature = "extract")]
mod markdown;
#[cfg(feature = "extract")]
mod odf;
#[cfg(feature = "extract")]
mod office;
#[cfg(feature = "extract")]
mod pdf;
#[cfg(feature = "extract")]
mod worker;
#[cfg(feature = "extract")]
mod xml;

use std::fmt;

pub use child::ChildProcess;
pub use format::Format;
#[cfg(feature = "extract")]
pub use worker::serve;

/// The text of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The title that the document gives itself beside its text.
    pub title: Option<String>,
    /// Its text in Markdown: headings, lists, tables.
    pub text: String,
    /// Where in the text each page, slide or sheet begins; empty where the format has none.
    pub pages: Vec<usize>,
}

/// Why no text came out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The document's fault: it is damaged, encrypted, or more than the limits allow. Its words.
    #[error("{0}")]
    Document(String),
    /// Not the document's fault: another try may go well. Its words.
    #[error("{0}")]
    Extractor(String),
}

/// Takes the text out of documents.
pub trait Extractor: fmt::Debug + Send + Sync {
    /// The text of the document in `bytes`.
    ///
    /// # Errors
    /// When there is none to be had: see [`ExtractError`].
    fn extract(&self, format: Format, bytes: &[u8]) -> Result<Extracted, ExtractError>;
}

/// Takes text out in the calling process.
///
/// A panic of a parser costs one file. An endless loop, a stack that overflows or memory that runs out cost the process:
/// for documents of strangers there is [`ChildProcess`].
#[cfg(feature = "extract")]
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

#[cfg(feature = "extract")]
impl Extractor for InProcess {
    fn extract(&self, format: Format, bytes: &[u8]) -> Result<Extracted, ExtractError> {
        extract(format, bytes).map_err(ExtractError::Document)
    }
}

/// The text of a document, or what is wrong with it. A parser's panic is something wrong with it.
#[cfg(feature = "extract")]
fn extract(format: Format, bytes: &[u8]) -> Result<Extracted, String> {
    let read = || match format {
        Format::Pdf => pdf::read(bytes),
        Format::Docx | Format::Pptx | Format::Xlsx | Format::Doc | Format::Ppt | Format::Xls => {
            office::read(format, bytes)
        }
        Format::Odt | Format::Odp | Format::Ods => odf::read(bytes),
        Format::Epub => epub::read(bytes),
    };
    // Nothing is shared with the parser that a panic could leave half done.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("its parser panicked: {}", words.as_deref().unwrap_or("for no reason")))
    })
}
