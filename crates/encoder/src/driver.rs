//! A network on a GPU, and the one thread that drives it.
//!
//! CubeCL gives each thread a queue and memory of its own, so one thread loads the network, runs all batches, one after the
//! other, and lets go of it. Where a driver or its compiler is not as CubeCL expects, it panics: no panic leaves here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_cubecl::CubeRuntime;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::{Budget, Input};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::network::{Network, Rows, Run};
use crate::ops::{Gpu, Precision};

pub(crate) struct Driver<R: CubeRuntime> {
    /// Of one thread.
    thread: ThreadPool,
    /// None only while it is dropped.
    network: Option<Network<Gpu<R>>>,
    budget: Budget,
    /// What the device is called in errors.
    name: String,
}

impl<R: CubeRuntime> Driver<R> {
    pub(crate) fn load(checkpoint: &Checkpoint, precision: Precision, device: &R::Device, name: &str) -> Result<Self> {
        let failed = |detail| Error::Device { device: name.into(), detail };
        let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "latewood-gpu".into());
        let thread = builder.build().map_err(|e| failed(e.to_string()))?;
        let load = || Network::<Gpu<R>>::load(checkpoint, precision, device, name);
        let network = unpanicked(|| thread.install(load)).map_err(failed)??;
        Ok(Self { thread, budget: network.budget(), network: Some(network), name: name.into() })
    }
}

impl<R: CubeRuntime> Run for Driver<R> {
    fn run(&self, texts: &[&Input]) -> Result<Vec<Rows>> {
        let failed = |detail| Error::Device { device: self.name.clone(), detail };
        let run = || self.network.as_ref().map(|network| network.run(texts));
        let rows = unpanicked(|| self.thread.install(run)).map_err(failed)?;
        rows.ok_or_else(|| failed("it is no more".into()))?
    }

    fn budget(&self) -> Budget {
        self.budget
    }
}

impl<R: CubeRuntime> Drop for Driver<R> {
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
