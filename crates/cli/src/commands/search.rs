//! `latewood search`

use std::process::ExitCode;

use latewood::SearchOptions;
use latewood::device::Device;

use crate::args::{Args, SearchArgs};
use crate::output;

pub(crate) fn run(args: &Args, own: &SearchArgs) -> anyhow::Result<ExitCode> {
    if own.query.trim().is_empty() {
        return Err(latewood::Error::EmptyQuery.into());
    }
    let device = super::device(args, Device::Cpu)?;
    let index = if own.no_refresh {
        super::open(args, own.path.as_deref(), &own.encoder, &device)?
    } else {
        let index = super::open_or_create(args, own.path.as_deref(), &own.encoder, &device)?;
        super::refresh(args, &index)?;
        index
    };
    let mut options = SearchOptions::new(own.k as usize);
    own.mode.set(&mut options);
    let answer = index.reader()?.search(&own.query, &options)?;
    if args.json {
        answer.hits.iter().try_for_each(output::json_line)?;
    } else {
        output::hits(&answer.hits)?;
    }
    Ok(if answer.hits.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
