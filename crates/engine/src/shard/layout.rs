//! The sections of a shard; index-format.md is the specification.

use crate::codec::ResidualCodec;
use crate::error::Result;
use crate::format::{Container, SectionId};

/// [`Meta`].
pub(super) const META: SectionId = SectionId::new(b"META", "metadata");
/// `u64[docs]`, ascending.
pub(super) const DOC_IDS: SectionId = SectionId::new(b"DIDS", "document ids");
/// `u32[docs + 1]`, from 0 to the number of tokens.
pub(super) const OFFSETS: SectionId = SectionId::new(b"DOFF", "token offsets");
/// `u16[tokens]`.
pub(super) const CENTROIDS: SectionId = SectionId::new(b"CIDS", "centroid ids");
/// `u16[tokens]`: scale and inverse norm.
pub(super) const FACTORS: SectionId = SectionId::new(b"FACT", "factors");
/// `u8[tokens, dim * bits / 8]`.
pub(super) const CODES: SectionId = SectionId::new(b"RESI", "residuals");
/// `u8[tokens, dim / 2]`, if the codec has fine codes.
pub(super) const FINE: SectionId = SectionId::new(b"FINE", "fine codes");
/// `u32[blocks * centroids + 1]`, from 0 to the number of postings.
pub(super) const POSTING_OFFSETS: SectionId = SectionId::new(b"POFF", "posting offsets");
/// `u16[postings]`: for each block of documents and each centroid, the documents, ascending.
pub(super) const POSTINGS: SectionId = SectionId::new(b"POST", "postings");

pub(super) const ALL: [SectionId; 9] =
    [META, DOC_IDS, OFFSETS, CENTROIDS, FACTORS, CODES, FINE, POSTING_OFFSETS, POSTINGS];

/// Documents whose postings lie together: their positions in the block take 16 bits.
pub(crate) const BLOCK_DOCS: usize = 1 << 16;

/// The metadata section, field by field.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Meta {
    pub(super) docs: u32,
    pub(super) dim: u32,
    pub(super) bits: u32,
    pub(super) centroids: u32,
    pub(super) tokens: u64,
    pub(super) postings: u64,
    /// Digest of the codec that the tokens are coded with.
    pub(super) codec: u64,
}

/// Checks what the metadata says against the codec, before sizes are computed from it.
pub(super) fn check(file: &Container, meta: &Meta, codec: &ResidualCodec) -> Result<()> {
    if meta.codec != codec.digest() {
        let detail = format!("coded with {:016x}, not with {:016x}", meta.codec, codec.digest());
        return Err(file.damaged("codec", detail));
    }
    let good = meta.docs > 0
        && meta.dim as usize == codec.dim()
        && meta.bits == codec.bits()
        && meta.centroids as usize == codec.centroid_count()
        && meta.tokens <= super::MAX_TOKENS
        && u64::from(meta.docs) <= meta.tokens
        && meta.postings <= meta.tokens;
    if good { Ok(()) } else { Err(file.damaged(META.name, format!("{meta:?}"))) }
}
