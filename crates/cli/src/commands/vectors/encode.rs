//! `latewood vectors encode`

use std::process::ExitCode;

use latewood::device::Device;
use latewood::eval::Collection;
use latewood::vectors;

use crate::args::{Args, VectorsEncodeArgs};
use crate::commands::device;
use crate::progress::Progress;
use crate::{model, output};

pub(super) fn run(args: &Args, own: &VectorsEncodeArgs) -> anyhow::Result<ExitCode> {
    let collection = Collection::read(&own.collection)?;
    let encoder = model::load(args, &own.encoder, None, &device(args, Device::Cpu)?)?;
    let progress = Progress::new(args.quiet);
    let show = |done: usize, total: usize| progress.show("encoding", "", done as u64, total as u64);
    let written = vectors::encode(&collection, &*encoder, &own.out, show)?;
    progress.clear();
    output::json_line("latewood.vectors.1", &written)?;
    Ok(ExitCode::SUCCESS)
}
