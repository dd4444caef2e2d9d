//! What is what on a page: its text, and what stands around it on every page of a site.
//!
//! Elements say so (`<nav>`, `<footer>`), or their attributes: the landmark roles that screen readers go by, and `hidden`.
//! Names of classes are not asked; every site has its own.

/// What an element is by its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Like any other.
    Text,
    /// What the page is about: `<main>`.
    Main,
    /// Not what a reader came for, or not shown at all.
    Aside,
}

impl Part {
    pub(super) fn of_attribute(name: &[u8], value: &[u8]) -> Self {
        let value = value.to_ascii_lowercase();
        match name {
            b"role" => match value.trim_ascii() {
                b"main" => Self::Main,
                b"navigation" | b"banner" | b"contentinfo" | b"complementary" | b"search" | b"dialog"
                | b"alertdialog" | b"menu" | b"menubar" | b"toolbar" => Self::Aside,
                _ => Self::Text,
            },
            b"hidden" if value != b"until-found" => Self::Aside,
            b"aria-hidden" if value == b"true" => Self::Aside,
            _ => Self::Text,
        }
    }
}

/// The part of a page that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All that is not beside the text.
    Page,
    /// What is in `<main>`.
    Main,
    /// What is in the article of this number, of those in no other.
    Article(usize),
}

/// Where the text of a page is, in bytes.
#[derive(Debug, Default)]
pub(super) struct Weights {
    pub(super) all: usize,
    pub(super) main: usize,
    pub(super) articles: Vec<usize>,
    /// The article that the first heading of level 1 is in.
    pub(super) headed: Option<usize>,
}

impl Weights {
    /// What should be read: the article with the page's heading, if most of the text around it is its own; or what is in
    /// `<main>`, if that is more than a shell that a script fills.
    pub(super) fn scope(&self) -> Scope {
        let is_main = self.main > 0 && self.main * 4 >= self.all;
        let around = if is_main { self.main } else { self.all };
        match self.headed.and_then(|article| Some((article, *self.articles.get(article)?))) {
            Some((article, bytes)) if bytes * 2 >= around => Scope::Article(article),
            _ if is_main => Scope::Main,
            _ => Scope::Page,
        }
    }
}

/// Elements that are left out and may stand in the middle of a sentence.
pub(super) fn is_inline(name: &[u8]) -> bool {
    matches!(
        name,
        b"svg"
            | b"noscript"
            | b"iframe"
            | b"object"
            | b"canvas"
            | b"audio"
            | b"video"
            | b"button"
            | b"select"
            | b"datalist"
            | b"textarea"
            | b"noembed"
            | b"noframes"
    )
}
