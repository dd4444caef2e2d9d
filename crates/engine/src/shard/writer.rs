//! Writing a shard.

use std::io::Read;
use std::sync::Arc;

use latewood_simd::ResidualTokens;

use super::{BLOCK_DOCS, layout};
use crate::codec::ResidualCodec;
use crate::directory::{Directory, FileWriter};
use crate::error::{Error, Result};
use crate::format::{ContainerWriter, Kind};
use crate::ids::DocId;

/// Where fine codes wait until the codes before them are complete.
const FINE_FILE: &str = "fine.tmp";

/// Writes coded documents as one file: codes as they come, what is small at the end.
pub(crate) struct ShardWriter {
    file: ContainerWriter,
    fine: Option<Box<dyn FileWriter>>,
    codec: Arc<ResidualCodec>,
    doc_ids: Vec<u64>,
    offsets: Vec<u32>,
    centroids: Vec<u16>,
    factors: Vec<u16>,
}

impl ShardWriter {
    /// Starts the file `name`, coded with `codec`.
    pub(crate) fn create(directory: &dyn Directory, name: &str, codec: Arc<ResidualCodec>) -> Result<Self> {
        let mut file = ContainerWriter::create(directory, name, Kind::SHARD)?;
        file.start(layout::CODES)?;
        let fine = codec.fine().map(|_| directory.create(FINE_FILE)).transpose()?;
        let (centroids, factors) = (Vec::new(), Vec::new());
        Ok(Self { file, fine, codec, doc_ids: Vec::new(), offsets: vec![0], centroids, factors })
    }

    /// Adds a document whose tokens the codec made; documents come in ascending order.
    pub(crate) fn add(&mut self, doc: DocId, tokens: &ResidualTokens<'_>) -> Result<()> {
        debug_assert!(self.doc_ids.last().is_none_or(|&last| last < doc.0) && !tokens.is_empty());
        self.file.write(tokens.codes)?;
        if let Some(fine) = &mut self.fine {
            fine.write_all(tokens.fine).map_err(|e| Error::io("write", FINE_FILE, e))?;
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
            self.copy_fine(directory, fine)?;
        }
        let (posting_offsets, postings) = self.postings();
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

    fn copy_fine(&mut self, directory: &dyn Directory, mut fine: Box<dyn FileWriter>) -> Result<()> {
        let failed = |action| move |e| Error::io(action, FINE_FILE, e);
        fine.flush().map_err(failed("write"))?;
        drop(fine);
        self.file.start(layout::FINE)?;
        let mut reader = directory.reader(FINE_FILE)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(failed("read"))? {
                0 => break,
                n => self.file.write(&buffer[..n])?,
            }
        }
        directory.delete(FINE_FILE)
    }

    /// For each block of documents and each centroid, the documents that have a token there, ascending and once each,
    /// and where each list starts: a counting sort.
    fn postings(&self) -> (Vec<u32>, Vec<u16>) {
        let centroids = self.codec.centroid_count();
        let mut seen = vec![u32::MAX; centroids];
        let mut pairs: Vec<(u32, u16)> = Vec::new();
        for (doc, run) in self.offsets.windows(2).enumerate() {
            for &c in &self.centroids[run[0] as usize..run[1] as usize] {
                if std::mem::replace(&mut seen[usize::from(c)], doc as u32) != doc as u32 {
                    pairs.push(((doc / BLOCK_DOCS * centroids) as u32 + u32::from(c), (doc % BLOCK_DOCS) as u16));
                }
            }
        }
        let blocks = self.doc_ids.len().div_ceil(BLOCK_DOCS);
        let mut offsets = vec![0u32; blocks * centroids + 1];
        pairs.iter().for_each(|&(list, _)| offsets[list as usize + 1] += 1);
        for list in 1..offsets.len() {
            offsets[list] += offsets[list - 1];
        }
        let mut next = offsets.clone();
        let mut postings = vec![0; pairs.len()];
        for (list, doc) in pairs {
            let at = &mut next[list as usize];
            postings[*at as usize] = doc;
            *at += 1;
        }
        (offsets, postings)
    }
}
