//! What stays in a device's memory: codecs, and shards within a budget of bytes.
//!
//! A file's digest names it: a new commit copies its new shards only. The least recently used leave first, and none that
//! the current search needs, so that an index larger than the budget keeps what fits and copies the rest each time.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use cubecl::prelude::Runtime;
use latewood_engine::{ResidualCodec, Result, Shard as Coded};
use latewood_simd::SCALES;

use super::GpuStatus;
use super::worker::Failure;
use crate::client::{Buffer, Client, GpuError};
use crate::layout::{Centroids, Codec, CodecParts, Coder, CoderParts, Shard, ShardParts, fitting_parts};

/// Codecs at most that rows can be coded with at once: a commit compares its documents with a few.
const CODERS: usize = 4;

/// Bytes of a centroid's value: as others meet it, and as matrix units take it.
const CENTROID_BYTES: u64 = 6;

/// Documents of a shard on the device.
pub(super) struct Part {
    /// Which of the shard's.
    pub(super) docs: Range<usize>,
    pub(super) tokens: Shard,
    /// `0, 1, ..`: all of them.
    pub(super) all: Buffer<u32>,
}

/// The parts of a shard, and whether they stay.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) parts: Rc<Vec<Part>>,
    pub(super) stays: bool,
}

struct Entry {
    parts: Rc<Vec<Part>>,
    bytes: u64,
    used: u64,
}

/// What is on a device.
pub(super) struct Resident<R: Runtime> {
    client: Client<R>,
    budget: u64,
    codecs: HashMap<u64, Rc<Codec>>,
    shards: HashMap<u64, Entry>,
    /// By digests, the first made first.
    coders: Vec<(u64, Rc<Coder>)>,
    /// What rows are assigned to, while someone holds it.
    centroids: Vec<(Weak<[f32]>, Rc<Centroids>)>,
    /// The current search.
    now: u64,
    copied: u64,
    streamed: bool,
}

impl<R: Runtime> Resident<R> {
    pub(super) fn new(client: Client<R>, budget: u64) -> Self {
        let (codecs, shards) = (HashMap::new(), HashMap::new());
        Self {
            client,
            budget,
            codecs,
            shards,
            coders: Vec::new(),
            centroids: Vec::new(),
            now: 0,
            copied: 0,
            streamed: false,
        }
    }

    pub(super) fn client(&self) -> &Client<R> {
        &self.client
    }

    /// A search begins: what it needs stays until it ends.
    pub(super) fn begin(&mut self) {
        self.now += 1;
        self.streamed = false;
    }

    pub(super) fn report(&self, status: &mut GpuStatus) {
        (status.resident, status.budget) = (self.bytes(), self.budget);
        status.copied = self.copied;
        status.streamed = self.streamed;
    }

    /// What they take.
    pub(super) fn bytes(&self) -> u64 {
        let codecs: u64 = self.codecs.values().map(|codec| codec.bytes()).sum();
        let centroids: u64 = self.centroids.iter().map(|(_, there)| there.bytes()).sum();
        let coders: u64 = self.coders.iter().map(|(_, there)| there.bytes()).sum();
        codecs + coders + centroids + self.shard_bytes()
    }

    pub(super) fn shard_bytes(&self) -> u64 {
        self.shards.values().map(|shard| shard.bytes).sum()
    }

    /// A codec on the device.
    pub(super) fn codec(&mut self, codec: &ResidualCodec) -> Result<Rc<Codec>, GpuError> {
        if let Some(there) = self.codecs.get(&codec.digest()) {
            return Ok(there.clone());
        }
        let (weights, leans) = codec.estimates();
        let parts = parts_of(codec, &weights, &leans);
        let there = Rc::new(Codec::new(&self.client, &parts)?);
        self.codecs.insert(codec.digest(), there.clone());
        Ok(there)
    }

    /// What codes rows with a codec, on the device.
    pub(super) fn coder(&mut self, codec: &ResidualCodec) -> Result<Rc<Coder>, GpuError> {
        if let Some((_, there)) = self.coders.iter().find(|(digest, _)| *digest == codec.digest()) {
            return Ok(there.clone());
        }
        if self.coders.len() == CODERS {
            self.coders.remove(0);
        }
        let (dim, count) = (codec.dim(), codec.centroid_count());
        self.make_room_for(4 * (dim * dim) as u64 + CENTROID_BYTES * (dim * count) as u64)?;
        let own = self.codec(codec)?;
        let (weights, leans) = codec.estimates();
        let parts = CoderParts {
            codec: parts_of(codec, &weights, &leans),
            rotation: codec.rotation(),
            scale_per_rms: codec.scale_per_rms(),
            fine: codec.fine(),
        };
        let there = Rc::new(Coder::new(&self.client, &own, &parts)?);
        self.coders.push((codec.digest(), there.clone()));
        Ok(there)
    }

    /// Centroids `[c, dim]` on the device.
    pub(super) fn centroids(&mut self, rows: &Arc<[f32]>, dim: usize) -> Result<Rc<Centroids>, GpuError> {
        let own = Arc::downgrade(rows);
        if let Some((_, there)) = self.centroids.iter().find(|(held, _)| held.ptr_eq(&own)) {
            return Ok(there.clone());
        }
        self.make_room_for(CENTROID_BYTES * rows.len() as u64)?;
        let there = Rc::new(Centroids::new(&self.client, dim, rows)?);
        self.centroids.push((own, there.clone()));
        Ok(there)
    }

    /// Lets centroids go that nobody holds any more.
    pub(super) fn tidy(&mut self) -> Result<(), GpuError> {
        let before = self.centroids.len();
        self.centroids.retain(|(held, _)| held.strong_count() > 0);
        if self.centroids.len() < before { self.client.release() } else { Ok(()) }
    }

    /// A shard on the device: one that stays, or that goes when it is dropped.
    pub(super) fn shard(&mut self, shard: &Coded) -> Result<Parts, Failure> {
        if let Some(entry) = self.shards.get_mut(&shard.digest()) {
            entry.used = self.now;
            return Ok(Parts { parts: entry.parts.clone(), stays: true });
        }
        let codec = self.codec(shard.codec())?;
        let bytes = bytes_of(shard, &codec);
        let stays = self.make_room(bytes)?;
        let parts = Rc::new(self.copy(shard, &codec)?);
        self.copied += 1;
        self.streamed |= !stays;
        if stays {
            self.shards.insert(shard.digest(), Entry { parts: parts.clone(), bytes, used: self.now });
        }
        Ok(Parts { parts, stays })
    }

    /// Lets shards go until `bytes` fit that a build needs, or all: no search is under way.
    fn make_room_for(&mut self, bytes: u64) -> Result<(), GpuError> {
        self.now += 1;
        self.make_room(bytes).map(drop)
    }

    /// Lets shards go until `bytes` fit; whether they do then.
    fn make_room(&mut self, bytes: u64) -> Result<bool, GpuError> {
        let mut gone = false;
        while self.bytes() + bytes > self.budget {
            let idle = self.shards.iter().filter(|(_, entry)| entry.used < self.now);
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.used).map(|(&digest, _)| digest) else { break };
            self.shards.remove(&oldest);
            gone = true;
        }
        if gone {
            self.client.release()?;
        }
        Ok(self.bytes() + bytes <= self.budget)
    }

    fn copy(&self, shard: &Coded, codec: &Codec) -> Result<Vec<Part>, Failure> {
        let columns = shard.columns()?;
        let plane = columns.codes.len() / columns.centroids.len().max(1);
        let runs = fitting_parts(self.client.limits(), columns.offsets, codec.dim(), codec.bits());
        let parts = runs.into_iter().map(|docs| {
            let tokens = columns.offsets[docs.start] as usize..columns.offsets[docs.end] as usize;
            let parts = ShardParts {
                offsets: &columns.offsets[docs.start..=docs.end],
                centroids: &columns.centroids[tokens.clone()],
                factors: &columns.factors[tokens.clone()],
                codes: &columns.codes[tokens.start * plane..tokens.end * plane],
            };
            let all: Vec<u32> = (0..docs.len() as u32).collect();
            let tokens = Shard::new(&self.client, codec, &parts)?;
            Ok(Part { tokens, all: self.client.keep("documents", &all)?, docs })
        });
        parts.collect()
    }
}

fn parts_of<'a>(codec: &'a ResidualCodec, weights: &'a [f32; SCALES], leans: &'a [f32; SCALES]) -> CodecParts<'a> {
    let (centroids, centroid_scales) = codec.centroids();
    CodecParts {
        dim: codec.dim(),
        bits: codec.bits(),
        levels: codec.levels(),
        scales: codec.scales(),
        centroids,
        centroid_scales,
        weights,
        leans,
    }
}

/// Bytes that a shard takes on the device.
fn bytes_of(shard: &Coded, codec: &Codec) -> u64 {
    let (docs, tokens) = (shard.doc_count() as u64, shard.token_count() as u64);
    4 * (2 * docs + 1 + tokens * (codec.words() as u64 + 1))
}
