//! Serving on a socket: connections within a limit, clients that dawdle are left, and an end that loses nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::router;
use crate::state::{AppState, Limits};

/// How long requests under way may take when the server stops.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait after the system refused a connection: there are too many open files, most likely.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;

/// Serves [`router`](crate::router) on `listener` until `stop` ends; then finishes the requests under way and the writes
/// that they wait for.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    state: AppState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router(state.clone()).into_service::<Incoming>());
    let http = http(state.limits());
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(state.limits().connections));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot take a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Answers are small and complete.
        let _ = stream.set_nodelay(true);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    let finish = async {
        tokio::join!(graceful.shutdown(), state.stop());
    };
    if tokio::time::timeout(PATIENCE, finish).await.is_err() {
        tracing::warn!("some requests took longer than {} s and were not finished", PATIENCE.as_secs());
    }
    Ok(())
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_buf_size(HEAD_BYTES.max(1 << 16));
    http
}

/// The next connection, and its place among those that may be open.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
