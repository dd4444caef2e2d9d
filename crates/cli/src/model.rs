//! Which encoder runs.

use std::sync::Arc;

use latewood::encoder::{ColbertEncoder, Encoder};

use crate::args::Args;

/// The model folder asked for, or the model inside the program.
pub(crate) fn load(args: &Args) -> anyhow::Result<Arc<dyn Encoder>> {
    if let Some(dir) = &args.model {
        return Ok(Arc::new(ColbertEncoder::from_dir(dir)?));
    }
    Ok(Arc::new(embedded()?))
}

/// The model inside the program.
#[cfg(feature = "embedded")]
pub(crate) fn embedded() -> anyhow::Result<ColbertEncoder> {
    Ok(ColbertEncoder::embedded()?)
}

#[cfg(not(feature = "embedded"))]
pub(crate) fn embedded() -> anyhow::Result<ColbertEncoder> {
    anyhow::bail!("this build of latewood has no model inside: give one with --model DIR")
}
