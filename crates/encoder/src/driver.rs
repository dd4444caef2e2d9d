//! A network on a GPU, the one thread that drives it, and the processor, which may take over when it fails.
//!
//! CubeCL gives each thread a queue and memory of its own, so one thread loads the network, runs all batches, one after the
//! other, and lets go of it. Where a driver or its compiler is not as CubeCL expects, it panics: no panic leaves here. A batch
//! for which there is no memory is cut in two, and those to come are smaller.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use latewood_kernels::failures::{Fault, watched};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::batch::{Budget, Input};
use crate::error::{Error, Result};
use crate::network::Run;

/// Tokens that a batch may have however little memory there was once: what does not fit is cut each time.
const LEAST_TOKENS: usize = 1024;

/// Loads a network for the processor.
pub(crate) type LoadElsewhere<T> = Box<dyn Fn() -> Result<Box<dyn Run<T>>> + Send + Sync>;

struct Driver<T> {
    /// Of one thread.
    thread: ThreadPool,
    /// None when the processor has taken over. Of that thread alone.
    network: Mutex<Option<Box<dyn Run<T>>>>,
    budget: Budget,
    /// Tokens of a batch, of the budget's as many as there has been memory for.
    tokens: AtomicUsize,
    /// What the device is called in errors.
    name: String,
    /// The network that takes over for good when the device fails, if one may, and once it has, that.
    elsewhere: Option<LoadElsewhere<T>>,
    processor: OnceLock<Box<dyn Run<T>>>,
    /// Whether it has ever answered. Before, whoever loads it has to know that it fails.
    answers: AtomicBool,
}

/// The network that `load` loads to the device `name`, with a thread of its own; when it fails later, `elsewhere` loads the
/// one that takes over.
pub(crate) fn load<T: Send + 'static>(
    name: &str,
    load: impl FnOnce() -> Result<Box<dyn Run<T>>> + Send,
    elsewhere: Option<LoadElsewhere<T>>,
) -> Result<Box<dyn Run<T>>> {
    let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "latewood-gpu".into());
    let thread = builder.build().map_err(|e| failed(name, &Fault::of(&e.to_string())))?;
    let network = thread.install(|| attempt(load))?.map_err(|fault| failed(name, &fault))?;
    let budget = network.budget();
    let tokens = budget.tokens.into();
    let (network, processor, answers) = (Mutex::new(Some(network)), OnceLock::new(), AtomicBool::new(false));
    Ok(Box::new(Driver { thread, network, budget, tokens, name: name.into(), elsewhere, processor, answers }))
}

impl<T: Send> Run<T> for Driver<T> {
    fn run(&self, texts: &[&Input]) -> Result<Vec<T>> {
        if let Some(processor) = self.processor.get() {
            return processor.run(texts);
        }
        match self.thread.install(|| self.run_here(texts)) {
            Some(Err(Error::Device { detail, .. }))
                if self.elsewhere.is_some() && self.answers.load(Ordering::Acquire) =>
            {
                self.take_over(&detail)?.run(texts)
            }
            Some(made) => {
                self.answers.fetch_or(made.is_ok(), Ordering::Release);
                made
            }
            // It has failed while this thread waited.
            None => self.take_over("it has failed")?.run(texts),
        }
    }

    fn budget(&self) -> Budget {
        let here = || Budget { tokens: self.tokens.load(Ordering::Relaxed), ..self.budget };
        self.processor.get().map_or_else(here, |processor| processor.budget())
    }
}

impl<T: Send> Driver<T> {
    /// On the device, whose thread this is; none if the processor has taken over.
    fn run_here(&self, texts: &[&Input]) -> Option<Result<Vec<T>>> {
        let network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        network.as_ref().map(|network| self.run_parts(&**network, texts))
    }

    /// Runs `texts` together, or, where there is no memory for that, in parts.
    fn run_parts(&self, network: &dyn Run<T>, texts: &[&Input]) -> Result<Vec<T>> {
        match attempt(|| network.run(texts))? {
            Ok(made) => Ok(made),
            Err(fault @ Fault::Full { .. }) if texts.len() > 1 => {
                let tokens = (texts.iter().map(|text| text.ids.len()).sum::<usize>() / 2).max(LEAST_TOKENS);
                if self.tokens.fetch_min(tokens, Ordering::Relaxed) > tokens {
                    tracing::warn!("{}: {fault}; batches have {tokens} tokens from now on", self.name);
                }
                // If this fails, so will the next.
                let _ = watched(|| network.tidy());
                let (one, other) = texts.split_at(texts.len() / 2);
                let mut made = self.run_parts(network, one)?;
                made.extend(self.run_parts(network, other)?);
                Ok(made)
            }
            Err(fault) => Err(failed(&self.name, &fault)),
        }
    }

    /// The network on the processor, which is loaded if this is the first failure.
    fn take_over(&self, why: &str) -> Result<&dyn Run<T>> {
        let failed = || Error::Device { device: self.name.clone(), detail: why.into() };
        let load = self.elsewhere.as_ref().ok_or_else(failed)?;
        // One thread alone loads: threads of other pools that wait for a lock might wait for themselves.
        self.thread.install(|| {
            if self.processor.get().is_none() {
                tracing::warn!("{}: {why}; the processor takes over encoding", self.name);
                let _ = self.processor.set(load()?);
                self.let_go();
            }
            Ok(())
        })?;
        self.processor.get().map(|network| &**network).ok_or_else(failed)
    }

    /// Gives the device back what the network takes of it, on the thread that has it.
    fn let_go(&self) {
        drop_network(self.network.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        let network = self.network.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        self.thread.install(|| drop_network(network));
    }
}

/// A device that is lost cannot be given anything back: there is nothing to do about it.
fn drop_network<T>(network: Option<Box<dyn Run<T>>>) {
    let _ = watched(|| drop(network));
}

/// What `act` makes with a device, or why the device fails; another error is of the outer kind.
fn attempt<T>(act: impl FnOnce() -> Result<T>) -> Result<Result<T, Fault>> {
    match watched(act) {
        Err(fault) => Ok(Err(fault)),
        Ok(Err(Error::Device { detail, .. })) => Ok(Err(Fault::of(&detail))),
        Ok(made) => made.map(Ok),
    }
}

fn failed(device: &str, fault: &Fault) -> Error {
    Error::Device { device: device.into(), detail: fault.to_string() }
}
