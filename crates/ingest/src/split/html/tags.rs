//! From the tokenizer to the page: tags, what their attributes say, text, and the place where each ends.

use std::convert::Infallible;

use html5gum::emitters::naive_next_state;
use html5gum::{Emitter, Error, State};

use super::Page;
use super::parts::Part;

/// Passes tags and text from the tokenizer on to the page, with the place where each ends.
pub(super) struct Tags<'p, 'a> {
    page: &'p mut Page<'a>,
    /// How far the tokenizer has read.
    position: usize,
    name: Vec<u8>,
    is_start: bool,
    self_closing: bool,
    last_start: Vec<u8>,
    /// The attribute that is being read.
    attribute: Vec<u8>,
    value: Vec<u8>,
    /// What the attributes of the tag say so far.
    part: Part,
}

impl<'p, 'a> Tags<'p, 'a> {
    pub(super) fn new(page: &'p mut Page<'a>) -> Self {
        let (name, last_start, attribute, value) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (is_start, self_closing, part) = (false, false, Part::Text);
        Self { page, position: 0, name, is_start, self_closing, last_start, attribute, value, part }
    }

    fn init(&mut self, is_start: bool) {
        self.name.clear();
        self.is_start = is_start;
        self.self_closing = false;
        self.part = Part::Text;
        self.attribute.clear();
        self.value.clear();
    }

    /// An attribute has been read.
    fn end_attribute(&mut self) {
        if self.part == Part::Text {
            self.part = Part::of_attribute(&self.attribute, &self.value);
        }
        self.attribute.clear();
        self.value.clear();
    }
}

impl Emitter for Tags<'_, '_> {
    type Token = Infallible;

    fn move_position(&mut self, offset: isize) {
        self.position = self.position.saturating_add_signed(offset);
    }

    fn emit_string(&mut self, text: &[u8]) {
        let end = self.position.min(self.page.source.len());
        self.page.text(text, end);
    }

    fn init_start_tag(&mut self) {
        self.init(true);
    }

    fn init_end_tag(&mut self) {
        self.init(false);
    }

    fn push_tag_name(&mut self, name: &[u8]) {
        self.name.extend_from_slice(name);
    }

    fn set_self_closing(&mut self) {
        self.self_closing = true;
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        let end = self.position.min(self.page.source.len());
        if !self.is_start {
            self.page.end_tag(&self.name, end);
            return None;
        }
        self.end_attribute();
        self.page.start_tag(&self.name, self.part, self.self_closing, end);
        self.last_start.clone_from(&self.name);
        // `<script/>` has no content in XHTML; in HTML no one writes it.
        if self.self_closing { None } else { naive_next_state(&self.name) }
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        !self.is_start && !self.last_start.is_empty() && self.last_start == self.name
    }

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.last_start = name.unwrap_or_default().to_vec();
    }

    fn emit_current_comment(&mut self) {
        self.page.used = self.position.min(self.page.source.len());
    }

    fn emit_current_doctype(&mut self) {
        self.page.used = self.position.min(self.page.source.len());
    }

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn pop_token(&mut self) -> Option<Infallible> {
        None
    }

    fn init_attribute(&mut self) {
        self.end_attribute();
    }

    fn push_attribute_name(&mut self, name: &[u8]) {
        self.attribute.extend_from_slice(name);
    }

    fn push_attribute_value(&mut self, value: &[u8]) {
        self.value.extend_from_slice(value);
    }

    // Comments and the document type are not read.
    fn emit_eof(&mut self) {}
    fn emit_error(&mut self, _: Error) {}
    fn init_comment(&mut self) {}
    fn init_doctype(&mut self) {}
    fn set_force_quirks(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
}
