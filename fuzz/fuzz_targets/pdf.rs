//! PDF of any content.

#![no_main]

mod documents;
#[allow(dead_code, reason = "shared with other targets")]
mod patch;

use latewood_ingest::Format;
use libfuzzer_sys::fuzz_target;
use patch::Input;

/// What ReportLab writes has its pages compressed; this has its content in the open.
const OPEN: &[u8] = b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n\
3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>\nendobj\n\
4 0 obj\n<</Length 78>>stream\nBT /F 12 Tf 50 700 Td (The heron) Tj 0 -14 Td [(st) -20 (ands) 300 (here)] TJ ET \nendstream\nendobj\n\
5 0 obj\n<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>\nendobj\ntrailer<</Size 6/Root 1 0 R>>\n%%EOF\n";
const SOUND: &[u8] = include_bytes!("../../crates/ingest/tests/documents/almanac.pdf");

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let sound = if input.byte() < 128 { OPEN } else { SOUND };
    documents::extract(Format::Pdf, &documents::altered(sound, &mut input), false);
});
