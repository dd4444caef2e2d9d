//! Bodies: JSON that says what is wrong with it.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::Number;

use crate::error::ApiError;

/// A body read as JSON.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let text = "the body must be JSON, with the header Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|e| ApiError::bad_request(e.body_text()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|e| ApiError::bad_request(format!("the body: {e}")))
    }
}

/// A field that may also be null, which many clients send for what is not set.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// A whole number, or null, however it is written: to JSON 10.0 is one.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(value: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(value)?.map(to_whole).transpose()
}

/// `number` as a whole one from 0; one that is too large for any use as the largest.
pub(crate) fn to_whole<E: de::Error, T: TryFrom<u64>>(number: Number) -> Result<T, E> {
    let written_as_float = |x: f64| (x.fract() == 0.0 && x >= 0.0).then_some(x as u64);
    let whole = number.as_u64().or_else(|| number.as_f64().and_then(written_as_float));
    let error = || E::custom(format!("{number} is not a whole number from 0, or too large"));
    whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(error)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
