//! The container of `torch.save`: a ZIP archive whose entries are stored as they are, so that reading is slicing.
//!
//! Compressed or encrypted entries and ZIP64 (over 4 GB) are refused. Every offset is checked before it is followed.

use std::collections::HashMap;

/// The entries of an archive, by name, each a slice of it.
pub(super) fn entries(bytes: &[u8]) -> Result<HashMap<&str, &[u8]>, String> {
    if !bytes.starts_with(b"PK\x03\x04") {
        return Err("no ZIP archive, which torch.save has written since PyTorch 1.6".into());
    }
    let end = end_record(bytes).ok_or("the archive has no end record")?;
    slice(bytes, end, 22)?;
    let (count, start) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    if count == u64::from(u16::MAX) || start == u64::from(u32::MAX) {
        return Err("the archive is ZIP64, which is not supported".into());
    }
    let mut at = usize::try_from(start).map_err(|_| CUT)?;
    let mut found = HashMap::new();
    for _ in 0..count {
        let entry = Entry::parse(bytes, at)?;
        found.insert(entry.name, entry.data(bytes)?);
        at = entry.next;
    }
    Ok(found)
}

const CUT: &str = "the archive is cut short";

/// Where the record begins that points to the directory: the last place with its signature.
fn end_record(bytes: &[u8]) -> Option<usize> {
    /// The record, and the longest comment behind it.
    const LONGEST: usize = 22 + 65_535;
    let first = bytes.len().saturating_sub(LONGEST);
    bytes[first..].windows(4).rposition(|w| w == b"PK\x05\x06").map(|at| first + at)
}

/// One line of the directory.
struct Entry<'a> {
    name: &'a str,
    header: u64,
    size: u64,
    /// Where the next line begins.
    next: usize,
}

impl<'a> Entry<'a> {
    fn parse(bytes: &'a [u8], at: usize) -> Result<Self, String> {
        if slice(bytes, at, 4)? != b"PK\x01\x02" {
            return Err("the archive's directory is damaged".into());
        }
        let [name_len, extra, comment] = [28, 30, 32].map(|field| u16_at(bytes, at + field));
        let name_len = name_len? as usize;
        let name = slice(bytes, at + 46, name_len)?;
        let name = std::str::from_utf8(name).map_err(|_| "the name of an entry is no UTF-8")?;
        if u16_at(bytes, at + 8)? & 1 != 0 || u16_at(bytes, at + 10)? != 0 {
            return Err(format!("{name} is compressed or encrypted, which is not supported"));
        }
        let (size, header) = (u32_at(bytes, at + 24)?, u32_at(bytes, at + 42)?);
        let next = at + 46 + name_len + extra? as usize + comment? as usize;
        Ok(Self { name, header, size, next })
    }

    fn data(&self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let at = usize::try_from(self.header).map_err(|_| CUT)?;
        if slice(bytes, at, 4)? != b"PK\x03\x04" {
            return Err(format!("{} does not begin where the directory says", self.name));
        }
        let skip = 30 + u16_at(bytes, at + 26)? + u16_at(bytes, at + 28)?;
        let start = usize::try_from(self.header + skip).map_err(|_| CUT)?;
        slice(bytes, start, usize::try_from(self.size).map_err(|_| CUT)?)
    }
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8], String> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or_else(|| CUT.into())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    let b = slice(bytes, at, 2)?;
    Ok(u64::from(b[0]) | u64::from(b[1]) << 8)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u64, String> {
    Ok(u16_at(bytes, at)? | u16_at(bytes, at + 2)? << 16)
}
