//! The default model against the reference: the same weights in PyTorch (`models/latewood-mini/reference.py`
//! wrote `golden/latewood-mini.json`).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::sync::LazyLock;

use latewood_encoder::{ColbertEncoder, Encoder, POOLED_TOKEN, Precision};
use serde::Deserialize;

/// Largest difference allowed between two values.
const TOLERANCE: f32 = 1e-4;

static ENCODER: LazyLock<ColbertEncoder> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
    ColbertEncoder::open(&dir, Precision::F32).unwrap()
});

static GOLDEN: LazyLock<Golden> =
    LazyLock::new(|| serde_json::from_str(include_str!("golden/latewood-mini.json")).unwrap());

#[derive(Deserialize)]
struct Golden {
    model: String,
    dim: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    role: String,
    text: String,
    /// Of the text, as the network sees it.
    token_ids: Vec<u32>,
    /// The token of each row, none for a pooled one.
    row_ids: Vec<Option<u32>>,
    /// Which rows `data` holds.
    stored_rows: Vec<usize>,
    /// Base64 of f32, little-endian.
    data: String,
}

impl Case {
    fn rows(&self) -> Vec<f32> {
        let digit = |c: u8| match c {
            b'A'..=b'Z' => u32::from(c - b'A'),
            b'a'..=b'z' => u32::from(c - b'a') + 26,
            b'0'..=b'9' => u32::from(c - b'0') + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{}: no base64", self.name),
        };
        let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0);
        for c in self.data.bytes().filter(|c| *c != b'=') {
            (bits, held) = (bits << 6 | digit(c), held + 6);
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

/// What either role gives: rows, the token of each, tokens of the text, whether it was cut.
type Encoded = (Vec<f32>, Vec<u32>, usize, bool);

fn encode(role: &str, texts: &[&str]) -> Vec<Encoded> {
    match role {
        "query" => {
            let encoded = ENCODER.encode_queries(texts).unwrap().into_iter();
            encoded.map(|e| (e.embeddings.values().to_vec(), e.token_ids, e.tokens, e.truncated)).collect()
        }
        "document" => {
            let encoded = ENCODER.encode_documents(texts).unwrap().into_iter();
            encoded.map(|e| (e.embeddings.into_values(), e.token_ids, e.tokens, e.truncated)).collect()
        }
        role => panic!("{role}?"),
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_text_encodes_as_in_the_reference() {
    assert_eq!((GOLDEN.model.as_str(), GOLDEN.dim), (ENCODER.model_id().name(), ENCODER.dim()));
    let mut largest = 0.0_f32;
    for case in &GOLDEN.cases {
        let (values, ids, tokens, truncated) = encode(&case.role, &[&case.text]).remove(0);
        let expected: Vec<u32> = case.row_ids.iter().map(|id| id.unwrap_or(POOLED_TOKEN)).collect();
        assert_eq!(ids, expected, "{}", case.name);
        assert!(tokens == case.token_ids.len() || truncated && tokens > case.token_ids.len(), "{}", case.name);
        let rows: Vec<&[f32]> = values.chunks_exact(GOLDEN.dim).collect();
        let stored: Vec<f32> = case.stored_rows.iter().flat_map(|&row| rows[row]).copied().collect();
        let difference = largest_difference(&stored, &case.rows());
        assert!(difference <= TOLERANCE, "{}: {difference}", case.name);
        largest = largest.max(difference);
    }
    assert!(largest > 0.0, "two ways of computing that agree to the last bit were not two");
}

/// Cosines of rows in bytes with the reference's; ONNX Runtime's dynamic quantisation of a like network leaves .918.
#[test]
fn bytes_leave_rows_where_they_are() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini");
    let encoder = ColbertEncoder::from_dir(&dir).unwrap();
    let (mut least, mut sum, mut rows) = (1.0_f32, 0.0, 0);
    for case in GOLDEN.cases.iter().filter(|case| case.role == "document") {
        let found = encoder.encode_documents(&[&case.text]).unwrap().remove(0).embeddings.into_values();
        let found = case.stored_rows.iter().map(|&row| &found[row * GOLDEN.dim..][..GOLDEN.dim]);
        for (row, expected) in found.zip(case.rows().chunks_exact(GOLDEN.dim)) {
            let cosine: f32 = row.iter().zip(expected).map(|(a, b)| a * b).sum();
            (least, sum, rows) = (least.min(cosine), sum + cosine, rows + 1);
        }
    }
    assert!(rows > 100 && least > 0.98 && sum / (rows as f32) > 0.997, "{rows} rows: {least}, {}", sum / rows as f32);
    assert!(sum / (rows as f32) < 0.9999, "nothing was quantised");
}

#[test]
fn a_text_encodes_the_same_alone_and_in_a_batch() {
    for role in ["query", "document"] {
        let texts: Vec<&str> = GOLDEN.cases.iter().map(|case| case.text.as_str()).collect();
        let together = encode(role, &texts);
        for (text, (values, ids, ..)) in texts.iter().zip(together) {
            let (alone, alone_ids, ..) = encode(role, &[text]).remove(0);
            assert_eq!(ids, alone_ids);
            // Pooled rows of a query have norms up to a quarter of its length.
            let scale = alone.iter().fold(1.0, |a: f32, b| a.max(b.abs()));
            let difference = largest_difference(&values, &alone);
            assert!(difference <= 1e-5 * scale, "{role} {text:?}: {difference}");
        }
    }
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let words = "ring ".repeat(700);
    let document = ENCODER.encode_documents(&[&words]).unwrap().remove(0);
    assert_eq!((document.tokens, document.truncated), (702, true));
    assert_eq!(ENCODER.count_tokens(&words), 700);
    let fits = "ring ".repeat(ENCODER.max_document_tokens() - 2);
    let document = ENCODER.encode_documents(&[&fits]).unwrap().remove(0);
    assert_eq!((document.tokens, document.truncated), (ENCODER.max_document_tokens(), false));
    assert!(ENCODER.encode_documents(&[]).unwrap().is_empty());
}

#[cfg(feature = "embedded")]
#[test]
fn the_embedded_model_is_the_one_in_the_repository() {
    assert_eq!(ColbertEncoder::embedded().unwrap().model_id(), ENCODER.model_id());
}
