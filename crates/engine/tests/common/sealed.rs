//! Files of an index taken apart and put together again by index-format.md alone: none of the engine's code is used, so
//! that what is sealed here and opened there shows that the document says all.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// A longer section has a checksum for each block of so many bytes.
const BLOCK: usize = 65_536;
const MANIFEST: &str = "manifest.lw";

/// The content of an index's files by their names.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;
/// An index's files, taken apart.
pub(crate) type Parts = BTreeMap<String, Sealed>;

/// A container: its header and what its sections hold, but for the checksums of blocks.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) header: Vec<u8>,
    pub(crate) sections: Vec<([u8; 4], Vec<u8>)>,
}

impl Sealed {
    /// Takes a sound file apart.
    pub(crate) fn open(file: &[u8]) -> Self {
        let sections = sections(file).filter(|(tag, _)| tag != b"SUMS").map(|(tag, range)| (tag, file[range].to_vec()));
        Self { header: file[..64].to_vec(), sections: sections.collect() }
    }

    /// The file, its checksums right whatever it holds.
    pub(crate) fn seal(&self) -> Vec<u8> {
        let (mut file, mut table, mut sums) = (self.header.clone(), Vec::new(), Vec::new());
        for (tag, bytes) in &self.sections {
            let mut checksum = xxh3_64(bytes);
            if bytes.len() > BLOCK {
                let own: Vec<u8> = bytes.chunks(BLOCK).flat_map(|block| xxh3_64(block).to_le_bytes()).collect();
                checksum = xxh3_64(&own);
                sums.extend(own);
            }
            push(&mut file, &mut table, (tag, bytes), checksum);
        }
        if !sums.is_empty() {
            push(&mut file, &mut table, (b"SUMS", &sums), xxh3_64(&sums));
        }
        pad(&mut file);
        let start = file.len();
        let rows = table.len() / 32;
        file.extend(&table);
        let mut trailer = [0; 64];
        trailer[..8].copy_from_slice(&(start as u64).to_le_bytes());
        trailer[8..16].copy_from_slice(&(rows as u64).to_le_bytes());
        trailer[16..24].copy_from_slice(&(file.len() as u64 + 64).to_le_bytes());
        trailer[56..].copy_from_slice(b"LWD-end\n");
        file.extend(trailer);
        redigest(&mut file);
        file
    }

    /// The content of a section, if it is there.
    pub(crate) fn section(&mut self, tag: &[u8; 4]) -> Option<&mut Vec<u8>> {
        self.sections.iter_mut().find(|(own, _)| own == tag).map(|(_, bytes)| bytes)
    }
}

fn push(file: &mut Vec<u8>, table: &mut Vec<u8>, (tag, bytes): (&[u8; 4], &[u8]), checksum: u64) {
    pad(file);
    table.extend(tag);
    table.extend([0; 4]);
    [file.len() as u64, bytes.len() as u64, checksum].iter().for_each(|x| table.extend(x.to_le_bytes()));
    file.extend(bytes);
}

fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(64), 0);
}

/// Each section of a sound file: its tag and where it lies.
pub(crate) fn sections(file: &[u8]) -> impl Iterator<Item = ([u8; 4], Range<usize>)> + '_ {
    let trailer = file.len() - 64;
    let (table, rows) = (u64_at(file, trailer) as usize, u64_at(file, trailer + 8) as usize);
    (0..rows).map(move |row| {
        let row = table + row * 32;
        let (start, len) = (u64_at(file, row + 8) as usize, u64_at(file, row + 16) as usize);
        ([file[row], file[row + 1], file[row + 2], file[row + 3]], start..start + len)
    })
}

/// Makes the digest right that is over header, table and trailer, whatever they say; the table is taken to begin where
/// the trailer says or, where that is outside, at the trailer.
pub(crate) fn redigest(file: &mut [u8]) {
    let trailer = file.len() - 64;
    let table = (u64_at(file, trailer) as usize).min(trailer);
    let covered = [&file[..64], &file[table..trailer], &file[trailer..trailer + 24], &file[trailer + 32..]].concat();
    file[trailer + 24..trailer + 32].copy_from_slice(&xxh3_64(&covered).to_le_bytes());
}

/// A file's digest.
pub(crate) fn digest(file: &[u8]) -> u64 {
    u64_at(file, file.len() - 40)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut x = [0; 8];
    x.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(x)
}

/// Takes a sound index apart.
pub(crate) fn open_all(files: &Files) -> Parts {
    files.iter().map(|(name, file)| (name.clone(), Sealed::open(file))).collect()
}

/// Puts an index together.
pub(crate) fn seal_all(parts: &Parts) -> Files {
    parts.iter().map(|(name, part)| (name.clone(), part.seal())).collect()
}

/// Writes the digests that codecs and shards have now to where other files name them; the manifest is as it was.
pub(crate) fn relink(parts: &mut Parts) {
    let Some(Ok(mut meta)) = section(parts, MANIFEST).map(|bytes| serde_json::from_slice::<Value>(bytes)) else {
        return;
    };
    let mut codecs = BTreeMap::new();
    for entry in meta["codecs"].as_array_mut().into_iter().flatten() {
        let now = named(parts, entry).map(|codec| digest(&codec.seal()));
        codecs.insert(entry["digest"].as_u64(), now);
        entry["digest"] = now.into();
    }
    for entry in meta["shards"].as_array_mut().into_iter().flatten() {
        let codec = codecs.get(&entry["codec"].as_u64()).copied().flatten();
        entry["codec"] = codec.into();
        let Some(shard) = named(parts, entry) else { continue };
        if let (Some(own), Some(codec)) = (shard.section(b"META").and_then(|meta| meta.get_mut(32..40)), codec) {
            own.copy_from_slice(&codec.to_le_bytes());
        }
        entry["digest"] = digest(&shard.seal()).into();
    }
    if let (Some(bytes), Ok(json)) = (section(parts, MANIFEST), serde_json::to_vec(&meta)) {
        *bytes = json;
    }
}

fn section<'a>(parts: &'a mut Parts, name: &str) -> Option<&'a mut Vec<u8>> {
    parts.get_mut(name)?.section(b"META")
}

fn named<'a>(parts: &'a mut Parts, entry: &Value) -> Option<&'a mut Sealed> {
    parts.get_mut(entry["file"].as_str()?)
}
