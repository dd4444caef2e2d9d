//! `latewood search`

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use latewood::device::{Device, Opened};
use latewood::{Filter, Hit, Location, Reader, SearchOptions, TextIndex};

use crate::args::{Args, SearchArgs};
use crate::hits::{self, Look};
use crate::{model, output, pipeline};

/// What text on standard input is called.
const STDIN: &str = "stdin";

pub(crate) fn run(args: &Args, own: &SearchArgs) -> anyhow::Result<ExitCode> {
    if own.query.trim().is_empty() {
        return Err(latewood::Error::EmptyQuery.into());
    }
    let options = options(args, own)?;
    let device = super::device(args, Device::Cpu)?;
    // What is wrong with it is said before anything is indexed.
    let ranker = own.pipeline.as_deref().map(pipeline::read).transpose()?;
    let ranker = ranker.map(|read| pipeline::load(args, read, &device)).transpose()?;
    let search = |reader: Reader| -> anyhow::Result<Vec<Hit>> {
        let Some(ranker) = &ranker else { return Ok(reader.search(&own.query, &options)?.hits) };
        let answer = reader.search_pipeline(&own.query, ranker, &options)?;
        if own.report {
            pipeline::print(&answer.report, Some((answer.retrieved, answer.retrieve_ms)))?;
        } else {
            pipeline::warn(&answer.report);
        }
        Ok(answer.answer.hits)
    };
    let hits = if own.path.as_deref() == Some(Path::new("-")) {
        // Kept until the answer is there.
        let folder = tempfile::tempdir().context("cannot make a folder for the text on standard input")?;
        search(piped(args, own, folder.path(), &device)?)?
    } else {
        let reader = folder(args, own, &device)?;
        note_unknown_fields(args, &reader, options.filter.as_ref());
        search(reader)?
    };
    if own.paths || own.null {
        paths(&hits, own.null)?;
    } else if args.json {
        hits.iter().try_for_each(|hit| output::json_line("latewood.hit.1", hit))?;
    } else {
        hits::print(&hits, &own.query, Look { full: own.full, explain: own.explain })?;
    }
    Ok(if hits.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// A field that no document has is a slip, more often than not: it would find nothing, and say nothing.
fn note_unknown_fields(args: &Args, reader: &Reader, filter: Option<&Filter>) {
    let catalog = reader.catalog();
    let unknown = filter.map(|filter| filter.unknown_fields(catalog)).unwrap_or_default();
    if unknown.is_empty() {
        return;
    }
    let metadata: BTreeSet<&str> =
        catalog.files.iter().flat_map(|file| file.metadata.keys().map(String::as_str)).collect();
    let known: Vec<&str> = ["path", "title", "kind", "lang", "modified"].into_iter().chain(metadata).take(30).collect();
    let note = format!("no document has the field {}; there are {}", unknown.join(", "), known.join(", "));
    output::note(args.quiet, &note);
}

fn options(args: &Args, own: &SearchArgs) -> anyhow::Result<SearchOptions> {
    let mut options = SearchOptions::new(own.k as usize);
    own.mode.set(&mut options);
    options.filter = own.filter.as_deref().map(Filter::parse_text).transpose()?;
    // What people read is cut and marked by what the query met.
    options.explain = own.explain || !(args.json || own.paths || own.null);
    Ok(options)
}

/// Each file once, in the order of its best passage.
fn paths(hits: &[Hit], null: bool) -> io::Result<()> {
    let (mut out, mut known) = (io::stdout().lock(), HashSet::new());
    // A file's name must not steer a terminal; other programs get it as it is.
    let people = !null && io::stdout().is_terminal();
    for path in hits.iter().map(|hit| hit.passage.path.as_str()).filter(|path| known.insert(*path)) {
        match people {
            true => out.write_all(output::printable(path).as_bytes())?,
            false => out.write_all(path.as_bytes())?,
        }
        out.write_all(if null { b"\0" } else { b"\n" })?;
    }
    out.flush()
}

/// The folder's index, up to date unless that is not wanted.
fn folder(args: &Args, own: &SearchArgs, device: &Opened) -> anyhow::Result<Reader> {
    if own.no_refresh {
        return Ok(super::open(args, own.path.as_deref(), &own.encoder, device)?.reader()?);
    }
    let index = super::open_or_create(args, own.path.as_deref(), &own.encoder, device)?;
    super::refresh(args, &index, &super::sync_options(&own.documents))?;
    Ok(index.reader()?)
}

/// An index of what comes in on standard input, made for this one search.
fn piped(args: &Args, own: &SearchArgs, folder: &Path, device: &Opened) -> anyhow::Result<Reader> {
    let mut file = File::create(folder.join(STDIN)).context("cannot keep the text on standard input")?;
    io::copy(&mut io::stdin().lock(), &mut file).context("cannot read standard input")?;
    let encoder = model::load(args, &own.encoder, None, device)?;
    let index = TextIndex::open_or_create(Location::find(Some(folder), None)?, encoder)?.on(device);
    let mut options = super::sync_options(&own.documents);
    // Whoever pipes it in wants it searched, however much it is.
    options.walk.max_file_bytes = u64::MAX;
    let report = index.sync(&options, &crate::progress::Progress::new(args.quiet));
    report.map_err(|error| match error {
        latewood::Error::NoDocuments { skipped, .. } => {
            let reason = skipped.into_iter().next().map_or_else(|| "it is empty".to_owned(), |skipped| skipped.reason);
            anyhow::anyhow!("nothing to search on standard input: {reason}")
        }
        error => error.into(),
    })?;
    Ok(index.reader()?)
}
