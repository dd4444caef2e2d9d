//! Which stages a latency budget has room for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Measurements that count.
const RECENT: usize = 5;

/// How long a stage takes for a candidate: the median of the last few times, so that one that was late for a reason of its own
/// (a model's first run, a busy machine) leaves out nothing.
pub(crate) struct Cost(Mutex<Vec<f64>>);

impl Cost {
    /// What is usual, which counts as a measurement: milliseconds a candidate.
    pub(crate) fn new(usual: f64) -> Self {
        Self(Mutex::new(vec![usual]))
    }

    fn recent(&self) -> MutexGuard<'_, Vec<f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of two in the middle, the lower.
    pub(crate) fn ms(&self) -> f64 {
        let mut sorted = self.recent().clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted[(sorted.len() - 1) / 2]
    }

    pub(crate) fn measured(&self, ms: f64) {
        let mut recent = self.recent();
        if recent.len() == RECENT {
            recent.remove(0);
        }
        recent.push(ms);
    }

    /// It was left out for what it costs: what was dear is tried again by and by.
    pub(crate) fn left_out(&self) {
        let ms = self.ms();
        // One is forgotten sooner than several.
        *self.recent() = vec![0.98 * ms];
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
    }

    #[test]
    fn one_late_time_changes_nothing() {
        let cost = Cost::new(5.0);
        cost.measured(900.0);
        assert_eq!(cost.ms(), 5.0);
        (1..=3).for_each(|ms| cost.measured(f64::from(ms)));
        assert_eq!(cost.ms(), 3.0);
        // What is dear again and again is; then it is forgotten.
        (0..3).for_each(|_| cost.measured(900.0));
        assert_eq!(cost.ms(), 900.0);
        (0..35).for_each(|_| cost.left_out());
        assert!(cost.ms() < 450.0);
        // Still dear: twice it was tried.
        (0..2).for_each(|_| cost.measured(900.0));
        assert_eq!(cost.ms(), 900.0);
    }
}
