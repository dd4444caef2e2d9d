//! `latewood search`

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;

use latewood::device::Device;
use latewood::{Filter, Hit, SearchOptions};

use crate::args::{Args, SearchArgs};
use crate::hits::{self, Look};
use crate::output;

pub(crate) fn run(args: &Args, own: &SearchArgs) -> anyhow::Result<ExitCode> {
    if own.query.trim().is_empty() {
        return Err(latewood::Error::EmptyQuery.into());
    }
    let options = options(args, own)?;
    let device = super::device(args, Device::Cpu)?;
    let index = if own.no_refresh {
        super::open(args, own.path.as_deref(), &own.encoder, &device)?
    } else {
        let index = super::open_or_create(args, own.path.as_deref(), &own.encoder, &device)?;
        super::refresh(args, &index, &super::sync_options(own.extract))?;
        index
    };
    let answer = index.reader()?.search(&own.query, &options)?;
    if own.paths || own.null {
        paths(&answer.hits, own.null)?;
    } else if args.json {
        answer.hits.iter().try_for_each(|hit| output::json_line("latewood.hit.1", hit))?;
    } else {
        hits::print(&answer.hits, &own.query, Look { full: own.full, explain: own.explain })?;
    }
    Ok(if answer.hits.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
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
    for path in hits.iter().map(|hit| hit.passage.path.as_str()).filter(|path| known.insert(*path)) {
        out.write_all(path.as_bytes())?;
        out.write_all(if null { b"\0" } else { b"\n" })?;
    }
    out.flush()
}
