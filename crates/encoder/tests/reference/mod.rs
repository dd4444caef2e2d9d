//! The values that the reference implementations give for each kind of checkpoint: `golden/README.md` says how they were
//! made.

use std::path::{Path, PathBuf};

use latewood_encoder::{ColbertEncoder, RawRows, Side};
use serde::Deserialize;

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

pub(crate) fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
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

/// The largest difference from the reference over all cases of a variant; an error if it is over `tolerance`.
pub(crate) fn compare(variant: &str, encoder: &ColbertEncoder, tolerance: f32) -> Result<f32, String> {
    let text = std::fs::read_to_string(golden().join("golden").join(format!("{variant}.json"))).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let pooled = variant.contains("pooling");
    let mut largest = 0.0_f32;
    for case in &golden.cases {
        let found = encoder.encode_raw(case.side(), &[&case.text]).map_err(|e| e.to_string())?.remove(0);
        match difference(case, &found, golden.dim, pooled) {
            Ok(difference) if difference <= tolerance => largest = largest.max(difference),
            Ok(difference) => return Err(format!("{} {}: {difference} apart", case.role, case.name)),
            Err(why) => return Err(format!("{} {}: {why}", case.role, case.name)),
        }
    }
    Ok(largest)
}
