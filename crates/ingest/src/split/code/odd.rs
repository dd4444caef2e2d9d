//! Files that are not as they should be, and whatever else may come.

use proptest::prelude::*;

use super::languages::LANGUAGES;
use super::tests::{outline, split};
use crate::Kind;
use crate::split::tests::check;
use crate::split::{PassageOptions, split_text};

#[test]
fn a_broken_file_keeps_what_can_be_read() {
    let text = "\
def first():
    return (1,

class Second:
    def third(self):
        return 3

def fourth(:
    pass
";
    let expected = ["def first(): | first", "class Second: | class Second", "def fourth(: | fourth"];
    assert_eq!(outline("python", text, 4), expected);
    // What is no source code at all is split by its layout.
    let text = "It was a dark, (stormy night.\n\nAnd \"everyone slept.\n".repeat(20);
    for language in LANGUAGES {
        let name = language.names;
        assert!(split(name, &text, 8).iter().all(|passage| passage.headings.is_empty()), "{name}");
    }
}

#[test]
fn odd_bytes_and_line_ends_are_no_reason_to_give_up() {
    let text = "// One.\n\nfn a() {\n\tx();\n\ty();\n}\n\nfn b() {\n\tz();\n}\n";
    let expected = ["// One. | ", "fn a() { | a", "fn b() { | b"];
    assert_eq!(outline("rust", text, 4), expected);
    assert_eq!(outline("rust", &text.replace('\n', "\r\n"), 4), expected);
    assert_eq!(split("rust", &format!("\u{feff}{text}"), 4).len(), 3);
    assert_eq!(split("rust", &format!("\u{feff}{}", &text[text.find("fn a").unwrap()..]), 4)[0].headings, ["a"]);
    assert!(!split("rust", &text.replace('x', "\0"), 4).is_empty());
    assert!(split("rust", "", 4).is_empty() && split("python", "\r\n \t", 4).is_empty());
}

/// Neither the stack nor the memory may depend on how deep a text is nested.
#[test]
fn endless_nesting_is_no_danger() {
    for piece in ["(", "[", "{ ", "(\n", "f(a, ", "a<", "x=>", "if (a) {}\nelse ", "class A {\n", "\0", "fn f() {\n"] {
        let text = piece.repeat(50_000 / piece.len());
        for language in LANGUAGES {
            let options = PassageOptions { max_tokens: 100, min_tokens: 1, overlap_tokens: 0 };
            let passages = split_text(Kind::Code(language.names), &text, &options, &|text| text.len() / 4).passages;
            assert!(!passages.is_empty());
        }
    }
}

/// Pieces of code of every language, more often in the order of code than chance would give.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "fn f() {\n",
        "}\n",
        "}",
        "impl A {\n",
        "/// doc\n",
        "// c\n",
        "# c\n",
        "/* c */",
        "/*\n",
        "#[x]\n",
        "@x\n",
        "\n",
        "\n\n",
        "\r\n",
        "    ",
        "\t",
        "class A {\n",
        "class A:\n",
        "def f(x):\n",
        "  pass\n",
        "end\n",
        "module M\n",
        "export ",
        "const f = () => {\n",
        "x = 1;\n",
        "x: function() {\n",
        "template <class T>\n",
        "struct S {\n",
        "};\n",
        "#ifdef A\n",
        "#endif\n",
        "#define A \\\n",
        "namespace n {\n",
        "public:\n",
        "func (r *R) f() {\n",
        "type T struct {\n",
        "<?php\n",
        "?>",
        "f() {\n",
        "if (x) {\n",
        "(",
        ")",
        "\"",
        "'",
        "`",
        "<<E\n",
        "E\n",
        "žluť",
        "日本",
        "😀",
        "\u{feff}",
        "\u{a0}",
        "\u{2028}",
        "\0",
        "<a>",
        "word ",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn code_is_split_as_promised(text in pieces(), max_tokens in 0usize..20, min_tokens in 0usize..10) {
        for language in LANGUAGES {
            let options = PassageOptions { max_tokens, min_tokens, overlap_tokens: 3 };
            check(Kind::Code(language.names), &text, &options);
        }
    }
}
