//! The container that every file of an index is: header, checksummed sections, table, trailer.
//!
//! index-format.md at the root of the repository is the specification; this module mirrors it.

mod lazy;
mod reader;
mod writer;

pub(crate) use lazy::Lazy;
pub(crate) use reader::{Container, Located};
pub(crate) use writer::{ContainerWriter, to_bytes};

/// The format version that this build writes and reads.
pub const FORMAT_VERSION: u32 = 2;

/// First bytes of a file: not text, and altered by any newline translation (as PNG's signature).
pub(crate) const MAGIC: [u8; 8] = *b"\x89LWD\r\n\x1a\n";
/// Last bytes of a file: there only if its end was written.
pub(crate) const END_MAGIC: [u8; 8] = *b"LWD-end\n";

/// Bytes of the header.
pub(crate) const HEADER: usize = 64;
/// Bytes of a row of the section table.
pub(crate) const ENTRY: usize = 32;
/// Bytes of the trailer.
pub(crate) const TRAILER: usize = 64;
/// Sections start at multiples of this.
pub(crate) const ALIGN: usize = 64;
/// A longer section has a checksum for each block of so many bytes.
pub(crate) const BLOCK: usize = 1 << 16;
/// The section of those checksums, the last of a file that has any.
pub(crate) const SUMS: SectionId = SectionId::new(b"SUMS", "block checksums");
/// More sections than any file has: a larger count is damage.
pub(crate) const MAX_SECTIONS: usize = 64;

/// Features that a reader must know to read a file; none so far.
pub(crate) const KNOWN_READER_FLAGS: u32 = 0;
/// Features that a writer must know to write beside a file; none so far.
pub(crate) const KNOWN_WRITER_FLAGS: u32 = 0;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) [u8; 4]);

impl Kind {
    pub(crate) const MANIFEST: Kind = Kind(*b"MANI");
    pub(crate) const CODEC: Kind = Kind(*b"CODE");
    pub(crate) const SHARD: Kind = Kind(*b"SHRD");
}

/// A section's name: four bytes in the file, words in messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SectionId {
    pub(crate) tag: [u8; 4],
    pub(crate) name: &'static str,
}

impl SectionId {
    pub(crate) const fn new(tag: &[u8; 4], name: &'static str) -> Self {
        Self { tag: *tag, name }
    }
}
