//! One file: from its bytes to its passages.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::decode::{self, Decoded};
use crate::kind::{self, Guess};
use crate::split::{Passage, PassageOptions, Split, split_extracted, split_text};
use crate::{ExtractError, Extractor, Fields, FileEntry, Format, Kind, SkipReason, Skipped, records};

/// A line of code longer than this was not written by hand.
const LONG_LINE: usize = 50_000;

/// One file, decoded and split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The path relative to the root.
    pub path: String,
    /// The BLAKE3 hash of the file's bytes.
    pub hash: [u8; 32],
    /// What it was read as.
    pub kind: Kind,
    /// The encoding that it was in, as the WHATWG names it.
    pub encoding: &'static str,
    /// Its title, if it says one.
    pub title: Option<String>,
    /// The whole text in UTF-8, without a byte order mark: what the spans refer to. Of a document that text was taken out
    /// of, that text.
    pub text: String,
    /// How many bytes of the file stand before [`Document::text`]: 0, or 3 for a UTF-8 byte order
    /// mark. Added to a span it gives the bytes of the file. `None` where the text had to be
    /// transcoded, damaged bytes replaced, or the text taken out of a document, so that no such number exists.
    pub text_offset: Option<usize>,
    /// Its passages, in order.
    pub passages: Vec<Passage>,
}

/// How to read a file.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How large passages are.
    pub passages: PassageOptions,
    /// Who takes text out of documents that are no text; without one they are skipped.
    pub extractor: Option<Arc<dyn Extractor>>,
    /// Which fields of records are read.
    pub fields: Fields,
    /// Files that are no documents, and hold no records either, are skipped over this many bytes; 0 reads all.
    pub max_file_bytes: u64,
}

/// Reads, decodes and splits one file. See [`split_text`] about `count_tokens`.
pub fn read_document(
    root: &Path,
    entry: &FileEntry,
    options: &ReadOptions,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<Document, Skipped> {
    let read = || {
        let bytes = std::fs::read(root.join(&entry.path)).map_err(|error| SkipReason::Unreadable(error.to_string()))?;
        document(&entry.path, bytes, options, count_tokens)
    };
    read().map_err(|reason| reason.at(&entry.path))
}

/// The BLAKE3 hash of a file's bytes, the same as [`Document::hash`].
pub fn hash_file(root: &Path, entry: &FileEntry) -> Result<[u8; 32], Skipped> {
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(root.join(&entry.path))?)?;
        Ok(*hasher.finalize().as_bytes())
    };
    hash().map_err(|error: std::io::Error| SkipReason::Unreadable(error.to_string()).at(&entry.path))
}

/// What [`read_document`] does once it has the bytes.
fn document(
    path: &str,
    bytes: Vec<u8>,
    options: &ReadOptions,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Result<Document, SkipReason> {
    let kind = kind_of(path, &bytes)?;
    let hash = *blake3::hash(&bytes).as_bytes();
    let (split, decoded) = if let Kind::Extracted(format) = kind {
        let extractor = options.extractor.as_ref().ok_or(SkipReason::NoExtractor(format.called()))?;
        let extracted = extractor.extract(format, &bytes).map_err(|error| not_extracted(format, error))?;
        let split = split_extracted(format, &extracted, &options.passages, count_tokens);
        (split, Decoded { text: extracted.text, encoding: "UTF-8", offset: None })
    } else {
        let declares = matches!(kind, Kind::Html | Kind::Code("xml"));
        let decoded = decode::decode(bytes, declares)?;
        let records = records::split(path, &decoded.text, &options.fields, &options.passages, count_tokens);
        if let Some((kind, split)) = records {
            return finished(path, hash, kind, decoded, split);
        }
        let (size, limit) = (decoded.text.len() as u64, options.max_file_bytes);
        if limit > 0 && size > limit {
            return Err(SkipReason::TooLarge { size, limit });
        }
        if is_generated(kind, &decoded.text) {
            return Err(SkipReason::Generated("a line of over 50 kB"));
        }
        (split_text(kind, &decoded.text, &options.passages, count_tokens), decoded)
    };
    finished(path, hash, kind, decoded, split)
}

/// The document, if there is anything in it.
fn finished(path: &str, hash: [u8; 32], kind: Kind, decoded: Decoded, split: Split) -> Result<Document, SkipReason> {
    if split.passages.is_empty() {
        return Err(SkipReason::Empty);
    }
    Ok(Document {
        path: path.to_owned(),
        hash,
        kind,
        encoding: decoded.encoding,
        title: split.title,
        text: decoded.text,
        text_offset: decoded.offset,
        passages: split.passages,
    })
}

fn not_extracted(format: Format, error: ExtractError) -> SkipReason {
    match error {
        ExtractError::Document(cause) => SkipReason::NotExtracted { format, cause },
        ExtractError::Extractor(cause) => SkipReason::Unreadable(cause),
    }
}

/// The kind of a file by its name and its bytes, or why it is not read.
fn kind_of(path: &str, bytes: &[u8]) -> Result<Kind, SkipReason> {
    if bytes.is_empty() {
        return Err(SkipReason::Empty);
    }
    let kind = match kind::guess(path) {
        Guess::Unsupported(kind) => return Err(SkipReason::Unsupported(kind)),
        Guess::Generated(kind) => return Err(SkipReason::Generated(kind)),
        Guess::Document(format) => return Ok(Kind::Extracted(format)),
        Guess::Text(kind) => kind,
        Guess::Unknown => Kind::PlainText,
    };
    match kind::magic(bytes) {
        None => {}
        // The one document that its first bytes tell for certain, whatever the name says.
        Some("PDF") => return Ok(Kind::Extracted(Format::Pdf)),
        Some(kind) => return Err(SkipReason::Unsupported(kind)),
    }
    let marked = decode::has_utf16_mark(bytes) || bytes.starts_with(b"\0\0\xfe\xff");
    if !marked && kind::is_binary(bytes) {
        return Err(SkipReason::Binary);
    }
    Ok(kind)
}

/// Whether no one wrote this: in code any very long line tells; in plain text one without
/// spaces does, since some keep a whole chapter in one line. Pages and Markdown pass: a single
/// line or an embedded image says nothing about the text around it.
fn is_generated(kind: Kind, text: &str) -> bool {
    let mut long = text.split('\n').filter(|line| line.len() > LONG_LINE);
    match kind {
        Kind::Markdown | Kind::RestructuredText | Kind::Html | Kind::Extracted(_) => false,
        Kind::Code(_) => long.next().is_some(),
        Kind::PlainText | Kind::Records(_) => long.any(|line| {
            let blanks = line.bytes().filter(u8::is_ascii_whitespace).count();
            blanks * 30 < line.len() && line.is_ascii()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(path: &str, bytes: &[u8]) -> Option<SkipReason> {
        let words = |text: &str| text.split_whitespace().count();
        document(path, bytes.to_vec(), &ReadOptions::default(), &words).err()
    }

    #[test]
    fn content_overrules_the_name() {
        assert_eq!(reason("a.md", b"\0\x01\x02"), Some(SkipReason::Binary));
        assert_eq!(reason("a", b"%PDF-1.4 text"), Some(SkipReason::NoExtractor("PDF")));
        assert_eq!(reason("a.docx", b"text"), Some(SkipReason::NoExtractor("word processor document")));
        assert_eq!(reason("a", b"{\\rtf1 text}"), Some(SkipReason::Unsupported("word processor document")));
        assert_eq!(reason("a.txt", b""), Some(SkipReason::Empty));
        assert_eq!(reason("a.txt", b" \n\t\n"), Some(SkipReason::Empty));
        assert_eq!(reason("a.html", b"<script>x()</script>"), Some(SkipReason::Empty));
        assert_eq!(reason("a", b"\0\0\xfe\xff\0\0\0a"), Some(SkipReason::UnknownEncoding));
        let options = ReadOptions { max_file_bytes: 20, ..ReadOptions::default() };
        let read =
            |text: &str| document("a.csv", text.into(), &options, &|text| text.len()).map(|read| read.passages.len());
        assert_eq!(read("text\na horn sounds\ntwice in a minute\n"), Ok(2));
        assert_eq!(read("year,amount\n2025,3\n2026,4\n"), Err(SkipReason::TooLarge { size: 26, limit: 20 }));
        assert_eq!(reason("LICENSE", b"Permission is granted"), None);
    }

    #[test]
    fn long_lines_tell_generated_files() {
        let generated = Some(SkipReason::Generated("a line of over 50 kB"));
        let dense = "a=1;".repeat(20_000);
        assert_eq!(reason("a.js", dense.as_bytes()), generated);
        assert_eq!(reason("a.txt", dense.as_bytes()), generated);
        let prose = "it was a dark and stormy night; ".repeat(2_000);
        assert_eq!(reason("a.txt", prose.as_bytes()), None);
        assert_eq!(reason("a.md", dense.as_bytes()), None);
    }
}
