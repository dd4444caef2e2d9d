//! Which encoder runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use latewood::device::Opened;
use latewood::encoder::{self, ColbertEncoder, Compute, Encoder, EncoderOptions};

use crate::args::{Args, EncoderArgs, Precision};
#[cfg(feature = "hub")]
use crate::hub;

/// The model asked for, or the model inside the program, as the user wants it and otherwise as `recorded`: the id of the
/// model that made the index to be opened.
pub(crate) fn load(
    args: &Args,
    own: &EncoderArgs,
    recorded: Option<&str>,
    device: &Opened,
) -> anyhow::Result<Arc<dyn Encoder>> {
    let encoder = open(args, args.model.as_deref(), device)?;
    let recorded = recorded.filter(|id| encoder.model_id().same_model(id)).map(EncoderOptions::recorded);
    Ok(Arc::new(encoder.with_options(&own.options().or(recorded.unwrap_or_default()))?))
}

impl Args {
    pub(crate) fn compute(&self, device: &Opened) -> Compute {
        device.compute().in_precision(match self.precision {
            None => encoder::Precision::Auto,
            Some(Precision::Int8) => encoder::Precision::Int8,
            Some(Precision::F32) => encoder::Precision::F32,
            Some(Precision::F16) => encoder::Precision::F16,
            Some(Precision::Bf16) => encoder::Precision::Bf16,
        })
    }
}

impl EncoderArgs {
    pub(crate) fn options(&self) -> EncoderOptions {
        let mut options = EncoderOptions::default();
        (options.query_maxlen, options.doc_maxlen) = (self.query_maxlen, self.doc_maxlen);
        (options.dim, options.pool_factor) = (self.dim, self.pool_factor);
        options
    }
}

/// The model in the folder `model`, or of that name on the hub; none is the one inside the program.
pub(crate) fn open(args: &Args, model: Option<&Path>, device: &Opened) -> anyhow::Result<ColbertEncoder> {
    let Some(model) = model else { return embedded(args.compute(device)) };
    if model.is_dir() {
        return Ok(ColbertEncoder::open(model, args.compute(device))?);
    }
    #[cfg(feature = "hub")]
    if let Some(name) = model.to_str().and_then(latewood::encoder::HubName::parse) {
        return hub::load(args, &name, device);
    }
    #[cfg(not(feature = "hub"))]
    let _ = (args, device);
    bail!("{}: there is no such folder{}", model.display(), OTHERWISE)
}

const OTHERWISE: &str = if cfg!(feature = "hub") {
    ", and a model of the Hugging Face hub is called OWNER/NAME or OWNER/NAME@REVISION"
} else {
    ""
};

/// The model inside the program.
#[cfg(feature = "embedded")]
fn embedded(compute: Compute) -> anyhow::Result<ColbertEncoder> {
    Ok(ColbertEncoder::from_files(encoder::ModelFiles::embedded(), compute)?)
}

#[cfg(not(feature = "embedded"))]
fn embedded(_: Compute) -> anyhow::Result<ColbertEncoder> {
    bail!("this build of latewood has no model inside: give one with --model")
}
