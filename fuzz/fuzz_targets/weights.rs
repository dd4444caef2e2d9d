//! Files of weights of any content: `model.safetensors` and `pytorch_model.bin`, parsed, and their tensors read.
//!
//! The parsers are compiled from their source: the encoder, which they belong to, would bring Burn, and minutes of
//! building, to a target that computes nothing.

#![no_main]

#[allow(dead_code, unexpected_cfgs, missing_docs, reason = "a part of the encoder")]
#[path = "../../crates/encoder/src/error.rs"]
mod error;
#[path = "patch.rs"]
mod patch;
#[allow(dead_code, unused_imports, reason = "a part of the encoder")]
#[path = "../../crates/encoder/src/weights/mod.rs"]
mod weights;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use patch::Input;
use weights::{WeightFile, Weights};

/// A state dict as torch.save writes it, from the encoder's golden models.
const PICKLED: &[u8] = include_bytes!("../../crates/encoder/tests/golden/models/stanford-bin/pytorch_model.bin");
/// Names of its tensors, and of those below.
const NAMES: [&str; 6] = [
    "a",
    "b",
    "linear.weight",
    "bert.embeddings.LayerNorm.bias",
    "bert.embeddings.word_embeddings.weight",
    "bert.encoder.layer.0.attention.self.query.weight",
];

/// The program in it, and the storages that it names.
static STATE_DICT: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| entries(PICKLED));

static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let header = br#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I8","shape":[2,2],"data_offsets":[12,16]},"b.scale":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}"#;
    safetensors(header, &[0x3c; 24])
});

fn safetensors(header: &[u8], values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, values].concat()
}

/// The entries of a sound archive, by its local headers.
fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let u16_at = |at: usize| usize::from(archive[at]) | usize::from(archive[at + 1]) << 8;
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let end = archive.windows(4).rposition(|w| w == b"PK\x05\x06").expect("an archive");
    let (mut at, mut found) = (u32_at(end + 16), Vec::new());
    for _ in 0..u16_at(end + 10) {
        let (size, name, header) = (u32_at(at + 24), u16_at(at + 28), u32_at(at + 42));
        let start = header + 30 + u16_at(header + 26) + u16_at(header + 28);
        let text = String::from_utf8(archive[at + 46..][..name].to_vec()).expect("a name");
        found.push((text, archive[start..][..size].to_vec()));
        at += 46 + name + u16_at(at + 30) + u16_at(at + 32);
    }
    found
}

/// An archive of these entries, whose checksums nobody reads.
fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    let bytes = |n: usize| (n as u32).to_le_bytes();
    for (name, data) in entries {
        let header = file.len();
        // Version, flags and method; time, date and checksum; sizes; lengths of name and extra field.
        let common = [&[0; 14][..], &bytes(data.len()), &bytes(data.len()), &bytes(name.len())].concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        let place = [&[0; 10][..], &bytes(header)].concat();
        directory.extend([b"PK\x01\x02\0\0", &common[..], &place, name.as_bytes()].concat());
    }
    let (start, count) = (bytes(file.len()), (entries.len() as u16).to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &bytes(directory.len()), &start, &[0; 2]].concat();
    [file, directory, end].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (name, mut file) = match input.byte() % 5 {
        0 => ("model.safetensors", SAFETENSORS.clone()),
        1 => ("model.safetensors", safetensors(input.take(usize::MAX), &[0; 24])),
        2 => ("pytorch_model.bin", PICKLED.to_vec()),
        // The program altered, or another one, in a sound archive.
        how => {
            let mut entries = STATE_DICT.clone();
            let program = entries.iter_mut().find(|(name, _)| name.ends_with("data.pkl")).expect("a program");
            match how {
                3 => (0..4).for_each(|_| input.patch(&mut program.1)),
                _ => program.1 = input.take(usize::MAX).to_vec(),
            }
            ("pytorch_model.bin", archive(&entries))
        }
    };
    while !input.is_empty() {
        input.patch(&mut file);
    }
    let files = [WeightFile { name: name.into(), bytes: file.into() }];
    let Ok(weights) = Weights::parse(&files) else { return };
    for name in NAMES {
        if let Some(shape) = weights.shape(name).map(<[usize]>::to_vec)
            && let Ok(stored) = weights.find(name, &shape)
            && !shape.contains(&0) // there may be 2^60 rows of nothing
        {
            let _ = stored.append_rows(0..shape.first().copied().unwrap_or(1), &mut Vec::new());
        }
    }
});
