//! The documents of a catalogue, in the order of their paths, in parts of some hundreds.
//!
//! A part is one compressed block of a file of the index, and what is not touched is not written again: a commit of one
//! document costs a part, not the catalogue. In memory parts are shared between the commits that have them in common.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Block, FileRecord};
use crate::error::Result;

/// Documents of a part at most.
const MOST_FILES: usize = 256;
/// Passages of a part at most, unless a single document has more.
const MOST_PASSAGES: usize = 2048;
/// A part with fewer documents joins its neighbour.
const LEAST_FILES: usize = 32;

/// Documents in the order of their paths, each path once.
#[derive(Debug, Clone, Default)]
pub struct Files {
    parts: Vec<Arc<Part>>,
    len: usize,
}

/// Neighbours.
#[derive(Debug, Clone)]
struct Part {
    /// Where it is written as it is here; nowhere if it has changed since.
    block: Option<Block>,
    /// Never empty.
    files: Vec<FileRecord>,
}

/// What a commit says of a part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartRecord {
    /// Documents.
    pub(crate) files: usize,
    /// Where it is.
    pub(crate) block: Block,
}

impl Files {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of their paths.
    pub fn iter(&self) -> FilesIter<'_> {
        FilesIter(self.parts.iter().flat_map(in_part))
    }

    /// The document of this path or id.
    pub fn get(&self, path: &str) -> Option<&FileRecord> {
        let part = self.parts.get(self.part_of(path)?)?;
        part.find(path).ok().map(|at| &part.files[at])
    }

    /// Adds a document, or puts it in place of the one of its path, which is returned.
    pub(crate) fn insert(&mut self, file: FileRecord) -> Option<FileRecord> {
        let Some(at) = self.part_of(&file.path) else {
            self.parts.push(Arc::new(Part { block: None, files: vec![file] }));
            self.len = 1;
            return None;
        };
        let part = self.parts[at].find(&file.path);
        let files = changed(&mut self.parts[at]);
        match part {
            Ok(found) => Some(std::mem::replace(&mut files[found], file)),
            Err(before) => {
                files.insert(before, file);
                self.len += 1;
                self.split(at);
                None
            }
        }
    }

    /// Takes the document of this path or id out.
    pub(crate) fn remove(&mut self, path: &str) -> Option<FileRecord> {
        let at = self.part_of(path)?;
        let found = self.parts[at].find(path).ok()?;
        let file = changed(&mut self.parts[at]).remove(found);
        self.len -= 1;
        self.join(at);
        Some(file)
    }

    /// Changes the document of this path or id, whose path stays.
    pub(crate) fn change<T>(&mut self, path: &str, change: impl FnOnce(&mut FileRecord) -> T) -> Option<T> {
        let at = self.part_of(path)?;
        let found = self.parts[at].find(path).ok()?;
        Some(change(&mut changed(&mut self.parts[at])[found]))
    }

    /// Moves the text of documents: `moved` gives the new place of a block, if it has one.
    pub(crate) fn move_blocks(&mut self, mut moved: impl FnMut(&FileRecord) -> Result<Option<Block>>) -> Result<()> {
        for part in &mut self.parts {
            for at in 0..part.files.len() {
                if let Some(block) = moved(&part.files[at])? {
                    changed(part)[at].block = block;
                }
            }
        }
        Ok(())
    }

    /// What a commit is to say of its parts; `place` writes those that have changed, and may move the others.
    pub(crate) fn place(
        &mut self,
        mut place: impl FnMut(Option<Block>, &[FileRecord]) -> Result<Block>,
    ) -> Result<Vec<PartRecord>> {
        let mut records = Vec::with_capacity(self.parts.len());
        for part in &mut self.parts {
            let block = place(part.block, &part.files)?;
            if part.block != Some(block) {
                Arc::make_mut(part).block = Some(block);
            }
            records.push(PartRecord { files: part.files.len(), block });
        }
        Ok(records)
    }

    /// Reads what a commit says: `known` are the documents of another one, whose parts are taken over where they are the
    /// same. An error says what is wrong.
    pub(crate) fn read(
        records: &[PartRecord],
        known: &Self,
        mut read: impl FnMut(&Block) -> Result<Vec<FileRecord>>,
    ) -> Result<Result<Self, String>> {
        let place = |block: &Block| (block.blob, block.start);
        let known: HashMap<_, &Arc<Part>> =
            known.parts.iter().filter_map(|part| Some((place(part.block.as_ref()?), part))).collect();
        let mut all = Self::default();
        for record in records {
            let part = match known.get(&place(&record.block)) {
                Some(&part) if part.block == Some(record.block) => part.clone(),
                _ => Arc::new(Part { block: Some(record.block), files: read(&record.block)? }),
            };
            if part.files.len() != record.files || part.files.is_empty() {
                return Ok(Err(format!("a part has {} documents instead of {}", part.files.len(), record.files)));
            }
            all.len += part.files.len();
            all.parts.push(part);
        }
        let mut paths = all.iter().map(|file| &file.path);
        let ordered = paths.next().is_none_or(|first| {
            paths.try_fold(first, |before, path| if before < path { Ok(path) } else { Err(()) }).is_ok()
        });
        Ok(if ordered { Ok(all) } else { Err("its documents are not in the order of their paths".into()) })
    }

    /// The part where a path is or belongs; none if there is no part.
    fn part_of(&self, path: &str) -> Option<usize> {
        let last = self.parts.len().checked_sub(1)?;
        let before = |part: &Arc<Part>| part.files.last().is_some_and(|file| file.path.as_str() < path);
        Some(self.parts.partition_point(before).min(last))
    }

    /// Makes two of a part that has become too large.
    fn split(&mut self, at: usize) {
        let part = &mut self.parts[at];
        let passages = || part.files.iter().map(|file| file.passages.len()).sum::<usize>();
        if part.files.len() > 1 && (part.files.len() > MOST_FILES || passages() > MOST_PASSAGES) {
            let files = changed(part);
            let rest = files.split_off(files.len() / 2);
            self.parts.insert(at + 1, Arc::new(Part { block: None, files: rest }));
        }
    }

    /// Joins a part that has become small with the next, or takes it away where nothing is left of it.
    fn join(&mut self, at: usize) {
        if self.parts[at].files.is_empty() {
            self.parts.remove(at);
            return;
        }
        let next = self.parts.get(at + 1).map_or(usize::MAX, |next| next.files.len());
        if self.parts[at].files.len() < LEAST_FILES && next < MOST_FILES / 2 {
            let next = self.parts.remove(at + 1);
            changed(&mut self.parts[at]).extend(next.files.iter().cloned());
            self.split(at);
        }
    }

    /// A document by its place ([`Files::places`]).
    pub(super) fn at(&self, (part, at): (u32, u32)) -> &FileRecord {
        &self.parts[part as usize].files[at as usize]
    }

    /// All documents and their places.
    pub(super) fn places(&self) -> impl Iterator<Item = ((u32, u32), &FileRecord)> {
        let parts = (0u32..).zip(&self.parts);
        parts.flat_map(|(part, files)| (0u32..).zip(&files.files).map(move |(at, file)| ((part, at), file)))
    }
}

impl Part {
    fn find(&self, path: &str) -> std::result::Result<usize, usize> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path))
    }
}

/// The documents of a part, which is not what was written any more.
fn changed(part: &mut Arc<Part>) -> &mut Vec<FileRecord> {
    let part = Arc::make_mut(part);
    part.block = None;
    &mut part.files
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Part>, &Arc<Part>)| Arc::ptr_eq(a, b);
        self.len == other.len
            && (self.parts.len() == other.parts.len() && self.parts.iter().zip(&other.parts).all(same)
                || self.iter().eq(other))
    }
}

/// Documents in the order of their paths.
#[derive(Debug, Clone)]
pub struct FilesIter<'f>(std::iter::FlatMap<std::slice::Iter<'f, Arc<Part>>, std::slice::Iter<'f, FileRecord>, InPart>);

type InPart = fn(&Arc<Part>) -> std::slice::Iter<'_, FileRecord>;

fn in_part(part: &Arc<Part>) -> std::slice::Iter<'_, FileRecord> {
    part.files.iter()
}

impl<'f> Iterator for FilesIter<'f> {
    type Item = &'f FileRecord;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<'f> IntoIterator for &'f Files {
    type Item = &'f FileRecord;
    type IntoIter = FilesIter<'f>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<FileRecord> for Files {
    fn from_iter<I: IntoIterator<Item = FileRecord>>(files: I) -> Self {
        let mut all = Self::default();
        files.into_iter().for_each(|file| drop(all.insert(file)));
        all
    }
}
