//! Putting a token together again from its centroid, its codes and its fine codes.

use crate::query::WORD_ONE;
use crate::residual::{FINE_MIDDLE, LEVEL_OFFSET};

/// `1.5 * 2^23`: f32 of this size have steps of 1.
const ROUND: f32 = 12_582_912.0;

/// The fine codes as a byte shuffle looks them up.
#[cfg(target_arch = "x86_64")]
pub(crate) const FINE_CODES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

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

/// `out[d] =` the sum of centroid, level and fine code, each less what stands for 0, in 16 bits: [`WORD_ONE`] stands for 1,
/// and what is beyond 1.99, in forged tokens only, is cut off. One body, compiled for each instruction set.
#[inline(always)]
pub(crate) fn combine(centroid: &[u8], [levels, fine_steps, fine]: [&[u8]; 3], steps: Steps, out: &mut [i16]) {
    let offset = LEVEL_OFFSET as f32;
    let zero = offset * steps.centroid + offset * steps.level;
    let values = centroid.iter().zip(levels).zip(fine_steps.iter().zip(fine));
    for (out, ((&c, &l), (&step, &f))) in out.iter_mut().zip(values) {
        let fine = (f32::from(f) - FINE_MIDDLE) * f32::from(step);
        let value = f32::from(c) * steps.centroid + f32::from(l) * steps.level + fine * steps.fine - zero;
        // Far from 0 floats are whole numbers: adding rounds, and the low bits are the number.
        *out = (value.clamp(-1.99, 1.99) * WORD_ONE + ROUND).to_bits() as i16;
    }
}
