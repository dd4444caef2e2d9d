//! Writing a shard.

use latewood_simd::ResidualTokens;

use super::{BLOCK_DOCS, layout};
use crate::codec::{CodedTokens, ResidualCodec};
use crate::directory::Directory;
use crate::error::Result;
use crate::format::{ContainerWriter, Kind};
use crate::ids::DocId;

/// Gathers coded documents and writes them as one file.
pub(crate) struct ShardWriter<'a> {
    codec: &'a ResidualCodec,
    doc_ids: Vec<u64>,
    offsets: Vec<u32>,
    tokens: CodedTokens,
}

impl<'a> ShardWriter<'a> {
    pub(crate) fn new(codec: &'a ResidualCodec) -> Self {
        Self { codec, doc_ids: Vec::new(), offsets: vec![0], tokens: CodedTokens::default() }
    }

    /// Adds a document whose tokens the codec made; documents come in ascending order.
    pub(crate) fn add(&mut self, doc: DocId, tokens: &ResidualTokens<'_>) {
        debug_assert!(self.doc_ids.last().is_none_or(|&last| last < doc.0) && !tokens.is_empty());
        self.doc_ids.push(doc.0);
        self.tokens.extend(tokens);
        self.offsets.push(self.tokens.len() as u32);
    }

    /// Number of tokens so far.
    pub(crate) fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// Number of documents so far.
    pub(crate) fn doc_count(&self) -> usize {
        self.doc_ids.len()
    }

    /// Writes the file `name`.
    pub(crate) fn write(self, directory: &dyn Directory, name: &str) -> Result<()> {
        let (posting_offsets, postings) = self.postings();
        let meta = layout::Meta {
            docs: self.doc_ids.len() as u32,
            dim: self.codec.dim() as u32,
            bits: self.codec.bits(),
            centroids: self.codec.centroid_count() as u32,
            tokens: self.tokens.len() as u64,
            postings: postings.len() as u64,
            codec: self.codec.digest(),
        };
        let mut file = ContainerWriter::create(directory, name, Kind::SHARD)?;
        file.section(layout::META, bytemuck::bytes_of(&meta))?;
        file.section(layout::DOC_IDS, bytemuck::cast_slice(&self.doc_ids))?;
        file.section(layout::OFFSETS, bytemuck::cast_slice(&self.offsets))?;
        file.section(layout::POSTING_OFFSETS, bytemuck::cast_slice(&posting_offsets))?;
        file.section(layout::POSTINGS, bytemuck::cast_slice(&postings))?;
        file.section(layout::CENTROIDS, bytemuck::cast_slice(&self.tokens.centroids))?;
        file.section(layout::FACTORS, bytemuck::cast_slice(&self.tokens.factors))?;
        file.section(layout::CODES, &self.tokens.codes)?;
        if self.codec.fine().is_some() {
            file.section(layout::FINE, &self.tokens.fine)?;
        }
        file.finish()
    }

    /// For each block of documents and each centroid, the documents that have a token there, ascending and once each,
    /// and where each list starts: a counting sort.
    fn postings(&self) -> (Vec<u32>, Vec<u16>) {
        let centroids = self.codec.centroid_count();
        let mut seen = vec![u32::MAX; centroids];
        let mut pairs = Vec::new();
        for (doc, run) in self.offsets.windows(2).enumerate() {
            for &c in &self.tokens.centroids[run[0] as usize..run[1] as usize] {
                if std::mem::replace(&mut seen[usize::from(c)], doc as u32) != doc as u32 {
                    pairs.push((doc / BLOCK_DOCS * centroids + usize::from(c), (doc % BLOCK_DOCS) as u16));
                }
            }
        }
        let blocks = self.doc_ids.len().div_ceil(BLOCK_DOCS);
        let mut offsets = vec![0u32; blocks * centroids + 1];
        pairs.iter().for_each(|&(list, _)| offsets[list + 1] += 1);
        for list in 1..offsets.len() {
            offsets[list] += offsets[list - 1];
        }
        let mut next = offsets.clone();
        let mut postings = vec![0; pairs.len()];
        for (list, doc) in pairs {
            let at = &mut next[list];
            postings[*at as usize] = doc;
            *at += 1;
        }
        (offsets, postings)
    }
}
