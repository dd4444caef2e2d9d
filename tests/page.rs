//! The search page in a real browser, where there is one.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::server::Server;
use serde_json::json;
use tempfile::TempDir;

/// What would change the title of the page, if it were markup there.
const HOSTILE: &str = r#"<img src=x onerror="document.title='run'">"#;

/// A server of an index `notes`.
fn start(dir: &TempDir) -> Server {
    let server = Server::with(dir.path(), |command| _ = command.args(["--data", "indexes"]));
    let documents = json!([
        {
            "id": "bees",
            "title": "🐝 Bienen",
            "text": "👩‍🌾 Grüße! 🐝🐝 honey 🍯 keeps 蜂 the hive alive in winter.\n    Über alles: café.",
            "metadata": { "lang": "de", "tags": ["süß", "food"] }
        },
        {
            "id": HOSTILE,
            "title": HOSTILE,
            "text": format!("{HOSTILE} honey"),
            "metadata": { HOSTILE: HOSTILE, "lang": HOSTILE }
        }
    ]);
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201);
    assert_eq!(server.post("/v1/indexes/notes/documents", &json!({ "documents": documents })).status, 200);
    server
}

/// The name of a browser that starts.
fn browser() -> Option<&'static str> {
    let starts = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    ["chromium", "chromium-browser", "google-chrome", "chrome"].into_iter().find(starts)
}

/// The page at `url` as `browser` has it when all is answered.
fn visit(browser: &str, url: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, page) = mpsc::channel();
    thread::spawn(move || {
        let mut page = String::new();
        let read = stdout.read_to_string(&mut page);
        sender.send(read.map(|_| page)).ok();
    });
    let page = page.recv_timeout(Duration::from_secs(60));
    child.kill().ok();
    child.wait().ok();
    page.expect("the browser answers within a minute").unwrap()
}

/// What stands between `before` and `after`, each time.
fn between<'p>(page: &'p str, before: &str, after: &str) -> Vec<&'p str> {
    page.split(before).skip(1).filter_map(|rest| rest.split_once(after)).map(|(inner, _)| inner).collect()
}

/// What is marked in `part`.
fn marked(part: &str) -> Vec<&str> {
    part.split("<mark").skip(1).filter_map(|rest| rest.split_once('>')?.1.split_once("</mark>")).map(|m| m.0).collect()
}

#[test]
fn the_page_asks_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let answer = start(&dir).get("/");
    let (head, page) = (answer.head.to_lowercase(), answer.body);
    for line in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; ",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(line), "{line} is not in: {head}");
    }
    let addresses: Vec<&str> = page.split("://").skip(1).filter(|at| !at.starts_with("www.w3.org/2000/svg'")).collect();
    assert!(addresses.is_empty(), "{addresses:?}");
    assert!(!page.contains("innerHTML"));
}

#[test]
fn a_link_to_a_search_shows_what_each_word_met() {
    let Some(browser) = browser() else {
        return eprintln!("SKIPPED: no Chromium here to show the search page in");
    };
    let dir = tempfile::tempdir().unwrap();
    let server = start(&dir);
    // "honey hive über 🐝"
    let page = visit(browser, &format!("http://{}/?q=honey+hive+%C3%BCber+%F0%9F%90%9D&index=notes", server.addr));
    assert_eq!(between(&page, "<title>", "</title>"), ["honey hive über 🐝 · Latewood"]);
    assert!(page.contains("2 passages in "), "{page}");
    let hits: Vec<&str> = page.split("<li class=\"hit\">").skip(1).collect();
    assert_eq!(hits.len(), 2, "{page}");
    assert_eq!(between(hits[0], "<span class=\"path\">", "</span>"), ["bees"]);
    let words: Vec<&str> = between(&page, "class=\"chip token\"", "/button>");
    for word in ["honey", "hive", "über", "🐝", "whole query"] {
        assert!(words.iter().any(|chip| chip.ends_with(&format!(">{word}<"))), "{word} is not in {words:?}");
    }
    // Bytes before the words are more than the string counts.
    for word in ["honey", "hive"] {
        assert!(marked(hits[0]).contains(&word), "{word} is not in {:?}", marked(hits[0]));
    }
    assert!(hits[0].contains("\n    "), "white space is kept");
    assert!(hits[0].contains("<i>tags </i>süß</button>"), "{}", hits[0]);

    let shown = HOSTILE.replace('<', "&lt;").replace('>', "&gt;");
    assert_eq!(between(hits[1], "<span class=\"path\">", "</span>"), [shown.as_str()]);
    assert!(hits[1].contains(&format!("<i>lang </i>{shown}</button>")), "{}", hits[1]);

    // As JSON, {"lang":"fr"}; then what is no test.
    let ask = |filter: &str| visit(browser, &format!("http://{}/?q=honey&index=notes&filter={filter}", server.addr));
    assert!(ask("%7B%22lang%22%3A%22fr%22%7D").contains("Nothing found: no document passes the filter."));
    let wrong = ask("%7B%22lang%22%3A%7B%22%24like%22%3A1%7D%7D");
    assert!(wrong.contains("role=\"alert\">filter.lang.$like: there is no such test"), "{wrong}");
}
