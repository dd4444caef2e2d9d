//! `latewood extract-worker`: the process that takes text out of documents, and how the others start it.
//!
//! PDF and its like come from anywhere and their parsers are large, so they run where they can do no harm: in this same
//! program, started once more, which has nothing but its standard input and output, a limit of time for each document, and on
//! Unix one of memory and none of core files. macOS takes the limit of memory and does not hold to it; Windows has none.

use std::sync::Arc;
#[cfg(feature = "extract")]
use std::time::Duration;

use latewood::ingest::Extractor;

use crate::args::ExtractArgs;

/// How much longer than a worker's own limit it is waited for: it is started within that, and handed the document.
#[cfg(feature = "extract")]
const GRACE: Duration = Duration::from_secs(5);

/// Takes text out in another process.
#[cfg(feature = "extract")]
pub(crate) fn extractor(limits: ExtractArgs) -> Option<Arc<dyn Extractor>> {
    let command = move || {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("extract-worker");
        command.arg("--extract-seconds").arg(limits.extract_seconds.to_string());
        command.arg("--extract-memory").arg(limits.extract_memory.to_string());
        Ok(command)
    };
    let patience = Duration::from_secs(limits.extract_seconds.into()) + GRACE;
    Some(Arc::new(latewood::ingest::ChildProcess::new(command).with_patience(patience)))
}

/// There is none in this build.
#[cfg(not(feature = "extract"))]
pub(crate) fn extractor(_: ExtractArgs) -> Option<Arc<dyn Extractor>> {
    None
}

#[cfg(feature = "extract")]
pub(crate) fn run(limits: &ExtractArgs) -> anyhow::Result<std::process::ExitCode> {
    limit(limits)?;
    let time = Duration::from_secs(limits.extract_seconds.into());
    latewood::ingest::serve(std::io::stdin().lock(), std::io::stdout().lock(), time)?;
    Ok(std::process::ExitCode::SUCCESS)
}

/// Memory, and no core file of a parser's crash.
#[cfg(all(feature = "extract", unix))]
fn limit(limits: &ExtractArgs) -> anyhow::Result<()> {
    use anyhow::Context;
    use rustix::process::{Resource, Rlimit, setrlimit};

    let set = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    set(Resource::As, u64::from(limits.extract_memory) << 20).context("cannot limit memory")?;
    set(Resource::Core, 0).context("cannot do without core files")
}

#[cfg(all(feature = "extract", not(unix)))]
fn limit(_: &ExtractArgs) -> anyhow::Result<()> {
    Ok(())
}
