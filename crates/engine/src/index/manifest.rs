//! The manifest: the one file that says what an index holds.

use std::collections::HashSet;
use std::io;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::IndexOptions;
use crate::codec::check_bits;
use crate::directory::{Bytes, Directory};
use crate::error::{Error, Result};
use crate::format::{Container, Kind, SectionId, to_bytes};

const FILE: &str = "manifest.lw";

const META: SectionId = SectionId::new(b"META", "metadata");
const TOMBSTONES: SectionId = SectionId::new(b"DELS", "tombstones");
const PAYLOAD: SectionId = SectionId::new(b"PAYL", "payload");

const SECTIONS: [SectionId; 3] = [META, TOMBSTONES, PAYLOAD];

/// The number in a file's name: `STEM-NUMBER.EXTENSION`.
pub(super) fn number_of(file: &str) -> Option<u64> {
    file.split_once('-').and_then(|(_, rest)| rest.split_once('.')?.0.parse().ok())
}

/// The metadata section, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Counts commits.
    pub(crate) generation: u64,
    pub(crate) dim: usize,
    pub(crate) bits: u32,
    /// Whether tokens have fine codes.
    pub(crate) fine: bool,
    pub(crate) model: Option<String>,
    pub(crate) seed: u64,
    /// Number of the next file.
    pub(crate) next_file: u64,
    pub(crate) codecs: Vec<CodecEntry>,
    pub(crate) shards: Vec<ShardEntry>,
    /// Whether a newer version asked older ones not to write: a flag of the file, not part of the JSON.
    #[serde(skip)]
    pub(crate) read_only: bool,
    /// The file's digest: what tells one commit from every other. Not part of the JSON.
    #[serde(skip)]
    pub(crate) digest: u64,
}

/// A live codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodecEntry {
    pub(crate) file: String,
    pub(crate) digest: u64,
}

/// A live shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardEntry {
    pub(crate) file: String,
    pub(crate) digest: u64,
    /// Digest of its codec.
    pub(crate) codec: u64,
    /// Bytes of its tombstones in the tombstone section.
    pub(crate) tombstone_bytes: u64,
}

impl Manifest {
    /// Of an empty index.
    pub(crate) fn new(options: &IndexOptions) -> Self {
        Self {
            generation: 0,
            dim: options.dim,
            bits: options.bits,
            fine: options.fine,
            model: options.model.clone(),
            seed: options.seed,
            next_file: 0,
            codecs: Vec::new(),
            shards: Vec::new(),
            read_only: false,
            digest: 0,
        }
    }

    pub(crate) fn exists(directory: &dyn Directory) -> Result<bool> {
        directory.exists(FILE)
    }

    /// Reads the manifest, the tombstones of each shard, and the caller's payload.
    pub(crate) fn read(directory: &dyn Directory) -> Result<(Self, Vec<RoaringBitmap>, Vec<u8>)> {
        if !Self::exists(directory)? {
            return Err(Error::NoIndex { dir: directory.path().into() });
        }
        let bytes = directory.open(FILE)?;
        Self::parse(bytes, directory)
    }

    fn parse(bytes: Bytes, directory: &dyn Directory) -> Result<(Self, Vec<RoaringBitmap>, Vec<u8>)> {
        let file = Container::parse(bytes, directory.path().join(FILE), Kind::MANIFEST, &SECTIONS)?;
        let mut manifest: Self =
            serde_json::from_slice(file.section(META)?).map_err(|e| file.damaged(META.name, e.to_string()))?;
        manifest.check().map_err(|detail| file.damaged(META.name, detail))?;
        (manifest.read_only, manifest.digest) = (file.read_only(), file.digest());
        let mut rest = file.section(TOMBSTONES)?;
        let mut tombstones = Vec::new();
        for shard in &manifest.shards {
            let len = usize::try_from(shard.tombstone_bytes).ok().filter(|&len| len <= rest.len());
            let (own, after) = rest.split_at(len.ok_or_else(|| file.damaged(TOMBSTONES.name, "cut short".into()))?);
            tombstones.push(parse_tombstones(own).map_err(|e| file.damaged(TOMBSTONES.name, e.to_string()))?);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(file.damaged(TOMBSTONES.name, format!("{} bytes too many", rest.len())));
        }
        Ok((manifest, tombstones, file.section(PAYLOAD)?.to_vec()))
    }

    /// The digest of the newest commit's manifest, without reading more of it than that.
    pub(crate) fn newest_digest(directory: &dyn Directory) -> Result<u64> {
        Container::open(directory, FILE, Kind::MANIFEST, &SECTIONS).map(|file| file.digest())
    }

    /// What no checksum tells: that the numbers make sense and the files are files of this folder.
    fn check(&self) -> Result<(), String> {
        if self.dim == 0 || self.dim > crate::MAX_DIM || !self.dim.is_multiple_of(8) {
            return Err(format!("dim is {}", self.dim));
        }
        if check_bits(self.bits).is_err() {
            return Err(format!("bits is {}", self.bits));
        }
        if self.generation.max(self.next_file) > u64::MAX / 2 {
            return Err("a counter is at its end".into());
        }
        let codecs = self.codecs.iter().map(|codec| (&codec.file, "codec", "lwc"));
        let shards = self.shards.iter().map(|shard| (&shard.file, "shard", "lws"));
        let mut numbers = HashSet::new();
        for (file, stem, extension) in codecs.chain(shards) {
            let number = number_of(file).filter(|n| *file == format!("{stem}-{n:06}.{extension}"));
            if number.is_none_or(|n| n > self.next_file || !numbers.insert(n)) {
                return Err(format!("{file:?} is no name of a file of the index, or of two"));
            }
        }
        Ok(())
    }

    /// Makes this the index's content, atomically and durably: the commit.
    pub(crate) fn publish(
        &mut self,
        directory: &dyn Directory,
        tombstones: &[&RoaringBitmap],
        payload: &[u8],
    ) -> Result<()> {
        let mut sets = Vec::new();
        for (entry, set) in self.shards.iter_mut().zip(tombstones) {
            let start = sets.len();
            if !set.is_empty() {
                set.serialize_into(&mut sets).map_err(|e| Error::io("write", directory.path().join(FILE), e))?;
            }
            entry.tombstone_bytes = (sets.len() - start) as u64;
        }
        let meta = serde_json::to_vec(self).map_err(|e| Error::io("write", directory.path().join(FILE), e.into()))?;
        let sections: [(_, &[u8]); 3] = [(META, &meta), (TOMBSTONES, &sets), (PAYLOAD, payload)];
        let bytes =
            to_bytes(Kind::MANIFEST, &sections).map_err(|e| Error::io("write", directory.path().join(FILE), e))?;
        directory.atomic_replace(FILE, &bytes)
    }

    /// Whether the manifest speaks of this file.
    pub(crate) fn names(&self, file: &str) -> bool {
        self.codecs.iter().any(|c| c.file == file) || self.shards.iter().any(|s| s.file == file)
    }
}

/// The deleted documents of one shard, of which there are some unless there are no bytes.
fn parse_tombstones(bytes: &[u8]) -> io::Result<RoaringBitmap> {
    let (mut rest, mut set) = (bytes, RoaringBitmap::new());
    if !bytes.is_empty() {
        set = RoaringBitmap::deserialize_from(&mut rest)?;
    }
    if rest.is_empty() && bytes.is_empty() == set.is_empty() {
        return Ok(set);
    }
    Err(io::Error::other(format!("{} of {} bytes hold {} documents", bytes.len() - rest.len(), bytes.len(), set.len())))
}
