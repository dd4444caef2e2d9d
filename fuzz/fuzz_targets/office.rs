//! Files of Microsoft Office of any content, the new ones with their XML altered, the old ones with their bytes.

#![no_main]

mod documents;
#[allow(dead_code, reason = "shared with other targets")]
mod patch;

use std::sync::LazyLock;

use documents::{Parts, parts};
use latewood_ingest::Format;
use libfuzzer_sys::fuzz_target;
use patch::Input;

macro_rules! almanac {
    ($format:literal) => {
        include_bytes!(concat!("../../crates/ingest/tests/documents/almanac.", $format))
    };
}

static NEW: LazyLock<[(Format, Parts); 3]> = LazyLock::new(|| {
    [
        (Format::Docx, parts(almanac!("docx"))),
        (Format::Pptx, parts(almanac!("pptx"))),
        (Format::Xlsx, parts(almanac!("xlsx"))),
    ]
});

const OLD: [(Format, &[u8]); 3] =
    [(Format::Doc, almanac!("doc")), (Format::Ppt, almanac!("ppt")), (Format::Xls, almanac!("xls"))];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let which = usize::from(input.byte()) % 6;
    let (format, bytes) = match which.checked_sub(3) {
        None => (NEW[which].0, documents::altered_parts(&NEW[which].1, &mut input)),
        Some(which) => (OLD[which].0, documents::altered(OLD[which].1, &mut input)),
    };
    documents::extract(format, &bytes, false);
});
