//! What a codec's values must be, whatever its checksums say. The limits are far above what training makes, and low enough
//! that nothing computed from them overflows: no score becomes infinite or NaN.

use std::ops::RangeInclusive;

use latewood_simd::{LEVEL_OFFSET, MAX_LEVEL, SCALES};

use super::groups::Groups;
use super::{
    ByteRows, GROUP_MEANS, GROUP_SCALES, GROUPS, LEVELS, MAX_CENTROIDS, META, Meta, SUPPORTED_BITS, TOKEN_SCALES,
};
use crate::error::Result;
use crate::format::{Container, Located, SectionId};

/// The largest fine unit: training makes fractions of 1 and, of residuals that are nearly all in one dimension, some tens.
const MAX_FINE_UNIT: f32 = 1e4;

pub(super) fn meta(file: &Container, meta: &Meta) -> Result<()> {
    let good = meta.dim > 0
        && meta.dim.is_multiple_of(8)
        && meta.dim as usize <= crate::MAX_DIM
        && SUPPORTED_BITS.contains(&meta.bits)
        && meta.centroids > 0
        && meta.centroids as usize <= MAX_CENTROIDS
        && (0.0..=1.0).contains(&meta.scale_per_rms)
        && (0.0..=MAX_FINE_UNIT).contains(&meta.fine_unit)
        && (0.0..=1.0).contains(&meta.mean_scale);
    if good { Ok(()) } else { Err(file.damaged(META.name, format!("{meta:?}"))) }
}

/// The levels, of which the first `count` are in use.
pub(super) fn levels(file: &Container, count: usize) -> Result<[i8; 16]> {
    let mut levels = [0; 16];
    levels.copy_from_slice(file.values::<i8>(LEVELS, 16)?);
    let (used, unused) = levels.split_at(count);
    let in_range = used.iter().all(|level| (-MAX_LEVEL..=MAX_LEVEL).contains(level));
    if in_range && used.is_sorted() && unused.iter().all(|&level| level == 0) {
        return Ok(levels);
    }
    Err(file.damaged(LEVELS.name, format!("they are out of range or order: {levels:?}")))
}

/// The scales that tokens choose from.
pub(super) fn scales(file: &Container) -> Result<[f32; SCALES]> {
    let located = floats(file, TOKEN_SCALES, SCALES, 0.0..=1.0)?;
    let mut scales = [0.0; SCALES];
    scales.copy_from_slice(file.at(&located));
    if scales[0] == 0.0 && scales.is_sorted() {
        return Ok(scales);
    }
    Err(file.damaged(TOKEN_SCALES.name, "they do not ascend from 0".into()))
}

/// The groups of `count` centroids of `dim` dimensions; one where the file says nothing of groups.
pub(super) fn groups(file: &Container, count: usize, dim: usize) -> Result<Groups> {
    let Some(size) = file.size_of(GROUPS) else {
        file.lacks(GROUP_MEANS)?;
        file.lacks(GROUP_SCALES)?;
        return Ok(Groups::one(count));
    };
    // No more than there are centroids: sizes stay small.
    let len = (size / size_of::<u32>()).saturating_sub(1).min(count);
    let offsets = file.values::<u32>(GROUPS, len + 1)?.to_vec();
    let whole = offsets[0] == 0 && offsets[len] as usize == count;
    if !whole || !offsets.is_sorted_by(|a, b| a < b) {
        return Err(file.damaged(GROUPS.name, "the groups are not runs of all centroids".into()));
    }
    let means = level_bytes(file, GROUP_MEANS, len * dim)?;
    let scales = floats(file, GROUP_SCALES, len, 0.0..=1.0)?;
    Ok(Groups { means: ByteRows { bytes: file.at(&means).to_vec(), scales: file.at(&scales).to_vec() }, offsets })
}

/// A section of rows in bytes: the kernels' sums are safe for these.
pub(super) fn level_bytes(file: &Container, id: SectionId, count: usize) -> Result<Located<u8>> {
    let located = file.located::<u8>(id, count)?;
    let of_level = |level: i8| (LEVEL_OFFSET + i32::from(level)) as u8;
    let range = of_level(-MAX_LEVEL)..=of_level(MAX_LEVEL);
    match file.at(&located).iter().position(|b| !range.contains(b)) {
        None => Ok(located),
        Some(at) => Err(file.damaged(id.name, format!("byte {at} is out of range"))),
    }
}

/// A section of floats, each of them in `range`.
pub(super) fn floats(
    file: &Container,
    id: SectionId,
    count: usize,
    range: RangeInclusive<f32>,
) -> Result<Located<f32>> {
    let located = file.located::<f32>(id, count)?;
    let values = file.at(&located);
    match values.iter().position(|x| !range.contains(x)) {
        None => Ok(located),
        Some(at) => Err(file.damaged(id.name, format!("value {at} is {}", values[at]))),
    }
}
