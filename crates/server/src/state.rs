//! What all requests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use latewood::{Reader, TextIndex};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// How often the index is asked for a newer commit.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Memory for queries that may be asked again: several thousand of them.
const QUERY_CACHE_BYTES: usize = 64 << 20;

/// An open index. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    index: TextIndex,
    current: Mutex<Current>,
    /// Requests that compute at the same time: more would only share the same cores.
    permits: Arc<Semaphore>,
}

struct Current {
    reader: Reader,
    looked: Instant,
}

impl AppState {
    /// Opens a reader of `index`.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn new(index: TextIndex) -> latewood::Result<Self> {
        let index = index.remembering_queries(QUERY_CACHE_BYTES);
        let current = Mutex::new(Current { reader: index.reader()?, looked: Instant::now() });
        let permits = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
        Ok(Self(Arc::new(Inner { index, current, permits })))
    }

    /// Runs `work` on a thread that may block, with a reader of the newest commit.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.0.permits.clone().acquire_owned().await.map_err(|e| internal(&e))?;
        let inner = self.0.clone();
        let work = move || {
            // Held until the work is done, even where the client has gone and nobody awaits it.
            let _permit = permit;
            work(&inner.reader()?)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| internal(&e))?
    }
}

fn internal(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
}

impl Inner {
    /// The reader of the newest commit, opened anew where there is a newer one; others go on with the old meanwhile.
    fn reader(&self) -> latewood::Result<Reader> {
        let reader = {
            let mut current = self.current();
            if current.looked.elapsed() < LOOK_EVERY {
                return Ok(current.reader.clone());
            }
            current.looked = Instant::now();
            current.reader.clone()
        };
        if self.index.engine().version()? == reader.version() {
            return Ok(reader);
        }
        let newer = self.index.reader()?;
        self.current().reader = newer.clone();
        Ok(newer)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // What is inside is replaced whole: a panic elsewhere leaves it as it was.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
