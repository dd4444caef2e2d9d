//! What fails on a device and is not an error.
//!
//! CubeCL drives each device by a thread of its own. It may panic there, as it does where there is no memory for a buffer; it
//! catches that, and goes on: launches that take the buffer are not made, and what they were to compute is read as it was before,
//! without an error. So a hook for panics notes those of its threads, and [`watched`] asks for them. They are not printed
//! then, being the errors of whoever had the device work.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use cubecl::stream_id::StreamId;

/// What the names of CubeCL's threads begin with.
const DRIVERS: [&str; 2] = ["DSD-", "DSU-"];

/// Of streams, each of which is a thread that has devices work.
struct Notes {
    /// Those that ask: panics for others, as of a program with kernels of its own, are not ours to take.
    watched: BTreeSet<u64>,
    /// What failed first since it was asked for.
    faults: BTreeMap<u64, Fault>,
}

static NOTES: Mutex<Notes> = Mutex::new(Notes { watched: BTreeSet::new(), faults: BTreeMap::new() });

fn notes() -> MutexGuard<'static, Notes> {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What failed on a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is no memory left: with less of it in use the same would work.
    #[error("its memory is full{}, whoever holds the rest", .bytes.map_or(String::new(), |n| format!(": it has no room for {n} bytes more")))]
    Full {
        /// How much was asked for, where that is known.
        bytes: Option<u64>,
    },
    /// Anything else, in a line.
    #[error("{0}")]
    Other(String),
}

/// Runs `act`, which has a device work and waits for it. An error if it panics, or if anything failed silently that this thread
/// has had a device do, before as well: what was to be computed is not to be read then. Of a thread that drives two devices, the
/// failure of the one is taken for the other's.
///
/// The first call sets a hook for panics, which leaves those of other threads to the hook before it. Whoever sets another one
/// later has to hand them on in the same way.
///
/// # Errors
/// What failed.
pub fn watched<T>(act: impl FnOnce() -> T) -> Result<T, Fault> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !noted(panic) {
                before(panic)
            }
        }));
    });
    let stream = StreamId::current().value;
    notes().watched.insert(stream);
    let done = catch_unwind(AssertUnwindSafe(act));
    // What failed first is the cause of the rest.
    let silent = notes().faults.remove(&stream);
    match (silent, done) {
        (Some(fault), _) => Err(fault),
        (None, Err(panic)) => Err(Fault::of(&text_of(&*panic))),
        (None, Ok(done)) => Ok(done),
    }
}

/// [`watched`], but only what `act` makes a device do: for what may fail and be left. Whatever failed before is still to be asked for.
///
/// # Errors
/// What failed.
pub fn tried<T>(act: impl FnOnce() -> T) -> Result<T, Fault> {
    let stream = StreamId::current().value;
    let before = notes().faults.remove(&stream);
    let done = watched(act);
    notes().faults.extend(before.map(|fault| (stream, fault)));
    done
}

/// Takes the panic of a thread that drives a device for a stream that asks; otherwise false.
fn noted(panic: &PanicHookInfo<'_>) -> bool {
    let of_driver = std::thread::current().name().is_some_and(|name| DRIVERS.iter().any(|of| name.starts_with(of)));
    // The thread acts in the name of the stream whose work it does.
    let stream = StreamId::current().value;
    if !of_driver || !notes().watched.contains(&stream) {
        return false;
    }
    let fault = Fault::of(&text_of(panic.payload()));
    notes().faults.entry(stream).or_insert(fault);
    true
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_string()
}

impl Fault {
    /// What matters of an error of CubeCL's, which says it in many lines.
    pub fn of(text: &str) -> Self {
        if let Some((_, bytes)) = text.split_once("can't allocate buffer of size: ") {
            let bytes: String = bytes.chars().take_while(char::is_ascii_digit).collect();
            return Self::Full { bytes: bytes.parse().ok() };
        }
        if text.to_ascii_lowercase().contains("out of memory") {
            return Self::Full { bytes: None };
        }
        // `DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")`
        let of_driver = text.split_once("DriverError(").and_then(|(_, error)| error.split_once("\")"));
        if let Some((name, what)) = of_driver.and_then(|(error, _)| error.split_once(", \"")) {
            return Self::Other(format!("{name}: {what}"));
        }
        let text = text.strip_prefix("called `Result::unwrap()` on an `Err` value: ").unwrap_or(text);
        let lines = text.lines().map(str::trim).filter(|line| !matches!(*line, "" | "Caused by:" | "Backtrace"));
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("No backtrace available")).collect();
        Self::Other(match &lines[..] {
            ["Unknown error happened during execution"] => {
                "its driver refuses, as it does where the device is lost".into()
            }
            lines => lines.join(": "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic of a thread that drives a device, as CubeCL has it.
    fn fail(stream: StreamId) {
        let panics = move || stream.executes(|| panic!("called `Result::unwrap()` on an `Err` value: no\n  more"));
        let thread = std::thread::Builder::new().name("DSD-0-0".into()).spawn(panics).unwrap();
        thread.join().unwrap_err();
    }

    #[test]
    fn what_fails_silently_is_told_to_whom_it_concerns() {
        assert_eq!(watched(|| 1), Ok(1));
        let own = StreamId::current();
        std::thread::spawn(move || {
            fail(own);
            assert_eq!(watched(|| 2), Ok(2), "another thread's failure");
        })
        .join()
        .unwrap();
        let other = |text: &str| Fault::Other(text.into());
        assert_eq!(watched(|| 3), Err(other("no: more")));
        assert_eq!(watched(|| 4), Ok(4), "it was told");
        fail(own);
        assert_eq!(tried(|| 5), Ok(5), "it failed before");
        assert_eq!(tried(|| fail(own)), Err(other("no: more")));
        assert_eq!(watched(|| 6), Err(other("no: more")), "before it was tried");
        assert_eq!(watched(|| fail(own)), Err(other("no: more")));
        assert_eq!(watched(|| panic!("of its own")), Err::<(), _>(other("of its own")));
    }

    #[test]
    fn a_fault_is_a_line() {
        let of = |text: &str| Fault::of(text).to_string();
        let unwrapped = "called `Result::unwrap()` on an `Err` value: ";
        let full = Fault::of(&format!("{unwrapped}can't allocate buffer of size: 46881792\nNo backtrace available"));
        assert_eq!(full, Fault::Full { bytes: Some(46881792) });
        assert_eq!(
            full.to_string(),
            "its memory is full: it has no room for 46881792 bytes more, whoever holds the rest"
        );
        assert_eq!(Fault::of("wgpu error: Out of Memory\n\nCaused by:\n..."), Fault::Full { bytes: None });
        let lost = "An error happened during execution\nCaused by:\n  The server is in an invalid state\nCaused by:\n  \
                    [Launch(An unknown error happened during launch\nCaused by:\n  DriverError(CUDA_ERROR_LAUNCH_FAILED, \
                    \"unspecified launch failure\")\nBacktrace\nNo backtrace available)]";
        assert_eq!(of(lost), "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure");
        let refused = format!("{unwrapped}Unknown error happened during execution\nNo backtrace available");
        assert_eq!(of(&refused), "its driver refuses, as it does where the device is lost");
        assert_eq!(of("one\nCaused by:\n  another\nBacktrace\nNo backtrace available"), "one: another");
        assert_eq!(of("as it is"), "as it is");
    }
}
