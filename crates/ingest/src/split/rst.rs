//! reStructuredText: its blocks by the rules of docutils, as far as they tell sections, lists, tables and code apart.
//!
//! A section's level is the order in which its kind of underline first appeared, so there is nothing to know in advance.

use super::{Block, Item, cut};

/// The title and the blocks of a text.
pub(super) fn read(text: &str) -> (Option<String>, Vec<Block>) {
    let mut reader = Reader { lines: lines(text), at: 0, styles: Vec::new(), blocks: Vec::new() };
    while reader.at < reader.lines.len() {
        reader.block();
    }
    let blocks = Block::tile(text, reader.blocks);
    let first = blocks.iter().filter_map(|block| block.heading.as_ref()).find(|(level, _)| *level == 1);
    (first.map(|(_, text)| text.clone()).filter(|title| !title.is_empty()), blocks)
}

/// A line: where it begins, and its text without blanks at the end.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    start: usize,
    text: &'a str,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut end = 0;
    let line = |line: &'_ str| {
        end += line.len();
        end - line.len()
    };
    let starts: Vec<usize> = text.split_inclusive('\n').map(line).collect();
    starts
        .into_iter()
        .zip(text.split_inclusive('\n'))
        .map(|(start, text)| Line { start, text: text.trim_end() })
        .collect()
}

impl<'a> Line<'a> {
    fn is_blank(self) -> bool {
        self.text.is_empty()
    }

    fn is_indented(self) -> bool {
        self.text.starts_with([' ', '\t'])
    }

    /// The mark that all of the line consists of.
    fn adornment(self) -> Option<char> {
        let mark = self.text.chars().next().filter(char::is_ascii_punctuation)?;
        self.text.chars().all(|c| c == mark).then_some(mark)
    }

    /// Whether the line is the rule of a table without a grid: `====  ====`.
    fn is_table_rule(self) -> bool {
        let mut columns = self.text.split(' ').filter(|column| !column.is_empty());
        self.text.starts_with("==")
            && self.text.contains(' ')
            && columns.all(|column| column.bytes().all(|byte| byte == b'='))
    }

    /// The text after `.. `, of a directive, a target or a comment.
    fn explicit(self) -> Option<&'a str> {
        let rest = self.text.strip_prefix("..")?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim_start())
    }

    /// Whether the line begins an item of a list.
    fn is_item(self) -> bool {
        let mut words = self.text.splitn(2, ' ');
        let (marker, more) = (words.next().unwrap_or_default(), words.next().is_some());
        let number = || {
            let inside = marker.strip_suffix(['.', ')'])?;
            Some(inside.strip_prefix('(').unwrap_or(inside))
        };
        let is_number = |inside: &str| {
            let letter = inside.len() == 1 && inside.bytes().all(|b| b.is_ascii_alphabetic() || b == b'#');
            letter || (1..=3).contains(&inside.len()) && inside.bytes().all(|b| b.is_ascii_digit())
        };
        more && (matches!(marker, "-" | "*" | "+" | "•") || number().is_some_and(is_number))
    }
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
    /// Underlines in the order of their first use, and whether there was a line above too.
    styles: Vec<(char, bool)>,
    blocks: Vec<Block>,
}

impl<'a> Reader<'a> {
    fn line(&self, at: usize) -> Option<Line<'a>> {
        self.lines.get(at).copied()
    }

    /// Reads the block that begins here.
    fn block(&mut self) {
        let Some(line) = self.line(self.at) else { return };
        if line.is_blank() {
            self.at += 1;
        } else if !self.heading(line) {
            if let Some(explicit) = line.explicit() {
                let end = self.indented_end(self.at + 1);
                self.push(end, steps_of_directive(explicit));
            } else if line.text.starts_with("+-") || line.text.starts_with("+=") {
                self.push(self.blank(self.at), cut::ROWS);
            } else if line.is_table_rule() {
                self.push(self.table_end(), cut::ROWS);
            } else if line.is_item() {
                self.list();
            } else {
                self.paragraph();
            }
        }
    }

    /// A heading: a line of text over a line of marks, and perhaps under one.
    fn heading(&mut self, line: Line<'a>) -> bool {
        let under = |title: Line<'a>, marks: Option<Line<'a>>| {
            let mark = marks?.adornment()?;
            let len = marks?.text.len();
            (len >= 4 || len >= title.text.trim().chars().count()).then_some(mark)
        };
        let (next, third) = (self.line(self.at + 1), self.line(self.at + 2));
        let (title, style, lines) = match (line.adornment(), next) {
            (Some(mark), Some(title))
                if !title.is_blank()
                    && third.and_then(Line::adornment) == Some(mark)
                    && under(title, third).is_some() =>
            {
                (title, (mark, true), 3)
            }
            _ if line.is_indented() => return false,
            _ => match under(line, next) {
                Some(mark) if line.adornment().is_none() => (line, (mark, false), 2),
                _ => return false,
            },
        };
        let known = self.styles.iter().position(|style_before| *style_before == style);
        let level = known.unwrap_or_else(|| {
            self.styles.push(style);
            self.styles.len() - 1
        });
        let text = super::heading_text(&title.text.replace('`', ""));
        self.push(self.at + lines, cut::PROSE);
        if let Some(block) = self.blocks.last_mut() {
            block.heading = text.map(|text| ((level + 1).min(6) as u8, text));
        }
        true
    }

    /// Items up to the next line at the margin that is none.
    fn list(&mut self) {
        let mut items = Vec::new();
        let mut end = self.at;
        while let Some(line) = self.line(end).filter(|line| line.is_item()) {
            items.push(Item::of_list(line.start));
            end = self.indented_end(end + 1);
            // An item's text may go on at the margin, against the rules but not rarely.
            while self.line(end).is_some_and(|line| !line.is_blank() && !line.is_item() && line.explicit().is_none())
                && !self.line(end - 1).is_some_and(Line::is_blank)
            {
                end += 1;
            }
        }
        self.push(end, cut::LIST);
        if let Some(block) = self.blocks.last_mut() {
            block.items = items;
        }
    }

    /// Lines up to a blank one, and the listing that they announce.
    fn paragraph(&mut self) {
        let end = self.blank(self.at);
        let announces = self.line(end - 1).is_some_and(|line| line.text.ends_with("::"));
        self.push(end, cut::PROSE);
        let listing = self.indented_end(end);
        let first = self.lines[end.min(listing)..listing].iter().position(|line| !line.is_blank());
        if let Some(first) = first.filter(|_| announces) {
            self.at = end + first;
            self.push(listing, cut::CODE);
        }
    }

    /// The first blank line from here.
    fn blank(&self, from: usize) -> usize {
        let rest = self.lines[from..].iter().position(|line| line.is_blank());
        rest.map_or(self.lines.len(), |blank| from + blank).max(from + 1)
    }

    /// The end of the lines from here that are blank or indented.
    fn indented_end(&self, from: usize) -> usize {
        let from = from.min(self.lines.len());
        let rest = self.lines[from..].iter().position(|line| !line.is_blank() && !line.is_indented());
        rest.map_or(self.lines.len(), |end| from + end)
    }

    /// The end of a table without a grid: a rule with a blank line after it.
    fn table_end(&self) -> usize {
        let mut at = self.at + 1;
        while let Some(line) = self.line(at) {
            at += 1;
            if line.is_table_rule() && self.line(at).is_none_or(Line::is_blank) {
                break;
            }
        }
        at
    }

    /// The lines from here to `end` are a block.
    fn push(&mut self, end: usize, steps: cut::Steps) {
        let (Some(first), Some(last)) = (self.line(self.at), self.line(end - 1)) else { return };
        self.blocks.push(Block::new(first.start..last.start + last.text.len(), steps));
        self.at = end;
    }
}

/// How what a directive holds is cut; a target, a comment, a footnote and most directives hold text.
fn steps_of_directive(explicit: &str) -> cut::Steps {
    match explicit.split_once("::").map(|(name, _)| name) {
        Some("code" | "code-block" | "sourcecode" | "highlight" | "literalinclude" | "parsed-literal" | "math") => {
            cut::CODE
        }
        Some("table" | "csv-table" | "list-table") => cut::ROWS,
        _ => cut::PROSE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(text: &str) -> Vec<(u8, String)> {
        read(text).1.into_iter().filter_map(|block| block.heading).collect()
    }

    fn parts(text: &str) -> Vec<(&str, cut::Steps)> {
        read(text).1.into_iter().map(|block| (&text[block.span], block.steps)).collect()
    }

    #[test]
    fn levels_are_in_the_order_of_their_first_use() {
        let text = "====\nTop\n====\n\nFirst `one`\n---------\ntext\n\nDeep\n~~~~\n\nSecond\n------\n\nOther\n=====\n";
        let found = headings(text);
        let levels: Vec<(u8, &str)> = found.iter().map(|(level, text)| (*level, text.as_str())).collect();
        assert_eq!(levels, [(1, "Top"), (2, "First one"), (3, "Deep"), (2, "Second"), (4, "Other")]);
        assert_eq!(read(text).0.as_deref(), Some("Top"));
    }

    #[test]
    fn rules_and_short_underlines_are_no_headings() {
        assert_eq!(headings("text\n\n----------\n\nmore\n"), []);
        assert_eq!(headings("A long line of text\n--\nmore\n"), []);
        assert_eq!(headings("A long line of text\n----\n").len(), 1, "as docutils has it, with a warning");
        assert_eq!(headings("  indented\n  ======\n"), []);
        assert_eq!(headings("====\n"), []);
    }

    #[test]
    fn directives_lists_tables_and_listings_are_blocks() {
        let text = "Intro::\n\n    x = 1\n\n    y = 2\n\n.. note:: Mind\n   the fog.\n\n.. code-block:: python\n\n   f()\n\n\
            - one\n  more\n\n- two\n* three\n\n#. four\n\n+---+\n| a |\n+---+\n\n==  ==\na   b\n==  ==\n1   2\n==  ==\n\nEnd.\n";
        assert_eq!(
            parts(text),
            [
                ("Intro::\n\n", cut::PROSE),
                ("    x = 1\n\n    y = 2\n\n", cut::CODE),
                (".. note:: Mind\n   the fog.\n\n", cut::PROSE),
                (".. code-block:: python\n\n   f()\n\n", cut::CODE),
                ("- one\n  more\n\n- two\n* three\n\n#. four\n\n", cut::LIST),
                ("+---+\n| a |\n+---+\n\n", cut::ROWS),
                ("==  ==\na   b\n==  ==\n1   2\n==  ==\n\n", cut::ROWS),
                ("End.\n", cut::PROSE),
            ]
        );
        assert_eq!(read(text).1[4].items.len(), 4);
    }
}
