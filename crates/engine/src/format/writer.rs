//! Writing a container, front to back in one pass.

use std::path::PathBuf;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{ALIGN, END_MAGIC, ENTRY, FORMAT_VERSION, HEADER, Kind, MAGIC, SectionId, TRAILER};
use crate::directory::{Directory, FileWriter};
use crate::error::{Error, Result};

/// A container being written.
pub(crate) struct ContainerWriter {
    file: Box<dyn FileWriter>,
    path: PathBuf,
    header: [u8; HEADER],
    position: u64,
    table: Vec<u8>,
    hash: Xxh3,
    open: Option<([u8; 4], u64)>,
}

impl ContainerWriter {
    /// Starts the file `name`.
    pub(crate) fn create(directory: &dyn Directory, name: &str, kind: Kind) -> Result<Self> {
        let file = directory.create(name)?;
        let header = header(kind);
        let path = directory.path().join(name);
        let mut writer = Self { file, path, header, position: 0, table: Vec::new(), hash: Xxh3::new(), open: None };
        writer.raw(&header)?;
        Ok(writer)
    }

    /// Starts a section, ending the one before.
    pub(crate) fn start(&mut self, id: SectionId) -> Result<()> {
        self.close()?;
        self.pad()?;
        self.hash.reset();
        self.open = Some((id.tag, self.position));
        Ok(())
    }

    /// Adds to the section.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        debug_assert!(self.open.is_some(), "bytes outside of a section");
        self.hash.update(bytes);
        self.raw(bytes)
    }

    /// A whole section.
    pub(crate) fn section(&mut self, id: SectionId, bytes: &[u8]) -> Result<()> {
        self.start(id)?;
        self.write(bytes)
    }

    /// Writes the table and the trailer and makes the file durable.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.close()?;
        self.pad()?;
        let table = std::mem::take(&mut self.table);
        let trailer = trailer(&self.header, &table, self.position);
        self.raw(&table)?;
        self.raw(&trailer)?;
        self.file.finish()
    }

    fn close(&mut self) -> Result<()> {
        if let Some((tag, start)) = self.open.take() {
            push_entry(&mut self.table, tag, start, self.position - start, self.hash.digest());
        }
        Ok(())
    }

    fn pad(&mut self) -> Result<()> {
        let short = self.position.next_multiple_of(ALIGN as u64) - self.position;
        self.raw(&[0; ALIGN][..short as usize])
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

/// A small container in memory: for the file that is replaced whole.
pub(crate) fn to_bytes(kind: Kind, sections: &[(SectionId, &[u8])]) -> Vec<u8> {
    let header = header(kind);
    let mut out = header.to_vec();
    let mut table = Vec::new();
    for (id, bytes) in sections {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
        push_entry(&mut table, id.tag, out.len() as u64, bytes.len() as u64, xxh3_64(bytes));
        out.extend_from_slice(bytes);
    }
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    let trailer = trailer(&header, &table, out.len() as u64);
    out.extend_from_slice(&table);
    out.extend_from_slice(&trailer);
    out
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
