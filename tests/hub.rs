//! Models by their name on the hub.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/hub.rs"]
mod hub;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::{Run, copy, documents, latewood, of, repository};
use hub::{Hub, NAME};
use serde_json::Value;

fn golden(model: &str) -> PathBuf {
    repository().join("crates/encoder/tests/golden/models").join(model)
}

/// A machine of its own: an empty cache, and nothing set but what a test sets.
struct Machine {
    home: tempfile::TempDir,
    endpoint: String,
}

impl Machine {
    fn new(endpoint: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), endpoint: endpoint.into() }
    }

    fn run(&self, args: &[&str]) -> Run {
        self.run_with(&[], args)
    }

    fn run_with(&self, set: &[(&str, &str)], args: &[&str]) -> Run {
        let mut command = latewood();
        for name in
            ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "ALL_PROXY", "HTTP_PROXY", "http_proxy"]
        {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint).envs(set.iter().copied());
        of(command.current_dir(self.home.path()).args(args).output().unwrap())
    }

    /// The id of the model called `name`.
    fn id(&self, name: &str) -> String {
        let got = self.run(&["model", "check", name, "--json"]);
        assert_eq!(got.code, 0, "{name}: {}", got.stderr);
        assert_eq!(got.stderr, "", "{name}");
        got.json()[0]["id"].as_str().unwrap().to_owned()
    }

    /// What the program says when it cannot have the model.
    fn refusal(&self, set: &[(&str, &str)], name: &str) -> String {
        let got = self.run_with(set, &["model", "check", name]);
        assert_eq!((got.code, got.stdout.as_str()), (2, ""), "{}", got.stderr);
        got.stderr
    }

    /// The files of the model in the cache, and those of which it is known that there are none.
    fn cached(&self, commit: &str) -> [BTreeSet<String>; 2] {
        ["snapshots", ".no_exist"].map(|kind| {
            let top = self.home.path().join("hub/models--owner--tiny").join(kind).join(commit);
            let (mut found, mut left) = (BTreeSet::new(), vec![top.clone()]);
            while let Some(path) = left.pop() {
                if path.is_dir() {
                    left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
                } else if path.exists() {
                    found.insert(path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned());
                }
            }
            found
        })
    }
}

fn digest(id: &str) -> &str {
    id.rsplit_once('@').unwrap().1
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn a_model_is_fetched_once_and_is_what_its_folder_is() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    let folder = golden("pylate-default");
    let folder = folder.to_str().unwrap();
    let collection = repository().join("tests/collection");
    for (model, out) in [(NAME, "hub"), (folder, "folder")] {
        let encode = ["vectors", "encode", collection.to_str().unwrap(), "--model", model, "--out", out];
        let got = machine.run(&encode);
        assert_eq!(got.code, 0, "{}", got.stderr);
    }
    for file in ["vectors.npy", "queries.npy", "doclens.npy"] {
        let read = |out: &str| fs::read(machine.home.path().join(out).join(file)).unwrap();
        assert!(read("hub") == read("folder"), "{file}");
    }

    let downloads = hub.state().downloads("model.safetensors");
    assert_eq!(downloads.len(), 4, "each file of weights once, from where it is redirected to: {downloads:?}");
    let asked = hub.state().requests.len();
    let id = machine.id(NAME);
    assert!(id.starts_with("owner/tiny@"), "{id}");
    assert_eq!(digest(&id), digest(&machine.id(folder)));
    assert_eq!(machine.id("owner/tiny@main"), id);
    assert_eq!(machine.id(&format!("{NAME}@{}", hub.state().commit)), id);
    assert_eq!(machine.run_with(&[("HF_HUB_OFFLINE", "YES")], &["model", "check", NAME]).code, 0);
    assert_eq!(hub.state().requests.len(), asked, "what is in the cache is not asked for");
}

#[test]
fn what_a_model_is_read_from_is_fetched_and_nothing_else() {
    for model in [
        "stanford-bin",
        "pylate-sharded",
        "pylate-subfolder",
        "st-pooling",
        "plain-roberta",
        "../../../../../models/latewood-mini",
    ] {
        let hub = Hub::of(&golden(model));
        let machine = Machine::new(&hub.endpoint);
        let id = machine.id(NAME);
        assert_eq!(digest(&id), digest(&machine.id(golden(model).to_str().unwrap())), "{model}");
        let [here, missing] = machine.cached(&hub.state().commit);
        let known: BTreeSet<String> = hub.state().files.keys().cloned().collect();
        assert!(here.is_subset(&known) && missing.is_disjoint(&known), "{model}: {here:?}, {missing:?}");
        for file in ["README.md", ".gitattributes", "onnx/model.onnx", "special_tokens_map.json"] {
            assert!(!here.contains(file), "{model}: {file}");
        }
        // What a reader asks for is in one of the two: a copy of the cache is enough, and nobody is asked.
        let asked = hub.state().requests.len();
        assert_eq!(machine.id(NAME), id);
        assert_eq!(hub.state().requests.len(), asked, "{model}");
    }
}

#[test]
fn without_the_hub_the_cache_is_enough_and_otherwise_the_error_says_what_to_do() {
    let hub = Hub::of(&golden("pylate-default"));
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let machine = Machine::new(&nobody);
    let cache = machine.home.path().join("hub");
    let common =
        ["owner/tiny: it is not in the cache", cache.to_str().unwrap(), &nobody, "`hf download owner/tiny`", "HF_HOME"];
    let text = machine.refusal(&[], NAME);
    says(&text, &common);
    says(&text, &["cannot be reached"]);
    let text = machine.refusal(&[("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", &hub.endpoint)], NAME);
    says(&text, &[common[0], common[1], &hub.endpoint, "HF_HUB_OFFLINE"]);
    let elsewhere = [("HF_HUB_OFFLINE", "on"), ("HF_HUB_CACHE", "elsewhere")];
    says(
        &machine.refusal(&elsewhere, "owner/tiny@v2"),
        &["the cache elsewhere", "hf download owner/tiny --revision v2"],
    );
    assert_eq!(hub.state().requests.len(), 0, "offline is offline");

    // As other tools leave a cache: the files, and not what there is not.
    let commit = hub.state().commit.clone();
    let model = cache.join("models--owner--tiny");
    copy(&golden("pylate-default"), &model.join("snapshots").join(&commit));
    fs::create_dir(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), &commit).unwrap();
    let got = machine.run(&["model", "check", NAME]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    says(&got.stderr, &["owner/tiny is used as it is in the cache", "cannot be reached"]);
    let got = machine.run_with(&[("HF_HUB_OFFLINE", "1")], &["model", "check", NAME]);
    assert_eq!((got.code, got.stderr.as_str()), (0, ""));
    fs::remove_file(model.join("snapshots").join(&commit).join("1_Dense/model.safetensors")).unwrap();
    let text = machine.refusal(&[("HF_HUB_OFFLINE", "1")], NAME);
    says(&text, &["1_Dense/model.safetensors is not in the cache", "hf download"]);
    // Without this file it would be a plain encoder.
    let modules = model.join("snapshots").join(&commit).join("modules.json");
    fs::rename(&modules, machine.home.path().join("modules.json")).unwrap();
    let text = machine.refusal(&[("HF_HUB_OFFLINE", "1")], NAME);
    says(&text, &["modules.json is not in the cache", "hf download"]);
    says(&machine.refusal(&[], NAME), &["modules.json is not in the cache", "cannot be reached"]);
    fs::rename(machine.home.path().join("modules.json"), &modules).unwrap();
    // With the hub, the rest is fetched.
    let got = machine.run_with(&[("HF_ENDPOINT", &hub.endpoint)], &["model", "check", NAME]);
    assert_eq!((got.code, got.stderr.as_str()), (0, ""));
    assert!(hub.state().downloads("model.safetensors").iter().all(|request| request.contains("1_Dense/")));
}

#[test]
fn a_model_that_not_everybody_gets_needs_a_token() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    let text = machine.refusal(&[], "owner/other");
    says(&text, &["owner/other", "no folder of this name", "HTTP 401", "HF_TOKEN", "none was given"]);
    let text = machine.refusal(&[("HF_TOKEN", "open")], "owner/other");
    says(&text, &["HTTP 404", "the name or revision is wrong"]);
    hub.state().token = Some("open");
    says(&machine.refusal(&[], NAME), &["HTTP 401", &format!("accept its terms at {}/owner/tiny", hub.endpoint)]);
    says(&machine.refusal(&[("HF_TOKEN", "wrong")], NAME), &["HTTP 403", "the one sent is not enough"]);
    assert_eq!(machine.run_with(&[("HF_TOKEN", "open")], &["model", "check", NAME]).code, 0);
    let other = Machine::new(&hub.endpoint);
    fs::write(other.home.path().join("token"), "open\n").unwrap();
    other.id(NAME);
    let text = machine.refusal(&[], "no/such/thing");
    says(&text, &["no/such/thing: there is no such folder", "OWNER/NAME@REVISION"]);
}

#[test]
fn half_a_file_is_never_taken_for_a_whole_one() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    hub.state().cut = Some(("model.safetensors", 70_000));
    let text = machine.refusal(&[], NAME);
    says(&text, &["owner/tiny: model.safetensors from", "run it again"]);
    let commit = hub.state().commit.clone();
    assert!(!machine.cached(&commit)[0].contains("model.safetensors"));
    assert!(!machine.home.path().join("hub/models--owner--tiny/refs/main").exists());
    // A server that sends everything where the rest was asked for.
    hub.state().ignores_ranges = true;
    says(&machine.refusal(&[], NAME), &["169416 bytes came of 99416", "run it again"]);
    assert!(!machine.cached(&commit)[0].contains("model.safetensors"));
    hub.state().ignores_ranges = false;
    hub.state().cut = Some(("model.safetensors", 70_000));
    machine.refusal(&[], NAME);
    hub.state().requests.clear();
    let id = machine.id(NAME);
    assert_eq!(digest(&id), digest(&machine.id(golden("pylate-default").to_str().unwrap())));
    let resumed = hub.state().downloads("model.safetensors");
    assert!(resumed.iter().any(|request| request.ends_with("bytes=70000-")), "{resumed:?}");
    assert!(hub.state().downloads("config.json").iter().all(|request| request.contains("1_Dense")), "{resumed:?}");
}

#[test]
fn what_is_left_of_a_whole_file_is_no_obstacle() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    hub.state().cut = Some(("model.safetensors", 70_000));
    machine.refusal(&[], NAME);
    let blobs = machine.home.path().join("hub/models--owner--tiny/blobs");
    let part =
        fs::read_dir(blobs).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "part"));
    let part = part.unwrap();
    for len in [99_416, 100_000] {
        fs::write(&part, vec![7; len]).unwrap();
        let id = machine.id(NAME);
        assert_eq!(digest(&id), digest(&machine.id(golden("pylate-default").to_str().unwrap())), "{len}");
        fs::remove_file(part.with_extension("")).unwrap();
    }
}

#[test]
fn code_in_a_model_is_refused_before_its_weights_are_fetched() {
    let hub = Hub::of(&golden("pylate-default"));
    let config = hub.state().files["config.json"].clone();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["auto_map"] = serde_json::json!({ "AutoModel": "code.Model" });
    hub.state().files.insert("config.json".into(), config.to_string().into());
    let text = Machine::new(&hub.endpoint).refusal(&[], NAME);
    says(&text, &["owner/tiny: config.json: auto_map", "never run"]);
    assert!(hub.state().downloads("model.safetensors").is_empty());
}

#[test]
fn a_model_stays_as_it_was_until_it_is_fetched_again() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    let got = machine.run(&["model", "fetch", NAME]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let (name, folder) = got.stdout.trim().split_once(": ").unwrap();
    assert_eq!(name, NAME);
    let first = machine.id(NAME);
    assert_eq!(digest(&machine.id(folder)), digest(&first));

    let other = Hub::of(&golden("pylate-attend"));
    {
        let mut state = hub.state();
        state.commit = "b".repeat(40);
        state.files = other.state().files.clone();
    }
    assert_eq!(machine.id(NAME), first);
    let offline = machine.run_with(&[("HF_HUB_OFFLINE", "1")], &["model", "fetch", NAME]);
    assert_eq!(offline.code, 2, "{}", offline.stdout);
    says(&offline.stderr, &["it may have a newer commit, which is not in the cache", "HF_HUB_OFFLINE"]);
    let got = machine.run(&["model", "fetch", NAME, "--json"]).json().remove(0);
    assert!(got["folder"].as_str().unwrap().ends_with(&"b".repeat(40)), "{got}");
    let second = machine.id(NAME);
    assert_eq!(digest(&second), digest(&machine.id(golden("pylate-attend").to_str().unwrap())));
    assert_ne!(first, second);
    assert_eq!(machine.id(&format!("{NAME}@{}", "a".repeat(40))), first);
    let text = machine.run(&["model", "fetch", "tiny"]).stderr;
    says(&text, &["tiny", "OWNER/NAME"]);
}

#[test]
fn an_index_names_the_model_of_the_hub_that_made_it() {
    let hub = Hub::of(&golden("pylate-default"));
    let machine = Machine::new(&hub.endpoint);
    let dir = documents();
    let dir: &str = dir.path().to_str().unwrap();
    let got = machine.run(&["index", dir, "--model", NAME]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let got = machine.run(&["search", "bees", dir]);
    assert_eq!(got.code, 2, "{}", got.stdout);
    says(&got.stderr, &["made by model owner/tiny@", "this is latewood-mini@", "use that model"]);
    // The same files are the same model, whatever they are called.
    let folder = golden("pylate-default");
    for model in [NAME, folder.to_str().unwrap()] {
        let got = machine.run(&["search", "bees", dir, "--model", model]);
        assert_eq!(got.code, 0, "{}", got.stderr);
    }
    assert!(Path::new(dir).join(".latewood").exists());
}
