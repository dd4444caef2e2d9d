//! Which encoder runs.

use std::path::Path;
use std::sync::Arc;

use latewood::encoder::{self, ColbertEncoder, Encoder, EncoderOptions};

use crate::args::{Args, Precision};

/// The model folder asked for, or the model inside the program.
pub(crate) fn load(args: &Args) -> anyhow::Result<Arc<dyn Encoder>> {
    Ok(Arc::new(open(args, args.model.as_deref())?))
}

/// The model in the folder `dir`, or the model inside the program.
pub(crate) fn open(args: &Args, dir: Option<&Path>) -> anyhow::Result<ColbertEncoder> {
    let options = EncoderOptions::with_precision(match args.precision {
        Precision::Int8 => encoder::Precision::Int8,
        Precision::F32 => encoder::Precision::F32,
    });
    match dir {
        Some(dir) => Ok(ColbertEncoder::open(dir, options)?),
        None => embedded(options),
    }
}

#[cfg(feature = "embedded")]
fn embedded(options: EncoderOptions) -> anyhow::Result<ColbertEncoder> {
    Ok(ColbertEncoder::from_files(encoder::ModelFiles::embedded(), options)?)
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: EncoderOptions) -> anyhow::Result<ColbertEncoder> {
    anyhow::bail!("this build of latewood has no model inside: give one with --model DIR")
}
