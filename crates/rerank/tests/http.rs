//! Endpoints that are slow, busy, broken or strange: a stage that asks one says why it failed and passes its input on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "llm")]

mod endpoint;

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use endpoint::{Endpoint, Nothing, Reply, candidates, ids, note, rank};
use latewood_rerank::{Host, Pipeline, Ranked, Ranker};

/// No test waits as long as this for what is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks `endpoint`, which fails: the order stays, the list is cut, and the note, which is given back, says why.
fn fails(endpoint: &Endpoint, fields: &str) -> String {
    let start = Instant::now();
    let ranked = rank(&endpoint.ranker(&format!("top_n = 2\n{fields}")), &[1, 2, 3]);
    assert_eq!(ids(&ranked), ["1", "2"]);
    assert_eq!(ranked.candidates[0].score, 100.0, "what came before still counts");
    assert!(ranked.candidates.iter().all(|candidate| !candidate.scores.contains_key("llm")));
    let stage = &ranked.report.stages[0];
    assert_eq!((stage.candidates, stage.kept, stage.moved, stage.cached, stage.scores), (3, 2, 0, 0, None));
    let note = note(&ranked).to_owned();
    assert!(note.starts_with(&format!("failed, the order stays: {}", endpoint.url)), "{note}");
    assert!(start.elapsed() < PATIENCE, "{note}");
    note
}

fn sorted(ranked: &Ranked) -> bool {
    ids(ranked) == ["3", "2", "1"] && note(ranked).is_empty()
}

#[test]
fn a_busy_endpoint_is_asked_again() {
    for (status, head) in [(429, ""), (429, "Retry-After: 0\r\n"), (429, "retry-after: soon\r\n"), (503, "")] {
        let endpoint = Endpoint::new(move |before, asked| match before {
            0 => Reply::Plain(status, head, "busy".into()),
            _ => Reply::Says(asked.right()),
        });
        assert!(sorted(&rank(&endpoint.ranker(""), &[1, 2, 3])), "{status} {head}");
        assert_eq!(endpoint.count(), 2, "{status} {head}");
    }
}

#[test]
fn an_endpoint_is_left_in_peace_as_long_as_it_asks() {
    let endpoint = Endpoint::new(|before, asked| match before {
        0 => Reply::Plain(429, "retry-after: 1\r\n", "busy".into()),
        _ => Reply::Says(asked.right()),
    });
    let start = Instant::now();
    assert!(sorted(&rank(&endpoint.ranker(""), &[1, 2, 3])));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn nobody_waits_longer_than_allowed() {
    // As much as a number holds: it must not overflow what it is added to.
    for wait in ["retry-after: 100\r\n", "retry-after: 18446744073709551615\r\n"] {
        let endpoint = Endpoint::new(move |_, _| Reply::Plain(429, wait, "busy".into()));
        let note = fails(&endpoint, "max_seconds = 5");
        assert!(note.contains("429") && endpoint.count() == 1, "{note}");
    }
}

/// Who has to answer in time gets the old order in time.
#[test]
fn no_stage_lasts_longer_than_its_host() {
    let endpoint = Endpoint::new(|_, _| Reply::Raw(Box::new(|_| std::thread::sleep(PATIENCE))));
    let (ranker, start) = (endpoint.ranker(""), Instant::now());
    let host = Host { until: Some(start + Duration::from_millis(300)), ..Host::default() };
    let ranked = ranker.rank_watched("q", candidates(&[1, 2, 3]), &Nothing, &host, &mut |_, _| {}).unwrap();
    assert_eq!(ids(&ranked), ["1", "2", "3"]);
    assert!(note(&ranked).contains("no time is left") && ranked.report.stages[0].failed, "{}", note(&ranked));
    assert!(start.elapsed() < PATIENCE / 2);
}

/// What the budget cuts short each time is found to be too dear for it.
#[test]
fn a_budget_that_never_suffices_leaves_the_stage_out() {
    let endpoint = Endpoint::new(|_, _| Reply::Raw(Box::new(|_| std::thread::sleep(PATIENCE))));
    // As is usual, one request fits.
    let text = format!(
        "budget_ms = 850\n[[stages]]\ntype = \"llm\"\nmodel = \"m\"\nretries = 0\nbase_url = \"{}\"\n",
        endpoint.url
    );
    let ranker = Ranker::new(Pipeline::parse_toml(&text).unwrap(), &Nothing).unwrap();
    for _ in 0..2 {
        assert!(note(&rank(&ranker, &[1, 2, 3])).contains("no time is left"));
    }
    assert_eq!(note(&rank(&ranker, &[1, 2, 3])), "left out: over the latency budget");
    assert_eq!(endpoint.count(), 2);
}

#[test]
fn an_endpoint_that_is_down_is_tried_a_few_times() {
    for (retries, tries) in [("retries = 0", 1), ("retries = 1", 2), ("", 3)] {
        let endpoint = Endpoint::new(|_, _| Reply::Plain(500, "", "it burns".into()));
        let note = fails(&endpoint, retries);
        assert!(note.contains("500") && note.contains("it burns"), "{note}");
        assert_eq!(endpoint.count(), tries);
    }
}

#[test]
fn a_request_that_takes_too_long_is_given_up() {
    // One that says nothing, and one that says a little every now and then.
    let silent = Endpoint::new(|_, _| Reply::Raw(Box::new(|_| std::thread::sleep(Duration::from_millis(1500)))));
    let slow = Endpoint::new(|_, _| {
        Reply::Raw(Box::new(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(30));
            }
        }))
    });
    for endpoint in [silent, slow] {
        let note = fails(&endpoint, "timeout_s = 0.2\nretries = 1");
        assert!(note.contains("timeout"), "{note}");
        // It may have been a bad moment.
        endpoint.sees(2);
    }
}

#[test]
fn all_requests_of_a_query_end_in_time() {
    // Each is answered quickly, but there are too many.
    let endpoint = Endpoint::new(|_, asked| {
        std::thread::sleep(Duration::from_millis(100));
        Reply::Says(asked.right())
    });
    let note = fails(&endpoint, "window = 2\nstep = 1\nmax_seconds = 0.15");
    assert!(note.contains("max_seconds"), "{note}");
    // A single one goes no further than all of them may.
    let endpoint = Endpoint::new(|_, _| Reply::Raw(Box::new(|_| std::thread::sleep(PATIENCE))));
    let start = Instant::now();
    let note = fails(&endpoint, "max_seconds = 0.3");
    assert!(start.elapsed() < Duration::from_secs(5) && note.contains("max_seconds"), "{note}");
    endpoint.sees(1);
}

#[test]
fn a_connection_that_breaks_is_tried_again() {
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\": [{"]
    {
        let breaks = move || Reply::Raw(Box::new(move |stream| stream.write_all(begun.as_bytes()).unwrap()));
        let endpoint = Endpoint::new(move |before, asked| match before {
            0 => breaks(),
            _ => Reply::Says(asked.right()),
        });
        assert!(sorted(&rank(&endpoint.ranker(""), &[1, 2, 3])), "{begun}");
        let endpoint = Endpoint::new(move |_, _| breaks());
        fails(&endpoint, "retries = 1");
        assert_eq!(endpoint.count(), 2, "{begun}");
    }
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut endpoint = Endpoint::right();
    endpoint.url = format!("http://127.0.0.1:{port}/v1");
    let note = fails(&endpoint, "retries = 0");
    assert!(note.contains("refused"), "{note}");
}

#[test]
fn what_is_no_answer_is_not_asked_for_again() {
    let page = "<html><body>Welcome to the Wi-Fi of this hotel</body></html>";
    for (body, says) in [
        (page, "no chat completion"),
        ("", "no chat completion"),
        ("[]", "no chat completion"),
        ("{\"error\": \"no\"}", "missing field `choices`"),
        ("{\"choices\": []}", "no content"),
        ("{\"choices\": [{\"message\": {\"content\": null}}]}", "no content"),
        ("{\"choices\": [{\"message\": {\"refusal\": \"I will not\"}}]}", "no content"),
        ("{\"choices\": [{\"message\": {\"content\": \"\"}}]}", "names no passage"),
    ] {
        let endpoint = Endpoint::new(move |_, _| Reply::Plain(200, "", body.into()));
        let note = fails_anyhow(&endpoint);
        assert!(note.contains(says), "{body}: {note}");
        assert_eq!(endpoint.count(), 1, "{body}: {note}");
    }
    // Of bytes that are no text as well.
    let endpoint = Endpoint::new(|_, _| {
        Reply::Raw(Box::new(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff\xfe\xfd\xfc").unwrap();
        }))
    });
    fails(&endpoint, "");
    assert_eq!(endpoint.count(), 1);
}

/// [`fails`], where the answer arrived and its words are wrong.
fn fails_anyhow(endpoint: &Endpoint) -> String {
    let ranked = rank(&endpoint.ranker("top_n = 2"), &[1, 2, 3]);
    assert_eq!(ids(&ranked), ["1", "2"]);
    note(&ranked).to_owned()
}

#[test]
fn an_endless_answer_is_not_read_to_its_end() {
    for head in ["", "content-length: 4000000000\r\n"] {
        let endpoint = Endpoint::new(move |_, _| {
            Reply::Raw(Box::new(move |stream| {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n");
                // Until the other side has enough.
                while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
            }))
        });
        let note = fails(&endpoint, "");
        assert!(note.contains("1 MiB"), "{note}");
        assert_eq!(endpoint.count(), 1, "it will be as long the next time");
    }
}

#[test]
fn a_request_that_is_refused_is_not_repeated() {
    for status in [400, 401, 403, 404, 422] {
        let endpoint = Endpoint::new(move |_, _| Reply::Plain(status, "", "{\"error\": \"not like this\"}".into()));
        let note = fails(&endpoint, "");
        assert!(note.contains(&status.to_string()) && note.contains("not like this"), "{note}");
        assert_eq!(endpoint.count(), 1);
    }
    // Who is not let in need not try with each of a hundred passages.
    let endpoint = Endpoint::new(|_, _| Reply::Plain(401, "", "who are you?".into()));
    let worths: Vec<u32> = (0..100).collect();
    let ranked = rank(&endpoint.ranker("method = \"pointwise\"\nconcurrency = 2"), &worths);
    assert!(note(&ranked).contains("who are you?") && endpoint.count() <= 4, "{}", endpoint.count());
}

#[test]
fn what_an_endpoint_says_of_its_failure_is_cut() {
    let endpoint = Endpoint::new(|_, _| Reply::Plain(400, "", "ä".repeat(10_000)));
    assert!(fails(&endpoint, "").chars().count() < 500);
}

/// Runs the test `name` once more in a process of its own whose environment has a key; true in that process. A key of this
/// process would be that of all its tests.
fn with_key(name: &str, variable: &str, key: &str) -> bool {
    if std::env::var_os(variable).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let done = child.args([name, "--exact", "--nocapture"]).env(variable, key).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&[done.stdout, done.stderr].concat()));
    false
}

const KEY: &str = "sk-test-5f0c2a9e77";

#[test]
fn the_key_is_sent_and_never_told() {
    const VARIABLE: &str = "LATEWOOD_TEST_KEY_SENT";
    if !with_key("the_key_is_sent_and_never_told", VARIABLE, KEY) {
        return;
    }
    let endpoint = Endpoint::right();
    assert!(sorted(&rank(&endpoint.ranker_with_key(VARIABLE, ""), &[1, 2, 3])));
    assert_eq!(endpoint.asked()[0].authorization, Some(format!("Bearer {KEY}")));
    // Endpoints like to repeat what they were given, here so that cutting what they say would leave half of it.
    let filler = "x".repeat(190);
    let page = format!("{{\"choices\": \"{KEY}\"}}");
    for (status, body) in [(401, format!("Incorrect API key: {KEY}")), (401, format!("{filler}{KEY}")), (200, page)] {
        let endpoint = Endpoint::new(move |_, _| Reply::Plain(status, "", body.clone()));
        let ranked = rank(&endpoint.ranker_with_key(VARIABLE, ""), &[1, 2, 3]);
        assert_eq!(endpoint.asked()[0].authorization, Some(format!("Bearer {KEY}")));
        assert!(!note(&ranked).contains("sk-test") && note(&ranked).contains("failed"), "{}", note(&ranked));
    }
    for method in ["listwise", "pointwise", "pairwise"] {
        let endpoint = Endpoint::saying(&format!("Your key is {}", KEY.replace(char::is_numeric, "x")));
        let ranked = rank(&endpoint.ranker_with_key(VARIABLE, &format!("method = \"{method}\"")), &[1, 2, 3]);
        assert!(note(&ranked).contains("Your key is"), "{}", note(&ranked));
    }
    let endpoint = Endpoint::saying(&format!("key-{KEY}"));
    let ranked = rank(&endpoint.ranker_with_key(VARIABLE, "method = \"pairwise\""), &[1, 2, 3]);
    assert!(note(&ranked).contains("cannot be used") && !note(&ranked).contains(KEY), "{}", note(&ranked));
}

#[test]
fn a_key_from_a_file_with_its_line_end_is_a_key() {
    const VARIABLE: &str = "LATEWOOD_TEST_KEY_LINE";
    if !with_key("a_key_from_a_file_with_its_line_end_is_a_key", VARIABLE, &format!("{KEY}\n")) {
        return;
    }
    let endpoint = Endpoint::right();
    assert!(sorted(&rank(&endpoint.ranker_with_key(VARIABLE, ""), &[1, 2, 3])));
    assert_eq!(endpoint.asked()[0].authorization, Some(format!("Bearer {KEY}")));
}

#[test]
fn a_key_that_cannot_be_sent_is_not_told_either() {
    const VARIABLE: &str = "LATEWOOD_TEST_KEY_BAD";
    if !with_key("a_key_that_cannot_be_sent_is_not_told_either", VARIABLE, &format!("{KEY}\nx")) {
        return;
    }
    let endpoint = Endpoint::right();
    let ranked = rank(&endpoint.ranker_with_key(VARIABLE, ""), &[1, 2, 3]);
    assert!(note(&ranked).contains(VARIABLE) && !note(&ranked).contains(KEY), "{}", note(&ranked));
    assert_eq!(endpoint.count(), 0);
}

#[test]
fn an_empty_key_is_none() {
    const VARIABLE: &str = "LATEWOOD_TEST_KEY_EMPTY";
    if !with_key("an_empty_key_is_none", VARIABLE, "  ") {
        return;
    }
    let endpoint = Endpoint::right();
    rank(&endpoint.ranker_with_key(VARIABLE, ""), &[1, 2, 3]);
    assert_eq!(endpoint.asked()[0].authorization, None);
}
