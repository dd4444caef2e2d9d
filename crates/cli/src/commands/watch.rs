//! `latewood index --watch`

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context;
use latewood::{SyncOptions, SyncReport, TextIndex};
use notify::{Config, Event, EventKind, PollWatcher, RecursiveMode, Watcher};

use crate::args::Args;
use crate::output;

/// A change is taken up when nothing more has changed for so long.
const QUIET: Duration = Duration::from_millis(300);
/// How often to look where the system tells nothing, as on some network drives.
const POLL: Duration = Duration::from_secs(5);

type Events = Receiver<notify::Result<Event>>;

/// Brings the index up to date whenever the folder changes, until the program is stopped: the last commit then stands.
pub(crate) fn run(args: &Args, index: &TextIndex, options: &SyncOptions) -> anyhow::Result<()> {
    // Both names of the folder: events may use either.
    let own = [index.path().to_path_buf(), std::fs::canonicalize(index.path()).context("cannot watch the folder")?];
    let (_watcher, events) = watch(index.root())?;
    output::note(args.quiet, &format!("watching {}; Ctrl-C ends it", index.root().display()));
    // What changed between the first sync and the watching is taken up, too.
    take_up(args, super::sync(args, index, options))?;
    while wait(&events, &own)? {
        take_up(args, super::sync(args, index, options))?;
    }
    Ok(())
}

/// Watches a folder, by the system's means or else by looking.
fn watch(root: &Path) -> anyhow::Result<(Box<dyn Watcher>, Events)> {
    let (sender, events) = channel();
    let told = notify::recommended_watcher(sender.clone()).and_then(|mut watcher| {
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(Box::new(watcher) as Box<dyn Watcher>)
    });
    let watcher = match told {
        Ok(watcher) => watcher,
        Err(_) => {
            let mut watcher = PollWatcher::new(sender, Config::default().with_poll_interval(POLL))?;
            watcher
                .watch(root, RecursiveMode::Recursive)
                .with_context(|| format!("cannot watch {}", root.display()))?;
            Box::new(watcher)
        }
    };
    Ok((watcher, events))
}

/// Waits until something has changed and then nothing more for a while; false when nothing will come any more.
fn wait(events: &Events, own: &[PathBuf]) -> anyhow::Result<bool> {
    loop {
        let Ok(event) = events.recv() else { return Ok(false) };
        if event.is_ok_and(|event| concerns(&event, own)) {
            break;
        }
    }
    loop {
        match events.recv_timeout(QUIET) {
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return Ok(true),
            Err(RecvTimeoutError::Disconnected) => return Ok(false),
        }
    }
}

/// Whether an event is of the documents and not of the index, and more than a look at them.
fn concerns(event: &Event, own: &[PathBuf]) -> bool {
    let inside = |path: &PathBuf| own.iter().any(|own| path.starts_with(own));
    !matches!(event.kind, EventKind::Access(_)) && (event.paths.is_empty() || !event.paths.iter().all(inside))
}

/// Tells what was done. A folder that is empty for a moment, or another process that writes, is no reason to stop.
fn take_up(args: &Args, result: latewood::Result<SyncReport>) -> anyhow::Result<()> {
    match result {
        Ok(report) if report.changes() > 0 => output::note(args.quiet, &output::summary(&report)),
        Ok(_) => {}
        Err(error) if error.is_locked() || matches!(error, latewood::Error::NoDocuments { .. }) => {
            output::note(args.quiet, &format!("not now: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
