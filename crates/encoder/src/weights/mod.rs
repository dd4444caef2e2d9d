//! From the weight files of a folder to `f32`, whatever they store: F32, F16, BF16, or I8 rows with a scale.
//!
//! A folder holds one `model.safetensors`, several with an index, or a `pytorch_model.bin` (`pickle`). A quantised
//! matrix `name`, I8 `[r, c]`, has a companion `name.scale`, F32 `[r]`; its value is `q[i][j] * scale[i]`. Shapes are
//! checked against the ones that the configuration implies before a value is read; every value is finite afterwards.

mod archive;
mod pickle;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::error::{Error, Result};

/// One weight file, not yet parsed.
#[derive(Debug, Clone)]
pub(crate) struct WeightFile {
    /// The path within the model's folder.
    pub(crate) name: String,
    pub(crate) bytes: Cow<'static, [u8]>,
}

impl WeightFile {
    fn damaged(&self, detail: String) -> Error {
        Error::DamagedWeights { file: self.name.clone(), len: self.bytes.len(), detail }
    }
}

/// A tensor's place in a file.
struct View<'a> {
    file: &'a str,
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

/// The tensors of one module, borrowed from the bytes of its files.
#[derive(Clone)]
pub(crate) struct Weights<'a> {
    /// What stands before every name: the module's name within a larger one, `bert.`.
    prefix: &'static str,
    /// The first file, which is blamed for what none has.
    file: &'a str,
    tensors: Arc<HashMap<String, View<'a>>>,
}

impl<'a> Weights<'a> {
    /// Reads the headers of `files` and checks that the data are all there.
    pub(crate) fn parse(files: &'a [WeightFile]) -> Result<Self> {
        let mut tensors = HashMap::new();
        for file in files {
            if file.name.ends_with(".safetensors") {
                add_safetensors(file, &mut tensors)?;
            } else {
                add_pickled(file, &mut tensors)?;
            }
        }
        let file = files.first().map_or("", |file| &file.name);
        Ok(Self { prefix: "", file, tensors: Arc::new(tensors) })
    }

    /// The weights under the one of `prefixes` under which there is a tensor `name`; the first if there is none.
    pub(crate) fn under(&self, prefixes: &[&'static str], name: &str) -> Self {
        let found = prefixes.iter().find(|prefix| self.tensors.contains_key(&format!("{prefix}{name}")));
        Self { prefix: found.or(prefixes.first()).copied().unwrap_or_default(), ..self.clone() }
    }

    /// The shape of the tensor `name`, if there is one.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(&format!("{}{name}", self.prefix)).map(|view| view.shape.as_slice())
    }

    /// The values of tensor `name`, row-major, whose shape must be `shape`.
    pub(crate) fn read<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(shape.iter().product());
        self.find(name, &shape)?.append_rows(0..shape[0], &mut values)?;
        Ok(values)
    }

    /// The tensor `name`, whose shape must be `shape`, of a type that can be read.
    pub(crate) fn find(&self, name: &str, shape: &[usize]) -> Result<Stored<'_>> {
        let name = format!("{}{name}", self.prefix);
        let view = self.view(&name, shape)?;
        let scales = match view.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => &[],
            Dtype::I8 if shape.len() == 2 => self.scales(&format!("{name}.scale"), shape[0])?,
            _ => return Err(view.unsupported(&name, "F32, F16, BF16, or I8 matrices with a scale for each row")),
        };
        // By division: a product of lengths may overflow where one of them is 0, and a lone value has no lengths.
        let width = (view.data.len() * 8 / view.dtype.bitsize()).checked_div(shape.first().copied().unwrap_or(1));
        let width = width.unwrap_or(0);
        Ok(Stored { name, file: view.file, dtype: view.dtype, data: view.data, scales, width })
    }

    /// The scales of `rows` rows, checked.
    fn scales(&self, name: &str, rows: usize) -> Result<&[[u8; 4]]> {
        let view = self.view(name, &[rows])?;
        if view.dtype != Dtype::F32 {
            return Err(view.unsupported(name, "F32"));
        }
        let scales = view.data.as_chunks().0;
        // Times 128, so that the values are finite too.
        finite(view.file, name, 0, scales.iter().map(|b| f32::from_le_bytes(*b) * 128.0))?;
        Ok(scales)
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<&View<'a>> {
        let missing = || Error::MissingTensor { file: self.file.into(), name: name.into() };
        let view = self.tensors.get(name).ok_or_else(missing)?;
        if view.shape != shape {
            return Err(Error::WrongShape {
                file: view.file.into(),
                name: name.into(),
                expected: shape.into(),
                found: view.shape.clone(),
            });
        }
        Ok(view)
    }
}

fn add_safetensors<'a>(file: &'a WeightFile, tensors: &mut HashMap<String, View<'a>>) -> Result<()> {
    let found = SafeTensors::deserialize(&file.bytes).map_err(|e| file.damaged(e.to_string()))?;
    for (name, view) in found.tensors() {
        let (dtype, shape, data) = (view.dtype(), view.shape().into(), view.data());
        tensors.insert(current_name(name), View { file: &file.name, dtype, shape, data });
    }
    Ok(())
}

fn add_pickled<'a>(file: &'a WeightFile, tensors: &mut HashMap<String, View<'a>>) -> Result<()> {
    for (name, tensor) in pickle::read(&file.bytes).map_err(|detail| file.damaged(detail))? {
        let pickle::Tensor { dtype, shape, data } = tensor;
        tensors.insert(current_name(name), View { file: &file.name, dtype, shape, data });
    }
    Ok(())
}

/// A name as it is written today: checkpoints of TensorFlow's time call the two vectors of a norm gamma and beta.
fn current_name(name: String) -> String {
    let norm = |end| name.strip_suffix(end);
    match (norm(".gamma"), norm(".beta")) {
        (Some(norm), _) => format!("{norm}.weight"),
        (_, Some(norm)) => format!("{norm}.bias"),
        _ => name,
    }
}

impl View<'_> {
    fn unsupported(&self, name: &str, supported: &'static str) -> Error {
        let what = format!("the type of tensor {name},");
        Error::Unsupported { file: self.file.into(), what, found: format!("{:?}", self.dtype), supported }
    }
}

/// A tensor as the file has it: `rows` (the first axis) of `width` values.
pub(crate) struct Stored<'a> {
    name: String,
    file: &'a str,
    dtype: Dtype,
    data: &'a [u8],
    /// F32, little-endian, one for each row; none unless the type is I8.
    scales: &'a [[u8; 4]],
    width: usize,
}

impl Stored<'_> {
    /// Writes the values of row `at` into `row`.
    pub(crate) fn read_row(&self, at: usize, row: &mut [f32]) -> Result<()> {
        fn decode<const N: usize>(data: &[u8], row: &mut [f32], value: impl Fn([u8; N]) -> f32) {
            row.iter_mut().zip(data.as_chunks().0).for_each(|(x, bytes)| *x = value(*bytes));
        }
        let row_bytes = self.dtype.bitsize() / 8 * self.width;
        let data = &self.data[at * row_bytes..][..row_bytes];
        match self.dtype {
            Dtype::F16 => decode(data, row, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => decode(data, row, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::I8 => {
                let scale = f32::from_le_bytes(self.scales[at]);
                decode(data, row, |[q]| f32::from(q.cast_signed()) * scale);
                return Ok(()); // the scales were checked
            }
            // `Weights::find` lets through nothing else.
            _ => decode(data, row, f32::from_le_bytes),
        }
        finite(self.file, &self.name, at * self.width, row.iter().copied())
    }

    /// Appends the values of `rows` to `values`.
    pub(crate) fn append_rows(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        for at in rows {
            let start = values.len();
            values.resize(start + self.width, 0.0);
            self.read_row(at, &mut values[start..])?;
        }
        Ok(())
    }
}

/// Refuses a NaN or an infinity among `values`, which begin at element `start` of tensor `name`.
fn finite(file: &str, name: &str, start: usize, values: impl Iterator<Item = f32>) -> Result<()> {
    match values.enumerate().find(|(_, x)| !x.is_finite()) {
        Some((at, value)) => Err(Error::NotFinite { file: file.into(), name: name.into(), at: start + at, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> [WeightFile; 1] {
        let views = tensors.iter().map(|(n, t, s, d)| (*n, TensorView::new(*t, s.to_vec(), d).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap().into();
        [WeightFile { name: "model.safetensors".into(), bytes }]
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
    fn tensors_of_any_shape_are_read() {
        let bytes = file(&[
            ("one", Dtype::F32, &[], &1.5f32.to_le_bytes()),
            ("none", Dtype::F32, &[0, usize::MAX, 2], &[]),
            ("thin", Dtype::F32, &[3, 0], &[]),
        ]);
        let w = Weights::parse(&bytes).unwrap();
        assert_eq!(
            w.read("one", [1]).unwrap_err().to_string(),
            "model.safetensors: tensor one has shape [], expected [1]"
        );
        for (name, shape, rows, values) in
            [("one", &[][..], 1, &[1.5f32][..]), ("none", &[0, usize::MAX, 2], 0, &[]), ("thin", &[3, 0], 3, &[])]
        {
            let mut read = Vec::new();
            w.find(name, shape).unwrap().append_rows(0..rows, &mut read).unwrap();
            assert_eq!(read, values, "{name}");
        }
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
        for len in 0..bytes[0].bytes.len() {
            let cut = [WeightFile { bytes: bytes[0].bytes[..len].to_vec().into(), ..bytes[0].clone() }];
            assert!(matches!(Weights::parse(&cut), Err(Error::DamagedWeights { .. })), "{len}");
        }
    }
}
