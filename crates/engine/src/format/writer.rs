//! Writing a container, front to back in one pass.

use std::io::{self, Write};
use std::path::PathBuf;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{ALIGN, BLOCK, END_MAGIC, ENTRY, FORMAT_VERSION, HEADER, Kind, MAGIC, SUMS, SectionId, TRAILER};
use crate::directory::{Directory, FileWriter};
use crate::error::{Error, Result};

/// A container being written to a file.
pub(crate) struct ContainerWriter {
    parts: Parts<Box<dyn FileWriter>>,
    path: PathBuf,
}

impl ContainerWriter {
    /// Starts the file `name`.
    pub(crate) fn create(directory: &dyn Directory, name: &str, kind: Kind) -> Result<Self> {
        let (file, path) = (directory.create(name)?, directory.path().join(name));
        match Parts::new(file, kind) {
            Ok(parts) => Ok(Self { parts, path }),
            Err(e) => Err(Error::io("write", path, e)),
        }
    }

    /// Starts a section, ending the one before.
    pub(crate) fn start(&mut self, id: SectionId) -> Result<()> {
        self.parts.start(id).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Adds to the section.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.parts.write(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    /// A whole section.
    pub(crate) fn section(&mut self, id: SectionId, bytes: &[u8]) -> Result<()> {
        self.start(id)?;
        self.write(bytes)
    }

    /// Writes what ends the file and makes it durable.
    pub(crate) fn finish(self) -> Result<()> {
        self.parts.finish().map_err(|e| Error::io("write", &self.path, e))?.finish()
    }
}

/// A small container in memory: for the file that is replaced whole.
pub(crate) fn to_bytes(kind: Kind, sections: &[(SectionId, &[u8])]) -> io::Result<Vec<u8>> {
    let mut parts = Parts::new(Vec::new(), kind)?;
    for (id, bytes) in sections {
        parts.start(*id)?;
        parts.write(bytes)?;
    }
    parts.finish()
}

/// The parts of a container, in order.
struct Parts<W> {
    out: W,
    header: [u8; HEADER],
    position: u64,
    table: Vec<u8>,
    /// The checksums of all blocks of the long sections so far.
    sums: Vec<u8>,
    open: Option<Open>,
}

/// The section being written.
struct Open {
    tag: [u8; 4],
    start: u64,
    /// Of the current block.
    hash: Xxh3,
    in_block: usize,
    /// Checksums of the blocks before.
    sums: Vec<u8>,
}

impl<W: Write> Parts<W> {
    fn new(out: W, kind: Kind) -> io::Result<Self> {
        let header = header(kind);
        let mut parts = Self { out, header, position: 0, table: Vec::new(), sums: Vec::new(), open: None };
        parts.raw(&header)?;
        Ok(parts)
    }

    fn start(&mut self, id: SectionId) -> io::Result<()> {
        self.close();
        self.pad()?;
        let hash = Xxh3::new();
        self.open = Some(Open { tag: id.tag, start: self.position, hash, in_block: 0, sums: Vec::new() });
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.hash(bytes);
        }
        self.raw(bytes)
    }

    fn finish(mut self) -> io::Result<W> {
        self.close();
        if !self.sums.is_empty() {
            self.pad()?;
            let sums = std::mem::take(&mut self.sums);
            push_entry(&mut self.table, SUMS.tag, self.position, sums.len() as u64, xxh3_64(&sums));
            self.raw(&sums)?;
        }
        self.pad()?;
        let table = std::mem::take(&mut self.table);
        let trailer = trailer(&self.header, &table, self.position);
        self.raw(&table)?;
        self.raw(&trailer)?;
        Ok(self.out)
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            let len = self.position - open.start;
            let mut checksum = open.hash.digest();
            if len > BLOCK as u64 {
                open.end_block();
                checksum = xxh3_64(&open.sums);
                self.sums.extend_from_slice(&open.sums);
            }
            push_entry(&mut self.table, open.tag, open.start, len, checksum);
        }
    }

    fn pad(&mut self) -> io::Result<()> {
        let short = self.position.next_multiple_of(ALIGN as u64) - self.position;
        self.raw(&[0; ALIGN][..short as usize])
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

impl Open {
    fn hash(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.in_block == BLOCK {
                self.end_block();
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.in_block));
            self.hash.update(now);
            self.in_block += now.len();
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        self.sums.extend_from_slice(&self.hash.digest().to_le_bytes());
        self.hash.reset();
        self.in_block = 0;
    }
}

fn header(kind: Kind) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&kind.0);
    header
}

fn push_entry(table: &mut Vec<u8>, tag: [u8; 4], offset: u64, len: u64, hash: u64) {
    table.extend_from_slice(&tag);
    table.extend_from_slice(&[0; 4]);
    for x in [offset, len, hash] {
        table.extend_from_slice(&x.to_le_bytes());
    }
}

/// The trailer; the digest in it is over header, table and the fields of the trailer, and so, through the table's
/// checksums, over all content.
fn trailer(header: &[u8; HEADER], table: &[u8], table_offset: u64) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[0..8].copy_from_slice(&table_offset.to_le_bytes());
    trailer[8..16].copy_from_slice(&((table.len() / ENTRY) as u64).to_le_bytes());
    trailer[16..24].copy_from_slice(&(table_offset + (table.len() + TRAILER) as u64).to_le_bytes());
    trailer[56..64].copy_from_slice(&END_MAGIC);
    let digest = super::reader::digest(header, table, &trailer);
    trailer[24..32].copy_from_slice(&digest.to_le_bytes());
    trailer
}
