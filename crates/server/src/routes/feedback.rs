//! What people made of what was found: kept in a file that evaluations read.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use latewood::eval::Signal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SEARCH, read_path};
use crate::error::ApiError;
use crate::json::Body;
use crate::state::AppState;

/// Bytes of a query or a document's id.
const MOST_BYTES: usize = 10_000;

/// The file that it is kept in.
#[derive(Debug)]
pub(crate) struct Feedback {
    file: PathBuf,
    /// Held while a line is written.
    writing: Mutex<()>,
}

/// What somebody made of a document that was found.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackRequest {
    /// What was asked.
    #[schema(pattern = r"\S", example = "how hot is a kiln?")]
    query: String,
    /// The document, as hits name it.
    #[schema(pattern = r"\S")]
    document: String,
    signal: FeedbackSignal,
}

#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FeedbackSignal {
    /// It was opened.
    Click,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    question: &'a str,
    document: &'a str,
    signal: Signal,
    index: &'a str,
    /// Seconds since 1970.
    time: u64,
}

impl Feedback {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, writing: Mutex::new(()) }
    }

    fn add(&self, line: &Line<'_>) -> Result<(), ApiError> {
        let mut text = serde_json::to_string(line).map_err(|e| ApiError::internal(&e))?;
        text.push('\n');
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).read(true).open(&self.file)?;
            // What a full disk has cut off must not take this line with it.
            let mut last = [b'\n'];
            if file.seek(SeekFrom::End(-1)).is_ok() {
                file.read_exact(&mut last)?;
            }
            if last != *b"\n" {
                text.insert(0, '\n');
            }
            file.write_all(text.as_bytes())
        };
        let written = write();
        written.map_err(|e| ApiError::internal(&format!("{}: {e}", self.file.display())))
    }
}

/// Say whether a document that was found is what was looked for
#[utoipa::path(post, path = "/v1/indexes/{index}/feedback", operation_id = "give_feedback", tag = SEARCH,
    params(("index" = String, Path)), request_body = FeedbackRequest, responses(
    (status = 204, description = "It is written down"),
    (status = 409, body = crate::error::ErrorBody, description = "The server keeps none")
))]
pub(crate) async fn give(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
    body: Body<FeedbackRequest>,
) -> Result<StatusCode, ApiError> {
    let index = read_path(path)?;
    let Body(FeedbackRequest { query, document, signal }) = body;
    // Only of an index that is there.
    state.index(&index)?;
    for (name, text) in [("query", &query), ("document", &document)] {
        if text.trim().is_empty() || text.len() > MOST_BYTES {
            return Err(ApiError::bad_request(format!("{name} has 1 to {MOST_BYTES} bytes")));
        }
    }
    let none = || ApiError::conflict("no feedback is kept here: latewood serve --feedback FILE keeps it");
    let feedback = state.feedback().ok_or_else(none)?;
    let signal = match signal {
        FeedbackSignal::Click => Signal::Click,
        FeedbackSignal::Up => Signal::Up,
        FeedbackSignal::Down => Signal::Down,
    };
    let write = move || {
        let time =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        feedback.add(&Line { question: query.trim(), document: &document, signal, index: &index, time })
    };
    state.look(write).await?;
    Ok(StatusCode::NO_CONTENT)
}
