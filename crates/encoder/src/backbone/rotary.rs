//! Rotary positions (Su et al. 2021, arXiv:2104.09864): queries and keys are turned by angles that grow with the place
//! of their token, so that their product depends on how far apart two tokens are.
//!
//! The first half of a head's values goes with the second, as in GPT-NeoX, not each with its neighbour.

use std::sync::{Arc, PoisonError, RwLock};

/// The angles of places, computed when texts are first that long.
pub(crate) struct Rotary {
    base: f32,
    width: usize,
    known: RwLock<Arc<Angles>>,
}

/// Cosines and sines, `[places, width / 2]` each.
#[derive(Default)]
pub(crate) struct Angles {
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
}

impl Rotary {
    /// For heads of `width` values: place `p` turns pair `i` of `width / 2` by `p / base^(2 i / width)`.
    pub(crate) fn new(base: f64, width: usize) -> Self {
        Self { base: base as f32, width, known: RwLock::default() }
    }

    /// The angles of at least `places` places.
    pub(crate) fn angles(&self, places: usize) -> Arc<Angles> {
        // A thread that panicked here left a whole table: it is replaced, never changed.
        let known = Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner));
        if known.cos.len() >= places * self.width / 2 {
            return known;
        }
        let angles = Arc::new(self.compute(places.next_power_of_two()));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have computed a longer one meanwhile.
        if known.cos.len() < angles.cos.len() {
            *known = Arc::clone(&angles);
        }
        angles
    }

    fn compute(&self, places: usize) -> Angles {
        let half = self.width / 2;
        // In f32, as the references do: at far places the rounding of an angle shows.
        let speed = |i: usize| 1.0 / self.base.powf((2 * i) as f32 / self.width as f32);
        let speeds: Vec<f32> = (0..half).map(speed).collect();
        let angles = (0..places).flat_map(|place| speeds.iter().map(move |speed| place as f32 * speed));
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Angles { cos, sin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latewood_simd::TransformerKernels;

    #[test]
    fn a_product_depends_on_the_distance_alone() {
        let rotary = Rotary::new(100.0, 4);
        let angles = rotary.angles(9);
        let turned = |place: usize, mut head: [f32; 4]| {
            let at = place * 2..place * 2 + 2;
            TransformerKernels::detect().rotate(&mut head, &angles.cos[at.clone()], &angles.sin[at]);
            head
        };
        let product = |i: usize, j: usize| -> f32 {
            let (q, k) = (turned(i, [1.0, 2.0, -1.0, 0.5]), turned(j, [0.3, -1.0, 2.0, 1.0]));
            q.iter().zip(k).map(|(q, k)| q * k).sum()
        };
        for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
            assert!((product(i, j) - product(i + 1, j + 1)).abs() < 1e-5, "{i} {j}");
        }
        assert!((product(0, 0) - product(0, 1)).abs() > 0.1);
    }

    #[test]
    fn a_table_grows_and_stays_the_same() {
        let rotary = Rotary::new(10_000.0, 6);
        let short = rotary.angles(3);
        let long = rotary.angles(100);
        assert!(short.cos.len() >= 9 && long.cos.len() >= 300);
        assert_eq!(short.cos[..9], long.cos[..9]);
        assert_eq!(rotary.angles(2).sin, long.sin);
    }
}
