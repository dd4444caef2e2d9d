//! The passages' text, beside the vectors.
//!
//! A commit that brings text writes one file `texts-N.lwt`: for each document one zstd block, its passages' text
//! end to end. The catalogue says where each block lies and checks it with a hash. Nothing in a file changes after
//! it is written; a file of which nothing is used any more is deleted, one of which little is used is copied over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use latewood_engine::{Bytes, Directory, FileWriter};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{Block, Catalog, FileRecord, decompress};
use crate::error::{Error, Result};

const EXTENSION: &str = ".lwt";
const LEVEL: i32 = 3;

fn name(blob: u32) -> String {
    format!("texts-{blob:06}{EXTENSION}")
}

/// Writes the texts of one commit.
pub(crate) struct TextsWriter<'a> {
    directory: &'a dyn Directory,
    blob: u32,
    file: Option<Box<dyn FileWriter>>,
    position: u64,
}

impl<'a> TextsWriter<'a> {
    /// For the file of texts number `blob`, made when the first text comes.
    pub(crate) fn new(directory: &'a dyn Directory, blob: u32) -> Self {
        Self { directory, blob, file: None, position: 0 }
    }

    /// Adds the text of one document, its passages' end to end.
    pub(crate) fn add(&mut self, text: &str) -> Result<Block> {
        let compressed = zstd::bulk::compress(text.as_bytes(), LEVEL)
            .map_err(|e| Error::io("compress text for", self.directory.path().join(name(self.blob)), e))?;
        self.add_compressed(&compressed)
    }

    fn add_compressed(&mut self, bytes: &[u8]) -> Result<Block> {
        let path = || self.directory.path().join(name(self.blob));
        let len = u32::try_from(bytes.len()).map_err(|_| {
            Error::io("write 4 GiB of text of one document to", path(), std::io::ErrorKind::FileTooLarge.into())
        })?;
        if self.file.is_none() {
            self.file = Some(self.directory.create(&name(self.blob))?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes).map_err(|e| Error::io("write", path(), e))?;
        }
        let block = Block { blob: self.blob, start: self.position, len, hash: xxh3_64(bytes) };
        self.position += u64::from(len);
        Ok(block)
    }

    /// Copies the blocks of files that hold more dead text than live into this one.
    pub(crate) fn compact(&mut self, catalog: &mut Catalog) -> Result<()> {
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for file in &catalog.files {
            *live.entry(file.block.blob).or_default() += u64::from(file.block.len);
        }
        live.remove(&self.blob);
        for (blob, used) in live {
            let bytes = self.directory.open(&name(blob))?;
            if used * 2 >= bytes.len() as u64 {
                continue;
            }
            for file in catalog.files.iter_mut().filter(|file| file.block.blob == blob) {
                file.block = self.add_compressed(compressed(self.directory.path(), &bytes, file)?)?;
            }
        }
        Ok(())
    }

    /// Makes the file durable; whether there is one.
    pub(crate) fn finish(mut self) -> Result<bool> {
        self.file.as_mut().map(|file| file.finish()).transpose()?;
        Ok(self.file.is_some())
    }
}

/// The texts that a catalogue speaks of, held open: they stay readable whatever later commits delete.
pub(crate) struct Texts {
    path: PathBuf,
    blobs: BTreeMap<u32, Bytes>,
}

impl Texts {
    /// Those of the documents that are `wanted`.
    pub(crate) fn open(
        directory: &dyn Directory,
        catalog: &Catalog,
        wanted: impl Fn(&FileRecord) -> bool,
    ) -> Result<Self> {
        let files = catalog.files.iter().filter(|file| wanted(file));
        let used: BTreeSet<u32> = files.map(|file| file.block.blob).collect();
        let blobs = used.into_iter().map(|blob| Ok((blob, directory.open(&name(blob))?)));
        Ok(Self { path: directory.path().into(), blobs: blobs.collect::<Result<_>>()? })
    }

    /// The text of one passage.
    pub(crate) fn read(&self, file: &FileRecord, passage: usize) -> Result<String> {
        let len = |records: &[crate::PassageRecord]| records.iter().map(|p| p.bytes as usize).sum::<usize>();
        let (start, total) = (len(&file.passages[..passage]), len(&file.passages));
        let end = start + file.passages[passage].bytes as usize;
        let bytes = self.blobs.get(&file.block.blob).map_or(&[][..], |bytes| bytes);
        let bytes = compressed(&self.path, bytes, file)?;
        let text = decompress(bytes, total).map_err(|e| damaged(&self.path, file, e))?;
        let text = text.get(start..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.map(str::to_owned)
            .ok_or_else(|| damaged(&self.path, file, "the text is not as long as its passages".into()))
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// A document's block, checked.
fn compressed<'b>(directory: &Path, bytes: &'b [u8], file: &FileRecord) -> Result<&'b [u8]> {
    let block = &file.block;
    let start = usize::try_from(block.start).ok();
    let slice = start.and_then(|start| bytes.get(start..start.checked_add(block.len as usize)?));
    match slice {
        Some(slice) if xxh3_64(slice) == block.hash => Ok(slice),
        Some(_) => Err(damaged(directory, file, "its checksum does not match".into())),
        None => Err(damaged(directory, file, "it lies outside of the file".into())),
    }
}

fn damaged(directory: &Path, file: &FileRecord, detail: String) -> Error {
    let detail = format!("{}: {detail}", file.path);
    Error::Damaged { file: directory.join(name(file.block.blob)), what: "text", detail }
}

/// Deletes files of texts that the catalogue does not use. Best effort: the next sync does what this one cannot.
pub(crate) fn remove_unused(directory: &dyn Directory, catalog: &Catalog) {
    let used: BTreeSet<String> = catalog.files.iter().map(|file| name(file.block.blob)).collect();
    for file in directory.list().unwrap_or_default() {
        if file.ends_with(EXTENSION) && !used.contains(&file) {
            let _ = directory.delete(&file);
        }
    }
}
