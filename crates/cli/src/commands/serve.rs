//! `latewood serve`, `latewood mcp`, `latewood openapi`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use latewood::device::{Device, Opened};
use latewood::rerank::Ranker;
use latewood::{Location, TextIndex};
use latewood_server::{AppState, Keys, Right, ServerOptions};
use tokio::net::TcpListener;

use crate::args::{Args, EncoderArgs, McpArgs, ServeArgs};
use crate::log::Log;
use crate::{model, pipeline};

/// The index of the folder that is served.
const FOLDER_INDEX: &str = "default";

pub(crate) fn run(args: &Args, own: &ServeArgs) -> anyhow::Result<ExitCode> {
    let mut options = options(own)?;
    if !own.addr.ip().is_loopback() && options.keys.is_empty() && !own.allow_anonymous {
        bail!(
            "{} is reachable from other machines, and there is no key: set LATEWOOD_WRITE_KEYS (and LATEWOOD_READ_KEYS), or \
             say --allow-anonymous",
            own.addr
        );
    }
    let log = Log::start(own.log_json)?;
    // The address first: a taken port should be known before an hour of indexing.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the server")?;
    let listener =
        runtime.block_on(TcpListener::bind(own.addr)).with_context(|| format!("cannot listen on {}", own.addr))?;
    let addr = listener.local_addr().context("cannot tell the address")?;
    let device = super::device(args, Device::Auto)?;
    options.pipelines = pipelines(args, own, &device)?;
    let state = state(args, (own.path.as_deref(), &own.encoder), &device, options)?;
    let stopped = {
        let _runtime = runtime.enter();
        stopped().context("cannot listen for signals")?
    };
    // On stdout, so that a script that asked for port 0 can read it.
    writeln!(io::stdout(), "listening on http://{addr}")?;
    io::stdout().flush()?;
    let served = runtime.block_on(latewood_server::serve(listener, state, stopped));
    // What still computes then has nobody who waits for it.
    runtime.shutdown_background();
    log.finish();
    served.context("the server failed")?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn mcp(args: &Args, own: &McpArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let device = super::device(args, Device::Cpu)?;
    let mut options = ServerOptions::default();
    options.data.clone_from(&own.data);
    options.folder = super::sync_options(&own.documents);
    let state = state(args, (own.path.as_deref(), &own.encoder), &device, options)?;
    runtime.block_on(latewood_server::serve_stdio(state)).context("the client does not speak the protocol")?;
    // What reads standard input cannot be stopped, and need not be.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

/// Opens what is to be served: a folder, if there is one, and the indexes of the data folder.
fn state(
    args: &Args,
    (path, own): (Option<&Path>, &EncoderArgs),
    device: &Opened,
    options: ServerOptions,
) -> anyhow::Result<AppState> {
    if path.is_none() && args.index.is_none() && options.data.is_some() {
        let encoder = model::load(args, own, None, device)?;
        return Ok(AppState::new(encoder, Some(device.clone()), options)?);
    }
    let (folder, location) = (options.folder.clone(), Location::find(path, args.index.as_deref())?);
    let encoder = model::load(args, own, TextIndex::model(&location)?.as_deref(), device)?;
    let state = AppState::new(encoder.clone(), Some(device.clone()), options)?;
    let index = TextIndex::open_or_create(location, encoder)?.on(device);
    super::refresh(args, &index, &folder)?;
    state.serve_index(FOLDER_INDEX, index)?;
    Ok(state)
}

fn options(own: &ServeArgs) -> anyhow::Result<ServerOptions> {
    let mut options = ServerOptions::default();
    options.data.clone_from(&own.data);
    options.folder = super::sync_options(&own.documents);
    options.feedback.clone_from(&own.feedback);
    options.allowed_origins.clone_from(&own.allow_origin);
    options.limits.concurrent_requests = own.max_requests as usize;
    options.limits.body_bytes = own.max_body as usize * 1_000_000;
    options.limits.request_time = Duration::from_secs(own.timeout.into());
    options.keys = keys()?;
    #[cfg(feature = "otel")]
    (options.span_parent = Some(crate::otel::parent));
    if options.keys.is_empty() && own.addr.ip().is_loopback() {
        let own_names = ["localhost", "127.0.0.1", "[::1]"].map(String::from);
        options.hosts = Some(own_names.into_iter().chain(own.allow_host.iter().cloned()).collect());
    }
    Ok(options)
}

/// The pipelines that searches may name, their models loaded.
fn pipelines(args: &Args, own: &ServeArgs, device: &Opened) -> anyhow::Result<BTreeMap<String, Arc<Ranker>>> {
    let mut pipelines = BTreeMap::new();
    for named in &own.pipeline {
        let (name, from) = match named.split_once('=') {
            Some((name, from)) => (name.to_owned(), from),
            None => {
                let name = Path::new(named).file_stem().unwrap_or_default().to_string_lossy().into_owned();
                (name, named.as_str())
            }
        };
        let ranker = pipeline::load(args, pipeline::read(from)?, device)?;
        if pipelines.insert(name.clone(), Arc::new(ranker)).is_some() {
            bail!("--pipeline: two are called {name}");
        }
    }
    Ok(pipelines)
}

/// The keys in the environment, where lists of processes do not show them.
fn keys() -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    for (variable, right) in [("LATEWOOD_READ_KEYS", Right::Read), ("LATEWOOD_WRITE_KEYS", Right::Write)] {
        let Ok(value) = std::env::var(variable) else { continue };
        for (at, key) in value.split(',').map(str::trim).filter(|key| !key.is_empty()).enumerate() {
            keys.add(right, key).with_context(|| format!("{variable}, key {}", at + 1))?;
        }
    }
    Ok(keys)
}

/// Ends at Ctrl-C or, on Unix, at the signal that service managers send; either is heard from now on, not only when somebody
/// waits for this.
#[cfg(unix)]
fn stopped() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stopped() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

pub(crate) fn openapi() -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{}", latewood_server::openapi().to_pretty_json()?)?;
    Ok(ExitCode::SUCCESS)
}
