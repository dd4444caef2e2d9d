//! Source code: along its definitions, where there is a grammar for the language and it makes sense of the file, otherwise
//! by its layout.

#[cfg(feature = "code")]
mod definitions;
#[cfg(feature = "code")]
mod grammar;
#[cfg(feature = "code")]
mod languages;
mod layout;
#[cfg(all(test, feature = "code"))]
mod odd;
mod outline;
#[cfg(all(test, feature = "code"))]
mod tests;

use super::{Block, cut};
pub(super) use layout::starts;
pub(super) use outline::Outline;

/// The blocks of a file in this language, and what each part of it stands in.
pub(super) fn read(language: &str, text: &str) -> (Vec<Block>, Outline) {
    match seams(language, text) {
        Some(seams) => outline::read(text, seams),
        None => (layout::blocks(text), Outline::default()),
    }
}

#[cfg(feature = "code")]
fn seams(language: &str, text: &str) -> Option<Vec<Seam>> {
    grammar::seams(languages::find(language)?, text)
}

#[cfg(not(feature = "code"))]
fn seams(_: &str, _: &str) -> Option<Vec<Seam>> {
    None
}

/// A place where a definition begins, with the comments and attributes above it, or where what follows one does.
#[derive(Debug)]
struct Seam {
    /// The start of a line.
    at: usize,
    /// How deep it lies in the tree: what is deeper is within what is less deep before it.
    level: u32,
    /// What the definition is called.
    name: Option<String>,
}
