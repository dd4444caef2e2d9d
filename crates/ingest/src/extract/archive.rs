//! Archives of strangers: the parts of a ZIP file, within limits.

use std::io::{Cursor, Read};

use zip::ZipArchive;

/// Parts of an archive.
const MAX_PARTS: usize = 20_000;
/// Bytes of all parts together, decompressed.
const MAX_BYTES: u64 = 512 << 20;

/// An archive, and how much more of it may be decompressed.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    left: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
        if zip.len() > MAX_PARTS {
            return Err(format!("an archive of {} parts, and {MAX_PARTS} are the limit", zip.len()));
        }
        Ok(Self { zip, left: MAX_BYTES })
    }

    /// The bytes of a part; none where there is none of that name.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(at) = self.zip.index_for_name(name) else { return Ok(None) };
        self.read(at).map(Some)
    }

    /// As [`Archive::part`], for one that has to be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Vec<u8>, String> {
        self.part(name)?.ok_or_else(|| format!("it has no part {name}"))
    }

    /// Goes through all parts, so that a parser without limits of its own meets none that is beyond ours; of XML, `check`
    /// says what else is wrong.
    pub(super) fn check(mut self, check: impl Fn(&[u8]) -> Result<(), String>) -> Result<(), String> {
        for at in 0..self.zip.len() {
            let bytes = self.read(at)?;
            let name = self.zip.name_for_index(at).and_then(Result::ok).unwrap_or_default();
            if name.ends_with(".xml") || name.ends_with(".rels") {
                check(&bytes).map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<Vec<u8>, String> {
        let part = self.zip.by_index(at).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        part.take(self.left + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => self.left = left,
            None => return Err(format!("more than {} MB when decompressed", MAX_BYTES >> 20)),
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn what_grows_without_end_is_refused() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in ["a.xml", "b.xml"] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(&[b' '; 60_000]).unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        assert!(bytes.len() < 1_000);
        let open = |left| Archive { left, ..Archive::open(&bytes).unwrap() };
        assert!(open(120_000).check(|_| Ok(())).is_ok());
        assert!(open(119_999).check(|_| Ok(())).unwrap_err().contains("when decompressed"));
        let mut archive = open(60_000);
        assert_eq!(archive.part("c.xml"), Ok(None));
        assert_eq!(archive.required("a.xml").unwrap().len(), 60_000);
        assert!(archive.part("b.xml").is_err(), "nothing is left for a second one");
        assert!(open(u64::MAX - 1).check(|_| Err("bad".into())).unwrap_err().starts_with("a.xml: bad"));
    }
}
