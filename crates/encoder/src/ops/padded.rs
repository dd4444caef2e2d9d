//! A batch as attention sees it where it is computed for all texts at once: a rectangle, `[b, s]`, `s` the length of the
//! longest text, and pieces of its rows with what they see. Made once for all layers that see alike.

use std::ops::Range;

use burn::prelude::*;

use super::Sight;
use crate::batch::Span;

/// What is added to the score of a token that is not seen: its weight is then zero exactly, and a row of nothing else
/// stays finite, which with an infinity it would not.
const UNSEEN: f32 = -1e30;

/// Rows of a piece, where a token does not see the whole text: more would mostly compute what nobody sees.
const WINDOWED_ROWS: usize = 1024;

/// A batch, padded.
pub(crate) struct Padded<B: Backend> {
    /// Texts, and the tokens of the longest.
    pub(super) shape: [usize; 2],
    /// `[b * s]`, the row of each place, and `[n]`, the place of each row; none if they are the same.
    pub(super) moves: Option<[Tensor<B, 1, Int>; 2]>,
    pub(super) pieces: Vec<Piece<B>>,
    /// `[b, 1, s, 1]`: 1, or 0 for a token that sees none. None if there is no such token.
    pub(super) seeing: Option<Tensor<B, 4>>,
    /// Cosines and sines of each place, `[1, s, 1, 1, width]`.
    pub(super) turn: Option<[Tensor<B, 5>; 2]>,
}

/// Some rows of the rectangle, and what they see.
pub(super) struct Piece<B: Backend> {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
    /// Added to scores: `[b, queries, keys]`, or 1 instead of `b`, of `queries` or of both. None if all is seen.
    pub(super) hidden: Option<Tensor<B, 3>>,
}

impl<B: Backend> Padded<B> {
    /// The batch of `sight`, whose heads have `width` values, in pieces of no more than `most` scores.
    pub(super) fn new(sight: &Sight<'_>, width: usize, most: usize, device: &B::Device) -> Self {
        let texts = sight.texts;
        let (b, s) = (texts.len(), texts.iter().map(|text| text.len).max().unwrap_or(0));
        // A window that reaches from one end to the other is none.
        let window = (sight.window < s.saturating_sub(1)).then_some(sight.window);
        // As many rows as there may be scores for: by `s` keys, or by those that windows reach.
        let (rows, reach) = match window {
            Some(window) => (WINDOWED_ROWS.max(2 * window), s.min(2 * WINDOWED_ROWS.max(2 * window))),
            None => (s, s),
        };
        let rows = rows.min(most / (b * sight.heads * reach).max(1)).clamp(1, s.max(1));
        let piece = |from: usize| {
            let queries = from..s.min(from + rows);
            let keys = match window {
                Some(window) => queries.start.saturating_sub(window)..s.min(queries.end + window),
                None => 0..s,
            };
            let hidden = hidden(texts, window, &queries, &keys).map(|(shape, values)| floats(values, shape, device));
            Piece { queries, keys, hidden }
        };
        Self {
            shape: [b, s],
            moves: moves(texts, s).map(|moves| moves.map(|values| ints(values, device))),
            pieces: (0..s).step_by(rows).map(piece).collect(),
            seeing: seeing(texts, s, window).map(|values| floats(values, [b, 1, s, 1], device)),
            turn: sight.rotary.map(|rotary| {
                let angles = rotary.angles(s);
                [&angles.cos, &angles.sin].map(|values| {
                    let twice = |half: &[f32]| [half, half].concat();
                    let doubled = values.chunks_exact(width / 2).take(s).flat_map(twice).collect();
                    floats(doubled, [1, s, 1, 1, width], device)
                })
            }),
        }
    }
}

/// The row of each place of the rectangle, any row where there is padding, and the place of each row.
fn moves(texts: &[Span], s: usize) -> Option<[Vec<i32>; 2]> {
    if texts.iter().all(|text| text.len == s) {
        return None;
    }
    let row = |text: &Span, t: usize| if t < text.len { text.first + t } else { text.first };
    let rows = texts.iter().flat_map(|text| (0..s).map(move |t| row(text, t) as i32)).collect();
    let places = texts.iter().enumerate().flat_map(|(at, text)| (at * s..at * s + text.len).map(|at| at as i32));
    Some([rows, places.collect()])
}

/// What is added to the scores of a piece, and its shape.
fn hidden(
    texts: &[Span],
    window: Option<usize>,
    queries: &Range<usize>,
    keys: &Range<usize>,
) -> Option<([usize; 3], Vec<f32>)> {
    let value = |unseen: bool| if unseen { UNSEEN } else { 0.0 };
    let whole = texts.iter().all(|text| text.attended >= keys.end);
    // Texts that end alike see alike.
    let texts = if texts.iter().all(|text| text.attended == texts[0].attended) { &texts[..1] } else { texts };
    match window {
        None if whole => None,
        None => {
            let values = texts.iter().flat_map(|text| keys.clone().map(|key| value(key >= text.attended)));
            Some(([texts.len(), 1, keys.len()], values.collect()))
        }
        Some(window) => {
            let of_query = |attended: usize, query: usize| {
                keys.clone().map(move |key| value(key >= attended || key.abs_diff(query) > window))
            };
            let of_text = |text: &Span| {
                let attended = text.attended;
                queries.clone().flat_map(move |query| of_query(attended, query))
            };
            Some(([texts.len(), queries.len(), keys.len()], texts.iter().flat_map(of_text).collect()))
        }
    }
}

/// 1 for each place, or 0 for one that sees nothing.
fn seeing(texts: &[Span], s: usize, window: Option<usize>) -> Option<Vec<f32>> {
    let sees = |text: &Span, at: usize| match window {
        None => text.attended > 0,
        Some(window) => at < text.attended + window,
    };
    if texts.iter().all(|text| (0..text.len).all(|at| sees(text, at))) {
        return None;
    }
    let value = |text: &Span, at: usize| if sees(text, at) { 1.0 } else { 0.0 };
    Some(texts.iter().flat_map(|text| (0..s).map(move |at| value(text, at))).collect())
}

fn ints<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

fn floats<B: Backend, const D: usize>(values: Vec<f32>, shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
