//! What the process has used of the machine.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// Processor time of all threads so far; `None` where the system does not say.
pub(super) fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).ok()?;
        Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(unix))]
    None
}

/// Memory now and at its peak, in KiB, as Linux counts it; null elsewhere.
pub(super) fn memory() -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    json!({
        "rss_kb": field("VmRSS"), "peak_rss_kb": field("VmHWM"),
        "rss_anon_kb": field("RssAnon"), "rss_file_kb": field("RssFile"),
    })
}

/// Mean and quantiles of durations in microseconds, sorted here.
pub(super) fn summary(mut durations: Vec<Duration>) -> Value {
    durations.sort_unstable();
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    let at = |share: f64| {
        let last = durations.len().checked_sub(1)?;
        durations.get((share * last as f64).round() as usize).copied().map(us)
    };
    let mean = (!durations.is_empty()).then(|| us(durations.iter().sum()) / durations.len() as f64);
    json!({ "mean": mean, "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "min": at(0.0), "max": at(1.0) })
}
