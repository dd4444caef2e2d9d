//! Which encoder runs.

use std::sync::Arc;

use latewood::encoder::{ColbertEncoder, Encoder};

use crate::args::Args;

/// The model folder asked for, or the model inside the program.
pub(crate) fn load(args: &Args) -> anyhow::Result<Arc<dyn Encoder>> {
    if let Some(dir) = &args.model {
        return Ok(Arc::new(ColbertEncoder::from_dir(dir)?));
    }
    embedded()
}

#[cfg(feature = "embedded")]
fn embedded() -> anyhow::Result<Arc<dyn Encoder>> {
    Ok(Arc::new(ColbertEncoder::embedded()?))
}

#[cfg(not(feature = "embedded"))]
fn embedded() -> anyhow::Result<Arc<dyn Encoder>> {
    anyhow::bail!("this build of latewood has no model inside: give one with --model DIR")
}
