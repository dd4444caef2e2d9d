//! Threads that wait awake while one text is encoded.
//!
//! A query takes a millisecond, in which its work is split and joined some forty times. A thread of a rayon pool that finds
//! nothing to do for some microseconds goes to sleep, and to wake it takes longer than its part of the work would: so
//! some of them are kept looking for work until the text is done.

use std::sync::atomic::{AtomicBool, Ordering};

/// Threads that one text is worth.
const MEMBERS: usize = 4;

/// Looks for work before the processor is offered to other threads.
const PATIENCE: u32 = 200;

/// Whether there is a team: with two, threads wait for each other, and there is work for all of them anyway.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Runs `body` on a thread of the current pool while others wait for parts of it.
pub(crate) fn together<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    let others = rayon::current_num_threads().min(MEMBERS) - 1;
    if others == 0 {
        return body();
    }
    if TAKEN.swap(true, Ordering::Acquire) {
        return rayon::scope(|_| body());
    }
    let _taken = Taken;
    let done = &Done(AtomicBool::new(false));
    rayon::scope(|scope| {
        let leader = rayon::current_thread_index();
        for _ in 0..others {
            scope.spawn(move |_| {
                // Where `body` waits for another pool, its own thread takes what lies ready: it must not wait for itself.
                if rayon::current_thread_index() != leader {
                    done.wait();
                }
            });
        }
        // Also if `body` panics: the scope waits for the others.
        let _done = Finish(done);
        body()
    })
}

struct Done(AtomicBool);

impl Done {
    /// Does what there is to do until it is done.
    fn wait(&self) {
        let mut idle = 0;
        while !self.0.load(Ordering::Acquire) {
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                idle = 0;
            } else if idle < PATIENCE {
                idle += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

struct Finish<'a>(&'a Done);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Holds [`TAKEN`] until all members are free again.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
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
    fn what_waits_for_another_pool_does_not_wait_for_itself() {
        let [pool, other] = [3, 1].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
        for _ in 0..200 {
            let sum = pool.install(|| together(|| other.install(|| (0..100_u64).into_par_iter().sum::<u64>())));
            assert_eq!(sum, 4950);
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
