//! Catalogues of any content, their checksums right: opened, searched, verified, and changed by a writer.
//!
//! What a commit says of the index as a whole and of its parts is JSON; either is altered, packed and committed again.

#![no_main]

#[path = "patch.rs"]
mod patch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use latewood::encoder::{ColbertEncoder, Encoder, Precision};
use latewood::engine::{Index, IndexOptions, MmapDirectory, QueryEmbeddings};
use latewood::ingest::PassageOptions;
use latewood::{Location, Mode, NewDocument, Reader, SearchOptions, TextIndex};
use libfuzzer_sys::fuzz_target;
use patch::Input;
use serde_json::{Value, json};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

/// A part of the catalogue that no commit has written.
const PART: u32 = 99;

static ENCODER: LazyLock<Arc<dyn Encoder>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/latewood-mini");
    Arc::new(ColbertEncoder::open(&folder, Precision::Int8).expect("the embedded model"))
});

/// The files of a sound index, by name.
static SOUND: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let dir = folder();
    let index = TextIndex::create(dir.path(), ENCODER.clone(), IndexOptions::new(ENCODER.dim())).expect("an index");
    let mut writer = index.writer(PassageOptions::default()).expect("a writer");
    for (id, text) in
        [("bees", "Bees dance."), ("kiln", "# Kiln\n\nIt is hot.\n\n# Glaze\n\nIt melts."), ("oak", "Oak.")]
    {
        writer.put(NewDocument::text(id, text), &()).expect("a document");
    }
    writer.commit(&()).expect("a commit");
    files(dir.path(), Path::new(""))
});

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder")
}

fn files(dir: &Path, under: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir.join(under)).expect("a folder").flatten() {
        let name = under.join(entry.file_name());
        match entry.path().is_dir() {
            true => all.extend(files(dir, &name)),
            false => all.push((name, fs::read(entry.path()).expect("a file"))),
        }
    }
    all
}

/// The sound index again.
fn restore(dir: &Path) {
    for (name, _) in files(dir, Path::new("")) {
        if !SOUND.iter().any(|(sound, _)| *sound == name) {
            let _ = fs::remove_file(dir.join(name));
        }
    }
    for (name, bytes) in &*SOUND {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir)).expect("a folder");
        fs::write(path, bytes).expect("room for it");
    }
}

/// The catalogue of the sound index: what the commit says, and its one part.
fn catalogue(dir: &Path) -> (Value, Vec<u8>) {
    let index = Index::open(MmapDirectory::open(dir).expect("a folder")).expect("an index");
    let payload = index.writer().expect("a writer").payload().to_vec();
    let whole: Value = serde_json::from_slice(&unpacked(&payload)).expect("a catalogue");
    let block = &whole["parts"][0]["block"];
    let number = |name: &str| block[name].as_u64().expect("a number") as usize;
    let file = fs::read(dir.join(format!("catalog-{:06}.lwr", number("blob")))).expect("a file");
    (whole.clone(), unpacked(&file[number("start")..][..number("len")]))
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(bytes).expect("what was packed")
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("it packs")
}

fn patched(mut text: Vec<u8>, mut input: Input<'_>) -> Vec<u8> {
    while !input.is_empty() {
        input.patch(&mut text);
    }
    text
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.byte();
    let dir = FOLDER.path();
    restore(dir);
    let (mut whole, part) = catalogue(dir);
    let payload = if how & 1 == 0 {
        patched(serde_json::to_vec(&whole).expect("JSON"), input)
    } else {
        let part = patched(part, input);
        let count = serde_json::from_slice::<Vec<Value>>(&part).map_or(3, |files| files.len());
        let block = packed(&part);
        fs::write(dir.join(format!("catalog-{PART:06}.lwr")), &block).expect("room for it");
        whole["parts"] = json!([{ "files": count,
            "block": { "blob": PART, "start": 0, "len": block.len(), "hash": xxh3_64(&block) } }]);
        serde_json::to_vec(&whole).expect("JSON")
    };
    let index = Index::open(MmapDirectory::open(dir).expect("a folder")).expect("an index");
    let committed = index.writer().and_then(|mut writer| writer.commit(Some(&packed(&payload)), &()));
    committed.expect("any payload is kept");
    let location = Location { root: None, index: dir.into(), asked: None };
    let Ok(index) = TextIndex::open(location, ENCODER.clone()) else { return };
    if let Ok(reader) = index.reader() {
        read(&reader);
    }
    let _ = latewood::maintain::verify(dir, &());
    if how & 2 == 0 {
        let change = |id: &str| {
            let mut writer = index.writer(PassageOptions::default())?;
            writer.delete(id)?;
            writer.commit(&())
        };
        let _ = change("kiln");
        let _ = index.reader().map(|reader| read(&reader));
    }
});

/// Everything that is there.
fn read(reader: &Reader) {
    for file in &reader.catalog().files {
        let _ = file.modified();
        file.docs().take(9).for_each(|doc| drop(reader.passage(latewood::engine::DocId(doc))));
    }
    let row = QueryEmbeddings::new([1.0, 0.0, 0.0, 0.0].repeat(ENCODER.dim() / 4), ENCODER.dim()).expect("a row");
    let mut options = SearchOptions::new(5);
    for mode in [Mode::Hybrid, Mode::Keyword] {
        options.mode = mode;
        let _ = reader.search_encoded(std::slice::from_ref(&row), &["kiln"], &options);
    }
}
