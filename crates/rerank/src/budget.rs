//! Which stages a latency budget has room for.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long a stage takes for a candidate, as it was measured last; the mean of the last few times.
pub(crate) struct Cost(AtomicU64);

impl Cost {
    /// What is usual, before anything was measured: milliseconds a candidate.
    pub(crate) fn new(usual: f64) -> Self {
        Self(AtomicU64::new(usual.to_bits()))
    }

    pub(crate) fn ms(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn measured(&self, ms: f64) {
        // Of two at once one may be lost: it is an estimate.
        self.0.store((0.7 * self.ms() + 0.3 * ms).to_bits(), Ordering::Relaxed);
    }

    /// It was left out for what it costs: what was dear once is tried again by and by.
    pub(crate) fn left_out(&self) {
        self.0.store((0.98 * self.ms()).to_bits(), Ordering::Relaxed);
    }
}

/// Which of the stages, of these milliseconds each, to leave out so that the rest fits in `budget`: the dearest first.
pub(crate) fn dropped(ms: &[f64], budget: Option<f64>) -> Vec<bool> {
    let mut dropped = vec![false; ms.len()];
    let Some(budget) = budget else { return dropped };
    let mut order: Vec<usize> = (0..ms.len()).collect();
    order.sort_by(|&a, &b| ms[b].total_cmp(&ms[a]));
    let mut left: f64 = ms.iter().sum();
    for at in order {
        if left <= budget {
            break;
        }
        dropped[at] = true;
        left -= ms[at];
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_goes_first() {
        assert_eq!(dropped(&[1.0, 50.0, 20.0], None), [false; 3]);
        assert_eq!(dropped(&[1.0, 50.0, 20.0], Some(71.0)), [false; 3]);
        assert_eq!(dropped(&[1.0, 50.0, 20.0], Some(30.0)), [false, true, false]);
        assert_eq!(dropped(&[1.0, 50.0, 20.0], Some(0.5)), [true; 3]);
        let cost = Cost::new(10.0);
        cost.measured(0.0);
        assert_eq!(cost.ms(), 7.0);
    }
}
