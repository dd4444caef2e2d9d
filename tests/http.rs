//! The server through a real socket: what it answers, and what it says is wrong.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::thread;
use std::time::{Duration, Instant};

use common::server::{Server, read};
use common::{documents, latewood, repository, run};
use serde_json::{Value, json};

const READ: &str = "read-0123456789abcdef";
const WRITE: &str = "write-0123456789abcdef";

/// A server with a data folder, and a folder of documents as the index "default".
fn with_data(dir: &tempfile::TempDir) -> Server {
    Server::with(dir.path(), |command| _ = command.args([".", "--data", "data"]))
}

/// The same, what it logs in a file.
fn with_data_and_log(dir: &tempfile::TempDir) -> Server {
    let log = fs::File::create(dir.path().join("log")).unwrap();
    Server::with(dir.path(), |command| _ = command.args([".", "--data", "data"]).stderr(log))
}

/// With an index "notes" of two documents.
fn with_notes(dir: &tempfile::TempDir) -> Server {
    let server = with_data(dir);
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201);
    let documents = json!({ "documents": [
        { "id": "kiln", "text": "A kiln fires stoneware at 1280 degrees.", "metadata": { "topic": "clay", "year": 2019 } },
        { "id": "bees/swarm", "title": "Bees", "text": "They swarm in May.", "metadata": { "topic": "bees", "year": 2024 } }
    ]});
    let written = server.post("/v1/indexes/notes/documents", &documents);
    assert_eq!((written.status, &written.json()["written"]["added"]), (200, &json!(2)), "{}", written.body);
    server
}

fn found(server: &Server, index: &str, request: &Value) -> Vec<String> {
    let answer = server.post(&format!("/v1/indexes/{index}/search"), request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let hits = answer.json()["hits"].as_array().unwrap().clone();
    hits.iter().map(|hit| hit["document"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_folder_is_searched_and_what_is_wrong_is_said() {
    let dir = documents();
    let server = Server::start(dir.path());
    assert_eq!(server.get("/healthz").json(), json!({ "status": "ok" }));
    assert_eq!((server.get("/readyz").status, server.get("/health").status), (200, 200));
    let index = server.get("/v1/indexes/default").json();
    assert_eq!((&index["documents"], &index["source"]), (&json!(4), &json!("folder")));
    assert!(index["model"].as_str().unwrap().starts_with("latewood-mini@"));
    assert_eq!(server.get("/v1/indexes").json()["indexes"], json!([index]));

    let found = server.post("/v1/search", &json!({ "query": "how much honey does a hive need", "k": 2 }));
    assert_eq!(found.status, 200, "{}", found.body);
    let found = found.json();
    let hit = &found["hits"][0];
    assert_eq!(hit["document"], "guide/bees.html");
    assert_eq!(found["hits"].as_array().unwrap().len(), 2);
    assert!(found["timings_ms"]["encode"].as_f64().unwrap() > 0.0);
    let document = server.get("/v1/indexes/default/documents/guide%2Fbees.html").json();
    assert!(document["passages"].as_array().unwrap().iter().any(|passage| passage["text"] == hit["text"]));

    // A query row that points the way of a token finds that token's passage; any vector of the right size is answered.
    let dim = index["dim"].as_u64().unwrap() as usize;
    let mut row = vec![0.0; dim];
    row[3] = 1.0;
    let found = server.post("/v1/search", &json!({ "embeddings": [row, row], "k": 1 }));
    assert_eq!((found.status, found.json()["hits"].as_array().unwrap().len()), (200, 1), "{}", found.body);
    assert_eq!(found.json()["timings_ms"]["encode"], 0.0);

    let wrong = json!({ "embeddings": [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]] });
    let long = json!({ "query": "word ".repeat(600) });
    let nested = format!("{}b{}", "{a,".repeat(20_000), "}".repeat(20_000));
    let untyped = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let huge = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Content-Length: 99999999999\r\n\r\n";
    let cases = [
        (server.post_text("/v1/search", "{"), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "query": "" })), 400, "empty_query"),
        (server.post("/v1/search", &long), 400, "query_too_long"),
        (server.post("/v1/search", &json!({})), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "query": "x", "k": 0 })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "query": "x", "k": 1001 })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "query": "x".repeat(20_000) })), 400, "query_too_long"),
        (server.post("/v1/search", &json!({ "queries": vec!["x"; 100], "k": 101 })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "query": "x", "filter": { "$xor": [] } })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "queries": [] })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "queries": ["x", " "] })), 400, "empty_query"),
        (server.post("/v1/search", &json!({ "embeddings": [] })), 400, "bad_request"),
        (server.post("/v1/search", &json!({ "embeddings": [[1, 2], [3]] })), 400, "bad_request"),
        (server.post("/v1/search", &wrong), 422, "dimension_mismatch"),
        (server.post("/v1/search", &json!({ "query": "x", "kk": 1 })), 400, "bad_request"),
        (server.post("/v1/indexes/none/search", &json!({ "query": "x" })), 404, "not_found"),
        (server.get("/v1/indexes/default/documents/none"), 404, "not_found"),
        (server.get("/v1/indexes/..%2Fdefault"), 404, "not_found"),
        (server.get("/v1/nothing"), 404, "not_found"),
        (server.get("/v1/search"), 405, "method_not_allowed"),
        (server.get("/v1/tasks/x"), 400, "bad_request"),
        (server.get("/v1/tasks/77"), 404, "not_found"),
        (server.send(untyped), 415, "unsupported_media_type"),
        (server.send(huge), 413, "payload_too_large"),
        // This server keeps nothing of its clients', and a folder's documents are its files.
        (server.post("/v1/indexes", &json!({ "name": "notes" })), 409, "conflict"),
        (server.delete("/v1/indexes/default"), 409, "conflict"),
        (server.delete("/v1/indexes/default/documents/x"), 409, "conflict"),
        (
            server.post("/rerank", &json!({ "query": "x", "texts": ["y".repeat(1 << 20), "z"] })),
            413,
            "payload_too_large",
        ),
        (
            server.post("/v1/search", &json!({ "query": "x", "filter": { "path": { "$glob": nested } } })),
            400,
            "bad_request",
        ),
    ];
    for (at, (answer, status, code)) in cases.iter().enumerate() {
        assert_eq!((answer.status, &*answer.code()), (*status, *code), "case {at}: {}", answer.body);
        assert!(!answer.json()["error"]["message"].as_str().unwrap().is_empty());
        assert!(answer.head.contains("x-request-id: "), "case {at}: {}", answer.head);
        assert!(answer.body.len() < 1000, "case {at}: {}", answer.body);
    }
    assert!(server.get("/v1/search").head.to_lowercase().contains("allow: post"));
    assert_eq!(server.get("/v1/tasks").json()["tasks"], json!([]), "what was refused is no task");
    // Null is as good as nothing.
    let request =
        json!({ "query": "honey", "k": null, "mode": null, "filter": null, "explain": null, "queries": null });
    assert_eq!(server.post("/v1/search", &request).status, 200);
    // And a whole number is one however it is written.
    for k in ["2.0", "2e0", "2"] {
        let found = server.post_text("/v1/search", &format!("{{\"query\": \"honey\", \"k\": {k}}}")).json();
        assert_eq!(found["hits"].as_array().unwrap().len(), 2, "{k}");
    }
}

#[test]
fn documents_live_in_indexes_that_clients_make() {
    let dir = documents();
    let mut server = with_notes(&dir);
    assert_eq!(found(&server, "notes", &json!({ "query": "how hot is a kiln", "k": 1 })), ["kiln"]);
    let bees = json!({ "query": "how hot is a kiln", "filter": { "topic": "bees", "year": { "$gte": 2020 } } });
    assert_eq!(found(&server, "notes", &bees), ["bees/swarm"]);
    let both = server.post("/v1/indexes/notes/search", &json!({ "queries": ["a kiln", "bees in May"], "k": 1 })).json();
    let first: Vec<&Value> = both["results"].as_array().unwrap().iter().map(|r| &r["hits"][0]["document"]).collect();
    assert_eq!(first, ["kiln", "bees/swarm"]);

    let query = "hot kiln";
    let explained = server.post("/v1/indexes/notes/search", &json!({ "query": query, "k": 1, "explain": true })).json();
    let hit = &explained["hits"][0];
    let place = |m: &Value, part: &str, text: &str| {
        let at = |end: &str| m[part][end].as_u64().map(|n| n as usize);
        at("start").zip(at("end")).map(|(start, end)| text[start..end].to_owned())
    };
    let matches = hit["matches"].as_array().unwrap();
    let met = |m: &&Value| place(m, "query", query).as_deref() == Some("hot");
    assert!(place(matches.iter().find(met).unwrap(), "text", hit["text"].as_str().unwrap()).is_some(), "{matches:?}");

    let swarm = server.get("/v1/indexes/notes/documents/bees%2Fswarm").json();
    assert_eq!((&swarm["title"], &swarm["passages"][0]["text"]), (&json!("Bees"), &json!("They swarm in May.")));
    // The same again, and embeddings of the model's own, packed.
    let again = json!({ "documents": [{ "id": "kiln", "text": "A kiln fires stoneware at 1280 degrees." }] });
    let written = server.post("/v1/indexes/notes/documents", &again).json();
    assert_eq!((&written["written"]["unchanged"], &written["written"]["passages"]), (&json!(1), &json!(0)));
    let request = json!({ "input": "tide tables", "input_type": "document", "encoding_format": "base64" });
    let rows = server.post("/v1/embeddings", &request).json()["data"][0].clone();
    let rows = json!({ "base64": rows["embedding"], "shape": rows["shape"] });
    let tide = json!({ "documents": [{ "id": "tide", "embeddings": rows, "text": "shown" }] });
    assert_eq!(server.post("/v1/indexes/notes/documents", &tide).status, 200);
    assert_eq!(found(&server, "notes", &json!({ "query": "tides", "k": 1 })), ["tide"]);

    let generation = server.get("/v1/indexes/notes").json()["generation"].clone();
    assert_eq!(server.delete("/v1/indexes/notes/documents/none").json()["written"]["generation"], generation);
    let gone = server.post("/v1/indexes/notes/delete", &json!({ "ids": ["tide", "none"] })).json();
    assert_eq!(gone["written"]["deleted"], 1);
    assert_eq!(server.delete("/v1/indexes/notes/documents/bees%2Fswarm").json()["written"]["deleted"], 1);
    assert_eq!(found(&server, "notes", &json!({ "query": "bees in May" })), ["kiln"]);

    let long = "x".repeat(65);
    for name in ["", "A", "a/b", "..", "-a", &long, "a.b"] {
        let answer = server.post("/v1/indexes", &json!({ "name": name }));
        assert_eq!((answer.status, &*answer.code()), (400, "bad_request"), "{name}: {}", answer.body);
    }
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 409);
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "three", "bits": 3 })).code(), "bad_request");
    for (document, part) in [
        (json!({ "id": "", "text": "x" }), "an id has"),
        (json!({ "id": "a" }), "give its text or its embeddings"),
        (json!({ "id": "a", "text": " " }), "it has no text"),
        (json!({ "id": "a", "text": "x", "metadata": { "b": { "c": 1 } } }), "metadata"),
        (json!({ "id": "a", "embeddings": [[3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]] }), "norm"),
    ] {
        let answer = server.post("/v1/indexes/notes/documents", &json!({ "documents": [document] }));
        let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && text.contains(part), "{text}");
    }

    // Nothing is written of a request that is refused.
    let second = json!({ "id": "empty", "format": "html", "text": "<title>Empty</title><script>let x;</script>" });
    let refused = server.post(
        "/v1/indexes/notes/documents",
        &json!({ "documents": [{ "id": "first", "text": "A first one." }, second] }),
    );
    assert!(refused.status == 400 && refused.body.contains("as html it has no text"), "{}", refused.body);
    assert_eq!(server.get("/v1/indexes/notes/documents/first").status, 404);

    // What was written survives the server; what is deleted does not.
    assert!(server.stop());
    let server = with_data(&dir);
    assert_eq!(found(&server, "notes", &json!({ "query": "bees in May" })), ["kiln"]);
    assert_eq!(server.delete("/v1/indexes/notes").status, 204);
    assert_eq!(server.get("/v1/indexes/notes").status, 404);
    assert!(!dir.path().join("data/notes").exists());
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201, "the name is free again");
}

#[test]
fn a_damaged_index_does_not_keep_others_from_being_served() {
    let dir = documents();
    drop(with_notes(&dir));
    for entry in fs::read_dir(dir.path().join("data/notes")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "lwt" || extension == "lw") {
            fs::write(entry, "damaged").unwrap();
        }
    }
    let server = with_data_and_log(&dir);
    let indexes = server.get("/v1/indexes").json();
    assert_eq!(indexes["indexes"][0]["name"], "default");
    assert!(indexes["indexes"][1]["error"].as_str().unwrap().contains("log says why"), "{indexes}");
    for _ in 0..3 {
        let answer = server.get("/v1/indexes/notes");
        assert_eq!((answer.status, &*answer.code()), (503, "index_unavailable"));
    }
    assert_eq!(found(&server, "default", &json!({ "query": "honey", "k": 1 })), ["guide/bees.html"]);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.lines().count() == 1 && log.contains("damaged"), "it is said once: {log}");
}

#[test]
fn an_index_that_cannot_be_deleted_is_not_lost() {
    let dir = documents();
    drop(with_notes(&dir));
    let server = with_data_and_log(&dir);
    let folder = dir.path().join("data/notes");
    // Another process is writing.
    let lock = fs::File::open(folder.join("write.lock")).unwrap();
    lock.lock().unwrap();
    let refused = server.delete("/v1/indexes/notes");
    assert_eq!((refused.status, &*refused.code()), (409, "locked"));
    assert_eq!(found(&server, "notes", &json!({ "query": "how hot is a kiln", "k": 1 })), ["kiln"]);
    drop(lock);
    let more = json!({ "documents": [{ "id": "oak", "text": "An oak." }] });
    assert_eq!(server.post("/v1/indexes/notes/documents", &more).status, 200);
    // A part of it cannot be deleted: what is left is no index.
    fs::create_dir(folder.join("catalog-999999.lwr")).unwrap();
    assert_eq!(server.delete("/v1/indexes/notes").code(), "internal");
    assert_eq!(server.get("/v1/indexes/notes").code(), "index_unavailable");
    assert!(server.get("/v1/indexes").body.contains("log says why"));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("deleted in part"), "{log}");
    // Which keeps nobody from making another one there.
    fs::remove_dir(folder.join("catalog-999999.lwr")).unwrap();
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201);
    assert_eq!(server.post("/v1/indexes/notes/documents", &more).status, 200);
    assert_eq!(found(&server, "notes", &json!({ "query": "how hot is a kiln" })), ["oak"]);
    // Neither does a folder that somebody else has deleted.
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(server.delete("/v1/indexes/notes").status, 204);
    assert_eq!(server.post("/v1/indexes", &json!({ "name": "notes" })).status, 201);
}

/// Asks until it is so, for the server looks from time to time only.
fn in_time(is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(200));
    }
    false
}

#[test]
fn an_index_whose_files_come_back_is_served_again() {
    let dir = documents();
    drop(with_notes(&dir));
    let (folder, kept) = (dir.path().join("data/notes"), dir.path().join("kept"));
    common::copy(&folder, &kept);
    // Broken from the beginning.
    let texts = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    texts.filter(|path| path.extension().is_some_and(|e| e == "lwt")).for_each(|path| fs::remove_file(path).unwrap());
    let server = with_data_and_log(&dir);
    assert_eq!(server.get("/v1/indexes/notes").code(), "index_unavailable");
    common::copy(&kept, &folder);
    let search = json!({ "query": "how hot is a kiln", "mode": "semantic" });
    assert!(in_time(|| server.post("/v1/indexes/notes/search", &search).status == 200));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.lines().count() == 2 && log.contains("served again"), "{log}");
    // Lost while it is served, and there again.
    fs::rename(&folder, dir.path().join("away")).unwrap();
    assert!(in_time(|| server.post("/v1/indexes/notes/search", &search).status == 500));
    fs::rename(dir.path().join("away"), &folder).unwrap();
    assert!(in_time(|| server.post("/v1/indexes/notes/search", &search).status == 200));
    // Put back as it was: an older commit than what was served.
    let more = json!({ "documents": [{ "id": "hot", "text": "How hot is a kiln? Very hot is a kiln." }] });
    assert_eq!(server.post("/v1/indexes/notes/documents", &more).status, 200);
    assert_eq!(found(&server, "notes", &search).len(), 3);
    fs::remove_dir_all(&folder).unwrap();
    common::copy(&kept, &folder);
    assert!(in_time(|| {
        let answer = server.post("/v1/indexes/notes/search", &search);
        answer.status == 200 && answer.json()["hits"].as_array().unwrap().len() == 2
    }));
    assert_eq!(server.post("/v1/indexes/notes/documents", &more).status, 200);
    assert_eq!(found(&server, "notes", &search).len(), 3);
}

#[test]
fn long_writes_are_tasks_that_can_be_followed_and_stopped() {
    let dir = documents();
    let server = with_data(&dir);
    server.post("/v1/indexes", &json!({ "name": "many" }));
    let text = |n: usize| format!("Ring number {n} of the oak, counted from the bark.");
    let documents: Vec<Value> = (0..1200).map(|n| json!({ "id": n.to_string(), "text": text(n) })).collect();
    let started = server.post("/v1/indexes/many/documents?wait=false", &json!({ "documents": documents }));
    assert_eq!(started.status, 202, "{}", started.body);
    let id = started.json()["id"].as_u64().unwrap();
    // A small write comes in between.
    let small =
        server.post("/v1/indexes/many/documents", &json!({ "documents": [{ "id": "small", "text": "Larch." }] }));
    assert_eq!((small.status, &small.json()["written"]["added"]), (200, &json!(1)), "{}", small.body);
    let events = server.get(&format!("/v1/tasks/{id}/events"));
    assert!(events.head.contains("text/event-stream"), "{}", events.head);
    let states: Vec<Value> = BufReader::new(events.body.as_bytes())
        .lines()
        .filter_map(|line| Some(serde_json::from_str(line.unwrap().strip_prefix("data: ")?).unwrap()))
        .collect();
    let last = states.last().unwrap();
    assert_eq!((&last["status"], &last["done"], &last["total"]), (&json!("succeeded"), &json!(1200), &json!(1200)));
    assert_eq!(last["written"]["added"], 1200);
    assert_eq!(server.get("/v1/indexes/many").json()["documents"], 1201);

    let documents: Vec<Value> = (0..3000).map(|n| json!({ "id": n.to_string(), "text": text(n + 5000) })).collect();
    let started = server.post("/v1/indexes/many/documents?wait=false", &json!({ "documents": documents })).json();
    let task = format!("/v1/tasks/{}", started["id"]);
    assert_eq!(server.delete(&task).status, 202);
    let state = loop {
        let state = server.get(&task).json();
        if state["status"] != "queued" && state["status"] != "running" {
            break state;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((&state["status"], &state["error"]["code"]), (&json!("cancelled"), &json!("cancelled")), "{state}");
    assert!(state["done"].as_u64().unwrap() < 3000);
    assert_eq!(server.get("/v1/tasks").json()["tasks"][0]["id"], state["id"]);
}

#[test]
fn a_folder_is_synced_over_http() {
    let dir = documents();
    let server = with_data(&dir);
    fs::write(dir.path().join("otters.md"), "Otters hold hands while they sleep.\n").unwrap();
    let synced = server.send(&server.head("POST", "/v1/indexes/default/sync", "Content-Length: 0\r\n"));
    assert_eq!((synced.status, &synced.json()["written"]["added"]), (200, &json!(1)), "{}", synced.body);
    assert_eq!(found(&server, "default", &json!({ "query": "otters sleeping", "k": 1 })), ["otters.md"]);
    server.post("/v1/indexes", &json!({ "name": "notes" }));
    let none = server.send(&server.head("POST", "/v1/indexes/notes/sync", "Content-Length: 0\r\n"));
    assert_eq!((none.status, &*none.code()), (409, "conflict"));
}

#[test]
fn new_commits_are_served_without_a_restart() {
    let dir = documents();
    let server = Server::start(dir.path());
    fs::write(dir.path().join("otters.md"), "Otters hold hands while they sleep.\n").unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(found(&server, "default", &json!({ "query": "otters sleeping", "k": 1 })), ["otters.md"]);
}

#[test]
fn writers_at_once_read_their_own_writes_and_share_commits() {
    let dir = documents();
    let server = with_data(&dir);
    server.post("/v1/indexes", &json!({ "name": "shared" }));
    thread::scope(|scope| {
        for writer in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for n in 0..5 {
                    let id = format!("{writer}-{n}");
                    let document = json!({ "id": id, "text": format!("Note {n} of writer {writer}.") });
                    let written = server.post("/v1/indexes/shared/documents", &json!({ "documents": [document] }));
                    assert_eq!(written.status, 200, "{}", written.body);
                    assert_eq!(server.get(&format!("/v1/indexes/shared/documents/{id}")).status, 200);
                    let only = json!({ "query": "a note", "filter": { "id": id } });
                    assert_eq!(found(server, "shared", &only), [id]);
                }
            });
        }
    });
    let index = server.get("/v1/indexes/shared").json();
    assert_eq!(index["documents"], 40);
    assert!(index["generation"].as_u64().unwrap() < 40, "{index}");
}

#[test]
fn reranking_speaks_the_shapes_of_others() {
    let dir = documents();
    let server = with_notes(&dir);
    let texts = ["Bees swarm in May.", "A kiln is hot.", ""];
    let bare = server.post("/rerank", &json!({ "query": "hot kiln", "texts": texts, "return_text": true })).json();
    assert_eq!((&bare[0]["index"], &bare[0]["text"]), (&json!(1), &json!("A kiln is hot.")));
    assert_eq!(bare.as_array().unwrap().len(), 3);
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let documents = json!([texts[0], { "text": texts[1] }]);
        let request = json!({ "model": "any", "query": "hot kiln", "documents": documents, "top_n": 1 });
        let ranked = server.post(path, &request).json();
        let results = ranked["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["index"]), (1, &json!(1)), "{path}: {ranked}");
        let score = results[0]["relevance_score"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score) && score > 0.5, "{score}");
    }
    let fields = json!({ "query": "x", "documents": [{ "title": "a", "body": "b" }], "rank_fields": ["title", "body"],
        "return_documents": true });
    assert_eq!(server.post("/v1/rerank", &fields).json()["results"][0]["document"]["text"], "a\nb");
    // Stored documents score as they do in a search.
    let stored = json!({ "query": "hot kiln", "index": "notes", "ids": ["bees/swarm", "none", "kiln"] });
    let stored = server.post("/v2/rerank", &stored).json();
    let ids: Vec<&Value> = stored["results"].as_array().unwrap().iter().map(|r| &r["document_id"]).collect();
    assert_eq!(ids, ["kiln", "bees/swarm"]);
    let hit =
        server.post("/v1/indexes/notes/search", &json!({ "query": "hot kiln", "k": 1 })).json()["hits"][0].clone();
    let (a, b) = (hit["semantic"].as_f64().unwrap(), stored["results"][0]["relevance_score"].as_f64().unwrap());
    assert!((a - b).abs() < 1e-5, "{a} and {b}");
    for (request, part) in [
        (json!({ "query": "x" }), "give \"documents\""),
        (json!({ "query": "x", "documents": [] }), "nothing to put in order"),
        (json!({ "query": "x", "documents": [{ "body": 1 }] }), "documents[0]"),
        (json!({ "query": "x", "documents": ["y"], "top_n": 0 }), "top_n"),
        (json!({ "query": "x", "documents": ["y"], "top_n": 1, "top_k": 0 }), "top_k"),
        (json!({ "query": "x", "documents": ["y"], "top_n": 1.5 }), "1.5 is not a whole number"),
        (json!({ "query": " ", "documents": ["y"] }), "empty"),
    ] {
        let answer = server.post("/rerank", &request);
        let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && text.contains(part), "{text}");
    }
}

#[test]
fn texts_are_encoded_where_that_is_asked_for() {
    let dir = documents();
    let server = with_data(&dir);
    let info = server.get("/info").json();
    let dim = info["dim"].as_u64().unwrap() as usize;
    let refused = server.post("/v1/embeddings", &json!({ "input": "x" }));
    assert!(refused.status == 400 && refused.body.contains("input_type"), "{}", refused.body);
    let rows =
        server.post("/v1/embeddings", &json!({ "input": ["kiln", "bees swarm"], "input_type": "document" })).json();
    assert_eq!(rows["data"].as_array().unwrap().len(), 2);
    let first = rows["data"][0]["embedding"][0].as_array().unwrap();
    assert_eq!(first.len(), dim);
    let all = server.post("/embed_all", &json!({ "inputs": "kiln" })).json();
    assert_eq!(all[0], rows["data"][0]["embedding"]);
    let tokens = server.post("/tokenize", &json!({ "inputs": ["Bees!"], "add_special_tokens": false })).json();
    assert_eq!(
        tokens[0][0],
        json!({ "id": tokens[0][0]["id"], "text": "Bees", "special": false, "start": 0, "stop": 4 })
    );
    assert_eq!(server.post("/tokenize", &json!({ "inputs": [] })).status, 400);
}

#[test]
fn keys_say_who_may_do_what() {
    let dir = documents();
    let mut server = Server::with(dir.path(), |command| {
        command.args([".", "--data", "data"]).env("LATEWOOD_READ_KEYS", READ).env("LATEWOOD_WRITE_KEYS", WRITE);
    });
    let search = json!({ "query": "honey" });
    let refused = server.post("/v1/search", &search);
    assert_eq!((refused.status, &*refused.code()), (401, "unauthorized"));
    assert!(refused.head.to_lowercase().contains("www-authenticate: bearer"), "{}", refused.head);
    for open in ["/healthz", "/readyz", "/openapi.json", "/docs/"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    assert_eq!((server.get("/metrics").status, server.get("/v1/indexes").status), (401, 401));
    server.key(READ);
    assert_eq!((server.post("/v1/search", &search).status, server.get("/metrics").status), (200, 200));
    let make = json!({ "name": "notes" });
    assert_eq!(server.post("/v1/indexes", &make).code(), "forbidden");
    server.key(WRITE);
    assert_eq!((server.post("/v1/indexes", &make).status, server.post("/v1/search", &search).status), (201, 200));

    let open = run(dir.path(), &["serve", "--addr", "0.0.0.0:0"]);
    assert!(open.code == 2 && open.stderr.contains("there is no key"), "{}", open.stderr);
    let short = latewood().current_dir(dir.path()).env("LATEWOOD_WRITE_KEYS", "short").arg("serve").output().unwrap();
    let text = String::from_utf8(short.stderr).unwrap();
    assert!(text.contains("LATEWOOD_WRITE_KEYS, key 1: a key is at least 16 characters long"), "{text}");
}

#[test]
fn too_much_at_once_is_turned_away_and_nothing_is_stuck() {
    let dir = documents();
    // A time that is enough on a machine with other work, too.
    let options = [".", "--max-requests", "1", "--max-body", "1", "--timeout", "600"];
    let server = Server::with(dir.path(), |command| _ = command.args(options));
    // A client that is slow with its body keeps nobody out.
    let mut slow = server.connect();
    let head = server.head("POST", "/v1/search", "Content-Type: application/json\r\nContent-Length: 18\r\n");
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(b"{\"query\": ").unwrap();
    assert_eq!(server.post("/v1/search", &json!({ "query": "honey" })).status, 200);
    // Texts that take a while.
    let texts: Vec<String> = (0..300).map(|n| format!("{n} {}", "the rings of an old oak ".repeat(30))).collect();
    let body = json!({ "query": "oak", "texts": texts }).to_string();
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let mut long = server.connect();
    long.set_read_timeout(None).unwrap();
    long.write_all(format!("{}{body}", server.head("POST", "/rerank", &more)).as_bytes()).unwrap();
    let counted = || server.get("/metrics").body.contains("latewood_requests_in_flight 1\n");
    assert!((0..10_000).any(|_| counted()), "the request is under way");
    let busy = server.post("/v1/search", &json!({ "query": "honey" }));
    assert_eq!((busy.status, &*busy.code()), (429, "busy"));
    assert!(busy.head.to_lowercase().contains("retry-after: 1"), "{}", busy.head);
    assert_eq!((server.get("/healthz").status, server.get("/v1/indexes").status), (200, 200), "looking is not limited");
    assert_eq!(read(long).json().as_array().unwrap().len(), 300);
    slow.write_all(b"\"honey\"}").unwrap();
    assert_eq!(read(slow).status, 200);
    assert_eq!(server.post("/v1/search", &json!({ "query": "honey" })).status, 200);
    let large = json!({ "query": "x".repeat(1_000_100) });
    assert_eq!(server.post("/v1/search", &large).code(), "payload_too_large");
    let metrics = server.get("/metrics").body;
    for line in [
        "latewood_requests_total{method=\"POST\",route=\"/v1/search\",status=\"429\"}",
        "latewood_stage_seconds_count{stage=\"rescore\"}",
        "latewood_index_documents{index=\"default\"} 4",
        "latewood_requests_in_flight 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[test]
fn a_server_that_is_stopped_finishes_what_clients_wait_for() {
    let dir = documents();
    let mut server = with_data(&dir);
    server.post("/v1/indexes", &json!({ "name": "last" }));
    let documents: Vec<Value> =
        (0..300).map(|n| json!({ "id": n.to_string(), "text": format!("The last words, number {n}.") })).collect();
    let body = json!({ "documents": documents }).to_string();
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let mut stream = server.connect();
    stream.write_all(format!("{}{body}", server.head("POST", "/v1/indexes/last/documents", &more)).as_bytes()).unwrap();
    while server.get("/v1/tasks").json()["tasks"] == json!([]) {}
    assert!(server.stop(), "exit code 0");
    let answer = read(stream);
    assert_eq!((answer.status, &answer.json()["written"]["added"]), (200, &json!(300)), "{}", answer.body);
    let server = with_data(&dir);
    assert_eq!(server.get("/v1/indexes/last").json()["documents"], 300);
}

#[test]
fn a_taken_port_is_named() {
    let dir = documents();
    let server = Server::start(dir.path());
    let second = run(dir.path(), &["serve", "--addr", &server.addr]);
    assert_eq!(second.code, 2);
    assert!(second.stderr.contains(&format!("cannot listen on {}", server.addr)), "{}", second.stderr);
}

/// `latewood openapi >crates/server/openapi.json` brings it up to date.
#[test]
fn the_openapi_document_is_the_one_checked_in() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run(dir.path(), &["openapi"]);
    let known = fs::read_to_string(repository().join("crates/server/openapi.json")).unwrap();
    assert!(printed.stdout == known, "the interface has changed: see this test's comment, and the changelog");
}

#[test]
fn a_server_without_keys_answers_to_its_own_names_only() {
    let dir = documents();
    let server = Server::with(dir.path(), |command| _ = command.args([".", "--allow-host", "oak.local"]));
    let get =
        |host: &str| server.send(&format!("GET /v1/indexes HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    for host in ["localhost", "LOCALHOST:8765", "127.0.0.1:80", "[::1]:1", "[::1]", "oak.local"] {
        assert_eq!(get(host).status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"] {
        assert_eq!((get(host).status, &*get(host).code()), (403, "unknown_host"), "{host}");
    }
    // Nor to pages of others, which a browser lets send what needs no asking first.
    let sync = |origin: &str| {
        let more = format!("Content-Length: 0\r\nOrigin: {origin}\r\n");
        server.send(&server.head("POST", "/v1/indexes/default/sync", &more))
    };
    assert_eq!(
        (sync("http://evil.example").code(), sync("null").code()),
        ("unknown_origin".into(), "unknown_origin".into())
    );
    assert_eq!(sync("http://localhost").status, 200);
}
