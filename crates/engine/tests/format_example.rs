//! index-format-example.md shows an index byte by byte: here that index is built and compared with the document.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/sealed.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod sealed;
#[path = "common/small.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod small;

use latewood_engine::{CpuBackend, DocId, Index, IndexOptions, RamDirectory, TokenEmbeddings};
use latewood_simd::{Isa, Kernels};
use sealed::{Files, Sealed};

const DOCUMENT: &str = include_str!("../../../index-format-example.md");
const DIM: usize = 8;

/// The cells of the document's tables that have so many columns, without their heads.
fn rows(columns: usize) -> impl Iterator<Item = Vec<&'static str>> {
    let cells = |line: &'static str| line.strip_prefix("| ")?.strip_suffix(" |").map(|row| row.split(" | ").collect());
    let rows = DOCUMENT.lines().filter_map(cells);
    rows.filter(move |row: &Vec<&str>| row.len() == columns && row[0].parse::<u64>().is_ok())
}

/// The tokens that the document lists, document by document.
fn input() -> Vec<(DocId, Vec<f32>)> {
    let mut docs: Vec<(DocId, Vec<f32>)> = Vec::new();
    for row in rows(3) {
        let doc = DocId(row[0].parse().unwrap());
        if docs.last().is_none_or(|(last, _)| *last != doc) {
            docs.push((doc, Vec::new()));
        }
        docs.last_mut().unwrap().1.extend(row[2].split(' ').map(|x| x.parse::<f32>().unwrap()));
    }
    docs
}

/// The index, made with scalar kernels: those of an instruction set may round a rotated row otherwise.
fn build() -> Files {
    let index = Index::create(RamDirectory::new(), IndexOptions::new(DIM).bits(2).fine(true)).unwrap();
    let index = index.with_backend(CpuBackend::with_kernels(Kernels::for_isa(Isa::Scalar).unwrap()));
    let mut writer = index.writer().unwrap();
    for (doc, rows) in input() {
        writer.add(doc, TokenEmbeddings::new(rows, DIM).unwrap().view()).unwrap();
    }
    writer.commit(Some(b"example"), &()).unwrap();
    assert!(writer.delete(DocId(9)));
    writer.commit(None, &()).unwrap();
    small::files(index.directory()).unwrap()
}

/// The files that the document shows.
fn shown() -> Files {
    let mut files = Files::new();
    let mut file: Option<&mut Vec<u8>> = None;
    for line in DOCUMENT.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            file = heading.strip_prefix('`').map(|name| files.entry(name.trim_end_matches('`').into()).or_default());
        }
        if let (Some(file), Some([offset, bytes, _])) = (&mut file, row_of(line)) {
            assert_eq!(usize::from_str_radix(offset, 16), Ok(file.len()), "offset of {line:?}");
            file.extend(bytes_of(bytes));
        }
    }
    files
}

/// Offset, bytes and meaning, where a line shows bytes.
fn row_of(line: &str) -> Option<[&str; 3]> {
    let (offset, rest) = line.split_once(" | ").filter(|(offset, _)| offset.len() == 4)?;
    let (bytes, meaning) = rest.rsplit_once(" | ")?;
    Some([offset, bytes.trim_end(), meaning])
}

/// Bytes as the document writes them: a text, zeros, or hexadecimal.
fn bytes_of(shown: &str) -> Vec<u8> {
    if let Some(text) = text_of(shown) {
        return text.into();
    }
    if let Some(zeros) = shown.strip_prefix("00 x ") {
        return vec![0; zeros.parse().unwrap()];
    }
    shown.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn text_of(shown: &str) -> Option<&str> {
    shown.strip_prefix('\'')?.strip_suffix('\'')
}

#[test]
fn every_byte_is_as_the_document_shows_it() {
    let (built, shown) = (build(), shown());
    assert!(built.keys().eq(shown.keys()), "{:?}", shown.keys());
    for (name, file) in &built {
        let shown = &shown[name];
        let differs = file.iter().zip(shown).position(|(a, b)| a != b);
        assert!(differs.is_none(), "{name}: the file and the document differ at {:#06x}", differs.unwrap());
        assert_eq!(file.len(), shown.len(), "bytes of {name}");
    }
}

/// The document's last table, by the specification's formula from the bytes that it shows.
#[test]
fn a_token_is_decoded_as_the_document_says() {
    const TOKEN: usize = 1;
    let files = shown();
    let (mut codec, mut shard) = (Sealed::open(&files["codec-000001.lwc"]), Sealed::open(&files["shard-000002.lws"]));
    let f32s = |bytes: &[u8]| -> Vec<f64> {
        bytes.chunks_exact(4).map(|x| f64::from(f32::from_le_bytes([x[0], x[1], x[2], x[3]]))).collect()
    };
    let mut of_codec = |tag| codec.section(tag).unwrap().clone();
    let (levels, steps, centroids) = (of_codec(b"LEVL"), of_codec(b"FSTP"), of_codec(b"CENT"));
    let (rotation, scales, worth) = (f32s(&of_codec(b"ROTA")), f32s(&of_codec(b"SCAL")), f32s(&of_codec(b"CSCA")));
    let fine_unit = f32s(&of_codec(b"META")[16..20])[0];
    let mut of_shard = |tag, size: usize| shard.section(tag).unwrap()[TOKEN * size..][..size].to_vec();
    let centroid = usize::from(of_shard(b"CIDS", 2)[0]);
    let factors = of_shard(b"FACT", 2);
    let scale = scales[usize::from(factors[1] >> 2)];
    let (codes, fine_codes) = (of_shard(b"RESI", 2), of_shard(b"FINE", 4));

    let parts: Vec<[i32; 5]> = (0..DIM)
        .map(|d| {
            let code = usize::from(codes[d % 2] >> (d / 2 * 2) & 3);
            let fine = fine_codes[d % 4] >> (d / 4 * 4) & 15;
            let of_centroid = i32::from(centroids[centroid * DIM + d]) - 64;
            [of_centroid, code as i32, i32::from(levels[code] as i8), fine.into(), steps[code].into()]
        })
        .collect();
    let value = |[of_centroid, _, level, fine, step]: [i32; 5]| {
        let level = f64::from(level) + (f64::from(fine) - 7.5) * f64::from(step) * fine_unit;
        worth[centroid] * f64::from(of_centroid) + scale * level
    };
    let values: Vec<f64> = parts.iter().map(|&parts| value(parts)).collect();
    let decoded: Vec<Vec<String>> = (0..DIM)
        .map(|d| {
            let back: f64 = (0..DIM).map(|i| values[i] * rotation[i * DIM + d]).sum();
            let numbers = [d as i32].into_iter().chain(parts[d]).map(|x| x.to_string());
            numbers.chain([values[d], back].map(|x| format!("{x:.4}"))).collect()
        })
        .collect();
    assert_eq!(decoded, rows(8).collect::<Vec<_>>());
}

/// For a new version of the format: puts the bytes of today in the place of the old ones, row by row. What is said of them,
/// and rows for what is new, are for a person to write.
#[test]
#[ignore = "rewrites index-format-example.md"]
fn rewrite() {
    let files = build();
    let (mut out, mut file, mut at) = (String::new(), &Vec::new(), 0);
    let mut lines = DOCUMENT.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ") {
            (file, at) = (files.get(heading.trim_matches('`')).unwrap_or(file), 0);
        }
        let Some([_, shown, meaning]) = row_of(line) else {
            out.push_str(&format!("{line}\n"));
            continue;
        };
        let left = String::from_utf8_lossy(&file[at..]);
        let len = match lines.peek().and_then(|next| text_of(row_of(next)?[1])?.split_once(':')) {
            // Numbers in a text may be longer or shorter: it goes on to what the next row begins with.
            Some((next, _)) if text_of(shown).is_some() => left.find(next).unwrap(),
            _ if text_of(shown).is_some() => left.find('\0').unwrap(),
            _ if meaning == "padding" => at.next_multiple_of(64) - at,
            _ => bytes_of(shown).len(),
        };
        let bytes = &file[at..at + len];
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let shown = match text_of(shown) {
            Some(_) => format!("'{}'", &left[..len]),
            None if len > 16 => format!("00 x {len}"),
            None => hex(),
        };
        out.push_str(&format!("{at:04x} | {shown:<47} | {meaning}\n"));
        at += len;
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../../index-format-example.md"), out).unwrap();
}
