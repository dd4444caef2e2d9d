//! Every kind of checkpoint against its reference implementation: `golden/README.md` says how the values were made.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};

use latewood_encoder::{ColbertEncoder, Precision, RawRows, Side};
use serde::Deserialize;

/// Largest difference allowed between two values.
const TOLERANCE: f32 = 1e-4;

/// Variants that are refused so far, and what the refusal says.
const NOT_YET: &[(&str, &str)] = &[];

#[derive(Deserialize)]
struct Golden {
    dim: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    role: String,
    text: String,
    ids: Vec<u32>,
    /// `1` for each of `ids` that is attended to.
    attention: String,
    rows: usize,
    data: String,
}

impl Case {
    fn values(&self) -> Vec<f32> {
        base64(&self.data).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn side(&self) -> Side {
        if self.role == "query" { Side::Query } else { Side::Document }
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no base64"),
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        (bits, held) = (bits << 6 | digit(c), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The names of all variants.
fn variants() -> Vec<String> {
    let models = std::fs::read_dir(golden().join("models")).unwrap();
    let mut names: Vec<String> = models.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn load(variant: &str) -> Result<ColbertEncoder, latewood_encoder::Error> {
    ColbertEncoder::open(&golden().join("models").join(variant), Precision::F32)
}

/// The largest difference between two lists of rows, or what keeps them from being compared. Pooled rows stand in an
/// order of their own: each is compared with the nearest that is left.
fn difference(case: &Case, found: &RawRows, dim: usize, pooled: bool) -> Result<f32, String> {
    let attention = "1".repeat(found.attended) + &"0".repeat(found.ids.len() - found.attended);
    if (&found.ids, &attention) != (&case.ids, &case.attention) {
        return Err(format!("ids {:?} {attention}, expected {:?} {}", found.ids, case.ids, case.attention));
    }
    if found.values.len() != case.rows * dim {
        return Err(format!("{} rows, expected {}", found.values.len() / dim, case.rows));
    }
    let expected = case.values();
    if let Some(value) = found.values.iter().find(|value| !value.is_finite()) {
        return Err(format!("a value is {value}"));
    }
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if !pooled {
        return Ok(distance(&found.values, &expected));
    }
    let mut left: Vec<&[f32]> = expected.chunks_exact(dim).collect();
    let mut largest = 0.0_f32;
    for row in found.values.chunks_exact(dim) {
        let near = (0..left.len()).min_by(|a, b| distance(row, left[*a]).total_cmp(&distance(row, left[*b]))).unwrap();
        largest = largest.max(distance(row, left.remove(near)));
    }
    Ok(largest)
}

/// The largest difference from the reference over all cases of a variant.
fn compare(variant: &str, encoder: &ColbertEncoder) -> Result<f32, String> {
    let text = std::fs::read_to_string(golden().join("golden").join(format!("{variant}.json"))).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let pooled = variant.contains("pooling");
    let mut largest = 0.0_f32;
    for case in &golden.cases {
        let found = encoder.encode_raw(case.side(), &[&case.text]).map_err(|e| e.to_string())?.remove(0);
        match difference(case, &found, golden.dim, pooled) {
            Ok(difference) if difference <= TOLERANCE => largest = largest.max(difference),
            Ok(difference) => return Err(format!("{} {}: {difference} apart", case.role, case.name)),
            Err(why) => return Err(format!("{} {}: {why}", case.role, case.name)),
        }
    }
    Ok(largest)
}

#[test]
fn every_variant_is_as_its_reference_or_refused_as_said() {
    let mut wrong = Vec::new();
    let mut largest = 0.0_f32;
    for variant in variants() {
        let expected = NOT_YET.iter().find(|(name, _)| *name == variant);
        match (expected, load(&variant)) {
            (Some((_, why)), Err(e)) if e.to_string().contains(why) => {}
            (Some(_), Ok(_)) => wrong.push(format!("{variant}: is in NOT_YET, but loads")),
            (_, Err(e)) => wrong.push(format!("{variant}: {e}")),
            (None, Ok(encoder)) => match compare(&variant, &encoder) {
                Ok(difference) => largest = largest.max(difference),
                Err(why) => wrong.push(format!("{variant}: {why}")),
            },
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(largest > 0.0, "two ways of computing that agree to the last bit were not two");
    assert!(NOT_YET.iter().all(|(name, _)| variants().iter().any(|variant| variant == name)));
}

/// One variant of each network, and of each way to fill queries up.
#[test]
fn a_text_encodes_the_same_alone_and_in_a_batch() {
    for variant in [
        "stanford-default",
        "stanford-jina",
        "pylate-distilbert",
        "pylate-roberta",
        "pylate-modernbert",
        "st-min",
        "st-xlmr",
    ] {
        let encoder = load(variant).unwrap();
        let texts = ["", "larch", "The ring of a tree tells the weather of its year.", "oak, ash", "<pad> elm [PAD]"];
        for side in [Side::Query, Side::Document] {
            for (text, together) in texts.iter().zip(encoder.encode_raw(side, &texts).unwrap()) {
                let alone = encoder.encode_raw(side, &[text]).unwrap().remove(0);
                assert_eq!((&together.ids, &together.token_ids), (&alone.ids, &alone.token_ids), "{variant}");
                let apart = together.values.iter().zip(&alone.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart <= 1e-5, "{variant} {text:?}: {apart}");
            }
        }
    }
}
