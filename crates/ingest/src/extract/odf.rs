//! OpenDocument: texts, slides and sheets, which are all of the same XML.
//!
//! Paragraphs and headings are the same elements everywhere; what is around them says whether they are items of a list,
//! cells of a table, or on a new page. What is deleted, remarked or hidden from readers is left out.

use quick_xml::events::BytesStart;

use super::Extracted;
use super::archive::Archive;
use super::markdown::Writer;
use super::xml::{self, Node, attribute};

/// Times that a cell or a row that repeats is written.
const MAX_REPEATS: usize = 64;

pub(super) fn read(bytes: &[u8]) -> Result<Extracted, String> {
    let mut archive = Archive::open(bytes)?;
    if let Some(manifest) = archive.part("META-INF/manifest.xml")?
        && manifest.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED)
    {
        return Err("it is encrypted".into());
    }
    let title = match archive.part("meta.xml")? {
        Some(meta) => title(meta)?,
        None => None,
    };
    let content = archive.required("content.xml")?;
    let mut reader = Reader::new(Writer::new(title.as_deref()));
    xml::read(content, |node| {
        match node {
            Node::Start(start) => reader.start(&start),
            Node::Text(text) => reader.text(&text),
            Node::End(name) => reader.end(&name),
        }
        Ok(())
    })?;
    reader.writer.finish()
}

const ENCRYPTED: &[u8] = b"manifest:encryption-data";

fn title(meta: Vec<u8>) -> Result<Option<String>, String> {
    let (mut inside, mut title) = (false, None);
    xml::read(meta, |node| {
        match node {
            Node::Start(start) => inside = start.name().into_inner() == "dc:title",
            Node::Text(text) if inside => title.get_or_insert_with(String::new).push_str(&text),
            Node::Text(_) => {}
            Node::End(_) => inside = false,
        }
        Ok(())
    })?;
    Ok(title)
}

/// What is no text of the document's: what was deleted or remarked, what names pictures, lists of its headings.
fn is_hidden(name: &str) -> bool {
    matches!(
        name,
        "text:tracked-changes"
            | "office:annotation"
            | "text:note-citation"
            | "text:page-number"
            | "svg:title"
            | "svg:desc"
            | "text:table-of-content"
            | "text:alphabetical-index"
            | "text:illustration-index"
    )
}

/// How often a cell or a row stands there.
fn repeats(start: &BytesStart<'_>, name: &str) -> usize {
    attribute(start, name).and_then(|times| times.parse().ok()).unwrap_or(1).clamp(1, MAX_REPEATS)
}

fn append(cell: &mut String, text: &str) {
    if !cell.is_empty() {
        cell.push(' ');
    }
    cell.push_str(text);
}

/// A table under way.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
    row: Vec<String>,
    row_repeats: usize,
    cell: String,
    cell_repeats: usize,
}

struct Reader {
    writer: Writer,
    /// The paragraphs that are open: a note, or a frame, has its own within another's.
    open: Vec<String>,
    /// What stood within the outermost of them: it follows.
    after: Vec<String>,
    /// The level of the heading that is open.
    heading: Option<u8>,
    /// Whether the frame that is open is the title of a slide.
    in_title: bool,
    /// The lists that are open.
    lists: usize,
    /// Whether the item that is open has had its first paragraph.
    in_item: bool,
    /// Whether the tables are sheets.
    sheets: bool,
    tables: Vec<Table>,
    /// How many elements we are within one that is left out.
    hidden: usize,
}

impl Reader {
    fn new(writer: Writer) -> Self {
        let (open, after, tables) = (Vec::new(), Vec::new(), Vec::new());
        let (in_title, in_item, sheets) = (false, false, false);
        Self { writer, open, after, heading: None, in_title, lists: 0, in_item, sheets, tables, hidden: 0 }
    }

    fn start(&mut self, start: &BytesStart<'_>) {
        let name = start.name().into_inner();
        if self.hidden > 0 || is_hidden(name) {
            self.hidden += 1;
            return;
        }
        match name {
            "text:p" => self.open.push(String::new()),
            "text:h" => {
                let level = attribute(start, "text:outline-level").and_then(|level| level.parse().ok());
                self.heading = Some(level.unwrap_or(1));
                self.open.push(String::new());
            }
            "text:s" => self.text(" "),
            "text:tab" => self.text("\t"),
            "text:line-break" => self.text("\n"),
            "text:list" => self.lists += 1,
            "text:list-item" | "text:list-header" => self.in_item = false,
            "draw:page" => self.writer.page(),
            "draw:frame" => {
                self.in_title = attribute(start, "presentation:class").is_some_and(|class| class == "title");
            }
            "office:spreadsheet" => self.sheets = true,
            "table:table" => {
                if self.sheets && self.tables.is_empty() {
                    self.writer.page();
                    self.writer.heading(1, &attribute(start, "table:name").unwrap_or_default());
                }
                self.tables.push(Table::default());
            }
            "table:table-row" => {
                let times = repeats(start, "table:number-rows-repeated");
                self.in_table(|table| table.row_repeats = times);
            }
            "table:table-cell" | "table:covered-table-cell" => {
                let times = repeats(start, "table:number-columns-repeated");
                self.in_table(|table| table.cell_repeats = times);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        if self.hidden > 0 {
            self.hidden -= 1;
            return;
        }
        match name {
            "text:p" | "text:h" => self.paragraph(name == "text:h"),
            "text:list" => self.lists = self.lists.saturating_sub(1),
            "draw:frame" => self.in_title = false,
            "table:table-cell" | "table:covered-table-cell" => self.in_table(|table| {
                let cell = std::mem::take(&mut table.cell);
                table.row.extend(std::iter::repeat_n(cell, table.cell_repeats));
            }),
            "table:table-row" => self.in_table(|table| {
                let row = std::mem::take(&mut table.row);
                if row.iter().any(|cell| !cell.is_empty()) {
                    table.rows.extend(std::iter::repeat_n(row, table.row_repeats));
                }
            }),
            "table:table" => {
                let rows = self.tables.pop().map(|table| table.rows).unwrap_or_default();
                match self.tables.last_mut() {
                    // A table in a cell becomes text of that cell.
                    Some(outer) => rows.iter().flatten().for_each(|cell| append(&mut outer.cell, cell)),
                    None => self.writer.table(rows),
                }
            }
            _ => {}
        }
    }

    fn paragraph(&mut self, is_heading: bool) {
        let Some(text) = self.open.pop() else { return };
        let heading = self.heading.take_if(|_| is_heading).or(self.in_title.then_some(1));
        if let Some(table) = self.tables.last_mut() {
            append(&mut table.cell, &text);
        } else if !self.open.is_empty() {
            self.after.push(text);
        } else {
            match heading {
                Some(level) => self.writer.heading(level, &text),
                None if self.lists > 0 && !self.in_item => {
                    self.in_item = !text.trim().is_empty();
                    self.writer.item(self.lists - 1, None, &text);
                }
                None => self.writer.paragraph(&text),
            }
            std::mem::take(&mut self.after).iter().for_each(|text| self.writer.paragraph(text));
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(open) = self.open.last_mut().filter(|_| self.hidden == 0) {
            open.push_str(text);
        }
    }

    fn in_table(&mut self, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.tables.last_mut() {
            change(table);
        }
    }
}
