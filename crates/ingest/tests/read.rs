//! Whole files through the public interface.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use latewood_ingest::{
    Document, FileEntry, Kind, Passage, PassageOptions, ReadOptions, SkipReason, WalkOptions, hash_file, read_document,
    walk,
};

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

const OPTIONS: PassageOptions = PassageOptions { max_tokens: 72, min_tokens: 12, overlap_tokens: 15 };

fn options() -> ReadOptions {
    ReadOptions { passages: OPTIONS, ..ReadOptions::default() }
}

fn fixture(name: &str) -> Document {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let found = walk(&root, &WalkOptions::default()).unwrap();
    let entry = found.files.iter().find(|entry| entry.path == name).unwrap();
    let document = read_document(&root, entry, &options(), &words).unwrap();
    assert_eq!(document.path, name);
    assert_eq!(document.hash, hash_file(&root, entry).unwrap());
    assert!(document.passages.iter().all(|passage| words(&passage.text) <= OPTIONS.max_tokens));
    document
}

/// Writes one file and reads it back.
fn read(name: &str, bytes: &[u8]) -> Result<Document, SkipReason> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    let entry = FileEntry { path: name.to_owned(), size: bytes.len() as u64, modified_ns: 0 };
    let read = read_document(folder.path(), &entry, &options(), &words);
    read.map_err(|skipped| {
        assert_eq!(skipped.path, name);
        skipped.reason
    })
}

fn passage<'a>(document: &'a Document, needle: &str) -> &'a Passage {
    let mut found = document.passages.iter().filter(|passage| passage.text.contains(needle));
    found.next().unwrap_or_else(|| panic!("{needle} is in no passage"))
}

#[test]
fn markdown_by_its_sections() {
    let guide = fixture("guide.md");
    assert_eq!((guide.kind, guide.encoding, guide.text_offset), (Kind::Markdown, "UTF-8", Some(0)));
    assert_eq!(guide.title.as_deref(), Some("Kilns of the workshop"));
    for passage in &guide.passages {
        assert_eq!(passage.text, guide.text[passage.span.clone()]);
    }
    let steps = passage(&guide, "flue");
    assert_eq!(steps.headings, ["Kilns of the workshop", "Before you start"]);
    assert!(steps.text.starts_with("Before you start\n----"), "{}", steps.text);
    assert!(steps.text.ends_with("where you can see them."), "{}", steps.text);
    assert_eq!(steps.lines, 14..=25);
    let table = passage(&guide, "| 10 ");
    assert!(table.text.starts_with("| Cone"), "{}", table.text);
    let schedule = passage(&guide, "ramp = ");
    assert_eq!(schedule.headings, ["Kilns of the workshop", "Firing", "A schedule"]);
    assert!(schedule.text.contains("```toml\n[bisque]"), "{}", schedule.text);
    assert!(passage(&guide, "Kept since").text.starts_with("## Notes"));
    // The paragraph that is over the budget is cut between sentences.
    let heat = passage(&guide, "Heat rises");
    assert!(heat.text.starts_with("## Firing") && heat.text.ends_with(['.', '!', '?']));
}

#[test]
fn html_as_it_is_read() {
    let page = fixture("page.html");
    assert_eq!(page.title.as_deref(), Some("Tides & harbours — Almanac"));
    let all: Vec<&str> = page.passages.iter().map(|passage| passage.text.as_str()).collect();
    let all = all.join("\n\n");
    for hidden in ["written", "color", "Home", "Almanac", "Share", "Advert", "Copyright", "no\n"] {
        assert!(!all.contains(hidden), "{hidden} in {all}");
    }
    assert!(all.contains("The tide at the old harbour lags the moon by about two hours.1"));
    assert!(all.contains("twice a year.\nSandbags"));
    assert!(all.contains("half moon\nfirst quarter\nlast quarter"));
    assert!(all.contains("Harbour | Metres\nOld | 4.2\nNew | 3.9"));
    assert!(all.contains("height = mean +\n    amplitude * cos(phase)"));
    let cafes = passage(&page, "Cafés");
    assert_eq!(cafes.headings, ["Tides and harbours", "High water"]);
    let source = &page.text[cafes.span.clone()];
    assert!(source.starts_with("High water</h2>"), "{source}");
    assert!(source.ends_with("last quarter"), "{source}");
    assert!(cafes.text.ends_with("last quarter"), "{}", cafes.text);
    assert_eq!(cafes.lines, 18..=24);
}

#[cfg(feature = "code")]
#[test]
fn code_by_its_definitions() {
    let store = fixture("store.py");
    assert_eq!(store.kind, Kind::Code("python"));
    let starts: Vec<&str> = store.passages.iter().filter_map(|passage| passage.text.lines().next()).collect();
    assert_eq!(
        starts,
        [
            "\"\"\"A store of seeds.",
            "class Store:",
            "    def take(self, name: str, count: int) -> int:",
            "def load(path: str) -> Store:",
        ]
    );
    assert_eq!(passage(&store, "def take").headings, ["class Store", "take"]);
    assert!(passage(&store, "is_empty").text.contains("@dataclass\nclass Packet"));
}

#[test]
fn line_ends_of_windows_change_nothing_but_the_spans() {
    let guide = fixture("guide.md");
    let windows = read("guide.md", guide.text.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(windows.title, guide.title);
    let texts = |document: &Document| -> Vec<_> {
        let passages = document.passages.iter();
        passages.map(|p| (p.text.replace("\r\n", "\n"), p.lines.clone(), p.headings.clone())).collect()
    };
    assert_eq!(texts(&windows), texts(&guide));
    let page = fixture("page.html");
    let windows = read("page.html", page.text.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(texts(&windows), texts(&page));
}

#[test]
fn other_encodings_are_read() {
    let text = "Das Öl für die Türangel gehört in den Schrank; größere Mengen gehören nach draußen.";
    let utf16: Vec<u8> =
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(|unit: u16| unit.to_le_bytes()).collect();
    let document = read("utf16.txt", &utf16).unwrap();
    assert_eq!((document.text.as_str(), document.encoding), (text, "UTF-16LE"));
    assert_eq!(document.text_offset, None);
    let latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let document = read("latin.txt", &latin).unwrap();
    assert_eq!((document.text.as_str(), document.encoding), (text, "windows-1252"));
    let document = read("bom.txt", format!("\u{feff}{text}").as_bytes()).unwrap();
    assert_eq!((document.text.as_str(), document.text_offset), (text, Some(3)));
    assert_eq!(document.passages[0].span, 0..text.len());
}

#[test]
fn what_is_not_text_is_said_so() {
    assert_eq!(read("a.txt", b"").unwrap_err(), SkipReason::Empty);
    assert_eq!(read("a.txt", b"ab\0cd").unwrap_err(), SkipReason::Binary);
    assert_eq!(read("noext", b"\x89PNG\r\n\x1a\n").unwrap_err(), SkipReason::Unsupported("image"));
    assert_eq!(
        read("data.json", format!("[{}1]", "1,".repeat(40_000)).as_bytes()).unwrap_err(),
        SkipReason::Generated("a line of over 50 kB")
    );
    let entry = FileEntry { path: "gone.txt".to_owned(), size: 1, modified_ns: 0 };
    let error = read_document(Path::new("/nowhere"), &entry, &options(), &words).unwrap_err();
    assert!(error.to_string().starts_with("gone.txt: cannot be read: "), "{error}");
    assert_eq!(hash_file(Path::new("/nowhere"), &entry).unwrap_err(), error);
}

#[test]
fn one_huge_line_of_prose_is_cut_between_sentences() {
    let text = "It rained on the roof all night and all day. ".repeat(3_000);
    let document = read("rain.txt", text.as_bytes()).unwrap();
    assert!(document.passages.len() > 400);
    assert!(
        document
            .passages
            .iter()
            .all(|passage| { passage.text.starts_with("It rained") && passage.text.ends_with("all day.") })
    );
}
