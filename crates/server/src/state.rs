//! What all requests share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use latewood::{Reader, TextIndex};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// How often the index is asked for a newer commit.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An open index. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    index: TextIndex,
    current: Mutex<Current>,
    /// Requests that compute at the same time: more would only share the same cores.
    permits: Semaphore,
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
        let current = Mutex::new(Current { reader: index.reader()?, looked: Instant::now() });
        let permits = Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from));
        Ok(Self(Arc::new(Inner { index, current, permits })))
    }

    /// Runs `work` on a thread that may block, with a reader of the newest commit.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let failed =
            |e: &dyn std::fmt::Display| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string());
        let _permit = self.0.permits.acquire().await.map_err(|e| failed(&e))?;
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || work(&inner.reader()?)).await.map_err(|e| failed(&e))?
    }
}

impl Inner {
    fn reader(&self) -> latewood::Result<Reader> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            if self.index.engine().generation()? != current.reader.info().generation {
                current.reader = self.index.reader()?;
            }
            current.looked = Instant::now();
        }
        Ok(current.reader.clone())
    }
}
