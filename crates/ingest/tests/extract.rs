//! Documents of every format, and what comes out of them.

#![cfg(feature = "extract")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use latewood_ingest::{
    Document, ExtractError, Extracted, Extractor, FileEntry, Format, InProcess, Kind, ReadOptions, SkipReason,
    hash_file, read_document,
};
use zip::write::SimpleFileOptions;

const ALL: [Format; 11] = [
    Format::Pdf,
    Format::Docx,
    Format::Pptx,
    Format::Xlsx,
    Format::Doc,
    Format::Ppt,
    Format::Xls,
    Format::Odt,
    Format::Odp,
    Format::Ods,
    Format::Epub,
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents")
}

fn bytes(format: Format) -> Vec<u8> {
    fs::read(folder().join(format!("almanac.{format}"))).unwrap()
}

fn extracted(format: Format) -> Extracted {
    InProcess.extract(format, &bytes(format)).unwrap()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn read(folder: &Path, name: &str, extractor: Option<Arc<dyn Extractor>>) -> Result<Document, SkipReason> {
    let entry = FileEntry { path: name.to_owned(), size: 1, modified_ns: 0 };
    let options = ReadOptions { extractor, ..ReadOptions::default() };
    let document = read_document(folder, &entry, &options, &words).map_err(|skipped| skipped.reason)?;
    assert_eq!(document.hash, hash_file(folder, &entry).unwrap());
    Ok(document)
}

/// An archive of these parts.
fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn refusal(format: Format, bytes: &[u8]) -> String {
    match InProcess.extract(format, bytes) {
        Err(ExtractError::Document(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_keep_headings_lists_and_tables() {
    for format in [Format::Docx, Format::Doc, Format::Odt] {
        let out = extracted(format);
        assert_eq!(out.title.as_deref(), Some("The Keeper's Almanac"), "{format}");
        assert!(out.pages.is_empty(), "{format}");
        for part in [
            "# Lamps\n\nThe lamp burns colza oil; a Fresnel lens",
            "\n## Cleaning\n\n",
            "Dust the prisms with a feather brush.\n",
            "\n| Month | Gallons | Remarks |\n| --- | --- | --- |\n| January | 62 | long nights |\n",
            "\n# Fog signals\n\nWhen fog hides the light",
            " Příliš žluťoučký kůň.\n",
        ] {
            assert!(out.text.contains(part), "{format}: {part:?} is not in {}", out.text);
        }
    }
    for format in [Format::Doc, Format::Odt] {
        assert!(extracted(format).text.contains("\n- Dust the prisms with a feather brush.\n- Polish"), "{format}");
    }
}

#[test]
fn pages_slides_and_sheets_are_counted() {
    let starts: [(Format, &[&str]); 6] = [
        (Format::Pdf, &["# Lamps", "# Fog signals"]),
        (Format::Pptx, &["# Lamps", "# Cleaning", "# Fog signals"]),
        (Format::Ppt, &["# Lamps", "# Cleaning", "# Fog signals"]),
        (Format::Odp, &["# Lamps", "# Cleaning", "# Fog signals"]),
        (Format::Xlsx, &["# Oil\n\n| Month", "# Signals\n\n| Station"]),
        (Format::Ods, &["# Oil\n\n| Month", "# Signals\n\n| Station"]),
    ];
    for (format, starts) in starts {
        let out = extracted(format);
        assert_eq!(out.pages.len(), starts.len(), "{format}: {}", out.text);
        for (at, start) in out.pages.iter().zip(starts) {
            assert!(out.text[*at..].starts_with(start), "{format}: {start:?} in {}", out.text);
        }
    }
    assert!(extracted(Format::Pptx).text.contains("Show the lens."), "what the speaker says");
}

#[test]
fn books_are_read_by_their_spine_as_pages_are() {
    let out = extracted(Format::Epub);
    assert_eq!(out.title.as_deref(), Some("The Keeper's Almanac"));
    assert!(out.text.starts_with("# Lamps\n\nThe lamp burns"), "{}", out.text);
    assert!(out.text.contains("\n# Fog signals\n\nWhen fog") && !out.text.contains("menu"), "{}", out.text);
}

#[test]
fn passages_are_of_the_text_and_know_their_page() {
    let extractor: Arc<dyn Extractor> = Arc::new(InProcess);
    for format in ALL {
        let document = read(&folder(), &format!("almanac.{format}"), Some(extractor.clone())).unwrap();
        assert_eq!((document.kind, document.text_offset), (Kind::Extracted(format), None));
        assert_eq!(document.kind.to_string(), format.to_string());
        assert_eq!(document.title.as_deref(), Some("The Keeper's Almanac"), "{format}");
        for passage in &document.passages {
            assert_eq!(passage.text, document.text[passage.span.clone()], "{format}");
            let line = document.text[..passage.span.start].matches('\n').count() as u32 + 1;
            assert_eq!(*passage.lines.start(), line, "{format}");
        }
        let last = document.passages.last().unwrap();
        let page = match format {
            Format::Pdf | Format::Xlsx | Format::Xls | Format::Ods => Some(2),
            Format::Pptx | Format::Ppt | Format::Odp => Some(3),
            _ => None,
        };
        assert_eq!(last.page, page, "{format}");
        assert!(last.text.contains("two blasts every ninety seconds"), "{format}");
    }
}

#[test]
fn without_an_extractor_documents_are_skipped() {
    let reason = read(&folder(), "almanac.pdf", None).unwrap_err();
    assert_eq!(reason.to_string(), "not supported without an extractor: PDF");
}

#[test]
fn what_is_no_document_is_refused_with_a_cause() {
    for format in ALL {
        for bytes in
            [&b""[..], b"no document at all", b"%PDF-1.7\n%%EOF", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"]
        {
            match InProcess.extract(format, bytes) {
                Err(ExtractError::Document(cause)) => assert!(!cause.is_empty()),
                Ok(out) => assert_eq!(out.text, "", "{format}"),
                other => panic!("{format}: {other:?}"),
            }
        }
        // Cut off anywhere, a document gives what it has or says what is wrong.
        let whole = bytes(format);
        for part in 1..8 {
            let _ = InProcess.extract(format, &whole[..whole.len() * part / 8]);
        }
    }
    let reason = SkipReason::NotExtracted { format: Format::Pdf, cause: "it is damaged".into() };
    assert_eq!(reason.to_string(), "cannot be read as pdf: it is damaged");
}

#[test]
fn depth_and_entities_have_limits() {
    let deep = "<a>".repeat(100_000);
    let cause = refusal(Format::Docx, &archive(&[("word/document.xml", deep.as_bytes())]));
    assert_eq!(cause, "word/document.xml: elements nested more than 256 deep");
    assert!(refusal(Format::Odt, &archive(&[("content.xml", deep.as_bytes())])).contains("256 deep"));

    let laughs = "<!DOCTYPE l [<!ENTITY a \"haha\"><!ENTITY b \"&a;&a;\">]><text:p>x&b;y</text:p>";
    let out = InProcess.extract(Format::Odt, &archive(&[("content.xml", laughs.as_bytes())])).unwrap();
    assert_eq!(out.text, "xy\n");

    // A sheet that says it is full of one cell.
    let wide = "<office:spreadsheet><table:table table:name='s'><table:table-row \
        table:number-rows-repeated='1048576'><table:table-cell table:number-columns-repeated='16384'><text:p>x</text:p>\
        </table:table-cell></table:table-row></table:table></office:spreadsheet>";
    let out = InProcess.extract(Format::Ods, &archive(&[("content.xml", wide.as_bytes())])).unwrap();
    assert!(out.text.len() < 20_000, "{}", out.text.len());
}

#[test]
fn what_readers_do_not_see_is_left_out() {
    let content = "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>\
        <text:table-of-content><text:p>contents</text:p></text:table-of-content>\
        <text:p>Fog<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>A note.</text:p>\
        </text:note-body></text:note> horn<office:annotation><text:p>remark</text:p></office:annotation><text:s/>blows.\
        </text:p></office:text>";
    let out = InProcess.extract(Format::Odt, &archive(&[("content.xml", content.as_bytes())])).unwrap();
    assert_eq!(out.text, "Fog horn blows.\n\nA note.\n");
}

#[cfg(unix)]
#[test]
fn what_kills_a_worker_is_named() {
    use std::process::Command;

    use latewood_ingest::ChildProcess;

    let cause = |program: &'static str, script: &'static str| {
        let worker = ChildProcess::new(move || {
            let mut command = Command::new(program);
            command.args(["-c", script]);
            Ok(command)
        });
        // Twice: a worker that died is replaced.
        let first = worker.extract(Format::Pdf, b"%PDF").unwrap_err();
        assert_eq!(worker.extract(Format::Pdf, b"%PDF").unwrap_err(), first);
        first
    };
    let document = |cause: &str| ExtractError::Document(cause.to_owned());
    assert_eq!(cause("sh", "echo late >&2; exit 124"), document("late"));
    let alloc = "echo memory allocation of 5 bytes failed >&2; kill -ABRT $$";
    assert_eq!(cause("sh", alloc), document("its parser ran out of the memory it may have"));
    let stack = "echo thread main has overflowed its stack >&2; kill -ABRT $$";
    assert_eq!(cause("sh", stack), document("it is nested too deeply for its parser"));
    assert_eq!(cause("sh", "exit 3"), document("its parser crashed (exit status: 3)"));
    // Nonsense, and no end of it.
    assert!(matches!(cause("sh", "exec yes"), ExtractError::Document(_)));
    assert!(matches!(cause("/no/such/program", ""), ExtractError::Extractor(_)));
}

#[cfg(unix)]
#[test]
fn a_worker_that_says_nothing_is_waited_for_and_no_longer() {
    use std::process::Command;
    use std::time::Duration;

    use latewood_ingest::ChildProcess;

    let worker = ChildProcess::new(|| {
        let mut command = Command::new("sleep");
        command.arg("600");
        Ok(command)
    });
    let worker = worker.with_patience(Duration::from_secs(1));
    // More than a pipe holds: it is not even read.
    let refused = worker.extract(Format::Pdf, &[b'%'; 1 << 20]).unwrap_err();
    assert_eq!(refused, ExtractError::Document("its parser gave no answer within 1 s".to_owned()));
}

#[test]
fn closed_documents_say_that_they_are() {
    let manifest = b"<manifest:manifest><manifest:encryption-data/></manifest:manifest>";
    let odt = archive(&[("META-INF/manifest.xml", manifest), ("content.xml", b"\x01\x02")]);
    assert_eq!(refusal(Format::Odt, &odt), "it is encrypted");
    let epub = archive(&[("META-INF/rights.xml", b"<rights/>")]);
    assert!(refusal(Format::Epub, &epub).contains("digital rights"));
}
