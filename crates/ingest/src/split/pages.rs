//! Text that was taken out of a document: which page each passage is on.

use std::ops::Range;

use super::{PassageOptions, Split, split_text};
use crate::{Extracted, Format, Kind};

/// Splits the text of a document of this format.
pub(crate) fn split_extracted(
    format: Format,
    extracted: &Extracted,
    options: &PassageOptions,
    count_tokens: &dyn Fn(&str) -> usize,
) -> Split {
    let (text, pages) = (extracted.text.as_str(), &extracted.pages);
    let split = |text: &str| split_text(Kind::Extracted(format), text, options, count_tokens);
    let mut whole = Split::default();
    if format.has_pages_apart() && !pages.is_empty() {
        let mut lines = 0;
        for page in ranges(text, pages) {
            let mut part = split(&text[page.clone()]);
            for passage in &mut part.passages {
                passage.span = passage.span.start + page.start..passage.span.end + page.start;
                passage.lines = passage.lines.start() + lines..=passage.lines.end() + lines;
            }
            lines += text[page].bytes().filter(|byte| *byte == b'\n').count() as u32;
            whole.passages.append(&mut part.passages);
            whole.title = whole.title.or(part.title);
        }
    } else {
        whole = split(text);
    }
    for passage in &mut whole.passages {
        let page = pages.partition_point(|start| *start <= passage.span.start) as u32;
        passage.page = (!pages.is_empty()).then_some(page.max(1));
    }
    whole.title = extracted.title.clone().or(whole.title);
    whole
}

/// The parts of a text from page to page, and what stands before the first.
fn ranges(text: &str, pages: &[usize]) -> Vec<Range<usize>> {
    let starts = pages.iter().map(|start| text.floor_char_boundary(*start));
    super::cut::ranges(0..text.len(), &starts.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(format: Format, text: &str, marks: &[&str]) -> Vec<(Option<u32>, String)> {
        let pages = marks.iter().map(|mark| text.find(mark).unwrap()).collect();
        let extracted = Extracted { title: None, text: text.into(), pages };
        let words = |text: &str| text.split_whitespace().count();
        let passages = split_extracted(format, &extracted, &PassageOptions::default(), &words).passages;
        passages.into_iter().inspect(|p| assert_eq!(p.text, text[p.span.clone()])).map(|p| (p.page, p.text)).collect()
    }

    #[test]
    fn pages_flow_and_slides_do_not() {
        let text = "# One\n\nfirst\n\n# Two\n\nsecond\n";
        let marks = ["# One", "# Two"];
        assert_eq!(split(Format::Pdf, text, &marks), [(Some(1), text.trim_end().to_owned())]);
        let slides = split(Format::Pptx, text, &marks);
        assert_eq!(slides, [(Some(1), "# One\n\nfirst".into()), (Some(2), "# Two\n\nsecond".into())]);
        assert_eq!(split(Format::Docx, text, &[]), [(None, text.trim_end().to_owned())]);
    }

    #[test]
    fn a_page_without_text_counts() {
        let text = "one\n\ntwo\n";
        let extracted = Extracted { title: None, text: text.into(), pages: vec![0, 5, 5] };
        let count = |_: &str| 1;
        let split = split_extracted(Format::Pptx, &extracted, &PassageOptions::default(), &count);
        let found: Vec<_> = split.passages.iter().map(|p| (p.page, *p.lines.start(), p.text.as_str())).collect();
        assert_eq!(found, [(Some(1), 1, "one"), (Some(3), 3, "two")]);
    }
}
