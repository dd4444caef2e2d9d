//! `latewood index --watch`

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use latewood::{SyncOptions, SyncReport, TextIndex};
use notify::{Config, Event, EventKind, PollWatcher, RecursiveMode, Watcher};

use crate::args::Args;
use crate::output;

/// A change is taken up when nothing more has changed for so long.
const QUIET: Duration = Duration::from_millis(300);
/// Changes are taken up after this at the latest, whatever goes on.
const MOST: Duration = Duration::from_secs(5);
/// How often to look where the system tells nothing, as on some network drives.
const POLL: Duration = Duration::from_secs(5);
/// How often to look whether a folder is still the one that is watched, or is there again.
const LOOK: Duration = Duration::from_secs(1);

type Events = Receiver<notify::Result<Event>>;

/// Brings the index up to date whenever the folder changes, until the program is stopped: the last commit then stands.
///
/// A folder that goes away, moved or not mounted any more, is waited for.
pub(crate) fn run(args: &Args, index: &TextIndex, options: &SyncOptions) -> anyhow::Result<()> {
    // Both names of the folder: events may use either.
    let own = [index.path().to_path_buf(), fs::canonicalize(index.path()).context("cannot watch the folder")?];
    let root = index.root().display();
    let mut news = format!("watching {root}; Ctrl-C ends it");
    while follow(args, index, options, &own, &news)? == End::Gone {
        output::note(args.quiet, &format!("{root} is not there, or empty: waiting for it; the index stays as it is"));
        // An index within it comes with it, perhaps a moment later.
        while !is_there(index.root()) || index.engine().version().is_err() {
            thread::sleep(LOOK);
        }
        news = format!("{root} is there again");
    }
    Ok(())
}

/// Why there is nothing more to take up.
#[derive(PartialEq)]
enum End {
    /// The folder is not there, or is another one.
    Gone,
    /// Nobody tells of changes any more.
    Silent,
}

/// Takes up changes until the folder goes away.
fn follow(args: &Args, index: &TextIndex, options: &SyncOptions, own: &[PathBuf], news: &str) -> anyhow::Result<End> {
    let root = index.root();
    let watched = identity(root);
    let (_watcher, events) = match watch(root) {
        Err(_) if !is_there(root) => return Ok(End::Gone),
        watching => watching?,
    };
    output::note(args.quiet, news);
    // What changed between the first sync and the watching is taken up, too.
    loop {
        let mut result = super::sync(args, index, options);
        if result.is_err() && is_there(root) {
            // It may have been away for a moment.
            thread::sleep(QUIET);
            result = super::sync(args, index, options);
        }
        if result.is_err() && !is_there(root) {
            return Ok(End::Gone);
        }
        take_up(args, result)?;
        if let Some(end) = wait(&events, own, || identity(root) == watched) {
            return Ok(end);
        }
    }
}

/// Whether there is something in a folder: where nothing is mounted, it is empty.
fn is_there(root: &Path) -> bool {
    fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_some())
}

/// What tells a folder from another one at the same place, of which the watcher would see nothing.
fn identity(root: &Path) -> Option<impl PartialEq> {
    let metadata = fs::metadata(root).ok()?;
    #[cfg(unix)]
    return Some((std::os::unix::fs::MetadataExt::dev(&metadata), std::os::unix::fs::MetadataExt::ino(&metadata)));
    #[cfg(not(unix))]
    return metadata.created().ok();
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

/// Waits until something has changed and then nothing more for a while, or until nothing more will.
fn wait(events: &Events, own: &[PathBuf], is_same: impl Fn() -> bool) -> Option<End> {
    loop {
        match events.recv_timeout(LOOK) {
            Ok(event) if event.as_ref().is_ok_and(|event| concerns(event, own)) => break,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) if is_same() => {}
            Err(RecvTimeoutError::Timeout) => return Some(End::Gone),
            Err(RecvTimeoutError::Disconnected) => return Some(End::Silent),
        }
    }
    // Something that is written to without an end must not hide the rest.
    let latest = Instant::now() + MOST;
    let mut quiet = Instant::now() + QUIET;
    loop {
        match events.recv_timeout(quiet.min(latest).saturating_duration_since(Instant::now())) {
            Ok(event) if event.as_ref().is_ok_and(|event| concerns(event, own)) => quiet = Instant::now() + QUIET,
            Ok(_) if Instant::now() < quiet.min(latest) => {}
            Ok(_) | Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(End::Silent),
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
