//! Arrays in NumPy's .npy format: little-endian, C order, read and written front to back.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use bytemuck::{AnyBitPattern, NoUninit};
use half::f16;

use super::npy_header::Header;
use crate::error::{Error, Result};

/// Bytes of a header that we write; its shape is filled in at the end.
const HEADER: usize = 128;

/// A number type as .npy names it.
pub trait Element: AnyBitPattern + NoUninit {
    /// Its type string.
    const DESCR: &'static str;
}

impl Element for f16 {
    const DESCR: &'static str = "<f2";
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
}

impl Element for i32 {
    const DESCR: &'static str = "<i4";
}

impl Element for i64 {
    const DESCR: &'static str = "<i8";
}

/// An array being read.
#[derive(Debug)]
pub(super) struct NpyReader<T, R = BufReader<File>> {
    reader: R,
    path: PathBuf,
    shape: Vec<u64>,
    element: PhantomData<T>,
}

impl<T: Element> NpyReader<T> {
    /// Opens a file of `T`, whose length must be what its shape says.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let len = file.metadata().map_err(|e| Error::io("read", path, e))?.len();
        let mut npy = Self::parse(BufReader::with_capacity(1 << 20, file), path)?;
        let start = npy.reader.stream_position().map_err(|e| Error::io("read", path, e))?;
        let wanted = npy.byte_len().and_then(|bytes| bytes.checked_add(start));
        if wanted != Some(len) {
            return Err(npy.bad(format!("the file has {len} bytes, its shape {:?} asks for {wanted:?}", npy.shape)));
        }
        Ok(npy)
    }

    /// Passes over the next `count` values.
    pub(super) fn skip(&mut self, count: usize) -> Result<()> {
        let bytes = count.checked_mul(size_of::<T>()).and_then(|bytes| i64::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| self.bad("ends too early".into()))?;
        self.reader.seek_relative(bytes).map_err(|e| Error::io("read", &self.path, e))
    }
}

impl<T: Element, R: Read> NpyReader<T, R> {
    /// Reads the header; `path` is for messages.
    pub(super) fn parse(mut reader: R, path: &Path) -> Result<Self> {
        let input = |detail: String| Error::Input { file: path.into(), detail };
        let header = Header::read(&mut reader).map_err(|e| input(format!("not an .npy array: {e}")))?;
        if header.descr != T::DESCR {
            return Err(input(format!("holds values of type {}, not {}", header.descr, T::DESCR)));
        }
        if header.fortran_order {
            return Err(input("is in Fortran order: save it in C order (numpy.ascontiguousarray)".into()));
        }
        Ok(Self { reader, path: path.into(), shape: header.shape, element: PhantomData })
    }

    /// The shape, which must have `N` dimensions.
    pub(super) fn shape<const N: usize>(&self) -> Result<[usize; N]> {
        let sizes: Vec<usize> = self.shape.iter().filter_map(|&n| usize::try_from(n).ok()).collect();
        sizes.try_into().map_err(|_| self.bad(format!("has the shape {:?}, not {N} dimensions", self.shape)))
    }

    /// Bytes of all values.
    fn byte_len(&self) -> Option<u64> {
        self.shape.iter().try_fold(size_of::<T>() as u64, |a, &n| a.checked_mul(n))
    }

    /// Fills `out` with the next values.
    pub(super) fn read(&mut self, out: &mut [T]) -> Result<()> {
        self.reader.read_exact(bytemuck::cast_slice_mut(out)).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.bad("ends too early".into()),
            _ => Error::io("read", &self.path, e),
        })
    }

    /// The next `count` values.
    pub(super) fn read_vec(&mut self, count: usize) -> Result<Vec<T>> {
        let mut out = vec![T::zeroed(); count];
        self.read(&mut out)?;
        Ok(out)
    }

    /// An error about this file.
    pub(super) fn bad(&self, detail: String) -> Error {
        Error::Input { file: self.path.clone(), detail }
    }
}

/// An array being written, `[n, inner...]`, whose `n` is known at the end.
pub struct NpyWriter<T> {
    file: BufWriter<File>,
    path: PathBuf,
    inner: Vec<usize>,
    values: usize,
    element: PhantomData<T>,
}

impl<T: Element> NpyWriter<T> {
    /// Starts the file `path`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path, inner: &[usize]) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        let mut npy = Self {
            file: BufWriter::with_capacity(1 << 20, file),
            path: path.into(),
            inner: inner.into(),
            values: 0,
            element: PhantomData,
        };
        npy.raw(&[0; HEADER])?;
        Ok(npy)
    }

    /// Appends values.
    ///
    /// # Errors
    /// When the disk refuses; so for the next.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        self.values += values.len();
        self.raw(bytemuck::cast_slice(values))
    }

    /// Fills the header in.
    pub fn finish(mut self) -> Result<()> {
        let mut shape = vec![self.values / self.inner.iter().product::<usize>().max(1)];
        shape.extend(&self.inner);
        let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
        let text = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", T::DESCR, shape.trim_end());
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((HEADER as u16 - 10).to_le_bytes());
        header.extend(format!("{text:<width$}\n", width = HEADER - 11).as_bytes());
        self.file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("write", &self.path, e))?;
        self.raw(&header)?;
        self.file.flush().map_err(|e| Error::io("write", &self.path, e))
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }
}

/// Writes the lengths of documents or queries.
///
/// # Errors
/// When the file cannot be written.
pub fn write_lens(path: &Path, lens: &[usize]) -> Result<()> {
    let mut array = NpyWriter::<i32>::create(path, &[])?;
    array.write(&lens.iter().map(|&n| n as i32).collect::<Vec<_>>())?;
    array.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let mut writer = NpyWriter::<f32>::create(&path, &[2, 3]).unwrap();
        writer.write(&[1.0; 6]).unwrap();
        writer.write(&[2.0; 6]).unwrap();
        writer.finish().unwrap();
        let mut reader = NpyReader::<f32>::open(&path).unwrap();
        assert_eq!(reader.shape::<3>().unwrap(), [2, 2, 3]);
        assert_eq!(reader.read_vec(12).unwrap(), [[1.0; 6], [2.0; 6]].concat());
        assert!(reader.read_vec(1).unwrap_err().to_string().contains("too early"));
    }

    #[test]
    fn other_types_shapes_and_lengths_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let mut writer = NpyWriter::<i64>::create(&path, &[]).unwrap();
        writer.write(&[1, 2, 3]).unwrap();
        writer.finish().unwrap();
        let text = NpyReader::<f32>::open(&path).unwrap_err().to_string();
        assert!(text.contains("a.npy") && text.contains("<i8") && text.contains("<f4"), "{text}");
        assert!(NpyReader::<i64>::open(&path).unwrap().shape::<2>().is_err());
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            std::fs::write(&path, &bytes[..len]).unwrap();
            assert!(NpyReader::<i64>::open(&path).is_err(), "cut to {len} bytes");
        }
        let huge = String::from_utf8_lossy(&bytes).replace("(3,)", "(99999999999999999999,)");
        assert!(NpyReader::<i64, _>::parse(huge.as_bytes(), &path).is_err());
    }
}
