//! Where the definitions in a tree begin.
//!
//! A seam is set at the line where a definition begins, or the comments and attributes right above it; and at the line of
//! the first sibling that comes after a definition and is none, so that statements between two methods are not taken for
//! part of the first. A statement that holds definitions without being one (`if`, `#ifdef`, a call that is given functions)
//! has a seam of its own, too.
//!
//! The walk keeps its own stack, within a limit of depth: trees are as deep as their text has brackets.

use std::ops::Range;

use tree_sitter::{Node, Tree, TreeCursor};

use super::Seam;
use super::languages::{Name, Role, Rule};
use crate::split::HEADING_BYTES;

/// Nobody defines anything deeper than this.
const MAX_DEPTH: usize = 200;

/// What was found in a tree.
pub(super) struct Found {
    /// In order of their places, of which each is there once.
    pub(super) seams: Vec<Seam>,
    /// How many bytes the parser could make nothing of: those of errors, without the definitions in them.
    pub(super) errors: usize,
}

/// The seams of a text with this tree.
pub(super) fn find(tree: &Tree, rules: &[Rule], text: &str) -> Found {
    let mut walk = Walk { text, roles: roles(tree, rules), seams: Vec::new(), errors: 0, open: Vec::new() };
    walk.all(tree.walk());
    Found { seams: walk.seams, errors: walk.errors }
}

/// The roles of nodes by the number of their kind. A name may stand for several numbers.
fn roles(tree: &Tree, rules: &[Rule]) -> Vec<Option<Role>> {
    let language = tree.language();
    let role = |name: &str| rules.iter().find(|(kinds, _)| kinds.split(' ').any(|kind| kind == name));
    let kinds = 0..language.node_kind_count() as u16;
    let named = kinds.map(|id| language.node_kind_for_id(id).filter(|_| language.node_kind_is_named(id)));
    named.map(|name| role(name?).map(|(_, role)| *role)).collect()
}

struct Walk<'a> {
    text: &'a str,
    roles: Vec<Option<Role>>,
    seams: Vec<Seam>,
    errors: usize,
    /// The nodes that the walk is in.
    open: Vec<Open>,
}

/// A node that the walk is in, and how far it has come among its children.
#[derive(Default)]
struct Open {
    /// The line that it begins on.
    row: usize,
    /// Its own seam.
    own: Option<usize>,
    /// Whether its own seam stays only if there are others inside.
    tentative: bool,
    /// How many seams there were when what makes a seam after it necessary began.
    seams: usize,
    /// Whether a definition in it is it.
    around: bool,
    /// Whether it is in an error, without a definition in between.
    in_error: bool,
    /// Whether what comes next among its children needs a seam, because there were some.
    after_seam: bool,
    /// Comments and attributes since the last child that is none.
    comments: Option<Comments>,
}

/// Comments and attributes that follow one another.
struct Comments {
    /// Where the first begins.
    first: usize,
    /// Where the last of those begins that are set apart by blank lines.
    start: usize,
    end: usize,
}

impl Walk<'_> {
    fn all(&mut self, mut cursor: TreeCursor<'_>) {
        let root = cursor.node();
        self.open.push(Open { in_error: root.is_error(), ..Open::default() });
        self.errors += if root.is_error() { root.byte_range().len() } else { 0 };
        if !cursor.goto_first_child() {
            return;
        }
        loop {
            if let Some(inside) = self.enter(cursor.node(), cursor.field_name() == Some("body")) {
                if inside && self.open.len() < MAX_DEPTH && cursor.goto_first_child() {
                    continue;
                }
                self.leave();
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() || self.open.len() == 1 {
                    self.end_comments();
                    return;
                }
                self.leave();
            }
        }
    }

    /// Opens a node, unless it is a comment or a mark; returns whether its children matter.
    fn enter(&mut self, node: Node<'_>, body: bool) -> Option<bool> {
        if !node.is_named() || node.byte_range().is_empty() {
            self.end_comments();
            return None;
        }
        let role = self.roles.get(usize::from(node.kind_id())).copied().flatten();
        if matches!(role, Some(Role::Above)) {
            self.comment(node);
            return None;
        }
        let multi = node.start_position().row < node.end_position().row;
        if body && role.is_none() {
            // Of the definition around it; and what is said above it is said of the first thing in it.
            let Open { in_error, ref mut comments, .. } = *self.parent();
            let comments = comments.take();
            self.open.push(Open { seams: self.seams.len(), in_error, comments, ..Open::default() });
            return Some(multi);
        }
        let open = self.mark(node, role, multi);
        // What is on one line has no seams inside; but `export` is not known yet by what it exports.
        let inside = multi || open.around || node.has_error();
        self.open.push(open);
        Some(inside)
    }

    /// Sets the seam of a node, if it has one, and names it, or the statement around it.
    fn mark(&mut self, node: Node<'_>, role: Option<Role>, multi: bool) -> Open {
        let place = self.place(node);
        let level = self.open.len() as u32;
        let Open { around: within, after_seam, in_error, .. } = *self.parent();
        let mut open = Open {
            row: node.start_position().row,
            seams: self.seams.len(),
            around: matches!(role, Some(Role::Around)),
            in_error: in_error || node.is_error(),
            ..Open::default()
        };
        if node.is_error() && !in_error {
            self.errors += node.byte_range().len();
        }
        if let Some(name) = role.and_then(|role| self.definition(node, role)) {
            if in_error {
                self.errors = self.errors.saturating_sub(node.byte_range().len());
            }
            open.in_error = false;
            match place.filter(|_| !within) {
                Some(at) => open.own = self.define(at, level, name),
                None => self.name_statement(open.row, name),
            }
        } else if let Some(at) = place.filter(|_| !within && (after_seam || open.around || multi)) {
            open.own = self.seam(at, level);
            open.tentative = !after_seam;
            if after_seam {
                // A run of statements begins, whose next ones need no seam.
                open.seams = self.seams.len();
                self.parent().after_seam = false;
            }
        }
        open
    }

    fn leave(&mut self) {
        self.end_comments();
        let Some(open) = self.open.pop() else { return };
        if let Some(own) = open.own
            && open.tentative
            && own + 1 == self.seams.len()
            && self.seams[own].name.is_none()
        {
            self.seams.pop();
        }
        let named = open.own.is_some_and(|own| self.seams.get(own).is_some_and(|seam| seam.name.is_some()));
        let more = named || self.seams.len() > open.seams;
        self.parent().after_seam |= more;
    }

    /// The node whose children the walk is among; the root stays open to the end.
    fn parent(&mut self) -> &mut Open {
        if self.open.is_empty() {
            self.open.push(Open::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    /// Sets a seam, if there is none at this place.
    fn seam(&mut self, at: usize, level: u32) -> Option<usize> {
        if self.seams.last().is_some_and(|last| last.at >= at) {
            return None;
        }
        self.seams.push(Seam { at, level, name: None });
        Some(self.seams.len() - 1)
    }

    /// Sets the seam of a definition. What begins at the same place is a statement around it.
    fn define(&mut self, at: usize, level: u32, name: String) -> Option<usize> {
        let own = self.seam(at, level);
        if let Some(last) = self.seams.last_mut().filter(|last| last.at == at && last.name.is_none()) {
            last.name = Some(name);
        }
        own
    }

    /// Gives its name to the statement that a definition is in the first line of, or that stands around it.
    fn name_statement(&mut self, row: usize, name: String) {
        let within = self.parent().around;
        let statement = self.open.iter().rev().find(|open| open.own.is_some());
        if let Some(open) = statement
            && (within || open.row == row)
            && let Some(seam) = open.own.and_then(|own| self.seams.get_mut(own))
        {
            seam.name.get_or_insert(name);
        }
    }

    /// The start of the line, if nothing but blanks stand before.
    fn line_start(&self, at: usize) -> Option<usize> {
        let start = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = self.text[start..at].trim_start_matches('\u{feff}');
        before.trim_start().is_empty().then_some(start)
    }

    fn comment(&mut self, node: Node<'_>) {
        let (start, end) = (node.start_byte(), node.end_byte());
        // One that ends a line of something else belongs to that.
        let Some(start) = self.line_start(start) else { return };
        let end = start + self.text[start..end].trim_end().len();
        let blank = |from: usize| is_blank_line(&self.text[from..start]);
        let comments = match self.open.last_mut().and_then(|open| open.comments.take()) {
            None => Comments { first: start, start, end },
            Some(before) if blank(before.end) => Comments { start, end, ..before },
            Some(before) => Comments { end, ..before },
        };
        self.parent().comments = Some(comments);
    }

    /// Where a node begins, with the comments right above it; none within a line. Comments further above get a seam, where
    /// they would be taken for part of what they come after.
    fn place(&mut self, node: Node<'_>) -> Option<usize> {
        let start = node.start_byte();
        let Some(comments) = self.parent().comments.take() else { return self.line_start(start) };
        let attached = !is_blank_line(&self.text[comments.end.min(start)..start]);
        if !attached || comments.first < comments.start {
            self.after_seam(comments.first);
        }
        if attached { Some(comments.start) } else { self.line_start(start) }
    }

    /// Comments that nothing follows.
    fn end_comments(&mut self) {
        if let Some(comments) = self.parent().comments.take() {
            self.after_seam(comments.first);
        }
    }

    /// Sets a seam where one is needed.
    fn after_seam(&mut self, at: usize) {
        let level = self.open.len() as u32;
        if std::mem::take(&mut self.parent().after_seam) {
            self.seam(at, level);
        }
    }

    /// The name of a node that is a definition.
    fn definition(&self, node: Node<'_>, role: Role) -> Option<String> {
        let name = match role {
            Role::Above | Role::Around => return None,
            Role::Definition(name) => name,
            Role::WithBody(name) => node.child_by_field_name("body").map(|_| name)?,
            Role::Bound(name, value) => {
                let value = node.child_by_field_name(value)?;
                let multi = value.start_position().row < value.end_position().row;
                (multi && (value.kind().contains("function") || value.kind() == "class"))
                    .then_some(Name::Field(name))?
            }
        };
        let text = self.text.get(range(node, name)?)?;
        if matches!(name, Name::Field(_)) && text.contains('\n') {
            return None;
        }
        let word = if let Name::Word(word, _) = name { word } else { "" };
        let line = std::iter::once(word).filter(|word| !word.is_empty()).chain(text.split_whitespace());
        let mut line = line.collect::<Vec<_>>().join(" ");
        line.truncate(line.floor_char_boundary(HEADING_BYTES));
        (!line.is_empty()).then_some(line)
    }
}

/// Where a node's name stands.
fn range(node: Node<'_>, name: Name) -> Option<Range<usize>> {
    Some(match name {
        Name::Field(field) | Name::Word(_, field) => node.child_by_field_name(field)?.byte_range(),
        Name::From(first, last) => {
            node.child_by_field_name(first)?.start_byte()..node.child_by_field_name(last)?.end_byte()
        }
        Name::Head(field) => {
            let keyword = keyword(node)?;
            keyword.start_byte()..node.child_by_field_name(field).unwrap_or(keyword).end_byte()
        }
        Name::Declarator => {
            let first = node.child_by_field_name("declarator");
            std::iter::successors(first, |node| node.child_by_field_name("declarator")).last()?.byte_range()
        }
    })
}

/// The first word among a node's children that is part of the language.
fn keyword(node: Node<'_>) -> Option<Node<'_>> {
    let mut cursor = node.walk();
    node.children(&mut cursor).find(|child| !child.is_named() && child.kind().starts_with(char::is_alphabetic))
}

/// Whether a text between two others parts them by a blank line.
fn is_blank_line(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'\n').count() > 1
}
