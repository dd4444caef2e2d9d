//! Bearer keys: who may read, and who may write.
//!
//! Keys are kept as their BLAKE3 hashes, and compared in constant time, all of them each time. Without any key everybody
//! may do everything; with one, every request but those for health and for the static pages needs one. A key that may write
//! may read.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;
use crate::state::AppState;

/// How a hash is written where keys are.
const HASHED: &str = "blake3:";

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Searching, reranking, encoding, looking.
    Read,
    /// All of that, and changing indexes.
    Write,
}

/// The keys that are accepted.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<(Right, [u8; 32])>);

/// A key that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("a key is {detail}")]
pub struct KeyError {
    detail: &'static str,
}

impl Keys {
    /// Accepts `key`: the key itself, or `blake3:` and the hash of it in hexadecimal, so that it need not be written
    /// anywhere on the server.
    ///
    /// # Errors
    /// When it is shorter than 16 characters, has others than visible ASCII, or is no hash where it says so.
    pub fn add(&mut self, right: Right, key: &str) -> Result<(), KeyError> {
        let error = |detail| KeyError { detail };
        let hash = match key.strip_prefix(HASHED) {
            Some(hex) => {
                *blake3::Hash::from_hex(hex).map_err(|_| error("blake3: and 64 hexadecimal digits"))?.as_bytes()
            }
            None if key.len() < 16 => return Err(error("at least 16 characters long")),
            None if !key.bytes().all(|b| b.is_ascii_graphic()) => return Err(error("of visible ASCII characters")),
            None => *blake3::hash(key.as_bytes()).as_bytes(),
        };
        self.0.push((right, hash));
        Ok(())
    }

    /// Whether there are none: then nobody is asked for one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `key` is good for.
    fn right(&self, key: &str) -> Option<Right> {
        let hash = blake3::hash(key.as_bytes());
        let (mut read, mut write) = (Choice::from(0), Choice::from(0));
        for (right, known) in &self.0 {
            let same = known.ct_eq(hash.as_bytes());
            match right {
                Right::Read => read |= same,
                Right::Write => write |= same,
            }
        }
        match (bool::from(write), bool::from(read)) {
            (true, _) => Some(Right::Write),
            (_, true) => Some(Right::Read),
            _ => None,
        }
    }

    fn check(&self, wanted: Right, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.is_empty() {
            return Ok(());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let unauthorized = |text: &str| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text);
        let (_, key) = key.ok_or_else(|| unauthorized("give a key: Authorization: Bearer KEY"))?;
        match self.right(key.trim()) {
            None => Err(unauthorized("the key is not known")),
            Some(Right::Read) if wanted == Right::Write => {
                Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", "the key may read and not write"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Lets through requests with a key that may read.
pub(crate) async fn may_read(State(state): State<AppState>, request: Request, next: Next) -> Response {
    guard(&state, Right::Read, request, next).await
}

/// Lets through requests with a key that may write.
pub(crate) async fn may_write(State(state): State<AppState>, request: Request, next: Next) -> Response {
    guard(&state, Right::Write, request, next).await
}

async fn guard(state: &AppState, right: Right, request: Request, next: Next) -> Response {
    match state.keys().check(right, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            let mut response = error.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const READ: &str = "read-0123456789abcdef";
    const WRITE: &str = "write-0123456789abcdef";

    fn asked(keys: &Keys, right: Right, header: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        if !header.is_empty() {
            headers.insert(header::AUTHORIZATION, header.parse().unwrap());
        }
        keys.check(right, &headers).err().map(|e| e.code())
    }

    #[test]
    fn keys_open_what_they_are_for() {
        let mut keys = Keys::default();
        assert_eq!(asked(&keys, Right::Write, ""), None, "without keys everybody may");
        keys.add(Right::Read, READ).unwrap();
        keys.add(Right::Write, &format!("blake3:{}", blake3::hash(WRITE.as_bytes()))).unwrap();
        let (read, write) = (format!("Bearer {READ}"), format!("bearer {WRITE}"));
        assert_eq!((asked(&keys, Right::Read, &read), asked(&keys, Right::Read, &write)), (None, None));
        assert_eq!((asked(&keys, Right::Write, &read), asked(&keys, Right::Write, &write)), (Some("forbidden"), None));
        for header in ["", "Bearer", "Bearer x", &format!("Basic {READ}"), READ, &format!("Bearer {READ}x")] {
            assert_eq!(asked(&keys, Right::Read, header), Some("unauthorized"), "{header}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in ["short", "with a blank in the middle", "blake3:12"] {
            assert!(Keys::default().add(Right::Read, key).is_err(), "{key}");
        }
    }
}
