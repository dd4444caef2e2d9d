//! What the kernels compute, in plain Rust: their specification, and what runs where there is no other.

use std::ops::Range;

use super::attention::AttentionScratch;
use super::block::Block;
use super::matrix::{ByteRows, MatrixF32, MatrixI8, Packing};
use super::{Activation, ERF_DENOMINATOR, ERF_LIMIT, ERF_NUMERATOR, Heads, Sight};

pub(super) const PACKING: Packing = Packing { panel: 8, group: 1, offset: 0 };

/// Writes `value` of each row and column of `out`.
fn write(mut out: Block<'_>, value: impl Fn(usize, usize) -> f32) {
    let (rows, columns) = (out.rows(), out.columns());
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        // SAFETY: inside the block.
        unsafe { *out.pointer(row, column) = value(row, column) };
    }
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => gelu(x),
    }
}

/// `x (1 + erf(x / sqrt 2)) / 2`; see [`super::vector::gelu`].
fn gelu(value: f32) -> f32 {
    let x = (value * std::f32::consts::FRAC_1_SQRT_2).clamp(-ERF_LIMIT, ERF_LIMIT);
    let polynomial = |c: &[f32; 6]| c.iter().rev().fold(0.0, |sum, c| sum * (x * x) + c);
    let erf = x * polynomial(&ERF_NUMERATOR) / polynomial(&ERF_DENOMINATOR);
    0.5 * value * (1.0 + erf)
}

pub(super) fn linear(x: &[f32], matrix: &MatrixF32, panels: Range<usize>, activation: Activation, out: Block<'_>) {
    let (input, panel) = (matrix.input, matrix.packing.panel);
    write(out, |row, column| {
        let (at, lane) = (panels.start + column / panel, column % panel);
        let weights = matrix.values[at * panel * input..].iter().skip(lane).step_by(panel);
        let sum: f32 = x[row * input..][..input].iter().zip(weights).map(|(x, w)| x * w).sum();
        activate(activation, sum + matrix.bias[at * panel + lane])
    });
}

pub(super) fn byte_linear(
    x: &ByteRows,
    matrix: &MatrixI8,
    panels: Range<usize>,
    activation: Activation,
    out: Block<'_>,
) {
    let (input, panel) = (matrix.input, matrix.packing.panel);
    write(out, |row, column| {
        let (at, lane) = (panels.start + column / panel, column % panel);
        let weights = matrix.values[at * panel * input..].iter().skip(lane).step_by(panel);
        let bytes = x.bytes[row * input..][..input].iter().map(|x| i32::from(x.cast_signed()));
        let sum: i32 = bytes.zip(weights).map(|(x, w)| x * i32::from(*w)).sum();
        let out = at * panel + lane;
        activate(activation, sum as f32 * (x.scales[row] * matrix.scales[out]) + matrix.bias[out])
    });
}

pub(super) fn quantise(x: &[f32], rows: &mut ByteRows) {
    let (width, stride) = (rows.width, rows.stride);
    let lines = rows.bytes.chunks_exact_mut(stride).zip(&mut rows.scales);
    for (row, (bytes, scale)) in x.chunks_exact(width).zip(lines) {
        let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let poison: f32 = row.iter().map(|x| x * 0.0).sum();
        *scale = largest / 127.0 + poison;
        let steps = Some(127.0 / largest).filter(|steps| steps.is_finite()).unwrap_or(0.0);
        for (byte, x) in bytes.iter_mut().zip(row) {
            *byte = ((x * steps).round_ties_even() as i8).cast_unsigned();
        }
    }
}

pub(super) fn attention(
    x: &[f32],
    heads: Heads,
    which: Range<usize>,
    sight: Sight<'_>,
    out: Block<'_>,
    _: &mut AttentionScratch,
) {
    let (s, width, columns) = (out.rows(), heads.width, heads.columns());
    let mut result = vec![0.0; s * which.len() * width];
    let part = |part: usize, head: usize, token: usize| &x[(token * 3 + part) * columns + head * width..][..width];
    for (at, head) in which.clone().enumerate() {
        for token in 0..s {
            let sees = token.saturating_sub(sight.window)..token.saturating_add(sight.window).saturating_add(1);
            let sees = sees.start..sees.end.min(sight.attended).min(s);
            let query = part(0, head, token);
            let dot = |key: usize| query.iter().zip(part(1, head, key)).map(|(q, k)| q * k).sum::<f32>();
            let added = |key: usize| sight.added.get((at * s + token) * s + key).copied().unwrap_or(0.0);
            let score = |key| (dot(key) + added(key)) / (width as f32).sqrt();
            let scores: Vec<f32> = sees.clone().map(score).collect();
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            let to = &mut result[(token * which.len() + at) * width..][..width];
            for (weight, key) in weights.iter().zip(sees) {
                to.iter_mut().zip(part(2, head, key)).for_each(|(to, v)| *to += weight / sum * v);
            }
        }
    }
    write(out, |row, column| result[row * which.len() * width + column]);
}

pub(super) fn add_norm(x: &mut [f32], added: &[f32], gamma: &[f32], beta: &[f32], epsilon: f32) {
    x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
    let width = gamma.len();
    for row in x.chunks_exact_mut(width) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
        let inverse = 1.0 / (variance + epsilon).sqrt();
        for (x, (gamma, beta)) in row.iter_mut().zip(gamma.iter().zip(beta)) {
            *x = (*x - mean) * (gamma * inverse) + beta;
        }
    }
}

pub(super) fn gelu_all(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = gelu(*x));
}

pub(super) fn gelu_gate(x: &[f32], width: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (up, gate) = x.split_at(width);
        out.iter_mut().zip(up.iter().zip(gate)).for_each(|(out, (up, gate))| *out = gelu(*up) * gate);
    }
}

pub(super) fn rotate(heads: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in heads.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        for ((a, b), (c, s)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}
