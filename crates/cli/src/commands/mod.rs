//! The subcommands, one file each.

pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod extract;
pub(crate) mod index;
pub(crate) mod maintain;
pub(crate) mod manual;
pub(crate) mod model_check;
pub(crate) mod rerank;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod tune;
pub(crate) mod vectors;
mod watch;

use std::path::Path;

use latewood::device::{Device, Opened};
use latewood::{Error, Location, SyncOptions, SyncReport, TextIndex};

use crate::args::{Args, DocumentArgs, EncoderArgs};
use crate::progress::Progress;
use crate::{model, output};

/// Opens the index for `path`, making one if there is none.
fn open_or_create(
    args: &Args,
    path: Option<&Path>,
    encoder: &EncoderArgs,
    device: &Opened,
) -> anyhow::Result<TextIndex> {
    let location = Location::find(path, args.index.as_deref())?;
    let encoder = model::load(args, encoder, TextIndex::model(&location)?.as_deref(), device)?;
    Ok(TextIndex::open_or_create(location, encoder)?.on(device))
}

/// Opens the index for `path`.
fn open(args: &Args, path: Option<&Path>, encoder: &EncoderArgs, device: &Opened) -> anyhow::Result<TextIndex> {
    let location = Location::find(path, args.index.as_deref())?;
    let encoder = model::load(args, encoder, TextIndex::model(&location)?.as_deref(), device)?;
    Ok(TextIndex::open(location, encoder)?.on(device))
}

/// The device that was asked for, or else `usual`; a note says why `auto` is not a GPU.
fn device(args: &Args, usual: Device) -> anyhow::Result<Opened> {
    let opened = Opened::new(args.device.unwrap_or(usual))?;
    if args.device == Some(Device::Auto) || opened.is_gpu {
        output::note(args.quiet, &format!("running on {}", opened.reason));
    }
    Ok(opened)
}

/// How a folder is read.
fn sync_options(documents: &DocumentArgs) -> SyncOptions {
    let (extractor, fields) = (extract::extractor(documents.extract), documents.fields.clone());
    SyncOptions { extractor, fields, ..SyncOptions::default() }
}

/// Brings an index up to date, under a progress bar. A folder without documents gets no index.
fn sync(args: &Args, index: &TextIndex, options: &SyncOptions) -> latewood::Result<SyncReport> {
    let progress = Progress::new(args.quiet);
    let result = index.sync(options, &progress);
    progress.clear();
    if matches!(result, Err(Error::NoDocuments { .. })) {
        index.clone().remove_if_empty()?;
    }
    result
}

/// As [`sync`] before reading: where another process is writing, or nothing can be written, the last commit will do.
fn refresh(args: &Args, index: &TextIndex, options: &SyncOptions) -> anyhow::Result<()> {
    let will_do = |error: &Error| error.is_locked() || error.is_read_only() || error.is_no_space();
    match sync(args, index, options) {
        Ok(report) if report.changes() > 0 => output::note(args.quiet, &output::summary(&report)),
        Ok(_) => {}
        Err(error) if will_do(&error) && !index.reader()?.catalog().files.is_empty() => {
            output::note(args.quiet, &format!("searching the last commit: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
