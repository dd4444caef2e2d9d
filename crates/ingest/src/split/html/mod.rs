//! HTML: the text that a reader sees, and where in the source it stands.
//!
//! A tokenizer by the WHATWG rules feeds [`Page`]; no tree is built, because tag soup then costs
//! nothing and the text keeps its exact place. What is lost against a tree: elements that only
//! style sheets hide are read.
//!
//! Menus, banners and footers are left out where elements or their roles say what they are ([`parts`]), and where a page
//! marks what it is about, the rest is.

mod map;
mod parts;
mod tags;

use std::ops::Range;

use html5gum::Tokenizer;

use super::{Block, cut};
use map::Map;
use parts::{Part, Scope, Weights, is_inline};
use tags::Tags;

/// The readable text of a page.
pub(super) struct Readable {
    pub(super) title: Option<String>,
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
    pub(super) map: Map,
}

/// Reads a page that has nothing around its text: a chapter of a book.
#[cfg(feature = "extract")]
pub(super) fn read_whole(source: &str) -> Readable {
    Page::read(source, Scope::Page).finish()
}

/// Reads a page: once to see where its text is, and again without the rest if there is a rest.
pub(super) fn read(source: &str) -> Readable {
    let page = Page::read(source, Scope::Page);
    match page.weights.scope() {
        Scope::Page => page.finish(),
        scope => Page::read(source, scope).finish(),
    }
}

/// What stands between two words, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Break,
    Cell,
    Row,
    Block,
}

/// The readable text so far.
struct Page<'a> {
    source: &'a str,
    readable: Readable,
    /// What has to be written before the next word.
    gap: Gap,
    block_start: usize,
    /// Whether the open block has rows or items, to be cut at.
    rows: bool,
    /// Whether all of the open block is preformatted.
    code: bool,
    /// The level of the heading that the open block is, if it is one.
    heading: Option<u8>,
    /// The level of the heading whose tags we are between.
    in_heading: Option<u8>,
    in_title: bool,
    /// How many of these we are inside of.
    pre: usize,
    items: usize,
    cells: usize,
    articles: usize,
    headers: usize,
    /// The element that is what the page is about, and how many of its name are open.
    main: Option<(Vec<u8>, usize)>,
    /// How many `<article>` we are inside of.
    article: usize,
    scope: Scope,
    weights: Weights,
    /// Where text that a page is about comes next, and where a form ends.
    next_text: Next,
    form_end: Next,
    /// The element that is being left out, and how many of its name are open.
    hidden: Option<(Vec<u8>, usize)>,
    /// Elements of which no end follows: they are not left out, or all of the rest would be.
    unclosed: Vec<Vec<u8>>,
    /// Up to where the source has been used.
    used: usize,
    /// Source that is text as it stands, not written yet.
    waiting: Range<usize>,
}

impl<'a> Page<'a> {
    fn read(source: &'a str, scope: Scope) -> Self {
        let mut page = Self::new(source, scope);
        // Neither the reader, a string, nor the emitter can fail.
        let Ok(()) = Tokenizer::new_with_emitter(source, Tags::new(&mut page)).finish();
        page.flush();
        page
    }

    fn new(source: &'a str, scope: Scope) -> Self {
        let readable = Readable {
            title: None,
            text: String::with_capacity(source.len() / 4),
            blocks: Vec::new(),
            map: Map::default(),
        };
        Self {
            source,
            readable,
            gap: Gap::None,
            block_start: 0,
            rows: false,
            code: true,
            heading: None,
            in_heading: None,
            in_title: false,
            pre: 0,
            items: 0,
            cells: 0,
            articles: 0,
            headers: 0,
            main: None,
            article: 0,
            scope,
            weights: Weights::default(),
            next_text: Next::default(),
            form_end: Next::default(),
            hidden: None,
            unclosed: Vec::new(),
            used: 0,
            waiting: 0..0,
        }
    }

    fn finish(mut self) -> Readable {
        self.end_block();
        let readable = &mut self.readable;
        let title = readable.title.take().and_then(|title| super::heading_text(&title));
        let first = readable.blocks.iter().filter_map(|block| block.heading.as_ref());
        readable.title = title
            .filter(|title| !title.is_empty())
            .or_else(|| first.clone().find(|(level, _)| *level == 1).map(|(_, text)| text.clone()));
        readable.blocks = Block::tile(&readable.text, std::mem::take(&mut readable.blocks));
        self.readable
    }

    fn raise(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// Text of the page that ends at `end` in the source.
    pub(super) fn text(&mut self, text: &[u8], end: usize) {
        let same = end
            .checked_sub(text.len())
            .filter(|start| *start >= self.used && self.source.as_bytes().get(*start..end) == Some(text));
        if let Some(start) = same {
            // The tokenizer may part the bytes of a character; together they are one again.
            if start != self.waiting.end {
                self.flush();
                self.waiting.start = start;
            }
            self.waiting.end = end;
            self.used = end;
        } else {
            // What is not the source's own bytes is made of all that was read since.
            self.flush();
            let place = self.used..end.max(self.used);
            self.used = place.end;
            self.write(&String::from_utf8_lossy(text), place);
        }
    }

    /// Writes the text that waits.
    fn flush(&mut self) {
        let place = std::mem::replace(&mut self.waiting, self.used..self.used);
        let source = self.source;
        if let Some(text) = source.get(place.clone()).filter(|text| !text.is_empty()) {
            self.write(text, place);
        }
    }

    fn write(&mut self, text: &str, place: Range<usize>) {
        if self.hidden.is_some() {
            return;
        }
        if self.in_title {
            self.readable.title.get_or_insert_default().push_str(text);
        } else if !self.is_in_scope() {
            self.raise(Gap::Block);
        } else if self.pre > 0 {
            self.preformatted(text, place);
        } else {
            self.words(text, place);
        }
    }

    fn is_in_scope(&self) -> bool {
        match self.scope {
            Scope::Page => true,
            Scope::Main => self.main.is_some(),
            Scope::Article(number) => self.article > 0 && self.weights.articles.len() == number + 1,
        }
    }

    /// Counts text that is read.
    fn weigh(&mut self, bytes: usize) {
        self.weights.all += bytes;
        if self.main.is_some() {
            self.weights.main += bytes;
        }
        if self.article > 0
            && let Some(article) = self.weights.articles.last_mut()
        {
            *article += bytes;
        }
    }

    fn words(&mut self, text: &str, source: Range<usize>) {
        let exact = text.len() == source.len();
        let mut rest = text;
        loop {
            let word = rest.trim_start();
            if word.len() < rest.len() {
                self.raise(Gap::Space);
            }
            if word.is_empty() {
                return;
            }
            let len = word.find(char::is_whitespace).unwrap_or(word.len());
            let at = source.start + text.len() - word.len();
            let place = if exact { at..at + len } else { source.clone() };
            self.push(&word[..len], place);
            rest = &word[len..];
        }
    }

    /// Text whose white space counts; only blank lines before it do not.
    fn preformatted(&mut self, text: &str, source: Range<usize>) {
        let exact = text.len() == source.len();
        let mut text = text;
        if self.gap == Gap::Block || self.readable.text.len() == self.block_start {
            text = text.trim_start_matches('\n');
        }
        if text.is_empty() {
            return;
        }
        let place = if exact { source.end - text.len()..source.end } else { source };
        self.push(text, place);
    }

    fn push(&mut self, text: &str, source: Range<usize>) {
        let gap = std::mem::replace(&mut self.gap, Gap::None);
        if gap == Gap::Block {
            self.end_block();
            self.heading = self.in_heading;
        }
        let readable = &mut self.readable;
        if readable.text.is_empty() {
            self.heading = self.in_heading;
        } else {
            readable.text.push_str(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Cell => " | ",
                Gap::Break | Gap::Row => "\n",
                Gap::Block => "\n\n",
            });
            self.rows |= gap == Gap::Row;
        }
        if gap == Gap::Block {
            self.block_start = readable.text.len();
        }
        self.code &= self.pre > 0;
        let start = readable.text.len();
        readable.text.push_str(text);
        readable.map.push(start..readable.text.len(), source);
        self.weigh(text.len());
    }

    fn end_block(&mut self) {
        let span = self.block_start..self.readable.text.len();
        if !span.is_empty() {
            let steps = match (self.code, self.rows) {
                (true, _) => cut::CODE,
                (_, true) => cut::ROWS,
                _ => cut::PROSE,
            };
            let text = &self.readable.text[span.clone()];
            let heading = self.heading.take().zip(super::heading_text(text));
            self.readable.blocks.push(Block { heading, ..Block::new(span, steps) });
        }
        self.rows = false;
        self.code = true;
    }

    /// A start tag that ends at `end` in the source.
    pub(super) fn start_tag(&mut self, name: &[u8], part: Part, self_closing: bool, end: usize) {
        self.flush();
        self.used = end;
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth += usize::from(hidden == name && !self_closing);
            return;
        }
        let hides = part == Part::Aside && !matches!(name, b"html" | b"body" | b"main") || self.hides(name, end);
        if hides && !self_closing && !is_void(name) && self.closes(name, end) {
            self.hidden = Some((name.to_vec(), 1));
            return;
        }
        self.boundary(name);
        self.enter(name, part == Part::Main || name == b"main");
        match name {
            b"title" => self.in_title = self.readable.title.is_none() && !self_closing,
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => {
                self.in_heading = Some(name[1] - b'0');
                if name == b"h1" && self.article > 0 && self.weights.headed.is_none() {
                    self.weights.headed = self.weights.articles.len().checked_sub(1);
                }
            }
            // A heading that was not closed ends where a block begins that cannot be in it.
            b"p" | b"ul" | b"ol" | b"table" | b"section" => self.in_heading = None,
            _ => {}
        }
        if let Some(count) = self.nesting(name) {
            *count += 1;
        }
    }

    pub(super) fn end_tag(&mut self, name: &[u8], end: usize) {
        self.flush();
        self.used = end;
        if let Some((hidden, depth)) = &mut self.hidden {
            *depth -= usize::from(hidden == name);
            if *depth == 0 {
                self.hidden = None;
                self.raise(if is_inline(name) { Gap::Space } else { Gap::Block });
            }
            return;
        }
        if let Some(count) = self.nesting(name) {
            *count = count.saturating_sub(1);
        }
        self.leave(name);
        self.boundary(name);
        match name {
            b"title" => self.in_title = false,
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => self.in_heading = None,
            _ => {}
        }
    }

    /// Keeps count of where on the page we are.
    fn enter(&mut self, name: &[u8], is_main: bool) {
        match &mut self.main {
            Some((main, depth)) => *depth += usize::from(main == name),
            None if is_main => self.main = Some((name.to_vec(), 1)),
            None => {}
        }
        if name == b"article" {
            if self.article == 0 {
                self.weights.articles.push(0);
            }
            self.article += 1;
        }
    }

    fn leave(&mut self, name: &[u8]) {
        if let Some((main, depth)) = &mut self.main {
            *depth -= usize::from(main == name);
            if *depth == 0 {
                self.main = None;
            }
        }
        if name == b"article" {
            self.article = self.article.saturating_sub(1);
        }
    }

    /// The counter of the elements that change how their content is read.
    fn nesting(&mut self, name: &[u8]) -> Option<&mut usize> {
        match name {
            b"pre" | b"xmp" | b"listing" | b"plaintext" => Some(&mut self.pre),
            b"ul" | b"ol" | b"dl" | b"menu" => Some(&mut self.items),
            b"table" => Some(&mut self.cells),
            b"main" | b"article" => Some(&mut self.articles),
            b"header" => Some(&mut self.headers),
            _ => None,
        }
    }

    /// The gap that a tag of this name makes, opening or closing.
    fn boundary(&mut self, name: &[u8]) {
        let gap = match name {
            b"td" | b"th" => Gap::Cell,
            b"br" => Gap::Break,
            b"li" | b"tr" | b"dt" | b"dd" | b"option" => Gap::Row,
            // A list in a list, a paragraph in an item: parts of one block.
            b"p" | b"div" | b"ul" | b"ol" | b"dl" | b"menu" if self.items > 0 => Gap::Row,
            b"div" | b"center" if self.cells > 0 => Gap::Break,
            b"p" | b"div" | b"ul" | b"ol" | b"dl" | b"menu" | b"table" | b"caption" | b"pre" | b"xmp" | b"listing"
            | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"section" | b"article" | b"main" | b"header"
            | b"footer" | b"nav" | b"aside" | b"hgroup" | b"blockquote" | b"figure" | b"figcaption" | b"details"
            | b"summary" | b"address" | b"form" | b"fieldset" | b"legend" | b"hr" | b"body" | b"head" | b"html"
            | b"center" | b"title" => Gap::Block,
            _ => return,
        };
        self.raise(gap);
    }

    /// Whether the content of this element is not what a reader came for.
    fn hides(&mut self, name: &[u8], from: usize) -> bool {
        match name {
            // The header of an article holds its heading, next to menus; that of a page, menus.
            b"header" => self.articles == 0,
            b"ul" | b"ol" | b"menu" => self.headers > 0,
            b"nav" | b"footer" | b"aside" | b"dialog" | b"search" | b"script" | b"style" | b"template" => true,
            // Some sites wrap all of a page in a form.
            b"form" => !self.holds_text(from),
            _ => is_inline(name),
        }
    }

    /// Whether a form that begins before `from` has the heading or the text of the page in it.
    fn holds_text(&mut self, from: usize) -> bool {
        let text = self.next_text.after(self.source, from, &["<h1", "<main", "<article"]);
        text < self.form_end.after(self.source, from, &["</form"])
    }

    /// Whether an end tag of this name follows.
    fn closes(&mut self, name: &[u8], from: usize) -> bool {
        if self.unclosed.iter().any(|unclosed| unclosed == name) {
            return false;
        }
        let rest = &self.source.as_bytes()[from.min(self.source.len())..];
        let found = self.source[self.source.floor_char_boundary(from)..]
            .match_indices("</")
            .any(|(at, _)| rest.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)));
        if !found {
            self.unclosed.push(name.to_vec());
        }
        found
    }
}

/// The next place of some tags, looked for once for all the places before it.
#[derive(Default)]
struct Next(Range<usize>);

impl Next {
    fn after(&mut self, source: &str, from: usize, tags: &[&str]) -> usize {
        if !self.0.contains(&from) {
            let bytes = source.as_bytes();
            let is_tag = |at: usize, tag: &str| {
                bytes.get(at..at + tag.len()).is_some_and(|found| found.eq_ignore_ascii_case(tag.as_bytes()))
            };
            let mut places = (from..bytes.len()).filter(|at| bytes[*at] == b'<');
            let found = places.find(|at| tags.iter().any(|tag| is_tag(*at, tag)));
            self.0 = from..found.map_or(usize::MAX, |at| at + 1);
        }
        self.0.end
    }
}

/// Elements without an end.
fn is_void(name: &[u8]) -> bool {
    matches!(name, b"br" | b"hr" | b"img" | b"input" | b"link" | b"meta" | b"area" | b"base" | b"col" | b"wbr")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The readable text, having checked that blocks leave no gap and that text maps back.
    fn text(source: &str) -> String {
        let page = read(source);
        let ends: Vec<usize> = page.blocks.iter().map(|block| block.span.end).collect();
        let starts: Vec<usize> = page.blocks.iter().skip(1).map(|block| block.span.start).collect();
        assert_eq!(starts, ends[..ends.len().saturating_sub(1)]);
        page.text
    }

    #[test]
    fn blocks_items_rows_and_cells() {
        let source = "<body>\n<p>One <b>two</b>\n three</p><p>four<br>five</p>\
            <ul><li>six<li><p>seven</p><ul><li>eight</ul></ul>\
            <table><tr><th>a</th><th>b</th></tr><tr><td><div>1</div></td><td>2</td></tr></table>end";
        assert_eq!(text(source), "One two three\n\nfour\nfive\n\nsix\nseven\neight\n\na | b\n1 | 2\n\nend");
    }

    #[test]
    fn what_no_one_reads_is_left_out() {
        let source = "<head><title>T &amp; t</title><style>p{}</style><script>if (a<b) \"</p>\"</script>\
            </head><header><h1>Site</h1></header><nav><ul><li>Home</ul></nav><main><header><h1>Real\
            </h1><ul><li>menu</ul></header>Text <svg><title>no</title><text>no</text></svg>here<!-- no -->.\
            </main><aside>ad <aside>in ad</aside></aside><footer>foot</footer>";
        assert_eq!(text(source), "Real\n\nText here.");
        let page = read(source);
        assert_eq!(page.title.as_deref(), Some("T & t"));
        assert_eq!(page.blocks[0].heading, Some((1, "Real".to_owned())));
    }

    #[test]
    fn tag_soup_does_not_hide_the_rest() {
        assert_eq!(text("<nav>menu<p>text"), "menu\n\ntext");
        assert_eq!(text("<h2>head<p>text</i></b> more"), "head\n\ntext more");
        assert_eq!(text("a < b && c </> d <3"), "a < b && c d <3");
        assert_eq!(text("R&é &日 &"), "R&é &日 &");
        assert_eq!(text("<p>cut off <a href='x"), "cut off");
        assert_eq!(text("<script src='x'/><p>text</p>"), "text");
    }

    #[test]
    fn preformatted_text_keeps_its_lines() {
        assert_eq!(
            text("<p>x</p><pre><code>\nfn f() {\r\n    g();\n\n}\n</code></pre><p>y"),
            "x\n\nfn f() {\n    g();\n\n}\n\n\ny"
        );
    }

    #[test]
    fn text_maps_to_its_exact_source() {
        let source = "<p>caf&eacute;s  &lt;b&gt; <i>ov&#101;r</i> žluť\r\n&nbsp;kůň</p><p>next";
        let page = read(source);
        assert_eq!(page.text, "cafés <b> over žluť kůň\n\nnext");
        let found = |needle: &str| {
            let at = page.text.find(needle).unwrap();
            &source[page.map.source(at..at + needle.len())]
        };
        assert_eq!(found("cafés"), "caf&eacute;s");
        assert_eq!(found("af"), "af");
        assert_eq!(found("<b>"), "&lt;b&gt;");
        assert_eq!(found("over"), "ov&#101;r");
        assert_eq!(found("uť"), "uť");
        assert_eq!(found("žluť kůň"), "žluť\r\n&nbsp;kůň");
        assert_eq!(found("kůň\n\nnext"), "kůň</p><p>next");
    }

    #[test]
    fn roles_and_hidden_attributes_say_what_is_beside_the_text() {
        let source = "<div role=navigation><div>menu</div></div><div ROLE=' Banner '>logo</div><p>one</p>\
            <div hidden>later</div><p>two <span aria-hidden=true>*</span></p><div id=cookies role=dialog>We use cookies\
            <button>OK</button></div><dialog>sign in</dialog><search>find</search><img hidden><p hidden=until-found>three";
        assert_eq!(text(source), "one\n\ntwo\n\nthree");
        assert_eq!(text("<body role=dialog aria-hidden=true><p>all there is"), "all there is");
    }

    #[test]
    fn forms_are_left_out_unless_the_page_is_in_them() {
        let letter = "<form action=x><p>Our newsletter<input></form>";
        assert_eq!(text(&format!("<form id=all><h1>A</h1><p>b{letter}</form><p>c")), "A\n\nb\n\nc");
        assert_eq!(text(&format!("{letter}<h1>A</h1>{letter}<p>b")), "A\n\nb");
        assert_eq!(text("<form>never closed<p>text"), "never closed\n\ntext");
        assert_eq!(read(&"<form>".repeat(200_000)).text, "");
    }

    #[test]
    fn what_a_page_is_about_is_read_alone() {
        let (long, short) = ("word ".repeat(20).trim_end().to_owned(), "x ");
        let page = format!("<title>T</title><div>around</div><main><p>{long}</p></main><div>after</div>");
        let read_page = read(&page);
        assert_eq!((read_page.text.as_str(), read_page.title.as_deref()), (long.as_str(), Some("T")));
        assert!(page[read_page.map.source(0..4)].starts_with("word"));
        assert_eq!(text(&format!("<div role=main><div>{long}</div>more</div>after")), format!("{long}\n\nmore"));
        // A shell that a script fills, and an article beside the text, are not it.
        assert_eq!(text(&format!("<main id=app></main><p>{long}")), long);
        assert_eq!(text(&format!("<h1>A</h1>{long}<article>{short}</article>")), format!("A\n\n{long}\n\nx"));
        // The article with the heading, if most of the text is its own; else all of them.
        let article = |heading: &str, text: &str| format!("<article><{heading}>A</{heading}><p>{text}</article>");
        let news = format!("<p>breaking</p>{}{}", article("h1", &long), article("h3", short));
        assert_eq!(text(&news), format!("A\n\n{}", long));
        let list = [article("h1", short), article("h1", short), article("h1", short)].concat();
        assert_eq!(text(&list), "A\n\nx\n\nA\n\nx\n\nA\n\nx");
    }

    #[test]
    fn the_first_heading_stands_in_for_a_title() {
        assert_eq!(read("<title> </title><h2>B</h2><h1>A</h1>").title.as_deref(), Some("A"));
        assert_eq!(read("<p>x").title, None);
    }
}
