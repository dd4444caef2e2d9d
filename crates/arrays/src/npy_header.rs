//! The header of a .npy file: a Python dictionary of three entries, read strictly and in one pass, so that no text takes
//! long to refuse.

use std::io::{Error, ErrorKind, Read, Result};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// No header of an array of numbers is longer.
const MAX_LEN: u32 = 1 << 16;

/// What a header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// The type of the values, as `<f4`.
    pub(super) descr: String,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
}

impl Header {
    /// Reads up to the first value.
    pub(super) fn read(mut reader: impl Read) -> Result<Self> {
        let [m, a, g, i, c, s, version, _] = read_array(&mut reader)?;
        let len = match version {
            1 => u16::from_le_bytes(read_array(&mut reader)?).into(),
            2 | 3 => u32::from_le_bytes(read_array(&mut reader)?),
            _ => 0,
        };
        if [m, a, g, i, c, s] != *MAGIC || len == 0 || len > MAX_LEN {
            return Err(invalid());
        }
        let mut text = vec![0; len as usize];
        reader.read_exact(&mut text)?;
        str::from_utf8(&text).ok().and_then(parse).ok_or_else(invalid)
    }
}

fn read_array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map(|()| bytes)
}

fn invalid() -> Error {
    Error::new(ErrorKind::InvalidData, "its header is not that of an array of numbers")
}

fn parse(text: &str) -> Option<Header> {
    let mut text = Text(text);
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    text.list(["{", "}"], |text| {
        let key = text.string()?;
        text.token(":")?;
        match key {
            "descr" => descr = Some(text.string()?.to_owned()),
            "fortran_order" => fortran_order = Some(text.boolean()?),
            "shape" => shape = Some(text.numbers()?),
            _ => return None,
        }
        Some(())
    })?;
    text.0.trim_start().is_empty().then_some(())?;
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// The text that is left.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Takes a token, if it comes next.
    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    /// Entries with commas between them, and maybe one after the last.
    fn list(&mut self, [open, close]: [&str; 2], mut entry: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.token(open)?;
        while self.token(close).is_none() {
            entry(self)?;
            if self.token(",").is_none() {
                return self.token(close);
            }
        }
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.token("'").is_some() { '\'' } else { self.token("\"").map(|()| '"')? };
        let (string, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.token("True").is_some() { Some(true) } else { self.token("False").map(|()| false) }
    }

    fn numbers(&mut self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        self.list(["(", ")"], |text| {
            let digits = text.0.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            numbers.push(digits[..end].parse().ok()?);
            text.0 = &digits[end..];
            // As Python 2 wrote long numbers.
            let _ = text.token("L");
            Some(())
        })?;
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_as_numpy_writes_them() {
        let header = |descr: &str, shape: &[u64]| {
            Some(Header { descr: descr.into(), fortran_order: false, shape: shape.into() })
        };
        for (text, want) in [
            ("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 128), }          \n", header("<f2", &[3, 128])),
            ("{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }\n", header("<i4", &[3])),
            ("{\"shape\":(7L,4L),\"descr\":\"|i1\",\"fortran_order\":False}", header("|i1", &[7, 4])),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", header("<f8", &[])),
            ("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (), }", None),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (1 2), }", None),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (,), }", None),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", None),
            ("{'descr': '<f8', 'fortran_order': False, }", None),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), } and more", None),
            ("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    #[test]
    fn no_header_takes_long_to_refuse() {
        for text in ["[", "(", "{", "(1,", "{'descr':", "{1:", " ", "'"] {
            let text = text.repeat(60_000 / text.len());
            let len = (text.len() as u16).to_le_bytes();
            assert!(Header::read(&*[&MAGIC[..], &[1, 0], &len, text.as_bytes()].concat()).is_err(), "{text:.9}");
        }
        // No room is made for a header longer than any.
        assert!(Header::read(&*[&MAGIC[..], &[2, 0], &[0xff; 4], b"{}"].concat()).is_err());
    }
}
