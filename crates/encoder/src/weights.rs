//! From a safetensors file to `f32`, whatever the file stores: F32, F16, BF16, or I8 rows with a scale.
//!
//! A quantised matrix `name`, I8 `[r, c]`, has a companion `name.scale`, F32 `[r]`; its value is
//! `q[i][j] * scale[i]`. Shapes are checked against the ones that the configuration implies before a
//! value is read, and every value is finite afterwards.

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
        self.append(name, &shape, &mut values)?;
        Ok(values)
    }

    /// Appends the values of tensor `name` to `values`.
    pub(crate) fn append(&self, name: &str, shape: &[usize], values: &mut Vec<f32>) -> Result<()> {
        let view = self.view(name, shape)?;
        let start = values.len();
        let data = view.data();
        match view.dtype() {
            Dtype::F32 => values.extend(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Dtype::F16 => values.extend(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Dtype::BF16 => values.extend(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Dtype::I8 if shape.len() == 2 => return self.append_rows(name, shape, data, values),
            found => {
                return Err(Error::Unsupported {
                    file: WEIGHTS,
                    what: format!("the type of tensor {name},"),
                    found: format!("{found:?}"),
                    supported: "F32, F16, BF16, or I8 matrices with a scale for each row",
                });
            }
        }
        match values[start..].iter().position(|x| !x.is_finite()) {
            Some(at) => Err(Error::NotFinite { name: name.into(), at, value: values[start + at] }),
            None => Ok(()),
        }
    }

    /// Appends the rows of a quantised matrix, `shape` = `[r, c]`.
    fn append_rows(&self, name: &str, shape: &[usize], data: &[u8], values: &mut Vec<f32>) -> Result<()> {
        let name = format!("{name}.scale");
        let scales = self.view(&name, &shape[..1])?;
        if scales.dtype() != Dtype::F32 {
            return Err(Error::Unsupported {
                file: WEIGHTS,
                what: format!("the type of tensor {name},"),
                found: format!("{:?}", scales.dtype()),
                supported: "F32",
            });
        }
        let scales = scales.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        for (at, (row, scale)) in data.chunks_exact(shape[1].max(1)).zip(scales).enumerate() {
            if !scale.is_finite() {
                return Err(Error::NotFinite { name, at, value: scale });
            }
            values.extend(row.iter().map(|q| f32::from(q.cast_signed()) * scale));
        }
        Ok(())
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<TensorView<'_>> {
        let view = self.0.tensor(name).map_err(|_| Error::MissingTensor { name: name.into() })?;
        if view.shape() != shape {
            return Err(Error::WrongShape { name: name.into(), expected: shape.into(), found: view.shape().into() });
        }
        Ok(view)
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
        let text = |name: &str, shape: &[usize]| w.append(name, shape, &mut vec![]).unwrap_err().to_string();
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
