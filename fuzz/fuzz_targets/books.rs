//! OpenDocument and EPUB of any content: the formats that we read ourselves.

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
        parts(include_bytes!(concat!("../../crates/ingest/tests/documents/almanac.", $format)))
    };
}

static SOUND: LazyLock<[(Format, Parts); 4]> = LazyLock::new(|| {
    [
        (Format::Odt, almanac!("odt")),
        (Format::Odp, almanac!("odp")),
        (Format::Ods, almanac!("ods")),
        (Format::Epub, almanac!("epub")),
    ]
});

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (format, parts) = &SOUND[usize::from(input.byte()) % SOUND.len()];
    documents::extract(*format, &documents::altered_parts(parts, &mut input), true);
});
