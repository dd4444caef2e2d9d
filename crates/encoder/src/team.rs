//! Threads that wait awake while one text is encoded.
//!
//! A query takes a millisecond, in which its work is split and joined some forty times. A thread of a rayon pool that finds
//! nothing to do for some microseconds goes to sleep, and to wake it takes longer than its part of the work would: so
//! some of them are kept looking for work until the text is done.

use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that one text is worth.
const MEMBERS: usize = 4;

/// Whether there is a team: with two, threads wait for each other, and there is work for all of them anyway.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs `body` on a thread of the current pool while others wait for parts of it.
pub(crate) fn together<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let others = rayon::current_num_threads().min(MEMBERS) - 1;
    if others == 0 || TAKEN.swap(true, Ordering::Acquire) {
        return body();
    }
    let done = Done(AtomicBool::new(false));
    rayon::scope(|scope| {
        for _ in 0..others {
            scope.spawn(|_| done.wait());
        }
        // Also if `body` panics: the scope waits for the others.
        let _done = Finish(&done);
        body()
    })
}

struct Done(AtomicBool);

impl Done {
    /// Does what there is to do until it is done.
    fn wait(&self) {
        while !self.0.load(Ordering::Acquire) {
            if rayon::yield_now() != Some(rayon::Yield::Executed) {
                std::hint::spin_loop();
            }
        }
    }
}

struct Finish<'a>(&'a Done);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
        TAKEN.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn a_team_ends_with_its_work_or_its_panic() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for _ in 0..20 {
            let sum = pool.install(|| together(|| (0..1000_u64).into_par_iter().sum::<u64>()));
            assert_eq!(sum, 499_500);
            let panics = std::panic::AssertUnwindSafe(|| pool.install(|| together(|| panic!("on purpose"))));
            let failed = std::panic::catch_unwind(panics);
            assert!(failed.is_err());
        }
    }

    #[test]
    fn many_at_once_all_finish() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let sums: Vec<u64> = pool.install(|| {
            let one = |n| together(|| (0..n).into_par_iter().sum::<u64>());
            (0..200_u64).into_par_iter().map(one).collect()
        });
        assert!((0..200_u64).zip(sums).all(|(n, sum)| sum == n * n.saturating_sub(1) / 2));
    }
}
