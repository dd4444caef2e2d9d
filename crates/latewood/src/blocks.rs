//! Compressed blocks in numbered files, beside the vectors: passages' texts, and parts of the catalogue.
//!
//! A commit writes at most one file of each kind. Nothing in a file changes after it is written; one of which nothing is
//! used any more is deleted, and what is used of one that is worn is copied over into that of the next commit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use latewood_engine::{Bytes, Directory, FileWriter};
use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::Block;
use crate::error::{Error, Result};

const LEVEL: i32 = 3;
/// Files of about the same size that are copied together into one: there are few of them, whatever is committed.
const ALIKE: usize = 8;

/// What a file's blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of each document, its passages' text end to end.
    Texts,
    /// Documents of the catalogue ([`crate::catalog::Files`]).
    Catalog,
}

impl Kind {
    pub(crate) fn name(self, number: u32) -> String {
        match self {
            Self::Texts => format!("texts-{number:06}.lwt"),
            Self::Catalog => format!("catalog-{number:06}.lwr"),
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Texts => ".lwt",
            Self::Catalog => ".lwr",
        }
    }
}

/// Writes the blocks of one commit.
pub(crate) struct BlockWriter<'a> {
    kind: Kind,
    directory: &'a dyn Directory,
    number: u32,
    file: Option<Box<dyn FileWriter>>,
    position: u64,
}

impl<'a> BlockWriter<'a> {
    /// For the file of that number, made when the first block comes.
    pub(crate) fn new(kind: Kind, directory: &'a dyn Directory, number: u32) -> Self {
        Self { kind, directory, number, file: None, position: 0 }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.kind.name(self.number))
    }

    /// Compresses and adds a block.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<Block> {
        let compressed = zstd::bulk::compress(bytes, LEVEL).map_err(|e| Error::io("compress for", self.path(), e))?;
        self.copy(&compressed)
    }

    /// Adds a block that is compressed already.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Result<Block> {
        let len = u32::try_from(bytes.len()).map_err(|_| {
            Error::io("write a block of 4 GiB to", self.path(), std::io::ErrorKind::FileTooLarge.into())
        })?;
        if self.file.is_none() {
            self.file = Some(self.directory.create(&self.kind.name(self.number))?);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)
                .map_err(|e| Error::io("write", self.directory.path().join(self.kind.name(self.number)), e))?;
        }
        let block = Block { blob: self.number, start: self.position, len, hash: xxh3_64(bytes) };
        self.position += u64::from(len);
        Ok(block)
    }

    /// Makes the file durable; whether there is one.
    pub(crate) fn finish(mut self) -> Result<bool> {
        self.file.as_mut().map(|file| file.finish()).transpose()?;
        Ok(self.file.is_some())
    }

    /// The files whose blocks are to be copied into this one, opened: `used` are all blocks in use. Files that hold more
    /// dead bytes than live ones, and many small ones.
    pub(crate) fn worn(&self, used: impl Iterator<Item = Block>) -> Result<BTreeMap<u32, Bytes>> {
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        used.for_each(|block| *live.entry(block.blob).or_default() += u64::from(block.len));
        live.remove(&self.number);
        let mut alike: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        live.iter().for_each(|(&number, &bytes)| alike.entry(bytes.max(1).ilog2() / 3).or_default().push(number));
        let alike: BTreeSet<u32> = alike.into_values().filter(|files| files.len() >= ALIKE).flatten().collect();
        let mut worn = BTreeMap::new();
        for (number, used) in live {
            let bytes = self.directory.open(&self.kind.name(number))?;
            if alike.contains(&number) || used * 2 < bytes.len() as u64 {
                worn.insert(number, bytes);
            }
        }
        Ok(worn)
    }
}

/// The compressed bytes of a block, checked; an error says what is wrong.
pub(crate) fn checked<'b>(bytes: &'b [u8], block: &Block) -> Result<&'b [u8], String> {
    let start = usize::try_from(block.start).ok();
    let slice = start.and_then(|start| bytes.get(start..start.checked_add(block.len as usize)?));
    match slice {
        Some(slice) if xxh3_64(slice) == block.hash => Ok(slice),
        Some(_) => Err("its checksum does not match".into()),
        None => Err("it lies outside of the file".into()),
    }
}

/// Decompresses what may be damaged: never more than `limit` bytes.
pub(crate) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut out = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|e| e.to_string())?;
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| e.to_string())?;
    if out.len() > limit { Err(format!("more than {limit} bytes")) } else { Ok(out) }
}

/// Deletes files of which no block is used. Best effort: the next commit does what this one cannot.
pub(crate) fn remove_unused(kind: Kind, directory: &dyn Directory, used: impl Iterator<Item = Block>) {
    let used: BTreeSet<u32> = used.map(|block| block.blob).collect();
    let used: BTreeSet<String> = used.into_iter().map(|number| kind.name(number)).collect();
    for file in directory.list().unwrap_or_default() {
        if file.ends_with(kind.extension()) && !used.contains(&file) {
            let _ = directory.delete(&file);
        }
    }
}

/// An error about a block.
pub(crate) fn damaged(directory: &Path, kind: Kind, block: &Block, detail: String) -> Error {
    let what = match kind {
        Kind::Texts => "text",
        Kind::Catalog => "catalogue",
    };
    Error::Damaged { file: directory.join(kind.name(block.blob)), what, detail }
}
