//! The passages' text: of each document one block ([`crate::blocks`]), its passages' text end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use latewood_engine::{Bytes, Directory};

use crate::blocks::{self, BlockWriter, Kind, checked, decompress};
use crate::catalog::{Catalog, FileRecord, PassageRecord};
use crate::error::{Error, Result};

/// Copies the texts of worn files into that of this commit.
pub(crate) fn copy_worn(writer: &mut BlockWriter<'_>, directory: &Path, catalog: &mut Catalog) -> Result<()> {
    let worn = writer.worn(catalog.files.iter().map(|file| file.block))?;
    if worn.is_empty() {
        return Ok(());
    }
    catalog.files.move_blocks(|file| {
        let Some(bytes) = worn.get(&file.block.blob) else { return Ok(None) };
        writer.copy(checked(bytes, &file.block).map_err(|e| damaged(directory, file, &e))?).map(Some)
    })
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
        let blobs = used.into_iter().map(|blob| Ok((blob, directory.open(&Kind::Texts.name(blob))?)));
        Ok(Self { path: directory.path().into(), blobs: blobs.collect::<Result<_>>()? })
    }

    /// The text of one passage.
    pub(crate) fn read(&self, file: &FileRecord, passage: usize) -> Result<String> {
        Ok(self.passage(file, passage, &self.read_all(file)?)?.to_owned())
    }

    /// The text of one passage, `text` being that of all.
    pub(crate) fn passage<'t>(&self, file: &FileRecord, passage: usize, text: &'t str) -> Result<&'t str> {
        let start = file.passages[..passage].iter().map(|passage| passage.bytes as usize).sum::<usize>();
        self.part(file, &file.passages[passage], text, start)
    }

    /// The text of `passage`, which begins at byte `start` of that of all, `text`.
    pub(crate) fn part<'t>(
        &self,
        file: &FileRecord,
        passage: &PassageRecord,
        text: &'t str,
        start: usize,
    ) -> Result<&'t str> {
        text.get(start..start.saturating_add(passage.bytes as usize)).ok_or_else(|| {
            damaged(&self.path, file, "the text is not as long as its passages, or cut within a character")
        })
    }

    /// Whether all of a document's text is there.
    pub(crate) fn check(&self, file: &FileRecord) -> Result<()> {
        let (all, mut at) = (self.read_all(file)?, 0);
        file.passages.iter().try_for_each(|passage| {
            at += self.part(file, passage, &all, at)?.len();
            Ok(())
        })
    }

    /// The text of all passages of a document, end to end.
    pub(crate) fn read_all(&self, file: &FileRecord) -> Result<String> {
        let total = file.passages.iter().map(|passage| passage.bytes as usize).sum();
        let bytes = self.blobs.get(&file.block.blob).map_or(&[][..], |bytes| bytes);
        let bytes = checked(bytes, &file.block).and_then(|bytes| decompress(bytes, total));
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|e| e.to_string()));
        text.map_err(|e| damaged(&self.path, file, &e))
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.values().map(|bytes| bytes.len() as u64).sum()
    }
}

fn damaged(directory: &Path, file: &FileRecord, detail: &str) -> Error {
    blocks::damaged(directory, Kind::Texts, &file.block, format!("{}: {detail}", file.path))
}
