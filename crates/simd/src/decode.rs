//! Putting a token together again from its centroid, its codes and its fine codes.

use crate::residual::{FINE_MIDDLE, LEVEL_OFFSET};

/// What one step of a centroid's byte, of a level, and of a fine code times its step is worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) centroid: f32,
    pub(crate) level: f32,
    pub(crate) fine: f32,
}

/// How fine codes are read: a fine code is worth `(fine - FINE_MIDDLE) * step[code] * unit` levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FineSteps {
    /// The step of each code: the outer ones have more to reach.
    pub steps: [u8; 16],
    /// What one of a step is worth, in levels.
    pub unit: f32,
}

/// `out[d] =` the sum of centroid, level and fine code, each less what stands for 0. One body, compiled for each
/// instruction set.
#[inline(always)]
pub(crate) fn combine(centroid: &[u8], [levels, fine_steps, fine]: [&[u8]; 3], steps: Steps, out: &mut [f32]) {
    let offset = LEVEL_OFFSET as f32;
    let zero = offset * steps.centroid + offset * steps.level;
    let values = centroid.iter().zip(levels).zip(fine_steps.iter().zip(fine));
    for (out, ((&c, &l), (&step, &f))) in out.iter_mut().zip(values) {
        let fine = (f32::from(f) - FINE_MIDDLE) * f32::from(step);
        *out = f32::from(c) * steps.centroid + f32::from(l) * steps.level + fine * steps.fine - zero;
    }
}
