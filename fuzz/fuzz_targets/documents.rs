//! What a fuzzer does to sound documents, and what has to hold of what comes out.

use std::io::{Cursor, Read, Write};
use std::sync::Once;

use latewood_ingest::{ExtractError, Extractor, Format, InProcess};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::patch::Input;

/// The parts of a sound archive.
pub(crate) type Parts = Vec<(String, Vec<u8>)>;

/// Takes the text out. A panic of another's parser costs one document, and so is none of ours; one that is ours ends the
/// fuzzing, as does what costs more than a document: too much time or memory, a stack that overflows.
pub(crate) fn extract(format: Format, bytes: &[u8], parser_is_ours: bool) {
    static QUIET: Once = Once::new();
    if !parser_is_ours {
        QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    }
    match InProcess.extract(format, bytes) {
        Ok(out) => {
            let mut last = 0;
            for &page in &out.pages {
                let sound = last <= page && out.text.is_char_boundary(page);
                // A hook that says nothing would hide a panic.
                if !sound {
                    std::process::abort();
                }
                last = page;
            }
        }
        Err(ExtractError::Document(cause)) if !cause.is_empty() => {}
        Err(_) => std::process::abort(),
    }
}

/// Alters the document as it lies on the disk.
#[allow(dead_code, reason = "not all formats are files of their own making")]
pub(crate) fn altered(sound: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = sound.to_vec();
    while !input.is_empty() {
        input.patch(&mut bytes);
    }
    bytes
}

/// Alters the parts of an archive that hold text, or now and then the archive.
#[allow(dead_code, reason = "not all formats are archives")]
pub(crate) fn altered_parts(sound: &Parts, input: &mut Input<'_>) -> Vec<u8> {
    let on_disk = input.byte() == 0;
    let mut parts = sound.clone();
    while !on_disk && !input.is_empty() {
        let at = usize::from(input.byte()) % parts.len();
        input.patch(&mut parts[at].1);
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in &parts {
        zip.start_file(name.as_str(), stored).expect("memory takes all");
        zip.write_all(bytes).expect("memory takes all");
    }
    let bytes = zip.finish().expect("memory takes all").into_inner();
    if on_disk { altered(&bytes, input) } else { bytes }
}

/// The parts of `archive` that hold text.
#[allow(dead_code, reason = "not all formats are archives")]
pub(crate) fn parts(archive: &[u8]) -> Parts {
    let mut zip = ZipArchive::new(Cursor::new(archive)).expect("it is sound");
    let mut parts = Parts::new();
    for at in 0..zip.len() {
        let mut part = zip.by_index(at).expect("it is sound");
        let name = part.name().expect("it is sound").into_owned();
        let is_text = [".xml", ".rels", ".opf", ".xhtml", "mimetype"].iter().any(|end| name.ends_with(end));
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).expect("it is sound");
        if is_text {
            parts.push((name, bytes));
        }
    }
    parts
}
