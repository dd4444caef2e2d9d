//! `latewood serve`

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use latewood::device::Device;
use latewood_server::AppState;
use tokio::net::TcpListener;

use crate::args::{Args, ServeArgs};
use crate::output;

pub(crate) fn run(args: &Args, own: &ServeArgs) -> anyhow::Result<ExitCode> {
    // The address first: a taken port should be known before an hour of indexing.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the server")?;
    let listener =
        runtime.block_on(TcpListener::bind(own.addr)).with_context(|| format!("cannot listen on {}", own.addr))?;
    let addr = listener.local_addr().context("cannot tell the address")?;
    if !addr.ip().is_loopback() {
        output::note(
            args.quiet,
            &format!("warning: {addr} is reachable from other machines, and there is no access control"),
        );
    }
    let device = super::device(args, Device::Auto)?;
    let index = super::open_or_create(args, own.path.as_deref(), &own.encoder, &device)?;
    super::refresh(args, &index)?;
    let state = AppState::new(index)?;
    // On stdout, so that a script that asked for port 0 can read it.
    writeln!(io::stdout(), "listening on http://{addr}")?;
    io::stdout().flush()?;
    runtime.block_on(latewood_server::serve(listener, state, stopped())).context("the server failed")?;
    Ok(ExitCode::SUCCESS)
}

/// Ends at Ctrl-C or, on Unix, at the signal that service managers send.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
