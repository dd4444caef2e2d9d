//! Spans for a collector: what the server sends to one that this test is, and how it bears one that is not there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/protobuf.rs"]
mod protobuf;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::documents;
use common::server::{Answer, Server};
use protobuf::Message;
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector of spans, as far as one needs to be one.
struct Collector {
    endpoint: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let received = bodies.clone();
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| receive(stream, &received)));
        Self { endpoint, bodies }
    }

    /// What has come: whose spans, and the spans.
    fn spans(&self) -> (Vec<String>, Vec<Span>) {
        let (mut services, mut spans) = (Vec::new(), Vec::new());
        for body in self.bodies.lock().unwrap().iter() {
            for resource_spans in Message::read(body).messages(1) {
                let resource = resource_spans.messages(1).remove(0);
                services.push(attributes(&resource.messages(1))["service.name"].clone());
                let of_scope = resource_spans.messages(2).into_iter().flat_map(|scope| scope.messages(2));
                spans.extend(of_scope.map(|span| Span::read(&span)));
            }
        }
        (services, spans)
    }
}

fn receive(mut stream: TcpStream, bodies: &Mutex<Vec<Vec<u8>>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_lowercase();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
    let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    bodies.lock().unwrap().push(body);
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
}

#[derive(Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: u64,
    time: (u64, u64),
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn read(span: &Message<'_>) -> Self {
        let hex = |field| span.bytes(field).iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            trace: hex(1),
            id: hex(2),
            parent: hex(4),
            name: span.text(5),
            kind: span.number(6),
            time: (span.number(7), span.number(8)),
            attributes: attributes(&span.messages(9)),
        }
    }

    fn number(&self, name: &str) -> f64 {
        self.attributes[name].parse().unwrap()
    }
}

fn attributes(pairs: &[Message<'_>]) -> BTreeMap<String, String> {
    let value = |value: &Message<'_>| match value.field() {
        2 | 3 => value.number(value.field()).to_string(),
        4 => f64::from_bits(value.number(4)).to_string(),
        _ => value.text(1),
    };
    pairs.iter().map(|pair| (pair.text(1), value(&pair.messages(2)[0]))).collect()
}

/// A server with a data folder, its collector at `endpoint`.
fn with_collector(dir: &tempfile::TempDir, endpoint: &str, change: impl FnOnce(&mut Command)) -> Server {
    Server::with(dir.path(), |command| {
        for name in std::env::vars().map(|(name, _)| name) {
            if name.starts_with("OTEL_") || name.to_lowercase().ends_with("_proxy") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.args([".", "--data", "data"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50").stderr(File::create(dir.path().join("data.log")).unwrap());
        change(command);
    })
}

/// A request of a client that is traced itself.
fn traced(server: &Server, path: &str, flags: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let more = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\ntraceparent: 00-{TRACE}-{PARENT}-{flags}\r\n",
        body.len()
    );
    let answer = server.send(&format!("{}{body}", server.head("POST", path, &more)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

#[test]
fn a_request_and_its_stages_are_spans_of_its_clients_trace() {
    let (dir, collector) = (documents(), Collector::start());
    let mut server = with_collector(&dir, &collector.endpoint, |command| {
        command.env("OTEL_SERVICE_NAME", "the-wood");
    });
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201);
    let documents =
        json!({ "documents": [{ "id": "kiln", "text": "A kiln is hot." }, { "id": "bees", "text": "Bees swarm." }] });
    traced(&server, "/v1/indexes/notes/documents", "01", &documents);
    let found = traced(&server, "/v1/indexes/notes/search", "01", &json!({ "queries": ["hot kiln", "bees"], "k": 1 }));
    traced(&server, "/rerank", "01", &json!({ "query": "hot", "texts": ["a", "b", "c"] }));
    traced(&server, "/v1/search", "00", &json!({ "query": "its client keeps no spans of this one" }));
    assert!(server.stop());

    let (services, spans) = collector.spans();
    assert!(services.iter().all(|service| service == "the-wood"), "{services:?}");
    let all = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let one = |name: &str| match all(name)[..] {
        [span] => span,
        _ => panic!("{name}: {spans:#?}"),
    };
    // A child of what `traceparent` names, and of nothing where there is none.
    let made = one("POST /v1/indexes");
    assert_eq!((made.parent.as_str(), &made.attributes["http.response.status_code"]), ("", &"201".to_owned()));
    assert_ne!(made.trace, TRACE);
    let search = one("POST /v1/indexes/{index}/search");
    assert_eq!((search.trace.as_str(), search.parent.as_str(), search.kind), (TRACE, PARENT, 2));
    assert_eq!(search.attributes["url.path"], "/v1/indexes/notes/search");
    assert_eq!(search.number("http.response.status_code"), 200.0);
    assert!(found.head.contains(&format!("x-request-id: {}", search.attributes["id"])), "{}", found.head);
    assert!(all("POST /v1/search").is_empty(), "not sampled");

    let within = |outer: &Span, name: &str| {
        let inner = all(name).into_iter().filter(|span| span.parent == outer.id).collect::<Vec<_>>();
        let [inner] = inner[..] else { panic!("{name} in {outer:?}: {spans:#?}") };
        assert_eq!(inner.trace, outer.trace);
        assert!(outer.time.0 <= inner.time.0 && inner.time.0 <= inner.time.1, "{outer:?} {inner:?}");
        inner
    };
    assert_eq!(within(search, "encode").number("queries"), 2.0);
    let stage = within(search, "search");
    assert!(stage.time.1 <= search.time.1, "{stage:?}");
    assert_eq!((stage.number("hits"), stage.number("k"), stage.attributes["index"].as_str()), (2.0, 1.0, "notes"));
    assert!(stage.number("candidates") >= 2.0 && stage.number("rescore_ms") > 0.0, "{stage:?}");

    let add = one("POST /v1/indexes/{index}/documents");
    assert_eq!((add.trace.as_str(), add.parent.as_str()), (TRACE, PARENT));
    let write = within(add, "write");
    assert_eq!(write.number("documents"), 2.0);
    let commit = within(write, "commit");
    assert_eq!((commit.number("documents"), commit.number("passages"), commit.number("writes")), (2.0, 2.0, 1.0));
    assert!(commit.number("generation") > 0.0 && commit.time.1 <= write.time.1, "{commit:?} {write:?}");

    let rerank = one("POST /rerank");
    let texts = all("encode").into_iter().find(|span| span.attributes.contains_key("texts")).unwrap();
    assert_eq!((&texts.parent, texts.number("texts")), (&rerank.id, 3.0));
}

#[test]
fn nothing_is_sent_where_that_is_not_wanted() {
    let (dir, collector) = (documents(), Collector::start());
    for (name, value) in
        [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]
    {
        let mut server = with_collector(&dir, &collector.endpoint, |command| _ = command.env(name, value));
        assert_eq!(server.get("/v1/indexes").status, 200);
        assert!(server.stop());
        assert!(collector.spans().1.is_empty(), "{name}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("data.log")).unwrap(), "");
}

#[test]
fn a_collector_that_does_not_answer_keeps_nobody_waiting() {
    let dir = documents();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [nobody, silent.local_addr().unwrap()] {
        let mut server = with_collector(&dir, &format!("http://{address}"), |command| {
            // A queue that is full at once. Each of the requests below would wait for 2 s.
            command.env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000").env("OTEL_BSP_MAX_QUEUE_SIZE", "4");
        });
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(server.post("/v1/search", &json!({ "query": "honey" })).status, 200);
            thread::sleep(Duration::from_millis(50));
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{address}");
        let start = Instant::now();
        assert!(server.stop(), "{address}");
        assert!(start.elapsed() < Duration::from_secs(30), "{address}");
        let log = fs::read_to_string(dir.path().join("data.log")).unwrap();
        let said = format!("spans cannot be sent to http://{address}/v1/traces");
        assert_eq!(log.matches(&said).count(), 1, "{log}");
        assert!(log.lines().count() < 10, "{log}");
    }
}

#[test]
fn what_cannot_be_exported_to_is_named() {
    let dir = documents();
    let mut command = common::latewood();
    command.current_dir(dir.path()).args(["serve", "--addr", "127.0.0.1:0"]);
    let ended = common::of(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "no address").output().unwrap());
    assert!(ended.code == 2 && ended.stderr.contains("OpenTelemetry"), "{}", ended.stderr);
}
