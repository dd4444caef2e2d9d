//! Queries of many requests, encoded together.
//!
//! A request puts its queries on a list and waits for its turn at the encoder; whoever gets it takes all that wait, up to
//! a batch. So a lone query waits for nothing, and under load a batch grows while the one before is computed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use latewood::Error;
use latewood::encoder::Encoder;
use latewood::engine::QueryEmbeddings;
use tokio::sync::{Semaphore, oneshot};
use tracing::Instrument;

use crate::error::ApiError;
use crate::metrics::Metrics;

/// Queries of a batch: more make those that wait for it wait longer than they save.
const BATCH: usize = 32;

/// Bytes of a query.
const QUERY_BYTES: usize = 16 << 10;

type Answer = Result<QueryEmbeddings, ApiError>;

/// The encoder's place for queries.
pub(crate) struct QueryEncoder {
    encoder: Arc<dyn Encoder>,
    waiting: Mutex<Vec<(String, oneshot::Sender<Answer>)>>,
    turn: Semaphore,
    metrics: Metrics,
}

impl QueryEncoder {
    pub(crate) fn new(encoder: Arc<dyn Encoder>, metrics: Metrics) -> Self {
        Self { encoder, waiting: Mutex::default(), turn: Semaphore::new(1), metrics }
    }

    /// Encodes `queries`, and says how long that took, waiting included.
    pub(crate) async fn encode(
        self: &Arc<Self>,
        queries: &[String],
    ) -> Result<(Vec<QueryEmbeddings>, Duration), ApiError> {
        if queries.iter().any(|query| query.trim().is_empty()) {
            return Err(Error::EmptyQuery.into());
        }
        // Before anything reads it: no model takes as much.
        if let Some(query) = queries.iter().find(|query| query.len() > QUERY_BYTES) {
            let text = format!("a query of {} bytes: {QUERY_BYTES} are the most", query.len());
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "query_too_long", text));
        }
        let start = Instant::now();
        let encoded = self.answers(queries).instrument(tracing::info_span!("encode", queries = queries.len())).await?;
        let time = start.elapsed();
        self.metrics.stage("encode", time);
        Ok((encoded, time))
    }

    async fn answers(self: &Arc<Self>, queries: &[String]) -> Result<Vec<QueryEmbeddings>, ApiError> {
        let answers: Vec<_> = queries.iter().map(|query| self.enqueue(query)).collect();
        let mut encoded = Vec::with_capacity(queries.len());
        for mut answer in answers {
            let answer = loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => break answer,
                    turn = self.turn.acquire() => {
                        let _turn = turn.map_err(|e| ApiError::internal(&e))?;
                        self.encode_waiting().await?;
                    }
                }
            };
            encoded.push(answer.map_err(|e| ApiError::internal(&e))??);
        }
        Ok(encoded)
    }

    fn enqueue(&self, query: &str) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((query.to_owned(), sender));
        receiver
    }

    async fn encode_waiting(self: &Arc<Self>) -> Result<(), ApiError> {
        let batch: Vec<_> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Those whose clients have gone need no answer.
            waiting.retain(|(_, answer)| !answer.is_closed());
            let end = waiting.len().min(BATCH);
            waiting.drain(..end).collect()
        };
        if batch.is_empty() {
            return Ok(());
        }
        self.metrics.encoded_together.observe(batch.len() as f64);
        let own = self.clone();
        tokio::task::spawn_blocking(move || own.answer(batch)).await.map_err(|e| ApiError::internal(&e))
    }

    fn answer(&self, batch: Vec<(String, oneshot::Sender<Answer>)>) {
        let texts: Vec<&str> = batch.iter().map(|(text, _)| text.as_str()).collect();
        let max = self.encoder.max_query_tokens();
        let answers: Vec<Answer> = match self.encoder.encode_queries(&texts) {
            Ok(encoded) => encoded
                .into_iter()
                .map(|query| match query.truncated {
                    true => Err(Error::QueryTooLong { tokens: query.tokens, max }.into()),
                    false => Ok(query.embeddings),
                })
                .collect(),
            Err(error) => {
                let error = ApiError::from(Error::from(error));
                batch.iter().map(|_| Err(error.clone())).collect()
            }
        };
        for ((_, sender), answer) in batch.into_iter().zip(answers) {
            // The client may have gone meanwhile.
            let _ = sender.send(answer);
        }
    }
}
