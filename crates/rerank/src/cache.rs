//! Scores that dear stages gave before.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use xxhash_rust::xxh3::Xxh3;

/// Scores that are remembered: some megabytes.
const SCORES: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// What a model gave for a query and a text.
pub(crate) struct Cache(Mutex<LruCache<u128, f32>>);

impl Cache {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(SCORES)))
    }

    /// The key of a score, of all that decides it.
    pub(crate) fn key(parts: &[&str]) -> u128 {
        let mut hasher = Xxh3::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.digest128()
    }

    pub(crate) fn get(&self, key: u128) -> Option<f32> {
        self.lock().get(&key).copied()
    }

    pub(crate) fn put(&self, key: u128, score: f32) {
        self.lock().put(key, score);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<u128, f32>> {
        // Whole whatever happened to a thread that held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
