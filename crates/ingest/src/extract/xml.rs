//! XML of strangers: events, within a limit of depth.
//!
//! Entities that a document defines are not expanded, so that none of them can grow.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::decode;

/// Elements within elements.
const MAX_DEPTH: usize = 256;

/// What a document consists of.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// An element begins; an end follows for one without content too.
    Start(BytesStart<'a>),
    /// An element ends; its name.
    End(String),
    /// Text, entities resolved.
    Text(Cow<'a, str>),
}

/// Reads a document from its beginning to its end.
pub(super) fn read(bytes: Vec<u8>, mut node: impl FnMut(Node<'_>) -> Result<(), String>) -> Result<(), String> {
    let document = decode::decode(bytes, true).map_err(|error| error.to_string())?.text;
    let mut reader = Reader::from_str(&document);
    reader.config_mut().expand_empty_elements = true;
    let mut depth = 0usize;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("elements nested more than {MAX_DEPTH} deep"));
                }
                node(Node::Start(start))?;
            }
            Event::End(end) => {
                depth = depth.saturating_sub(1);
                node(Node::End(end.name().into_inner().to_owned()))?;
            }
            Event::Text(text) => node(Node::Text(text.into_inner()))?,
            Event::CData(text) => node(Node::Text(text.into_inner()))?,
            Event::GeneralRef(entity) => {
                if let Some(text) = resolve(&entity) {
                    node(Node::Text(Cow::Owned(text)))?;
                }
            }
            Event::Eof => return Ok(()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// That a document is no deeper than it may be. What else is wrong with it is left to its parser.
pub(super) fn check_depth(bytes: &[u8]) -> Result<(), String> {
    let document = String::from_utf8_lossy(bytes);
    let mut reader = Reader::from_str(&document);
    let mut depth = 0usize;
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => depth += 1,
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("elements nested more than {MAX_DEPTH} deep"));
        }
    }
}

/// The value of an attribute, known by its whole name.
pub(super) fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let mut attributes = start.attributes();
    let mut all = attributes.with_checks(false).flatten();
    let found = all.find(|attribute| attribute.key.into_inner() == name)?;
    Some(unescaped(&found.value))
}

/// A character by its number, or one of the five that XML names.
fn resolve(entity: &BytesRef<'_>) -> Option<String> {
    if let Ok(Some(c)) = entity.resolve_char_ref() {
        return Some(c.to_string());
    }
    resolve_predefined_entity(entity).map(str::to_owned)
}

/// A value with its entities resolved, or as it stands.
fn unescaped(value: &str) -> String {
    quick_xml::escape::unescape(value).map_or_else(|_| value.to_owned(), Cow::into_owned)
}
