//! Pipelines as users meet them: `latewood search --pipeline`, `latewood rerank`, `latewood eval --pipeline`, over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::server::Server;
use common::{documents, latewood, of, repository, run};
use serde_json::{Value, json};

/// A cross-encoder of random weights.
fn model() -> String {
    repository().join("crates/encoder/tests/golden/cross/models/bert").to_str().unwrap().replace('\\', "/")
}

/// Late interaction, the cross-encoder, both as one, and what is known of a document.
fn pipeline() -> String {
    format!(
        "[retrieve]\nmode = \"keyword\"\ntop_n = 6\n\n[[stages]]\ntype = \"late-interaction\"\ntop_n = 4\n\n\
         [[stages]]\ntype = \"cross-encoder\"\nmodel = \"{}\"\n\n\
         [[stages]]\ntype = \"fusion\"\nmethod = \"sum\"\nof = [\"late-interaction\", \"cross-encoder\"]\nweights = [1.0, 0.0]\n\n\
         [[stages]]\ntype = \"metadata\"\ntop_n = 3\nsignals = [{{ type = \"exact-match\", weight = 0.5 }}]\n",
        model()
    )
}

fn rerank(input: &str, args: &[&str]) -> common::Run {
    let mut command = latewood();
    command.arg("rerank").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // What does not read its input may be gone.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    of(child.wait_with_output().unwrap())
}

#[test]
fn a_search_goes_through_its_stages() {
    let dir = documents();
    fs::write(dir.path().join("p.toml"), pipeline()).unwrap();
    fs::write(dir.path().join(".latewoodignore"), "p.toml\n").unwrap();
    let search = |args: &[&str]| run(dir.path(), &[&["search", "how hot does the kiln get"][..], args].concat());
    let got = search(&["--pipeline", "p.toml", "--json", "--report"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let hits = got.json();
    assert!((1..=3).contains(&hits.len()));
    assert_eq!(hits[0]["path"], "guide/kiln.md");
    for hit in &hits {
        let stages = &hit["stages"];
        let names: Vec<&String> = stages["scores"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["cross-encoder", "fusion", "late-interaction", "metadata", "retrieve"]);
        let parts = stages["signals"].as_object().unwrap().values().map(|part| part.as_f64().unwrap()).sum::<f64>();
        assert!((parts - hit["score"].as_f64().unwrap()).abs() < 1e-4, "{hit}");
    }
    // A model is found beside the file that names it, too.
    fs::create_dir_all(dir.path().join("p/model")).unwrap();
    common::copy(model().as_ref(), &dir.path().join("p/model"));
    fs::write(dir.path().join("p/p.toml"), pipeline().replace(&model(), "model")).unwrap();
    fs::write(dir.path().join(".latewoodignore"), "p.toml\np\n").unwrap();
    let beside = search(&["--pipeline", "p/p.toml", "--json"]);
    assert_eq!(beside.json()[0]["score"], hits[0]["score"], "{}", beside.stderr);
    // The same scores as a search by meaning gives.
    let semantic = run(dir.path(), &["search", "how hot does the kiln get", "--json", "--mode", "semantic"]).json();
    let of = |hits: &[Value], id: &Value| hits.iter().find(|hit| hit["id"] == *id).cloned().unwrap();
    let late = hits[0]["stages"]["scores"]["late-interaction"].as_f64().unwrap();
    assert!((of(&semantic, &hits[0]["id"])["score"].as_f64().unwrap() - late).abs() < 1e-4);
    for stage in ["retrieve", "late-interaction", "cross-encoder", "fusion", "metadata", "rose by"] {
        assert!(got.stderr.contains(stage), "{}", got.stderr);
    }
    // People see what each signal added, too.
    let shown = search(&["--pipeline", "p.toml", "-k", "1"]);
    assert!(shown.stdout.contains("exact-match +") && shown.stdout.contains(", score +"), "{}", shown.stdout);
    // People see text, and where it met the query.
    let shown = search(&["--pipeline", "fast", "-k", "1"]);
    assert!(shown.code == 0 && shown.stdout.contains("kiln.md"), "{}\n{}", shown.stdout, shown.stderr);
}

#[test]
fn bad_pipelines_are_named_before_anything_is_indexed() {
    let dir = documents();
    let wrong = |text: &str, says: &str| {
        fs::write(dir.path().join("p.toml"), text).unwrap();
        let got = run(dir.path(), &["search", "kiln", "--pipeline", "p.toml"]);
        assert!(got.code == 2 && got.stderr.contains(says), "{text}\n{}", got.stderr);
        assert!(!dir.path().join(".latewood").exists());
    };
    wrong("[[stages]]\ntype = \"magic\"\n", "line 2: stages[0]: type is \"magic\", expected late-interaction");
    wrong(
        "[[stages]]\ntype = \"cross-encoder\"\nmodel = \"./none\"\n",
        "stage cross-encoder: model ./none: there is no such folder",
    );
    let plain = model().replace("/bert", "/bert-plain");
    wrong(
        &format!("[[stages]]\ntype = \"cross-encoder\"\nmodel = \"{plain}\"\n"),
        "a model for sequence classification",
    );
    let got = run(dir.path(), &["search", "kiln", "--pipeline", "quick"]);
    assert!(got.code == 2 && got.stderr.contains("fast, balanced, precise"), "{}", got.stderr);
}

#[test]
fn editors_get_a_schema() {
    let dir = tempfile::tempdir().unwrap();
    // Whatever else is settled.
    let printed = run(dir.path(), &["rerank", "--schema", "--model", "elsewhere"]);
    let schema: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(schema["properties"]["stages"]["items"]["oneOf"].as_array().unwrap().len(), 6);
    let refused = run(dir.path(), &["rerank"]);
    assert!(refused.code == 2 && refused.stderr.contains("<QUERY>"), "{}", refused.stderr);
}

#[test]
fn texts_are_put_in_order() {
    let texts = "fog over the river\nthe kiln is hot, 1280 degrees\n\nbees in winter\n";
    let got = rerank(texts, &["how hot is a kiln?", "-k", "2"]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    assert!(got.stdout.starts_with("1. 2  "), "named by its line: {}", got.stdout);
    let objects = "{\"id\": \"b\", \"text\": \"bees in winter\", \"score\": 0.9, \"metadata\": {\"views\": 3}}\n\
                   {\"id\": 7, \"text\": \"the kiln is hot\", \"score\": 0.1, \"metadata\": {\"views\": 900}}\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("views.json");
    let stages = json!({ "stages": [
        { "type": "keyword" },
        { "type": "fusion", "of": ["retrieve", "keyword"], "method": "sum", "name": "both" },
        { "type": "metadata", "weight": 0.0, "signals": [{ "type": "popularity", "field": "views", "weight": 1.0 }] }
    ]});
    fs::write(&file, stages.to_string()).unwrap();
    let got = rerank(objects, &["kiln", "--pipeline", file.to_str().unwrap(), "--json"]);
    let candidates = got.json();
    assert_eq!(
        (&candidates[0]["id"], &candidates[0]["signals"]["views"]),
        (&json!("7"), &json!(1.0)),
        "{}",
        got.stdout
    );
    let scores = &candidates[0]["scores"];
    assert!(scores["keyword"].as_f64().unwrap() > 0.0 && scores["retrieve"].as_f64().unwrap() < 0.2);
    let dry = rerank(objects, &["kiln", "--pipeline", file.to_str().unwrap(), "--dry-run", "--json"]).json();
    assert_eq!((dry.len(), &dry[1]["name"], &dry[1]["candidates"]), (3, &json!("both"), &json!(2)));
    for (input, says) in [("", "there is nothing to put in order"), ("{\"txt\": 1}\n", "line 1")] {
        let got = rerank(input, &["kiln"]);
        assert!(got.code == 2 && got.stderr.contains(says), "{}", got.stderr);
    }
}

#[test]
fn a_pipeline_is_measured_stage_by_stage() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), pipeline()).unwrap();
    let collection = repository().join("tests/collection");
    let args = ["eval", collection.to_str().unwrap(), "--pipeline", "p.toml", "--mode", "semantic"];
    let report = run(dir.path(), &[&args[..], &["--json"]].concat()).json().remove(0);
    let stages = report["pipeline"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    assert_eq!(names, ["retrieve", "late-interaction", "cross-encoder", "fusion", "metadata"]);
    let number = |at: usize, what: &str| stages[at][what].as_f64().unwrap();
    // Nothing brings back what the search did not find, and each gain is over the stage before.
    assert!((1..5).all(|at| number(at, "recall") <= number(at - 1, "recall") + 1e-9), "{report}");
    assert!((1..5).all(|at| (number(at, "gain") - number(at, "ndcg@10") + number(at - 1, "ndcg@10")).abs() < 1e-9));
    // The fusion counts late interaction alone: random weights change nothing.
    assert!((number(3, "ndcg@10") - number(1, "ndcg@10")).abs() < 1e-9, "{report}");
    let shown = run(dir.path(), &args);
    assert!(shown.stdout.contains("no stage finds those"), "{}", shown.stdout);
}

#[test]
fn candidates_may_come_from_another_engine() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), "[retrieve]\ntop_n = 5\n[[stages]]\ntype = \"late-interaction\"\n").unwrap();
    let collection = repository().join("tests/collection");
    let collection = collection.to_str().unwrap();
    let saved = run(dir.path(), &["eval", collection, "--mode", "keyword", "--no-exact", "--save-run", "k.run"]);
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    let measure = |run_file: &str| {
        let args = ["eval", collection, "--pipeline", "p.toml", "--candidates", run_file, "--mode", "keyword"];
        run(dir.path(), &[&args[..], &["--no-exact", "--json"]].concat())
    };
    let report = measure("k.run").json().remove(0);
    let stages = report["pipeline"].as_array().unwrap();
    // What comes is the run, and as much of it as the pipeline says.
    assert_eq!(stages[0]["mrr@10"], report["modes"][0]["mrr@10"], "{report}");
    assert!(stages[0]["kept"].as_f64().unwrap() <= 5.0 && stages[1]["stage"] == "late-interaction");
    fs::write(dir.path().join("other.run"), "q1 Q0 nothing-of-it 1 2.5 x\n").unwrap();
    let refused = measure("other.run");
    assert!(refused.code == 2 && refused.stderr.contains("none of the candidates"), "{}", refused.stderr);
}

/// A run of questions names answers as their file does.
#[test]
fn candidates_of_own_questions_are_the_passages_that_they_name() {
    let dir = documents();
    fs::write(dir.path().join("p.toml"), "[[stages]]\ntype = \"late-interaction\"\n").unwrap();
    fs::write(dir.path().join("q.tsv"), "how hot does the kiln get?\t./guide/kiln.md:1-99\n").unwrap();
    fs::write(dir.path().join(".latewoodignore"), "p.toml\nq.tsv\nk.run\n").unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let eval = ["eval", "--questions", "q.tsv", "--mode", "keyword", "--json"];
    let saved = run(dir.path(), &[&eval[..], &["--save-run", "k.run"]].concat());
    assert_eq!(saved.code, 0, "{}", saved.stderr);
    assert!(fs::read_to_string(dir.path().join("k.run")).unwrap().contains("./guide/kiln.md:1-99"));
    let report = run(dir.path(), &[&eval[..], &["--pipeline", "p.toml", "--candidates", "k.run"]].concat());
    let report = report.json().remove(0);
    assert_eq!(report["pipeline"][0]["recall"], 1.0, "{report}");
}

#[test]
fn a_server_has_the_pipelines_it_was_given() {
    let dir = documents();
    fs::write(dir.path().join("mine.toml"), pipeline()).unwrap();
    fs::write(dir.path().join(".latewoodignore"), "mine.toml\n").unwrap();
    let server = Server::with(dir.path(), |command| _ = command.args([".", "--pipeline", "mine.toml"]));
    let listed = server.get("/v1/pipelines").json();
    let names: Vec<&str> =
        listed["pipelines"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["fast", "mine"]);
    assert_eq!(listed["pipelines"][1]["pipeline"]["stages"][1]["type"], "cross-encoder");
    let ask = |request: Value| server.post("/v1/search", &request);
    let found = ask(json!({ "query": "how hot is a kiln", "pipeline": "mine", "report": true })).json();
    assert_eq!(found["hits"][0]["document"], "guide/kiln.md", "{found}");
    assert!(found["hits"][0]["stages"]["scores"]["cross-encoder"].is_number());
    let stages = found["pipeline"]["stages"].as_array().unwrap();
    assert_eq!(
        (stages.len(), &stages[0]["name"], &stages[3]["kept"]),
        (4, &json!("late-interaction"), &json!(found["hits"].as_array().unwrap().len()))
    );
    // Asked again, the model's scores are known.
    let again = ask(json!({ "query": "how hot is a kiln", "pipeline": "mine", "report": true })).json();
    assert_eq!(again["pipeline"]["stages"][1]["cached"], again["pipeline"]["stages"][1]["candidates"]);
    let many = ask(json!({ "queries": ["kiln", "bees"], "pipeline": "fast", "k": 1 })).json();
    assert_eq!(many["results"].as_array().unwrap().len(), 2);
    assert!(many["results"][0]["pipeline"].is_null(), "only where it is asked for");
    assert!(
        server
            .get("/metrics")
            .body
            .contains("latewood_pipeline_stage_seconds_count{pipeline=\"mine\",stage=\"cross-encoder\"}")
    );
    for name in ["candidates", "kept", "best_score", "median_score"] {
        let counted = format!("latewood_pipeline_stage_{name}_count{{pipeline=\"mine\",stage=\"late-interaction\"}} 2");
        assert!(server.get("/metrics").body.contains(&counted), "{counted}");
    }
    let request = json!({ "query": "how hot is a kiln", "documents": ["fog", "the kiln is hot"], "pipeline": "mine", "report": true });
    let ranked = server.post("/v2/rerank", &request).json();
    assert_eq!(ranked["pipeline"]["stages"].as_array().unwrap().len(), 4, "{ranked}");
    assert!(ranked["failed"].is_null() && found["failed"].is_null());
    // The search's own times are there, as without a pipeline.
    let ms = |name: &str| again["timings_ms"][name].as_f64().unwrap();
    assert!(ms("keywords") > 0.0 && ms("encode") > 0.0 && again["candidates"].as_u64() > Some(0), "{again}");
    for (request, says) in [
        (json!({ "query": "kiln", "pipeline": "mine", "mode": "semantic" }), "says how it searches"),
        (json!({ "query": "kiln", "pipeline": "yours" }), "there are fast, mine"),
        (json!({ "embeddings": [[1.0]], "pipeline": "fast" }), "a pipeline reads words"),
    ] {
        let wrong = ask(request);
        assert!(wrong.status == 400 && wrong.body.contains(says), "{}", wrong.body);
    }
}

/// A connection to `listener`, by and by; none where there is none for so long.
fn accept(listener: &TcpListener, patience: Duration) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                return Some(stream);
            }
            Err(_) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
}

#[test]
fn waiting_for_a_language_model_keeps_nobody_else_and_ends_with_its_client() {
    let dir = documents();
    let model = TcpListener::bind("127.0.0.1:0").unwrap();
    let stage = format!(
        "[[stages]]\ntype = \"llm\"\nmethod = \"pointwise\"\nconcurrency = 1\nretries = 0\nmodel = \"m\"\nbase_url = \"http://{}/v1\"\n",
        model.local_addr().unwrap()
    );
    fs::write(dir.path().join("ask.toml"), format!("[retrieve]\nmode = \"keyword\"\n{stage}")).unwrap();
    let server = Server::with(dir.path(), |command| _ = command.args([".", "--pipeline", "ask.toml"]));
    let request = json!({ "query": "kiln, bees, rings and glaze", "pipeline": "ask" }).to_string();
    let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", request.len());
    let ask = || {
        let mut stream = server.connect();
        stream.write_all(format!("{}{request}", server.head("POST", "/v1/search", &more)).as_bytes()).unwrap();
        stream
    };
    // More than may encode at once.
    let clients: Vec<TcpStream> = (0..3).map(|_| ask()).collect();
    let patience = Duration::from_secs(30);
    let asked: Vec<TcpStream> = (0..3).map(|_| accept(&model, patience).expect("a question")).collect();
    let encoded = server.post("/v1/embeddings", &json!({ "input": "a kiln", "input_type": "document" }));
    assert_eq!(encoded.status, 200, "{}", encoded.body);
    // Nobody waits any more: of all passages none but the first is asked about.
    drop(clients);
    std::thread::sleep(Duration::from_secs(1));
    let answer = json!({ "choices": [{ "message": { "content": "5" } }] }).to_string();
    for mut stream in asked {
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all((head + &answer).as_bytes()).unwrap();
    }
    assert!(accept(&model, Duration::from_millis(500)).is_none(), "a question for nobody");
    // Where it fails, the answer says so, with the old order.
    let told = std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.post_text("/v1/search", &request).json());
        let mut stream = accept(&model, patience).expect("a question");
        stream.write_all(b"HTTP/1.1 401 no\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        drop(stream);
        answer.join().unwrap()
    });
    assert_eq!((&told["failed"], told["pipeline"].is_null()), (&json!(["llm"]), true), "{told}");
    assert!(!told["hits"].as_array().unwrap().is_empty());
    // For somebody there is a second.
    let client = ask();
    let mut first = accept(&model, patience).expect("a question");
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
    first.write_all((head + &answer).as_bytes()).unwrap();
    drop(first);
    assert!(accept(&model, patience).is_some());
    drop(client);
}

#[test]
fn what_people_made_of_hits_is_measured() {
    let dir = documents();
    let log = dir.path().join("log.jsonl");
    fs::write(dir.path().join(".latewoodignore"), "log.jsonl\n").unwrap();
    {
        let server = Server::with(dir.path(), |command| _ = command.args([".", "--feedback", "log.jsonl"]));
        let give = |query: &str, document: &str, signal: &str| {
            server
                .post(
                    "/v1/indexes/default/feedback",
                    &json!({ "query": query, "document": document, "signal": signal }),
                )
                .status
        };
        assert_eq!(give("how hot is a kiln", "guide/kiln.md", "click"), 204);
        assert_eq!(give("how hot is a kiln", "notes.txt", "down"), 204);
        assert_eq!((give("", "x", "up"), give("x", "y", "love")), (400, 400));
        let unknown =
            server.post("/v1/indexes/none/feedback", &json!({ "query": "x", "document": "y", "signal": "up" }));
        assert_eq!(unknown.status, 404);
    }
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 2);
    let report = run(dir.path(), &["eval", "--questions", "log.jsonl", "--json"]).json().remove(0);
    assert_eq!((&report["queries"], &report["modes"][0]["mrr@10"]), (&json!(1), &json!(1.0)), "{report}");
    let server = Server::start(dir.path());
    let refused =
        server.post("/v1/indexes/default/feedback", &json!({ "query": "x", "document": "y", "signal": "up" }));
    assert!(refused.status == 409 && refused.body.contains("--feedback FILE"), "{}", refused.body);
}

#[test]
fn weights_are_fitted_to_questions() {
    let dir = tempfile::tempdir().unwrap();
    // The notes say the same, and those that answer are the long ones.
    for at in 0..6 {
        fs::write(dir.path().join(format!("short{at}.md")), format!("The otter of pond {at} swims.\n")).unwrap();
        let long = format!("The otter of pond {at} swims. {}\n", "It was seen by many, near the old weir. ".repeat(3));
        fs::write(dir.path().join(format!("long{at}.md")), long).unwrap();
    }
    fs::write(dir.path().join(".latewoodignore"), "*.tsv\n*.toml\n").unwrap();
    let questions: String = (0..6).map(|at| format!("the otter of pond {at} swims\tlong{at}.md\n")).collect();
    fs::write(dir.path().join("q.tsv"), questions).unwrap();
    let stages = "[retrieve]\nmode = \"keyword\"\n[[stages]]\ntype = \"metadata\"\nsignals = [{ type = \"length\", ideal = 30.0, weight = 0.0 }]\n";
    fs::write(dir.path().join("p.toml"), stages).unwrap();
    assert_eq!(run(dir.path(), &["index"]).code, 0);
    let fitted = run(dir.path(), &["tune", "--questions", "q.tsv", "--fit", "p.toml", "--json"]);
    let report = fitted.json().remove(0);
    assert!(report["weights"]["length"][1].as_f64().unwrap() > 0.0, "{report}");
    let held_out = report["ndcg_held_out"].as_array().unwrap();
    assert!(held_out[1].as_f64().unwrap() > held_out[0].as_f64().unwrap(), "{report}");
    fs::write(dir.path().join("p.toml"), "[[stages]]\ntype = \"keyword\"\n").unwrap();
    let none = run(dir.path(), &["tune", "--questions", "q.tsv", "--fit", "p.toml"]);
    assert!(none.code == 2 && none.stderr.contains("no metadata stage"), "{}", none.stderr);
}
