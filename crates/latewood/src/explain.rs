//! Why a passage was found: which token of it each token of the query met, or which words it has.

use std::ops::Range;

use latewood_encoder::Side;
use latewood_engine::QueryEmbeddings;
use serde::Serialize;

use crate::error::Result;
use crate::intake::{Context, above};
use crate::keywords::first_place;
use crate::ranking::Asked;
use crate::reader::{Passage, Reader, weight};

/// What one row of the query found in a passage; where keywords alone count, one word of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TokenMatch {
    /// Bytes of the query; none where the query was given as embeddings, or the row is of no word in it.
    pub query: Option<Range<usize>>,
    /// Bytes of the passage's text; none where the row met the title or a heading above the passage, or no word at all.
    pub text: Option<Range<usize>>,
    /// The word of the title or of a heading above the passage that it met instead.
    pub above: Option<String>,
    /// Its part in the hit's score by meaning, which is the sum of all; where keywords alone count, in BM25.
    pub score: f32,
}

impl Reader {
    /// What each row of the query, or each of its words where it is not encoded, met in `passage`.
    pub(crate) fn matches(&self, asked: &Asked<'_>, passage: &Passage) -> Result<Vec<TokenMatch>> {
        match (asked.rows, asked.text) {
            (Some(rows), text) => self.token_matches(rows, text, passage),
            (None, Some(text)) => self.word_matches(text, passage),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// For each row of the query the token of `passage` that it meets best.
    fn token_matches(&self, rows: &QueryEmbeddings, text: Option<&str>, passage: &Passage) -> Result<Vec<TokenMatch>> {
        let weight = weight(rows);
        let alignments = self.searcher.explain(rows, passage.doc)?.unwrap_or_default();
        let context = Context::of(&*self.encoder, passage.title.as_deref(), &passage.headings, &passage.text);
        let places = self.encoder.places(Side::Document, &context.text)?;
        let asked = text.map(|text| self.encoder.places(Side::Query, text)).transpose()?.unwrap_or_default();
        let one = |(at, alignment): (usize, latewood_engine::Alignment)| {
            let place = places.get(alignment.token).cloned().flatten();
            let (text, above) = match place {
                Some(place) if place.start >= context.before => {
                    (Some(place.start - context.before..place.end - context.before), None)
                }
                Some(place) => (None, context.text.get(place).map(str::to_owned)),
                None => (None, None),
            };
            TokenMatch { query: asked.get(at).cloned().flatten(), text, above, score: alignment.score / weight }
        };
        Ok(alignments.into_iter().enumerate().map(one).collect())
    }

    /// For each word of the query where `passage`, or else what stands above it, first has it.
    fn word_matches(&self, query: &str, passage: &Passage) -> Result<Vec<TokenMatch>> {
        let parts = above(passage.title.as_deref(), &passage.headings, &passage.text);
        let words = self.keywords()?.word_places(query, passage.doc)?.into_iter();
        let one = |(place, word, score): (Range<usize>, String, f32)| {
            let text = first_place(&passage.text, &word);
            let above = parts.iter().find_map(|part| Some(part[first_place(part, &word)?].to_owned()));
            TokenMatch { query: Some(place), above: above.filter(|_| text.is_none()), text, score }
        };
        Ok(words.map(one).collect())
    }
}
