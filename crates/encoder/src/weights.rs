//! From a safetensors file to `f32`, whatever the file stores: F32, F16, BF16, or I8 rows with a scale.
//!
//! A quantised matrix `name`, I8 `[r, c]`, has a companion `name.scale`, F32 `[r]`; its value is
//! `q[i][j] * scale[i]`. Shapes are checked against the ones that the configuration implies before a
//! value is read, and every value is finite afterwards.

use std::ops::Range;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};
use crate::files::WEIGHTS;

/// The tensors of a weights file, borrowed from its bytes.
pub(crate) struct Weights<'a>(SafeTensors<'a>);

impl<'a> Weights<'a> {
    /// Reads the header and checks that the data are all there.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self> {
        SafeTensors::deserialize(bytes)
            .map(Self)
            .map_err(|e| Error::DamagedWeights { len: bytes.len(), detail: e.to_string() })
    }

    /// The values of tensor `name`, row-major, whose shape must be `shape`.
    pub(crate) fn read<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(shape.iter().product());
        self.find(name, &shape)?.append_rows(0..shape[0], &mut values)?;
        Ok(values)
    }

    /// The tensor `name`, whose shape must be `shape`, of a type that can be read.
    pub(crate) fn find(&self, name: &str, shape: &[usize]) -> Result<Stored<'_>> {
        let view = self.view(name, shape)?;
        let (dtype, data, width) = (view.dtype(), view.data(), shape[1..].iter().product());
        let scales = match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => &[],
            Dtype::I8 if shape.len() == 2 => self.scales(&format!("{name}.scale"), shape[0])?,
            found => {
                let supported = "F32, F16, BF16, or I8 matrices with a scale for each row";
                return Err(unsupported(name, found, supported));
            }
        };
        Ok(Stored { name: name.into(), dtype, data, scales, width })
    }

    /// The scales of `rows` rows, checked.
    fn scales(&self, name: &str, rows: usize) -> Result<&[[u8; 4]]> {
        let view = self.view(name, &[rows])?;
        if view.dtype() != Dtype::F32 {
            return Err(unsupported(name, view.dtype(), "F32"));
        }
        let scales = view.data().as_chunks().0;
        // Times 128, so that the values are finite too.
        finite(name, 0, scales.iter().map(|b| f32::from_le_bytes(*b) * 128.0))?;
        Ok(scales)
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<TensorView<'a>> {
        let view = self.0.tensor(name).map_err(|_| Error::MissingTensor { name: name.into() })?;
        if view.shape() != shape {
            return Err(Error::WrongShape { name: name.into(), expected: shape.into(), found: view.shape().into() });
        }
        Ok(view)
    }
}

/// A tensor as the file has it: `rows` (the first axis) of `width` values.
pub(crate) struct Stored<'a> {
    name: String,
    dtype: Dtype,
    data: &'a [u8],
    /// F32, little-endian, one for each row; none unless the type is I8.
    scales: &'a [[u8; 4]],
    width: usize,
}

impl Stored<'_> {
    /// Appends the values of `rows` to `values`.
    pub(crate) fn append_rows(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let row_bytes = self.dtype.bitsize() / 8 * self.width;
        let data = &self.data[rows.start * row_bytes..rows.end * row_bytes];
        let start = values.len();
        match self.dtype {
            Dtype::F16 => values.extend(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Dtype::BF16 => values.extend(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Dtype::I8 => {
                for (row, scale) in data.chunks_exact(self.width.max(1)).zip(&self.scales[rows]) {
                    let scale = f32::from_le_bytes(*scale);
                    values.extend(row.iter().map(|q| f32::from(q.cast_signed()) * scale));
                }
                return Ok(()); // the scales were checked
            }
            // `Weights::find` lets through nothing else.
            _ => values.extend(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        }
        finite(&self.name, rows.start * self.width, values[start..].iter().copied())
    }
}

fn unsupported(name: &str, found: Dtype, supported: &'static str) -> Error {
    let what = format!("the type of tensor {name},");
    Error::Unsupported { file: WEIGHTS, what, found: format!("{found:?}"), supported }
}

/// Refuses a NaN or an infinity among `values`, which begin at element `start` of tensor `name`.
fn finite(name: &str, start: usize, values: impl Iterator<Item = f32>) -> Result<()> {
    match values.enumerate().find(|(_, x)| !x.is_finite()) {
        Some((at, value)) => Err(Error::NotFinite { name: name.into(), at: start + at, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors.iter().map(|(n, t, s, d)| (*n, TensorView::new(*t, s.to_vec(), d).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn every_stored_type_reads_as_f32() {
        let f32s: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let f16s: Vec<u8> = [1.5, -2.0].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let bf16s: Vec<u8> = [1.5, -2.0].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        let bytes = file(&[
            ("a", Dtype::F32, &[2], &f32s),
            ("b", Dtype::F16, &[2], &f16s),
            ("c", Dtype::BF16, &[2], &bf16s),
            ("d", Dtype::I8, &[2, 3], &[1, 2, 0xff, 0x81, 0, 127]),
            ("d.scale", Dtype::F32, &[2], &f32s),
        ]);
        let w = Weights::parse(&bytes).unwrap();
        for name in ["a", "b", "c"] {
            assert_eq!(w.read(name, [2]).unwrap(), [1.5, -2.0], "{name}");
        }
        assert_eq!(w.read("d", [2, 3]).unwrap(), [1.5, 3.0, -1.5, 254.0, 0.0, -254.0]);
        let mut row = vec![9.0];
        w.find("d", &[2, 3]).unwrap().append_rows(1..2, &mut row).unwrap();
        assert_eq!(row, [9.0, 254.0, 0.0, -254.0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let nan = f32::NAN.to_le_bytes();
        let bytes = file(&[
            ("a", Dtype::F32, &[1], &nan),
            ("b", Dtype::I8, &[1, 2], &[1, 2]),
            ("c", Dtype::I8, &[1, 2], &[1, 2]),
            ("c.scale", Dtype::F32, &[1], &nan),
            ("d", Dtype::U8, &[1, 2], &[1, 2]),
            ("e", Dtype::I8, &[2], &[1, 2]),
        ]);
        let w = Weights::parse(&bytes).unwrap();
        let read = |name: &str, shape: &[usize]| w.find(name, shape)?.append_rows(0..shape[0], &mut vec![]);
        let text = |name: &str, shape: &[usize]| read(name, shape).unwrap_err().to_string();
        assert_eq!(text("x", &[1]), "model.safetensors has no tensor x");
        assert_eq!(text("a", &[2, 1]), "model.safetensors: tensor a has shape [1], expected [2, 1]");
        assert_eq!(text("a", &[1]), "model.safetensors: tensor a holds NaN at element 0");
        assert_eq!(text("b", &[1, 2]), "model.safetensors has no tensor b.scale");
        assert_eq!(text("c", &[1, 2]), "model.safetensors: tensor c.scale holds NaN at element 0");
        for name in ["d", "e"] {
            let shape: &[usize] = if name == "d" { &[1, 2] } else { &[2] };
            assert!(text(name, shape).contains("is not supported: F32, F16, BF16, or I8"), "{}", text(name, shape));
        }
    }

    #[test]
    fn a_file_cut_short_is_refused_wherever_it_is_cut() {
        let bytes = file(&[("a", Dtype::F32, &[4], &[0; 16])]);
        for len in 0..bytes.len() {
            assert!(matches!(Weights::parse(&bytes[..len]), Err(Error::DamagedWeights { .. })), "{len}");
        }
    }
}
