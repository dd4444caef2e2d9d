//! The Model Context Protocol, over HTTP and on standard input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use common::server::Server;
use common::{documents, latewood};
use serde_json::{Value, json};

const READ: &str = "read-0123456789abcdef";

/// A message of the Model Context Protocol.
fn message(id: u32, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn hello() -> Value {
    let client = json!({ "name": "test", "version": "1" });
    message(1, "initialize", &json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client }))
}

fn call(id: u32, tool: &str, arguments: &Value) -> Value {
    message(id, "tools/call", &json!({ "name": tool, "arguments": arguments }))
}

/// The documents, and one whose only line is long.
fn with_a_long_line() -> tempfile::TempDir {
    let dir = documents();
    let words: String = (0..10_000).map(|n| format!("word{n} ")).collect();
    fs::write(dir.path().join("long.txt"), words).unwrap();
    dir
}

fn check_tools(mut ask: impl FnMut(Value) -> Value) {
    assert_eq!(ask(hello())["result"]["serverInfo"]["name"], "latewood");
    let tools = ask(message(2, "tools/list", &json!({})))["result"]["tools"].clone();
    let names: Vec<&Value> = tools.as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["search", "read", "status"]);
    assert!(tools.as_array().unwrap().iter().all(|tool| tool["annotations"]["readOnlyHint"] == true));
    let found =
        ask(call(3, "search", &json!({ "query": "how much honey does a hive need", "k": 1 })))["result"].clone();
    let document = found["structuredContent"]["hits"][0]["document"].clone();
    assert_eq!(document, "guide/bees.html");
    assert!(found["content"][0]["text"].as_str().unwrap().starts_with("1. guide/bees.html, lines "), "{found}");
    let read = ask(call(4, "read", &json!({ "document": document })))["result"]["content"][0]["text"].clone();
    assert!(read.as_str().unwrap().contains("honey"), "{read}");
    // Ten thousand words on one line are read piece by piece.
    let mut whole = ask(call(4, "read", &json!({ "document": "long.txt" })))["result"].clone();
    let mut words = String::new();
    for _ in 0..20 {
        let text = whole["content"][0]["text"].as_str().unwrap().to_owned();
        words += &text;
        let Some((_, skip)) = text.rsplit_once("[cut off: go on with skip ") else { break };
        let skip: usize = skip.trim_end_matches(']').parse().unwrap();
        whole = ask(call(4, "read", &json!({ "document": "long.txt", "skip": skip })))["result"].clone();
    }
    let words: std::collections::HashSet<&str> = words.split_whitespace().collect();
    let missing = (0..10_000).find(|n| !words.contains(&*format!("word{n}")));
    assert_eq!(missing, None, "of {}", words.len());
    let status = ask(call(5, "status", &json!({})))["result"]["structuredContent"].clone();
    assert_eq!(status["indexes"][0]["name"], "default");
    for (tool, arguments, part) in [
        ("search", json!({ "query": " " }), "the query is empty"),
        ("search", json!({}), "missing field `query`"),
        ("search", json!({ "query": "x", "filter": { "$xor": 1 } }), "$xor"),
        ("search", json!({ "query": "x", "index": "none" }), "there is no index"),
        ("read", json!({ "document": "none" }), "there is no document"),
    ] {
        let answer = ask(call(6, tool, &arguments));
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(answer["result"]["isError"] == true && text.contains(part), "{answer}");
    }
    assert!(ask(call(7, "delete", &json!({})))["error"]["message"].as_str().unwrap().contains("no tool delete"));
}

#[test]
fn tools_of_the_model_context_protocol_over_http() {
    let dir = with_a_long_line();
    let mut server = Server::with(dir.path(), |command| _ = command.arg(".").env("LATEWOOD_READ_KEYS", READ));
    assert_eq!(server.post("/mcp", &hello()).status, 401);
    server.key(READ);
    check_tools(|message| {
        let body = message.to_string();
        let accept = "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-06-18";
        let more = format!("{accept}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let answer = server.send(&format!("{}{body}", server.head("POST", "/mcp", &more)));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    });
}

#[test]
fn tools_of_the_model_context_protocol_on_standard_input() {
    let dir = with_a_long_line();
    let mut command = latewood();
    command.current_dir(dir.path()).args(["mcp", "-q"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    check_tools(|message| {
        writeln!(input, "{message}").unwrap();
        if message["method"] == "initialize" {
            writeln!(input, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#).unwrap();
        }
        serde_json::from_str(&output.next().unwrap().unwrap()).unwrap()
    });
    drop(input);
    assert!(child.wait().unwrap().success(), "the end of the input is no error");
}
