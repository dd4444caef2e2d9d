//! Pipelines of any content, in TOML and JSON: read, written back, and run over a few candidates.

#![no_main]

#[path = "patch.rs"]
mod patch;

use std::sync::Arc;

use latewood::encoder::CrossEncoder;
use latewood::rerank::{Candidate, Models, Pipeline, Ranker, Scorers};
use libfuzzer_sys::fuzz_target;
use patch::Input;

const TOML: &str = r#"
budget_ms = 400
[retrieve]
mode = "keyword"
top_n = 50
[[stages]]
type = "late-interaction"
top_k = 40
top_n = 20
exit_margin = 0.5
[[stages]]
type = "metadata"
normalise = "z"
signals = [
    { type = "recency", half_life_days = 90.0, weight = 0.2, field = "on" },
    { type = "trust", field = "from", values = { wiki = 0.5, official = 1.0 }, weight = 2.0 },
    { type = "popularity", field = "stars", weight = 0.25 },
    { type = "length", ideal = 3.0, weight = -1 },
    { name = "words", type = "exact-match", weight = 0.1 },
]
[[stages]]
type = "keyword"
[[stages]]
type = "fusion"
method = "rrf"
of = ["retrieve", "late-interaction", "keyword"]
weights = [1, 0.5, 2]
k = 60.0
"#;
const LLM: &str = r#"{"stages": [
    {"type": "llm", "model": "m", "method": "listwise", "window": 4, "step": 2, "request": {"top_p": 1}},
    {"type": "cross-encoder", "model": "a/b", "top_k": 3}], "retrieve": {"mode": "semantic", "top_n": 5}}"#;

struct None;

impl Models for None {
    fn cross_encoder(&self, _: &str) -> Result<Arc<CrossEncoder>, String> {
        Err("there is none".into())
    }
}

impl Scorers for None {
    fn late_interaction(&self, _: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        Ok((0..candidates.len()).map(|at| (at * 7 % 5) as f32).collect())
    }

    fn keywords(&self, _: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String> {
        Ok((0..candidates.len()).map(|at| (at % 3) as f32).collect())
    }
}

fn candidates() -> Vec<Candidate> {
    let candidate = |(at, text): (usize, &str)| {
        let mut candidate = Candidate::new(at.to_string(), text, 9.0 - at as f32);
        candidate.metadata = serde_json::json!({ "stars": at, "from": "wiki", "on": "2026-03-01" })
            .as_object()
            .cloned()
            .unwrap_or_default();
        candidate.modified_ns = Some(i64::MAX - at as i64);
        candidate
    };
    ["the kiln is hot", "", "a kiln", "bees", "bees"].into_iter().enumerate().map(candidate).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let how = input.byte();
    let sound = if how & 2 == 0 { TOML } else { LLM };
    let mut text = if how & 1 == 0 { sound.as_bytes().to_vec() } else { input.take(usize::MAX).to_vec() };
    while !input.is_empty() {
        input.patch(&mut text);
    }
    let Ok(text) = std::str::from_utf8(&text) else { return };
    let read = [Pipeline::parse_toml(text), Pipeline::parse_json(text)];
    for pipeline in read.into_iter().flatten() {
        let written = serde_json::to_string(&pipeline).expect("a pipeline is JSON");
        assert_eq!(Pipeline::parse_json(&written).expect("what was written reads"), pipeline);
        let Ok(ranker) = Ranker::new(pipeline, &None) else { continue };
        let _ = ranker.estimate(usize::MAX);
        if let Ok(ranked) = ranker.rank("a kiln", candidates(), &None) {
            assert!(ranked.candidates.len() <= 5 && ranked.candidates.iter().all(|left| left.came_as < 5));
        }
    }
});
