//! A shard: one immutable, memory-mapped file of coded documents.
//!
//! Documents lie in ascending order of their [`DocId`]; the tokens of document `i` are the run
//! `offsets[i]..offsets[i + 1]` of every token column. Posting lists say, for each block of documents and each centroid,
//! which documents have a token there. The layout is specified in index-format.md and named in [`layout`].

mod layout;
mod writer;

use std::fmt;
use std::sync::Arc;

use latewood_simd::ResidualTokens;

use crate::codec::ResidualCodec;
use crate::directory::Directory;
use crate::error::Result;
use crate::format::{Container, Kind, Located};
use crate::ids::{CentroidId, DocId, DocOrd};

pub(crate) use layout::BLOCK_DOCS;
pub(crate) use writer::ShardWriter;

/// Tokens that one shard may hold at most, so that offsets fit 32 bits with room to spare.
pub(crate) const MAX_TOKENS: u64 = 1 << 31;

/// An open shard.
pub struct Shard {
    file: Container,
    codec: Arc<ResidualCodec>,
    docs: usize,
    tokens: usize,
    doc_ids: Located<u64>,
    offsets: Located<u32>,
    centroids: Located<u16>,
    factors: Located<u16>,
    codes: Located<u8>,
    fine: Option<Located<u8>>,
    posting_offsets: Located<u32>,
    postings: Located<u16>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (docs, tokens) = (self.docs, self.tokens);
        f.debug_struct("Shard").field("file", &self.file.path()).field("docs", &docs).field("tokens", &tokens).finish()
    }
}

impl Shard {
    /// Opens the file `name`, coded with `codec`, and checks all of it.
    pub(crate) fn open(directory: &dyn Directory, name: &str, codec: Arc<ResidualCodec>) -> Result<Self> {
        let file = Container::open(directory, name, Kind::SHARD)?;
        file.verify(layout::section_name)?;
        let meta = file.values::<layout::Meta>(layout::META, 1)?[0];
        layout::check(&file, &meta, &codec)?;
        let (docs, tokens) = (meta.docs as usize, meta.tokens as usize);
        let postings = meta.postings as usize;
        let (plane, fine_plane) = codec.planes();
        let fine = if fine_plane > 0 { Some(file.locate(layout::FINE, tokens * fine_plane)?) } else { None };
        let shard = Self {
            docs,
            tokens,
            doc_ids: file.locate(layout::DOC_IDS, docs)?,
            offsets: file.locate(layout::OFFSETS, docs + 1)?,
            centroids: file.locate(layout::CENTROIDS, tokens)?,
            factors: file.locate(layout::FACTORS, tokens)?,
            codes: file.locate(layout::CODES, tokens * plane)?,
            fine,
            posting_offsets: file
                .locate(layout::POSTING_OFFSETS, docs.div_ceil(BLOCK_DOCS) * codec.centroid_count() + 1)?,
            postings: file.locate(layout::POSTINGS, postings)?,
            codec,
            file,
        };
        shard.check_content()?;
        Ok(shard)
    }

    /// What search relies on: ids ascend, runs are in order and not empty, numbers point inside.
    fn check_content(&self) -> Result<()> {
        let bad = |id: crate::format::SectionId, detail: &str| Err(self.file.damaged(id.name, detail.into()));
        if !self.file.at(&self.doc_ids).is_sorted_by(|a, b| a < b) {
            return bad(layout::DOC_IDS, "document ids do not ascend");
        }
        let offsets = self.file.at(&self.offsets);
        if offsets[0] != 0 || offsets[self.docs] as usize != self.tokens || !offsets.is_sorted_by(|a, b| a < b) {
            return bad(layout::OFFSETS, "the runs of tokens are not in order");
        }
        let centroids = self.codec.centroid_count();
        if self.file.at(&self.centroids).iter().any(|&c| usize::from(c) >= centroids) {
            return bad(layout::CENTROIDS, "a centroid is not in the codec");
        }
        let lists = self.file.at(&self.posting_offsets);
        let postings = self.file.at(&self.postings);
        if lists[0] != 0 || lists[lists.len() - 1] as usize != postings.len() || !lists.is_sorted() {
            return bad(layout::POSTING_OFFSETS, "the lists are not in order");
        }
        let last = (self.blocks() - 1) * centroids;
        let in_last = self.docs - (self.blocks() - 1) * BLOCK_DOCS;
        if postings[lists[last] as usize..].iter().any(|&doc| usize::from(doc) >= in_last) {
            return bad(layout::POSTINGS, "a posting is not in the shard");
        }
        Ok(())
    }

    /// Number of documents, deleted ones included.
    pub fn doc_count(&self) -> usize {
        self.docs
    }

    /// Number of tokens, those of deleted documents included.
    pub fn token_count(&self) -> usize {
        self.tokens
    }

    /// The codec it was written with.
    pub fn codec(&self) -> &Arc<ResidualCodec> {
        &self.codec
    }

    /// The key of a document.
    ///
    /// # Panics
    /// When `doc` is not in the shard.
    pub fn doc_id(&self, doc: DocOrd) -> DocId {
        DocId(self.doc_ids()[doc.0 as usize])
    }

    /// All keys, ascending.
    pub(crate) fn doc_ids(&self) -> &[u64] {
        self.file.at(&self.doc_ids)
    }

    /// Where a document lies.
    pub fn find(&self, doc: DocId) -> Option<DocOrd> {
        self.doc_ids().binary_search(&doc.0).ok().map(|at| DocOrd(at as u32))
    }

    /// The coded tokens of a document.
    ///
    /// # Panics
    /// When `doc` is not in the shard.
    pub fn tokens(&self, doc: DocOrd) -> ResidualTokens<'_> {
        let offsets = self.file.at(&self.offsets);
        let run = offsets[doc.0 as usize] as usize..offsets[doc.0 as usize + 1] as usize;
        let (plane, fine_plane) = self.codec.planes();
        let fine = self.fine.as_ref().map_or(&[] as &[u8], |fine| self.file.at(fine));
        ResidualTokens {
            bits: self.codec.bits(),
            dim: self.codec.dim(),
            levels: self.codec.levels(),
            scales: self.codec.scales(),
            centroids: &self.file.at(&self.centroids)[run.clone()],
            factors: &self.file.at(&self.factors)[run.clone()],
            codes: &self.file.at(&self.codes)[run.start * plane..run.end * plane],
            fine: &fine[run.start * fine_plane..run.end * fine_plane],
        }
    }

    /// The tokens of a document as unit rows `[n, d]`, as near to what was added as the codec keeps them.
    ///
    /// # Panics
    /// When `doc` is not in the shard.
    pub fn decode(&self, doc: DocOrd) -> Vec<f32> {
        self.codec.decode(&self.tokens(doc))
    }

    /// Number of blocks of [`BLOCK_DOCS`] documents.
    pub(crate) fn blocks(&self) -> usize {
        self.docs.div_ceil(BLOCK_DOCS)
    }

    /// The documents of a block that have a token at a centroid, ascending, counted from the block's first.
    pub(crate) fn postings(&self, block: usize, centroid: CentroidId) -> &[u16] {
        let at = block * self.codec.centroid_count() + centroid.0 as usize;
        let lists = self.file.at(&self.posting_offsets);
        &self.file.at(&self.postings)[lists[at] as usize..lists[at + 1] as usize]
    }

    /// Whether a newer writer asked older ones to keep off.
    pub(crate) fn read_only(&self) -> bool {
        self.file.read_only()
    }

    /// The file's identity.
    pub(crate) fn digest(&self) -> u64 {
        self.file.digest()
    }

    /// Bytes of the file.
    pub(crate) fn file_len(&self) -> usize {
        self.file.len()
    }

    pub(crate) fn damaged(&self, what: &'static str, detail: String) -> crate::Error {
        self.file.damaged(what, detail)
    }
}
