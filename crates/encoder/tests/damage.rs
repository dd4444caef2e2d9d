//! Model folders with one file altered, from seeds: each loads or is refused, and nothing panics.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use latewood_encoder::{ColbertEncoder, Encoder};

/// Variants of every format, whose files differ.
const VARIANTS: [&str; 6] = [
    "pylate-dense-chain",
    "pylate-sharded",
    "st-min-attend",
    "st-pooling",
    "stanford-bin",
    "plain-sentence-transformers",
];
/// Alterations of each file.
const ROUNDS: usize = 25;
/// What numbers and words are replaced by.
const OTHERS: [&str; 12] =
    ["0", "1", "-1", "3", "4294967296", "18446744073709551615", "1e300", "null", "true", "\"\"", "[]", "{}"];

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    /// Another value in the place of one, or a few bytes of another kind.
    fn alter(&mut self, json: bool, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.below(bytes.len());
        let values: Vec<usize> = (0..bytes.len().min(8192)).filter(|i| bytes[*i] == b':').collect();
        if json && !values.is_empty() && self.below(3) > 0 {
            let start = values[self.below(values.len())] + 1;
            let end = bytes[start..].iter().position(|b| b",}\n".contains(b)).map_or(bytes.len(), |len| start + len);
            let other = OTHERS[self.below(OTHERS.len())];
            bytes.splice(start..end, other.bytes());
            return;
        }
        match self.below(4) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..bytes.len().min(at + 9))),
            _ => bytes[at] = self.below(256) as u8,
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn altered_models_are_refused_or_compute() {
    let (mut random, mut loaded, mut refused) = (Random(7), 0, 0);
    for variant in VARIANTS {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(variant);
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<PathBuf> = files(&golden).iter().map(|f| f.strip_prefix(&golden).unwrap().into()).collect();
        for name in &names {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::copy(golden.join(name), dir.path().join(name)).unwrap();
        }
        for (name, round) in names.iter().flat_map(|name| (0..ROUNDS).map(move |round| (name, round))) {
            let sound = fs::read(golden.join(name)).unwrap();
            let mut altered = sound.clone();
            let json = name.extension().is_some_and(|e| e == "json") || name.ends_with("artifact.metadata");
            (0..=random.below(2)).for_each(|_| random.alter(json, &mut altered));
            fs::write(dir.path().join(name), &altered).unwrap();
            match ColbertEncoder::from_dir(dir.path()) {
                Ok(encoder) => {
                    loaded += 1;
                    // Values that are no numbers, or rows of zeros, are errors too.
                    let _ = encoder.encode_queries(&["what is latewood"]);
                    let _ = encoder.encode_documents(&["the denser part of a growth ring", ""]);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty(), "{variant}, {}, {round}", name.display());
                }
            }
            fs::write(dir.path().join(name), sound).unwrap();
        }
    }
    assert!(loaded > 100 && refused > 100, "{loaded} loaded, {refused} refused");
}
