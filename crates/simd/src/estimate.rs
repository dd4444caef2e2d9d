//! A token's score guessed from its centroid and from how far it lies from it.

use crate::residual::SCALES;

/// For each of the scales that a token may have, how its score is guessed from its centroid's: `weight * score + bonus`.
#[derive(Debug, Clone)]
pub struct Estimates {
    pub(crate) weights: [f32; SCALES],
    /// `[SCALES, lanes]`
    pub(crate) bonuses: Vec<f32>,
    pub(crate) lanes: usize,
}

impl Estimates {
    /// With `weights` and `bonuses` `[SCALES, lanes]`.
    ///
    /// # Panics
    /// When the bonuses are not so many.
    pub fn new(weights: [f32; SCALES], bonuses: Vec<f32>) -> Self {
        assert!(bonuses.len().is_multiple_of(SCALES), "{} bonuses", bonuses.len());
        Self { weights, lanes: bonuses.len() / SCALES, bonuses }
    }
}
