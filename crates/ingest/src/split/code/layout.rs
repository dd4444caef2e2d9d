//! Source code, by its layout alone: what there is no grammar for, or what its grammar makes no sense of.
//!
//! People part definitions by blank lines and show by indentation what belongs together.

use super::{Block, cut};

/// The definitions of a file. Comments and attributes above a definition stay with it, because no
/// blank line parts them.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    Block::from_starts(text.len(), &starts(text), cut::CODE)
}

/// The lines that follow a blank one and have the least indentation of all those; lines that only
/// close what was opened before do not count.
pub(in crate::split) fn starts(text: &str) -> Vec<usize> {
    let mut least = usize::MAX;
    let mut starts = Vec::new();
    let mut seen = false;
    let mut after_blank = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let inside = line.trim_start();
        if inside.is_empty() {
            after_blank = seen;
        } else {
            if after_blank && !closes(inside) {
                let indent = width(&line[..line.len() - inside.len()]);
                if indent < least {
                    least = indent;
                    starts.clear();
                }
                if indent == least {
                    starts.push(at);
                }
            }
            seen = true;
            after_blank = false;
        }
        at += line.len();
    }
    starts
}

/// The width of an indentation, a tab counting four.
fn width(indent: &str) -> usize {
    indent.bytes().map(|byte| if byte == b'\t' { 4 } else { 1 }).sum()
}

/// Whether a line goes on with, or ends, what is above it.
fn closes(line: &str) -> bool {
    let word = line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    line.starts_with(['}', ')', ']'])
        || matches!(
            word,
            "end" | "else" | "elif" | "elsif" | "except" | "finally" | "catch" | "rescue" | "fi" | "done" | "esac"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        blocks(text).into_iter().map(|block| &text[block.span]).collect()
    }

    #[test]
    fn definitions_keep_what_stands_above_and_inside() {
        let text = "use a;\n\n/// Doc.\n#[test]\nfn f() {\n    x();\n\n    y();\n\n}\n\nfn g() {}\n";
        assert_eq!(
            parts(text),
            ["use a;\n\n", "/// Doc.\n#[test]\nfn f() {\n    x();\n\n    y();\n\n}\n\n", "fn g() {}\n"]
        );
    }

    #[test]
    fn without_definitions_at_the_margin_the_next_level_counts() {
        let text = "class A {\n  int x;\n\n  void f() {\n    a();\n\n    b();\n  }\n\n  int y;\n}\n";
        assert_eq!(
            parts(text),
            ["class A {\n  int x;\n\n", "  void f() {\n    a();\n\n    b();\n  }\n\n", "  int y;\n}\n"]
        );
    }
}
