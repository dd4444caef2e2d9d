//! The employer of a worker: a child process that may die, at the cost of one document.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{ExtractError, Extracted, Extractor, Format, frames};

/// How a worker ends that has worked on one document for too long, as `timeout` does.
pub(super) const TOOK_TOO_LONG: i32 = 124;

/// How much is kept of what a worker says at its end.
const LAST_WORDS: u64 = 16 << 10;

/// Takes text out in a child process, which is started with the first document, kept for the next ones, and replaced when it
/// dies.
///
/// Which program that is, the caller says: it has to call [`serve`](super::serve) with its standard input and output, and
/// to set its limits before. A worker that crashes, runs out of memory or works for too long on one document costs that
/// document.
pub struct ChildProcess {
    command: Box<dyn Fn() -> io::Result<Command> + Send + Sync>,
    patience: Option<Duration>,
    worker: Mutex<Option<Worker>>,
}

impl ChildProcess {
    /// With workers started by the command that `command` makes.
    pub fn new(command: impl Fn() -> io::Result<Command> + Send + Sync + 'static) -> Self {
        Self { command: Box::new(command), patience: None, worker: Mutex::new(None) }
    }

    /// Waits for no answer longer than `patience`, watched by a thread while there is one to wait for. A worker has its own
    /// limit; this is for one that cannot hold to it, being stopped or stuck, and is to be somewhat longer.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    fn start(&self) -> Result<Worker, ExtractError> {
        let spawn = || {
            let mut command = (self.command)()?;
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let mut child = spawn()
            .map_err(|error| ExtractError::Extractor(format!("cannot start the worker that reads it: {error}")))?;
        let (input, out) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Ok(Worker { child, input, out, has_answered: false })
    }
}

impl fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildProcess").finish_non_exhaustive()
    }
}

impl Extractor for ChildProcess {
    fn extract(&self, format: Format, bytes: &[u8]) -> Result<Extracted, ExtractError> {
        // A worker is put back only after an answer: one that somebody's panic left half asked is not there.
        let mut kept = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let mut was_silent = false;
        loop {
            let mut worker = match kept.take() {
                Some(worker) => worker,
                None => self.start()?,
            };
            match worker.ask(format, bytes, self.patience) {
                Ok(answer) => {
                    *kept = Some(worker);
                    return answer.map_err(ExtractError::Document);
                }
                Err(NoAnswer::InTime(patience)) if was_silent => {
                    let cause = format!("its parser gave no answer within {} s", patience.as_secs());
                    return Err(ExtractError::Document(cause));
                }
                // Somebody may have stopped the process, which is not the document's fault.
                Err(NoAnswer::InTime(_)) => was_silent = true,
                Err(NoAnswer::AtAll) => {
                    let was_new = !worker.has_answered;
                    let death = worker.death();
                    // Another try in a new one, where it may have died of what documents before had left in its memory.
                    if was_new || death.took_too_long {
                        return Err(ExtractError::Document(death.cause));
                    }
                }
            }
        }
    }
}

/// Why a worker did not answer.
enum NoAnswer {
    /// It has died, or talks nonsense.
    AtAll,
    /// It was silent for so long, and was ended.
    InTime(Duration),
}

/// A child process that waits for documents.
struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    out: Option<BufReader<ChildStdout>>,
    has_answered: bool,
}

/// How a worker ended.
struct Death {
    cause: String,
    took_too_long: bool,
}

impl Worker {
    fn ask(
        &mut self,
        format: Format,
        bytes: &[u8],
        patience: Option<Duration>,
    ) -> Result<Result<Extracted, String>, NoAnswer> {
        let Self { child, input: Some(input), out: Some(out), has_answered } = self else {
            return Err(NoAnswer::AtAll);
        };
        let mut exchange = || {
            frames::write_request(input, format, bytes)?;
            frames::read_answer(out)
        };
        let (answer, was_late) = match patience {
            Some(patience) => within(patience, child, exchange),
            None => (exchange(), false),
        };
        *has_answered |= answer.is_ok();
        answer.map_err(|_| patience.filter(|_| was_late).map_or(NoAnswer::AtAll, NoAnswer::InTime))
    }

    /// Why there was no answer.
    fn death(mut self) -> Death {
        // Does nothing to one that is dead, and ends one that talks nonsense.
        let _ = self.child.kill();
        let mut words = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(LAST_WORDS).read_to_end(&mut words);
        }
        match self.child.wait() {
            Ok(status) => Death::of(status, &String::from_utf8_lossy(&words)),
            Err(error) => Death { cause: error.to_string(), took_too_long: false },
        }
    }
}

/// What `exchange` with `child` gives, and whether it took too long: the child is ended then, which ends the exchange.
fn within<T>(patience: Duration, child: &mut Child, exchange: impl FnOnce() -> io::Result<T>) -> (io::Result<T>, bool) {
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel::<()>();
        let watch = thread::Builder::new().name("extract".into()).spawn_scoped(scope, move || {
            let is_late = finished.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
            is_late && child.kill().is_ok()
        });
        match watch {
            Ok(watch) => {
                let answer = exchange();
                drop(done);
                (answer, watch.join().unwrap_or_default())
            }
            Err(error) => (Err(error), false),
        }
    })
}

impl Death {
    /// By how the process ended, and by what the runtime said before it ended it.
    fn of(status: ExitStatus, words: &str) -> Self {
        let took_too_long = status.code() == Some(TOOK_TOO_LONG);
        let cause = if took_too_long {
            words.lines().last().unwrap_or("its parser took too long").to_owned()
        } else if words.contains("memory allocation of") {
            "its parser ran out of the memory it may have".to_owned()
        } else if words.contains("overflowed its stack") {
            "it is nested too deeply for its parser".to_owned()
        } else {
            let said = words.lines().last().map_or_else(String::new, |said| format!(": {said}"));
            format!("its parser crashed ({status}{said})")
        };
        Self { cause, took_too_long }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
