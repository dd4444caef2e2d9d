//! The worker: takes text out of one document after the other, for a [`ChildProcess`](super::ChildProcess).

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::child::TOOK_TOO_LONG;
use super::frames;

/// Works until `input` ends: the whole of a child process, whose limits on memory are set before.
///
/// A document on which it works for longer than `time` ends the process. Panics are answers.
///
/// # Errors
/// When the other side is gone, or speaks another language.
pub fn serve(input: impl Read, out: impl Write, time: Duration) -> io::Result<()> {
    let (mut input, mut out) = (BufReader::new(input), BufWriter::new(out));
    // What a parser says while it panics goes into the answer.
    std::panic::set_hook(Box::new(|_| {}));
    while let Some((format, bytes)) = frames::read_request(&mut input)? {
        let (done, finished) = mpsc::channel::<()>();
        let watch = thread::Builder::new().name("watch".into()).spawn(move || {
            if finished.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "its parser took longer than {} s", time.as_secs());
                std::process::exit(TOOK_TOO_LONG);
            }
        })?;
        let answer = super::extract(format, &bytes);
        drop(done);
        // Never long, and otherwise the next document could have the last one's limit.
        let _ = watch.join();
        frames::write_answer(&mut out, &answer)?;
    }
    Ok(())
}
