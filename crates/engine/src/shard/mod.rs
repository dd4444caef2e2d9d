//! A shard: one immutable, memory-mapped file of coded documents.
//!
//! Documents lie in ascending order of their [`DocId`]; the tokens of document `i` are the run
//! `offsets[i]..offsets[i + 1]` of every token column. Posting lists say, for each block of documents and each centroid,
//! which documents have a token there. The layout is specified in index-format.md and named in [`layout`].

mod layout;
mod postings;
mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use latewood_simd::{ResidualTokens, prefetch, unpack_factors};

use crate::codec::ResidualCodec;
use crate::directory::Directory;
use crate::error::Result;
use crate::format::{Container, Kind, Lazy, Located, SectionId};
use crate::ids::{CentroidId, DocId, DocOrd};

pub(crate) use layout::BLOCK_DOCS;
use postings::posting_lists;
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
    centroids: Lazy<u16>,
    factors: Lazy<u16>,
    codes: Lazy<u8>,
    fine: Option<Lazy<u8>>,
    posting_offsets: Located<u32>,
    postings: Lazy<u16>,
}

/// The tokens of a shard, column by column.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// `[n + 1]`: the tokens of document `i` are `offsets[i]..offsets[i + 1]`.
    pub offsets: &'a [u32],
    /// `[t]`: the centroid of each token.
    pub centroids: &'a [u16],
    /// `[t]`: its scale and inverse norm ([`latewood_simd::unpack_factors`]).
    pub factors: &'a [u16],
    /// `[t, m]`: its codes ([`latewood_simd::unpack_codes`]), `m` bytes a token.
    pub codes: &'a [u8],
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (docs, tokens) = (self.docs, self.tokens);
        f.debug_struct("Shard").field("file", &self.file.path()).field("docs", &docs).field("tokens", &tokens).finish()
    }
}

impl Shard {
    /// Opens the file `name`, coded with `codec`. What there is of each token and posting is checked when first read.
    pub(crate) fn open(directory: &dyn Directory, name: &str, codec: Arc<ResidualCodec>) -> Result<Self> {
        let file = Container::open(directory, name, Kind::SHARD, &layout::ALL)?;
        let meta = file.values::<layout::Meta>(layout::META, 1)?[0];
        layout::check(&file, &meta, &codec)?;
        let (docs, tokens, postings) = (meta.docs as usize, meta.tokens as usize, meta.postings as usize);
        let lists = docs.div_ceil(BLOCK_DOCS) * codec.centroid_count();
        let (plane, fine_plane) = codec.planes();
        let largest = (codec.centroid_count() - 1) as u16;
        let bytes = |id: SectionId, count| file.lazy(id.name, file.locate::<u8>(id, count)?, |_| true);
        let numbers = |id: SectionId, count, largest: u16| {
            // The largest of all, rather than the first that is too large: it takes a sixteenth of the time.
            let valid = move |values: &[u16]| values.iter().fold(0, |a, &x| a.max(x)) <= largest;
            file.lazy(id.name, file.locate::<u16>(id, count)?, valid)
        };
        let fine = match fine_plane {
            0 => file.lacks(layout::FINE).map(|()| None)?,
            _ => Some(bytes(layout::FINE, tokens * fine_plane)?),
        };
        let shard = Self {
            docs,
            tokens,
            doc_ids: file.located(layout::DOC_IDS, docs)?,
            offsets: file.located(layout::OFFSETS, docs + 1)?,
            centroids: numbers(layout::CENTROIDS, tokens, largest)?,
            factors: numbers(layout::FACTORS, tokens, u16::MAX)?,
            codes: bytes(layout::CODES, tokens * plane)?,
            fine,
            posting_offsets: file.located(layout::POSTING_OFFSETS, lists + 1)?,
            // A posting beyond the last document of a block is found by nobody.
            postings: numbers(layout::POSTINGS, postings, u16::MAX)?,
            codec,
            file,
        };
        shard.check_content(postings)?;
        Ok(shard)
    }

    /// What search relies on: ids ascend, runs are in order and not empty, numbers point inside.
    fn check_content(&self, postings: usize) -> Result<()> {
        let bad = |id: SectionId, detail: &str| Err(self.file.damaged(id.name, detail.into()));
        if !self.file.at(&self.doc_ids).is_sorted_by(|a, b| a < b) {
            return bad(layout::DOC_IDS, "document ids do not ascend");
        }
        let offsets = self.file.at(&self.offsets);
        if offsets[0] != 0 || offsets[self.docs] as usize != self.tokens || !offsets.is_sorted_by(|a, b| a < b) {
            return bad(layout::OFFSETS, "the runs of tokens are not in order");
        }
        let lists = self.file.at(&self.posting_offsets);
        if lists[0] != 0 || lists[lists.len() - 1] as usize != postings || !lists.is_sorted() {
            return bad(layout::POSTING_OFFSETS, "the lists are not in order");
        }
        Ok(())
    }

    /// Checks all that opening leaves for later.
    ///
    /// # Errors
    /// When anything is damaged; the error names the section.
    pub(crate) fn verify(&self) -> Result<()> {
        self.file.verify()?;
        let lists = self.file.at(&self.posting_offsets);
        let postings = self.file.get(&self.postings, 0..lists[lists.len() - 1] as usize)?;
        let centroids = self.file.get(&self.centroids, 0..self.tokens)?;
        let of_tokens = posting_lists(self.file.at(&self.offsets), centroids, self.codec.centroid_count());
        if (lists, postings) != (&of_tokens.0, &of_tokens.1) {
            let detail = "they are not the documents with a token at each centroid";
            return Err(self.damaged(layout::POSTINGS.name, detail.into()));
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

    /// Number of a document's tokens.
    ///
    /// # Panics
    /// When `doc` is not in the shard.
    pub fn token_count_of(&self, doc: DocOrd) -> usize {
        self.run(doc).len()
    }

    fn run(&self, doc: DocOrd) -> Range<usize> {
        let offsets = self.file.at(&self.offsets);
        offsets[doc.0 as usize] as usize..offsets[doc.0 as usize + 1] as usize
    }

    /// What there is of all tokens, for a device to take.
    ///
    /// # Errors
    /// When any of it is damaged.
    pub fn columns(&self) -> Result<Columns<'_>> {
        let (plane, _) = self.codec.planes();
        Ok(Columns {
            offsets: self.file.at(&self.offsets),
            centroids: self.file.get(&self.centroids, 0..self.tokens)?,
            factors: self.file.get(&self.factors, 0..self.tokens)?,
            codes: self.file.get(&self.codes, 0..self.tokens * plane)?,
        })
    }

    /// The coded tokens of a document, without their fine codes.
    ///
    /// # Errors
    /// When they are damaged.
    ///
    /// # Panics
    /// When `doc` is not in the shard.
    pub fn tokens(&self, doc: DocOrd) -> Result<ResidualTokens<'_>> {
        let run = self.run(doc);
        let (plane, _) = self.codec.planes();
        Ok(ResidualTokens {
            bits: self.codec.bits(),
            dim: self.codec.dim(),
            levels: self.codec.levels(),
            scales: self.codec.scales(),
            centroids: self.file.get(&self.centroids, run.clone())?,
            factors: self.file.get(&self.factors, run.clone())?,
            codes: self.file.get(&self.codes, run.start * plane..run.end * plane)?,
            fine: &[],
        })
    }

    /// The coded tokens of a document with their fine codes, if the index has any.
    ///
    /// # Errors
    /// As [`Shard::tokens`].
    ///
    /// # Panics
    /// As [`Shard::tokens`].
    pub fn fine_tokens(&self, doc: DocOrd) -> Result<ResidualTokens<'_>> {
        let (run, (_, plane)) = (self.run(doc), self.codec.planes());
        let fine = match &self.fine {
            Some(fine) => self.file.get(fine, run.start * plane..run.end * plane)?,
            None => &[],
        };
        Ok(ResidualTokens { fine, ..self.tokens(doc)? })
    }

    /// The centroids and the factors of a document's tokens.
    ///
    /// # Errors
    /// As [`Shard::tokens`].
    ///
    /// # Panics
    /// As [`Shard::tokens`].
    pub(crate) fn outline(&self, doc: DocOrd) -> Result<(&[u16], &[u16])> {
        let run = self.run(doc);
        Ok((self.file.get(&self.centroids, run.clone())?, self.file.get(&self.factors, run)?))
    }

    /// The sum of all tokens' scales: how far they lie from their centroids.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn scale_sum(&self) -> Result<f64> {
        let factors = self.file.get(&self.factors, 0..self.tokens)?;
        Ok(factors.iter().map(|&factors| f64::from(unpack_factors(factors, self.codec.scales()).0)).sum())
    }

    /// Asks the processor for what [`Shard::outline`] reads.
    pub(crate) fn prefetch_outline(&self, doc: DocOrd) {
        let run = self.run(doc);
        prefetch(self.file.unread(&self.centroids, run.clone()));
        prefetch(self.file.unread(&self.factors, run));
    }

    /// Asks the processor for what [`Shard::tokens`] reads.
    pub(crate) fn prefetch_tokens(&self, doc: DocOrd) {
        let (run, (plane, _)) = (self.run(doc), self.codec.planes());
        prefetch(self.file.unread(&self.centroids, run.clone()));
        prefetch(self.file.unread(&self.factors, run.clone()));
        prefetch(self.file.unread(&self.codes, run.start * plane..run.end * plane));
    }

    /// Asks the processor for the fine codes that [`Shard::fine_tokens`] reads.
    pub(crate) fn prefetch_fine(&self, doc: DocOrd) {
        let (run, (_, plane)) = (self.run(doc), self.codec.planes());
        let fine = self.fine.as_ref().map(|fine| self.file.unread(fine, run.start * plane..run.end * plane));
        prefetch(fine.unwrap_or_default());
    }

    /// The tokens of a document as rows `[n, d]` near unit length, as near to what was added as the codec keeps them.
    ///
    /// # Errors
    /// As [`Shard::tokens`].
    ///
    /// # Panics
    /// As [`Shard::tokens`].
    pub fn decode(&self, doc: DocOrd) -> Result<Vec<f32>> {
        Ok(self.codec.decode(&self.fine_tokens(doc)?))
    }

    /// Number of blocks of [`BLOCK_DOCS`] documents.
    pub(crate) fn blocks(&self) -> usize {
        self.docs.div_ceil(BLOCK_DOCS)
    }

    /// The documents of a block that have a token at a centroid, ascending, counted from the block's first.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn postings(&self, block: usize, centroid: CentroidId) -> Result<&[u16]> {
        let at = block * self.codec.centroid_count() + centroid.0 as usize;
        let lists = self.file.at(&self.posting_offsets);
        self.file.get(&self.postings, lists[at] as usize..lists[at + 1] as usize)
    }

    /// The sections of the file: name and bytes.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.file.sizes()
    }

    /// Whether a newer writer asked older ones to keep off.
    pub(crate) fn read_only(&self) -> bool {
        self.file.read_only()
    }

    /// The file's identity: shards of one digest have one content.
    pub fn digest(&self) -> u64 {
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
