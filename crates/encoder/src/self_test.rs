//! A model tried on a few texts: that it computes at all, and the same for a text alone and among others.

use crate::colbert::ColbertEncoder;
use crate::device::EncoderDevice;
use crate::error::{Error, Result};
use crate::{RawRows, Side};

/// Texts of different lengths, with what tokenizers trip over.
const TEXTS: [&str; 4] = [
    "how are tree rings counted?",
    "Latewood is the denser, darker part of a growth ring: it forms late in the growing season, when cells are small.",
    "caf\u{e9} na\u{ef}ve \u{65e5}\u{672c}\u{8a9e} \u{1f332} ...",
    "x",
];
/// The same text may differ by so much, in units of a row's length: on the processor, and on a GPU, which adds up sums in
/// an order that depends on the batch, of factors in half precision.
const TOLERANCE: f32 = 1e-4;
const GPU_TOLERANCE: f32 = 1e-2;

/// What trying a model gave.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SelfTest {
    /// Rows of the texts as queries, together.
    pub query_rows: usize,
    /// Rows of the texts as documents, together.
    pub document_rows: usize,
    /// The largest difference between a value of a text alone and among others, in units of its row's length.
    pub difference: f32,
}

impl ColbertEncoder {
    /// Tries the model on a few texts.
    ///
    /// # Errors
    /// When a value is not finite, or a text gives other rows alone than among others.
    pub fn self_test(&self) -> Result<SelfTest> {
        let (query_rows, of_queries) = self.try_side(Side::Query)?;
        let (document_rows, of_documents) = self.try_side(Side::Document)?;
        Ok(SelfTest { query_rows, document_rows, difference: of_queries.max(of_documents) })
    }

    /// The number of rows, and the largest difference.
    fn try_side(&self, side: Side) -> Result<(usize, f32)> {
        let together = self.encode_raw(side, &TEXTS)?;
        let tolerance = if *self.device() == EncoderDevice::Cpu { TOLERANCE } else { GPU_TOLERANCE };
        let (mut rows, mut largest) = (0, 0.0f32);
        for (text, among) in TEXTS.iter().zip(&together) {
            let alone = self.encode_raw(side, &[text])?.remove(0);
            let failed = |what: String| Error::SelfTest { text: (*text).into(), what };
            if alone.token_ids != among.token_ids {
                return Err(failed(format!(
                    "{} rows alone, {} among others",
                    alone.token_ids.len(),
                    among.token_ids.len()
                )));
            }
            let difference = difference(self.recipe().dim, &alone, among);
            if difference.is_nan() || difference > tolerance {
                return Err(failed(format!("its rows alone and among others differ by {difference}")));
            }
            (rows, largest) = (rows + alone.token_ids.len(), largest.max(difference));
        }
        Ok((rows, largest))
    }
}

/// The largest difference of two values, in units of the row's length; not a number if a value is none.
fn difference(dim: usize, a: &RawRows, b: &RawRows) -> f32 {
    let rows = a.values.chunks_exact(dim).zip(b.values.chunks_exact(dim));
    let of_row = |(a, b): (&[f32], &[f32])| {
        let length = a.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        a.iter().zip(b).fold(0.0f32, |most, (a, b)| {
            let off = (a - b).abs() / length;
            if off > most || off.is_nan() { off } else { most }
        })
    };
    rows.map(of_row).fold(0.0, |most, off| if off > most || off.is_nan() { off } else { most })
}
