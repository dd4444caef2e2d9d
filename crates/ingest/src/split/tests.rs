//! What holds for every text, and how sections and budgets play together.

use proptest::prelude::*;

use super::*;

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn options(max_tokens: usize, min_tokens: usize, overlap_tokens: usize) -> PassageOptions {
    PassageOptions { max_tokens, min_tokens, overlap_tokens }
}

fn split(kind: Kind, text: &str, options: &PassageOptions) -> Vec<Passage> {
    split_text(kind, text, options, &words).passages
}

fn texts(passages: &[Passage]) -> Vec<&str> {
    passages.iter().map(|passage| passage.text.as_str()).collect()
}

/// Sentences of five words each, none like another.
fn sentences(count: usize) -> String {
    (0..count).map(|n| format!("Sentence {n} has five words. ")).collect()
}

/// Checks what is promised of every split, whatever the text.
pub(super) fn check(kind: Kind, text: &str, options: &PassageOptions) {
    let passages = split(kind, text, options);
    assert_eq!(has_text(kind, text), !passages.is_empty(), "{kind}: {text:?}");
    let mut covered = vec![false; text.len()];
    for passage in &passages {
        let span = passage.span.clone();
        assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
        assert!(span.start < span.end, "{span:?}");
        assert!(!passage.text.trim().is_empty());
        assert!(words(&passage.text) <= options.max_tokens.max(1), "{passage:?}");
        let newlines = |at: usize| text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        let line = |at: usize| 1 + newlines(at) as u32;
        assert_eq!(passage.lines, line(span.start)..=line(span.end - 1));
        if kind != Kind::Html {
            assert_eq!(passage.text, text[span.clone()]);
        }
        covered[span].fill(true);
    }
    for pair in passages.windows(2) {
        assert!(pair[0].span.start <= pair[1].span.start, "{pair:?}");
        assert!(pair[0].span.end <= pair[1].span.end, "{pair:?}");
        if kind != Kind::Html {
            assert!(pair[0].span.start < pair[1].span.start, "{pair:?}");
            assert!(pair[0].span.end < pair[1].span.end, "{pair:?}");
        }
    }
    if kind != Kind::Html {
        for (at, c) in text.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            assert!(covered[at], "{c:?} at {at} is in no passage");
        }
    }
}

const KINDS: [Kind; 5] = [Kind::Markdown, Kind::RestructuredText, Kind::Html, Kind::PlainText, Kind::Code("rust")];

/// Texts with the marks that the splitters look for, more often than chance would give.
fn marked_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "# ",
        "## ",
        "### x\n",
        "===\n",
        "---\n",
        "====  ==\n",
        "+--\n",
        ".. ",
        ".. code::\n",
        "::\n",
        "- ",
        "  - ",
        "1. ",
        "> ",
        "```",
        "```\n",
        "~~~\n",
        "| a | b |\n|---|---|\n",
        "|",
        "\n",
        "\n\n",
        "\r\n",
        "    ",
        "\t",
        " ",
        ". ",
        "! ",
        "。",
        "…",
        "word",
        "two words",
        "žluť",
        "日本",
        "😀",
        "e\u{301}",
        "\u{feff}",
        "\u{a0}",
        "\u{2028}",
        "[a]: b\n",
        "+++\n",
        "title: x\n",
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        "<h1>",
        "</h1>",
        "<li>",
        "<ul>",
        "</ul>",
        "<pre>",
        "</pre>",
        "<nav>",
        "</nav>",
        "<script>",
        "</script>",
        "<title>",
        "</title>",
        "<!--",
        "-->",
        "&amp;",
        "&#x1f600;",
        "&nbsp;",
        "&eacute",
        "&",
        "<",
        "</",
        "<td>",
        "<table>",
        "</table>",
        "<br/>",
        "<svg/>",
        "<?",
        "<![CDATA[",
        "\0",
        "fn f() {\n",
        "}\n",
        "end",
    ]);
    prop::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

fn any_options() -> impl Strategy<Value = PassageOptions> {
    (0usize..30, 0usize..20, 0usize..20).prop_map(|(max, min, overlap)| options(max, min, overlap))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn any_string_is_split_as_promised(text in "(?s).{0,300}", options in any_options()) {
        for kind in KINDS {
            check(kind, &text, &options);
        }
    }

    #[test]
    fn marked_text_is_split_as_promised(text in marked_text(), options in any_options()) {
        for kind in KINDS {
            check(kind, &text, &options);
        }
    }

    #[test]
    fn paragraphs_are_split_as_promised(
        lengths in prop::collection::vec(0usize..20, 0..8),
        options in any_options(),
    ) {
        let text: String = lengths.iter().map(|count| sentences(*count) + "\n\n").collect();
        for kind in KINDS {
            check(kind, &text, &options);
        }
    }

    /// Without whole-word limits: every character counts, so words must be cut too.
    #[test]
    fn the_budget_holds_inside_of_words(text in "[a-z ž\\n.]{0,200}", max in 1usize..20) {
        let chars = |text: &str| text.chars().count();
        for kind in KINDS {
            let split = split_text(kind, &text, &options(max, 3, 3), &chars);
            for passage in split.passages {
                prop_assert!(chars(&passage.text) <= max);
            }
        }
    }
}

#[test]
fn short_text_is_one_passage() {
    let passages = split(Kind::PlainText, "\n\n  one\n\ntwo \n\n", &PassageOptions::default());
    assert_eq!(texts(&passages), ["  one\n\ntwo"]);
    assert_eq!(passages[0].lines, 3..=5);
    assert!(split(Kind::PlainText, " \n", &PassageOptions::default()).is_empty());
}

#[test]
fn sections_are_kept_apart_and_headings_with_their_text() {
    let body = sentences(3);
    let text = format!("# A\n\n{body}\n\n## B\n\n{body}\n\n### C\n\n{body}\n\n## D\n\n{body}");
    let passages = split(Kind::Markdown, &text, &options(25, 8, 0));
    let headings: Vec<String> = passages.iter().map(|p| p.headings.join("/")).collect();
    assert_eq!(headings, ["A", "A/B", "A/B/C", "A/D"]);
    assert!(passages.iter().all(|p| p.text.starts_with('#')));
}

#[test]
fn short_sections_join_their_siblings() {
    let text = "# Words\n\n## Ant\nsmall\n\n## Bee\nflies\n\n## Cat\nsleeps\n\n# Other\nthing";
    let passages = split(Kind::Markdown, text, &options(20, 10, 0));
    assert_eq!(passages.len(), 2);
    assert_eq!(passages[0].headings, ["Words"]);
    assert!(passages[0].text.ends_with("sleeps"));
    assert_eq!(passages[1].headings, ["Other"]);
}

#[test]
fn a_bare_heading_goes_with_what_follows() {
    let body = sentences(4);
    let text = format!("# A\n\n## B\n\n{body}\n\n## C\n");
    let passages = split(Kind::Markdown, &text, &options(24, 2, 0));
    assert_eq!(passages.len(), 2);
    assert!(passages[0].text.starts_with("# A\n\n## B\n\nSentence 0"));
    assert_eq!(passages[0].headings, ["A", "B"]);
    assert_eq!(passages[1].text, "## C");
}

#[test]
fn a_heading_stays_with_a_paragraph_that_just_fits_alone() {
    let text = format!("{}\n\n# A long heading here\n\n{}", sentences(2), sentences(4));
    let passages = split(Kind::Markdown, &text, &options(22, 5, 0));
    assert_eq!(passages.len(), 3);
    assert!(passages[1].text.starts_with("# A long heading here\n\nSentence 0"));
    assert_eq!(passages[2].headings, ["A long heading here"]);
}

#[test]
fn front_matter_does_not_hide_the_headings() {
    let text = "---\ntitle: x\n---\n# A\n\ntext";
    let passages = split(Kind::Markdown, text, &PassageOptions::default());
    assert_eq!(passages.len(), 1);
    assert_eq!(passages[0].headings, ["A"]);
}

#[test]
fn long_paragraphs_are_cut_evenly_with_overlap() {
    let passages = split(Kind::PlainText, &sentences(9), &options(20, 5, 6));
    let counts: Vec<usize> = passages.iter().map(|p| words(&p.text)).collect();
    assert!(counts.iter().all(|count| (10..=20).contains(count)), "{counts:?}");
    for pair in passages.windows(2) {
        assert!(pair[1].span.start < pair[0].span.end, "the second repeats of the first");
        assert!(pair[1].text.starts_with("Sentence"));
    }
    // Without a cut inside a paragraph there is no overlap.
    let text = format!("{}\n\n{}\n\n{}", sentences(3), sentences(3), sentences(3));
    let passages = split(Kind::PlainText, &text, &options(20, 5, 6));
    assert_eq!(passages.len(), 3);
    assert!(passages.windows(2).all(|pair| pair[0].span.end < pair[1].span.start));
}

#[test]
fn lists_and_tables_are_cut_between_items_without_overlap() {
    let items: String = (0..9).map(|n| format!("- item {n}\n  - below it\n")).collect();
    let passages = split(Kind::Markdown, &items, &options(20, 2, 6));
    assert!(passages.len() > 2);
    assert!(passages.iter().all(|p| p.text.starts_with("- item") && p.text.ends_with("below it")));
    let rows: String = (0..9).map(|n| format!("| row {n} | cell |\n")).collect();
    let passages = split(Kind::Markdown, &format!("| a | b |\n|---|---|\n{rows}"), &options(20, 2, 6));
    assert!(passages.len() > 2);
    assert!(passages.iter().all(|p| p.text.starts_with('|') && p.text.ends_with('|')));
    assert!(passages.windows(2).all(|pair| pair[0].span.end < pair[1].span.start));
}

#[test]
fn unwrapped_lines_are_paragraphs() {
    let line = |words: &str| format!("{}end.", format!("{words} word. ").repeat(20));
    let text = format!("{}\n{}\n= Part =\n{}", line("alpha"), line("beta"), line("gamma"));
    let passages = split(Kind::PlainText, &text, &options(60, 5, 10));
    let starts: Vec<&str> = passages.iter().map(|p| &p.text[..5]).collect();
    assert_eq!(starts, ["alpha", "beta ", "= Par"]);
}

#[test]
fn definitions_are_not_mixed_with_the_start_of_a_long_one() {
    let small = "fn small() {\n    one two three four five six;\n}\n";
    let long: String = (0..12).map(|n| format!("    let a{n} = b;\n")).collect();
    let text = format!("{small}\n/// Long.\nfn long() {{\n{long}}}\n");
    let passages = split(Kind::Code("rust"), &text, &options(30, 5, 8));
    assert_eq!(passages[0].text, small.trim_end());
    assert!(passages[1].text.starts_with("/// Long.\nfn long()"));
}

#[test]
fn embedded_data_is_not_a_hundred_passages() {
    let text = format!("See ![x](data:image/png;base64,{}) here.", "QUJD".repeat(5000));
    let chars = |text: &str| text.len() / 2;
    let split = split_text(Kind::Markdown, &text, &options(200, 20, 0), &chars);
    assert!(split.passages.len() <= 3, "{}", split.passages.len());
    assert!(split.passages.iter().any(|passage| passage.text.contains("here.")));
}

#[test]
fn lines_count_from_one() {
    let lines = Lines::of("a\nb\r\n\nc");
    assert_eq!(lines.of_span(&(0..1)), 1..=1);
    assert_eq!(lines.of_span(&(0..2)), 1..=1);
    assert_eq!(lines.of_span(&(2..7)), 2..=4);
}
