//! Reading a container: every size is checked before a slice is made.

use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::AnyBitPattern;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::lazy::Checked;
use super::{
    ALIGN, BLOCK, END_MAGIC, ENTRY, FORMAT_VERSION, HEADER, KNOWN_READER_FLAGS, KNOWN_WRITER_FLAGS, Kind, MAGIC,
    MAX_SECTIONS, SUMS, SectionId, TRAILER,
};
use crate::directory::{Bytes, Directory};
use crate::error::{Error, Result};

/// An open container. Its structure and its short sections have been checked; the blocks of long ones are checked when
/// first read ([`super::Lazy`]), or all by [`Container::verify`].
#[derive(Debug)]
pub(crate) struct Container {
    pub(super) bytes: Bytes,
    path: PathBuf,
    sections: Vec<Section>,
    /// Where the checksums of blocks lie.
    pub(super) sums: Range<usize>,
    pub(super) checked: Checked,
    digest: u64,
    read_only: bool,
}

/// Where the values of a section lie: their number and alignment are right.
#[derive(Debug)]
pub(crate) struct Located<T> {
    pub(super) range: Range<usize>,
    blocks: Option<usize>,
    values: PhantomData<T>,
}

impl<T> Located<T> {
    /// The number of its first block, if it is long enough to have blocks.
    pub(super) fn blocks(&self) -> Option<usize> {
        self.blocks
    }
}

#[derive(Debug)]
struct Section {
    id: SectionId,
    range: Range<usize>,
    checksum: u64,
    /// The number of its first block, if it has any.
    blocks: Option<usize>,
}

impl Container {
    /// Opens the file `name`, which must be of `kind` and may have the sections `known`.
    pub(crate) fn open(directory: &dyn Directory, name: &str, kind: Kind, known: &[SectionId]) -> Result<Self> {
        Self::parse(directory.open(name)?, directory.path().join(name), kind, known)
    }

    /// Parses `bytes`; `path` is for messages.
    pub(crate) fn parse(bytes: Bytes, path: PathBuf, kind: Kind, known: &[SectionId]) -> Result<Self> {
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
        for (what, reserved) in [("header", &header[24..]), ("trailer", &trailer[32..56])] {
            if reserved.iter().any(|&b| b != 0) {
                return Err(damaged(what, "bytes that must be 0 are not".into()));
            }
        }
        let (sections, blocks) = parse_table(&bytes[table.clone()], table.start, known)
            .map_err(|detail| damaged("section table", detail.into()))?;
        let read_only = writer_flags & !KNOWN_WRITER_FLAGS != 0;
        let sums = sections.last().filter(|s| s.id.tag == SUMS.tag).map_or(0..0, |s| s.range.clone());
        if blocks.checked_mul(8) != Some(sums.len()) {
            return Err(damaged(SUMS.name, format!("{} bytes for {blocks} blocks", sums.len())));
        }
        let checked = Checked::new(blocks);
        let container = Self { bytes, path, sections, sums, checked, digest, read_only };
        container.check_structure()?;
        Ok(container)
    }

    /// Checks the padding, and every section whole that is short, or the checksums of its blocks where it is long.
    fn check_structure(&self) -> Result<()> {
        let mut end = HEADER;
        for section in &self.sections {
            if self.bytes[end..section.range.start].iter().any(|&b| b != 0) {
                return Err(self.damaged(section.id.name, "the padding before it is not empty".into()));
            }
            let hashed = match section.blocks {
                None => &self.bytes[section.range.clone()],
                Some(first) => {
                    let count = section.range.len().div_ceil(BLOCK);
                    &self.bytes[self.sums.clone()][first * 8..(first + count) * 8]
                }
            };
            if xxh3_64(hashed) != section.checksum {
                return Err(self.damaged(section.id.name, "its checksum does not match".into()));
            }
            end = section.range.end;
        }
        let table = self.bytes.len() - TRAILER - self.sections.len() * ENTRY;
        if self.bytes[end..table].iter().any(|&b| b != 0) {
            return Err(self.damaged("section table", "the padding before it is not empty".into()));
        }
        Ok(())
    }

    /// The bytes of a section, checked.
    pub(crate) fn section(&self, id: SectionId) -> Result<&[u8]> {
        let section = self.find(id)?;
        self.check_section(section)?;
        Ok(&self.bytes[section.range.clone()])
    }

    /// A section as values of `T`, of which there must be `count`; checked.
    pub(crate) fn values<T: AnyBitPattern>(&self, id: SectionId, count: usize) -> Result<&[T]> {
        self.located(id, count).map(|located| self.at(&located))
    }

    /// Finds and checks a section of `count` values of `T`, for [`Container::at`].
    pub(crate) fn located<T: AnyBitPattern>(&self, id: SectionId, count: usize) -> Result<Located<T>> {
        self.check_section(self.find(id)?)?;
        self.locate(id, count)
    }

    /// Finds a section of `count` values of `T` and checks its size and alignment: the content is for
    /// [`Container::lazy`] to check.
    pub(crate) fn locate<T: AnyBitPattern>(&self, id: SectionId, count: usize) -> Result<Located<T>> {
        let section = self.find(id)?;
        let bytes = &self.bytes[section.range.clone()];
        let values: &[T] = bytemuck::try_cast_slice(bytes)
            .map_err(|e| self.damaged(id.name, format!("{} bytes: {e}", bytes.len())))?;
        if values.len() != count {
            return Err(self.damaged(id.name, format!("{} values where {count} belong", values.len())));
        }
        Ok(Located { range: section.range.clone(), blocks: section.blocks, values: PhantomData })
    }

    /// The values of a section that was found in this container.
    pub(crate) fn at<T: AnyBitPattern>(&self, located: &Located<T>) -> &[T] {
        bytemuck::cast_slice(&self.bytes[located.range.clone()])
    }

    /// Bytes of a section; `None` where there is none.
    pub(crate) fn size_of(&self, id: SectionId) -> Option<usize> {
        self.find(id).ok().map(|section| section.range.len())
    }

    /// Checks that a section is not there.
    pub(crate) fn lacks(&self, id: SectionId) -> Result<()> {
        match self.find(id) {
            Ok(_) => Err(self.damaged(id.name, "the section does not belong here".into())),
            Err(_) => Ok(()),
        }
    }

    /// Checks every checksum.
    pub(crate) fn verify(&self) -> Result<()> {
        self.sections.iter().try_for_each(|section| self.check_section(section))
    }

    /// The sections: name and bytes.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.sections.iter().map(|section| (section.id.name, section.range.len()))
    }

    fn find(&self, id: SectionId) -> Result<&Section> {
        let section = self.sections.iter().find(|s| s.id.tag == id.tag);
        section.ok_or_else(|| self.damaged(id.name, "the section is missing".into()))
    }

    /// Checks the blocks of a section; a short one has been checked when the file was opened.
    fn check_section(&self, section: &Section) -> Result<()> {
        let Some(first) = section.blocks else { return Ok(()) };
        for block in 0..section.range.len().div_ceil(BLOCK) {
            if !self.block_is_sound(first + block, self.block(&section.range, block)) {
                return Err(self.damaged(section.id.name, format!("the checksum of block {block} does not match")));
            }
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

/// The sections, one right after the other from the header to the table; and how many blocks they have.
fn parse_table(table: &[u8], table_start: usize, known: &[SectionId]) -> Result<(Vec<Section>, usize), &'static str> {
    let (mut end, mut blocks) = (HEADER, 0usize);
    let mut sections: Vec<Section> = Vec::new();
    for entry in table.chunks_exact(ENTRY) {
        let tag = [entry[0], entry[1], entry[2], entry[3]];
        if sections.iter().any(|s| s.id.tag == tag || s.id.tag == SUMS.tag) {
            return Err("a section is there twice, or after the last");
        }
        if entry[4..8] != [0; 4] {
            return Err("bytes that must be 0 are not");
        }
        let range = section_range(entry, end).filter(|range| range.end <= table_start);
        let range = range.ok_or("a section is not where it belongs")?;
        end = range.end;
        let id = known.iter().chain([&SUMS]).find(|id| id.tag == tag).copied();
        let id = id.unwrap_or(SectionId { tag, name: "unknown section" });
        let long = range.len() > BLOCK && tag != SUMS.tag;
        let first = long.then_some(blocks);
        blocks += if long { range.len().div_ceil(BLOCK) } else { 0 };
        sections.push(Section { id, range, checksum: u64_at(entry, 24), blocks: first });
    }
    if sections.last().is_some_and(|s| s.id.tag == SUMS.tag && s.range.is_empty()) {
        return Err("there are checksums of no blocks");
    }
    if end.next_multiple_of(ALIGN) == table_start {
        Ok((sections, blocks))
    } else {
        Err("it is not after the last section")
    }
}

/// Where a row of the table says that its section lies: at the next place after `end`.
fn section_range(entry: &[u8], end: usize) -> Option<Range<usize>> {
    let start = usize::try_from(u64_at(entry, 8)).ok()?;
    let stop = start.checked_add(usize::try_from(u64_at(entry, 16)).ok()?)?;
    (start == end.next_multiple_of(ALIGN)).then_some(start..stop)
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
        to_bytes(Kind::SHARD, &[(A, b"hello"), (B, &[7; 100])]).unwrap()
    }

    fn parse(bytes: Vec<u8>) -> Result<Container> {
        Container::parse(Bytes::new(bytes), "sample".into(), Kind::SHARD, &[A, B])
    }

    fn open(bytes: Vec<u8>) -> Result<Container> {
        let container = parse(bytes)?;
        container.verify()?;
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

    /// A long section is not read when the file is opened, and damage in it is found where it lies.
    #[test]
    fn long_sections_are_checked_block_by_block() {
        let long: Vec<u8> = (0..2 * BLOCK + 100).map(|i| i as u8).collect();
        let bytes = to_bytes(Kind::SHARD, &[(A, b"hello"), (B, &long)]).unwrap();
        let open_lazy = |bytes: Vec<u8>, largest: u8| {
            let container = parse(bytes).unwrap();
            let located = container.locate::<u8>(B, long.len()).unwrap();
            let lazy = container.lazy(B.name, located, move |values| values.iter().all(|&x| x <= largest)).unwrap();
            (container, lazy)
        };
        let (container, lazy) = open_lazy(bytes.clone(), u8::MAX);
        for range in [0..10, BLOCK - 5..BLOCK + 5, 0..long.len(), 7..7] {
            assert_eq!(container.get(&lazy, range.clone()).unwrap(), &long[range]);
        }
        assert!(container.get(&lazy, 5..long.len() + 1).is_err());
        let mut altered = bytes.clone();
        altered[128 + BLOCK + 3] ^= 1;
        let (container, lazy) = open_lazy(altered.clone(), u8::MAX);
        assert!(container.get(&lazy, 0..BLOCK).is_ok() && container.get(&lazy, 2 * BLOCK..long.len()).is_ok());
        for _ in 0..2 {
            let text = container.get(&lazy, BLOCK - 1..BLOCK + 1).unwrap_err().to_string();
            assert!(text.contains("second") && text.contains("block 1"), "{text}");
        }
        assert!(open(altered).is_err() && container.section(B).is_err());
        let (container, lazy) = open_lazy(bytes.clone(), 254);
        assert!(container.get(&lazy, 0..1).unwrap_err().to_string().contains("out of range"));
        // The checksums of blocks are themselves checked when the file is opened.
        for at in 128 + long.len()..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 4;
            assert!(parse(altered).is_err(), "byte {at}");
        }
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
