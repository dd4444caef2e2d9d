//! Whether a device computes what the processor computes.

use burn_flex::Flex;

use crate::batch::Input;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::network::{Network, Rows, Run};
use crate::ops::Precision;

/// How far a row may be off, in units of its length. Half precision takes one a few hundredths away, bytes on the
/// processor up to a fifth; what was not computed, or with other weights, is off by about its length.
const TOLERANCE: f32 = 0.1;

/// Runs `inputs` through `network`, on `device`, and through the same network on the processor, which is loaded for that
/// and then dropped.
pub(crate) fn check(network: &dyn Run<Rows>, checkpoint: &Checkpoint, inputs: &[Input], device: &str) -> Result<()> {
    let inputs: Vec<&Input> = inputs.iter().collect();
    let found = network.run(&inputs)?;
    let processor = Network::<Flex>::load(checkpoint, Precision::F32, &Default::default(), "the processor")?;
    let expected = processor.run(&inputs)?;
    let dim = |rows: &Rows, input: &Input| rows.tokens.len() / input.ids.len();
    let pairs = inputs.iter().zip(found.iter().zip(&expected));
    let apart = pairs.map(|(input, (a, b))| {
        let dim = dim(b, input);
        apart(&a.tokens, &b.tokens, dim).max(apart(&a.pooled, &b.pooled, dim))
    });
    let apart = apart.fold(0.0, f32::max);
    if apart <= TOLERANCE {
        return Ok(());
    }
    let detail = format!("its rows of a short text are off by {apart} of their length, {TOLERANCE} is allowed");
    Err(Error::Device { device: device.into(), detail })
}

/// How far the row is off that is furthest, in units of its length; infinite if there are more rows or fewer, or values
/// that are not finite.
fn apart(found: &[f32], expected: &[f32], dim: usize) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let square = |x: f32| x * x;
    let of_row = |(a, b): (&[f32], &[f32])| {
        let difference: f32 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
        let length: f32 = b.iter().copied().map(square).sum();
        let off = (difference / length.max(f32::MIN_POSITIVE)).sqrt();
        if off.is_nan() { f32::INFINITY } else { off }
    };
    found.chunks_exact(dim).zip(expected.chunks_exact(dim)).map(of_row).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_computed_is_far_off() {
        let row = [3.0, 4.0];
        assert_eq!(apart(&row, &row, 2), 0.0);
        assert_eq!(apart(&[0.0; 2], &row, 2), 1.0);
        assert!((apart(&[3.0, 4.05, 3.0, 4.0], &[row, row].concat(), 2) - 0.01).abs() < 1e-6);
        for wrong in [&[3.0][..], &[3.0, f32::NAN], &[f32::INFINITY, 4.0], &[3.0, 4.0, 0.0, 0.0]] {
            assert_eq!(apart(wrong, &row, 2), f32::INFINITY, "{wrong:?}");
        }
    }
}
