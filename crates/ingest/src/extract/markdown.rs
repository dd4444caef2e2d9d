//! Writing Markdown that our own reader splits as it was meant.
//!
//! Text is written as it is: what a search shows is what the document says, without backslashes. Only what would make
//! a heading, a fence or a rule of a paragraph's line is kept from doing so.

use super::Extracted;

/// No document has more text than this: a larger one is a mistake of the parser's, or an attack.
const MAX_TEXT: usize = 64 << 20;

/// Deepest level of a list that is still indented.
const MAX_INDENT: usize = 8;

/// A text as it is written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Extracted,
    /// Whether the last line is an item of a list, which the next item follows at once.
    in_list: bool,
    too_long: bool,
}

impl Writer {
    pub(super) fn new(title: Option<&str>) -> Self {
        let title = title.map(clean).filter(|title| !title.is_empty() && !is_placeholder(title));
        Self { out: Extracted { title, ..Extracted::default() }, ..Self::default() }
    }

    /// The text, if there is not too much of it.
    pub(super) fn finish(self) -> Result<Extracted, String> {
        if self.too_long {
            return Err(format!("more than {} MB of text", MAX_TEXT >> 20));
        }
        Ok(self.out)
    }

    /// A page begins.
    pub(super) fn page(&mut self) {
        self.block();
        self.out.pages.push(self.out.text.len());
    }

    pub(super) fn heading(&mut self, level: u8, text: &str) {
        let text = clean(text);
        if !text.is_empty() {
            self.block();
            let marks = "######";
            self.push(&marks[..usize::from(level).clamp(1, marks.len())]);
            self.push(" ");
            self.push(&text);
            self.push("\n");
        }
    }

    /// A paragraph; its line breaks are kept.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.block();
        self.lines(text, "");
    }

    /// An item of a list, with its number if it has one.
    pub(super) fn item(&mut self, level: usize, number: Option<u32>, text: &str) {
        if !self.in_list {
            self.block();
        }
        let indent = "  ".repeat(level.min(MAX_INDENT));
        let marker = number.map_or_else(|| format!("{indent}- "), |number| format!("{indent}{number}. "));
        let before = self.out.text.len();
        self.lines(text, &marker);
        self.in_list |= self.out.text.len() > before;
    }

    /// A table: rows of cells. Empty rows, and cells after the last one with text, are left out.
    pub(super) fn table(&mut self, rows: impl IntoIterator<Item = Vec<String>>) {
        let mut first = true;
        for cells in rows {
            let cells: Vec<String> = cells.iter().map(|cell| clean(cell).replace('|', "/")).collect();
            let Some(last) = cells.iter().rposition(|cell| !cell.is_empty()) else { continue };
            if first {
                self.block();
            }
            self.push("| ");
            self.push(&cells[..=last].join(" | "));
            self.push(" |\n");
            if std::mem::take(&mut first) {
                self.push(&format!("|{}\n", " --- |".repeat(last + 1)));
            }
        }
    }

    /// Text whose lines and blanks count.
    pub(super) fn code(&mut self, text: &str) {
        if text.trim().is_empty() {
            return;
        }
        self.block();
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.push(&format!("{fence}\n{}\n{fence}\n", text.trim_end().replace('\0', "")));
    }

    /// Lines of prose, the first after `marker`, the others as deep.
    fn lines(&mut self, text: &str, marker: &str) {
        let indent = " ".repeat(marker.len());
        let mut first = true;
        for line in text.split(['\n', '\u{b}', '\u{2028}', '\u{2029}']) {
            let line = clean(line);
            if line.is_empty() {
                continue;
            }
            let before = if std::mem::take(&mut first) { marker } else { &*indent };
            self.push(before);
            if is_structure(&line) {
                self.push("\\");
            }
            self.push(&line);
            self.push("\n");
        }
    }

    /// Ends the block before, if there is one.
    fn block(&mut self) {
        self.in_list = false;
        if !self.out.text.is_empty() && !self.out.text.ends_with("\n\n") {
            self.push("\n");
        }
    }

    fn push(&mut self, text: &str) {
        if self.out.text.len() + text.len() > MAX_TEXT {
            self.too_long = true;
        } else {
            self.out.text.push_str(text);
        }
    }
}

/// One line: blanks evened out, control characters gone, words that a line end had parted by a soft hyphen joined.
fn clean(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{ad}') {
        joined.push_str(before);
        rest = after.trim_start();
    }
    joined.push_str(rest);
    let mut line = String::with_capacity(joined.len());
    for word in joined.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Whether Markdown would read more into this line than a line of text.
fn is_structure(line: &str) -> bool {
    let same = |mark: char| line.trim_end().chars().all(|c| c == mark);
    line.starts_with("```")
        || line.starts_with("~~~")
        || line.starts_with("+++")
        || same('=')
        || same('-')
        || line.trim_start_matches('#').len() < line.len()
            && line.trim_start_matches('#').starts_with(' ')
            && !line.starts_with("#######")
}

/// Titles that programs make up.
fn is_placeholder(title: &str) -> bool {
    let title = title.to_lowercase();
    let made_up = ["untitled", "(anonymous)", "unknown", "powerpoint presentation", "slide 1", "document", "title"];
    made_up.contains(&title.as_str()) || title.starts_with("microsoft word - ") || title.starts_with("untitled ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_parted_and_items_are_not() {
        let mut writer = Writer::new(Some(" Of \n pots "));
        writer.page();
        writer.heading(2, "A\u{a0}heading");
        writer.item(0, None, "one");
        writer.item(1, Some(2), "two\nand on");
        writer.item(0, None, " ");
        writer.page();
        writer.paragraph("  # no heading\n---\n\u{0}text of two\u{ad} lines ");
        writer.table([vec!["a".into(), "b|c".into(), String::new()], vec![], vec!["1\n2".into()]]);
        writer.code("x = `y`\n  z\n");
        let out = writer.finish().unwrap();
        assert_eq!(out.title.as_deref(), Some("Of pots"));
        assert_eq!(
            out.text,
            "## A heading\n\n- one\n  2. two\n     and on\n\n\\# no heading\n\\---\ntext of twolines\n\n\
             | a | b/c |\n| --- | --- |\n| 1 2 |\n\n```\nx = `y`\n  z\n```\n"
        );
        assert_eq!(out.pages, [0, out.text.find("\\#").unwrap()]);
    }

    #[test]
    fn too_much_text_is_refused() {
        let mut writer = Writer::new(None);
        let long = "long ".repeat(1 << 20);
        (0..14).for_each(|_| writer.paragraph(&long));
        assert!(writer.finish().unwrap_err().contains("64 MB"));
    }

    #[test]
    fn titles_that_programs_make_up_are_none() {
        for title in ["", "(anonymous)", "Microsoft Word - thesis_v3.doc", "Untitled 1"] {
            assert_eq!(Writer::new(Some(title)).out.title, None, "{title}");
        }
    }
}
