//! Scoring texts that come along with the query, by late interaction: candidates from elsewhere, put in order.

use latewood_encoder::Encoder;
use latewood_engine::{QueryEmbeddings, exact};
use latewood_ingest::{Kind, PassageOptions, split_text};

use crate::error::Result;
use crate::intake::room;
use crate::reader::weight;

/// Texts scored together: enough for batches of like length.
const TEXTS: usize = 64;

/// How well each of `texts` fits `query`: as [`crate::Hit::score`], of the best passage where a text is longer than the model
/// takes. A text without words fits as its special tokens do.
///
/// `stopped` is asked now and then whether to give up.
///
/// # Errors
/// When encoding fails, or the query is of another model's dimension; the engine's `Cancelled`, when it is to give up.
pub fn score_texts(
    encoder: &dyn Encoder,
    query: &QueryEmbeddings,
    texts: &[&str],
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<f32>> {
    let mut scores = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TEXTS) {
        if stopped() {
            return Err(latewood_engine::Error::Cancelled.into());
        }
        scores.extend(score_some(encoder, query, texts)?);
    }
    Ok(scores)
}

fn score_some(encoder: &dyn Encoder, query: &QueryEmbeddings, texts: &[&str]) -> Result<Vec<f32>> {
    let passages: Vec<Vec<String>> = texts.iter().map(|text| passages(encoder, text)).collect();
    let all: Vec<&str> = passages.iter().flatten().map(String::as_str).collect();
    let weight = weight(query);
    let mut scores = encoder
        .encode_documents(&all)?
        .into_iter()
        .map(|document| Ok::<_, crate::Error>(exact::score(query, document.embeddings.view())? / weight));
    let best =
        |passages: &Vec<String>| scores.by_ref().take(passages.len()).try_fold(f32::MIN, |best, s| Ok(best.max(s?)));
    passages.iter().map(best).collect()
}

/// A text as the model can take it.
fn passages(encoder: &dyn Encoder, text: &str) -> Vec<String> {
    let room = room(encoder);
    if encoder.count_tokens(text) <= room {
        return vec![text.to_owned()];
    }
    let options = PassageOptions { max_tokens: room, ..PassageOptions::default() };
    let split = split_text(Kind::PlainText, text, &options, &|text: &str| encoder.count_tokens(text));
    match split.passages.is_empty() {
        true => vec![text.to_owned()],
        false => split.passages.into_iter().map(|passage| passage.text).collect(),
    }
}
