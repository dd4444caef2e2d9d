//! The formats of Microsoft Office, old and new, read by `undoc`.

use undoc::FormatType;
use undoc::model::{Block, ListType, Paragraph, RevisionType, Table};

use super::archive::Archive;
use super::markdown::Writer;
use super::{Extracted, Format, xml};

pub(super) fn read(format: Format, bytes: &[u8]) -> Result<Extracted, String> {
    if matches!(format, Format::Docx | Format::Pptx | Format::Xlsx) && bytes.starts_with(b"PK") {
        Archive::open(bytes)?.check(xml::check_depth)?;
    }
    let document = undoc::parse_bytes(bytes).map_err(|error| error.to_string())?;
    let mut writer = Writer::new(document.metadata.title.as_deref());
    for section in &document.sections {
        match document.format {
            FormatType::Xlsx | FormatType::Xls => {
                writer.page();
                writer.heading(1, section.name.as_deref().unwrap_or_default());
            }
            // A slide's name is its number, or what its heading says.
            FormatType::Pptx | FormatType::Ppt => writer.page(),
            _ => {}
        }
        section.content.iter().for_each(|block| write(&mut writer, block));
        // What a speaker says to a slide.
        section.notes.iter().flatten().for_each(|note| paragraph(&mut writer, note));
    }
    writer.finish()
}

fn write(writer: &mut Writer, block: &Block) {
    match block {
        Block::Paragraph(own) => paragraph(writer, own),
        Block::Table(table) => write_table(writer, table),
        Block::Note { content, .. } => content.iter().for_each(|note| paragraph(writer, note)),
        Block::PageBreak | Block::SectionBreak | Block::Image { .. } => {}
    }
}

fn paragraph(writer: &mut Writer, paragraph: &Paragraph) {
    let text = text(paragraph);
    match &paragraph.list_info {
        _ if paragraph.is_heading() => writer.heading(paragraph.heading.level(), &text),
        Some(list) if list.list_type != ListType::None => {
            let number = list.number.filter(|_| list.list_type == ListType::Numbered);
            writer.item(list.level.into(), number, &text);
        }
        _ => writer.paragraph(&text),
    }
}

/// A table, and after it those that lie in its cells.
fn write_table(writer: &mut Writer, table: &Table) {
    let cell = |content: &Vec<Paragraph>| content.iter().map(text).collect::<Vec<_>>().join(" ");
    writer.table(table.rows.iter().map(|row| row.cells.iter().map(|c| cell(&c.content)).collect()));
    let nested = table.rows.iter().flat_map(|row| &row.cells).flat_map(|cell| &cell.nested_tables);
    nested.for_each(|table| write_table(writer, table));
}

/// The text of a paragraph, without what a revision deleted.
fn text(paragraph: &Paragraph) -> String {
    let mut text = String::new();
    for run in paragraph.runs.iter().filter(|run| run.revision != RevisionType::Deleted) {
        text.push_str(&run.text);
        if run.line_break {
            text.push('\n');
        }
    }
    text
}
