//! The server through a real socket.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::Duration;

use common::{documents, latewood, run};
use serde_json::{Value, json};

/// A running server; killed when dropped.
struct Server {
    child: Child,
    addr: String,
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(folder: &std::path::Path) -> Self {
        let mut child = latewood()
            .current_dir(folder)
            .args(["serve", "--addr", "127.0.0.1:0", "-q"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening on http://").expect("the address").to_owned();
        Self { child, addr, _stdout: stdout }
    }

    fn send(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        (status, serde_json::from_str(body).unwrap())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
        self.send(&format!("POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_api_answers_and_says_what_is_wrong() {
    let dir = documents();
    let server = Server::start(dir.path());
    assert_eq!(server.get("/healthz"), (200, json!({ "status": "ok" })));
    let (code, status) = server.get("/v1/status");
    assert_eq!((code, &status["files"]), (200, &json!(4)));
    assert!(status["model"].as_str().unwrap().starts_with("latewood-mini@"));

    let (code, found) = server.post("/v1/search", r#"{"query": "how much honey does a hive need", "k": 2}"#);
    assert_eq!(code, 200, "{found}");
    let hit = &found["hits"][0];
    assert_eq!(hit["path"], "guide/bees.html");
    assert_eq!(found["hits"].as_array().unwrap().len(), 2);
    assert!(found["timings_ms"]["encode"].as_f64().unwrap() > 0.0);
    let (code, document) = server.get(&format!("/v1/documents/{}", hit["id"]));
    assert_eq!((code, &document["text"]), (200, &hit["text"]));

    // A query row that points the way of a token finds that token's passage; any vector of the right size is answered.
    let dim = status["dim"].as_u64().unwrap() as usize;
    let mut row = vec![0.0; dim];
    row[3] = 1.0;
    let (code, found) = server.post("/v1/search", &json!({ "embeddings": [row, row], "k": 1 }).to_string());
    assert_eq!((code, found["hits"].as_array().unwrap().len()), (200, 1), "{found}");
    assert_eq!(found["timings_ms"]["encode"], 0.0);

    let wrong = json!({ "embeddings": [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]] }).to_string();
    let long = json!({ "query": "word ".repeat(600) }).to_string();
    let cases = [
        (server.post("/v1/search", "{"), 400, "bad_request"),
        (server.post("/v1/search", r#"{"query": ""}"#), 400, "empty_query"),
        (server.post("/v1/search", &long), 400, "query_too_long"),
        (server.post("/v1/search", "{}"), 400, "bad_request"),
        (server.post("/v1/search", r#"{"query": "x", "k": 0}"#), 400, "bad_request"),
        (server.post("/v1/search", r#"{"embeddings": []}"#), 400, "bad_request"),
        (server.post("/v1/search", r#"{"embeddings": [[1, 2], [3]]}"#), 400, "bad_request"),
        (server.post("/v1/search", &wrong), 422, "dimension_mismatch"),
        (server.post("/v1/search", r#"{"query": "x", "kk": 1}"#), 422, "bad_request"),
        (server.get("/v1/documents/99999"), 404, "not_found"),
        (server.get("/v1/documents/abc"), 400, "bad_request"),
        (server.get("/v1/nothing"), 404, "not_found"),
        (server.get("/v1/search"), 405, "method_not_allowed"),
        (
            server.send("POST /v1/search HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"),
            415,
            "unsupported_media_type",
        ),
    ];
    for (at, ((status, body), want, code)) in cases.iter().enumerate() {
        assert_eq!((status, body["error"]["code"].as_str()), (want, Some(*code)), "case {at}: {body}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn new_commits_are_served_without_a_restart() {
    let dir = documents();
    let server = Server::start(dir.path());
    fs::write(dir.path().join("otters.md"), "Otters hold hands while they sleep.\n").unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    thread::sleep(Duration::from_millis(1100));
    let (_, found) = server.post("/v1/search", r#"{"query": "otters sleeping"}"#);
    assert_eq!(found["hits"][0]["path"], "otters.md");
}

#[test]
fn a_taken_port_is_named() {
    let dir = documents();
    let server = Server::start(dir.path());
    let second = run(dir.path(), &["serve", "--addr", &server.addr]);
    assert_eq!(second.code, 2);
    assert!(second.stderr.contains(&format!("cannot listen on {}", server.addr)), "{}", second.stderr);
}
