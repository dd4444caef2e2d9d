//! A folder of arrays of which one is not as it should be: documents and queries are read.

#![no_main]

#[path = "patch.rs"]
mod patch;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use latewood_arrays::{Documents, read_queries};
use libfuzzer_sys::fuzz_target;
use patch::Input;
use tempfile::TempDir;

/// Each file of a sound folder.
static SOUND: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    vec![
        ("vectors.npy", array("<f2", "3, 8", &[0x3c; 48])),
        ("doclens.npy", array("<i4", "2,", &[1, 0, 0, 0, 2, 0, 0, 0])),
        ("token_ids.npy", array("<i8", "3,", &[0; 24])),
        ("queries.npy", array("<f4", "2, 2, 8", &[0x3f; 128])),
        ("qlens.npy", array("<i4", "2,", &[2, 0, 0, 0, 1, 0, 0, 0])),
    ]
});

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder");
    SOUND.iter().for_each(|(name, file)| fs::write(folder.path().join(name), file).expect("room for it"));
    folder
});

fn array(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    npy(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n").as_bytes(), values)
}

/// A file of this header and these values.
fn npy(header: &[u8], values: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header, values].concat()
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (name, sound) = &SOUND[input.below(SOUND.len())];
    let mut file = sound.clone();
    if input.byte() % 4 == 0 {
        file = npy(input.take(usize::MAX), b"");
    }
    while !input.is_empty() {
        input.patch(&mut file);
    }
    let folder = FOLDER.path();
    fs::write(folder.join(name), file).expect("room for it");
    if let Ok(mut documents) = Documents::open(folder).and_then(|documents| documents.with_token_ids(folder)) {
        while let Ok(Some(_)) = documents.next_document() {}
    }
    let _ = read_queries(folder);
    fs::write(folder.join(name), sound).expect("room for it");
});
