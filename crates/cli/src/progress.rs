//! Progress bars for long work: on stderr, and only on a terminal.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use latewood::engine::Stage;
use latewood::eval::EvalEvent;
use latewood::{Event, Monitor};

/// A stage and its bar.
type Shown = (&'static str, ProgressBar);

/// Shows one bar for each stage of the work.
pub(crate) struct Progress {
    visible: bool,
    stage: Mutex<Option<Shown>>,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { visible: !quiet && io::stderr().is_terminal(), stage: Mutex::new(None) }
    }

    fn stage(&self) -> MutexGuard<'_, Option<Shown>> {
        // A bar is never left half changed.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, name: &'static str, unit: &str, done: u64, total: u64) {
        if !self.visible {
            return;
        }
        let mut stage = self.stage();
        let same = stage.as_ref().is_some_and(|(shown, _)| *shown == name);
        if !same {
            if let Some((_, bar)) = stage.take() {
                bar.finish_and_clear();
            }
            *stage = Some((name, bar(name, unit)));
        }
        if let Some((_, bar)) = &*stage {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some((_, bar)) = self.stage().take() {
            bar.finish_and_clear();
        }
    }

    fn building(&self, stage: Stage, done: u64, total: u64) {
        match stage {
            Stage::Train => self.show("clustering", "", done, total),
            Stage::Code => self.show("compressing", "", done, total),
            Stage::Merge => self.show("merging", "", done, total),
            Stage::Verify => self.show("checking", "", done, total),
            _ => {}
        }
    }

    /// An evaluation's events.
    pub(crate) fn eval(&self, event: EvalEvent) {
        match event {
            EvalEvent::Encoded { done, total } => self.show("encoding", "", done as u64, total as u64),
            EvalEvent::Building { stage, done, total } => self.building(stage, done, total),
            EvalEvent::Searched { done, total } => self.show("searching", "", done as u64, total as u64),
            _ => {}
        }
    }
}

/// The engine's stages, shown.
pub(crate) struct Building<'a>(pub(crate) &'a Progress);

impl latewood::engine::Progress for Building<'_> {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        self.0.building(stage, done, total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Monitor for Progress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Found { bytes, .. } if bytes > 0 => self.show("encoding", "bytes", 0, bytes),
            Event::Encoded { bytes, .. } => {
                if let Some((_, bar)) = &*self.stage() {
                    bar.set_position(bytes);
                }
            }
            Event::Building { stage, done, total } => self.building(stage, done, total),
            _ => {}
        }
    }
}

fn bar(name: &'static str, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    let template = match unit {
        "bytes" => "{msg:12} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {eta} left",
        _ => "{msg:12} {wide_bar} {human_pos}/{human_len}, {eta} left",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
