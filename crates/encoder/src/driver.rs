//! A network on a GPU, and the one thread that drives it.
//!
//! CubeCL gives each thread a queue and memory of its own, so one thread loads the network, runs all batches, one after the
//! other, and lets go of it. Where a driver or its compiler is not as CubeCL expects, it panics: no panic leaves here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::{Budget, Input};
use crate::error::{Error, Result};
use crate::network::Run;

struct Driver<T> {
    /// Of one thread.
    thread: ThreadPool,
    /// None only while it is dropped.
    network: Option<Box<dyn Run<T>>>,
    budget: Budget,
    /// What the device is called in errors.
    name: String,
}

/// The network that `load` loads to the device `name`, with a thread of its own.
pub(crate) fn load<T: Send + 'static>(
    name: &str,
    load: impl FnOnce() -> Result<Box<dyn Run<T>>> + Send,
) -> Result<Box<dyn Run<T>>> {
    let failed = |detail| Error::Device { device: name.into(), detail };
    let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "latewood-gpu".into());
    let thread = builder.build().map_err(|e| failed(e.to_string()))?;
    let network = unpanicked(|| thread.install(load)).map_err(failed)??;
    Ok(Box::new(Driver { thread, budget: network.budget(), network: Some(network), name: name.into() }))
}

impl<T: Send> Run<T> for Driver<T> {
    fn run(&self, texts: &[&Input]) -> Result<Vec<T>> {
        let failed = |detail| Error::Device { device: self.name.clone(), detail };
        let run = || self.network.as_ref().map(|network| network.run(texts));
        let made = unpanicked(|| self.thread.install(run)).map_err(failed)?;
        made.ok_or_else(|| failed("it is no more".into()))?
    }

    fn budget(&self) -> Budget {
        self.budget
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        let network = self.network.take();
        // A device that is lost cannot be given anything back: there is nothing to do about it.
        let _ = unpanicked(|| self.thread.install(|| drop(network)));
    }
}

/// Runs `act`; a panic is an error that says what it said.
fn unpanicked<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").to_string()
    })
}
