//! What the program says of itself: the server keeps a log on stderr and, with the feature `otel`, sends spans to a collector;
//! other commands warn.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

#[cfg(feature = "otel")]
use crate::otel::{self, Spans};

/// Warnings on stderr, of commands that keep no log: a GPU that fails, and what takes over.
pub(crate) fn warnings() {
    let wanted = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("latewood_encoder=warn,latewood_kernels=warn"));
    let lines = fmt::layer().with_writer(io::stderr).without_time().with_target(false);
    let lines = lines.with_ansi(io::stderr().is_terminal());
    registry().with(lines.with_filter(wanted)).init();
}

/// What is under way until the end.
pub(crate) struct Log {
    #[cfg(feature = "otel")]
    spans: Option<Spans>,
}

impl Log {
    #[cfg(not(feature = "otel"))]
    pub(crate) fn start(json: bool) -> anyhow::Result<Self> {
        registry().with(to_stderr(json, wanted())).init();
        Ok(Self {})
    }

    #[cfg(feature = "otel")]
    pub(crate) fn start(json: bool) -> anyhow::Result<Self> {
        use tracing_subscriber::filter::FilterExt;
        // What is wrong with the variables is logged, too, though the log that stays needs to know what they say.
        let first = registry().with(to_stderr(json, wanted()));
        let spans = tracing::subscriber::with_default(first, Spans::from_env)?;
        let log = to_stderr(json, wanted().and(otel::seldom()));
        registry().with(log).with(spans.as_ref().map(Spans::layer)).init();
        Ok(Self { spans })
    }

    /// Sends what is still to be sent.
    pub(crate) fn finish(self) {
        #[cfg(feature = "otel")]
        self.spans.into_iter().for_each(Spans::finish);
    }
}

/// What is logged. What a request does is, where RUST_LOG asks for it.
fn wanted() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"))
}

fn to_stderr<S>(json: bool, wanted: impl Filter<S> + Send + Sync + 'static) -> impl Layer<S>
where
    S: SubscriberExt + for<'a> LookupSpan<'a>,
{
    let log = fmt::layer().with_writer(io::stderr);
    let log = if json { log.json().boxed() } else { log.with_ansi(io::stderr().is_terminal()).boxed() };
    log.with_filter(wanted)
}
