//! Writing a shard.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use latewood_simd::ResidualTokens;

use super::layout;
use super::postings::posting_lists;
use crate::codec::ResidualCodec;
use crate::directory::{Directory, FileWriter};
use crate::error::{Error, Result};
use crate::format::{ContainerWriter, Kind};
use crate::ids::DocId;

/// Writes coded documents as one file: codes as they come, what is small at the end.
pub(crate) struct ShardWriter {
    file: ContainerWriter,
    fine: Option<Waiting>,
    codec: Arc<ResidualCodec>,
    doc_ids: Vec<u64>,
    offsets: Vec<u32>,
    centroids: Vec<u16>,
    factors: Vec<u16>,
}

/// Fine codes, which wait in a file of their own until the codes before them are complete.
struct Waiting {
    file: Box<dyn FileWriter>,
    name: String,
    /// For messages.
    path: PathBuf,
}

impl Waiting {
    /// For the shard `shard`: several may be written at once.
    fn create(directory: &dyn Directory, shard: &str) -> Result<Self> {
        let name = format!("{shard}.fine.tmp");
        Ok(Self { file: directory.create(&name)?, path: directory.path().join(&name), name })
    }

    fn push(&mut self, codes: &[u8]) -> Result<()> {
        self.file.write_all(codes).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Copies all of it to the end of `to`, and is no more.
    fn append_to(mut self, to: &mut ContainerWriter, directory: &dyn Directory) -> Result<()> {
        self.file.flush().map_err(|e| Error::io("write", &self.path, e))?;
        drop(self.file);
        let mut reader = directory.reader(&self.name)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(|e| Error::io("read", &self.path, e))? {
                0 => break,
                n => to.write(&buffer[..n])?,
            }
        }
        directory.delete(&self.name)
    }
}

impl ShardWriter {
    /// Starts the file `name`, coded with `codec`.
    pub(crate) fn create(directory: &dyn Directory, name: &str, codec: Arc<ResidualCodec>) -> Result<Self> {
        let mut file = ContainerWriter::create(directory, name, Kind::SHARD)?;
        file.start(layout::CODES)?;
        let fine = codec.fine().map(|_| Waiting::create(directory, name)).transpose()?;
        let (centroids, factors) = (Vec::new(), Vec::new());
        Ok(Self { file, fine, codec, doc_ids: Vec::new(), offsets: vec![0], centroids, factors })
    }

    /// Adds a document whose tokens the codec made; documents come in ascending order.
    pub(crate) fn add(&mut self, doc: DocId, tokens: &ResidualTokens<'_>) -> Result<()> {
        debug_assert!(self.doc_ids.last().is_none_or(|&last| last < doc.0) && !tokens.is_empty());
        self.file.write(tokens.codes)?;
        if let Some(fine) = &mut self.fine {
            fine.push(tokens.fine)?;
        }
        self.doc_ids.push(doc.0);
        self.centroids.extend_from_slice(tokens.centroids);
        self.factors.extend_from_slice(tokens.factors);
        self.offsets.push(self.centroids.len() as u32);
        Ok(())
    }

    /// Number of tokens so far.
    pub(crate) fn token_count(&self) -> usize {
        self.centroids.len()
    }

    /// Writes what is left and makes the file durable. There is at least one document.
    pub(crate) fn finish(mut self, directory: &dyn Directory) -> Result<()> {
        if let Some(fine) = self.fine.take() {
            self.file.start(layout::FINE)?;
            fine.append_to(&mut self.file, directory)?;
        }
        let (posting_offsets, postings) = posting_lists(&self.offsets, &self.centroids, self.codec.centroid_count());
        let meta = layout::Meta {
            docs: self.doc_ids.len() as u32,
            dim: self.codec.dim() as u32,
            bits: self.codec.bits(),
            centroids: self.codec.centroid_count() as u32,
            tokens: self.centroids.len() as u64,
            postings: postings.len() as u64,
            codec: self.codec.digest(),
        };
        self.file.section(layout::META, bytemuck::bytes_of(&meta))?;
        self.file.section(layout::DOC_IDS, bytemuck::cast_slice(&self.doc_ids))?;
        self.file.section(layout::OFFSETS, bytemuck::cast_slice(&self.offsets))?;
        self.file.section(layout::POSTING_OFFSETS, bytemuck::cast_slice(&posting_offsets))?;
        self.file.section(layout::POSTINGS, bytemuck::cast_slice(&postings))?;
        self.file.section(layout::CENTROIDS, bytemuck::cast_slice(&self.centroids))?;
        self.file.section(layout::FACTORS, bytemuck::cast_slice(&self.factors))?;
        self.file.finish()
    }
}
