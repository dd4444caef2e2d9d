//! E-books: pages of HTML in an archive, in the order of the book's spine, read as other pages are.

use std::collections::HashMap;

use super::Extracted;
use super::archive::Archive;
use super::markdown::Writer;
use super::xml::{self, Node, attribute};
use crate::decode;
use crate::split::{PageBlock, page_blocks};

const CONTAINER: &str = "META-INF/container.xml";

/// Chapters of a book.
const MAX_CHAPTERS: usize = 10_000;

pub(super) fn read(bytes: &[u8]) -> Result<Extracted, String> {
    let mut archive = Archive::open(bytes)?;
    // Fonts may be scrambled by themselves; rights are what closes a book.
    if archive.part("META-INF/rights.xml")?.is_some() {
        return Err("it is protected by digital rights management".into());
    }
    let path = package_path(archive.required(CONTAINER)?)?;
    let package = Package::read(archive.required(&path)?)?;
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut writer = Writer::new(package.title.as_deref());
    for id in package.spine.iter().take(MAX_CHAPTERS) {
        let Some(href) = package.chapters.get(id) else { continue };
        // A chapter that is missing does not cost the others.
        let Some(chapter) = archive.part(&resolved(folder, href))? else { continue };
        if let Ok(page) = decode::decode(chapter, true) {
            write(&mut writer, &page.text);
        }
    }
    writer.finish()
}

/// Where the book is described.
fn package_path(container: Vec<u8>) -> Result<String, String> {
    let mut path = None;
    xml::read(container, |node| {
        if let Node::Start(start) = node
            && start.local_name().into_inner() == "rootfile"
            && path.is_none()
        {
            path = attribute(&start, "full-path");
        }
        Ok(())
    })?;
    path.ok_or_else(|| format!("{CONTAINER} names no book"))
}

/// What the book says of itself.
#[derive(Default)]
struct Package {
    title: Option<String>,
    /// Pages of HTML by their ids, but for the table of contents.
    chapters: HashMap<String, String>,
    /// Ids in reading order.
    spine: Vec<String>,
}

impl Package {
    fn read(bytes: Vec<u8>) -> Result<Self, String> {
        let (mut package, mut in_title) = (Self::default(), false);
        xml::read(bytes, |node| {
            match node {
                Node::Start(start) => match start.local_name().into_inner() {
                    "title" => in_title = package.title.is_none(),
                    "item" => {
                        let is_page = attribute(&start, "media-type").is_some_and(|kind| kind.contains("html"));
                        let is_contents = attribute(&start, "properties")
                            .is_some_and(|all| all.split(' ').any(|property| property == "nav"));
                        if let (true, false, Some(id), Some(href)) =
                            (is_page, is_contents, attribute(&start, "id"), attribute(&start, "href"))
                        {
                            package.chapters.insert(id, href);
                        }
                    }
                    "itemref" => package.spine.extend(attribute(&start, "idref")),
                    _ => {}
                },
                Node::Text(text) if in_title => package.title.get_or_insert_default().push_str(&text),
                Node::Text(_) => {}
                Node::End(_) => in_title = false,
            }
            Ok(())
        })?;
        Ok(package)
    }
}

/// The name of a part that `href` means, from a document in `folder`.
fn resolved(folder: &str, href: &str) -> String {
    let href = percent_decoded(href.split('#').next().unwrap_or(href));
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in href.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A chapter's blocks.
fn write(writer: &mut Writer, source: &str) {
    page_blocks(source, |block| match block {
        PageBlock::Heading(level, text) => writer.heading(level, text),
        PageBlock::Code(text) => writer.code(text),
        PageBlock::Text(text) => writer.paragraph(text),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_relative_to_the_book() {
        assert_eq!(resolved("OEBPS/text", "../ch%201.xhtml#top"), "OEBPS/ch 1.xhtml");
        assert_eq!(resolved("", "a/./b.html"), "a/b.html");
        assert_eq!(resolved("x", "../../../etc/passwd"), "etc/passwd");
        assert_eq!(percent_decoded("100%_%zz%2"), "100%_%zz%2");
    }
}
