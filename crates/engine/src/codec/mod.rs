//! The residual codec: a token becomes a centroid and a few bits a dimension.
//!
//! ColBERTv2 (Santhanam et al. 2022, section 3.3) stores a token as the id of its nearest centroid and its
//! residual with `b` bits a dimension. Four things differ here, at the price of two bytes a token:
//!
//! * all vectors are first turned by one random rotation, so that every dimension of a residual has the same
//!   spread and a single table of levels fits them all (dot products do not notice a rotation);
//! * centroids are bytes, so that a query meets all of them with byte dot products; what that rounds off is part of
//!   the residual;
//! * a residual is divided by a scale of its own, one of 64, so that near and far tokens use the whole table;
//! * the levels minimise the squared error (Lloyd 1982) where ColBERTv2 takes quantiles, and are small integers,
//!   so that a kernel computes with exactly the value that was stored.
//!
//! A decoded token is `(centroid + scale * level[code]) * inverse norm`, again a unit vector. An index may keep four more
//! bits a dimension, the *fine codes*: what the codes leave of the residual, in steps of a fraction of the scale. They
//! lie apart and are read for the few documents that the codes have chosen.
//!
//! A codec is immutable, a file of its own, and named by its digest; a shard names the codec it was written with.

mod assign;
mod check;
mod encode;
mod groups;
mod kmeans;
mod levels;
mod rotation;
mod token_aware;
mod train;

use std::fmt;
use std::sync::{Arc, OnceLock};

use latewood_simd::{FINE_BITS, FineSteps, LEVEL_OFFSET, MAX_LEVEL, QueryF32, SCALES, code_bytes};

use crate::backend::CpuBackend;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::format::{Container, ContainerWriter, Kind, Located, SectionId};

use groups::Groups;

pub use encode::CodedTokens;
pub(crate) use groups::SEARCHED_BY_GROUPS;
pub use train::Sampler;
pub(crate) use train::{Sample, Shape, train};

/// The bits a dimension that the format knows.
pub const SUPPORTED_BITS: [u32; 3] = [1, 2, 4];

const META: SectionId = SectionId::new(b"META", "metadata");
const CENTROIDS: SectionId = SectionId::new(b"CENT", "centroids");
const ROTATION: SectionId = SectionId::new(b"ROTA", "rotation");
const LEVELS: SectionId = SectionId::new(b"LEVL", "levels");
const TOKEN_SCALES: SectionId = SectionId::new(b"SCAL", "scales");
const FINE_STEPS: SectionId = SectionId::new(b"FSTP", "fine steps");
const CENTROID_SCALES: SectionId = SectionId::new(b"CSCA", "centroid scales");
const GROUPS: SectionId = SectionId::new(b"GRPS", "groups of centroids");
const GROUP_MEANS: SectionId = SectionId::new(b"GMEA", "means of groups");
const GROUP_SCALES: SectionId = SectionId::new(b"GSCA", "scales of means");

const SECTIONS: [SectionId; 10] =
    [META, LEVELS, FINE_STEPS, TOKEN_SCALES, ROTATION, CENTROIDS, CENTROID_SCALES, GROUPS, GROUP_MEANS, GROUP_SCALES];

/// As many centroids as a token's 16 bits can name.
const MAX_CENTROIDS: usize = 1 << 16;
/// The products of a rotation's rows may be so far from 0 and 1: what rounding leaves is a hundredth of it.
const ORTHOGONAL: f32 = 1e-3;

/// How much a token that lies off its centroid, by the sine, is taken to lean towards the query, as a share of the sine's
/// square: measured, on text and on code (BENCHMARKS.md).
const LEANING: f32 = 0.25;

/// The metadata section, field by field.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Meta {
    dim: u32,
    bits: u32,
    centroids: u32,
    /// The residual scale of a token is first guessed as its root mean square times this.
    scale_per_rms: f32,
    /// What one of a fine code's steps is worth, in levels; 0 where there are no fine codes.
    fine_unit: f32,
    /// The mean of the scales of the tokens trained on: how far they lie from their centroids.
    mean_scale: f32,
    /// Tokens of the index when the codec was trained.
    trained_on: u64,
}

/// What training finds.
pub(crate) struct Parts {
    pub(crate) dim: usize,
    pub(crate) bits: u32,
    /// In rotated space.
    pub(crate) centroids: ByteRows,
    /// Theirs.
    groups: Groups,
    /// The scales that tokens choose from, ascending.
    pub(crate) scales: [f32; SCALES],
    /// `[d, d]`, orthogonal: row `i` gives dimension `i` of a rotated vector.
    pub(crate) rotation: Vec<f32>,
    /// The level of each code, ascending.
    pub(crate) levels: [i8; 16],
    pub(crate) scale_per_rms: f32,
    /// The mean of the scales of the tokens trained on.
    pub(crate) mean_scale: f32,
    /// `None` where tokens get no fine codes.
    pub(crate) fine: Option<FineSteps>,
    pub(crate) trained_on: u64,
}

/// Rows as bytes: a value is `scale * (byte - LEVEL_OFFSET)`, one scale a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByteRows {
    /// `[n, d]`
    bytes: Vec<u8>,
    /// `[n]`
    scales: Vec<f32>,
}

impl ByteRows {
    /// Rounds `rows` `[n, d]`.
    fn new(rows: &[f32], dim: usize) -> Self {
        let mut out = Self::default();
        for row in rows.chunks_exact(dim) {
            let largest = row.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            let scale = if largest > 0.0 { largest / f32::from(MAX_LEVEL) } else { 1.0 };
            // The smallest floats have no 63rd part: what is out of range, in forged centroids only, is cut off.
            let level = |x: f32| (x / scale).round().clamp(-f32::from(MAX_LEVEL), f32::from(MAX_LEVEL)) as i32;
            out.bytes.extend(row.iter().map(|&x| (level(x) + LEVEL_OFFSET) as u8));
            out.scales.push(scale);
        }
        out
    }
}

/// `bytes` `[n, d]` as the values they stand for.
fn to_f32(bytes: &[u8], scales: &[f32], dim: usize) -> Vec<f32> {
    let rows = bytes.chunks_exact(dim).zip(scales);
    rows.flat_map(|(row, &scale)| row.iter().map(move |&b| (i32::from(b) - LEVEL_OFFSET) as f32 * scale)).collect()
}

/// An open codec.
pub struct ResidualCodec {
    file: Container,
    meta: Meta,
    levels: [i8; 16],
    fine: Option<FineSteps>,
    scales: [f32; SCALES],
    centroids: Located<u8>,
    centroid_scales: Located<f32>,
    groups: Groups,
    /// For coding and decoding only.
    assigner: OnceLock<assign::Assigner>,
    /// The rotation as stored, `[d, d]`, and with its rows in the lanes.
    rotation: Located<f32>,
    rotation_lanes: QueryF32,
}

impl fmt::Debug for ResidualCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResidualCodec").field("file", &self.file.path()).field("meta", &self.meta).finish()
    }
}

impl ResidualCodec {
    /// Dimensions.
    pub fn dim(&self) -> usize {
        self.meta.dim as usize
    }

    /// Bits a dimension.
    pub fn bits(&self) -> u32 {
        self.meta.bits
    }

    /// Number of centroids.
    pub fn centroid_count(&self) -> usize {
        self.meta.centroids as usize
    }

    /// `[c, d]` bytes and `[c]` scales, in rotated space: a value is `scale * (byte - 64)`.
    pub fn centroids(&self) -> (&[u8], &[f32]) {
        (self.file.at(&self.centroids), self.file.at(&self.centroid_scales))
    }

    /// The groups that the centroids lie in, one after the other: where each begins and the last ends, `[g + 1]`, and
    /// their means as [`ResidualCodec::centroids`]. No means where there is one group.
    pub fn groups(&self) -> (&[u32], (&[u8], &[f32])) {
        (&self.groups.offsets, (&self.groups.means.bytes, &self.groups.means.scales))
    }

    /// How fine codes are read; `None` where tokens have none.
    pub fn fine(&self) -> Option<&FineSteps> {
        self.fine.as_ref()
    }

    /// `[d, d]`: row `i` gives dimension `i` of a rotated row, as a dot product.
    pub fn rotation(&self) -> &[f32] {
        self.file.at(&self.rotation)
    }

    /// A token's scale is first guessed as the root mean square of its residual times this.
    pub fn scale_per_rms(&self) -> f32 {
        self.meta.scale_per_rms
    }

    /// Bytes of a token's codes and of its fine codes.
    pub fn planes(&self) -> (usize, usize) {
        let fine = if self.fine.is_some() { code_bytes(self.dim(), FINE_BITS) } else { 0 };
        (code_bytes(self.dim(), self.bits()), fine)
    }

    /// The scales that tokens choose from.
    pub fn scales(&self) -> &[f32; SCALES] {
        &self.scales
    }

    /// What finds the centroid of a row; made when first needed.
    fn assigner(&self) -> &assign::Assigner {
        self.assigner.get_or_init(|| {
            let (bytes, scales) = self.centroids();
            assign::Assigner::with_groups(to_f32(bytes, scales, self.dim()), self.dim(), self.groups.clone())
        })
    }

    /// The level of each code; the first `2^bits` count.
    pub fn levels(&self) -> &[i8; 16] {
        &self.levels
    }

    /// Whether a newer writer asked older ones to keep off.
    pub(crate) fn read_only(&self) -> bool {
        self.file.read_only()
    }

    /// The codec's identity: codecs of one digest have one content.
    pub fn digest(&self) -> u64 {
        self.file.digest()
    }

    /// Tokens of the index when the codec was trained.
    pub(crate) fn trained_on(&self) -> u64 {
        self.meta.trained_on
    }

    /// For each scale, the cosine between a token that has it and its centroid, both being unit vectors at a distance that
    /// the scale tells.
    fn cosines(&self) -> [f32; SCALES] {
        let square = |scale: f32| (scale / self.meta.scale_per_rms).powi(2) * self.dim() as f32;
        self.scales.map(|scale| if scale > 0.0 { (1.0 - square(scale) / 2.0).clamp(0.0, 1.0) } else { 1.0 })
    }

    /// How a token's score is guessed from its centroid's, for each scale that it may have: the weight of the centroid's
    /// score, and how far the token is taken to lean towards a row, as a share of the row's length.
    ///
    /// A token at an angle `a` from its centroid `c` is `cos a * c + sin a * u`, `u` being some direction off `c`; its scale
    /// tells the angle. Its dot product with a row `q` is `cos a * <q, c>`, and something for `u`: tokens that are looked
    /// for lean towards the row, the more the farther they lie off.
    pub fn estimates(&self) -> ([f32; SCALES], [f32; SCALES]) {
        let cosines = self.cosines();
        (cosines, cosines.map(|cos| LEANING * (1.0 - cos * cos)))
    }

    /// The mean of the scales of the tokens that it was trained on.
    pub(crate) fn mean_scale(&self) -> f32 {
        self.meta.mean_scale
    }

    /// Bytes of the file.
    pub(crate) fn file_len(&self) -> usize {
        self.file.len()
    }

    /// `rows` `[n, d]` turned into the space that centroids and levels are in: dot products stay.
    pub fn rotated(&self, rows: &[f32]) -> Vec<f32> {
        self.rotate(&CpuBackend::new(), rows)
    }

    /// `rows` `[n, d]` in rotated space.
    pub(crate) fn rotate(&self, backend: &CpuBackend, rows: &[f32]) -> Vec<f32> {
        rotation::rotate(backend, &self.rotation_lanes, rows)
    }

    /// Writes `parts` as the file `name`.
    pub(crate) fn write(directory: &dyn Directory, name: &str, parts: &Parts) -> Result<()> {
        let meta = Meta {
            dim: parts.dim as u32,
            bits: parts.bits,
            centroids: parts.centroids.scales.len() as u32,
            scale_per_rms: parts.scale_per_rms,
            fine_unit: parts.fine.map_or(0.0, |fine| fine.unit),
            mean_scale: parts.mean_scale,
            trained_on: parts.trained_on,
        };
        let mut file = ContainerWriter::create(directory, name, Kind::CODEC)?;
        file.section(META, bytemuck::bytes_of(&meta))?;
        file.section(LEVELS, bytemuck::cast_slice(&parts.levels))?;
        if let Some(fine) = &parts.fine {
            file.section(FINE_STEPS, &fine.steps)?;
        }
        file.section(ROTATION, bytemuck::cast_slice(&parts.rotation))?;
        file.section(TOKEN_SCALES, bytemuck::cast_slice(&parts.scales))?;
        file.section(CENTROIDS, &parts.centroids.bytes)?;
        file.section(CENTROID_SCALES, bytemuck::cast_slice(&parts.centroids.scales))?;
        if parts.groups.len() > 1 {
            file.section(GROUPS, bytemuck::cast_slice(&parts.groups.offsets))?;
            file.section(GROUP_MEANS, &parts.groups.means.bytes)?;
            file.section(GROUP_SCALES, bytemuck::cast_slice(&parts.groups.means.scales))?;
        }
        file.finish()
    }

    /// Opens the file `name` and checks its content.
    pub(crate) fn open(directory: &dyn Directory, name: &str) -> Result<Arc<Self>> {
        let file = Container::open(directory, name, Kind::CODEC, &SECTIONS)?;
        let meta = file.values::<Meta>(META, 1)?[0];
        check::meta(&file, &meta)?;
        let dim = meta.dim as usize;
        let levels = check::levels(&file, 1 << meta.bits)?;
        let fine = match meta.fine_unit {
            0.0 => {
                file.lacks(FINE_STEPS)?;
                None
            }
            unit => {
                let mut steps = [0; 16];
                steps.copy_from_slice(file.values::<u8>(FINE_STEPS, 16)?);
                Some(FineSteps { steps, unit })
            }
        };
        let rotation = check::floats(&file, ROTATION, dim * dim, -1.0..=1.0)?;
        let scales = check::scales(&file)?;
        let centroids = check::level_bytes(&file, CENTROIDS, meta.centroids as usize * dim)?;
        let centroid_scales = check::floats(&file, CENTROID_SCALES, meta.centroids as usize, 0.0..=1.0)?;
        let groups = check::groups(&file, meta.centroids as usize, dim)?;
        let rotation_lanes = QueryF32::new(file.at(&rotation), dim);
        let assigner = OnceLock::new();
        Ok(Arc::new(Self {
            meta,
            levels,
            fine,
            scales,
            centroids,
            centroid_scales,
            groups,
            assigner,
            rotation,
            rotation_lanes,
            file,
        }))
    }

    /// Checks what opening leaves for later: that the rotation is one.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn verify(&self, backend: &CpuBackend) -> Result<()> {
        let dim = self.dim();
        let products = self.rotate(backend, self.rotation());
        let orthogonal = |(at, product): (usize, &f32)| {
            let wanted = f32::from(at / dim == at % dim);
            (product - wanted).abs() <= ORTHOGONAL
        };
        if products.iter().enumerate().all(orthogonal) {
            return Ok(());
        }
        Err(self.file.damaged(ROTATION.name, "its rows are not orthogonal".into()))
    }
}

pub(crate) fn check_bits(bits: u32) -> Result<()> {
    if SUPPORTED_BITS.contains(&bits) {
        return Ok(());
    }
    Err(Error::BadParameter { name: "bits", value: bits.to_string(), expected: "1, 2 or 4" })
}
