//! Markdown: its blocks by the CommonMark rules.

use std::ops::Range;

use pulldown_cmark::{Event, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::{Block, Item, cut};

/// The title and the blocks of a text.
pub(super) fn read(text: &str) -> (Option<String>, Vec<Block>) {
    let mut reader = Reader::default();
    for (event, span) in Parser::new_ext(text, options()).into_offset_iter() {
        reader.event(event, span);
    }
    let blocks = Block::tile(text, reader.blocks);
    let first = blocks.iter().filter_map(|block| block.heading.as_ref()).find(|(level, _)| *level == 1);
    let title = first.map(|(_, text)| text.clone()).or(reader.front_title);
    (title.filter(|title| !title.is_empty()), blocks)
}

fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
}

/// Gathers the outermost blocks from the parser's events.
#[derive(Default)]
struct Reader {
    blocks: Vec<Block>,
    depth: usize,
    /// The level and the text so far of the heading that is open.
    heading: Option<(u8, String)>,
    /// Whether front matter is open, and between which marks.
    front: Option<MetadataBlockKind>,
    front_title: Option<String>,
}

impl Reader {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        match event {
            Event::Start(tag) => {
                if self.depth == 0 {
                    self.open(&tag, span);
                } else if self.depth == 1
                    && matches!(tag, Tag::Item)
                    && let Some(list) = self.blocks.last_mut()
                {
                    list.items.push(Item::of_list(span.start));
                }
                self.depth += 1;
            }
            Event::End(tag) => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.close(tag);
                }
            }
            Event::Text(text) | Event::Code(text) => self.text(&text),
            Event::SoftBreak | Event::HardBreak => self.text(" "),
            _ if self.depth == 0 => self.blocks.push(Block::new(span, cut::PROSE)),
            _ => {}
        }
    }

    /// A block at the top level begins.
    fn open(&mut self, tag: &Tag<'_>, span: Range<usize>) {
        let steps = match tag {
            Tag::List(_) => cut::LIST,
            Tag::Table(_) | Tag::MetadataBlock(_) => cut::ROWS,
            Tag::CodeBlock(_) => cut::CODE,
            _ => cut::PROSE,
        };
        match tag {
            Tag::Heading { level, .. } => self.heading = Some((*level as u8, String::new())),
            Tag::MetadataBlock(kind) => self.front = Some(*kind),
            _ => {}
        }
        self.blocks.push(Block::new(span, steps));
    }

    fn close(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                if let (Some((level, text)), Some(block)) = (self.heading.take(), self.blocks.last_mut()) {
                    block.heading = super::heading_text(&text).map(|text| (level, text));
                }
            }
            TagEnd::MetadataBlock(_) => self.front = None,
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some((_, heading)) = &mut self.heading {
            heading.push_str(text);
        } else if let Some(kind) = self.front
            && self.front_title.is_none()
        {
            self.front_title = front_title(text, kind);
        }
    }
}

/// The value of `title` in front matter: enough of YAML and TOML for one line of text.
fn front_title(text: &str, kind: MetadataBlockKind) -> Option<String> {
    let mark = match kind {
        MetadataBlockKind::YamlStyle => ':',
        MetadataBlockKind::PlusesStyle => '=',
    };
    let value =
        text.lines().find_map(|line| line.strip_prefix("title")?.trim_start().strip_prefix(mark).map(str::trim))?;
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let rest = value.strip_prefix(quote)?;
        Some(&rest[..rest.find(quote)?])
    });
    let title = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end());
    // `|` and `>` begin a text of several lines.
    (!matches!(title, "" | "|" | ">" | ">-" | "|-")).then(|| title.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<&str> {
        read(text).1.into_iter().map(|block| &text[block.span]).collect()
    }

    #[test]
    fn blocks_leave_no_gap() {
        let text = "\nintro\n\n[a]: http://b\n\n# H *e* `c` {#id}\n- x\n  - y\n- z\n\n***\n\n    code\n<b>\n";
        let (title, blocks) = read(text);
        assert_eq!(title.as_deref(), Some("H e c"));
        let parts: Vec<&str> = blocks.iter().map(|block| &text[block.span.clone()]).collect();
        assert_eq!(
            parts,
            [
                "\nintro\n",
                "\n[a]: http://b\n\n",
                "# H *e* `c` {#id}\n",
                "- x\n  - y\n- z\n\n",
                "***\n\n",
                "    code\n",
                "<b>\n"
            ]
        );
        assert_eq!(blocks[3].items.len(), 2);
    }

    #[test]
    fn underlined_headings_have_levels() {
        let (title, blocks) = read("Top\nline\n===\n\nSub\n---\ntext");
        assert_eq!(title.as_deref(), Some("Top line"));
        assert_eq!(blocks[0].heading, Some((1, "Top line".to_owned())));
        assert_eq!(blocks[1].heading, Some((2, "Sub".to_owned())));
    }

    #[test]
    fn front_matter_may_name_the_title() {
        let title = |text| read(text).0;
        assert_eq!(title("---\na: 1\ntitle: \"Of: pots\" # x\n---\ntext").as_deref(), Some("Of: pots"));
        assert_eq!(title("---\ntitle: Of pots # x\n---\ntext").as_deref(), Some("Of pots"));
        assert_eq!(title("+++\ntitle = 'Of pots'\n+++\ntext").as_deref(), Some("Of pots"));
        assert_eq!(title("---\ntitle: x\n---\n# Real\n").as_deref(), Some("Real"));
        assert_eq!(title("---\nsubtitle: x\n---\ntext"), None);
        assert_eq!(parts("---\na: 1\n---\n\ntext"), ["---\na: 1\n---\n\n", "text"]);
    }
}
