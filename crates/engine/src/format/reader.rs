//! Reading a container: every size is checked before a slice is made.

use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    ALIGN, END_MAGIC, ENTRY, FORMAT_VERSION, HEADER, KNOWN_READER_FLAGS, KNOWN_WRITER_FLAGS, Kind, MAGIC, MAX_SECTIONS,
    SectionId, TRAILER,
};
use crate::directory::{Bytes, Directory};
use crate::error::{Error, Result};

/// An open container: its structure has been checked; [`Container::verify`] checks the content.
#[derive(Debug)]
pub(crate) struct Container {
    bytes: Bytes,
    path: PathBuf,
    sections: Vec<Section>,
    digest: u64,
    read_only: bool,
}

/// Where the values of a section lie: their number and alignment are right.
#[derive(Debug)]
pub(crate) struct Located<T> {
    range: Range<usize>,
    values: PhantomData<T>,
}

#[derive(Debug)]
struct Section {
    tag: [u8; 4],
    range: Range<usize>,
    checksum: u64,
}

impl Container {
    /// Opens the file `name`, which must be of `kind`.
    pub(crate) fn open(directory: &dyn Directory, name: &str, kind: Kind) -> Result<Self> {
        Self::parse(directory.open(name)?, directory.path().join(name), kind)
    }

    /// Parses `bytes`; `path` is for messages.
    pub(crate) fn parse(bytes: Bytes, path: PathBuf, kind: Kind) -> Result<Self> {
        let damaged = |what, detail: String| Error::Damaged { file: path.clone(), what, detail };
        let len = bytes.len();
        if len < HEADER + TRAILER {
            return Err(damaged("header", format!("the file has {len} bytes, fewer than any file of an index")));
        }
        let (header, trailer) = (&bytes[..HEADER], &bytes[len - TRAILER..]);
        if header[..8] != MAGIC {
            return Err(damaged("header", "this is no file of a Latewood index".into()));
        }
        let version = u32_at(header, 8);
        if version != FORMAT_VERSION {
            return Err(unsupported(&path, "format version", version.to_string(), FORMAT_VERSION.to_string()));
        }
        let (reader_flags, writer_flags) = (u32_at(header, 16), u32_at(header, 20));
        if reader_flags & !KNOWN_READER_FLAGS != 0 {
            let known = format!("{KNOWN_READER_FLAGS:#x}");
            return Err(unsupported(&path, "needs features", format!("{reader_flags:#x}"), known));
        }
        if trailer[56..] != END_MAGIC || u64_at(trailer, 16) != len as u64 {
            return Err(damaged(
                "trailer",
                format!("the file ends in the wrong place, at {len} bytes: was it cut short?"),
            ));
        }
        let table =
            table_range(trailer, len).ok_or_else(|| damaged("trailer", "the section table is outside".into()))?;
        let digest = digest(header, &bytes[table.clone()], trailer);
        if digest != u64_at(trailer, 24) {
            return Err(damaged("section table", "its checksum does not match".into()));
        }
        if header[12..16] != kind.0 {
            let found = String::from_utf8_lossy(&header[12..16]);
            return Err(damaged("header", format!("the file is of kind {found}")));
        }
        let sections = parse_table(&bytes[table.clone()], table.start)
            .ok_or_else(|| damaged("section table", "a section is outside of the file".into()))?;
        let read_only = writer_flags & !KNOWN_WRITER_FLAGS != 0;
        Ok(Self { bytes, path, sections, digest, read_only })
    }

    /// The bytes of a section.
    pub(crate) fn section(&self, id: SectionId) -> Result<&[u8]> {
        let section = self.sections.iter().find(|s| s.tag == id.tag);
        let section = section.ok_or_else(|| self.damaged(id.name, "the section is missing".into()))?;
        Ok(&self.bytes[section.range.clone()])
    }

    /// A section as values of `T`, of which there must be `count`.
    pub(crate) fn values<T: AnyBitPattern>(&self, id: SectionId, count: usize) -> Result<&[T]> {
        self.locate(id, count).map(|located| self.at(&located))
    }

    /// Finds a section of `count` values of `T` and checks its size and alignment, for [`Container::at`].
    pub(crate) fn locate<T: AnyBitPattern>(&self, id: SectionId, count: usize) -> Result<Located<T>> {
        let bytes = self.section(id)?;
        let values: &[T] = bytemuck::try_cast_slice(bytes)
            .map_err(|e| self.damaged(id.name, format!("{} bytes: {e}", bytes.len())))?;
        if values.len() != count {
            return Err(self.damaged(id.name, format!("{} values where {count} belong", values.len())));
        }
        let start = bytes.as_ptr().addr() - self.bytes.as_ptr().addr();
        Ok(Located { range: start..start + bytes.len(), values: PhantomData })
    }

    /// The values of a section that [`Container::locate`] found in this container.
    pub(crate) fn at<T: AnyBitPattern>(&self, located: &Located<T>) -> &[T] {
        bytemuck::cast_slice(&self.bytes[located.range.clone()])
    }

    /// Checks every section's checksum, and that nothing lies between the sections.
    pub(crate) fn verify(&self, name_of: impl Fn([u8; 4]) -> &'static str) -> Result<()> {
        let mut end = HEADER;
        for section in &self.sections {
            let gap = &self.bytes[end..section.range.start];
            if gap.iter().any(|&b| b != 0) {
                return Err(self.damaged(name_of(section.tag), "the padding before it is not empty".into()));
            }
            if xxh3_64(&self.bytes[section.range.clone()]) != section.checksum {
                return Err(self.damaged(name_of(section.tag), "its checksum does not match".into()));
            }
            end = section.range.end;
        }
        let table = self.bytes.len() - TRAILER - self.sections.len() * ENTRY;
        if self.bytes[end..table].iter().any(|&b| b != 0) {
            return Err(self.damaged("section table", "the padding before it is not empty".into()));
        }
        Ok(())
    }

    /// The file's identity: a hash over header, table and trailer, and so over the content's checksums.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether a newer writer asked older ones to keep off.
    pub(crate) fn read_only(&self) -> bool {
        self.read_only
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about this file.
    pub(crate) fn damaged(&self, what: &'static str, detail: String) -> Error {
        Error::Damaged { file: self.path.clone(), what, detail }
    }
}

/// Hash of header, table, and trailer without the hash itself.
pub(super) fn digest(header: &[u8], table: &[u8], trailer: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    for part in [header, table, &trailer[..24], &trailer[32..]] {
        hash.update(part);
    }
    hash.digest()
}

fn unsupported(path: &Path, what: &'static str, found: String, supported: String) -> Error {
    Error::Unsupported { file: path.into(), what, found, supported }
}

/// Where the trailer says that the table lies: right before the trailer.
fn table_range(trailer: &[u8], len: usize) -> Option<Range<usize>> {
    let start = usize::try_from(u64_at(trailer, 0)).ok()?;
    let count = usize::try_from(u64_at(trailer, 8)).ok().filter(|&n| n <= MAX_SECTIONS)?;
    let end = start.checked_add(count * ENTRY)?;
    (start >= HEADER && end == len - TRAILER).then_some(start..end)
}

/// The sections: in order, aligned, not overlapping, between header and table.
fn parse_table(table: &[u8], table_start: usize) -> Option<Vec<Section>> {
    let mut end = HEADER;
    table
        .chunks_exact(ENTRY)
        .map(|entry| {
            let start = usize::try_from(u64_at(entry, 8)).ok()?;
            let stop = start.checked_add(usize::try_from(u64_at(entry, 16)).ok()?)?;
            if start < end || start - end >= ALIGN || !start.is_multiple_of(ALIGN) || stop > table_start {
                return None;
            }
            end = stop;
            let tag = [entry[0], entry[1], entry[2], entry[3]];
            Some(Section { tag, range: start..stop, checksum: u64_at(entry, 24) })
        })
        .collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut x = [0; 4];
    x.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(x)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut x = [0; 8];
    x.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(x)
}

#[cfg(test)]
mod tests {
    use super::super::to_bytes;
    use super::*;

    const A: SectionId = SectionId::new(b"AAAA", "first");
    const B: SectionId = SectionId::new(b"BBBB", "second");

    fn sample() -> Vec<u8> {
        to_bytes(Kind::SHARD, &[(A, b"hello"), (B, &[7; 100])])
    }

    fn open(bytes: Vec<u8>) -> Result<Container> {
        let container = Container::parse(Bytes::new(bytes), "sample".into(), Kind::SHARD)?;
        container.verify(|_| "section")?;
        Ok(container)
    }

    #[test]
    fn sections_come_back() {
        let container = open(sample()).unwrap();
        assert_eq!(container.section(A).unwrap(), b"hello");
        assert_eq!(container.values::<u8>(B, 100).unwrap(), [7; 100]);
        assert!(container.values::<u8>(B, 99).is_err());
        assert!(container.section(SectionId::new(b"CCCC", "third")).unwrap_err().to_string().contains("third"));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                assert!(open(altered).is_err(), "bit {bit} of byte {at}");
            }
            assert!(open(bytes[..at].to_vec()).is_err(), "cut to {at} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = sample();
        bytes[8] = 9;
        let text = open(bytes).unwrap_err().to_string();
        assert!(text.contains("format version 9") && text.contains(&format!("reads {FORMAT_VERSION}")), "{text}");
    }
}
