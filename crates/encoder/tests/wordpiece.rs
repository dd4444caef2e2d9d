//! The tokenizer of the default model against a large set of real texts with their expected word pieces.
//!
//! The set is not in the repository: the test reads `$LATEWOOD_TEST_DATA/wordpiece-golden`, and says that it
//! is skipped where the variable is not set.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    id: String,
    text: String,
    tokens: Vec<String>,
}

#[test]
fn real_texts_have_the_expected_word_pieces() {
    let data = std::env::var_os("LATEWOOD_TEST_DATA").map(|data| PathBuf::from(data).join("wordpiece-golden"));
    let Some(folder) = data.filter(|folder| folder.exists()) else {
        eprintln!("SKIPPED: LATEWOOD_TEST_DATA does not name a folder that holds wordpiece-golden");
        return;
    };
    let vocabulary = std::fs::read_to_string(folder.join("bert-base-uncased-vocab.txt")).unwrap();
    let ids: HashMap<&str, u32> = vocabulary.lines().zip(0..).collect();
    let lines = zstd::decode_all(std::fs::File::open(folder.join("golden.jsonl.zst")).unwrap()).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini/tokenizer.json");
    let tokenizer = latewood_encoder::TextTokenizer::parse(&std::fs::read(tokenizer).unwrap()).unwrap();
    let mut texts = 0;
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).unwrap();
        let expected: Vec<u32> = line.tokens.iter().map(|token| ids[token.as_str()]).collect();
        let found = tokenizer.encode(&line.text, usize::MAX).unwrap().ids;
        assert_eq!(found[1..found.len() - 1], expected, "{}: {:?}", line.id, line.text);
        assert_eq!(tokenizer.count(&line.text), expected.len(), "{}", line.id);
        texts += 1;
    }
    assert!(texts > 10_000, "{texts} texts only");
}
