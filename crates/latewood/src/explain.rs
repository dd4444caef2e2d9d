//! Why a passage was found: which token of it each token of the query met.

use std::ops::Range;

use latewood_encoder::Side;
use latewood_engine::QueryEmbeddings;
use serde::Serialize;

use crate::error::Result;
use crate::intake::Context;
use crate::reader::{Hit, Passage, Reader};

/// What one row of the query found in a passage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenMatch {
    /// Bytes of the query; none where the query was given as embeddings, or the row is of no word in it.
    pub query: Option<Range<usize>>,
    /// Bytes of the passage's text; none where the row met the title or a heading above the passage, or no word at all.
    pub text: Option<Range<usize>>,
    /// The word of the title or of a heading above the passage that it met instead.
    pub above: Option<String>,
    /// Its part in the hit's score, which is the sum of all.
    pub score: f32,
}

impl Reader {
    /// For each row of the query the token of `passage` that it meets best. `weight` is the query's.
    pub(crate) fn matches(&self, query: &QueryEmbeddings, passage: &Passage, weight: f32) -> Result<Vec<TokenMatch>> {
        let alignments = self.searcher.explain(query, passage.doc)?.unwrap_or_default();
        let context = Context::of(&*self.encoder, passage.title.as_deref(), &passage.headings, &passage.text);
        let places = self.encoder.places(Side::Document, &context.text)?;
        let one = |alignment: latewood_engine::Alignment| {
            let place = places.get(alignment.token).cloned().flatten();
            let (text, above) = match place {
                Some(place) if place.start >= context.before => {
                    (Some(place.start - context.before..place.end - context.before), None)
                }
                Some(place) => (None, context.text.get(place).map(str::to_owned)),
                None => (None, None),
            };
            TokenMatch { query: None, text, above, score: alignment.score / weight }
        };
        Ok(alignments.into_iter().map(one).collect())
    }

    /// Says of hits found by [`Reader::search_embeddings`] which word of `query` each row is, `query` being the text that was
    /// encoded.
    ///
    /// # Errors
    /// When it cannot be tokenised.
    pub fn name_query_tokens(&self, query: &str, hits: &mut [Hit]) -> Result<()> {
        let places = self.encoder.places(Side::Query, query)?;
        for found in hits.iter_mut().filter_map(|hit| hit.matches.as_mut()) {
            found.iter_mut().zip(&places).for_each(|(found, place)| found.query.clone_from(place));
        }
        Ok(())
    }
}
