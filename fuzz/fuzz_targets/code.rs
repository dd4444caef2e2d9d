//! Source code of any content in every language that there is a grammar for: parsers of others, in C.

#![no_main]

use latewood_ingest::{Kind, PassageOptions, split_text};
use libfuzzer_sys::fuzz_target;

const LANGUAGES: [&str; 12] = [
    "rust",
    "python",
    "javascript",
    "typescript",
    "go",
    "java",
    "c",
    "cpp",
    "csharp",
    "ruby",
    "php",
    "shell",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    let options =
        PassageOptions { max_tokens: 4 + usize::from(first >> 4) * 10, min_tokens: 4, overlap_tokens: 2 };
    let words = |text: &str| text.split_whitespace().count();
    let kind = Kind::Code(LANGUAGES[usize::from(*first) % LANGUAGES.len()]);
    let mut covered = 0;
    for passage in split_text(kind, &text, &options, &words).passages {
        assert_eq!(passage.text, text[passage.span.clone()]);
        assert!(words(&passage.text) <= options.max_tokens);
        if covered < passage.span.start {
            assert!(text[covered..passage.span.start].trim().is_empty());
        }
        covered = covered.max(passage.span.end);
    }
    // Of a run of thousands of characters only the beginning is kept.
    assert!(text[covered..].trim().is_empty() || text[covered..].len() > 2048 - 512);
});
